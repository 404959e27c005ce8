"""Fine-tuning: from a spec to an adapter or whole weights.

Start at ``spec`` (what is wanted), ``estimate`` (what it will cost) and ``runner`` (carries it out). ``data`` makes examples,
``trainer`` trains, ``callbacks`` measure and keep, ``artefacts`` and ``export`` write the result. Knows nothing of queues.
"""
