"""One request from its user's persona to its last token: measured on the way, and given up when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from personaplug.backbones.local.scheduler import Event
from personaplug.core.types import Attribution, Completion, Message, Prompt, Sampling, TextDelta, TokenLogprob
from personaplug.serve.openai.errors import Refusal
from personaplug.serve.runtime.engine import Growing
from personaplug.serve.runtime.service import Personal, Served, Service

SHOWN = 5  # behaviours in a response's block, by default


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants.

    Attributes:
        user: the name as the client knows it, or None.
        stored: the same user's name in the store.
        conversations: a prompt each.
        sampling: how to decode.
        n: answers to each.
        top: log-probabilities wanted, with so many alternatives; None: none.
        pieces: the answers are read as they grow.
        behaviors: how many that carried the persona shall be named.
    """

    user: str | None
    stored: str | None
    conversations: tuple[tuple[Message, ...], ...]
    sampling: Sampling
    n: int = 1
    top: int | None = None
    pieces: bool = True
    behaviors: int = SHOWN


@dataclass(slots=True)
class Reply:
    """One finished answer."""

    completion: Completion
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Run:
    """The answers to one request under way; leave it with `cancel`, which harms no finished one.

    Attributes:
        stages: seconds by stage. `profile` and `personalize`: making the persona, while the request stands in the
            model's queue. `overhead`: what came before the queue, and how long the request's turn was put off because
            its persona was not made yet. `queue`: until its turn came, `generate`: from then to the last token,
            `reply`: what followed. `first_token` is counted from the queue's entry.
    """

    def __init__(self, service: Service, model: Served, asked: Asked, arrived: float) -> None:
        self.model = model
        self.asked = asked
        self.stages: dict[str, float] = {}
        self.count = asked.n * len(asked.conversations)
        self.personal: list[Personal] = []
        self._requests = [model.request(asked.stored, messages) for messages in asked.conversations]
        self._service = service
        self._arrived = arrived
        self._until = arrived + service.settings.request_seconds
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._answers: list[Growing] = []
        self._prompts: list[Future[Prompt]] = []
        self._weights: asyncio.Future[list[Attribution]] | None = None
        self._entered = arrived
        self._first: float | None = None
        self._ended = arrived

    async def begin(self) -> None:
        """Enter the model's queue and make the personas meanwhile.

        Raises:
            PersonaplugError: it cannot be taken.
        """
        try:
            await self._begin()
        except BaseException:
            self.cancel()
            raise

    async def _begin(self) -> None:
        requests, reserved, strength = self._requests, self.model.chooser is None, self.asked.sampling.strength
        self._enter()
        if reserved:
            for index in range(self.count):
                self._submit(index)
        lost = None
        while lost != self._service.lost:  # what has been erased meanwhile must not be asked with
            lost = self._service.lost
            self.personal = await asyncio.gather(*(self._service.personal(self.model, r, strength) for r in requests))
        self.stages["profile"] = max(p.profile_seconds for p in self.personal)
        self.stages["personalize"] = max(p.personalize_seconds for p in self.personal)
        if reserved:
            for index, prompt in enumerate(self._prompts):
                if prompt.set_running_or_notify_cancel():
                    prompt.set_result(self.personal[index // self.asked.n].prompt)
        else:
            self._enter()
            for index in range(self.count):
                self._submit(index)
        if self.asked.behaviors and self.personal[0].known:
            # While the model answers: what it costs delays nobody.
            explain = self._service.explain(self.model, requests[0], self.personal[0].profile, self.asked.behaviors)
            self._weights = asyncio.ensure_future(explain)

    def _enter(self) -> None:
        self._entered = time.perf_counter()
        self.stages["overhead"] = self._entered - self._arrived

    def _submit(self, index: int) -> None:
        loop, events = asyncio.get_running_loop(), self._events

        def hand(event: Event) -> None:
            self._ended = time.perf_counter()
            self._first = self._first or self._ended
            if isinstance(event, TextDelta) and not (self.asked.pieces or event.logprobs):
                return  # nobody reads it: the end says it all
            with contextlib.suppress(RuntimeError):  # the server was killed meanwhile
                loop.call_soon_threadsafe(events.put_nowait, (index, event))

        sampling, seed = self.asked.sampling, self.asked.sampling.seed
        if seed is not None:
            sampling = replace(sampling, seed=seed + index % self.asked.n)
        if self.model.chooser is None:
            prompt: Future[Prompt] = Future()
            self._prompts.append(prompt)
            answer = self.model.engine.submit(prompt, sampling, hand, self.asked.top)
        else:
            at = index // self.asked.n
            own = self.personal[at]
            answer = self.model.chooser.submit(self._requests[at], own.profile, own.prompt, sampling, hand)
        self._answers.append(answer)

    async def events(self) -> AsyncIterator[tuple[int, TextDelta | Completion]]:
        """Pieces and ends of the answers, by their index, as they come.

        Raises:
            Refusal: 503, it took too long.
            PersonaplugError: what went wrong with an answer.
        """
        left = self.count
        while left:
            index, event = await self._next()
            if isinstance(event, Exception):
                raise event
            left -= isinstance(event, Completion)
            if not left:
                self._close_stages()
            yield index, event

    async def _next(self) -> tuple[int, Event]:
        try:
            async with asyncio.timeout(self._until - time.perf_counter()):
                return await self._events.get()
        except TimeoutError:
            most = self._service.settings.request_seconds
            raise Refusal(
                503, f"no answer within {most:g} s; ask for fewer tokens, or later", code="timeout", retry_after=5
            ) from None

    async def replies(self) -> list[Reply]:
        """All answers, finished."""
        noted: list[list[TokenLogprob]] = [[] for _ in range(self.count)]
        found: list[Completion | None] = [None] * self.count
        async for index, event in self.events():
            if isinstance(event, TextDelta):
                noted[index] += event.logprobs
            else:
                found[index] = event
        return [Reply(c, n) for c, n in zip(found, noted, strict=True) if c is not None]

    def cancel(self) -> None:
        """Stop decoding what is not done yet."""
        for answer in self._answers:
            answer.cancel()
        if self._weights is not None and not self._weights.done():
            self._weights.cancel()

    def _close_stages(self) -> None:
        begun = [(a.began, a.turned) for a in self._answers if a.began is not None]
        began, turned = min(begun, key=lambda times: times[0], default=(self._entered, None))
        held = 0.0 if turned is None else began - turned
        self.stages["overhead"] += held
        self.stages["queue"] = max(0.0, began - self._entered - held)
        self.stages["first_token"] = (self._first or self._ended) - self._entered
        self.stages["generate"] = self._ended - began

    async def block(self) -> dict[str, Any]:
        """What is told of the persona: whose, by what, from which behaviours, at what cost."""
        first, weights = self.personal[0], await self._weights if self._weights is not None else []
        now = time.perf_counter()
        self.stages["reply"], self.stages["total"] = now - self._ended, now - self._arrived
        history = first.profile.history
        personal = first.known and len(history) > 0
        return {
            "user": self.asked.user,
            "personalized": personal,
            "method": self.model.personalizer.method.name,
            "note": _note(self.asked.user, self.model, first),
            "persona": {"version": history.version, "behaviors": len(history)} if first.known else None,
            "behaviors": shares(weights),
            "timings": {name: round(seconds, 6) for name, seconds in self.stages.items()},
        }


def shares(weights: Sequence[Attribution]) -> list[dict[str, Any]]:
    """Behaviours with their shares of a persona and their ages in seconds."""
    now = time.time()
    return [
        {
            "id": w.behavior.id,
            "weight": round(w.weight, 6),
            "age": None if w.behavior.at is None else round(max(0.0, now - w.behavior.at), 1),
        }
        for w in weights
    ]


def _note(user: str | None, model: Served, personal: Personal) -> str | None:
    """Why an answer is not personal."""
    if not model.personalizer.method.personal:
        return "this model knows no users"
    if user is None:
        return "no user was named; the answer is anybody's"
    if not personal.known:
        return "nothing is stored of this user; the answer is anybody's"
    return None if personal.profile.history.behaviors else "this user has no history; the answer is anybody's"
