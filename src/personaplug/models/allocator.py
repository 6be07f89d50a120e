"""What a long-lived process holds of memory that it no longer uses."""

from __future__ import annotations

import ctypes
import os
import sys

_KERNELS = "128"  # enough for every batch size of a decode step: about six layers are of different shapes
_KEEPERS = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")  # PyTorch's own cache, and oneDNN's below it


def trim_heap() -> bool:
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


def limit_kernel_cache() -> None:
    """Have oneDNN keep the 128 newest of its compiled kernels in place of 1,024, where the environment names no number.

    It compiles one for each shape of a matrix, about 0.4 MB, and prompts are of any length: a process that reads them
    all day grows by hundreds of MB. Works until the process first multiplies.
    """
    for name in _KEEPERS:
        os.environ.setdefault(name, _KERNELS)
