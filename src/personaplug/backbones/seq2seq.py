"""Any encoder-decoder model of transformers (the T5 family), frozen, with soft tokens in front of the encoder's input.

    encoder: [ prefix ; input ] right-padded        decoder: start | target right-padded

Shapes: b: rows, s: target columns, k: prefix tokens, d: the model's width, v: vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from personaplug import models
from personaplug.backbones.local.base import PADDING, InProcessBackbone, load_pretrained, picked_logprobs
from personaplug.backbones.local.generation import Decoding
from personaplug.core.errors import MismatchError
from personaplug.core.types import Conditioning, Message, Prompt
from personaplug.models.devices import pick_device, pick_dtype


@dataclass(frozen=True, slots=True)
class Seq2SeqConfig:
    """Which model and how it runs.

    Attributes:
        model: a folder or a hub id.
        dtype: `auto` is bfloat16 where the device computes in it, else float32.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        batch_tokens: batches are filled up to this many tokens, padding included.
        checkpointing: compute a layer's activations twice instead of keeping them while training: a third more time,
            much less memory; for long prompts.
    """

    model: str = "google/flan-t5-base"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_tokens: int = 8192
    checkpointing: bool = False


class Seq2SeqBackbone(InProcessBackbone):
    """A frozen encoder-decoder model; the persona stands first, as in the paper."""

    Config = Seq2SeqConfig
    summary = "any Hugging Face encoder-decoder model (T5, FLAN-T5), in this process; text and soft tokens"
    source = "transformers AutoModelForSeq2SeqLM; the family that arXiv 2409.11901 uses"
    accepts = Conditioning.TEXT | Conditioning.PREFIX
    supports_batching = False

    def __init__(self, config: Seq2SeqConfig) -> None:
        from transformers import AutoModelForSeq2SeqLM

        resolved = models.resolve(config.model)
        device = pick_device(config.device)
        model, tokenizer = load_pretrained(AutoModelForSeq2SeqLM, resolved, pick_dtype(config.dtype, device))
        super().__init__(
            f"seq2seq:{resolved.identity}", model.to(device), tokenizer, config.batch_tokens, config.checkpointing
        )
        self.config = config

    @override
    def _text(self, messages: Sequence[Message]) -> str:
        return "\n".join(m.content for m in messages)

    def _encode(self, prompts: Sequence[Prompt]) -> tuple[Any, Tensor]:
        """The encoder's states and their mask; gradients flow to the prefixes."""
        rows = []
        for prompt in prompts:
            if prompt.prefix is not None and prompt.position != "first":
                raise MismatchError(
                    f"position {prompt.position!r}: an encoder-decoder model has no place right before the answer; "
                    "set position = 'first'"
                )
            embeds = self.embed(self.prompt_ids(prompt.messages))
            rows.append(embeds if prompt.prefix is None else torch.cat([self.soft(prompt), embeds]))
        mask = pad_sequence([torch.ones(len(r), dtype=torch.long) for r in rows], True, 0).to(self.device)
        encoder = self.model.get_encoder()
        return encoder(inputs_embeds=pad_sequence(rows, True, 0.0), attention_mask=mask), mask

    @override
    def _answer_logits(
        self, prompts: Sequence[Prompt], targets: list[list[int]], rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Also for targets of which `rows` says which prompt each answers."""
        states, mask = self._encode(prompts)
        if rows is not None:
            states.last_hidden_state, mask = states.last_hidden_state[rows], mask[rows]
        labels = pad_sequence([torch.tensor(t, dtype=torch.long) for t in targets], True, PADDING).to(self.device)
        return self.model(encoder_outputs=states, attention_mask=mask, labels=labels).logits.float(), labels

    @override
    def _continue(self, prompts: Sequence[Prompt], rows: Tensor, targets: list[list[int]]) -> Tensor:
        return picked_logprobs(*self._answer_logits(prompts, targets, rows))

    @override
    def prefill(self, prompts: Sequence[Prompt], limits: Sequence[int] | None = None) -> Decoding:
        del limits
        states, mask = self._encode(prompts)
        return _Rows(self.model, states, mask)


class _Rows(Decoding):
    """Rows of a decoder beside what their encoder said of the prompts."""

    def __init__(self, model: Any, states: Any, mask: Tensor) -> None:
        self._model, self._states, self._mask = model, states, mask
        self._cache: Any = None
        self.step([model.config.decoder_start_token_id] * len(mask))

    @override
    def step(self, tokens: Sequence[int]) -> None:
        out = self._model(
            encoder_outputs=self._states,
            attention_mask=self._mask,
            decoder_input_ids=torch.tensor(tokens, dtype=torch.long, device=self._mask.device)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = out.past_key_values
        self.logits = out.logits[:, -1].float()

    @override
    def select(self, rows: Sequence[int]) -> None:
        at = torch.tensor(rows, dtype=torch.long, device=self._mask.device)
        self._cache.batch_select_indices(at)
        self._states.last_hidden_state = self._states.last_hidden_state[at]
        self._mask, self.logits = self._mask[at], self.logits[at]

    @override
    def concat(self, other: Self) -> None:
        raise NotImplementedError("relative positions count columns: rows of different starts cannot run together")
