"""Shapes of records, one module each: how one record becomes one row.

A shape is found by ``core.data.readers.detect`` and applied through ``converter``. Knows nothing of files.
"""
