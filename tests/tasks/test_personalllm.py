"""PersonalLLM's task: whose feedback, on what, and what answers are worth; the released code's faults are not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError
from personaplug.data.feedback import DISLIKED
from personaplug.metrics.scores import JUDGED
from personaplug.tasks.personalllm import PersonalLLM

WORDS = ["one", "two words", "now three words", "in all four words"]


def rows(count: int, start: int) -> list[dict[str, Any]]:
    """Four answers each; `a` likes the first, `b` the last, and the raw scales differ by a thousand."""
    return [
        {
            "prompt": f"question {start + i}?",
            **{f"response_{j + 1}": f"{WORDS[j]} {start + i}" for j in range(4)},
            **{f"response_{j + 1}_model": f"m{j + 1}" for j in range(4)},
            **{f"response_{j + 1}_a": 1000.0 * (4 - j) for j in range(4)},
            **{f"response_{j + 1}_b": float(j) for j in range(4)},
        }
        for i in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows(12, 0))))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows(4, 100))))
    scales = [
        {"name": "b", "mean": 1.5, "deviation": 1.118},
        {"name": "a", "mean": 2500.0, "deviation": 1118.0},
    ]
    (tmp_path / "panel.json").write_text(json.dumps(scales))
    sections = {"a": {"name": "length", "target": 1}, "b": {"name": "length"}}
    (tmp_path / "set.json").write_text(json.dumps({"users": {"count": 30, "alpha": 0.02}, "rewards": sections}))
    return tmp_path


def built(folder: Path, **config: Any) -> PersonalLLM:
    return registry.build("task", "personalllm", {"path": str(folder), **config})


def test_each_user_likes_by_their_own_weights_whatever_the_raw_scale_and_the_columns_order(folder):
    task = built(folder)
    likes_a = {f"user-{i:05d}": w[task.users.rewards.index("a")] > 0.5 for i, w in enumerate(task.users.weights)}
    assert len(set(likes_a.values())) == 2
    for behavior in task.behaviors():
        first = behavior.output.startswith("one")
        assert first == likes_a[behavior.user]
        assert behavior.fields[DISLIKED].startswith("in all four") == first
    for example in task.examples("test"):
        assert example.target.startswith("one") == likes_a[example.request.user or ""]


def test_every_stored_answer_is_shown_and_every_item_kept(folder):
    task = built(folder, feedback={"kind": "pair"}, history=6)
    shown = {text.rsplit(" ", 1)[0] for b in task.behaviors() for text in (b.output, b.fields[DISLIKED])}
    assert shown == set(WORDS)
    assert {len(e.history) for e in task.examples("train")} == {6}


def test_users_of_the_test_are_in_no_other_split_unless_asked(folder):
    task = built(folder)
    users = {s: {e.request.user for e in task.examples(s)} for s in ("train", "dev", "test")}
    assert not users["test"] & (users["train"] | users["dev"])
    assert not users["train"] & users["dev"]
    seen = built(folder, split="time")
    assert {e.request.user for e in seen.examples("test")} == {e.request.user for e in seen.examples("train")}
    assert not {e.id for e in seen.examples("dev")} & {e.id for e in seen.examples("train")}


def test_no_request_asks_what_is_in_its_history_and_the_test_asks_test_prompts(folder):
    task = built(folder, split="time", requests=2)
    for split in ("train", "dev", "test"):
        for example in task.examples(split):
            assert example.request.query not in {b.input for b in example.history}
            assert (int(example.request.query[9:-1]) >= 100) == (split == "test")


def test_more_history_leaves_requests_and_users_as_they_are(folder):
    few, many = built(folder, history=2), built(folder, history=7)
    for a, b in zip(few.examples("test"), many.examples("test"), strict=True):
        assert a.id == b.id
        assert a.target == b.target
        assert [x.output for x in a.history] == [x.output for x in b.history.last(2)]


def test_answers_are_judged_by_the_users_own_weights(folder):
    task = built(folder, reference="m2")
    examples = task.examples("test")
    stored = [task.stored(e) for e in examples]
    for example, texts in zip(examples, stored, strict=True):
        worth = task.stored_worth(example)
        assert texts[int(worth.argmax())] == example.target
        assert task.reference(example) == 1
    judged = task.judge(examples, ["x " * 200 if "four" in e.target else "x" for e in examples])
    assert set(judged) == {"user_reward", "win_reference", "win_best"} <= set(JUDGED)
    raw = np.stack([task.rewards[n].score(["q"] * 2, ["x", "x y"]) for n in task.panel.names], axis=-1)
    expected = task.users.weights[int((examples[0].request.user or "")[5:])] @ task.panel.standardise(raw)[1]
    assert task.judge(examples[:1], ["x y"])["user_reward"][0] == pytest.approx(expected)


def test_thumbs_and_ratings_are_kept_as_ratings_and_worded_so(folder):
    task = built(folder, feedback={"kind": "thumbs"})
    assert {b.rating for b in task.behaviors()} == {0.0, 1.0}
    assert "{rating}" in task.info.wording.item


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"rewards": ["aa"]}, DataError, "no reward is named 'aa'"),
        ({"requests": 0}, ConfigError, "requests = 0"),
        ({"test": 0.9, "dev": 0.2}, ConfigError, "leave some for train"),
        ({"path": "/nowhere"}, DataError, "no such folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(folder, config, error, said):
    with pytest.raises(error, match=said):
        built(folder, **config).examples("test")


def test_a_reference_that_nobody_wrote_is_named(folder):
    task = built(folder, reference="m9")
    with pytest.raises(DataError, match="no answer is by the reference 'm9'"):
        task.reference(task.examples("test")[0])
