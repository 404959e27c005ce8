"""Plotly figures from tidy frames: one module a family. They build and return, never show.

A figure carries no background and no font colour, so that the page's theme, light or dark,
shows through. Knows nothing of Streamlit, the store or models.
"""
