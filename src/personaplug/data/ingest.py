"""Bring a file of behaviours into a store: all of it is checked before any of it is added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from personaplug.core.errors import ConflictError
from personaplug.core.types import Behavior
from personaplug.data.jsonl import MAX_LINE_BYTES, find_data, read_behaviors
from personaplug.stores.base import Store

BATCH = 2_000  # behaviours in a transaction: what a kill costs at most, and it is added again by the next run

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """A file without a bad line.

    Attributes:
        file: the .jsonl file.
        users: whose behaviours it holds.
        behaviors: how many, an id given twice counted once.
        max_line_bytes: the limit that its lines keep.
    """

    file: Path
    users: frozenset[str]
    behaviors: int
    max_line_bytes: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was in a file and how much of it the store did not hold yet."""

    users: int
    behaviors: int
    new: int


def ingest(path: str | Path, store: Store, progress: Progress | None = None) -> Ingested:
    """Check a whole file, then add its behaviours in batches; doing it again, or after a kill, doubles nothing.

    Args:
        path: a folder with behaviors.jsonl, or a .jsonl file.
        store: where to.
        progress: called with the number of behaviours added or found there since the last call.

    Raises:
        DataError: a line is bad; names it, and nothing was added.
        ConflictError: an id is stored already with other content; the batches before it stay.
    """
    checked = check(path)
    return Ingested(len(checked.users), checked.behaviors, add(checked, store, progress))


def check(path: str | Path, progress: Progress | None = None, max_line_bytes: int = MAX_LINE_BYTES) -> Checked:
    """Read a whole file, keeping little of it.

    Args:
        path: a folder with behaviors.jsonl, or a .jsonl file.
        progress: called with the number of behaviours read since the last call.
        max_line_bytes: a longer line is an error.

    Raises:
        DataError: a line is bad; names the file, the line, the value and the way out.
    """
    file, _ = find_data(Path(path))
    users: set[str] = set()
    count = 0
    for batch in _batches(read_behaviors(file, max_line_bytes)):
        users.update(b.user for b in batch)
        count += len(batch)
        if progress:
            progress(len(batch))
    return Checked(file, frozenset(users), count, max_line_bytes)


def add(checked: Checked, store: Store, progress: Progress | None = None) -> int:
    """Add a checked file's behaviours, a transaction a batch; returns how many were new.

    Raises:
        ConflictError: an id is stored already with other content; the batches before it stay.
    """
    new = 0
    for batch in _batches(read_behaviors(checked.file, checked.max_line_bytes)):
        try:
            new += store.add(batch)
        except ConflictError as error:
            raise ConflictError(f"{checked.file}: {error}") from None
        if progress:
            progress(len(batch))
    return new


def _batches(behaviors: Iterator[Behavior]) -> Iterator[list[Behavior]]:
    while batch := list(islice(behaviors, BATCH)):
        yield batch
