"""Several rewards on one scale: each standardised by its mean and deviation on a reference set, stored as JSON.

Shapes: n: answers, w: rewards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug.core.config import from_mapping
from personaplug.core.errors import DataError, did_you_mean
from personaplug.rewards.published import PUBLISHED

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """How the scores of one reward are standardised.

    Attributes:
        name: of the reward.
        mean: of its scores on the reference set.
        deviation: their standard deviation; 0 where it gave all of them the same score.
        answers: how many there were; 0: published numbers.
        key: identity of the scores (`Reward.key`); "" where they are not ours.
    """

    name: str
    mean: float
    deviation: float
    answers: int = 0
    key: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Rewards in a fixed order, which is the order of a user's weights.

    Raises:
        DataError: no reward, two of the same name, or a scale that is no number.
    """

    scales: tuple[Scale, ...]

    def __post_init__(self) -> None:
        names = [s.name for s in self.scales]
        if not names or len(set(names)) < len(names):
            raise DataError(f"a panel of the rewards {', '.join(names) or '(none)'}: name each of them once")
        for scale in self.scales:
            if not np.isfinite([scale.mean, scale.deviation]).all() or scale.deviation < 0:
                raise DataError(f"reward {scale.name!r}: mean {scale.mean}, deviation {scale.deviation}; not usable")

    @property
    def names(self) -> tuple[str, ...]:
        """The rewards' names in order."""
        return tuple(s.name for s in self.scales)

    @property
    def constant(self) -> tuple[str, ...]:
        """Rewards that gave all reference answers one score: their standardised scores are all 0."""
        return tuple(s.name for s in self.scales if s.deviation == 0.0)

    def standardise(self, raw: Floats) -> Floats:
        """Raw scores [..., w] in standard deviations above the reference set's mean [..., w].

        Raises:
            DataError: not as many columns as rewards, or a score that is no number.
        """
        if raw.shape[-1] != len(self.scales):
            raise DataError(
                f"{raw.shape[-1]} columns of scores for {len(self.scales)} rewards: {', '.join(self.names)}"
            )
        if not np.isfinite(raw).all():
            bad = self.names[int(np.argwhere(~np.isfinite(raw))[0][-1])]
            raise DataError(f"reward {bad!r} has a score that is no finite number; score those answers again")
        means = np.array([s.mean for s in self.scales])
        spreads = np.array([s.deviation for s in self.scales])
        return np.where(spreads > 0, (raw - means) / np.where(spreads > 0, spreads, 1.0), 0.0)

    def only(self, names: Sequence[str]) -> Panel:
        """Some of the rewards, in that order.

        Raises:
            DataError: none is named so.
        """
        known = {s.name: s for s in self.scales}
        for name in names:
            if name not in known:
                raise DataError(f"no reward is named {name!r} here; {did_you_mean(name, known)}")
        return Panel(tuple(known[n] for n in names))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps([asdict(s) for s in self.scales], indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Panel:
        """Read what `save` wrote.

        Raises:
            DataError: no such file, or no panel in it.
            ConfigError: a key or a type is wrong.
        """
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; it holds the rewards' means and deviations") from None
        except ValueError as error:
            raise DataError(f"{path}: not JSON: {error}") from None
        if not isinstance(rows, list):
            raise DataError(f"{path}: expected a list of rewards with name, mean and deviation")
        return Panel(tuple(from_mapping(Scale, row, where=str(path)) for row in rows))


def measured(raw: Floats, keys: Mapping[str, str]) -> Panel:
    """The panel of a reference set's raw scores [n, w].

    Args:
        raw: a column a reward.
        keys: name -> `Reward.key`, in the columns' order.

    Raises:
        DataError: fewer than two answers, or a score that is no number.
    """
    if len(raw) < 2 or not np.isfinite(raw).all():
        raise DataError(f"a reference set of {len(raw)} answers; statistics need two or more, with finite scores")
    means, spreads = raw.mean(axis=0), raw.std(axis=0)
    rounding = 1e-9 * (1.0 + np.abs(means))
    return Panel(
        tuple(
            Scale(name, float(means[i]), float(spreads[i]) if spreads[i] > rounding[i] else 0.0, len(raw), key)
            for i, (name, key) in enumerate(keys.items())
        )
    )


def published() -> Panel:
    """PersonalLLM's ten reward models, in the order of the published users' weights."""
    return Panel(tuple(Scale(name, known.mean, known.deviation) for name, known in sorted(PUBLISHED.items())))


def effective_number(scores: Any) -> float:
    """How many independent rewards a panel is worth: exp of the entropy of its correlations' spectrum, in [1, w].

    >>> float(round(effective_number(np.random.default_rng(0).normal(size=(5000, 3))), 1))
    3.0

    Args:
        scores: [n, w].

    Source:
        Roy and Vetterli 2007, The effective rank.
    """
    varied = scores[:, scores.std(axis=0) > 0]
    if varied.shape[1] < 2:
        return float(varied.shape[1])
    shares = np.linalg.eigvalsh(np.corrcoef(varied, rowvar=False)).clip(1e-12)
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
