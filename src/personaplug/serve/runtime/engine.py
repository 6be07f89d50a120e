"""What runs a backbone for everybody who asks: the scheduler, or threads where the model is not in this process."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore, Event, Lock
from typing import Protocol

from personaplug.backbones.base import Backbone
from personaplug.backbones.local.scheduler import Scheduler, Sink
from personaplug.core.errors import BusyError
from personaplug.core.types import Completion, Profile, Prompt, Request, Sampling, TextDelta
from personaplug.methods.base import Method
from personaplug.models.threads import few_processors, share_processors
from personaplug.serve.settings import Settings


class Growing(Protocol):
    """An answer under way; `began` (`time.perf_counter`) is when it was its turn, `turned` as in `scheduler.Answer`."""

    turned: float | None
    began: float | None

    def cancel(self) -> None:
        """Nobody waits for it any longer."""


class Engine(Protocol):
    """Answers prompts; what a sink is called with comes from another thread."""

    gives_logprobs: bool
    steps: int
    drawn: int

    def submit(
        self, prompt: Prompt | Future[Prompt], sampling: Sampling, sink: Sink, top: int | None = None
    ) -> Growing:
        """Ask for an answer; returns at once. A prompt that is still being made holds its place in the queue.

        Raises:
            BusyError: too many wait already.
        """

    def forget_prompts(self) -> int:
        """Drop what is kept of prompts in memory; returns of how many tokens that was."""

    def load(self) -> tuple[int, int]:
        """How many answers are under way, and how many wait."""

    @property
    def alive(self) -> bool:
        """Whether it still works."""

    def close(self) -> None:
        """Finish what was taken, then stop."""


class _Stream:
    """An answer that a thread streams."""

    def __init__(self, prompt: Prompt | Future[Prompt]) -> None:
        self.turned: float | None = None
        self.began: float | None = None
        self.gone = Event()
        self._prompt = prompt

    def cancel(self) -> None:
        self.gone.set()
        if isinstance(self._prompt, Future):
            self._prompt.cancel()

    def prompt(self) -> Prompt:
        """What is to be answered; waits for it.

        Raises:
            CancelledError: it will not be made.
        """
        if isinstance(self._prompt, Future):
            if not self._prompt.done():
                self.turned = time.perf_counter()
            prompt = self._prompt.result()
        else:
            prompt = self._prompt
        self.began = time.perf_counter()
        return prompt


class Threads:
    """A thread an answer, for backbones that are somewhere else and batch by themselves (or need no batch).

    Args:
        backbone: may be called from several threads.
        rows: answers under way at most.
        waiting: answers that may wait beside these.
    """

    gives_logprobs = False

    def __init__(self, backbone: Backbone, rows: int, waiting: int) -> None:
        self.backbone = backbone
        self.rows = rows
        self.waiting = waiting
        self.steps = 0
        self.drawn = 0
        self.alive = True
        self._taken = 0
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(rows, "personaplug-answers")

    def submit(
        self, prompt: Prompt | Future[Prompt], sampling: Sampling, sink: Sink, top: int | None = None
    ) -> Growing:
        """See `Engine.submit`; knows no log-probabilities."""
        del top
        with self._lock:
            if not self.alive:
                raise BusyError("the server is closing; no further requests are taken")
            if self._taken >= self.rows + self.waiting:
                raise BusyError(f"{self.waiting} requests wait already; try again in a few seconds")
            self._taken += 1
        answer = _Stream(prompt)
        self._pool.submit(self._run, answer, sampling, sink)
        return answer

    def forget_prompts(self) -> int:
        """See `Engine.forget_prompts`."""
        return self.backbone.forget_prompts()

    def load(self) -> tuple[int, int]:
        """See `Engine.load`."""
        return min(self._taken, self.rows), max(0, self._taken - self.rows)

    def close(self) -> None:
        """See `Engine.close`."""
        with self._lock:
            self.alive = False
        self._pool.shutdown()

    def _run(self, answer: _Stream, sampling: Sampling, sink: Sink) -> None:
        text, whole = "", None
        try:
            prompt = answer.prompt()
            if not answer.gone.is_set():
                for said in self.backbone.follow(prompt, sampling):
                    if isinstance(said, Completion):
                        whole = said
                    else:
                        text += said
                        sink(TextDelta(said))
                    if answer.gone.is_set():
                        break
            sink(whole or self.backbone.counted(prompt, sampling, text))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's to know
            sink(error)
        finally:
            with self._lock:
                self._taken -= 1


class Chooser:
    """Answers that a method chooses among several of the backbone's: a thread waits for those and tells of one.

    Args:
        method: what chooses.
        rows: answers under way at most.
        waiting: answers that may wait beside these.
    """

    def __init__(self, method: Method, rows: int, waiting: int) -> None:
        self.method = method
        self.waiting = waiting
        self._room = BoundedSemaphore(rows + waiting)
        self._pool = ThreadPoolExecutor(rows, "personaplug-choices", share_processors, (few_processors(),))

    def submit(self, request: Request, profile: Profile, prompt: Prompt, sampling: Sampling, sink: Sink) -> Growing:
        """Ask for an answer, which comes in one piece; returns at once.

        Raises:
            BusyError: too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError(f"{self.waiting} requests wait already; try again in a few seconds")
        answer = _Stream(prompt)
        self._pool.submit(self._run, answer, (request, profile), sampling, sink)
        return answer

    def close(self) -> None:
        """Finish what was taken, then stop."""
        self._pool.shutdown()

    def _run(self, answer: _Stream, asked: tuple[Request, Profile], sampling: Sampling, sink: Sink) -> None:
        request, profile = asked
        try:
            prompt = answer.prompt()
            if not answer.gone.is_set():
                [chosen] = self.method.answer_many([request], [profile], [prompt], sampling)
                sink(TextDelta(chosen.text))
                sink(chosen)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's to know
            sink(error)
        finally:
            self._room.release()


NICENESS = 5  # what new requests wait for goes first


def engine_of(backbone: Backbone, settings: Settings) -> Engine:
    """What runs a backbone."""
    from personaplug.backbones.local.base import InProcessBackbone

    if isinstance(backbone, InProcessBackbone):
        backbone.remembers = settings.prompts
        return Scheduler(backbone, settings.rows, settings.waiting, settings.batch_tokens, niceness=NICENESS)
    return Threads(backbone, settings.rows, settings.waiting)
