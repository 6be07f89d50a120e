"""Any decoder-only language model of transformers, frozen, with soft tokens through `inputs_embeds`.

Tokens and settings are here; the arithmetic is `local/causal_model`, and what of it a model allows is measured when it
is loaded (`local/conformance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from typing_extensions import override

from personaplug import models
from personaplug.backbones.local import conformance
from personaplug.backbones.local.base import InProcessBackbone, load_pretrained
from personaplug.backbones.local.causal_model import CausalModel, Row, Support
from personaplug.backbones.local.chat import chat_text
from personaplug.backbones.local.generation import Decoding
from personaplug.backbones.local.positions import longrope_boundary
from personaplug.core.errors import MismatchError
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
        prompt_cache: bytes of prompts' key-value states stored for a late persona (about 23 kB a token for
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


class CausalBackbone(InProcessBackbone):
    """A frozen decoder-only model from a bundle, a folder or a hub.

    Raises:
        ModelError: the weights cannot be loaded, or no way to run the model gives what its own plain forward gives.
    """

    Config = CausalConfig
    summary = "any Hugging Face decoder-only model, in this process; text and soft tokens"
    source = "transformers AutoModelForCausalLM"
    accepts = Conditioning.TEXT | Conditioning.PREFIX
    supports_batching = True

    def __init__(self, config: CausalConfig) -> None:
        from transformers import AutoModelForCausalLM

        resolved = models.resolve(config.model)
        device = pick_device(config.device)
        # On a CPU, the fused kernel's backward takes longer than the plain one at these lengths (1.2 to 1.9 times).
        attention = {"attn_implementation": "eager"} if device == "cpu" else {}
        dtype = pick_dtype(config.dtype, device)
        model, tokenizer = load_pretrained(AutoModelForCausalLM, resolved, dtype, **attention)
        model.to(device)
        head = model.get_output_embeddings()
        if head is not None:
            # `logits_to_keep` hands the head a strided slice, for which torch copies the whole head once a row.
            head.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
        key = f"causal:{resolved.identity}"
        self._model = CausalModel(model, config.prompt_cache, longrope_boundary(model.config))
        conformance.check(self._model, key)
        super().__init__(key, model, tokenizer, config.batch_tokens, config.checkpointing)
        self.config = config

    @property
    def support(self) -> Support:
        """What the model's arithmetic allows."""
        return self._model.support

    @override
    def _text(self, messages: Sequence[Message]) -> str:
        return chat_text(self.tokenizer, messages)

    def _row(self, prompt: Prompt) -> Row:
        prefix = None if prompt.prefix is None else self.soft(prompt)
        return Row(tuple(self.prompt_ids(prompt.messages)), prefix, prompt.position)

    def _rows(self, prompts: Sequence[Prompt]) -> list[Row]:
        return [self._row(prompt) for prompt in prompts]

    # -- what a backbone does -------------------------------------------------------------------------------------

    @override
    def token_logprobs(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> tuple[Tensor, Tensor]:
        if not self.support.training and any(getattr(p.prefix, "requires_grad", False) for p in prompts):
            raise MismatchError(
                f"backbone {self.key!r} cannot train soft tokens: gradients do not pass through this family "
                f"({self.model.config.model_type}); choose another model, or a method of text"
            )
        return super().token_logprobs(prompts, targets)

    @override
    def _answer_logits(self, prompts: Sequence[Prompt], targets: list[list[int]]) -> tuple[Tensor, Tensor]:
        return self._model.target_logits(self._rows(prompts), targets)

    @override
    def _continue(self, prompts: Sequence[Prompt], rows: Tensor, targets: list[list[int]]) -> Tensor:
        return self._model.continue_logprobs(self._rows(prompts), rows, targets)

    @override
    def prefill(self, prompts: Sequence[Prompt], limits: Sequence[int] | None = None) -> Decoding:
        return self._model.prefill(self._rows(prompts), limits)

    @override
    def uncached_tokens(self, prompt: Prompt, limit: int | None = None) -> int:
        return self._model.uncached_tokens(self._row(prompt), limit)

    @override
    def prefill_chunk(self, prompt: Prompt, tokens: int, limit: int | None = None) -> int:
        return self._model.prefill_chunk(self._row(prompt), tokens, limit)

    @override
    def forget_prompts(self) -> int:
        super().forget_prompts()
        return self._model.forget()
