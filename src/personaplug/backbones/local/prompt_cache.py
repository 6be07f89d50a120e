"""Cache of prompts' key-value states: with a late persona a prompt's states are the same for every user.

    prompt     [ 16 tokens | 16 tokens | 16 tokens | 5 ]      each block is stored under the hash of all tokens up to
    another    [ 16 tokens | 16 tokens | 16 others | ..        its end, so prompts that begin alike share first blocks

Shapes: b: rows, h: key-value heads, t: prompt tokens, c: width of a key or a value, f: h x c of all layers together.
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
    """States of prompts by their token ids; beyond `budget` bytes the least recently used blocks are dropped."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()  # [at most 16, f]
        self._shapes: list[tuple[int, int]] = []  # (h, c) of each layer's keys, then of its values

    @property
    def tokens(self) -> int:
        """Number of tokens whose states are stored."""
        return sum(len(block) for block in self._blocks.values())

    def known(self, ids: Sequence[int]) -> int:
        """Number of a prompt's first tokens whose states are stored."""
        return min(len(ids), BLOCK * len(self._stored(ids)))

    def get(self, prompts: Sequence[Sequence[int]]) -> tuple[list[tuple[Tensor, Tensor]], Tensor] | None:
        """States of the beginning of each prompt; None where none are stored.

        Returns:
            Keys and values of each layer, ([b, h, t, c], [b, h, t, c]), left-padded, and the mask [b, t].
        """
        chains = [self._stored(ids) for ids in prompts]
        rows = [[self._blocks[name] for name in chain] for chain in chains]
        lengths = [sum(map(len, row)) for row in rows]
        longest = max(lengths, default=0)
        if not longest:
            return None
        for chain in chains:
            for name in reversed(chain):  # a prompt's first blocks become the most recent: what follows needs them
                self._blocks.move_to_end(name)
        any_block = next(block for row in rows for block in row)
        states = any_block.new_zeros(len(rows), longest, any_block.shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=states.device)
        for row, blocks in enumerate(rows):
            if blocks:
                torch.cat(blocks, out=states[row, longest - lengths[row] :])
                mask[row, longest - lengths[row] :] = 1
        split = states.split([heads * width for heads, width in self._shapes], dim=-1)
        shaped = [part.unflatten(-1, shape).transpose(1, 2) for part, shape in zip(split, self._shapes, strict=True)]
        return list(zip(shaped[::2], shaped[1::2], strict=True)), mask

    def put(self, prompts: Sequence[Sequence[int]], cache: Any, mask: Tensor) -> None:
        """Store the blocks of each prompt that are not stored yet: all of them, or none where something fails.

        Args:
            prompts: token ids, one prompt a row of the cache.
            cache: their states after a forward pass; keys and values may be of different widths.
            mask: [b, t], 1 at the columns that hold the prompts' tokens.
        """
        parts = [states for layer in cache.layers for states in (layer.keys, layer.values)]
        flat = torch.cat([part.transpose(1, 2).flatten(2) for part in parts], dim=-1)  # [b, t, f]
        fresh: dict[bytes, Tensor] = {}
        for row, ids in enumerate(prompts):
            columns = mask[row].nonzero()[:, 0]
            for start, name in zip(range(0, len(ids), BLOCK), _names(ids), strict=True):
                if name not in self._blocks and name not in fresh:
                    fresh[name] = flat[row].index_select(0, columns[start : start + BLOCK])
        self._shapes = [(part.shape[1], part.shape[3]) for part in parts]
        self._blocks.update(fresh)
        self.bytes += sum(block.nbytes for block in fresh.values())

    def trim(self) -> None:
        """Drop the least recently used blocks beyond the budget."""
        while self.bytes > self.budget and self._blocks:
            _, block = self._blocks.popitem(last=False)
            self.bytes -= block.nbytes

    def _stored(self, ids: Sequence[int]) -> list[bytes]:
        """Names of the prompt's first blocks, up to the first that is not stored."""
        names = _names(ids)
        return names[: next((i for i, name in enumerate(names) if name not in self._blocks), len(names))]


def _names(ids: Sequence[int]) -> list[bytes]:
    """A name for each block of a prompt: the hash of all its tokens up to the block's end."""
    hashed, names = hashlib.blake2b(digest_size=16), []
    for start in range(0, len(ids), BLOCK):
        hashed.update(array("q", ids[start : start + BLOCK]))
        names.append(hashed.digest())
    return names
