"""Key-value states of prompts, kept and reused: with a late persona a prompt's states are the same for every user.

Shapes: b: rows, l: layers, h: key-value heads, t: prompt tokens, c: head width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

K = TypeVar("K", bound=Hashable)


class PromptCache(Generic[K]):
    """The least recently used states are dropped beyond `budget` bytes; 0 keeps none."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._states: OrderedDict[K, Tensor] = OrderedDict()

    def missing(self, keys: Sequence[K]) -> list[K]:
        """The distinct keys that are not here; those that are here become the most recent."""
        for key in keys:
            if key in self._states:
                self._states.move_to_end(key)
        return [k for k in dict.fromkeys(keys) if k not in self._states]

    def put(self, keys: Sequence[K], cache: Any, mask: Tensor) -> None:
        """Keep each row of a cache of padded prompts with mask [b, t]."""
        stacked = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])  # [l, 2, b, h, t, c]
        for row, key in enumerate(keys):
            # Tokens in front, so that rows of different lengths can be padded in one call.
            state = stacked[:, :, row].movedim(3, 0)[mask[row].bool()]  # [t, l, 2, h, c]
            self._states[key] = state
            self.bytes += state.nbytes

    def get(self, keys: Sequence[K]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """States of each layer, ([b, h, t, c], [b, h, t, c]), left-padded, and the mask [b, t]."""
        rows = [self._states[k] for k in keys]
        mask = pad_sequence([r.new_ones(len(r), dtype=torch.long) for r in rows], True, 0, "left")
        stacked = pad_sequence(rows, True, 0.0, "left").permute(2, 3, 0, 4, 1, 5)  # [l, 2, b, h, t, c]
        return [(k.contiguous(), v.contiguous()) for k, v in stacked], mask

    def trim(self) -> None:
        """Drop the least recently used states beyond the budget."""
        while self.bytes > self.budget and self._states:
            _, state = self._states.popitem(last=False)
            self.bytes -= state.nbytes
