"""Memory that is freed goes back to the system."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from personaplug.models.allocator import trim_heap


def resident() -> int:
    """Pages of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or sys.platform != "linux", reason="of glibc on Linux alone")
def test_holes_that_freed_memory_leaves_are_given_back() -> None:
    held = [bytearray(100_000) for _ in range(1_000)]  # small enough for the heap, whose top the last one pins
    for block in held:
        block[::4096] = b"x" * len(block[::4096])
    del held[:-1]
    before = resident()
    assert trim_heap()
    assert before - resident() > 10_000  # of about 24,400 pages
