"""The arithmetic of a frozen decoder over rows of token ids and soft tokens, equal to a plain forward for each row.

    position first:  [ prefix ; prompt ] | target          position last:  [ prompt ; prefix ] | target
                      left-padded          right-padded                     left-padded          right-padded

Everything left of the bar ends in the same column for every row, so users with different histories and prompts of
different lengths share a batch. With `last`, the prompt runs without gradients, and only the prefix and the target
keep activations. What of this a model allows is in `support`, which `conformance` measures: what it does not allow is
computed one row at a time, without padding and, where it must be, without a cache.

Shapes: b: rows, t: columns left of the bar, s: target columns, k: prefix tokens, d: the model's width, v: vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from threading import RLock
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from personaplug.backbones.local.base import PADDING, picked_logprobs
from personaplug.backbones.local.prompt_cache import BLOCK, PromptCache
from personaplug.backbones.local.rows import BatchedRows, Parts, SingleRow
from personaplug.backbones.local.runner import Columns, ModelRunner


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt as the model reads it: token ids, with soft tokens [k, d] before or behind them."""

    ids: tuple[int, ...]
    prefix: Tensor | None = None
    position: Literal["first", "last"] = "first"

    def __len__(self) -> int:
        return len(self.ids) + (0 if self.prefix is None else len(self.prefix))


@dataclass(frozen=True, slots=True)
class Support:
    """What a model's arithmetic allows; what it does not is done in a slower way that is right.

    Attributes:
        steps: a cache with one new column after it, else all columns run again for each token.
        batching: rows of different lengths as one left-padded batch, which rows may join and leave.
        continues: several columns after a cache, gradients included: a late persona after its prompt's states.
        shared: the states of a prompt for every request that begins with the same tokens.
        training: gradients to the soft tokens.
        reads_ids: the model must be handed token ids beside the embeddings.
        difference: of its logits from a plain forward's at most, as a part of their standard deviation.
    """

    steps: bool = True
    batching: bool = True
    continues: bool = True
    shared: bool = True
    training: bool = True
    reads_ids: bool = False
    difference: float = 0.0


@dataclass(slots=True)
class _CachedPrompt:
    """Columns that have run already: the model's cache of them and their mask [b, t], left-padded."""

    cache: Any
    mask: Tensor


