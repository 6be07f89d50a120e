"""How far a long step is, in lines: for logs and pipes, where nobody sees a bar."""

from __future__ import annotations

import time
from collections.abc import Callable


class ProgressLines:
    """Writes a line now and then: `training: step 40/110, loss 3.910, 2 min left`.

    Args:
        write: gets each line.
        what: begins every line.
        total: of the step; 0 is unknown.
        seconds: between two lines, at least.
        clock: seconds that only rise.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        what: str,
        total: int,
        seconds: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.write, self.what, self.total, self.seconds, self.clock = write, what, total, seconds, clock
        self.begun = self.last = clock()
        self.first: int | None = None
        self.written = False

    def reached(self, done: int, note: str = "") -> None:
        """Say how far it is, if the last line is long enough ago, or this is the end of a step that had one.

        Args:
            done: of the total, what an earlier run did included.
            note: how it goes, for example the loss.
        """
        now = self.clock()
        if self.first is None:  # a resumed step: what is left is judged by what this run does
            self.first, self.begun = done, now
        if now - self.last < self.seconds and not (self.written and done == self.total):
            return
        self.last, self.written = now, True
        parts = [f"{done:,}/{self.total:,}" if self.total else f"{done:,}"]
        if note:
            parts.append(note)
        if done > self.first and self.total > done:
            parts.append(f"{_minutes((now - self.begun) * (self.total - done) / (done - self.first))} left")
        self.write(f"{self.what} {', '.join(parts)}")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
