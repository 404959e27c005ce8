"""Templates and what they make of rows: prompts, answers, token ids.

Start at ``render`` (a row's prompt and answer), ``examples`` (ids and labels) and ``templates`` (stored and built-in ones).
Texts of templates run in ``sandbox``, models' own chat templates in ``bounded``; ``plan`` renders whole columns. Knows nothing of
models' weights.
"""
