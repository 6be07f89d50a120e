"""Engines run a backbone for all requests: the scheduler here, threads for a remote model, or re-ranking on top."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore, Event, Lock
from typing import Protocol

from personaplug.backbones.base import Backbone
from personaplug.backbones.local.base import InProcessBackbone
from personaplug.backbones.local.scheduler import Scheduler, Sink
from personaplug.core.errors import BusyError
from personaplug.core.types import Completion, Profile, Prompt, Request, Sampling, TextDelta
from personaplug.methods.base import Method
from personaplug.models.threads import helper_threads, limit_threads
from personaplug.serve.settings import Settings


class PendingAnswer(Protocol):
    """An answer under way; the times are `time.perf_counter`, as in `scheduler.Answer`."""

    ready_at: float | None
    started_at: float | None

    def cancel(self) -> None:
        """Stop: nobody waits for it any longer."""


class Engine(Protocol):
    """Answers prompts; sinks are called from another thread.

    Attributes:
        gives_logprobs: it returns log-probabilities of its tokens.
        steps: decode steps so far.
        drawn: tokens generated in them.
    """

    gives_logprobs: bool
    steps: int
    drawn: int

    def submit(
        self, prompt: Prompt | Future[Prompt], sampling: Sampling, sink: Sink, top: int | None = None
    ) -> PendingAnswer:
        """Ask for an answer; returns at once. A prompt that is still being made holds its place in the queue.

        Raises:
            BusyError: too many wait already.
        """

    def forget_prompts(self) -> int:
        """Drop the cached states of prompts; returns of how many tokens they were."""

    def load(self) -> tuple[int, int]:
        """How many answers are running, and how many wait."""

    @property
    def alive(self) -> bool:
        """Whether it still takes requests."""

    def close(self) -> None:
        """Finish the answers that were taken, then stop."""


class _Stream:
    """An answer that a thread streams, once its prompt is there."""

    def __init__(self, prompt: Prompt | Future[Prompt]) -> None:
        self.ready_at: float | None = None
        self.started_at: float | None = None
        self.cancelled = Event()
        self._prompt = prompt

    def cancel(self) -> None:
        self.cancelled.set()
        if isinstance(self._prompt, Future):
            self._prompt.cancel()

    def prompt(self) -> Prompt:
        """The prompt; waits until it is made.

        Raises:
            CancelledError: it will not be made.
        """
        if isinstance(self._prompt, Future):
            if not self._prompt.done():
                self.ready_at = time.perf_counter()
            prompt = self._prompt.result()
        else:
            prompt = self._prompt
        self.started_at = time.perf_counter()
        return prompt


class ThreadPoolEngine:
    """A thread per answer, for backbones that run elsewhere and batch by themselves (or need no batch).

    Args:
        backbone: may be called from several threads.
        max_running: answers under way at most.
        max_waiting: answers that may wait beside these.
    """

    gives_logprobs = False

    def __init__(self, backbone: Backbone, max_running: int, max_waiting: int) -> None:
        self.backbone = backbone
        self.max_running = max_running
        self.max_waiting = max_waiting
        self.steps = 0
        self.drawn = 0
        self.alive = True
        self._taken = 0
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(max_running, "personaplug-answers")

    def submit(
        self, prompt: Prompt | Future[Prompt], sampling: Sampling, sink: Sink, top: int | None = None
    ) -> PendingAnswer:
        """See `Engine.submit`; knows no log-probabilities."""
        del top
        with self._lock:
            if not self.alive:
                raise BusyError("the server is closing; no further requests are taken")
            if self._taken >= self.max_running + self.max_waiting:
                raise BusyError(f"{self.max_waiting} requests wait already; try again in a few seconds")
            self._taken += 1
        answer = _Stream(prompt)
        self._pool.submit(self._run, answer, sampling, sink)
        return answer

    def forget_prompts(self) -> int:
        """See `Engine.forget_prompts`."""
        return self.backbone.forget_prompts()

    def load(self) -> tuple[int, int]:
        """See `Engine.load`."""
        return min(self._taken, self.max_running), max(0, self._taken - self.max_running)

    def close(self) -> None:
        """See `Engine.close`."""
        with self._lock:
            self.alive = False
        self._pool.shutdown()

    def _run(self, answer: _Stream, sampling: Sampling, sink: Sink) -> None:
        text, whole = "", None
        try:
            prompt = answer.prompt()
            if not answer.cancelled.is_set():
                for part in self.backbone.follow(prompt, sampling):
                    if isinstance(part, Completion):
                        whole = part
                    else:
                        text += part
                        sink(TextDelta(part))
                    if answer.cancelled.is_set():
                        break
            sink(whole or self.backbone.counted(prompt, sampling, text))
        except Exception as error:  # noqa: BLE001 - reported to the caller
            sink(error)
        finally:
            with self._lock:
                self._taken -= 1


class RerankEngine:
    """Answers that a method chooses among several candidates of the backbone: a thread waits for them and returns one.

    Re-ranking is the fourth way to condition a frozen model (after text, soft prefixes and adapters): the prompt stays
    as it is, and the persona chooses among the answers.

    Args:
        method: chooses among the candidates.
        max_running: answers under way at most.
        max_waiting: answers that may wait beside these.
    """

    def __init__(self, method: Method, max_running: int, max_waiting: int) -> None:
        self.method = method
        self.max_waiting = max_waiting
        self._room = BoundedSemaphore(max_running + max_waiting)
        self._pool = ThreadPoolExecutor(max_running, "personaplug-rerank", limit_threads, (helper_threads(),))

    def submit(
        self, request: Request, profile: Profile, prompt: Prompt, sampling: Sampling, sink: Sink
    ) -> PendingAnswer:
        """Ask for an answer, which comes in one piece; returns at once.

        Raises:
            BusyError: too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError(f"{self.max_waiting} requests wait already; try again in a few seconds")
        answer = _Stream(prompt)
        self._pool.submit(self._run, answer, (request, profile), sampling, sink)
        return answer

    def close(self) -> None:
        """Finish the answers that were taken, then stop."""
        self._pool.shutdown()

    def _run(self, answer: _Stream, asked: tuple[Request, Profile], sampling: Sampling, sink: Sink) -> None:
        request, profile = asked
        try:
            prompt = answer.prompt()
            if not answer.cancelled.is_set():
                [chosen] = self.method.answer_many([request], [profile], [prompt], sampling)
                sink(TextDelta(chosen.text))
                sink(chosen)
        except Exception as error:  # noqa: BLE001 - reported to the caller
            sink(error)
        finally:
            self._room.release()


NICENESS = 5  # of the model's thread: the work that new requests wait for goes first


def engine_of(backbone: Backbone, settings: Settings) -> Engine:
    """The engine that runs a backbone."""
    if isinstance(backbone, InProcessBackbone):
        backbone.remembers = settings.prompt_ids_cache
        return Scheduler(
            backbone, settings.max_running, settings.max_waiting, settings.max_batch_tokens, niceness=NICENESS
        )
    return ThreadPoolEngine(backbone, settings.max_running, settings.max_waiting)
