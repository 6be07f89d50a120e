"""Objectives, against what they are by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personaplug.training.objectives import nll, options, weighted

LOGPROBS = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, 0.0, 0.0]])
COUNTS = torch.tensor([3, 1])


def test_nll_is_the_mean_over_the_answers_own_tokens() -> None:
    assert nll(LOGPROBS, COUNTS).tolist() == [2.0, 0.5]


def test_weighted_is_nll_where_the_persona_changes_nothing_or_every_token_alike() -> None:
    for shift in (0.0, 0.3, 5.0):
        torch.testing.assert_close(weighted(LOGPROBS, LOGPROBS - shift, COUNTS), nll(LOGPROBS, COUNTS))


def test_weighted_looks_most_at_the_tokens_that_the_persona_changes() -> None:
    without = LOGPROBS + torch.tensor([[0.0, 0.0, 0.6], [0.0, 0.0, 0.0]])
    # Weights 0.2, 0.2 and 0.2 + 0.6, divided by their mean of 0.4.
    assert weighted(LOGPROBS, without, COUNTS)[0].item() == pytest.approx((0.5 * 1 + 0.5 * 2 + 2 * 3) / 3)


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=6), st.integers(0, 3))
def test_weights_have_mean_one_and_padding_has_none(pairs: list[tuple[float, float]], padding: int) -> None:
    logprobs = torch.tensor([[a for a, _ in pairs] + [0.0] * padding], requires_grad=True)
    without = torch.tensor([[b for _, b in pairs] + [0.0] * padding], requires_grad=True)
    count = torch.tensor([len(pairs)])
    weighted(logprobs, without, count).sum().backward()
    assert without.grad is None
    assert logprobs.grad is not None
    weights = -logprobs.grad[0] * count  # d(nll)/d(log p) is minus the weight over the count
    assert (weights[: len(pairs)] > 0).all()
    assert (weights[len(pairs) :] == 0).all()
    assert weights.sum().item() / len(pairs) == pytest.approx(1, abs=1e-4)


def test_options_is_the_cross_entropy_of_the_right_one_among_its_own() -> None:
    scores = [torch.log(torch.tensor([0.1, 0.3])), torch.log(torch.tensor([0.2, 0.2, 0.4]))]
    assert options(scores, [1, 0]).tolist() == pytest.approx([-math.log(0.75), -math.log(0.25)])
