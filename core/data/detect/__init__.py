"""Finding dirt in single texts, a module for each kind: a pattern that sieves, and a function that judges and mends.

Patterns are RE2 (Arrow runs them over whole columns). Knows nothing of rows or datasets.
"""
