"""Likes or dislikes ways of writing: formality, politeness, hedging, lists, emoji and others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from typing_extensions import override

from personaplug.core.config import NoConfig
from personaplug.core.errors import ConfigError, UnknownNameError, did_you_mean
from personaplug.encoders.style import FEATURES, VERSION, StyleEncoder
from personaplug.rewards.base import Reward, Scores

# Heylighen and Dewaele's formality without a tagger: nouns, prepositions and articles rise with it, what belongs to
# speech falls. The others name what their word says.
TASTES: Mapping[str, Mapping[str, float]] = {
    "formality": {
        "prepositions": 1, "articles": 1, "word_length": 2, "starts_with_capital": 0.5, "connectives": 0.5,
        "contractions": -1, "bare_contractions": -1, "abbreviations": -1, "first_person": -0.5, "second_person": -0.5,
        "exclamation_marks": -1, "fillers": -1, "laughter": -1, "emoji": -1, "emoticons": -1, "small_i": -1,
    },
    "politeness": {"politeness": 2, "agreement": 0.5, "negations": -0.5, "repeated_marks": -0.5, "shouted_words": -1},
    "hedging": {"hedges": 2, "question_marks": 0.25, "intensifiers": -1},
    "enthusiasm": {"exclamation_marks": 1, "repeated_marks": 1, "intensifiers": 1, "shouted_words": 0.5},
    "lists": {"bullets": 2, "line_breaks": 1, "colons": 0.5},
    "emoji": {"emoji": 2, "emoticons": 1, "ends_with_smiley": 0.5, "laughter": 0.25},
    "questions": {"question_marks": 1, "ends_with_question_mark": 1, "second_person": 0.5},
    "closeness": {"first_person": 1, "second_person": 1, "contractions": 0.5, "fillers": 0.5},
    "variety": {"distinct_words": 2, "word_length_deviation": 1, "sentence_length_deviation": 0.5},
}  # fmt: skip
"""Named tastes: weights of the features of the encoder `style`."""


@dataclass(frozen=True, slots=True)
class StyleRewardConfig:
    """What is liked.

    Attributes:
        taste: a key of `TASTES`, or "" for the features alone.
        features: weights of single features of the encoder `style`, added to the taste's.
    """

    taste: str = ""
    features: Mapping[str, float] = field(default_factory=dict)


class Style(Reward):
    """A weighted sum of named style features, each in 0..1.

    Raises:
        ConfigError: neither a taste nor a feature.
        UnknownNameError: no taste or feature of that name.
    """

    Config = StyleRewardConfig
    summary = "ways of writing: formality, politeness, hedging, lists, emoji, ...; no model"
    source = "formality: Heylighen and Dewaele 1999; features of the encoder `style`; weights chosen here"

    def __init__(self, config: StyleRewardConfig) -> None:
        if not config.taste and not config.features:
            raise ConfigError(f"reward 'style': no taste and no features; name a taste: {', '.join(TASTES)}")
        if config.taste and config.taste not in TASTES:
            raise UnknownNameError(f"reward 'style': taste {config.taste!r}; {did_you_mean(config.taste, TASTES)}")
        self.config = config
        weights = dict(TASTES.get(config.taste, {}))
        for name, weight in config.features.items():
            if name not in FEATURES:
                raise UnknownNameError(f"reward 'style': feature {name!r}; {did_you_mean(name, FEATURES)}")
            weights[name] = weights.get(name, 0.0) + weight
        self._weights = np.array([weights.get(f, 0.0) for f in FEATURES])
        said = ",".join(f"{k}={v:g}" for k, v in sorted(weights.items()))
        self.key = f"style:{VERSION}:{said}"
        self._encoder = StyleEncoder(NoConfig())

    @override
    def score(
        self, prompts: Sequence[str], answers: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Scores:
        texts = [answer for _, answer in zip(prompts, answers, strict=True)]
        # Row by row: a product of a whole matrix rounds by where a row stands in it.
        return np.array([float(row @ self._weights) for row in self._encoder.encode(texts, progress=progress)])
