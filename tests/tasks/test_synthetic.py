"""The synthetic task can be solved from the history, and from nothing else."""

from __future__ import annotations

from collections import Counter

import pytest

from personaplug.core.errors import ConfigError
from personaplug.tasks.synthetic import Synthetic, SyntheticConfig

SPLITS = ("train", "dev", "test")
KINDS = pytest.mark.parametrize("kind", ["static", "topic"])


def solve(example) -> str:
    return next(b.output for b in reversed(example.history.behaviors) if b.input == example.request.query)


@KINDS
def test_the_history_tells_the_answer_of_every_request(kind):
    task = Synthetic(SyntheticConfig(kind=kind))
    assert all(solve(e) == e.target for split in SPLITS for e in task.examples(split))


def test_static_users_have_one_favourite_and_topic_users_several():
    def tastes(kind):
        return [len({b.output for b in e.history}) for e in Synthetic(SyntheticConfig(kind=kind)).examples("test")]

    assert set(tastes("static")) == {1}
    assert max(tastes("topic")) > 1


def test_the_newest_or_commonest_output_does_not_solve_the_topic_kind():
    examples = Synthetic(SyntheticConfig(kind="topic", users=1000)).examples("test")
    commonest = [Counter(b.output for b in e.history).most_common(1)[0][0] == e.target for e in examples]
    newest = [e.history.behaviors[-1].output == e.target for e in examples]
    assert sum(commonest) / len(examples) < 0.65
    assert sum(newest) / len(examples) < 0.6


@KINDS
def test_without_the_history_every_answer_is_as_good_a_guess(kind):
    examples = Synthetic(SyntheticConfig(kind=kind, users=1000)).examples("test")
    shares = [n / len(examples) for n in Counter(e.target for e in examples).values()]
    assert len(shares) == 4
    assert max(shares) < 0.32


@KINDS
def test_no_user_of_one_split_is_in_another(kind):
    task = Synthetic(SyntheticConfig(kind=kind))
    users = [{e.request.user for e in task.examples(split)} for split in SPLITS]
    assert all(users)
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]


@KINDS
def test_equal_seeds_give_equal_tasks_and_others_do_not(kind):
    def test_split(seed):
        return Synthetic(SyntheticConfig(kind=kind, seed=seed)).examples("test")

    assert test_split(1) == test_split(1) != test_split(2)


@KINDS
def test_the_vocabulary_holds_every_word(kind):
    task = Synthetic(SyntheticConfig(kind=kind, topics=20, options=20, behaviors=20))
    words = set(task.vocabulary())
    assert len(words) == 40
    assert {w for b in task.behaviors() for w in (b.input, b.output)} <= words
    assert {e.request.query for e in task.examples("test")} | {e.target for e in task.examples("test")} <= words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"topics": 21}, "topics = 21; expected 1 to 20"),
        ({"options": 1}, "options = 1"),
        ({"behaviors": 3}, "behaviors = 3; expected 6"),
        ({"requests": 7}, "requests = 7"),
        ({"users": 2}, "users = 2"),
        ({"test": 0.95}, "leave some for train"),
    ],
)
def test_an_impossible_size_is_an_error_that_names_it(values, words):
    with pytest.raises(ConfigError, match=words):
        Synthetic(SyntheticConfig(**values))
