"""Long work in processes of its own: queued, started when a device is free, watched, stopped, resumed.

Start at ``queue`` (what pages and commands call), ``worker`` (the process of one job) and ``handlers`` (what a kind of job does).
``dispatcher`` says who is next, ``claims`` who holds a device. Knows nothing of how anything is shown.
"""
