"""What a profile counts, a module for each kind of check. Each returns findings over a table of rows.

Knows nothing of versions, caches or pages.
"""
