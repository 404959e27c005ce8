"""Database and artefact files. Nothing else in Tunewise writes to the workspace's records.

Modules: ``files`` (paths, atomic writes), ``tables`` (SQLModel tables), ``database`` (sessions),
``schema`` (columns of rows, ledger and quarantine), and one module a kind of record.
Knows nothing of what the records mean.
"""
