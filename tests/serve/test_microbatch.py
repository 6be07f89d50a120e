"""Micro-batches: each caller gets their own result, and one at fault harms nobody else."""

from __future__ import annotations

import asyncio

import pytest


async def ask_all(items, most=4):
    from personaplug.serve.runtime.service import MicroBatcher

    sizes: list[int] = []

    async def work(batch):
        sizes.append(len(batch))
        await asyncio.sleep(0)
        if any(item < 0 for item in batch):
            raise ValueError(f"bad {min(batch)}")
        return [10 * item for item in batch]

    together = MicroBatcher(work, most)
    found = await asyncio.gather(*(together(item) for item in items), return_exceptions=True)
    return found, sizes


def test_those_who_come_together_are_worked_on_together() -> None:
    found, sizes = asyncio.run(ask_all(range(9)))
    assert found == [10 * n for n in range(9)]
    assert sizes == [4, 4, 1]


def test_one_at_fault_is_told_and_the_others_get_theirs() -> None:
    found, _ = asyncio.run(ask_all([1, -2, 3]))
    assert (found[0], found[2]) == (10, 30)
    with pytest.raises(ValueError, match="bad -2"):
        raise found[1]


def test_who_has_gone_is_no_hindrance() -> None:
    async def leave():
        from personaplug.serve.runtime.service import MicroBatcher

        async def work(batch):
            await asyncio.sleep(0.01)
            return batch

        together = MicroBatcher(work)
        tasks = [asyncio.create_task(together(n)) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(leave())
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], asyncio.CancelledError)
