"""Files of every shape that people bring, read into records, and records turned into rows.

Two layers that know nothing of each other: *containers* (``json_lines``, ``json_document``, ``delimited``, …)
turn bytes into records with their place in the file; *shapes* (``core.data.readers.shapes``) turn one record
into one row. ``detect`` chooses both. Nothing here writes, and nothing here knows of datasets or versions.
"""
