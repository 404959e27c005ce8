"""Models: where they come from, how they are loaded, and how they answer.

``default``, ``catalogue``, ``hub``, ``download``, ``conversion``, ``gguf``, ``weights``: from a name to a folder on this machine.
``tokenizer``, ``text``, ``memory``, ``cache``: need no torch. ``load``, ``cpu4bit``, ``adapters``, ``sampling``, ``batch``,
``scheduler``, ``score``, ``engine``: torch modules. Knows nothing of templates, metrics, training runs, jobs or pages.
"""
