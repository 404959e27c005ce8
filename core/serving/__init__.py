"""An OpenAI-compatible server for what was trained: base and adapters as models, each run's template applied.

``served`` says what is served, ``holder`` keeps the model and its device, ``backends`` and ``vllm`` generate, ``questions``
turns messages into ids, ``app`` speaks HTTP, ``server`` runs it, ``registry`` starts and stops servers from elsewhere.
Knows nothing of pages.
"""
