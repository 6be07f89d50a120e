"""How much likelier a rubric, as system message, makes an answer to a language model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.errors import ConfigError
from personaplug.core.registry import Section
from personaplug.core.types import Prompt, Request
from personaplug.rewards.base import Reward, Scores

_CHUNK = 64  # answers between two reports of progress


@dataclass(frozen=True, slots=True)
class LikelihoodConfig:
    """What is read by whom.

    Attributes:
        rubric: the system message to measure.
        neutral: the system message to compare with.
        backbone: section of a backbone; in float32, since bfloat16's rounding depends on the batch.
    """

    rubric: str = "You are kind and patient, and you explain things so that a child understands them."
    neutral: str = "You answer."
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "causal", "dtype": "float32"})

    def __post_init__(self) -> None:
        if not self.rubric.strip():
            raise ConfigError("reward 'likelihood': the rubric is empty; say what kind of answer is liked")


class Likelihood(Reward):
    """How much likelier the rubric makes an answer: nats a token with it less nats a token without.

    The difference leaves out what makes any answer likely, such as being short or common; 0 for an empty answer.
    """

    Config = LikelihoodConfig
    summary = "how much likelier a rubric makes the answer to a language model"
    source = "personaplug; log-likelihoods as in LM evaluation"

    def __init__(self, config: LikelihoodConfig) -> None:
        self.config = config
        self._backbone: Backbone = Section.parse("backbone", config.backbone).build()
        self._backbone.check_scores("reward 'likelihood'")
        said = hashlib.blake2b(f"{config.rubric}\0{config.neutral}".encode(), digest_size=6).hexdigest()
        self.key = f"likelihood:{said}:{self._backbone.key}"

    @override
    def score(
        self, prompts: Sequence[str], answers: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Scores:
        scores = np.zeros(len(answers))
        rows = [(i, p, a) for i, (p, a) in enumerate(zip(prompts, answers, strict=True))]
        for at in range(0, len(rows), _CHUNK):
            said = [row for row in rows[at : at + _CHUNK] if row[2].strip()]
            for sign, system in ((1.0, self.config.rubric), (-1.0, self.config.neutral)):
                # Answers to one prompt share its Prompt object: the backbone reads it once.
                asked = {p: Prompt(Request.of(None, p, system).messages) for _, p, _ in said}
                scored = self._backbone.score([asked[p] for _, p, _ in said], [a for _, _, a in said])
                for (i, _, _), s in zip(said, scored, strict=True):
                    scores[i] += sign * s.logprob / s.tokens
            if progress:
                progress(len(rows[at : at + _CHUNK]))
        return scores
