"""Texts that people rated: pairs that leak nothing, requests that can be answered, and what answers are worth."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError
from personaplug.data.feedback import DISLIKED, preference
from personaplug.tasks.rated import Rated

SPLITS = ("train", "dev", "test")


def write(folder: Path, ratings: dict[str, list[Any]], **more: Any) -> Path:
    """Each user rated text 0, 1, 2, ... at times that rise; a string is an output, a number a rating."""
    lines = [
        {
            "user": user,
            "id": str(i),
            "at": i,
            "input": f"text number {i} and so on",
            **({"output": value} if isinstance(value, str) else {"output": "", "rating": value}),
            **more,
        }
        for user, values in ratings.items()
        for i, value in enumerate(values)
    ]
    (folder / "behaviors.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def built(folder: Path, **config: Any) -> Rated:
    return registry.build("task", "rated", {"path": str(folder), "options": 2, **config})


def number(text: str) -> int:
    return int(text.split()[2])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60), min_size=2
    ),
    st.integers(2, 4),
    st.sampled_from(["time", "user"]),
    st.booleans(),
)
def test_nothing_of_a_request_is_known_before_it(tmp_path, ratings, options, split, by_text):
    task = built(write(tmp_path, ratings), options=options, split=split, by_text=by_text, test=0.3, dev=0.2)
    try:
        examples = {s: task.examples(s) for s in SPLITS}
    except DataError as error:
        assert "nobody rated one of" in str(error)  # noqa: PT017 - many of these users rated too little
        return
    asked: set[tuple[str | None, str]] = set()
    known = {t for b in task.behaviors() for t in (b.output, b.fields[DISLIKED])}
    for part in SPLITS:
        for example in examples[part]:
            own = ratings[example.history.user]
            levels = {text: own[number(text)] for text in example.options}
            assert len(levels) == options
            assert [t for t, level in levels.items() if level >= max(levels.values())] == [example.target]
            assert not any(text in m.content for m in example.request.messages for text in example.options)
            assert not asked & {(example.request.user, text) for text in example.options}
            asked |= {(example.request.user, text) for text in example.options}
            shown = [t for b in example.history for t in (b.output, b.fields[DISLIKED])]
            assert len(set(shown)) == len(shown)
            assert all(number(t) < min(map(number, example.options)) for t in shown)
            assert all(own[number(b.output)] > own[number(b.fields[DISLIKED])] for b in example.history)
            if by_text:
                assert (part == "train") or not known & set(example.options)
    users = {s: {e.history.user for e in examples[s]} for s in SPLITS}
    assert split == "time" or all(users[a].isdisjoint(users[b]) for a, b in itertools.combinations(SPLITS, 2))
    if by_text:
        texts = {s: {t for e in examples[s] for t in e.options} for s in SPLITS}
        assert texts["train"].isdisjoint(texts["dev"] | texts["test"])


def test_outputs_may_say_what_was_liked_and_a_rating_then_says_what_it_is_worth(tmp_path):
    folder = write(tmp_path, {u: ["yes", "no", "dunno"] * 20 for u in "ab"}, rating=0.8)
    task = built(folder, liked=["yes"], disliked=["no"], split="user", test=0.5, dev=0.0)
    for behavior in task.behaviors():
        assert number(behavior.output) % 3 == 0
        assert number(behavior.fields[DISLIKED]) % 3 == 1
        said = preference(behavior)
        assert (said.prompt, said.pair) == ("Which of these would this user like?", True)
    examples = [e for s in SPLITS for e in task.examples(s)]
    assert all(number(e.target) % 3 == 0 for e in examples)
    assert set(task.judge(examples, [e.target for e in examples])["user_rating"]) == {0.8}


def test_an_answer_is_worth_its_rating_and_stands_between_chance_and_the_best(tmp_path):
    task = built(write(tmp_path, {"a": [0.0, 0.5, 1.0] * 20}), options=3)
    [example] = task.examples("test")[-1:]
    ranked = sorted(example.options, key=lambda t: number(t) % 3)
    judged = task.judge([example] * 3, ranked)
    assert judged == {"user_rating": (0.0, 0.5, 1.0), "chance_to_best": (-1.0, 0.0, 1.0)}
    with pytest.raises(DataError, match="is none of its options"):
        task.judge([example], ["something else"])


def test_a_text_is_cut_and_counts_once(tmp_path):
    folder = write(tmp_path, {"a": [i % 2 for i in range(40)]})
    lines = (folder / "behaviors.jsonl").read_text().splitlines()
    again = [json.dumps({**json.loads(line), "id": f"again {i}", "at": 100 + i}) for i, line in enumerate(lines)]
    (folder / "behaviors.jsonl").write_text("\n".join([*lines, *again]))
    task = built(folder, max_words=3)
    texts = [t for b in task.behaviors() for t in (b.output, b.fields[DISLIKED])]
    assert sorted(texts, key=number) == [f"text number {i}" for i in range(40)]


def test_no_two_configurations_give_one_id_to_different_behaviours(tmp_path):
    folder = write(tmp_path, {"a": [0.0, 1.0] * 9})
    found: dict[str, Any] = {}
    for task in (registry.build("task", "jsonl", {"path": str(folder)}), built(folder), built(folder, max_words=3)):
        for behavior in task.behaviors():
            assert found.setdefault(behavior.id, behavior) == behavior
    assert len(found) == 18 + 9 + 9


def test_a_user_who_likes_everything_has_no_pairs_and_asks_nothing(tmp_path):
    task = built(write(tmp_path, {"a": [1.0] * 40, "b": [0.0, 1.0] * 20}))
    assert {b.user for b in task.behaviors()} == {"b"}
    assert {e.history.user for s in SPLITS for e in task.examples(s)} == {"b"}


def test_requests_and_histories_are_limited_as_asked(tmp_path):
    folder = write(tmp_path, {u: [0.0, 1.0] * 40 for u in "abcd"})
    task = built(folder, requests_per_user=2, eval_requests_per_user=1, max_history=3, max_users=3)
    assert len(task.examples("train")) == 6
    assert len(task.examples("test")) == 3
    assert max(len(e.history) for e in task.examples("test")) == 3
    longer = built(folder, eval_requests_per_user=1, max_users=3)
    for few, many in zip(task.examples("test"), longer.examples("test"), strict=True):
        assert few.id == many.id
        assert few.history.behaviors == many.history.behaviors[-3:]


@pytest.mark.parametrize(
    ("ratings", "config", "error", "said"),
    [
        (["yes", "no"], {}, DataError, r"no behaviour has an input and a rating; say which outputs are liked"),
        (["yes", "no"], {"liked": ["yess"]}, ConfigError, "no output is 'yess' .*did you mean 'yes'"),
        ([0.0, 1.0] * 9, {"options": 1}, ConfigError, "options = 1"),
        ([0.0, 1.0] * 9, {"disliked": ["no"]}, ConfigError, "disliked is set and liked is not"),
        ([0.0, 1.0] * 9, {"requests_per_user": -1}, ConfigError, "0 \\(no limit\\) or more"),
        ([0.0, 1.0] * 9, {"min_history": 99}, DataError, "lower options or min_history"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, ratings, config, error, said):
    with pytest.raises(error, match=said) as caught:
        built(write(tmp_path, {"a": ratings}), **config).examples("test")
    assert "\n" not in str(caught.value)
