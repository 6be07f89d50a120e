"""Vectors of behaviours and queries: a user's texts are encoded once ever per encoder key. e: the encoder's width."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from threading import Condition, RLock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from personaplug.core.config import fill
from personaplug.core.types import Behavior, History
from personaplug.encoders.base import Encoder, TextRole, Vectors
from personaplug.stores.base import Store, VectorRow

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

Half = NDArray[np.float16]

_CHUNK = 2_000  # texts between two writes to the store: what a kill can cost at most
_FEW = 8  # texts of a user: so many are looked up one by one
_LARGEST = 65504.0  # the largest float16


def behavior_text(behavior: Behavior, template: str) -> str:
    """What an encoder sees of a behaviour: the template over `input`, `output`, `rating` and the behaviour's fields.

    Raises:
        ConfigError: the template names a field that the behaviour lacks.
    """
    values = dict(behavior.fields)
    values |= {"input": behavior.input, "output": behavior.output}
    values["rating"] = "" if behavior.rating is None else f"{behavior.rating:g}"
    return fill(template, values, where=f"behaviour {behavior.id!r} of user {behavior.user!r}").strip()


def digest_of(text: str, role: TextRole) -> str:
    """Content hash (32 hex digits) of a text in a role."""
    data = f"{role}\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class VectorCache:
    """Vectors from memory, else from the store, else from the encoder; in this order, and always rounded to float16.

    A behaviour's vector is stored if the behaviour is by then. May be shared between threads.

    Args:
        encoder: what encodes.
        store: where vectors last; without one they live in memory only.
        memory_bytes: vectors of behaviours kept in memory; the ones used least recently are dropped.
        query_bytes: the same for queries.
    """

    def __init__(
        self, encoder: Encoder, store: Store | None = None, memory_bytes: int = 2**30, query_bytes: int = 2**24
    ) -> None:
        self.encoder = encoder
        self.store = store
        self._history = _Memory(memory_bytes)
        self._queries = _Memory(query_bytes)
        self._turns = _Turns()  # tokenizers are not safe to share between threads

    @property
    def width(self) -> int:
        """The encoder's width, e."""
        return self.encoder.width

    def of(self, history: History, *templates: str) -> Vectors:
        """Vectors [n, v·e] of the history's behaviours, in their order: those of v templates side by side.

        Raises:
            ConfigError: a template names a field that a behaviour lacks.
        """
        wanted = _Wanted(history, templates)
        found: dict[str, Half] = {}
        self._fetch(wanted, found.update)
        views = _stack([found[d] for d in wanted.order], self.width)
        return np.hstack(np.split(views, len(templates)))

    def warm(self, items: Iterable[History | Behavior], template: str, progress: bool = False) -> int:
        """Encode and store what is missing; returns how many texts were encoded.

        Written in chunks: after a kill the next run goes on where this one was.

        Args:
            items: histories or behaviours.
            template: what an encoder sees of a behaviour.
            progress: show a bar with texts a second.

        Raises:
            ConfigError: the template names a field that a behaviour lacks.
        """
        behaviors = [b for item in items for b in ((item,) if isinstance(item, Behavior) else item)]
        return self._fetch(_Wanted(behaviors, (template,)), lambda _: None, progress)

    def query(self, texts: Sequence[str], role: TextRole = "query") -> Vectors:
        """Vectors [b, e] of requests, or of other texts that are no behaviours, in their order; kept in memory only."""
        order = [digest_of(text, role) for text in texts]
        found = self._queries.get(order)
        missing = {d: text for d, text in zip(order, texts, strict=True) if d not in found}
        if missing:
            found |= self._encode(missing, role, hurry=True)
            self._queries.put(found)
        return _stack([found[d] for d in order], self.width)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, e] of texts that are nobody's behaviours: nothing is looked up and nothing kept."""
        with self._turns.take():
            return self.encoder.encode(texts, "history", lambda _: self._turns.give_way())

    def forget(self) -> None:
        """Keep none in memory: what the store holds is read again, what was erased from it is gone."""
        self._history.clear()
        self._queries.clear()

    def _fetch(self, wanted: _Wanted, take: Callable[[Mapping[str, Half]], None], progress: bool = False) -> int:
        """Hand all wanted vectors to `take`, piece by piece; returns how many texts were encoded."""
        missing = dict(wanted.texts)
        for piece in self._known(wanted, missing):
            take(piece)
            for digest in piece:
                missing.pop(digest, None)
        # Like lengths together, longest first: little padding, and a batch too large for memory shows at once.
        digests = sorted(missing, key=lambda d: (-len(missing[d]), d))
        with _bar(len(digests), self.encoder.key, progress) as advance:
            for start in range(0, len(digests), _CHUNK):
                texts = {d: missing[d] for d in digests[start : start + _CHUNK]}
                piece = self._encode(texts, "history", advance)
                self._keep(wanted, piece)
                take(piece)
        return len(digests)

    def _known(self, wanted: _Wanted, missing: Mapping[str, str]) -> Iterator[dict[str, Half]]:
        """What memory and the store hold of `missing`, which shrinks between the pieces."""
        yield self._history.get(wanted.texts)
        if self.store is None or not missing:
            return
        for user, digests in wanted.users.items():
            if unknown := digests & missing.keys():
                some = sorted(unknown) if len(unknown) <= _FEW else None  # for a few, not the whole history
                rows = self.store.vectors(user, self.encoder.key, some)
                piece = {d: _half(v) for d, v in rows.items() if d in digests}
                self._history.put(piece)
                yield piece
        if missing:  # texts that another user wrote too: each owner gets a copy, since any of them may be forgotten
            rows = self.store.find_vectors(self.encoder.key, list(missing))
            piece = {d: _half(v) for d, v in rows.items()}
            self._keep(wanted, piece)
            yield piece

    def _keep(self, wanted: _Wanted, piece: Mapping[str, Half]) -> None:
        if self.store is not None and piece:
            rows = [VectorRow(user, id_, d, v) for d, v in piece.items() for user, id_ in wanted.owners[d]]
            self.store.put_vectors(self.encoder.key, rows)
        self._history.put(piece)

    def _encode(
        self,
        texts: Mapping[str, str],
        role: TextRole,
        progress: Callable[[int], None] | None = None,
        *,
        hurry: bool = False,
    ) -> dict[str, Half]:
        def done(count: int) -> None:
            self._turns.give_way()
            if progress is not None:
                progress(count)

        with self._turns.take(hurry=hurry):
            vectors = self.encoder.encode(list(texts.values()), role, None if hurry else done)
        return dict(zip(texts, _half(vectors), strict=True))


