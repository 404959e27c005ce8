"""What this machine can do: hardware, libraries with what each would add, disk, the default model, a tiny generation.

``report`` holds the records, ``hardware`` and ``libraries`` look, ``examination`` puts it together, ``trial`` lets a model
speak. Knows nothing of how findings are shown.
"""
