"""What every task on the shelf promises."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from personaplug.core import registry
from personaplug.core.config import fill, from_mapping, to_mapping
from personaplug.metrics.scores import METRICS
from personaplug.tasks.base import Task

SPLITS = ("train", "dev", "test")


def jsonl(folder: Path) -> dict[str, Any]:
    lines = [
        {"user": f"u{u}", "id": f"{u}-{i}", "at": 100 * i + u, "input": f"what {i}?", "output": f"that {u}"}
        for u in range(3)
        for i in range(20)
    ]
    (folder / "behaviors.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return {"path": str(folder)}


def lamp(folder: Path) -> dict[str, Any]:
    for s, split in enumerate(SPLITS):
        questions = [
            {
                "id": f"{u}{s}",
                "input": f"Generate a headline for the following article: news {u}",
                "user_id": f"u{u}",
                "profile": [
                    {"id": f"p{i}", "text": f"text {i}", "title": f"title {i}", "date": f"2020-01-0{i + 1}"}
                    for i in range(4 + s)
                ],
            }
            for u in range(3)
        ]
        golds = [{"id": q["id"], "output": "a headline"} for q in questions]
        (folder / f"{split}_questions.json").write_text(json.dumps(questions))
        (folder / f"{split}_outputs.json").write_text(json.dumps({"task": "LaMP_4", "golds": golds}))
    return {"path": str(folder)}


def personalllm(folder: Path) -> dict[str, Any]:
    for split, count in (("train", 10), ("test", 3)):
        rows = [
            {
                "prompt": f"{split} {i}?",
                **{f"response_{j}": f"answer {j} to {split} {i}" for j in (1, 2, 3)},
                **{f"response_{j}_model": f"m{j}" for j in (1, 2, 3)},
                **{f"response_{j}_{w}": float(i * j) for j in (1, 2, 3) for w in ("gemma_2b", "gemma_7b")},
            }
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return {"path": str(folder), "users": 12, "rewards": ["gemma_2b", "gemma_7b"]}


def rated(folder: Path) -> dict[str, Any]:
    lines = [
        {"user": f"u{u}", "id": f"{i}", "at": 10 * i + u, "input": f"film {i}", "output": "", "rating": i * 7 % 5 / 4}
        for u in range(3)
        for i in range(60)
    ]
    (folder / "behaviors.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return {"path": str(folder), "options": 3}


# A miniature of each task that needs data: writes what it reads into a folder and returns the configuration.
MINIATURES = {
    "jsonl": jsonl,
    "lamp": lamp,
    "personalllm": personalllm,
    "rated": rated,
    "synthetic": lambda folder: {"users": 20},  # its default is larger
}


@pytest.fixture(params=registry.names("task"))
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    miniature = MINIATURES.get(request.param, lambda folder: {})
    return registry.build("task", request.param, miniature(tmp_path))


def test_says_what_it_is_and_where_it_is_from(task):
    assert task.summary
    assert "\n" not in task.summary
    assert task.source
    assert task.info.name
    assert set(task.info.metrics) <= set(METRICS)
    assert not (task.info.options and task.info.kind == "text")


def test_its_configuration_survives_toml(task):
    assert dataclasses.is_dataclass(task.Config)
    assert from_mapping(task.Config, to_mapping(task.config)) == task.config


def test_every_split_has_examples_and_is_the_same_at_each_call(task):
    for split in SPLITS:
        assert task.examples(split)
        assert task.examples(split) == task.examples(split)


def test_example_ids_are_unique(task):
    ids = [e.id for split in SPLITS for e in task.examples(split)]
    assert len(ids) == len(set(ids))


def test_every_history_is_the_askers_oldest_first_and_before_the_request(task):
    for split in SPLITS:
        for example in task.examples(split):
            assert example.history.user == example.request.user
            assert {b.user for b in example.history} <= {example.request.user}
            ats = [b.at for b in example.history if b.at is not None]
            assert ats == sorted(ats)
            if example.request.at is not None:
                assert all(at < example.request.at for at in ats)


def test_every_history_is_part_of_what_it_would_ingest(task):
    ingested = list(task.behaviors())
    assert len({(b.user, b.id) for b in ingested}) == len(ingested)
    known = {(b.user, b.id): b for b in ingested}
    for split in SPLITS:
        for example in task.examples(split):
            assert all(known[b.user, b.id] == b for b in example.history)


def test_targets_are_among_the_options(task):
    for split in SPLITS:
        for example in task.examples(split):
            assert example.target
            assert bool(example.options) == (task.info.kind != "text")
            assert not task.info.options or example.options == task.info.options  # else they are the request's own
            assert not example.options or example.target in example.options
            assert len(set(example.options)) == len(example.options)


def test_the_history_text_can_be_filled_from_its_behaviours(task):
    for b in task.behaviors():
        assert fill(task.info.history_text, {"input": b.input, "output": b.output, **b.fields}, "history_text").strip()
