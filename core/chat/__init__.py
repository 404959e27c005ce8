"""A chat, without a page: conversations and their branches, questions within the context window, answers as they come.

Knows nothing of how models are loaded; engines are passed in.
"""
