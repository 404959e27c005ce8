"""Tunewise without a user interface: usable from a page, a notebook or a shell."""

__version__ = "0.1.0"
