"""Likes what is said in a positive mood."""

from __future__ import annotations

import re
from statistics import fmean

from typing_extensions import override

from personaplug.core.config import NoConfig
from personaplug.rewards.base import PlainReward

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")


class Sentiment(PlainReward):
    """Mean over the sentences of VADER's compound score, in [-1, 1]; 0 for an empty answer.

    Sentence by sentence, because the compound score of a long text is nearly always one of its ends.
    """

    Config = NoConfig
    summary = "how positive the mood is (VADER's lexicon), mean over sentences"
    source = "Hutto and Gilbert 2014, VADER; vaderSentiment, MIT"
    key = "sentiment:vader:1"

    def __init__(self, config: NoConfig) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self.config = config
        self._analyzer = SentimentIntensityAnalyzer()

    @override
    def one(self, prompt: str, answer: str) -> float:
        del prompt
        sentences = [s for s in _SENTENCE_END.split(answer) if s.strip()]
        return fmean(self._analyzer.polarity_scores(s)["compound"] for s in sentences) if sentences else 0.0
