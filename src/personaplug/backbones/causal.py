"""Any decoder-only language model of transformers, frozen, with soft tokens through `inputs_embeds`.

    position first:  [ prefix ; prompt ] | target          position last:  [ prompt ; prefix ] | target
                      left-padded          right-padded                     left-padded          right-padded

Everything left of the bar ends in the same column for every row, so users with different histories and prompts of
different lengths share a batch. With `last`, the prompt runs without gradients and only the prefix and the target
keep activations.

Shapes: b: rows, t: columns left of the bar, s: target columns, k: prefix tokens, d: the model's width, v: vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from personaplug import models
from personaplug.backbones.base import TrainableBackbone
from personaplug.decoding import Choice, visible_text
from personaplug.devices import pick_device, pick_dtype
from personaplug.errors import DataError, ModelError
from personaplug.prompt_cache import PromptCache
from personaplug.types import Completion, Message, Needs, Prompt, Sampling, Scored

_REMEMBERED = 50_000  # tokenized conversations kept: a training set's worth


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
    """

    model: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_tokens: int = 8192
    prompt_cache: int = 4 << 30


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


class CausalBackbone(TrainableBackbone):
    """A frozen decoder-only model from a bundle, a folder or a hub."""

    Config = CausalConfig
    summary = "any Hugging Face decoder-only model, in this process; text and soft tokens"
    source = "transformers AutoModelForCausalLM"
    accepts = Needs.TEXT | Needs.PREFIX

    def __init__(self, config: CausalConfig) -> None:
        found = models.resolve(config.model)
        self.config = config
        self.key = f"causal:{found.identity}"
        self.device = torch.device(pick_device(config.device))
        dtype = pick_dtype(config.dtype, self.device.type)
        # On a CPU, the fused kernel's backward takes 1.5 times as long as the plain one at these lengths.
        attention = "eager" if self.device.type == "cpu" else "sdpa"
        self.model, self.tokenizer = load_causal(found.location, dtype, attention)
        self.model.to(self.device)
        self.dtype = dtype
        # `logits_to_keep` hands the head a strided slice, for which torch copies the whole head once a row (b x v x d).
        self.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(),))
        embedding = self.model.get_input_embeddings()
        self.width = int(embedding.weight.shape[1])
        self.token_norm = mean_token_norm(embedding)
        self._slides = any(t != "full_attention" for t in getattr(self.model.config, "layer_types", None) or ())
        self.context = int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)
        ends = self.model.generation_config.eos_token_id
        self._ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._prompts: PromptCache[tuple[Message, ...]] = PromptCache(config.prompt_cache)
        self._remembered: dict[tuple[Message, ...], list[int]] = {}

    # -- tokens ---------------------------------------------------------------------------------------------------

    def prompt_ids(self, messages: tuple[Message, ...]) -> list[int]:
        """Token ids of a conversation up to where the answer begins."""
        ids = self._remembered.get(messages)
        if ids is None:
            special = not self.tokenizer.chat_template
            ids = list(self.tokenizer(self._text(messages), add_special_tokens=special).input_ids)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[messages] = ids
        return ids

    def _text(self, messages: tuple[Message, ...]) -> str:
        if not self.tokenizer.chat_template:
            return "\n\n".join(m.content for m in messages) + "\n\n"
        chat = [{"role": m.role, "content": m.content} for m in messages]
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def target_ids(self, target: str, end: bool) -> list[int]:
        """Token ids of an answer, with the end-of-turn token if `end`."""
        ids = list(self.tokenizer(target, add_special_tokens=False).input_ids)
        return [*ids, self.tokenizer.eos_token_id] if end else ids

    @override
    def lengths(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> list[int]:
        return [self._left_length(p) + len(self.target_ids(t, end=True)) for p, t in zip(prompts, targets, strict=True)]

    def _left_length(self, prompt: Prompt) -> int:
        return len(self.prompt_ids(prompt.messages)) + (0 if prompt.prefix is None else len(prompt.prefix))

    # -- the two sides of the bar ---------------------------------------------------------------------------------

    def _embed(self, ids: list[int]) -> Tensor:
        return self.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long, device=self.device))

    def _left(self, prompts: Sequence[Prompt]) -> _Left:
        rows = []
        for prompt in prompts:
            length = self._left_length(prompt)
            if length >= self.context:
                raise DataError(
                    f"a prompt has {length} tokens, but {self.key!r} reads at most {self.context}; shorten the messages"
                )
            embeds = self._embed(self.prompt_ids(prompt.messages))
            if prompt.prefix is not None:
                prefix = self._prefix(prompt)
                embeds = torch.cat([prefix, embeds] if prompt.position == "first" else [embeds, prefix])
            rows.append(embeds)
        return self._pad(rows)

    def _prefix(self, prompt: Prompt) -> Tensor:
        return torch.as_tensor(prompt.prefix).to(self.device, self.dtype)

    def _pad(self, rows: list[Tensor]) -> _Left:
        mask = pad_sequence([torch.ones(len(r), dtype=torch.long) for r in rows], True, 0, "left").to(self.device)
        return _Left(pad_sequence(rows, True, 0.0, "left"), mask)

    def _split(self, prompts: Sequence[Prompt]) -> tuple[_Head | None, _Left]:
        """What has run already and what has not: with a late persona, only the prefix has not."""
        if all(p.prefix is not None and p.position == "last" for p in prompts):
            return self._prompt_head(prompts), self._pad([self._prefix(p) for p in prompts])
        return None, self._left(prompts)

    def _prompt_head(self, prompts: Sequence[Prompt]) -> _Head:
        """The prompts' own columns, from the cache where they have run before."""
        from transformers import DynamicCache

        keys = [p.messages for p in prompts]
        # Not in inference mode, even when the caller is: training must be able to read these states later.
        with torch.inference_mode(False), torch.no_grad():
            if not self.config.prompt_cache or self._slides:
                return self._run(self._left([Prompt(k) for k in keys]))
            if missing := self._prompts.missing(keys):
                head = self._run(self._left([Prompt(k) for k in missing]))
                self._prompts.put(missing, head.cache, head.mask)
            states, mask = self._prompts.get(keys)
            self._prompts.trim()
            return _Head(DynamicCache(states), mask)

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

    def _logprobs(self, head: _Head | None, left: _Left, targets: list[list[int]]) -> Tensor:
        """Log-probabilities [b, s] of the target tokens (0 at padding) after `head`, which has run, and `left`."""
        ids = pad_sequence([torch.tensor(t, dtype=torch.long) for t in targets], True, -1).to(self.device)
        known = ids >= 0
        right = self.model.get_input_embeddings()(ids[:, :-1].clamp(min=0))
        columns = _Left(torch.cat([left.embeds, right], dim=1), torch.cat([left.mask, known[:, :-1].long()], dim=1))
        logits = self.model(
            **self._inputs(columns, head), use_cache=head is not None, logits_to_keep=ids.shape[1]
        ).logits  # [b, s, v]
        picked = -F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), ignore_index=-1, reduction="none")
        return picked.view(ids.shape)

    # -- what a backbone does -------------------------------------------------------------------------------------

    @override
    def loss(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> Tensor:
        ids = [self.target_ids(t, end=True) for t in targets]
        head, left = self._split(prompts)
        counts = torch.tensor([len(i) for i in ids], device=self.device)
        return -self._logprobs(head, left, ids).sum(-1) / counts

    @override
    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        ids = [self.target_ids(c, end=False) for c in continuations]
        if empty := next((i for i, t in enumerate(ids) if not t), None) is not None:
            raise DataError(f"continuation {empty} is empty: there is nothing to score")
        lengths = [self._left_length(p) + len(i) for p, i in zip(prompts, ids, strict=True)]
        out: list[Scored] = [Scored(0.0, 0)] * len(ids)
        for batch in self._batches(lengths):
            # Options of one request share its prompt: it runs once.
            unique = {id(prompts[i]): prompts[i] for i in batch}
            at = {key: row for row, key in enumerate(unique)}
            rows = torch.tensor([at[id(prompts[i])] for i in batch], device=self.device)
            head, left = self._split(list(unique.values()))
            if left.embeds.shape[1] > 1:
                head = self._run(_Left(left.embeds[:, :-1], left.mask[:, :-1]), head)
            if head is not None:
                head.cache.batch_select_indices(rows)
                head = _Head(head.cache, head.mask[rows])
            last = _Left(left.embeds[rows, -1:], left.mask[rows, -1:])
            sums = self._logprobs(head, last, [ids[i] for i in batch]).sum(-1)
            for i, total in zip(batch, sums.tolist(), strict=True):
                out[i] = Scored(total, len(ids[i]))
        return out

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Indices in batches of at most `batch_tokens`, padding included; neighbours in length stand together."""
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            if batch and (len(batch) + 1) * lengths[i] > self.config.batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    @override
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        lengths = [self._left_length(p) + sampling.max_tokens for p in prompts]
        out: dict[int, Completion] = {}
        for batch in self._batches(lengths):
            choices = [Choice(sampling, self._ends) for _ in batch]
            for _ in self._decode([prompts[i] for i in batch], choices):
                pass
            for i, choice in zip(batch, choices, strict=True):
                text = visible_text(self._detokenize(choice.tokens), sampling.stop)
                out[i] = Completion(text, tuple(choice.tokens), self._left_length(prompts[i]), choice.finish)
        return [out[i] for i in range(len(prompts))]

    @override
    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        choice, sent = Choice(sampling, self._ends), 0
        for _ in self._decode([prompt], [choice]):
            text = visible_text(self._detokenize(choice.tokens), sampling.stop, final=choice.done)
            if len(text) > sent:
                yield text[sent:]
                sent = len(text)

    def _detokenize(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    @torch.inference_mode()
    def _step(self, **inputs: Any) -> tuple[Tensor, Any]:
        out = self.model(**inputs, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].float(), out.past_key_values  # [b, v]

    def _decode(self, prompts: Sequence[Prompt], choices: list[Choice]) -> Iterator[None]:
        """Extend every choice by a token at each step until all are done; each row draws from its own generator."""
        with torch.inference_mode():
            head, left = self._split(prompts)
            inputs = self._inputs(left, head)
        mask, last = inputs["attention_mask"], inputs["position_ids"][:, -1:]
        logits, cache = self._step(**inputs)
        while True:
            tokens = [c.take(logits[row]) for row, c in enumerate(choices)]
            for choice in choices:
                if not choice.done and choice.sampling.stop:
                    choice.check_stop(self._detokenize(choice.tokens))
            yield
            if all(c.done for c in choices):
                return
            mask = F.pad(mask, (0, 1), value=1)
            last = last + 1
            ids = torch.tensor(tokens, dtype=torch.long, device=self.device)[:, None]
            logits, cache = self._step(input_ids=ids, attention_mask=mask, position_ids=last, past_key_values=cache)


@torch.no_grad()
def mean_token_norm(embedding: Any) -> float:
    """Mean L2 norm of what the embedding layer returns for each token (some models scale inside it)."""
    vocabulary = torch.arange(embedding.weight.shape[0], device=embedding.weight.device)
    return float(torch.cat([embedding(ids).float().norm(dim=-1) for ids in vocabulary.split(8192)]).mean())


def load_causal(location: str, dtype: torch.dtype, attention: str = "sdpa") -> tuple[Any, Any]:
    """A frozen model and its tokenizer from a folder or a hub id.

    Raises:
        ModelError: the weights cannot be loaded; names the model and the cause.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        model = AutoModelForCausalLM.from_pretrained(location, dtype=dtype, attn_implementation=attention)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {location!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    finally:
        if bars:
            logging.enable_progress_bar()
    model.requires_grad_(False).eval()
    return model, tokenizer
