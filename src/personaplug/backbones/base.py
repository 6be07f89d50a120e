"""What every frozen language model does. k: prefix tokens, d: the model's width, b: batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from personaplug.core.errors import MismatchError
from personaplug.core.types import Completion, Conditioning, Prompt, Sampling, Scored

if TYPE_CHECKING:
    import torch


class Backbone(ABC):
    """A frozen language model. Built as `Backbone(config, **parts)`.

    Users may be mixed freely in one batch: each prompt gives what it gives alone.
    """

    Config: ClassVar[type[Any]]
    summary: ClassVar[str]
    source: ClassVar[str]
    accepts: ClassVar[Conditioning]
    scores: ClassVar[bool] = True  # whether it gives log-probabilities of given continuations
    shapes_logits: ClassVar[bool] = False  # whether it decodes by its own logits: persona strength, repetition rules

    key: str
    """Identity of the weights: an artifact trained against another key is refused."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """One answer a prompt, in order."""

    def draw(self, prompts: Sequence[Prompt], samplings: Sequence[Sampling]) -> list[list[Completion]]:
        """For each way of sampling, one answer a prompt: candidates to choose from."""
        return [self.generate(prompts, sampling) for sampling in samplings]

    @abstractmethod
    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[str]:
        """Pieces of the answer as they come; joined they equal `generate`'s text."""

    def follow(self, prompt: Prompt, sampling: Sampling) -> Iterator[str | Completion]:
        """The same pieces, and at last the whole answer."""
        text = ""
        for piece in self.stream(prompt, sampling):
            text += piece
            yield piece
        yield self.counted(prompt, sampling, text)

    def counted(self, prompt: Prompt, sampling: Sampling, text: str) -> Completion:
        """An answer of which only the text is known; its ids are numbers, and how it ended is judged by its length."""
        size = self.count(text)
        read = sum(self.count(m.content) for m in prompt.messages)
        return Completion(text, tuple(range(size)), read, "length" if size >= sampling.max_tokens else "stop")

    @abstractmethod
    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        """Sum of log-probabilities (nats) of each continuation after its prompt, without the end-of-turn token."""

    @abstractmethod
    def count(self, text: str) -> int:
        """Number of tokens of a text."""

    @abstractmethod
    def cut(self, text: str, tokens: int) -> str:
        """The text's first `tokens` tokens as text; the text itself where it is no longer."""

    def forget_prompts(self) -> int:
        """Drop what it keeps of prompts to read them faster another time; returns of how many tokens that was.

        May be called from any thread, also while another one runs it.
        """
        return 0

    def check(self, needs: Conditioning, what: str) -> None:
        """Refuse a method whose prompts this backbone cannot take.

        Raises:
            MismatchError: names both and what is missing.
        """
        missing = needs & ~self.accepts
        if missing:
            raise MismatchError(
                f"{what} needs {needs}, but backbone {self.key!r} accepts only {self.accepts}; "
                "choose a backbone that takes soft tokens (causal, seq2seq, vllm) or a text method"
            )

    def check_sampling(self, sampling: Sampling) -> None:
        """Refuse a way of decoding that this backbone cannot do.

        Raises:
            MismatchError: names what is asked for, the backbone and the way out.
        """
        plain = Sampling()
        for name in ("strength", "no_repeat_ngram", "repetition_penalty"):
            value = getattr(sampling, name)
            if not self.shapes_logits and value != getattr(plain, name):
                raise MismatchError(
                    f"{name} = {value} needs the logits of each token, which backbone {self.key!r} does not give; "
                    f"leave {name} at {getattr(plain, name)}, or use a backbone in this process (causal, seq2seq)"
                )

    def check_scores(self, what: str) -> None:
        """Refuse what compares likelihoods where this backbone gives none.

        Raises:
            MismatchError: names both and the way out.
        """
        if not self.scores:
            raise MismatchError(
                f"{what} needs log-probabilities, which backbone {self.key!r} does not give: compare generated answers "
                "of a text task (personaplug predict, personaplug score), or use a backbone in this process (causal)"
            )


class SoftBackbone(Backbone):
    """A backbone that reads soft tokens, and knows its own token embeddings."""

    device: torch.device
    """Where its embeddings are; prefixes are moved there."""
    width: int
    """d."""
    token_norm: float
    """Mean L2 norm of the token embeddings: the scale that a soft token should have."""

    @abstractmethod
    def words(self, text: str) -> torch.Tensor:
        """The model's own embeddings [n, d] of a text's tokens."""


class TrainableBackbone(SoftBackbone):
    """A backbone through which gradients flow to the prefix; its own weights never change."""

    @abstractmethod
    def token_logprobs(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [b, s] of each target's tokens (0 at padding) with its end-of-turn token, and counts [b].

        Gradients flow to the prefixes.
        """

    def loss(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> torch.Tensor:
        """Next-token negative log-likelihood of each target (with its end-of-turn token), mean over its tokens: [b]."""
        logprobs, counts = self.token_logprobs(prompts, targets)
        return -logprobs.sum(-1) / counts

    @abstractmethod
    def lengths(self, prompts: Sequence[Prompt], targets: Sequence[str]) -> list[int]:
        """Number of tokens of each prompt with its target, prefix included: what batches are bucketed by."""
