"""Building an answer set: from a recipe, killed and gone on with, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.answer_sets.make import build
from personaplug.bench.answer_sets.recipe import Recipe, draw_prompts
from personaplug.bench.answer_sets.statistics import facts, render_facts
from personaplug.bench.journal import Journal
from personaplug.core.config import from_mapping
from personaplug.core.errors import ConfigError, DataError
from personaplug.rewards.panel import Panel
from personaplug.tasks.simulate.answer_set import find_rows, read_answers


def recipe(folder: Path, **changes: Any) -> Recipe:
    words = ["great", "terrible", "quiet", "green", "happy", "angry", "small"]
    lines = [f"I saw {words[i % 7]} things number {i} today and {words[i % 5]} ones yesterday!" for i in range(30)]
    (folder / "prompts.txt").write_text("\n".join([*lines, lines[0], "too short"]))
    plain = {
        "prompts": {"path": str(folder / "prompts.txt"), "count": 20, "test": 6},
        "backbones": {"echo": {"name": "echo"}},
        "writers": {"long": {"backbone": "echo"}, "short": {"backbone": "echo", "max_tokens": 4}},
        "rewards": {"mood": {"name": "sentiment"}, "length": {"name": "length"}},
        "users": {"count": 50},
        "batch": 4,
    }
    return from_mapping(Recipe, {**plain, **changes}, where="recipe")


@contextmanager
def progress(name: str, total: int) -> Iterator[Any]:
    yield lambda _: None


def whole(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_set_is_in_the_published_columns_with_its_scales(tmp_path):
    built = build(recipe(tmp_path), tmp_path / "set", progress)
    test = read_answers(find_rows(tmp_path / "set", "test"), ["mood", "length"])
    assert (len(built.train), len(built.test)) == (14, 6)
    np.testing.assert_array_equal(test.raw, built.test.raw)
    assert test.models[0] == ("long", "short")
    assert test.answers[0] == (test.prompts[0], " ".join(test.prompts[0].split()[:4]))
    assert not set(built.train.prompts) & set(built.test.prompts)
    panel = Panel.load(tmp_path / "set" / "panel.json")
    assert panel.names == ("mood", "length")
    np.testing.assert_allclose(panel.standardise(built.train.raw).mean(axis=(0, 1)), 0, atol=1e-9)
    assert panel.scales[0].key == "sentiment:vader:1"


def test_a_killed_build_goes_on_and_ends_with_the_same_files(tmp_path, monkeypatch):
    straight = tmp_path / "straight"
    build(recipe(tmp_path), straight, progress)
    asked: list[str] = []
    real = EchoBackbone.generate

    def generate(self: Any, prompts: Any, sampling: Any) -> Any:
        if len(asked) >= 20 + 8:
            raise KeyboardInterrupt
        asked.extend(p.messages[-1].content for p in prompts)
        return real(self, prompts, sampling)

    monkeypatch.setattr(EchoBackbone, "generate", generate)
    killed = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        build(recipe(tmp_path), killed, progress)
    [torn] = (killed / "answers").glob("short-*.jsonl")
    torn.write_bytes(torn.read_bytes()[:-9])  # the last line did not get to the disk whole
    before = len(asked)
    asked[:] = []
    build(recipe(tmp_path), killed, progress)
    assert before == 28
    assert len(asked) == 20 - 8 + 1
    assert whole(killed) == whole(straight)
    asked[:] = []
    build(recipe(tmp_path), killed, progress)
    assert not asked


def test_a_changed_writer_is_asked_again_and_the_others_are_not(tmp_path, monkeypatch):
    build(recipe(tmp_path), tmp_path / "set", progress)
    asked: list[int] = []
    real = EchoBackbone.generate
    monkeypatch.setattr(EchoBackbone, "generate", lambda s, p, w: asked.append(w.max_tokens) or real(s, p, w))
    writers = {"long": {"backbone": "echo"}, "short": {"backbone": "echo", "max_tokens": 3}}
    build(recipe(tmp_path, writers=writers), tmp_path / "set", progress)
    assert set(asked) == {3}


def test_what_something_else_kept_is_refused(tmp_path):
    Journal(tmp_path / "a.jsonl", "one").add({"k": 1.0})
    assert Journal(tmp_path / "a.jsonl", "one").values == {"k": 1.0}
    with pytest.raises(DataError, match=r"made by 'one', not by 'two'; delete it"):
        Journal(tmp_path / "a.jsonl", "two")
    (tmp_path / "b.jsonl").write_text("no json\n")
    with pytest.raises(DataError, match="damaged; delete it"):
        Journal(tmp_path / "b.jsonl", "one")


def test_prompts_are_drawn_once_each_and_short_ones_left_out(tmp_path):
    found = draw_prompts(recipe(tmp_path).prompts)
    assert len(found) == len(set(found)) == 20
    assert "too short" not in found
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps({"prompt": f"a b c d e f {i}"}) for i in range(5)))
    other = from_mapping(type(recipe(tmp_path).prompts), {"path": str(tmp_path / "own.jsonl"), "test": 2}, where="p")
    assert len(draw_prompts(other)) == 5


def test_a_recipe_that_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"writers\.a: backbone = 'eco'; did you mean 'echo'"):
        recipe(tmp_path, writers={"a": {"backbone": "eco"}, "b": {"backbone": "echo"}})
    with pytest.raises(ConfigError, match=r"0 \[rewards"):
        recipe(tmp_path, rewards={})
    with pytest.raises(DataError, match="no such file"):
        draw_prompts(recipe(tmp_path, prompts={"path": str(tmp_path / "nowhere.txt"), "test": 2}).prompts)


def test_the_facts_and_their_page_hold_numbers_and_no_text_of_the_set(tmp_path):
    built = build(recipe(tmp_path), tmp_path / "set", progress)
    found = facts("tiny", recipe(tmp_path), built, {"answers of long": 1.0})
    assert [w.name for w in found.writers] == ["long", "short"]
    assert sum(w.best for w in found.writers) == pytest.approx(1)
    assert found.writers[1].words == 4
    assert found.best_gain >= 0
    assert len(found.diversity) == 5
    html = render_facts(found)
    assert "alpha" in html
    assert not any(p in html for p in built.train.prompts)
