from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from personaplug.bench.compare import gain, gain_by_history, gain_by_user, interval, pool
from personaplug.core.errors import DataError


def test_a_gain_is_positive_where_the_row_is_better_whichever_way_the_metric_points(make_row):
    better, worse = make_row("plug", nll=[2.0] * 12), make_row("none", nll=[3.0] * 12)
    assert gain(better, worse, "nll").interval.mean == 1.0
    assert gain(worse, better, "nll").interval.mean == -1.0
    high = dataclasses.replace(better, values={"rouge1": (1.0,) * 4})
    assert gain(high, worse, "rouge1").interval.mean == pytest.approx(0.8)


def test_the_interval_is_the_same_each_time_and_resamples_users_not_examples(make_row):
    a, b = make_row("plug", seed=1), make_row("none", seed=2)
    assert gain(a, b, "nll") == gain(a, b, "nll")
    # All examples of a user alike: the interval must be as wide as that of 4 users, not of 12 examples.
    alike = [x for x in (1.0, 2.0, 3.0, 4.0) for _ in range(3)]
    found = interval(make_row("plug", nll=alike), "nll")
    assert found.high - found.low > 1.5


def test_rows_of_other_examples_are_not_compared(make_row):
    other = dataclasses.replace(make_row("none"), ids=tuple(f"x{i}" for i in range(12)))
    with pytest.raises(DataError, match="different examples"):
        gain(make_row("plug"), other, "nll")
    with pytest.raises(DataError, match="answered different examples"):
        gain(make_row("plug"), dataclasses.replace(make_row("none"), answered=(0, 1, 2, 3)), "rouge1")
    with pytest.raises(DataError, match="no values of 'auc'"):
        gain(make_row("plug"), make_row("none"), "auc")


def test_bands_hold_every_request_once_from_short_to_long(make_row):
    bands = gain_by_history(make_row("plug"), make_row("none", seed=3), "nll")
    assert [b.examples for b in bands] == [4, 4, 4]
    assert bands[0].low == 8
    assert bands[-1].high == 30
    assert all(a.high < b.low for a, b in pairwise(bands))


def test_equal_histories_make_one_band(make_row):
    same = dataclasses.replace(make_row("plug"), histories=(8,) * 12)
    assert [b.examples for b in gain_by_history(same, make_row("none", seed=3), "nll")] == [12]


def test_the_mean_of_users_gains_is_the_gain_where_all_ask_equally_often(make_row):
    a, b = make_row("plug", seed=1), make_row("none", seed=2)
    assert np.mean(list(gain_by_user(a, b, "nll").values())) == pytest.approx(gain(a, b, "nll").interval.mean)


def test_seeds_are_pooled_by_the_mean_of_each_example(make_row):
    a, b = make_row("plug", nll=[1.0] * 12), make_row("plug", nll=[3.0] * 12)
    pooled = pool([a, b])
    assert pooled.nll == (2.0,) * 12
    assert pooled.scores["nll"] == 2.0