class CausalModel:
    """A frozen decoder over rows.

    Args:
        model: a transformers model with a language-model head, on its device.
        prompt_cache: bytes of prompts' states to store.
        boundary: rows of more columns than this are read in another way (longrope's long factors): they run alone.
    """

    def __init__(self, model: Any, prompt_cache: int, boundary: int | None = None) -> None:
        self.runner = ModelRunner(model)
        self.support = Support()
        self.boundary = boundary
        self.budget = prompt_cache
        self.prompts = PromptCache(prompt_cache)
        self._reading = RLock()  # held from a look-up in the prompt cache until what it gave is used

    def adopt(self, support: Support) -> None:
        """Compute as `support` says from now on."""
        self.support = support
        self.runner.reads_ids = support.reads_ids

    def forget(self) -> int:
        """Drop the stored states of prompts; returns of how many tokens."""
        with self._reading:
            dropped, self.prompts = self.prompts.tokens, PromptCache(self.budget)
        return dropped

    # -- columns ------------------------------------------------------------------------------------------------------

    def columns(self, row: Row, skip: int = 0) -> Columns:
        """A row with its prefix in its place, less its first `skip` tokens."""
        parts = [self.runner.words(row.ids[skip:])] if len(row.ids) > skip else []
        if row.prefix is not None:
            parts.insert(0 if row.position == "first" else len(parts), self.runner.soft(row.prefix))
        return parts[0] if len(parts) == 1 else parts[0].then(parts[1])

    def _alone(self, row: Row, more: int | None) -> bool:
        """Whether a row with `more` columns after it (None: any number) must run by itself."""
        if not self.support.batching:
            return True
        return self.boundary is not None and (more is None or len(row) + more > self.boundary)

    # -- prompts that have run already --------------------------------------------------------------------------------

    def _split(self, rows: Sequence[Row]) -> tuple[_CachedPrompt | None, Columns]:
        """What has run already and what has not: with a late persona, only the prefix has not."""
        prefixes = [row.prefix for row in rows if row.prefix is not None and row.position == "last"]
        if len(prefixes) == len(rows):
            left = self.runner.padded([self.runner.soft(prefix) for prefix in prefixes])
            if self.support.shared:
                return self._cached_prompts([row.ids for row in rows]), left
            # A sliding window counts columns: padding between prompt and prefix would push the prompt out of it.
            if self.support.continues and len({len(prefix) for prefix in prefixes}) == 1:
                with torch.inference_mode(False), torch.no_grad():
                    return self._run(self.runner.padded([self.runner.words(row.ids) for row in rows])), left
        return None, self.runner.padded([self.columns(row) for row in rows])

    def _run(self, columns: Columns, head: _CachedPrompt | None = None) -> _CachedPrompt:
        """Run columns without gradients, for their states."""
        with torch.no_grad():
            mask = columns.mask if head is None else torch.cat([head.mask, columns.mask], dim=1)
            return _CachedPrompt(self.runner.run(columns, head and head.cache, mask, keep=True).cache, mask)

    def _cached_prompts(self, ids: Sequence[tuple[int, ...]]) -> _CachedPrompt:
        """The prompts' own columns, from the cache where they have run before."""
        # Not in inference mode, even when the caller is: training must be able to read these states later.
        with self._reading, torch.inference_mode(False), torch.no_grad():
            self._read_common_start(ids)
            self._read(ids)
            head = self._known(ids)
            self.prompts.trim()
        assert head is not None  # a prompt has tokens
        return head

    def _known(self, ids: Sequence[Sequence[int]]) -> _CachedPrompt | None:
        """What the prompt cache holds of the beginning of each prompt."""
        from transformers import DynamicCache

        states = self.prompts.get(ids)
        return None if states is None else _CachedPrompt(DynamicCache(states[0]), states[1])

    def _read_common_start(self, ids: Sequence[Sequence[int]]) -> None:
        """Run what all prompts begin with (a system message, say) once."""
        if len(set(ids)) > 1:
            shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False)))
            self._read([ids[0][: shared // BLOCK * BLOCK]])

    def _read(self, ids: Sequence[Sequence[int]]) -> None:
        """Run what the prompt cache does not hold of the prompts, and store it."""
        missing = [row for row in dict.fromkeys(ids) if self.prompts.known(row) < len(row)]
        if missing:
            rest = self.runner.padded([self.runner.words(row[self.prompts.known(row) :]) for row in missing])
            whole = self._run(rest, self._known(missing))
            self.prompts.put(missing, whole.cache, whole.mask)

    def _storable(self, row: Row, more: int | None) -> tuple[int, ...]:
        """The token ids at a row's beginning whose states may be stored: at least one column stands after them."""
        late = row.prefix is None or row.position == "last"
        if not (late and self.support.shared and self.budget) or self._alone(row, more):
            return ()
        return row.ids[:-1] if row.prefix is None else row.ids

    def uncached_tokens(self, row: Row, more: int | None = None) -> int:
        """Number of a row's columns that must run before its answer begins."""
        return len(row) - self.prompts.known(self._storable(row, more))

    def prefill_chunk(self, row: Row, tokens: int, more: int | None = None) -> int:
        """Run at most `tokens` of a long prompt and store their states, where they can be; what is then uncached."""
        ids = self._storable(row, more)
        with self._reading, torch.inference_mode(False), torch.no_grad():
            self._read([ids[: (self.prompts.known(ids) + tokens) // BLOCK * BLOCK]])
            self.prompts.trim()
        return self.uncached_tokens(row, more)

    # -- targets ------------------------------------------------------------------------------------------------------

    def target_logits(self, rows: Sequence[Row], targets: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Logits [b, s, v] where each row's target tokens are predicted, and their ids [b, s] (or PADDING).

        Gradients flow to the prefixes.
        """
        ids = pad_sequence([torch.tensor(t, dtype=torch.long) for t in targets], True, PADDING)
        alone = [self._alone(row, len(target)) for row, target in zip(rows, targets, strict=True)]
        if not any(alone):
            logits = self._batch_logits(*self._split(rows), targets)
        else:
            each = [self.plain_logits(row, target) for row, target in zip(rows, targets, strict=True)]
            logits = pad_sequence(each, True)
        return logits, ids.to(logits.device)

    def plain_logits(self, row: Row, target: Sequence[int]) -> Tensor:
        """The same of one row [s, v] by a plain forward: no padding, no cache, the model's own positions."""
        columns = self.columns(row)
        if len(target) > 1:
            columns = columns.then(self.runner.words(target[:-1]))
        return self.runner.run(columns, last=len(target)).logits[0]

    def _batch_logits(self, head: _CachedPrompt | None, left: Columns, targets: Sequence[Sequence[int]]) -> Tensor:
        longest = max(map(len, targets))
        if longest > 1:
            right = [self.runner.words(target[:-1] or [self.runner.padding]) for target in targets]
            for row, target in zip(right, targets, strict=True):
                row.mask[:, len(target) - 1 :] = 0
            left = left.then(self.runner.padded(right, "right"))
        mask = left.mask if head is None else torch.cat([head.mask, left.mask], dim=1)
        return self.runner.run(left, head and head.cache, mask, keep=head is not None, last=longest).logits

    def continue_logprobs(self, rows: Sequence[Row], at: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
        """Log-probabilities [n, s] of target tokens (0 at padding); the i-th target continues the row `at[i]`."""
        owners = [rows[i] for i in at.tolist()]
        alone = any(self._alone(row, len(target)) for row, target in zip(owners, targets, strict=True))
        if alone or not self.support.continues:
            return picked_logprobs(*self.target_logits(owners, targets))
        # All columns but the last run once; then each target after its own copy of their states.
        head, left = self._split(rows)
        if left.ids.shape[1] > 1:
            head = self._run(left[:, :-1], head)
        if head is not None:
            head.cache.reorder_cache(at)
            head = _CachedPrompt(head.cache, head.mask[at])
        ids = pad_sequence([torch.tensor(t, dtype=torch.long) for t in targets], True, PADDING)
        return picked_logprobs(self._batch_logits(head, left[at, -1:], targets), ids.to(left.ids.device))

    # -- answers ------------------------------------------------------------------------------------------------------

    def prefill(self, rows: Sequence[Row], more: Sequence[int] | None = None) -> Parts:
        """Read rows, without gradients; `more`: columns that each may grow by (None: any number)."""
        grows: Sequence[int | None] = [None] * len(rows) if more is None else more
        parts: list[BatchedRows | SingleRow] = []
        with torch.inference_mode(False), torch.no_grad():  # what is stored here may be read in training
            pairs = zip(rows, grows, strict=True)
            for alone, group in groupby(pairs, lambda pair: self._alone(*pair)):
                if alone:
                    steps = self.support.steps
                    parts += [SingleRow(self.runner, self.columns(r), steps, self.boundary) for r, _ in group]
                else:
                    parts.append(self._prefill_batch(list(group)))
        return Parts(parts)

    def _prefill_batch(self, group: Sequence[tuple[Row, int | None]]) -> BatchedRows:
        rows, ids = [row for row, _ in group], [self._storable(*pair) for pair in group]
        with self._reading:
            # 1) What is stored of the prompts; what all of them begin with runs once.
            if all(ids):
                self._read_common_start(ids)
            head = self._known(ids) if any(ids) else None
            known = [self.prompts.known(row) for row in ids]
            # 2) The rest of each: all of a late prefix, or of a text the last token, at least.
            left = self.runner.padded([self.columns(row, n) for row, n in zip(rows, known, strict=True)])
            mask = left.mask if head is None else torch.cat([head.mask, left.mask], dim=1)
            out = self.runner.run(left, head and head.cache, mask, keep=True)
            # 3) Only now that it has run, its states are stored: those of the tokens, not of the prefixes.
            if known != [len(row) for row in ids]:
                tokens = mask.clone()
                for at, (row, stored) in enumerate(zip(rows, ids, strict=True)):
                    tokens[at, mask.shape[1] - (len(row) - len(stored)) :] = 0
                self.prompts.put(ids, out.cache, tokens)
                self.prompts.trim()
        return BatchedRows(self.runner, out, mask)
