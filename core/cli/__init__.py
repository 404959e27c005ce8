"""The commands of ``python -m core``, one module an area; ``core.__main__`` puts them together.

Each module has ``register(app)``. Heavy imports stand inside the commands, so that ``--help`` is quick.
"""
