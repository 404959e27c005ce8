"""Datasets: files become rows, rows are judged and cleaned step by step, and a version is what the steps made of them.

Start at ``importing`` (a file becomes a version), ``profile`` (what is wrong with its rows) and ``recipes`` (steps, undo).
``readers`` read files, ``checks`` and ``detect`` find faults, ``operations`` mend them. Knows nothing of templates and models.
"""
