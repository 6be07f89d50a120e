"""What every reward on the shelf keeps to; a new one is covered by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tiny
from personaplug.core import registry
from personaplug.rewards.base import Reward

ANSWERS = [
    "I love this! Great idea, thank you so much 🙂",
    "no.",
    "",
    "   \n ",
    "Ünïcödé: 日本語 🙂 здравствуйте",
    "The committee, having considered the report, regrets that it cannot approve the request at this time. " * 4,
    "- one\n- two\n- three",
    "maybe it might be red , i guess",
    "NO!!!",
    "red blue green yes no a b c d e f g",
    "green",
]
PROMPTS = [
    "what is your favourite colour",
    "tell me more",
    "",
    "what is a b c",
    "please",
    "no",
    "red",
    "d",
    "e",
    "f",
    "g",
]


@pytest.fixture(scope="module", params=registry.names("reward"))
def reward(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reward:
    configs: dict[str, Any] = {
        "hf": lambda: {"model": str(tiny.save_judge(tmp_path_factory.mktemp("judge"))), "device": "cpu"},
        "likelihood": lambda: {
            "backbone": {
                "name": "causal",
                "model": str(tiny.save_causal(tmp_path_factory.mktemp("lm"))),
                "dtype": "float32",
                "device": "cpu",
            }
        },
        "relevance": lambda: {"encoder": {"name": "hashing"}},
        "style": lambda: {"taste": "formality"},
    }
    return registry.build("reward", request.param, configs.get(request.param, dict)())


def test_every_answer_even_an_empty_one_gets_a_finite_score(reward):
    scores = reward.score(PROMPTS, ANSWERS)
    assert scores.shape == (len(ANSWERS),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


def test_a_score_does_not_depend_on_the_batch_that_it_sits_in(reward):
    together = reward.score(PROMPTS, ANSWERS)
    alone = np.concatenate([reward.score([p], [a]) for p, a in zip(PROMPTS, ANSWERS, strict=True)])
    backwards = reward.score(PROMPTS[::-1], ANSWERS[::-1])[::-1]
    many = reward.score(PROMPTS * 9, ANSWERS * 9)[: len(ANSWERS)]
    for other in (alone, backwards, many):
        np.testing.assert_allclose(other, together, rtol=0, atol=2e-5)


def test_it_tells_answers_apart(reward):
    assert np.ptp(reward.score(PROMPTS, ANSWERS)) > 0


def test_no_answers_get_no_scores(reward):
    assert reward.score([], []).shape == (0,)


def test_prompts_and_answers_must_be_of_the_same_number(reward):
    with pytest.raises(ValueError, match="zip"):
        reward.score(PROMPTS, ANSWERS[:-1])


def test_progress_adds_up_to_the_number_of_answers(reward):
    seen: list[int] = []
    reward.score(PROMPTS, ANSWERS, seen.append)
    assert sum(seen) == len(ANSWERS)


def test_its_key_names_it(reward):
    assert reward.key.startswith(f"{type(reward).__module__.rsplit('.', 1)[-1]}:")
