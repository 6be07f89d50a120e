"""Any decoder-only language model of transformers, frozen, with soft tokens through `inputs_embeds`.

    position first:  [ prefix ; prompt ] | target          position last:  [ prompt ; prefix ] | target
                      left-padded          right-padded                     left-padded          right-padded

Everything left of the bar ends in the same column for every row, so users with different histories and prompts of
different lengths share a batch. With `last`, the prompt runs without gradients and only the prefix and the target
keep activations.

Shapes: b: rows, t: columns left of the bar, s: target columns, k: prefix tokens, d: the model's width, v: vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from threading import RLock
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from personaplug import models
from personaplug.backbones.local.base import PADDING, InProcessBackbone, load_pretrained, picked_logprobs
from personaplug.backbones.local.generation import Decoding
from personaplug.backbones.local.prompt_cache import BLOCK, PromptCache
from personaplug.backbones.local.tokens import chat_text, with_prefix
from personaplug.core.types import Conditioning, Message, Prompt
from personaplug.models.devices import pick_device, pick_dtype


@dataclass(frozen=True, slots=True)
class CausalConfig:
    """Which model and how it runs.

    Attributes:
        model: a bundle's name, a folder or a hub id.
        dtype: `auto` is bfloat16 where the device computes in it, else float32. Greedy answers of a batch equal those
            given alone exactly in float32; in bfloat16 near-ties may fall either way.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        batch_tokens: batches are filled up to this many tokens, padding included.
        prompt_cache: bytes of prompts' key-value states kept for a late persona (about 23 kB a token for
            smollm2-135m in bfloat16); each prompt then runs once for all epochs and all users.
        checkpointing: compute a layer's activations twice instead of keeping them while training: a third more time,
            much less memory; for a persona in front of long prompts.
    """

    model: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_tokens: int = 8192
    prompt_cache: int = 4 << 30
    checkpointing: bool = False


@dataclass(slots=True)
class _Head:
    """Columns that have run already: their key-value states and mask [b, t], left-padded."""

    cache: Any
    mask: Tensor


@dataclass(slots=True)
class _Left:
    """What stands left of the bar and has not run: embeddings [b, t, d] and mask [b, t], left-padded."""

    embeds: Tensor
    mask: Tensor


class CausalBackbone(InProcessBackbone):
    """A frozen decoder-only model from a bundle, a folder or a hub."""

    Config = CausalConfig
    summary = "any Hugging Face decoder-only model, in this process; text and soft tokens"
    source = "transformers AutoModelForCausalLM"
    accepts = Conditioning.TEXT | Conditioning.PREFIX
    joins = True

    def __init__(self, config: CausalConfig) -> None:
        from transformers import AutoModelForCausalLM

        found = models.resolve(config.model)
        device = pick_device(config.device)
        # On a CPU, the fused kernel's backward takes longer than the plain one at these lengths (1.2 to 1.9 times).
        attention = "eager" if device == "cpu" else "sdpa"
        dtype = pick_dtype(config.dtype, device)
        model, tokenizer = load_pretrained(AutoModelForCausalLM, found, dtype, attn_implementation=attention)
        super().__init__(
            f"causal:{found.identity}", model.to(device), tokenizer, config.batch_tokens, config.checkpointing
        )
        self.config = config
        # `logits_to_keep` hands the head a strided slice, for which torch copies the whole head once a row (b x v x d).
        model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
        self._slides = any(t != "full_attention" for t in getattr(model.config, "layer_types", None) or ())
        self._prompts = PromptCache(config.prompt_cache)
        self._reading = RLock()  # held from looking into the cache until what was found is used

    @override
    def _text(self, messages: tuple[Message, ...]) -> str:
        return chat_text(self.tokenizer, messages)

    # -- the two sides of the bar ---------------------------------------------------------------------------------

    def _embeds(self, prompt: Prompt) -> Tensor:
        """All of a prompt with its prefix in its place [t, d]."""
        embeds = self.embed(self.prompt_ids(prompt.messages))
        return embeds if prompt.prefix is None else with_prefix(embeds, self.soft(prompt), prompt.position)

    def _left(self, prompts: Sequence[Prompt]) -> _Left:
        return self._pad([self._embeds(p) for p in prompts])

    def _pad(self, rows: list[Tensor]) -> _Left:
        mask = pad_sequence([torch.ones(len(r), dtype=torch.long) for r in rows], True, 0, "left").to(self.device)
        return _Left(pad_sequence(rows, True, 0.0, "left"), mask)

    def _split(self, prompts: Sequence[Prompt]) -> tuple[_Head | None, _Left]:
        """What has run already and what has not: with a late persona, only the prefix has not."""
        late = all(p.prefix is not None and p.position == "last" for p in prompts)
        # A sliding window counts columns: padding between prompt and prefix would push the prompt out of it.
        if late and (not self._slides or len({len(p.prefix) for p in prompts if p.prefix is not None}) == 1):
            return self._prompt_head(prompts), self._pad([self.soft(p) for p in prompts])
        return None, self._left(prompts)

    def _prompt_head(self, prompts: Sequence[Prompt]) -> _Head:
        """The prompts' own columns, from the cache where they have run before."""
        # Not in inference mode, even when the caller is: training must be able to read these states later.
        with self._reading, torch.inference_mode(False), torch.no_grad():
            if not self._keeps:
                return self._run(self._left([Prompt(p.messages) for p in prompts]))
            ids = [tuple(self.prompt_ids(p.messages)) for p in prompts]
            self._read_shared(ids)
            self._read(ids)
            head = self._known(ids)
            self._prompts.trim()
        assert head is not None  # a prompt has tokens
        return head

    @property
    def _keeps(self) -> bool:
        return bool(self.config.prompt_cache) and not self._slides

    def _known(self, ids: Sequence[Sequence[int]]) -> _Head | None:
        """What the cache holds of the beginning of each prompt."""
        from transformers import DynamicCache

        found = self._prompts.get(ids)
        return None if found is None else _Head(DynamicCache(found[0]), found[1])

    def _read_shared(self, ids: Sequence[Sequence[int]]) -> None:
        """Run what all prompts begin with (a system message, say) once."""
        if len(set(ids)) > 1:
            shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*ids, strict=False)))
            self._read([ids[0][: shared // BLOCK * BLOCK]])

    def _read(self, ids: Sequence[Sequence[int]]) -> None:
        """Run what the cache does not hold of the prompts, and keep it."""
        missing = [row for row in dict.fromkeys(ids) if self._prompts.known(row) < len(row)]
        if missing:
            head = self._known(missing)
            left = self._pad([self.embed(row[self._prompts.known(row) :]) for row in missing])
            whole = self._run(left, head)
            self._prompts.put(missing, whole.cache, whole.mask)

    @override
    def unread(self, prompt: Prompt) -> int:
        return self.left_length(prompt) - self._prompts.known(self._kept(prompt))

    @override
    def read_ahead(self, prompt: Prompt, tokens: int) -> int:
        ids = self._kept(prompt)
        with self._reading, torch.inference_mode(False), torch.no_grad():
            upto = (self._prompts.known(ids) + tokens) // BLOCK * BLOCK
            self._read([ids[:upto]])
            self._prompts.trim()
        return self.unread(prompt)

    @override
    def forget_prompts(self) -> int:
        super().forget_prompts()
        with self._reading:
            dropped, self._prompts = self._prompts.tokens, PromptCache(self.config.prompt_cache)
        return dropped

    def _kept(self, prompt: Prompt) -> tuple[int, ...]:
        """The token ids at a prompt's beginning whose states may be kept: at least one column stands after them."""
        if not self._keeps or not (prompt.prefix is None or prompt.position == "last"):
            return ()
        ids = tuple(self.prompt_ids(prompt.messages))
        return ids[:-1] if prompt.prefix is None else ids

    def _inputs(self, left: _Left, head: _Head | None) -> dict[str, Any]:
        """Arguments that run `left` after `head`."""
        mask = left.mask if head is None else torch.cat([head.mask, left.mask], dim=1)
        return {
            "inputs_embeds": left.embeds,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)[:, -left.embeds.shape[1] :],
            "past_key_values": head.cache if head else None,
        }

    def _run(self, left: _Left, head: _Head | None = None) -> _Head:
        """Run columns without gradients and without logits."""
        with torch.no_grad():
            inputs = self._inputs(left, head)
            return _Head(self.model.base_model(**inputs, use_cache=True).past_key_values, inputs["attention_mask"])

    def _logits(self, head: _Head | None, left: _Left, targets: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Logits [b, s, v] where the target tokens are predicted, and their ids [b, s] (or PADDING)."""
        ids = pad_sequence([torch.tensor(t, dtype=torch.long) for t in targets], True, PADDING).to(self.device)
        known = ids != PADDING
        right = self.model.get_input_embeddings()(ids[:, :-1].clamp(min=0))
        columns = _Left(torch.cat([left.embeds, right], dim=1), torch.cat([left.mask, known[:, :-1].long()], dim=1))
        logits = self.model(
            **self._inputs(columns, head), use_cache=head is not None, logits_to_keep=ids.shape[1]
        ).logits
        return logits.float(), ids

    # -- what a backbone does -------------------------------------------------------------------------------------

    @override
    def _answer_logits(self, prompts: Sequence[Prompt], targets: list[list[int]]) -> tuple[Tensor, Tensor]:
        return self._logits(*self._split(prompts), targets)

    @override
    def _continue(self, prompts: Sequence[Prompt], rows: Tensor, targets: list[list[int]]) -> Tensor:
        head, left = self._split(prompts)
        if left.embeds.shape[1] > 1:
            head = self._run(_Left(left.embeds[:, :-1], left.mask[:, :-1]), head)
        if head is not None:
            head.cache.batch_select_indices(rows)
            head = _Head(head.cache, head.mask[rows])
        return picked_logprobs(*self._logits(head, _Left(left.embeds[rows, -1:], left.mask[rows, -1:]), targets))

    @override
    def begin(self, prompts: Sequence[Prompt]) -> Decoding:
        ids = [self._kept(p) for p in prompts]
        # Not in inference mode: what is kept here may be read in training.
        with self._reading, torch.inference_mode(False), torch.no_grad():
            if all(ids):
                self._read_shared(ids)
            head = self._known(ids) if any(ids) else None
            # A prompt with its prefix, less what is kept: all of a late prefix, or of a text the last token, at least.
            known = [self._prompts.known(row) for row in ids]
            left = self._pad([self._embeds(p)[n:] for p, n in zip(prompts, known, strict=True)])
            inputs = self._inputs(left, head)
            out = self.model(**inputs, use_cache=True, logits_to_keep=1)
            if known != [len(row) for row in ids]:
                mask = inputs["attention_mask"].clone()
                for row, (prompt, kept) in enumerate(zip(prompts, ids, strict=True)):
                    mask[row, mask.shape[1] - (self.left_length(prompt) - len(kept)) :] = 0
                self._prompts.put(ids, out.past_key_values, mask)
                self._prompts.trim()
        return _Rows(self.model, out, inputs["attention_mask"])


class _Rows(Decoding):
    """Rows of a growing key-value cache, left-padded: the last column of each is its newest token."""

    def __init__(self, model: Any, out: Any, mask: Tensor) -> None:
        self._model = model
        self._mask = mask  # [b, t]
        self._take(out)

    def _take(self, out: Any) -> None:
        self._cache = out.past_key_values
        self.logits = out.logits[:, -1].float()

    @override
    def step(self, tokens: Sequence[int]) -> None:
        position = self._mask.sum(-1, keepdim=True)
        self._mask = F.pad(self._mask, (0, 1), value=1)
        self._take(
            self._model(
                input_ids=torch.tensor(tokens, dtype=torch.long, device=self._mask.device)[:, None],
                attention_mask=self._mask,
                position_ids=position,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        )

    @override
    def keep(self, rows: Sequence[int]) -> None:
        at = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
        self._cache.batch_select_indices(at)
        self._mask, self.logits = self._mask[at], self.logits[at]
        empty = int(self._mask.any(0).int().argmax())  # columns that only longer rows had
        if not any(layer.is_sliding for layer in self._cache.layers):
            self._mask = self._mask[:, empty:]
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]

    @override
    def join(self, other: Self) -> None:
        for mine, its in zip(self._cache.layers, other._cache.layers, strict=True):
            mine.keys, mine.values = _stacked(mine.keys, its.keys, 2), _stacked(mine.values, its.values, 2)
            if mine.is_sliding:
                mine.cumulative_length = max(mine.cumulative_length, its.cumulative_length)
        self._mask = _stacked(self._mask, other._mask, 1)
        self.logits = torch.cat([self.logits, other.logits])


def _stacked(above: Tensor, below: Tensor, dim: int) -> Tensor:
    """The rows of both, zeros in front of the shorter ones along `dim`."""
    longest = max(above.shape[dim], below.shape[dim])
    pads = [(0, 0) * (x.ndim - 1 - dim) + (longest - x.shape[dim], 0) for x in (above, below)]
    return torch.cat([F.pad(x, pad) for x, pad in zip((above, below), pads, strict=True)])
