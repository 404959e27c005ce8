"""Tunewise without a user interface: usable from a page, a notebook or a shell."""

import logging
import os

__version__ = "0.1.0"

# torch's OpenMP threads spin while they wait, which is disastrous as soon as two processes share the cores (a training
# and the dashboard, say): measured on 2 cores under load, the same answers took 52 to 61 s spinning and 9 to 10 s sleeping.
# It is read when torch is loaded, so it is set here, before anything of ours can import it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# bitsandbytes tells at each start on a CPU that it found no kernel on the hub for one product of 4-bit weights. It does
# without; and nothing is fetched from there while a training runs. What else it says is heard.
_UNWANTED = "Failed to load CPU gemm_4bit_forward"
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(lambda record: not str(record.msg).startswith(_UNWANTED))
