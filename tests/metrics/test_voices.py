"""Habits of writing, whose voice an answer has, what is broken, and questions that need no persona."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from personaplug.core.errors import DataError
from personaplug.metrics import off_topic
from personaplug.metrics.habits import HABITS, agreement, agreements, habit_correlation, profile, strongest
from personaplug.metrics.voices import author_retrieval, broken, distinct

LOUD = ["WOW that is great!!", "Yes!! I AM coming", "No way!!"]
QUIET = ["not sure", "maybe later", "i dont think so"]


@pytest.mark.parametrize(
    ("habit", "there", "absent", "neither"),
    [
        ("begins in lower case", "ok then", "Ok then", "123"),
        ("begins in lower case", '"so what', "(So what", ""),
        ("ends with a full stop", "Fine. ", "Fine", " "),
        ("ends without a mark", "see you", "see you!", ""),
        ("exclamation marks", "no!", "no", ""),
        ("question marks", "who? me", "me", ""),
        ("commas", "yes, sure", "yes sure", ""),
        ("dots in a row", "well...", "well.", ""),
        ("emoji", "nice 🎉", "nice", ""),
        ("emoji", "nice :-)", "ratio 3:1 (approx)", ""),
        ("five words or fewer", "on my way", "I shall be with you in an hour", "?!"),
        ("apostrophes in don't, I'm", "I don't", "I dont", "I do not"),
        ("slang", "idk u tell me", "You tell me", ""),
        ("greets", "Hi Bob, ok", "This is it", ""),
        ("signs off", "See you.\nKind regards,\nRobert", "Regards are not all", ""),
        ("words in capitals", "that is SO good", "That is so good, I say", ""),
        ("repeated letters or marks", "sooo good", "so good", ""),
        ("repeated letters or marks", "what?!", "what?", ""),
    ],
)
def test_a_habit_is_there_or_not_or_does_not_apply(habit, there, absent, neither):
    assert HABITS[habit](there) == 1.0
    assert HABITS[habit](absent) == 0.0
    if habit in ("begins in lower case", "apostrophes in don't, I'm") or not neither.strip():
        assert HABITS[habit](neither) is None


def test_every_habit_takes_any_text():
    for habit in HABITS.values():
        for text in ("", " \n", "日本語です。", "☃", "a" * 5000, "'", "e\u0301"):
            value = habit(text)
            assert value is None or 0.0 <= value <= 1.0


def test_a_profile_is_the_share_of_texts_with_each_habit_and_the_strongest_differ_most_from_everybody():
    loud, everybody = profile(LOUD), profile([*LOUD, *QUIET])
    assert loud["exclamation marks"] == 1.0
    assert everybody["exclamation marks"] == 0.5
    assert "exclamation marks" in strongest(loud, everybody)
    assert len(strongest(loud, everybody, 2)) == 2
    assert profile([]) == {}


def test_answers_that_keep_to_a_persons_habits_agree_more_than_other_peoples():
    texts = {"loud": LOUD, "quiet": QUIET}
    answers = {"loud": ["Great!!", "YES!!"], "quiet": ["maybe", "dont know"]}
    found = agreements(answers, texts)
    assert {a.user for a in found} == {"loud", "quiet"}
    assert all(a.own > a.others for a in found)
    swapped = agreements({"loud": answers["quiet"], "quiet": answers["loud"]}, texts)
    assert all(a.own < a.others for a in swapped)
    same = agreements({"loud": ["Ok."], "quiet": ["Ok."]}, texts)
    assert all(a.own == pytest.approx(a.others) for a in same)


def test_agreement_by_hand():
    assert agreement(["a", "B"], "begins in lower case", 0.75) == pytest.approx((0.75 + 0.25) / 2)
    assert agreement(["..."], "begins in lower case", 0.75) is None
    with pytest.raises(DataError, match="nobody to compare"):
        agreements({"one": ["a"]}, {"one": ["a"]})


def test_habits_correlate_where_answers_follow_their_people():
    texts = {"a": ["x", "y"], "b": ["x", "Y"], "c": ["X", "Y"]}
    assert habit_correlation(texts, texts, "begins in lower case") == pytest.approx(1.0)
    assert habit_correlation({u: ["Same"] for u in texts}, texts, "begins in lower case") is None


def people(count: int, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, 8))
    texts = {str(u): centres[u] + 0.1 * rng.normal(size=(20, 8)) for u in range(count)}
    answers = {str(u): centres[u] + 0.1 * rng.normal(size=(6, 8)) for u in range(count)}
    return answers, texts


def test_the_author_is_found_where_answers_are_like_their_texts_and_by_chance_where_all_are_alike():
    answers, texts = people(20)
    assert np.mean(list(author_retrieval(answers, texts).values())) == pytest.approx(1.0)
    alike = {u: np.ones((3, 8)) for u in texts}
    assert np.mean(list(author_retrieval(alike, texts).values())) == pytest.approx(0.1, abs=0.06)
    nowhere = {u: np.stack([t.mean(axis=0) for t in texts.values()]).mean(axis=0)[None] * 0 for u in texts}
    constant = {u: np.ones((4, 8)) for u in texts}
    assert author_retrieval(nowhere, constant)["0"] == pytest.approx(0.1)  # nothing differs: all are tied


def test_the_chance_of_retrieval_is_that_of_drawing_none_who_is_nearer():
    texts = {str(u): np.eye(12)[[u, u]] for u in range(12)}
    answers = {**texts, "0": np.eye(12)[[0]] + 2 * np.eye(12)[[1]]}  # exactly one of eleven others is nearer
    found = author_retrieval(answers, texts, among=10)["0"]
    assert found == pytest.approx(math.comb(10, 9) / math.comb(11, 9))
    with pytest.raises(DataError, match="among 13"):
        author_retrieval(answers, texts, among=13)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ?! ",
        "I'm so sorry. I'm so sorry.",
        "no no no no",
        "we go to the sea and we go to the sea",
        "#10" * 9,
        "\n\n",
    ],
)
def test_empty_and_looping_answers_are_broken_and_count_for_nothing(text):
    assert broken(text)
    assert distinct([text, "see you", "See you"]) == 2


@pytest.mark.parametrize(
    "text", ["haha", "ok", "no no", "I know. You know.", "see you at 10:30, maybe 11", "soooo cool!!!"]
)
def test_an_ordinary_answer_is_not_broken(text):
    assert not broken(text)


def test_the_questions_are_about_two_hundred_of_three_kinds_and_each_accepts_a_right_answer():
    found = off_topic.questions()
    assert 190 <= len(found) <= 220
    assert len({q.id for q in found}) == len({q.question for q in found}) == len(found)
    assert min(Counter(q.kind for q in found).values()) >= 30
    for q in found:
        assert not off_topic.right(q, "I'm going to the party tonight"), q
        assert not off_topic.right(q, ""), q
        if q.kind != "format":
            assert off_topic.right(q, f"Well, it is {q.accepted[0]}."), q


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("What is the capital of France?", "The capital is Paris.", "Parisian"),
        ("What is half of 20?", "Half of 20 is 10.", "20"),
        ("Count from 1 to 3. Write only the numbers, separated by commas.", "1, 2, 3", "Sure! 1, 2, 3"),
        ("List 2 colours, one on each line, each line beginning with a dash.", "- red\n- blue", "red and blue"),
        ("Is fire hot? Answer yes or no.", "Yes, it is.", "It is hot, yes"),
    ],
)
def test_a_checker_takes_the_right_answer_alone(question, right, wrong):
    [q] = [q for q in off_topic.questions() if q.question == question]
    assert off_topic.right(q, right)
    assert not off_topic.right(q, wrong)


def test_what_a_persona_costs_is_counted_where_the_bare_model_is_right():
    asked = off_topic.questions()[:3]
    bare = ["Paris", "Berlin", "no idea"]
    assert off_topic.retained(asked, bare, ["Paris it is", "the beach", "Rome"]) == [1.0, 0.0]
    with pytest.raises(DataError, match="3 questions"):
        off_topic.retained(asked, bare, [])
