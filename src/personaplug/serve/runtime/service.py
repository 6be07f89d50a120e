"""What a server serves: methods on shared backbones over one store, and the threads in which they run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from personaplug.core.errors import UnknownUserError, did_you_mean
from personaplug.core.types import Attribution, Message, Profile, Prompt, Request
from personaplug.models.threads import helper_threads, limit_threads
from personaplug.pipeline.personalizer import Lookup, Personalizer
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.runtime.engine import NICENESS, Engine, RerankEngine
from personaplug.serve.settings import Settings
from personaplug.stores.base import Store

if TYPE_CHECKING:
    from personaplug.encoders.cache.embeddings import VectorCache

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

NOBODY = Lookup("unknown", None)
"""The lookup of a request that names no user, or a user whom the method would not see."""


@dataclass(frozen=True, slots=True)
class PersonalizedPrompt:
    """What the backbone is given for the conversations of one request.

    Attributes:
        prompts: one for each conversation.
        lookup: of the user: `cached` or `unknown`.
        profile_seconds: spent on the user's profile.
        personalize_seconds: spent on the prompts.
    """

    prompts: tuple[Prompt, ...]
    lookup: Lookup
    profile_seconds: float
    personalize_seconds: float = 0.0

    @property
    def profile(self) -> Profile:
        """Of the user; empty where nothing is stored."""
        return self.lookup.profile

    @property
    def known(self) -> bool:
        """Whether anything is stored of the user."""
        return self.lookup.status == "cached"


_Item = tuple[tuple[Request, ...], Lookup | None]
"""The conversations of one request, and its user's lookup where there was one already."""


@dataclass(slots=True)
class Served:
    """One method on one backbone.

    Attributes:
        id: `<backbone>:<method>`.
        personalizer: the method with the store.
        engine: runs its backbone.
        encoder: the id of its encoder, or "".
        created: UTC seconds.
        rerank: runs a method that chooses among several answers.
    """

    id: str
    personalizer: Personalizer
    engine: Engine
    encoder: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    rerank: RerankEngine | None = None

    @property
    def gives_logprobs(self) -> bool:
        """Whether it returns log-probabilities of its tokens."""
        return self.engine.gives_logprobs and self.rerank is None

    def request(self, user: str | None, messages: Sequence[Message]) -> Request:
        """A conversation, with the instruction the method was trained with unless it has a system message itself."""
        instruction = self.personalizer.task.instruction
        if instruction and not any(m.role == "system" for m in messages):
            messages = (Message("system", instruction), *messages)
        return Request(user, tuple(messages))

    def lookup_profile(self, user: str | None) -> Lookup:
        """Look a user up once, quickly: cached, stored or unknown."""
        method = self.personalizer.method
        if user is None or not method.personal:
            return NOBODY
        return self.personalizer.lookup(user, allow_stale=method.slow_prepare)

    def load_profile(self, lookup: Lookup) -> Lookup:
        """Prepare a user who is stored; takes as long as the method does."""
        try:
            return replace(lookup, status="cached", profile=self.personalizer.prepare(lookup))
        except UnknownUserError:  # erased meanwhile
            return NOBODY

    def build_prompts(self, batch: Sequence[_Item]) -> list[PersonalizedPrompt | Lookup]:
        """The prompts of several requests in one batch; a user who must be prepared first gets their lookup back."""
        start = time.perf_counter()
        lookups = [lookup or self.lookup_profile(requests[0].user) for requests, lookup in batch]
        seconds = time.perf_counter() - start
        pairs = [
            (request, lookup.profile)
            for (requests, _), lookup in zip(batch, lookups, strict=True)
            if lookup.status != "stored"
            for request in requests
        ]
        prompts = iter(self.personalizer.method.personalize_many([r for r, _ in pairs], [p for _, p in pairs]))
        return [
            lookup
            if lookup.status == "stored"
            else PersonalizedPrompt(tuple(next(prompts) for _ in requests), lookup, seconds)
            for (requests, _), lookup in zip(batch, lookups, strict=True)
        ]

    def explain(self, request: Request, profile: Profile, most: int) -> list[Attribution]:
        """The behaviours that carried the persona, heaviest first."""
        return self.personalizer.method.explain(request, profile)[:most] if profile.history.behaviors else []


class MicroBatcher(Generic[T, R]):
    """Gathers items that are asked for at the same time: those who come while a batch is worked on are the next one.

    It never waits for more items to come.

    Args:
        work: does a batch, off the event loop; gives for each item what it would give for the item alone.
        max_batch: items in a batch.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]], max_batch: int = 32) -> None:
        self._work = work
        self._max_batch = max_batch
        self._queue: list[tuple[T, asyncio.Future[R]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """What `work` gives for an item."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[: self._max_batch], self._queue[self._max_batch :]
            if not await self._try(batch) and len(batch) > 1:
                for one in batch:  # one item fails the batch: each is tried alone, so that the others succeed
                    await self._try([one])

    async def _try(self, batch: list[tuple[T, asyncio.Future[R]]]) -> bool:
        """Do a batch; returns whether it succeeded. The error of a batch of one goes to its caller."""
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - reported to the caller
            if len(batch) == 1 and not batch[0][1].done():
                batch[0][1].set_exception(error)
            return False
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():  # a caller that has gone cancelled it
                future.set_result(result)
        return True


