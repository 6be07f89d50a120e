"""Vectors of behaviours and queries: a user's texts are encoded once ever per encoder key. e: the encoder's width."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from personaplug.core.config import fill
from personaplug.core.types import Behavior, History
from personaplug.encoders.base import Encoder, TextRole, Vectors
from personaplug.encoders.cache.lru import Half, LruCache
from personaplug.encoders.cache.priority_lock import PriorityLock
from personaplug.stores.base import Store, VectorRow

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
        memory_bytes: of vectors of behaviours in memory; the least recently used are dropped.
        query_bytes: the same for queries.
    """

    def __init__(
        self, encoder: Encoder, store: Store | None = None, memory_bytes: int = 2**30, query_bytes: int = 2**24
    ) -> None:
        self.encoder = encoder
        self.store = store
        self._history = LruCache(memory_bytes)
        self._queries = LruCache(query_bytes)
        self._lock = PriorityLock()  # tokenizers are not safe to share between threads

    @property
    def width(self) -> int:
        """The encoder's width, e."""
        return self.encoder.width

    def embed(self, history: History, *templates: str) -> Vectors:
        """Vectors [n, v·e] of the history's behaviours, in their order: those of v templates side by side.

        Raises:
            ConfigError: a template names a field that a behaviour lacks.
        """
        lookup = _Lookup(history, templates)
        vectors: dict[str, Half] = {}
        self._fetch(lookup, vectors.update)
        views = _stack([vectors[d] for d in lookup.order], self.width)
        return np.hstack(np.split(views, len(templates)))

    def precompute(
        self,
        items: Iterable[History | Behavior],
        template: str,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Encode and store what is missing; returns how many texts were encoded.

        Written in chunks: after a kill the next run goes on where this one was.

        Args:
            items: histories or behaviours.
            template: what an encoder sees of a behaviour.
            progress: called with the number of behaviours done since the last call, `len(items)` in all.

        Raises:
            ConfigError: the template names a field that a behaviour lacks.
        """
        behaviors = [b for item in items for b in ((item,) if isinstance(item, Behavior) else item)]
        return self._fetch(_Lookup(behaviors, (template,)), lambda _: None, progress)

    def query(self, texts: Sequence[str], role: TextRole = "query") -> Vectors:
        """Vectors [b, e] of requests, or of other texts that are no behaviours, in their order; in memory only."""
        order = [digest_of(text, role) for text in texts]
        vectors = self._queries.get(order)
        missing = {d: text for d, text in zip(order, texts, strict=True) if d not in vectors}
        if missing:
            vectors |= self._encode(missing, role, priority=True)
            self._queries.put(vectors)
        return _stack([vectors[d] for d in order], self.width)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, e] of texts that are nobody's behaviours: nothing is looked up and nothing stored."""
        with self._lock.take():
            return self.encoder.encode(texts, "history", lambda _: self._lock.yield_())

    def forget(self) -> None:
        """Drop all from memory: what the store holds is read again, what was erased from it is gone."""
        self._history.clear()
        self._queries.clear()

    def _fetch(
        self,
        lookup: _Lookup,
        take: Callable[[Mapping[str, Half]], None],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Hand all vectors of the lookup to `take`, piece by piece; returns how many texts were encoded."""
        missing = dict(lookup.texts)
        for piece in self._known(lookup, missing):
            take(piece)
            for digest in piece:
                missing.pop(digest, None)
        if progress is not None:
            progress(len(lookup.order) - len(missing))
        # Like lengths together, longest first: little padding, and a batch too large for memory shows at once.
        digests = sorted(missing, key=lambda d: (-len(missing[d]), d))
        for start in range(0, len(digests), _CHUNK):
            texts = {d: missing[d] for d in digests[start : start + _CHUNK]}
            piece = self._encode(texts, "history", progress)
            self._put(lookup, piece)
            take(piece)
        return len(digests)

    def _known(self, lookup: _Lookup, missing: Mapping[str, str]) -> Iterator[dict[str, Half]]:
        """What memory and the store hold of `missing`, which shrinks between the pieces."""
        yield self._history.get(lookup.texts)
        if self.store is None or not missing:
            return
        for user, digests in lookup.users.items():
            if unknown := digests & missing.keys():
                some = sorted(unknown) if len(unknown) <= _FEW else None  # for a few, not the whole history
                rows = self.store.vectors(user, self.encoder.key, some)
                piece = {d: _half(v) for d, v in rows.items() if d in digests}
                self._history.put(piece)
                yield piece
        if missing:  # texts that another user wrote too: each owner gets a copy, since any of them may be forgotten
            rows = self.store.find_vectors(self.encoder.key, list(missing))
            piece = {d: _half(v) for d, v in rows.items()}
            self._put(lookup, piece)
            yield piece

    def _put(self, lookup: _Lookup, piece: Mapping[str, Half]) -> None:
        if self.store is not None and piece:
            rows = [VectorRow(user, id_, d, v) for d, v in piece.items() for user, id_ in lookup.owners[d]]
            self.store.put_vectors(self.encoder.key, rows)
        self._history.put(piece)

    def _encode(
        self,
        texts: Mapping[str, str],
        role: TextRole,
        progress: Callable[[int], None] | None = None,
        *,
        priority: bool = False,
    ) -> dict[str, Half]:
        def done(count: int) -> None:
            self._lock.yield_()
            if progress is not None:
                progress(count)

        with self._lock.take(priority=priority):
            vectors = self.encoder.encode(list(texts.values()), role, None if priority else done)
        return dict(zip(texts, _half(vectors), strict=True))


class _Lookup:
    """The texts to look up, by digest, and the behaviours that have them."""

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


def _half(vectors: NDArray[np.floating]) -> Half:
    """Rounded to float16 within its range: what the store keeps, so a fresh vector equals a stored one bit for bit."""
    return np.clip(vectors, -_LARGEST, _LARGEST).astype(np.float16)


def _stack(rows: Sequence[Half], width: int) -> Vectors:
    return np.stack(rows).astype(np.float32) if rows else np.zeros((0, width), np.float32)
