"""Rewards on one scale, and the statistics that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import DataError
from personaplug.rewards.panel import Panel, Scale, effective_number, measured, published


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 1000))
def test_the_reference_set_itself_has_mean_0_and_deviation_1(n, w, seed):
    raw = np.random.default_rng(seed).normal(3, 2, (n, w))
    z = measured(raw, {f"r{i}": "" for i in range(w)}).standardise(raw)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-8)


def test_a_panel_is_read_back_as_it_was_written(tmp_path):
    panel = measured(np.array([[1.0, 2.0], [2.0, 5.0]]), {"a": "x:1", "b": "y:1"})
    panel.save(tmp_path / "panel.json")
    assert Panel.load(tmp_path / "panel.json") == panel


def test_a_reward_that_tells_nothing_apart_counts_nothing_and_is_named():
    panel = measured(np.array([[0.1 + 0.2, 2.0], [0.3, 5.0]]), {"flat": "", "b": ""})
    assert panel.constant == ("flat",)
    assert panel.standardise(np.array([9.0, 2.0]))[0] == 0.0


def test_scores_that_do_not_fit_are_refused_by_name():
    panel = Panel((Scale("a", 0, 1), Scale("b", 0, 1)))
    with pytest.raises(DataError, match="3 columns of scores for 2 rewards: a, b"):
        panel.standardise(np.zeros((4, 3)))
    with pytest.raises(DataError, match="reward 'b' has a score that is no finite number"):
        panel.standardise(np.array([[0.0, np.nan]]))
    with pytest.raises(DataError, match="name each of them once"):
        Panel((Scale("a", 0, 1), Scale("a", 0, 1)))
    with pytest.raises(DataError, match="no reward is named 'c' here"):
        panel.only(["c"])


def test_the_published_panel_is_in_alphabetical_order_and_standardises_as_published():
    panel = published()
    assert list(panel.names) == sorted(panel.names)
    raw = np.array([s.mean + 2 * s.deviation for s in panel.scales])
    np.testing.assert_allclose(panel.standardise(raw), 2.0)


def test_equal_rewards_count_as_one_and_independent_ones_as_many():
    x = np.random.default_rng(0).normal(size=(4000, 4))
    assert effective_number(x) == pytest.approx(4, abs=0.05)
    assert effective_number(np.column_stack([x[:, 0]] * 4)) == pytest.approx(1, abs=0.05)
    assert effective_number(np.ones((10, 3))) == 0.0
