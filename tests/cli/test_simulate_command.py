"""`personaplug simulate` from a recipe to a set, its statistics and a page."""

from __future__ import annotations

import json

import pytest

RECIPE = """
batch = 4
[prompts]
path = "{folder}/prompts.txt"
count = 12
test = 4
[backbones.echo]
name = "echo"
[writers.long]
backbone = "echo"
[writers.short]
backbone = "echo"
max_tokens = 3
[rewards.length]
name = "length"
[rewards.flat]
name = "style"
taste = "emoji"
[users]
count = 20
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(f"one two three four five six {'x ' * i}" for i in range(12)))
    (tmp_path / "tiny.toml").write_text(RECIPE.format(folder=tmp_path))
    return tmp_path / "tiny.toml"


def test_a_recipe_becomes_a_set_with_statistics_and_a_page(recipe, run, tmp_path):
    done = run("simulate", str(recipe), "--report", "page.html")
    assert done.exit_code == 0, done.output
    assert "12 prompts, 2 answers each, 2 rewards" in done.stdout
    assert "gives all answers the same score: flat" in done.stderr
    folder = tmp_path / "runs" / "personalllm" / "tiny"
    assert len((folder / "test.jsonl").read_text().splitlines()) == 4
    found = json.loads((tmp_path / "results" / "personalllm" / "tiny.set.json").read_text())
    assert found["train"] == 8
    assert "one two three" not in json.dumps(found)
    assert str(tmp_path) not in json.dumps(found)
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_a_wrong_key_is_one_line(recipe, run):
    done = run("simulate", str(recipe), "--set", "prompts.cuont=3")
    assert done.exit_code == 2
    assert "did you mean 'count'?" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.model
def test_a_real_model_writes_in_several_styles_and_a_second_run_is_free(recipe, run, tmp_path):
    from personaplug import models

    models.pull("smollm2-135m")
    text = recipe.read_text().replace('name = "echo"', 'name = "causal"\nmodel = "smollm2-135m"')
    text = text.replace("max_tokens = 3", 'max_tokens = 8\nsystem = "You are a pirate."')
    recipe.write_text(
        text.replace("[writers.long]", "[writers.long]\nmax_tokens = 8") + '[rewards.kind]\nname = "likelihood"\n'
    )
    done = run("simulate", str(recipe))
    assert done.exit_code == 0, done.output
    folder = tmp_path / "runs" / "personalllm" / "tiny"
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len({row["response_1"] for row in rows}) > 1
    assert any(row["response_1"] != row["response_2"] for row in rows)
    before = (folder / "train.jsonl").read_bytes()
    assert "answers of" not in run("simulate", str(recipe)).stderr
    assert (folder / "train.jsonl").read_bytes() == before
