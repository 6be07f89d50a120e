"""A user's weights from pairs: a Gaussian belief, moved by what they preferred, and which pair would teach most.

    P(a preferred to b) = s(w · (x_a - x_b)),   w ~ N(mean, covariance),   s: the logistic function

Shapes: n: pairs, r: rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS, _SMALL = 50, 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """What is believed of a user's weights.

    Attributes:
        mean: [r].
        covariance: [r, r].
    """

    mean: Floats
    covariance: Floats


def updated(prior: Belief, pairs: Floats) -> Belief:
    """The belief after pairs [n, r], each the preferred answer's vector less the other's.

    The mean maximises a strictly concave function (by Newton's method); the covariance is Laplace's. The order of the
    pairs does not matter, and a pair with its contrary only makes the belief surer that both are equal.
    """
    if not len(prior.mean) or not len(pairs):
        return prior
    precision: Floats = np.asarray(np.linalg.inv(prior.covariance), np.float64)
    mean = prior.mean.copy()
    for _ in range(_STEPS):
        chance = _logistic(-(pairs @ mean))  # of having preferred the other
        gradient = pairs.T @ chance - precision @ (mean - prior.mean)
        hessian = (pairs * (chance * (1.0 - chance))[:, None]).T @ pairs + precision
        step = np.linalg.solve(hessian, gradient)
        before = _loss(mean, prior.mean, precision, pairs)
        while _loss(mean + step, prior.mean, precision, pairs) > before and float(np.abs(step).max()) > _SMALL:
            step = 0.5 * step  # far from the maximum, Newton's step overshoots
        mean = mean + step
        if float(np.abs(step).max()) <= _SMALL:
            break
    chance = _logistic(pairs @ mean)
    curved = (pairs * (chance * (1.0 - chance))[:, None]).T @ pairs + precision
    return Belief(mean, np.asarray(np.linalg.inv(curved), np.float64))


def _loss(weights: Floats, mean: Floats, precision: Floats, pairs: Floats) -> float:
    away = weights - mean
    return float(np.logaddexp(0.0, -(pairs @ weights)).sum() + 0.5 * away @ precision @ away)


def usefulness(belief: Belief, pairs: Floats) -> Floats:
    """How much surer asking about each pair [n, r] makes one of all of them: the mean fall of their variance [n].

    With x the pair asked about, p its chance and C the belief's covariance, Laplace's update takes
    p(1 - p) (x'Cz)² / (1 + p(1 - p) x'Cx) from the variance along each pair z. That is design by the mean variance of
    what is to be predicted (Bayesian A-optimality, Chaloner and Verdinelli 1995; Cohn 1996): a pair that is uncertain
    itself and like no other says little of what will be chosen among. Asking users actively: PReF, arXiv 2503.06358.
    """
    along = pairs @ belief.covariance
    spread = np.einsum("nr,nr->n", along, pairs)
    chance = _logistic(pairs @ belief.mean)
    known = chance * (1.0 - chance)  # of the pair asked about, once it is answered
    shared = np.einsum("nr,rs,ns->n", along, pairs.T @ pairs / len(pairs), along)
    return np.asarray(known * shared / (1.0 + known * spread))


def next_pair(belief: Belief, pairs: Floats) -> int:
    """The index of the pair [n, r] to ask about next; of equal ones the first.

    Raises:
        ValueError: there are no pairs.
    """
    if not len(pairs):
        raise ValueError("no pairs to ask about; give at least one")
    return int(usefulness(belief, pairs).argmax())


def _logistic(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))  # does not overflow
