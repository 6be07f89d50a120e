"""Rows that a decoder continues token by token: together in one left-padded cache, or each by itself.

Shapes: b: rows, t: columns, v: vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from personaplug.backbones.local.generation import Decoding
from personaplug.backbones.local.runner import Columns, ModelRunner, Output


class BatchedRows(Decoding):
    """Rows of one growing cache, left-padded: the last column of each is its newest token."""

    def __init__(self, runner: ModelRunner, out: Output, mask: Tensor) -> None:
        self._runner = runner
        self._mask = mask  # [b, t]
        self._take(out)

    def _take(self, out: Output) -> None:
        self._cache, self.logits = out.cache, out.logits[:, -1]

    @override
    def step(self, tokens: Sequence[int]) -> None:
        self._mask = F.pad(self._mask, (0, 1), value=1)
        row = self._runner.words(tokens)
        columns = Columns(row.ids.T, row.embeds.transpose(0, 1), row.mask.T)
        self._take(self._runner.run(columns, self._cache, self._mask, keep=True))

    @override
    def select(self, rows: Sequence[int]) -> None:
        at = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
        self._cache.reorder_cache(at)
        self._mask, self.logits = self._mask[at], self.logits[at]
        if not any(self._cache.is_sliding):
            empty = int(self._mask.any(0).int().argmax())  # columns that only longer rows had
            self._mask = self._mask[:, empty:]
            for layer in self._cache.layers:
                if getattr(layer, "keys", None) is not None:
                    layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]

    @override
    def concat(self, other: Self) -> None:
        for mine, its in zip(self._cache.layers, other._cache.layers, strict=True):
            _concat_layer(mine, its)
        self._mask = _stacked(self._mask, other._mask, 1)
        self.logits = torch.cat([self.logits, other.logits])


class SingleRow(Decoding):
    """One row by itself, without padding: the model's own arithmetic and nothing else.

    Args:
        runner: the model.
        columns: all of the prompt, soft tokens in their place.
        steps: read only the newest token after the model's cache; else all columns run again for each token.
        boundary: with more columns than this the model reads all of them in another way (longrope), so that a cache
            of before is of no use.
    """

    def __init__(self, runner: ModelRunner, columns: Columns, steps: bool, boundary: int | None) -> None:
        self._runner = runner
        self._columns = columns
        self._steps = steps
        self._boundary = boundary
        self._cache: Any = None
        self._run(columns)

    def _run(self, columns: Columns) -> None:
        out = self._runner.run(columns, self._cache, keep=self._steps)
        self._cache, self.logits = out.cache, out.logits[:, -1]

    @override
    def step(self, tokens: Sequence[int]) -> None:
        new = self._runner.words(tokens)
        self._columns = self._columns.then(new)
        if self._boundary is not None and self._columns.ids.shape[1] == self._boundary + 1:
            self._cache = None
        self._run(self._columns if self._cache is None else new)

    @override
    def select(self, rows: Sequence[int]) -> None:
        assert list(rows) == [0], "there is one row"

    @override
    def concat(self, other: Self) -> None:
        raise NotImplementedError("a row by itself stays by itself")


class Parts(Decoding):
    """Several decodings side by side as one; batches that stand beside each other become one."""

    def __init__(self, parts: Sequence[Decoding]) -> None:
        self._parts = list(parts)

    @property
    @override
    def logits(self) -> Tensor:  # type: ignore[override]
        return torch.cat([part.logits for part in self._parts])

    def _starts(self) -> list[int]:
        starts = [0]
        for part in self._parts:
            starts.append(starts[-1] + len(part.logits))
        return starts

    @override
    def step(self, tokens: Sequence[int]) -> None:
        starts = self._starts()
        for part, start, end in zip(self._parts, starts, starts[1:], strict=False):
            part.step(tokens[start:end])

    @override
    def select(self, rows: Sequence[int]) -> None:
        starts, left = self._starts(), list[Decoding]()
        for part, start, end in zip(self._parts, starts, starts[1:], strict=False):
            if stay := [row - start for row in rows if start <= row < end]:
                if len(stay) < end - start:
                    part.select(stay)
                left.append(part)
        self._parts = []
        self._append(left)

    @override
    def concat(self, other: Self) -> None:
        self._append(other._parts)

    def _append(self, parts: Sequence[Decoding]) -> None:
        for part in parts:
            last = self._parts[-1] if self._parts else None
            if isinstance(last, BatchedRows) and isinstance(part, BatchedRows):
                last.concat(part)
            else:
                self._parts.append(part)


def batches(cache: Any) -> bool:
    """Whether every layer of a cache is of a kind whose rows can be taken and put together here."""
    from transformers.cache_utils import (
        DummyLayer,
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionAndFullAttentionLayer,
        LinearAttentionAndSlidingWindowAttentionLayer,
        LinearAttentionLayer,
    )

    known = {
        DummyLayer, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer,
        LinearAttentionAndFullAttentionLayer, LinearAttentionAndSlidingWindowAttentionLayer,
    }  # fmt: skip
    layers = getattr(cache, "layers", None) or []
    return bool(layers) and {type(layer) for layer in layers} <= known


def _concat_layer(mine: Any, its: Any) -> None:
    """Put the rows of another cache's layer after one's own, as `reorder_cache` takes rows of every kind of layer."""
    if getattr(mine, "keys", None) is not None:
        mine.keys, mine.values = _stacked(mine.keys, its.keys, 2), _stacked(mine.values, its.values, 2)
        if mine.is_sliding:
            mine.cumulative_length = max(mine.cumulative_length, its.cumulative_length)
    for name in ("conv_states", "recurrent_states"):  # of recurrent layers: as large for any number of columns
        states = getattr(mine, name, None) or {}
        for at, state in states.items():
            if state is not None:
                states[at] = torch.cat([state, getattr(its, name)[at]])


def _stacked(above: Tensor, below: Tensor, dim: int) -> Tensor:
    """The rows of both, zeros in front of the shorter ones along `dim`."""
    longest = max(above.shape[dim], below.shape[dim])
    pads = [(0, 0) * (x.ndim - 1 - dim) + (longest - x.shape[dim], 0) for x in (above, below)]
    return torch.cat([F.pad(x, pad) for x, pad in zip((above, below), pads, strict=True)])
