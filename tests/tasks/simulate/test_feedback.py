"""What users say of answers, and how it is kept in behaviours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior
from personaplug.data.feedback import DISLIKED, answers_of, pair_behavior, preference, thumb_behavior
from personaplug.tasks.simulate.answer_set import AnswerSet
from personaplug.tasks.simulate.feedback import Feedback, say
from personaplug.tasks.simulate.histories import database, draw_prompts, simulate_history

VALUES = [0.3, -1.0, 2.0, 0.0]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 200), st.sampled_from(["pair", "extremes", "best"]))
def test_without_noise_the_better_answer_is_chosen(seed, kind):
    said = say(Feedback(kind), VALUES, rng(seed))
    assert said.disliked is not None
    assert VALUES[said.answer] > VALUES[said.disliked]
    assert said.rating == 1.0
    if kind != "pair":
        assert said.answer == 2
    if kind == "extremes":
        assert said.disliked == 1


def test_every_answer_is_shown_the_last_one_too():
    shown = {say(Feedback("scalar"), VALUES, rng(s)).answer for s in range(100)}
    assert shown == {0, 1, 2, 3}


def test_noise_follows_bradley_and_terry():
    chosen = [say(Feedback("extremes", temperature=2.0), [1.0, 0.0], rng(s)).answer == 0 for s in range(4000)]
    assert np.mean(chosen) == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.02)
    ups = [say(Feedback("thumbs", temperature=2.0), [1.0], rng(s)).rating for s in range(4000)]
    assert np.mean(ups) == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.02)


def test_thumbs_and_ratings_are_about_the_mean_answer():
    assert say(Feedback("thumbs"), [0.2], rng()).rating == 1.0
    assert say(Feedback("thumbs"), [-0.2], rng()).rating == 0.0
    assert say(Feedback("scalar"), [0.0], rng()).rating == 0.5
    assert say(Feedback("scalar"), [-900.0], rng()).rating == pytest.approx(0.0)


def test_equal_answers_are_tossed_for():
    assert {say(Feedback("extremes"), [1.0, 1.0], rng(s)).answer for s in range(20)} == {0, 1}


def test_feedback_that_cannot_be_given_is_refused():
    with pytest.raises(ConfigError, match="temperature = -1"):
        Feedback(temperature=-1)
    with pytest.raises(ConfigError, match="on 1 answers; it compares 2"):
        say(Feedback("pair"), [1.0], rng())


# -- in behaviours ----------------------------------------------------------------------------------------------------


def test_a_pair_and_thumbs_are_read_back_from_behaviours():
    pair = preference(pair_behavior("ada", "1", "q", "good", "bad"))
    assert (pair.liked, pair.disliked, pair.pair) == ("good", "bad", True)
    up, down = (preference(thumb_behavior("ada", "1", "q", "it", u)) for u in (True, False))
    assert (up.liked, up.disliked) == ("it", None)
    assert (down.liked, down.disliked) == (None, "it")
    assert thumb_behavior("ada", "1", "q", "it", up=False).output == ""  # never read as the user's own words
    assert preference(Behavior("ada", "1", "q", "it", rating=0.0)).disliked == "it"
    written = preference(Behavior("ada", "1", "q", "own words"))
    assert (written.liked, written.disliked) == ("own words", None)
    assert preference(Behavior("ada", "1", "q", "")).liked is None


def test_an_empty_answer_can_be_disliked():
    said = preference(pair_behavior("ada", "1", "q", "good", ""))
    assert said.pair
    assert said.disliked == ""


def test_the_answers_of_a_history_are_taken_one_side_at_a_time():
    behaviors = [pair_behavior("ada", "1", "q", "good", "bad"), thumb_behavior("ada", "2", "r", "meh", up=False)]
    assert [b.output for b in answers_of(behaviors, "liked")] == ["good"]
    assert [(b.id, b.output) for b in answers_of(behaviors, "disliked")] == [("1", "bad"), ("2", "meh")]


# -- histories --------------------------------------------------------------------------------------------------------

ANSWERS = AnswerSet(
    tuple(f"prompt {i}" for i in range(20)),
    tuple(tuple(f"answer {i} {j}" for j in range(4)) for i in range(20)),
    (("m",) * 4,) * 20,
    ("r",),
    np.zeros((20, 4, 1)),
)
WORTH = np.random.default_rng(5).normal(size=(20, 4))


@given(st.integers(0, 50), st.integers(0, 12), st.integers(0, 8), st.integers(0, 3))
def test_a_longer_history_is_a_shorter_one_with_older_prompts_before_it(user, short, more, requests):
    few = draw_prompts(user, 20, requests, short, seed=1)
    many = draw_prompts(user, 20, requests, short + more, seed=1)
    assert few.requests == many.requests
    assert many.history[len(many.history) - short :] == few.history
    assert len(set(many.requests + many.history)) == len(many.requests) + len(many.history)


def test_what_a_user_says_does_not_depend_on_the_other_prompts():
    noisy = Feedback("pair", temperature=1.0)
    long = simulate_history(3, [1, 5, 9], ANSWERS, WORTH, noisy, seed=0)
    short = simulate_history(3, [9], ANSWERS, WORTH, noisy, seed=0)
    assert long.behaviors[2].output == short.behaviors[0].output
    assert [b.at for b in long] == [0.0, 1.0, 2.0]


def test_the_database_holds_each_users_own_preferences():
    values = np.stack([WORTH, -WORTH])
    first, second = database([0, 1], ANSWERS, values, Feedback("extremes"), 20, seed=0)
    liked = {b.input: b.output for b in first}
    assert len(first) == len(second) == 20
    assert {b.input: b.fields[DISLIKED] for b in second} == liked
