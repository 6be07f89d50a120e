"""What backbones that run in this process share: batches, scoring, decoding.

Shapes: b: rows, s: target columns, v: vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from personaplug.backbones.base import TrainableBackbone
from personaplug.backbones.local.generation import Choice, Decoding, RunningBatch, visible_text
from personaplug.backbones.local.positions import context_length
from personaplug.backbones.local.tokens import TokenizedBackbone
from personaplug.core.errors import DataError
from personaplug.core.sequences import token_batches
from personaplug.core.types import Completion, Prompt, Sampling, Scored, TokenLogprob
from personaplug.models import ResolvedModel
from personaplug.models.allocator import limit_kernel_cache
from personaplug.models.loading import loading

PADDING = -100  # in the place of a target token's id


class InProcessBackbone(TokenizedBackbone, TrainableBackbone):
    """A frozen transformers model on this machine.

    Args:
        key: identity of the weights.
        model: the loaded model, on its device.
        tokenizer: its tokenizer.
        batch_tokens: batches are filled up to this many tokens, padding included.
        checkpointing: while training, keep only what each layer was given and compute the rest again on the way back
            (arXiv 1604.06174): about a third more time, and the memory of one layer's activations in place of all.
    """

    config: Any

    def __init__(self, key: str, model: Any, tokenizer: Any, batch_tokens: int, checkpointing: bool = False) -> None:
        self.model = model.requires_grad_(False).eval()
        super().__init__(key, tokenizer, model.get_input_embeddings(), model.dtype, context_length(model))
        self.batch_tokens = batch_tokens
        ends = model.generation_config.eos_token_id
        self._ends = {self.end_of_turn, tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self.run_by: Callable[[Sequence[Prompt], Sequence[Sampling]], list[Completion]] | None = None
        """What runs this model for everybody; while it is set, `generate` asks there."""
        if checkpointing:
            _checkpoint_layers(model)

    # -- tokens ---------------------------------------------------------------------------------------------------

    def target_ids(self, target: str) -> list[int]:
        """Token ids of an answer with the end-of-turn token, where the model has one.

        Raises:
            DataError: an empty answer of a model without one.
        """
        ids = [*self.text_ids(target), *([] if self.end_of_turn is None else [self.end_of_turn])]
        if not ids:
            raise DataError(f"an answer is empty, and {self.key!r} has no end-of-turn token: nothing to learn")
        return ids

    def continuation_ids(self, continuations: Sequence[str]) -> list[list[int]]:
        """Token ids of each continuation, without the end-of-turn token.

        Raises:
            DataError: a continuation has no token.
        """
        ids = [self.text_ids(c) for c in continuations]
        empty = next((i for i, row in enumerate(ids) if not row), None)
        if empty is not None:
            raise DataError(f"continuation {continuations[empty]!r} (number {empty}) has no token: nothing to score")
        return ids

    @override
    def lengths(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> list[int]:
        return [self.left_length(p) + len(self.target_ids(t)) for p, t in zip(prompts, targets, strict=True)]

    # -- training -------------------------------------------------------------------------------------------------

    @abstractmethod
    def _answer_logits(self, prompts: Sequence[Prompt], targets: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Logits [b, s, v] where each prompt's target tokens are predicted, and their ids [b, s] (or PADDING)."""

    @override
    def token_logprobs(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = [self.target_ids(t) for t in targets]
        for prompt, row in zip(prompts, ids, strict=True):
            self._check_context(prompt, len(row))
        counts = torch.tensor([len(i) for i in ids], device=self.device)
        return picked_logprobs(*self._answer_logits(prompts, ids)), counts

    # -- scoring ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _continue(self, prompts: Sequence[Prompt], rows: Tensor, targets: list[list[int]]) -> Tensor:
        """Log-probabilities [b, s] of target tokens (0 at padding); the i-th target continues prompt `rows[i]`."""

    @override
    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        ids = self.continuation_ids(continuations)
        for prompt, row in zip(prompts, ids, strict=True):
            self._check_context(prompt, len(row))
        # A target token's logits weigh about as much as eight tokens' states.
        # Prompts of text alone are the same for everybody who asks the same; those with soft tokens are each their own.
        same = [p.messages if p.prefix is None else id(p) for p in prompts]
        first: dict[tuple[object, str], int] = {}
        for i, pair in enumerate(zip(same, continuations, strict=True)):
            first.setdefault(pair, i)
        asked = list(first.values())
        lengths = [max(self.left_length(prompts[i]) + len(ids[i]), 8 * len(ids[i])) for i in asked]
        scores: dict[int, Scored] = {}
        for places in token_batches(lengths, self.batch_tokens):
            batch = [asked[place] for place in places]
            # Options of one request share its prompt: it runs once.
            unique = {same[i]: prompts[i] for i in batch}
            at = {key: row for row, key in enumerate(unique)}
            rows = torch.tensor([at[same[i]] for i in batch], device=self.device)
            sums = self._continue(list(unique.values()), rows, [ids[i] for i in batch]).sum(-1)
            scores |= {i: Scored(total, len(ids[i])) for i, total in zip(batch, sums.tolist(), strict=True)}
        return [scores[first[pair]] for pair in zip(same, continuations, strict=True)]

    # -- decoding -------------------------------------------------------------------------------------------------

    shapes_logits = True
    supports_batching: ClassVar[bool]
    """Whether prompts can join others that are being decoded."""

    @abstractmethod
    def prefill(self, prompts: Sequence[Prompt], limits: Sequence[int] | None = None) -> Decoding:
        """Read prompts, without gradients; `limits`: tokens that each answer may have (None: any number)."""

    def uncached_tokens(self, prompt: Prompt, limit: int | None = None) -> int:
        """Number of a prompt's tokens that must be read before its answer, of at most `limit` tokens, begins."""
        del limit
        return self.left_length(prompt)

    def prefill_chunk(self, prompt: Prompt, tokens: int, limit: int | None = None) -> int:
        """Read at most `tokens` of a long prompt and store their states, where they can be; what is then uncached.

        So that it is read piece by piece between the steps of the answers that are being decoded.
        """
        del tokens
        return self.uncached_tokens(prompt, limit)

    def running(self) -> RunningBatch:
        """An empty batch of answers of this model."""
        return RunningBatch(self.prefill, self._detokenize)

    def choice(self, sampling: Sampling, top: int | None = None) -> Choice:
        """An answer that has no token yet; `top`: note log-probabilities too."""
        return Choice(sampling, self._ends, top)

    def fit(self, choice: Choice, prompt: Prompt) -> int:
        """End an answer where the model's context does; returns how many tokens its rows hold at most.

        Raises:
            DataError: the prompt with its prefix is longer than the context.
        """
        self._check_context(prompt, 0)
        left = self.left_length(prompt)
        choice.limit = min(choice.sampling.max_tokens, max(self.context - left, 1))
        return (left + choice.limit) * _rows(prompt, choice.sampling)

    def _check_context(self, prompt: Prompt, answer: int) -> None:
        left = self.left_length(prompt)
        # The last token of an answer is predicted and not read.
        if left + max(answer - 1, 0) > self.context:
            soft = 0 if prompt.prefix is None else len(prompt.prefix)
            then = f" and an answer of {answer}" if answer else ""
            raise DataError(
                f"a prompt of {left - soft} tokens with {soft} soft tokens{then} is longer than {self.key!r} reads, "
                f"{self.context} tokens; shorten it"
            )

    def completion(self, prompt: Prompt, choice: Choice) -> Completion:
        """The answer as it is now."""
        text = visible_text(self._detokenize(choice.tokens), choice.sampling.stop)
        return Completion(text, tuple(choice.tokens), self.left_length(prompt), choice.finish_reason)

    def visible(self, choice: Choice) -> str:
        """How much of a growing answer may be shown."""
        return visible_text(self._detokenize(choice.tokens), choice.sampling.stop, final=choice.done)

    def logprobs(self, choice: Choice, shown: int) -> list[TokenLogprob]:
        """What was noted of the tokens that an answer's first `shown` characters are made of."""
        count = len(choice.tokens)
        while count and len(self._detokenize(choice.tokens[: count - 1])) >= shown:
            count -= 1

        def spelled(token: int) -> str:
            return str(self.tokenizer.decode([token]))

        return [
            TokenLogprob(spelled(token), nats, tuple((spelled(t), n) for t, n in top))
            for token, (nats, top) in zip(choice.tokens[:count], choice.noted, strict=False)
        ]

    @override
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        if self.run_by is not None:
            return self.run_by(prompts, [sampling] * len(prompts))
        choices = [self.choice(sampling) for _ in prompts]
        lengths = [self.fit(choice, prompt) for choice, prompt in zip(choices, prompts, strict=True)]
        if sampling.max_tokens > 0:
            for batch in token_batches(lengths, self.batch_tokens):
                running = self.running()
                running.admit([prompts[i] for i in batch], [choices[i] for i in batch])
                while not all(choice.done for choice in running.choices):
                    running.step()
        return [self.completion(p, c) for p, c in zip(prompts, choices, strict=True)]

    @override
    def draw(self, prompts: Sequence[Prompt], samplings: Sequence[Sampling]) -> list[list[Completion]]:
        if self.run_by is None:
            return super().draw(prompts, samplings)
        size = len(prompts)
        answers = self.run_by([*prompts] * len(samplings), [s for s in samplings for _ in prompts])
        return [answers[at : at + size] for at in range(0, len(answers), size)]

    @override
    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        choice, running, sent = self.choice(sampling), self.running(), 0
        self.fit(choice, prompt)
        while not choice.done:
            if choice.tokens:
                running.step()
            else:
                running.admit([prompt], [choice])
            text = self.visible(choice)
            if len(text) > sent:
                yield text[sent:]
                sent = len(text)

    def _detokenize(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def _rows(prompt: Prompt, sampling: Sampling) -> int:
    """How many rows of a batch an answer takes."""
    return 2 if prompt.unconditional is not None and sampling.strength != 1.0 else 1


def _checkpoint_layers(model: Any) -> None:
    """Let each layer keep only its inputs where gradients flow through it and it fills no cache.

    Not transformers' own switch: that asks for a model in training mode, whose dropout would be on.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    def checkpointed(forward: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            if torch.is_grad_enabled() and args[0].requires_grad and kwargs.get("past_key_values") is None:
                return checkpoint(forward, *args, use_reentrant=False, **kwargs)
            return forward(*args, **kwargs)

        return run

    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.forward = checkpointed(layer.forward)


def picked_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities [b, s] of the tokens of those ids [b, s], 0 at PADDING, by logits [b, s, v]."""
    nats = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), ignore_index=PADDING, reduction="none")
    return -nats.view(ids.shape)


def load_pretrained(auto: Any, resolved: ResolvedModel, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """A frozen model of a transformers Auto class and its tokenizer, from where `models.resolve` names them.

    Raises:
        ModelError: the weights, their configuration or the tokenizer cannot be loaded; names the model and the cause.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    limit_kernel_cache()
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with loading(resolved):
            tokenizer = AutoTokenizer.from_pretrained(resolved.location, revision=resolved.revision)
            model, info = auto.from_pretrained(
                resolved.location, revision=resolved.revision, dtype=dtype, output_loading_info=True, **options
            )
            if missing := sorted(info["missing_keys"]):
                raise ValueError(f"it has no weight {missing[0]!r} ({len(missing)} are missing)")
    finally:
        if bars:
            logging.enable_progress_bar()
    model.requires_grad_(False).eval()
    return model, tokenizer
