"""The bundled datasets, and the script that makes them: ``python -m samples.make``."""
