"""Learn a few reward directions that all users share, from many users' pairs.

    loss = sum over pairs of log(1 + exp(-w_u' V x)) + user_decay |w_u|²/2 + basis_decay |V|²/2

Shapes: n: pairs, u: users, r: rank, e: features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from personaplug.methods.preference.bradley_terry import Belief, updated

Floats = NDArray[np.float64]

_EXPECTATIONS = 3
_LEAST_VARIANCE = 1e-2  # of the prior: users that no training has met may lie outside those that it has


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """What all users share.

    Attributes:
        basis: [r, e], of standardised features.
        prior: what is believed of a user of whom nothing is known.
        steps: that L-BFGS took.
    """

    basis: Floats
    prior: Belief
    steps: int = 0


def learn(pairs: Floats, owners: NDArray[np.int64], rank: int, decays: tuple[float, float], steps: int) -> Directions:
    """The directions under which the users' pairs are likeliest.

    Args:
        pairs: [n, e] preferred answer less the other.
        owners: [n] whose each is, 0..u-1.
        rank: r; fewer where there are fewer users or features.
        decays: of the users' weights and of the basis.
        steps: of L-BFGS at most.
    """
    from scipy.optimize import minimize

    users = int(owners.max()) + 1
    means = np.zeros((users, pairs.shape[1]))
    np.add.at(means, owners, pairs)
    means /= np.maximum(np.bincount(owners, minlength=users), 1)[:, None]
    left, size, right = np.linalg.svd(means, full_matrices=False)
    r = min(rank, len(size))
    start = np.concatenate(
        [(left[:, :r] * np.sqrt(size[:r])).ravel(), (np.sqrt(size[:r])[:, None] * right[:r]).ravel()]
    )
    solution = minimize(
        _loss, start, (pairs, owners, users, r, decays), "L-BFGS-B", jac=True, options={"maxiter": steps}
    )
    weights, basis = _parts(solution.x, users, r)
    return replace(_with_prior(weights, basis, pairs, owners), steps=int(solution.nit))


def _loss(
    x: Floats, pairs: Floats, owners: NDArray[np.int64], users: int, rank: int, decays: tuple[float, float]
) -> tuple[float, Floats]:
    weights, basis = _parts(x, users, rank)
    along = pairs @ basis.T  # [n, r]
    margin = (weights[owners] * along).sum(-1)
    pull = -0.5 * (1.0 - np.tanh(0.5 * margin))  # derivative of log(1 + exp(-margin))
    to_weights = np.zeros_like(weights)
    np.add.at(to_weights, owners, pull[:, None] * along)
    to_basis = (pull[:, None] * weights[owners]).T @ pairs
    value = np.logaddexp(0.0, -margin).sum() + 0.5 * (decays[0] * (weights**2).sum() + decays[1] * (basis**2).sum())
    gradient = [(to_weights + decays[0] * weights).ravel(), (to_basis + decays[1] * basis).ravel()]
    return float(value), np.concatenate(gradient)


def _parts(x: Floats, users: int, rank: int) -> tuple[Floats, Floats]:
    return x[: users * rank].reshape(users, rank), x[users * rank :].reshape(rank, -1)


def _with_prior(weights: Floats, basis: Floats, pairs: Floats, owners: NDArray[np.int64]) -> Directions:
    """The basis rotated so that its directions are orthogonal, and a Gaussian over the users' weights on it.

    Weights fitted from a few pairs are shrunk, so the Gaussian is theirs only to begin with: a few steps of expectation
    maximisation make it that of the users' posteriors (empirical Bayes).
    """
    left, size, rotated = np.linalg.svd(weights @ basis, full_matrices=False)
    rank = len(basis)
    own, rotated = left[:, :rank] * size[:rank], rotated[:rank]
    prior = Belief(own.mean(axis=0), np.cov(own, rowvar=False).reshape(rank, rank) + _LEAST_VARIANCE * np.eye(rank))
    along = pairs @ rotated.T
    of_user = [along[owners == u] for u in range(len(weights))]
    for _ in range(_EXPECTATIONS):
        posteriors = [updated(prior, own_pairs) for own_pairs in of_user]
        mean = np.mean([b.mean for b in posteriors], axis=0)
        spread = np.mean([b.covariance + np.outer(b.mean - mean, b.mean - mean) for b in posteriors], axis=0)
        prior = Belief(mean, spread + _LEAST_VARIANCE * np.eye(rank))
    return Directions(rotated, prior)
