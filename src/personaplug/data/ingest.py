"""Bring a file of behaviours into a store: all of it is checked before any of it is added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from personaplug.core.errors import ConflictError, DataError
from personaplug.core.types import Behavior
from personaplug.data.jsonl import Reading, find_data, read_behaviors
from personaplug.data.opening import Source
from personaplug.stores.base import Store

BATCH = 2_000  # behaviours in a transaction: what a kill costs at most, and it is added again by the next run

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """A file without a bad line.

    Attributes:
        source: the file.
        users: whose behaviours it holds.
        behaviors: how many, an id given twice counted once.
        reading: how it was read.
    """

    source: Source
    users: frozenset[str]
    behaviors: int
    reading: Reading


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was in a file and how much of it the store did not hold yet."""

    users: int
    behaviors: int
    new: int


def ingest(
    path: str | Path, store: Store, progress: Progress | None = None, reading: Reading | None = None
) -> Ingested:
    """Check a whole file, then add its behaviours in batches; doing it again, or after a kill, doubles nothing.

    Args:
        path: a folder with behaviors.jsonl, a file that `read_behaviors` reads, a pipe, or `-` for standard input.
        store: where to.
        progress: called with the number of behaviours added, or stored already, since the last call.
        reading: how to read it.

    Raises:
        DataError: a line is bad; names it, and nothing was added.
        ConflictError: an id is stored already with other content; the batches before it stay.
    """
    checked = check(path, reading=reading)
    return Ingested(len(checked.users), checked.behaviors, add(checked, store, progress))


def check(path: str | Path, progress: Progress | None = None, reading: Reading | None = None) -> Checked:
    """Read a whole file, of which little stays in memory.

    Args:
        path: as in `ingest`.
        progress: called with the number of behaviours read since the last call.
        reading: how to read it.

    Raises:
        DataError: a line is bad; names the file, the line, the value and the way out.
    """
    source, reading = Source(find_data(Path(path))[0]), reading or Reading()
    users: set[str] = set()
    count = 0
    for batch in _batches(read_behaviors(source, reading)):
        users.update(b.user for b in batch)
        count += len(batch)
        if progress:
            progress(len(batch))
    return Checked(source, frozenset(users), count, reading)


def add(checked: Checked, store: Store, progress: Progress | None = None) -> int:
    """Add a checked file's behaviours, a transaction a batch; returns how many were new.

    Raises:
        ConflictError: an id is stored already with other content; the batches before it stay.
    """
    new = 0
    for batch in _batches(read_behaviors(checked.source, checked.reading)):
        try:
            new += store.add(batch)
        except (ConflictError, DataError) as error:
            raise type(error)(f"{checked.source.name}: {error}") from None
        if progress:
            progress(len(batch))
    return new


def _batches(behaviors: Iterator[Behavior]) -> Iterator[list[Behavior]]:
    while batch := list(islice(behaviors, BATCH)):
        yield batch
