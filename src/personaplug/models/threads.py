"""How a thread shares the processors with the others of its process."""

from __future__ import annotations

import os
import sys
from threading import get_native_id

import torch


def limit_threads(count: int, niceness: int = 0) -> None:
    """Have the calling thread take at most `count` processors, whatever other threads take, and stand back for them.

    Args:
        count: threads that torch starts for it, itself included.
        niceness: how far it stands back where processors are short (on Linux; 0 to 19).
    """
    torch.set_num_threads(count)  # of this thread alone, once a thread has called it: OpenMP's own way
    if niceness and sys.platform == "linux":  # elsewhere priorities are not a thread's own
        thread = get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + niceness))


def helper_threads() -> int:
    """How many a thread should take that stands beside a model's: those of several that compute wait for each other."""
    return max(1, torch.get_num_threads() // 4)