class Service:
    """All that is served, and the threads in which blocking work runs.

    Args:
        store: the users.
        models: by id.
        encoders: vectors by the id of their encoder.
        settings: limits.

    Attributes:
        erasures: how often something of a user was erased: a prompt that was made before may still show it.
    """

    def __init__(
        self,
        store: Store,
        models: Mapping[str, Served],
        encoders: Mapping[str, VectorCache],
        settings: Settings,
    ) -> None:
        self.store = store
        self.models = dict(models)
        self.encoders = dict(encoders)
        self.settings = settings
        self.engines = list({id(m.engine): m.engine for m in models.values()}.values())
        self.closing = False
        self.erasures = 0
        self._pool = _threads(settings.threads, "work")
        # Pools of their own, so that slow work delays no request: neither store queries that a client may wait for, nor
        # users who are prepared in the background, nor the explanation of an answer that is still being generated.
        self._personalizing = _threads(len(self.models), "personalize")
        self._background = _threads(1, "background")
        self._explaining = _threads(1, "explain", NICENESS)
        self._batchers = {id_: MicroBatcher(partial(self._build_prompts, m)) for id_, m in self.models.items()}

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do blocking work in a thread."""
        return await _in(self._pool, work, *args, **kwargs)

    async def personalize(
        self, model: Served, requests: Sequence[Request], strength: float = 1.0
    ) -> PersonalizedPrompt:
        """The prompts of one user's conversations; concurrent requests share the encoder's batch.

        At a strength other than 1, with the prompts for nobody, from which the strength is counted.
        """
        start = time.perf_counter()
        user, conversations, batcher = requests[0].user, tuple(requests), self._batchers[model.id]
        # 1) One lookup; a cached or unknown user is answered from here.
        built, prepared = await batcher((conversations, None)), 0.0
        if isinstance(built, Lookup):
            # 2) A stored user is prepared in a thread, outside the batch: nobody else waits for that.
            lookup = await self.in_thread(model.load_profile, built)
            prepared = time.perf_counter() - start
            built = await batcher((conversations, lookup))
        assert isinstance(built, PersonalizedPrompt)
        if model.personalizer.method.slow_prepare and built.known and user is not None:
            self._refresh(user, [model.personalizer])  # another server may have added to the user
        if strength != 1.0 and model.personalizer.method.personal:
            # 3) The same conversations as nobody's.
            plain = await batcher((tuple(replace(request, user=None) for request in conversations), NOBODY))
            assert isinstance(plain, PersonalizedPrompt)
            pairs = zip(built.prompts, plain.prompts, strict=True)
            built = replace(built, prompts=tuple(replace(own, unconditional=other) for own, other in pairs))
        profile = prepared + built.profile_seconds
        return replace(built, profile_seconds=profile, personalize_seconds=time.perf_counter() - start - profile)

    async def _build_prompts(self, model: Served, batch: Sequence[_Item]) -> Sequence[PersonalizedPrompt | Lookup]:
        return await _in(self._personalizing, model.build_prompts, batch)

    async def explain(self, model: Served, request: Request, profile: Profile, most: int) -> list[Attribution]:
        """The behaviours that carried an answer's persona, at low priority: the answer is still being generated."""
        return await _in(self._explaining, model.explain, request, profile, most)

    def model(self, name: str) -> Served:
        """A model by its id.

        Raises:
            ApiError: 404, there is none.
        """
        if name not in self.models:
            end = did_you_mean(name, self.models)
            raise ApiError(404, f"model {name!r} is not served; {end}", param="model", code="model_not_found")
        return self.models[name]

    def on_history_changed(self, user: str) -> None:
        """After a user's history has grown: models that have answered them lately prepare them again, in background."""
        self._refresh(user, self._users_of(user))

    def _users_of(self, user: str) -> list[Personalizer]:
        """The personalizers that have the user in memory, or take long to prepare them."""
        personalizers = [m.personalizer for m in self.models.values()]
        return [p for p in personalizers if p.method.slow_prepare or p.is_cached(user)]

    def _refresh(self, user: str, personalizers: Sequence[Personalizer]) -> None:
        for personalizer in personalizers if not self.closing else []:
            self._background.submit(_prepare, personalizer, user)

    async def on_erased(self, user: str) -> int:
        """After something of a user was erased: no prompt may show it any longer, and nothing in memory holds it.

        Returns:
            The prompt tokens whose states were in memory: all are dropped, since whose they were is not known.
        """
        self.erasures += 1
        personalizers = self._users_of(user)
        for model in self.models.values():
            model.personalizer.evict(user)
        dropped = await self.in_thread(self._drop_caches)
        self._refresh(user, personalizers)
        return dropped

    def _drop_caches(self) -> int:
        for vectors in self.encoders.values():
            vectors.forget()
        return sum(engine.forget_prompts() for engine in self.engines)

    def close(self) -> None:
        """Finish the requests that were taken, then release everything."""
        self.closing = True
        for model in self.models.values():
            if model.rerank is not None:
                model.rerank.close()
        for engine in self.engines:
            engine.close()
        self._background.shutdown(cancel_futures=True)
        for pool in (self._explaining, self._personalizing, self._pool):
            pool.shutdown()
        self.store.close()


async def _in(pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: work(*args, **kwargs))


def _threads(count: int, name: str, niceness: int = 0) -> ThreadPoolExecutor:
    """Threads beside the model's, each with few processors: several would wait for each other otherwise."""
    return ThreadPoolExecutor(max(1, count), f"personaplug-{name}", limit_threads, (helper_threads(), niceness))


def _prepare(personalizer: Personalizer, user: str) -> None:
    try:
        personalizer.profile(user)
    except UnknownUserError:  # erased meanwhile
        return