class _Turns:
    """Whose turn it is with an encoder that serves one thread at a time; requests go before histories.

    A long history gives way between its batches: a request must not wait until all of it is encoded.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._taken = False
        self._hurried = 0  # how many are in a hurry and wait

    @contextmanager
    def take(self, *, hurry: bool = False) -> Iterator[None]:
        with self._changed:
            self._hurried += hurry
            self._changed.wait_for(lambda: not self._taken and (hurry or not self._hurried))
            self._hurried -= hurry
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()

    def give_way(self) -> None:
        """Let those go first who are in a hurry, then go on; for the one whose turn it is."""
        with self._changed:
            if self._hurried:
                self._taken = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._taken and not self._hurried)
                self._taken = True


class _Wanted:
    """Which texts are wanted, by digest, and which behaviours have them."""

    def __init__(self, behaviors: Iterable[Behavior], templates: Sequence[str]) -> None:
        self.order: list[str] = []
        self.texts: dict[str, str] = {}
        self.owners: dict[str, dict[tuple[str, str], None]] = {}  # an ordered set of (user, id)
        self.users: dict[str, set[str]] = {}
        for template, behavior in product(templates, behaviors):
            text = behavior_text(behavior, template)
            digest = digest_of(text, "history")
            self.order.append(digest)
            self.texts[digest] = text
            self.owners.setdefault(digest, {})[behavior.user, behavior.id] = None
            self.users.setdefault(behavior.user, set()).add(digest)


class _Memory:
    """Vectors by digest up to a number of bytes; the ones used least recently go first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[str, Half] = OrderedDict()
        self._bytes = 0
        self._lock = RLock()

    def get(self, digests: Iterable[str]) -> dict[str, Half]:
        """Those of the digests that are here."""
        with self._lock:
            found = {d: self._rows[d] for d in digests if d in self._rows}
            for digest in found:
                self._rows.move_to_end(digest)
            return found

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


def _half(vectors: NDArray[np.floating]) -> Half:
    """Rounded to float16 within its range: what the store keeps, so a fresh vector equals a stored one bit for bit."""
    return np.clip(vectors, -_LARGEST, _LARGEST).astype(np.float16)


def _stack(rows: Sequence[Half], width: int) -> Vectors:
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, width), np.float32)


@contextmanager
def _bar(total: int, what: str, show: bool) -> Iterator[Callable[[int], None] | None]:
    """A progress bar on stderr with texts a second and the time left; yields what advances it."""
    if not show or not total:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f} texts/s")

    columns = ("encoding {task.description}", BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what.split(":", 1)[0], total=total)
        yield lambda n: bar.advance(task, n)
