"""Typed operations on rows, a module for each kind; ``registry`` names them all.

Pure functions of rows, parameters and context. Know nothing of versions, files or pages.
"""
