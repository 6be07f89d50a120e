"""Key-value states of prompts, kept and reused: with a late persona a prompt's states are the same for every user.

    prompt     [ 16 tokens | 16 tokens | 16 tokens | 5 ]      each block is kept under the hash of all tokens up to its
    another    [ 16 tokens | 16 tokens | 16 others | ..        end, so prompts that begin alike share their first blocks

Shapes: b: rows, l: layers, h: key-value heads, t: prompt tokens, c: head width.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 16  # tokens


class PromptCache:
    """States of prompts by their token ids; the blocks used least recently are dropped beyond `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()  # [l, 2, h, at most 16, c]

    @property
    def tokens(self) -> int:
        """Of how many tokens there are states."""
        return sum(block.shape[3] for block in self._blocks.values())

    def known(self, ids: Sequence[int]) -> int:
        """How many of a prompt's first tokens are here."""
        return min(len(ids), BLOCK * len(self._found(ids)))

    def get(self, prompts: Sequence[Sequence[int]]) -> tuple[list[tuple[Tensor, Tensor]], Tensor] | None:
        """What is here of the beginning of each prompt; None where nothing is.

        Returns:
            States of each layer, ([b, h, t, c], [b, h, t, c]), left-padded, and the mask [b, t].
        """
        chains = [self._found(ids) for ids in prompts]
        rows = [[self._blocks[name] for name in chain] for chain in chains]
        lengths = [sum(block.shape[3] for block in row) for row in rows]
        longest = max(lengths, default=0)
        if not longest:
            return None
        for chain in chains:
            for name in reversed(chain):  # a prompt's first blocks become the most recent: what follows needs them
                self._blocks.move_to_end(name)
        layers, two, heads, _, width = next(block for row in rows for block in row).shape
        states = rows[lengths.index(longest)][0].new_zeros(layers, two, len(rows), heads, longest, width)
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=states.device)
        for row, blocks in enumerate(rows):
            at = longest - lengths[row]
            mask[row, at:] = 1
            for block in blocks:
                states[:, :, row, :, at : at + block.shape[3]] = block
                at += block.shape[3]
        return [(keys, values) for keys, values in states], mask

    def put(self, prompts: Sequence[Sequence[int]], cache: Any, mask: Tensor) -> None:
        """Keep the blocks of each prompt that are not here yet.

        Args:
            prompts: token ids, one prompt a row of the cache.
            cache: their states after a forward pass.
            mask: [b, t], 1 at the columns that hold the prompts' tokens.
        """
        stacked = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])  # [l, 2, b, h, t, c]
        for row, ids in enumerate(prompts):
            columns = mask[row].nonzero()[:, 0]
            for start, name in zip(range(0, len(ids), BLOCK), _names(ids), strict=True):
                if name not in self._blocks:
                    block = stacked[:, :, row].index_select(3, columns[start : start + BLOCK])
                    self._blocks[name] = block
                    self.bytes += block.nbytes

    def trim(self) -> None:
        """Drop the least recently used blocks beyond the budget."""
        while self.bytes > self.budget and self._blocks:
            _, block = self._blocks.popitem(last=False)
            self.bytes -= block.nbytes

    def _found(self, ids: Sequence[int]) -> list[bytes]:
        """Names of the prompt's first blocks, up to the first that is not here."""
        names = _names(ids)
        return names[: next((i for i, name in enumerate(names) if name not in self._blocks), len(names))]


def _names(ids: Sequence[int]) -> list[bytes]:
    """A name for each block of a prompt: the hash of all its tokens up to the block's end."""
    hashed, names = hashlib.blake2b(digest_size=16), []
    for start in range(0, len(ids), BLOCK):
        hashed.update(array("q", ids[start : start + BLOCK]))
        names.append(hashed.digest())
    return names
