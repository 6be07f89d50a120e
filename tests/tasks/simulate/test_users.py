"""Simulated users: their weights, what answers are worth to them, and how they differ."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError, DataError
from personaplug.rewards.panel import Panel, Scale, published
from personaplug.tasks.simulate.answer_set import find_rows, read_answers
from personaplug.tasks.simulate.diversity import (
    ALPHAS,
    best_answers,
    by_alpha,
    diversity,
    top_weight,
    votes,
    wins_by_model,
)
from personaplug.tasks.simulate.users import Users, draw_users

TEN = published()


def some_scores(prompts: int = 60, answers: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    own, common = rng.normal(size=(prompts, answers, len(TEN.names))), rng.normal(size=(prompts, answers, 1))
    z = 0.8 * own + 0.6 * common  # rewards agree in part, as real ones do
    return z * [s.deviation for s in TEN.scales] + [s.mean for s in TEN.scales]


def test_at_alpha_005_the_heaviest_of_ten_rewards_weighs_078():
    weights = draw_users(20_000, TEN.names, 0.05, seed=0).weights
    assert top_weight(weights) == pytest.approx(0.78, abs=0.02)


def test_users_disagree_less_as_alpha_grows():
    found = by_alpha(TEN, some_scores(), ALPHAS, users=1000, seed=1)
    disagreements = [d.disagreement for d in found]
    assert disagreements == sorted(disagreements, reverse=True)
    assert disagreements[0] > disagreements[-1] + 0.1
    assert [d.top_weight for d in found] == sorted((d.top_weight for d in found), reverse=True)
    assert [d.effective_rewards for d in found] == sorted(d.effective_rewards for d in found)
    at_half = [d.majority[9] for d in found]  # the favourite has at most half of the votes
    assert at_half[0] > at_half[-1]


@given(st.floats(0.01, 5), st.integers(1, 30), st.integers(1, 10), st.integers(0, 99))
def test_a_users_weights_add_up_to_one_and_stay_when_more_users_are_drawn(alpha, count, rewards, seed):
    names = [f"r{i}" for i in range(rewards)]
    few, many = draw_users(count, names, alpha, seed), draw_users(count + 7, names, alpha, seed)
    np.testing.assert_allclose(few.weights.sum(axis=1), 1)
    np.testing.assert_array_equal(many.weights[:count], few.weights)


def test_weights_are_joined_with_scores_by_name_and_not_by_place():
    panel = Panel((Scale("a", 0, 1), Scale("b", 10, 2)))
    turned = Users(("b", "a"), np.array([[1.0, 0.0], [0.25, 0.75]]))
    raw = np.array([[4.0, 12.0]])
    np.testing.assert_allclose(turned.values(panel, raw), [[1.0], [0.25 * 1 + 0.75 * 4]])


def test_every_user_has_their_own_best_answer():
    panel = Panel((Scale("a", 0, 1), Scale("b", 0, 1)))
    users = Users(("a", "b"), np.eye(2))
    raw = np.array([[[9.0, 0.0], [0.0, 9.0]]])
    best = best_answers(users, panel, raw)
    assert best.tolist() == [[0], [1]]
    assert diversity(users, 0.01, panel, raw).disagreement == 1.0
    assert votes(best, 2).tolist() == [[1, 1]]
    assert wins_by_model(best, [["x", "y"]]) == {"x": 0.5, "y": 0.5}


def test_draws_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="alpha = 0"):
        draw_users(3, ["a"], 0.0, 0)
    with pytest.raises(DataError, match="2 rewards: a, b"):
        Users(("a", "b"), np.ones((3, 1)))


# -- published rows, by hand ------------------------------------------------------------------------------------------

# Three rewards of the published ten, with raw scores that were made up; the rest is arithmetic that anybody can follow.
ROWS = [
    {
        "prompt": "How do I boil an egg?", "prompt_id": "p1", "subset": "mt-bench-easy",
        "response_1": "Six minutes.", "response_1_model": "gpt-4o",
        "response_1_beaver_7b": 9.2461, "response_1_gemma_2b": 4.3304, "response_1_oasst_pythia_7b": 3.3405,
        "response_2": "Ask a cook.", "response_2_model": "mixtral",
        "response_2_beaver_7b": 6.2335, "response_2_gemma_2b": 8.4076, "response_2_oasst_pythia_7b": 4.7064,
    },
    {
        "prompt": "Why is the sky blue?", "prompt_id": "p2", "subset": "HelpSteer",
        "response_1": "Scattering.", "response_1_model": "gpt-4o",
        "response_1_beaver_7b": 3.2209, "response_1_gemma_2b": 6.3690, "response_1_oasst_pythia_7b": 4.7064,
        "response_2": "It is not.", "response_2_model": "mixtral",
        "response_2_beaver_7b": 12.2587, "response_2_gemma_2b": 2.2918, "response_2_oasst_pythia_7b": 7.4382,
    },
]  # fmt: skip
# (raw - mean) / deviation: beaver 6.2335, 3.0126; gemma_2b 4.3304, 2.0386; pythia_7b 4.7064, 1.3659
Z = [[[1, 0, -1], [0, 2, 0]], [[-1, 1, 0], [2, -1, 2]]]
# Weights of two users for beaver, gemma_2b, pythia_7b, and their rewards: 0.5 * 1 + 0.5 * -1 = 0, 0.25 * 2 = 0.5, ...
WEIGHTS = [[0.5, 0.25, 0.25], [0.0, 0.9, 0.1]]
REWARDS = [[[0.25, 0.5], [-0.25, 1.25]], [[-0.1, 1.8], [0.9, -0.7]]]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_user_rewards_of_published_rows_are_those_that_are_worked_out_by_hand(tmp_path, suffix):
    path = tmp_path / "data" / f"test-00000-of-00001.{suffix}"
    path.parent.mkdir()
    if suffix == "parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_text(json.dumps(ROWS) if suffix == "json" else "\n".join(map(json.dumps, ROWS)))
    found = read_answers(find_rows(tmp_path, "test"))
    assert found.rewards == ("beaver_7b", "gemma_2b", "oasst_pythia_7b")
    assert found.models[0] == ("gpt-4o", "mixtral")
    panel = published().only(found.rewards)
    np.testing.assert_allclose(panel.standardise(found.raw), Z, atol=1e-12)
    users = Users(found.rewards, np.array(WEIGHTS))
    np.testing.assert_allclose(users.values(panel, found.raw), REWARDS, atol=1e-12)
    turned = Users(found.rewards[::-1], np.array(WEIGHTS)[:, ::-1])
    np.testing.assert_allclose(turned.values(published(), with_all(found.raw)), REWARDS, atol=1e-12)
    found.write(tmp_path / "again.jsonl")
    np.testing.assert_array_equal(read_answers([tmp_path / "again.jsonl"]).raw, found.raw)


def with_all(raw: np.ndarray) -> np.ndarray:
    """The three columns in their places among the ten."""
    whole = np.zeros((*raw.shape[:-1], len(TEN.names)))
    for k, name in enumerate(("beaver_7b", "gemma_2b", "oasst_pythia_7b")):
        whole[..., TEN.names.index(name)] = raw[..., k]
    return whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"response_2": None}, "row 2: column response_2 is None, expected a text"),
        ({"response_2_gemma_2b": "high"}, "row 2: column response_2_gemma_2b is 'high', expected a number"),
        ({"prompt": 3}, "row 2: column prompt is 3, expected a text"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, change, said):
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, [ROWS[0], {**ROWS[1], **change}])))
    with pytest.raises(DataError, match=said):
        read_answers(find_rows(tmp_path, "train"))


def test_a_folder_without_the_split_and_a_reward_that_is_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no train\.jsonl"):
        find_rows(tmp_path, "train")
    (tmp_path / "test.json").write_text(json.dumps(ROWS))
    with pytest.raises(DataError, match="did you mean 'gemma_2b'"):
        read_answers(find_rows(tmp_path, "test"), ["gemma_2"])
