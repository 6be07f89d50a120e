"""Answers while they are being decoded: which token next, when each ends, how much may be shown, who runs together.

b: rows, v: vocabulary.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor

from personaplug.core.types import Prompt, Sampling

PLAUSIBLE = 0.05
"""Share of the likeliest token's probability that a token needs where a persona is exaggerated (arXiv 2210.15097)."""

_UNFINISHED = "\ufffd"  # what an incomplete UTF-8 sequence decodes to


class Choice:
    """Draws the tokens of one answer; its own generator makes it independent of its neighbours in a batch.

    Args:
        sampling: how they are drawn.
        ends: tokens that end an answer.
        top: with each token, note its log-probability (nats, at temperature 1) and those of so many likeliest ones.
    """

    def __init__(self, sampling: Sampling, ends: Collection[int], top: int | None = None) -> None:
        self.sampling = sampling
        self.limit = sampling.max_tokens
        self.tokens: list[int] = []
        self.top = top
        self.noted: list[tuple[float, list[tuple[int, float]]]] = []  # of each token
        self.finish_reason: Literal["stop", "length"] = "length"
        self.done = sampling.max_tokens <= 0
        self.guided = False  # its prompt's unconditional one is decoded beside it, in the row after
        self._ends = ends
        self._rules = repetition_rules(sampling)
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def take(self, logits: Tensor) -> None:
        """Draw the next token from logits [v]."""
        token = self._draw(self._ruled(logits))
        if token in self._ends:
            self.finish_reason, self.done = "stop", True
        else:
            if self.top is not None:
                self._note(logits, token, self.top)
            self.tokens.append(token)
            self.done = len(self.tokens) >= self.limit

    def _ruled(self, logits: Tensor) -> Tensor:
        if self._rules is None or not self.tokens:
            return logits
        answer = torch.tensor([self.tokens], device=logits.device)
        return self._rules(answer, logits[None])[0]

    def _note(self, logits: Tensor, token: int, top: int) -> None:
        nats = logits.log_softmax(-1)
        best = nats.topk(min(top, len(nats)))
        likeliest = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        self.noted.append((float(nats[token]), likeliest))

    def check_stop(self, text: str) -> None:
        """End the answer if its text so far holds a stop string."""
        if any(s in text for s in self.sampling.stop):
            self.finish_reason, self.done = "stop", True

    def _draw(self, logits: Tensor) -> int:
        if self.sampling.temperature <= 0:
            return int(logits.argmax())
        probs = torch.softmax(logits.cpu() / self.sampling.temperature, dim=-1)
        if self.sampling.top_p < 1:
            ranked, order = probs.sort(descending=True)
            # The nucleus: the fewest tokens whose probability reaches top_p; the first one always stays.
            ranked[ranked.cumsum(-1) - ranked >= self.sampling.top_p] = 0
            return int(order[torch.multinomial(ranked, 1, generator=self._generator)])
        return int(torch.multinomial(probs, 1, generator=self._generator))


