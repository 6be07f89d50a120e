"""A lock for what serves one thread at a time, where urgent callers go before the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class PriorityLock:
    """A lock whose holder can yield to urgent callers: a request need not wait until a long history is encoded."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = False
        self._urgent = 0  # how many urgent callers wait

    @contextmanager
    def take(self, *, priority: bool = False) -> Iterator[None]:
        """Hold the lock; callers with priority are served first."""
        with self._changed:
            self._urgent += priority
            self._changed.wait_for(lambda: not self._taken and (priority or not self._urgent))
            self._urgent -= priority
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()

    def yield_(self) -> None:
        """Let the urgent callers go first, then go on; for the holder without priority."""
        with self._changed:
            if self._urgent:
                self._taken = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._taken and not self._urgent)
                self._taken = True
