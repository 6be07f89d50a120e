"""Rate limits by token buckets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

_MAX_BUCKETS = 100_000  # the least recently used are dropped beyond that


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class RateLimiter:
    """Token buckets, one for each name: it holds `burst` seconds' worth, fills at `rate`, and a request takes 1.

    Args:
        burst: seconds.
        clock: seconds, for tests.
    """

    def __init__(self, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._clock = clock
        self._buckets: LRUCache[str, _Bucket] = LRUCache(_MAX_BUCKETS)

    def take(self, name: str, rate: float) -> float:
        """Take 1 from a bucket; returns 0, or the seconds after which there will be enough.

        Args:
            name: whose bucket.
            rate: how fast it fills, in requests a second; 0 is no limit.
        """
        if rate <= 0:
            return 0.0
        now, most = self._clock(), max(rate * self._burst, 1.0)
        bucket = self._buckets.get(name) or _Bucket(most, now)
        bucket.left = min(most, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[name] = bucket
        if bucket.left < 1:
            return (1 - bucket.left) / rate
        bucket.left -= 1
        return 0.0
