"""Does for many at once what each asks for alone: those who come while a batch is being worked on are the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """Gathers items that are asked for at the same time; a queue that never waits for more to come.

    Args:
        work: does a batch, off the event loop; gives for each item what it would give alone.
        most: items in a batch.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int = 32) -> None:
        self._work = work
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """What `work` gives for an item."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            if not await self._try(batch) and len(batch) > 1:
                for one in batch:  # one of them is at fault: the others shall go on
                    await self._try([one])

    async def _try(self, batch: list[tuple[T, asyncio.Future[R]]]) -> bool:
        """Do a batch; whether it went well. One alone is told what went wrong."""
        try:
            found = await self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's to know
            if len(batch) == 1 and not batch[0][1].done():
                batch[0][1].set_exception(error)
            return False
        for (_, future), result in zip(batch, found, strict=True):
            if not future.done():  # whoever has gone meanwhile
                future.set_result(result)
        return True
