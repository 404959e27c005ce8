"""The view pieces that pages share: shell, states, charts, tables, the row view, number formats.

The only Streamlit code beside the pages. Computes nothing that ``core`` should compute.
"""
