"""Objectives, against what they are by hand."""

from __future__ import annotations

import math

import pytest
import torch

from personaplug.training.objectives import nll, options

LOGPROBS = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, 0.0, 0.0]])
COUNTS = torch.tensor([3, 1])


def test_nll_is_the_mean_over_the_answers_own_tokens() -> None:
    assert nll(LOGPROBS, COUNTS).tolist() == [2.0, 0.5]


def test_options_is_the_cross_entropy_of_the_right_one_among_its_own() -> None:
    scores = [torch.log(torch.tensor([0.1, 0.3])), torch.log(torch.tensor([0.2, 0.2, 0.4]))]
    assert options(scores, [1, 0]).tolist() == pytest.approx([-math.log(0.75), -math.log(0.25)])
