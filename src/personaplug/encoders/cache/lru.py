"""Vectors in memory up to a number of bytes; the least recently used ones go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import RLock

import numpy as np
from numpy.typing import NDArray

Half = NDArray[np.float16]


class LruCache:
    """Vectors by digest; may be shared between threads.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[str, Half] = OrderedDict()
        self._bytes = 0
        self._lock = RLock()

    def get(self, digests: Iterable[str]) -> dict[str, Half]:
        """Those of the digests that are here."""
        with self._lock:
            rows = {d: self._rows[d] for d in digests if d in self._rows}
            for digest in rows:
                self._rows.move_to_end(digest)
            return rows

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._rows.clear()
            self._bytes = 0

    def put(self, rows: Mapping[str, Half]) -> None:
        """Add what is not here yet."""
        with self._lock:
            for digest, row in rows.items():
                if digest not in self._rows:
                    self._rows[digest] = row.copy()  # a view would keep its whole chunk alive
                    self._bytes += row.nbytes
            while self._bytes > self._limit and self._rows:
                self._bytes -= self._rows.popitem(last=False)[1].nbytes
