"""The public face: a method, a backbone and a store become answers as each user."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from cachetools import LRUCache

from personaplug.core.types import Attribution, Behavior, Completion, History, Profile, Prompt, Request, Sampling
from personaplug.pipeline.build import build_store, load
from personaplug.stores import store_section
from personaplug.stores.base import ErasureReceipt, Store
from personaplug.tasks.base import TaskInfo

if TYPE_CHECKING:
    from personaplug.backbones.base import Backbone
    from personaplug.methods.base import Method


@dataclass(frozen=True, slots=True)
class Lookup:
    """What one look at the store and at memory says of a user; `Personalizer.prepare` takes it from there.

    Attributes:
        status: `cached`: `profile` is the prepared one; `stored`: it has to be prepared; `unknown`: nothing is stored.
        user: whose.
        profile: empty unless cached.
        version: what a profile that is made from the store is of.
    """

    status: Literal["cached", "stored", "unknown"]
    user: str | None
    profile: Profile = Profile(History(""))
    version: _Version | None = None


class Personalizer:
    """Answers as each user with a frozen model.

    Args:
        method: what the model sees of a user, built for `backbone`.
        store: where histories and prepared states are stored.
        task: how requests are put into words and decoded; by default as they are.
        memory_bytes: of prepared users in memory; the ones asked for least recently are dropped.

    Example:
        >>> me = Personalizer.from_pretrained("runs/demo/plug", store="users.db")  # doctest: +SKIP
        >>> me.observe(Behavior("ada", "1", "How are you?", "grand!! and you?"))  # doctest: +SKIP
        >>> me.answer("ada", "What are you up to?")  # doctest: +SKIP
    """

    def __init__(self, method: Method, store: Store, task: TaskInfo | None = None, memory_bytes: int = 2**28) -> None:
        self.method = method
        self.backbone: Backbone = method.backbone
        self.store = store
        self.task = task or method.task or TaskInfo("chat", "text")
        self._cache: LRUCache[str, _Entry] = LRUCache(memory_bytes, getsizeof=lambda entry: entry.size)
        self.hits = 0
        """Users who were prepared in memory, and those who were not."""
        self.misses = 0
        self._lock = Lock()

    @classmethod
    def from_pretrained(cls, artifact: str | Path, *, store: str | Path | Store, **parts: Any) -> Personalizer:
        """Load a trained method with the backbone and encoder that it was trained against.

        Args:
            artifact: a folder written by `personaplug train`, the name of a model that a plug is shipped for
                (`smollm2-135m`), or a hub repository.
            store: a store, or the path or address of one; made if it is not there.
            parts: `backbone` or `encoder`, if they are loaded already.

        Raises:
            ModelError: no artifact, or a model is missing.
            MismatchError: a given part is not the one that it was trained against.
        """
        opened = store if isinstance(store, Store) else build_store(store_section(store))
        loaded = load(artifact, opened, **parts)
        return cls(loaded.method, opened, loaded.info)

    # -- what users do --------------------------------------------------------------------------------------------

    def observe(self, *behaviors: Behavior) -> int:
        """Add behaviours, durable when this returns and in effect for the next request; returns how many were new.

        Raises:
            ConflictError: an id is stored already with other content; nothing is added.
        """
        return self.store.add(behaviors)

    def forget(self, user: str) -> ErasureReceipt:
        """Erase a user: no byte of their text is left in the store's files, nor what it was made into in memory.

        Raises:
            UnknownUserError: the store holds no such user.
        """
        self.evict(user)
        receipt = self.store.forget(user)
        self.backbone.forget_prompts()
        if self.method.vectors is not None:
            self.method.vectors.forget()
        return receipt

    def is_cached(self, user: str) -> bool:
        """Whether a user is prepared in memory, maybe from an earlier history."""
        with self._lock:
            return user in self._cache

    def is_prepared(self, user: str) -> bool:
        """Whether a user is prepared from what is stored of them now, in memory or in the store; False if unknown."""
        version = self._version(user)
        with self._lock:
            entry = self._cache.get(user)
        if version is None or (entry is not None and entry.version == version):
            return version is not None
        state = self.store.state(user, self.method.key)
        return state is not None and state[0] == version[0]

    def evict(self, user: str) -> None:
        """Drop a user from memory."""
        with self._lock:
            self._cache.pop(user, None)

    # -- answers --------------------------------------------------------------------------------------------------

    def answer(self, user: str | None, text: str | Request, sampling: Sampling | None = None) -> str:
        """The answer to `text` as `user`; None is the unknown user.

        Raises:
            UnknownUserError: the store holds no such user.
        """
        return self.answer_many([self._request(user, text)], sampling)[0].text

    def answer_many(self, requests: Sequence[Request], sampling: Sampling | None = None) -> list[Completion]:
        """Answers to requests of any users in one batch: each as if it came alone."""
        profiles, sampling = self._profiles(requests), sampling or self.task.sampling
        prompts = self.method.personalize_many(requests, profiles)
        prompts = self.method.with_unconditional(requests, prompts, sampling)
        return self.method.answer_many(requests, profiles, prompts, sampling)

    def stream(self, user: str | None, text: str | Request, sampling: Sampling | None = None) -> Iterator[str]:
        """Pieces of the answer as they come."""
        request = self._request(user, text)
        profile, sampling = self.profile(request.user), sampling or self.task.sampling
        prompts = [self.method.personalize(request, profile)]
        [prompt] = self.method.with_unconditional([request], prompts, sampling)
        return self.method.stream(request, profile, prompt, sampling)

    def explain(self, user: str, text: str | Request) -> list[Attribution]:
        """The behaviours that carried the persona for this request with their shares, heaviest first."""
        return self.method.explain(self._request(user, text), self.profile(user))

    def prompts(self, requests: Sequence[Request]) -> list[Prompt]:
        """What the backbone is given for each request."""
        return self.method.personalize_many(requests, self._profiles(requests))

    def _profiles(self, requests: Sequence[Request]) -> list[Profile]:
        profiles = {user: self.profile(user) for user in dict.fromkeys(r.user for r in requests)}
        return [profiles[r.user] for r in requests]

    def _request(self, user: str | None, text: str | Request) -> Request:
        return text if isinstance(text, Request) else self.task.request(user, text)

    # -- prepared states ------------------------------------------------------------------------------------------

    def profile(self, user: str | None, *, allow_stale: bool = False) -> Profile:
        """The user's history with the state prepared from it; prepared and stored now if it is missing or outdated.

        Args:
            user: whose; None is the unknown user.
            allow_stale: take what is in memory, unless something was erased since; for methods that are slow to
                prepare.

        Raises:
            UnknownUserError: the store holds no such user.
        """
        return Profile(History("")) if user is None else self.prepare(self.lookup(user, allow_stale=allow_stale))

    def lookup(self, user: str, *, allow_stale: bool = False) -> Lookup:
        """Look once, quickly: at what version the store has the user, and whether memory holds that one."""
        version = self._version(user)
        if version is None:
            return Lookup("unknown", user)
        with self._lock:
            entry = self._cache.get(user)
            same = entry is not None and (entry.version[1:] == version[1:] if allow_stale else entry.version == version)
            self.hits += same
        if entry is not None and same:
            return Lookup("cached", user, entry.profile, version)
        return Lookup("stored", user, version=version)

    def prepare(self, lookup: Lookup) -> Profile:
        """The profile of a user who was looked up: the cached one, or prepared now, stored and cached.

        Raises:
            UnknownUserError: the store holds no such user.
        """
        if lookup.status == "cached" or lookup.user is None:
            return lookup.profile
        history = self.store.history(lookup.user)  # an unknown user is an error here, which says the nearest name
        with self._lock:
            before = self._cache.get(lookup.user)
            self.misses += 1
        # Read before the history: where that has changed in between, the next lookup sees another version.
        entry = self._prepared(lookup.version or (history.version, -1, self.method.key), history, before)
        if entry.size <= self._cache.maxsize:
            with self._lock:
                self._cache[lookup.user] = entry
        return entry.profile

    def _version(self, user: str) -> _Version | None:
        """What a prepared user is of: another process may have changed the user, or erased somebody; None: unknown."""
        stamp = self.store.version_stamp(user)
        return None if stamp is None else (*stamp, self.method.key)

    def _prepared(self, version: _Version, history: History, before: _Entry | None) -> _Entry:
        key = self.method.key
        # 1) The same history with newer behaviours: the state is extended, where the method can.
        if before is not None and before.version[-1] == key and history.extends(before.profile.history):
            added = dataclasses.replace(history, behaviors=history.behaviors[len(before.profile.history) :])
            state = self.method.extend(before.profile, added) if added.behaviors else before.profile.state
            if state is not None:
                # Written now and then, so that one more behaviour does not cost writing all of them.
                written = before.written
                if len(history) > _GROWTH * written:
                    self.store.put_state(history.user, key, history.version, state)
                    written = len(history)
                return _Entry(version, Profile(history, state), written)
        # 2) The state that the store holds of this history.
        stored = self.store.state(history.user, key)
        if stored and stored[0] == history.version:
            return _Entry(version, Profile(history, stored[1]), len(history))
        # 3) Prepared from the whole history.
        state = self.method.prepare(history)
        if state is not None:
            self.store.put_state(history.user, key, history.version, state)
        return _Entry(version, Profile(history, state), len(history))

    def refresh(self, users: Sequence[str] | None = None, progress: Callable[[int], None] | None = None) -> int:
        """Prepare users ahead of their requests; returns how many there were.

        Args:
            users: whom; by default everybody.
            progress: called with 1 after each user.

        Raises:
            UnknownUserError: the store holds none of that name.
        """
        names = [u.user for u in self.store.users()] if users is None else list(users)
        for name in names:
            self.profile(name)
            if progress:
                progress(1)
        return len(names)

    def close(self) -> None:
        """Release the store."""
        self.store.close()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A prepared user in memory, and what it was prepared from."""

    version: _Version
    profile: Profile
    written: int  # behaviours that the state in the store is of

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        texts = sum(len(b.input) + len(b.output) + _BEHAVIOR for b in self.profile.history)
        return texts + sum(array.nbytes for array in (self.profile.state or {}).values())


_Version = tuple[int, int, str]
_BEHAVIOR = 500  # bytes of a behaviour beside its texts
_GROWTH = 1.25  # of a history until its state is written again
