"""Runs one request from its user's profile to its last token, and measures each stage."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from personaplug.backbones.local.scheduler import Event, Sink
from personaplug.core.types import Attribution, Completion, Message, Prompt, Sampling, TextDelta, TokenLogprob
from personaplug.serve.openai.errors import ApiError
from personaplug.serve.runtime.engine import PendingAnswer
from personaplug.serve.runtime.service import PersonalizedPrompt, Served, Service

DEFAULT_BEHAVIORS = 5  # named in a response's metadata


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """What a client asks for.

    Attributes:
        user: the name as the client knows it, or None.
        stored_user: the same user's name in the store.
        conversations: one prompt each.
        sampling: how to decode.
        n: answers to each conversation.
        top_logprobs: return log-probabilities with so many alternatives; None: return none.
        stream: the answers are read as they grow.
        behaviors: how many that carried the persona are named in the response.
    """

    user: str | None
    stored_user: str | None
    conversations: tuple[tuple[Message, ...], ...]
    sampling: Sampling
    n: int = 1
    top_logprobs: int | None = None
    stream: bool = True
    behaviors: int = DEFAULT_BEHAVIORS


class CompletionRun:
    """The answers to one request under way; `cancel` stops those that are not finished.

    Its phases:

        1) place    the request takes its place in the model's queue: where there is no room, nothing is computed
        2) persona  one lookup of the user, then the prompts, while others are answered
        3) prompts  handed to the queued answers
        4) explain  which behaviours carried the persona, while the model answers
        5) events   text deltas, then the completion, of each answer; or all of them at once (`results`)
        6) metadata the response's `personaplug` object

    Attributes:
        stages: seconds by stage. `profile` and `personalize`: making the prompts, while the request stands in the
            queue. `overhead`: what came before the queue, and how long the request's turn was put off because its
            prompt was not made yet. `queue`: until its turn came, `generate`: from then to the last token, `reply`:
            what followed. `first_token` counts from the queue's entry.
    """

    def __init__(self, service: Service, model: Served, params: GenerationParams, arrived: float) -> None:
        self.model = model
        self.params = params
        self.stages: dict[str, float] = {}
        self.count = params.n * len(params.conversations)
        self._requests = [model.request(params.stored_user, messages) for messages in params.conversations]
        self._service = service
        self._arrived = arrived
        self._deadline = arrived + service.settings.request_seconds
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._answers: list[PendingAnswer] = []
        self._personalized: PersonalizedPrompt | None = None
        self._explanation: asyncio.Future[list[Attribution]] | None = None
        self._enqueued = arrived
        self._first: float | None = None
        self._ended = arrived

    @property
    def personalized(self) -> PersonalizedPrompt:
        """The prompts and the profile that they were made from."""
        assert self._personalized is not None, "begin first"
        return self._personalized

    async def begin(self) -> None:
        """Enter the model's queue and make the prompts meanwhile.

        Raises:
            PersonaplugError: it cannot be taken.
        """
        try:
            if self.model.rerank is None:
                await self._begin()
            else:
                await self._begin_reranked()
            self._explain()
        except BaseException:
            self.cancel()
            raise

    async def _begin(self) -> None:
        # 1) A place in the queue for each answer.
        self._note_enqueued()
        futures: list[Future[Prompt]] = [Future() for _ in range(self.count)]
        for index, future in enumerate(futures):
            sink, top = self._sink(index), self.params.top_logprobs
            self._answers.append(self.model.engine.submit(future, self._sampling(index), sink, top))
        # 2) The persona, while others are answered.
        await self._personalize()
        # 3) The prompts, for whoever still waits for one.
        for index, future in enumerate(futures):
            if future.set_running_or_notify_cancel():
                future.set_result(self.personalized.prompts[index // self.params.n])

    async def _begin_reranked(self) -> None:
        """A re-ranked answer needs its user before it can be asked for."""
        assert self.model.rerank is not None
        await self._personalize()
        self._note_enqueued()
        for index in range(self.count):
            at = index // self.params.n
            request, prompt = self._requests[at], self.personalized.prompts[at]
            sampling, sink = self._sampling(index), self._sink(index)
            answer = self.model.rerank.submit(request, self.personalized.profile, prompt, sampling, sink)
            self._answers.append(answer)

    async def _personalize(self) -> None:
        erasures, strength = None, self.params.sampling.strength
        while erasures != self._service.erasures:  # rebuild if anything was erased meanwhile
            erasures = self._service.erasures
            self._personalized = await self._service.personalize(self.model, self._requests, strength)
        self.stages["profile"] = self.personalized.profile_seconds
        self.stages["personalize"] = self.personalized.personalize_seconds

    def _explain(self) -> None:
        # 4) While the model answers, so that it delays nobody.
        if self.params.behaviors and self.personalized.known:
            profile, most = self.personalized.profile, self.params.behaviors
            explain = self._service.explain(self.model, self._requests[0], profile, most)
            self._explanation = asyncio.ensure_future(explain)

    def _note_enqueued(self) -> None:
        self._enqueued = time.perf_counter()
        self.stages["overhead"] = self._enqueued - self._arrived

    def _sampling(self, index: int) -> Sampling:
        """Each of `n` answers has a seed of its own."""
        sampling = self.params.sampling
        return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + index % self.params.n)

    def _sink(self, index: int) -> Sink:
        """Hands an answer's events from the engine's thread to the event loop."""
        loop, events = asyncio.get_running_loop(), self._events

        def put(event: Event) -> None:
            self._ended = time.perf_counter()
            self._first = self._first or self._ended
            if isinstance(event, TextDelta) and not (self.params.stream or event.logprobs):
                return  # nobody reads it: the completion holds the whole text
            with contextlib.suppress(RuntimeError):  # the server was killed meanwhile
                loop.call_soon_threadsafe(events.put_nowait, (index, event))

        return put

    async def events(self) -> AsyncIterator[tuple[int, TextDelta | Completion]]:
        """Text deltas and completions of the answers, with the answer's index, as they come.

        Raises:
            ApiError: 503, it took too long.
            PersonaplugError: an answer failed.
        """
        # 5) Until each answer has its completion.
        unfinished = self.count
        while unfinished:
            index, event = await self._next()
            if isinstance(event, Exception):
                raise event
            unfinished -= isinstance(event, Completion)
            if not unfinished:
                self._close_stages()
            yield index, event

    async def _next(self) -> tuple[int, Event]:
        try:
            async with asyncio.timeout(self._deadline - time.perf_counter()):
                return await self._events.get()
        except TimeoutError:
            most = self._service.settings.request_seconds
            raise ApiError(
                503, f"no answer within {most:g} s; ask for fewer tokens, or later", code="timeout", retry_after=5
            ) from None

    async def results(self) -> list[tuple[Completion, list[TokenLogprob]]]:
        """All answers, finished, with their log-probabilities."""
        logprobs: list[list[TokenLogprob]] = [[] for _ in range(self.count)]
        completions: list[Completion | None] = [None] * self.count
        async for index, event in self.events():
            if isinstance(event, TextDelta):
                logprobs[index] += event.logprobs
            else:
                completions[index] = event
        return [(c, own) for c, own in zip(completions, logprobs, strict=True) if c is not None]

    def cancel(self) -> None:
        """Stop decoding what is not done yet."""
        for answer in self._answers:
            answer.cancel()
        if self._explanation is not None and not self._explanation.done():
            self._explanation.cancel()

    def _close_stages(self) -> None:
        started = [(a.started_at, a.ready_at) for a in self._answers if a.started_at is not None]
        started_at, ready_at = min(started, key=lambda times: times[0], default=(self._enqueued, None))
        delayed = 0.0 if ready_at is None else started_at - ready_at
        self.stages["overhead"] += delayed
        self.stages["queue"] = max(0.0, started_at - self._enqueued - delayed)
        self.stages["first_token"] = (self._first or self._ended) - self._enqueued
        self.stages["generate"] = self._ended - started_at

    async def metadata(self) -> dict[str, Any]:
        """The response's `personaplug` object: whose persona, by which method, from which behaviours, at what cost."""
        # 6) When the last answer is there.
        attributions = await self._explanation if self._explanation is not None else []
        now = time.perf_counter()
        self.stages["reply"], self.stages["total"] = now - self._ended, now - self._arrived
        known, history = self.personalized.known, self.personalized.profile.history
        return {
            "user": self.params.user,
            "personalized": known and len(history) > 0,
            "method": self.model.personalizer.method.name,
            "note": _note(self.params.user, self.model, self.personalized),
            "persona": {"version": history.version, "behaviors": len(history)} if known else None,
            "behaviors": shares(attributions),
            "timings": {name: round(seconds, 6) for name, seconds in self.stages.items()},
        }


def shares(attributions: Sequence[Attribution]) -> list[dict[str, Any]]:
    """Behaviours with their shares of a persona and their ages in seconds."""
    now = time.time()
    return [
        {
            "id": a.behavior.id,
            "weight": round(a.weight, 6),
            "age": None if a.behavior.at is None else round(max(0.0, now - a.behavior.at), 1),
        }
        for a in attributions
    ]


def _note(user: str | None, model: Served, personalized: PersonalizedPrompt) -> str | None:
    """Why an answer is not personal; None where it is."""
    if not model.personalizer.method.personal:
        return "this model knows no users"
    if user is None:
        return "no user was named; the answer is anybody's"
    if not personalized.known:
        return "nothing is stored of this user; the answer is anybody's"
    return None if personalized.profile.history.behaviors else "this user has no history; the answer is anybody's"