class Decoding(ABC):
    """Prompts that a model has read and continues, a row each."""

    logits: Tensor
    """[b, v], float32: of each row's next token."""

    @abstractmethod
    def step(self, tokens: Sequence[int]) -> None:
        """Read one more token a row."""

    @abstractmethod
    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in ascending order; their logits are those of the last step."""

    @abstractmethod
    def concat(self, other: Self) -> None:
        """Add another's rows after one's own."""


class RunningBatch:
    """Answers that are decoded together; each may join and leave at any step (as in Orca, OSDI 2022).

    Args:
        prefill: reads prompts whose answers have at most so many tokens.
        text: what tokens say.
    """

    def __init__(
        self,
        prefill: Callable[[Sequence[Prompt], Sequence[int]], Decoding],
        text: Callable[[Sequence[int]], str],
    ) -> None:
        self.choices: list[Choice] = []
        self._prefill = prefill
        self._text = text
        self._decoding: Decoding | None = None

    def admit(self, prompts: Sequence[Prompt], choices: Sequence[Choice]) -> None:
        """Read prompts and draw the first token of each; those running meanwhile wait."""
        self._leave()
        rows: list[Prompt] = []
        limits: list[int] = []
        for prompt, choice in zip(prompts, choices, strict=True):
            rows.append(prompt)
            limits.append(choice.limit)
            if prompt.unconditional is not None and choice.sampling.strength != 1.0:
                rows.append(prompt.unconditional)
                limits.append(choice.limit)
                choice.guided = True
        with torch.inference_mode():
            begun = self._prefill(rows, limits)
            self._draw(begun, choices)
            if self._decoding is None:
                self._decoding = begun
            else:
                self._decoding.concat(begun)
        self.choices += choices

    def step(self) -> None:
        """Draw one more token of each answer that is not done."""
        self._leave()
        if self._decoding is not None:
            with torch.inference_mode():
                self._decoding.step([c.tokens[-1] for c in self.choices for _ in range(1 + c.guided)])
                self._draw(self._decoding, self.choices)

    def _leave(self) -> None:
        """Those that are done make room."""
        owners = [choice for choice in self.choices for _ in range(1 + choice.guided)]
        stay = [row for row, choice in enumerate(owners) if not choice.done]
        if self._decoding is not None and len(stay) < len(owners):
            self.choices = [choice for choice in self.choices if not choice.done]
            with torch.inference_mode():
                if stay:
                    self._decoding.select(stay)
                else:
                    self._decoding = None

    def _draw(self, decoding: Decoding, choices: Sequence[Choice]) -> None:
        row = 0
        for choice in choices:
            logits = decoding.logits[row]
            if choice.guided:
                logits = guided(logits, decoding.logits[row + 1], choice.sampling.strength)
            row += 1 + choice.guided
            choice.take(logits)
            if choice.sampling.stop and not choice.done:
                choice.check_stop(self._text(choice.tokens))


def guided(persona: Tensor, nobody: Tensor, strength: float) -> Tensor:
    """Log-probabilities, up to a constant, of the next token at a persona's strength: nobody + s · (persona - nobody).

    Above 1, tokens with less than `PLAUSIBLE` of the persona's likeliest one's probability are left out: there the
    difference is large for tokens that neither would write. (Classifier-free guidance, arXiv 2306.17806; for persons,
    CoPe, arXiv 2506.12109.)

    Args:
        persona: logits [v] with the persona.
        nobody: logits [v] without.
        strength: s.
    """
    mine, plain = persona.log_softmax(-1), nobody.log_softmax(-1)
    guided = plain + strength * (mine - plain)
    if strength > 1.0:
        guided = guided.masked_fill(mine < mine.max() + math.log(PLAUSIBLE), -math.inf)
    return guided


def repetition_rules(sampling: Sampling) -> Any:
    """Transformers' processors of (an answer's tokens [1, t], logits [1, v]), or None where nothing is asked for."""
    if not sampling.no_repeat_ngram and sampling.repetition_penalty == 1.0:
        return None
    from transformers.generation import (
        LogitsProcessorList,
        NoRepeatNGramLogitsProcessor,
        RepetitionPenaltyLogitsProcessor,
    )

    rules = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        rules.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.no_repeat_ngram:
        rules.append(NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram))
    return rules


def visible_text(text: str, stop: tuple[str, ...], *, final: bool = True) -> str:
    """The part of an answer that may be shown: cut at the first stop string.

    While the answer grows (`final` False), a tail that could still become a stop string or the rest of a character
    is held back, so that the pieces of a stream join to the finished text.
    """
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    if ends:
        return text[: min(ends)]
    if final:
        return text
    longest = min(len(text), max(map(len, stop), default=0))
    held = next((n for n in range(longest, 0, -1) if _begins(text[-n:], stop)), 0)
    text = text[: len(text) - held]
    return text.rstrip(_UNFINISHED)


def _begins(tail: str, stop: tuple[str, ...]) -> bool:
    return any(s.startswith(tail) for s in stop)
