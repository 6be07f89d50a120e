"""What a long-lived process holds of memory that it no longer uses."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> bool:
    """Return freed memory to the system; whether the C library could (glibc on Linux).

    Key-value states grow by a column a step, so that no two of them are of one size: glibc keeps the holes that they
    leave, and a server's resident memory creeps up for as long as requests differ.
    """
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except AttributeError:  # another C library, as on Alpine
        return False
