"""Continuous batching: requests of any users join one running batch as they come, and leave it when they are done.

    waiting  ── short prompts ───────────────► [ running batch: a token of each answer a step ] ── done ──► answers
             ── long ones, a piece a step ──►

(Iteration-level scheduling of Yu et al. 2022, Orca, OSDI; prompts read in pieces as in Sarathi, arXiv 2308.16369.)
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from threading import Condition, Thread, current_thread

import torch

from personaplug.backbones.local.base import InProcessBackbone
from personaplug.core.errors import BusyError
from personaplug.core.types import Completion, Prompt, Sampling, TextDelta
from personaplug.models.threads import limit_threads

Event = TextDelta | Completion | Exception
"""What an answer hands out: pieces, then its end."""
Sink = Callable[[Event], None]


class Answer:
    """An answer that grows: iterate over its pieces, or wait for all of it.

    Attributes:
        prompt: what is answered; an answer whose prompt is not there yet keeps its place in the queue.
        number: how many were taken before it.
        choice: its tokens so far.
        cancelled: nobody waits for it any longer.
        isolate: it was in a group that could not be read; next time it is read alone.
        ready_at: when its turn came while it had no prompt (`time.perf_counter`), or None: then nobody waited for that.
        started_at: when its prompt was read, or None if it waits.
        length: tokens that the model may hold of it in the end; twice as many where its persona has a strength.
    """

    def __init__(
        self,
        backbone: InProcessBackbone,
        prompt: Future[Prompt],
        sampling: Sampling,
        sink: Sink | None = None,
        top: int | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.prompt = prompt
        self.number = 0
        self.choice = backbone.choice(sampling, top)
        self.cancelled = False
        self.isolate = False
        self.ready_at: float | None = None
        self.started_at: float | None = None
        self.length = 0
        self._backbone = backbone
        self._pieces: SimpleQueue[Event] = SimpleQueue()
        self._hand = sink or self._pieces.put
        self._wake = wake
        self._sent = 0
        self._noted = 0
        self._end: Completion | Exception | None = None

    def __iter__(self) -> Iterator[str]:
        """Pieces of text as they come; joined they are the completion's text.

        Raises:
            PersonaplugError: what went wrong with this request.
        """
        while self._end is None:
            piece = self._pieces.get()
            if isinstance(piece, TextDelta):
                yield piece.text
            else:
                self._end = piece
        if isinstance(self._end, Exception):
            raise self._end

    def completion(self) -> Completion:
        """All of the answer; waits for its end.

        Raises:
            PersonaplugError: what went wrong with this request.
        """
        for _ in self:
            pass
        assert isinstance(self._end, Completion)
        return self._end

    def cancel(self) -> None:
        """Stop decoding at the next step; what is there by then is the answer."""
        self.cancelled = True
        self._wake()

    def show(self) -> None:
        """Hand out what may be shown by now, and the end if this is it."""
        shown = self._backbone.visible(self.choice)
        if len(shown) > self._sent:
            noted = [] if self.choice.top is None else self._backbone.logprobs(self.choice, len(shown))
            self._hand(TextDelta(shown[self._sent :], tuple(noted[self._noted :])))
            self._sent, self._noted = len(shown), len(noted)
        if self.choice.done:
            self._hand(self._backbone.completion(self.prompt.result(), self.choice))

    def fail(self, error: Exception) -> None:
        """End it with what went wrong."""
        self._hand(error)


class Scheduler:
    """One thread that runs a model for everybody who asks; `close` it, or use it in a `with` statement.

    Args:
        backbone: what answers; until `close`, its `generate` asks here too, so that nobody else runs it meanwhile.
        rows: answers decoded together at most.
        waiting: answers that may wait beside these.
        tokens: that the running batch may hold, its answers times the longest of them (prompt and answer): what bounds
            the model's memory. A longer answer runs alone. 0 is no limit.
        piece: prompt tokens read between two steps: longer prompts do not hold up the answers that are running.
        niceness: how far its thread stands back where processors are short (on Linux; 0 to 19): new requests wait for a
            server's other threads, which need little.

    Example:
        >>> with Scheduler(backbone) as scheduler:  # doctest: +SKIP
        ...     for piece in scheduler.submit(prompt, Sampling(max_tokens=64)):
        ...         print(piece, end="")
    """

    gives_logprobs = True

    def __init__(
        self,
        backbone: InProcessBackbone,
        rows: int = 16,
        waiting: int = 256,
        tokens: int = 65_536,
        piece: int = 512,
        niceness: int = 0,
    ) -> None:
        self.backbone = backbone
        self.rows = rows
        self.waiting = waiting
        self.tokens = tokens
        self.piece = piece
        self.niceness = niceness
        self._queue: deque[Answer] = deque()
        self._running: list[Answer] = []
        self._batch = backbone.running()
        self._changed = Condition()
        self._closed = False
        self._idle = False
        self._taken = 0
        self._outdated = 0  # answers with smaller numbers were asked for before prompts were last forgotten
        self._processors = torch.get_num_threads()
        self.steps = 0
        """Decode steps so far, and answers' tokens drawn in them: together, how full the batch was."""
        self.drawn = 0
        self._thread = Thread(target=self._work, name="personaplug-scheduler", daemon=True)
        self._thread.start()
        backbone.run_by = self._generate

    def submit(
        self, prompt: Prompt | Future[Prompt], sampling: Sampling, sink: Sink | None = None, top: int | None = None
    ) -> Answer:
        """Ask for an answer; returns at once.

        Args:
            prompt: what is answered, or a future of it. A future's request takes its place in the queue now: so the
                prompt is made while others are answered, and none is made where there is no room. Whoever makes the
                prompt sets the future's result, its exception, or cancels it; the last two end the answer.
            sampling: how.
            sink: called from the scheduler's thread with each piece and with the end, in place of iterating; quick.
            top: hand out log-probabilities, with so many of the likeliest tokens in each place.

        Raises:
            BusyError: too many answers wait already, or the scheduler is closed.
        """
        coming = prompt if isinstance(prompt, Future) else _ready(prompt)
        answer = Answer(self.backbone, coming, sampling, sink, top, self._wake)
        with self._changed:
            if self._closed:
                raise BusyError("the scheduler is closed; no further requests are taken")
            if len(self._queue) >= self.waiting:
                raise BusyError(f"{self.waiting} requests wait already; try again in a few seconds")
            answer.number = self._taken
            if not coming.done() and self._idle and len(self._queue) < self.rows:
                answer.ready_at = time.perf_counter()  # while others run, nobody's turn comes before their step ends
            self._taken += 1
            self._queue.append(answer)
            self._changed.notify()
        coming.add_done_callback(lambda _: self._wake())
        return answer

    def forget_prompts(self) -> int:
        """Drop what the backbone keeps of prompts, now and once more when all are read that wait now.

        Returns:
            Of how many tokens it holds something by now.
        """
        with self._changed:
            self._outdated = 0 if self._idle and not self._queue else self._taken
        return self.backbone.forget_prompts()

    def load(self) -> tuple[int, int]:
        """How many answers are being decoded, and how many wait."""
        return len(self._running), len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish what was taken, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self.backbone.run_by = None

    def _generate(self, prompts: Sequence[Prompt], samplings: Sequence[Sampling]) -> list[Completion]:
        assert current_thread() is not self._thread, "it would wait for itself"
        answers: list[Answer] = []
        try:
            for prompt, sampling in zip(prompts, samplings, strict=True):
                answers.append(self.submit(prompt, sampling))
            return [answer.completion() for answer in answers]
        except BaseException:  # there is no room for all of them, or one failed: nobody waits for the others
            for answer in answers:
                answer.cancel()
            raise

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        limit_threads(self._processors, self.niceness)
        while True:
            with self._changed:
                self._idle = not self._running
                self._changed.wait_for(self._due)
                self._idle = False
                if not self._queue and not self._running:
                    return
                arrived = list(self._queue)
            self._admit(arrived)
            self._step()
            self._forget_again()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _due(self) -> bool:
        """Whether there is something to do."""
        if self._running or any(a.prompt.done() or a.cancelled for a in self._queue):
            return True
        return self._closed and not self._queue

    def _admit(self, arrived: list[Answer]) -> None:
        """Let those join whose prompts can be read within one piece; of one longer prompt, read a piece."""
        ready: list[Answer] = []
        left, reads = self.piece, True
        for answer in arrived if self.backbone.supports_batching or not self._running else []:
            if len(self._running) + len(ready) == self.rows or (ready and (answer.isolate or ready[0].isolate)):
                break
            if not answer.prompt.done():  # who comes later but is ready goes first
                self._pass_over(answer)
                continue
            try:
                prompt = answer.prompt.result()
                answer.choice.done |= answer.cancelled
                answer.length = self.backbone.fit(answer.choice, prompt)
                if not self._holds([*self._running, *ready, answer]):
                    break  # it is next: whoever is shorter and came later does not pass it again and again
                unread = 0 if answer.choice.done else self.backbone.uncached_tokens(prompt, answer.choice.limit)
                # Where nothing of a long prompt can be held, it is read at once.
                if reads and unread > self.piece:
                    reads = False
                    if self.backbone.prefill_chunk(prompt, self.piece, answer.choice.limit) == unread:
                        left = unread
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's to know
                self._forget(answer)
                answer.fail(error)
                continue
            if unread <= left:
                left -= unread
                ready.append(answer)
                self._forget(answer)
        self._join(ready)

    def _pass_over(self, answer: Answer) -> None:
        answer.ready_at = answer.ready_at or time.perf_counter()
        if answer.cancelled:
            self._forget(answer)
            answer.fail(CancelledError("it was cancelled before it had a prompt"))

    def _holds(self, answers: list[Answer]) -> bool:
        """Whether the batch may hold them; rows are padded to the longest, and what is done takes none."""
        lengths = [a.length for a in answers if not a.choice.done]
        return len(lengths) <= 1 or not self.tokens or len(lengths) * max(lengths) <= self.tokens

    def _join(self, ready: list[Answer]) -> None:
        asked = [a for a in ready if not a.choice.done]
        for answer in asked:
            answer.started_at = time.perf_counter()
        try:
            if asked:
                self._batch.admit([a.prompt.result() for a in asked], [a.choice for a in asked])
        except Exception as error:  # noqa: BLE001
            if len(ready) == 1:
                ready[0].fail(error)
                return
            for answer in ready:  # one of them is at fault: the others shall go on
                answer.isolate = True
            with self._changed:
                self._queue.extendleft(reversed(ready))
            return
        self._running += ready
        self._show()

    def _step(self) -> None:
        for answer in self._running:
            answer.choice.done |= answer.cancelled
        self.steps += 1
        self.drawn += sum(not answer.choice.done for answer in self._running)
        try:
            self._batch.step()
        except Exception as error:  # noqa: BLE001
            for answer in self._running:
                answer.fail(error)
            self._running, self._batch = [], self.backbone.running()
        self._show()

    def _forget_again(self) -> None:
        with self._changed:
            due = self._outdated and not any(answer.number < self._outdated for answer in self._queue)
            self._outdated = 0 if due else self._outdated
        if due:
            self.backbone.forget_prompts()

    def _show(self) -> None:
        shown, self._running = self._running, [a for a in self._running if not a.choice.done]
        for answer in shown:
            answer.show()

    def _forget(self, answer: Answer) -> None:
        with self._changed:
            self._queue.remove(answer)


def _ready(prompt: Prompt) -> Future[Prompt]:
    """A future that holds its prompt already."""
    future: Future[Prompt] = Future()
    future.set_result(prompt)
    return future
