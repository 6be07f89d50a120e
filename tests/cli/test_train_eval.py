from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_run import run, write_config, write_data


@pytest.fixture
def config(tmp_path, tiny_causal, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path, tiny_causal)


def test_a_second_training_is_free_and_another_configuration_is_refused(config):
    assert "4 steps in" in run("train", config)
    assert Path("runs/tiny/plug/model.safetensors").exists()
    assert "trained already with this configuration" in run("train", config)
    told = run("train", config, "--set", "training.steps=5", code=2)
    assert "training.steps = 4, now it is 5" in told


@pytest.mark.slow
def test_eval_of_a_trained_folder_leaves_results_claims_and_a_report(config):
    run("train", config, "--out", "out")
    told = run("eval", "out", "--seeds", 3, "--generate", 3, "--report", "report.html")
    for title in ("none", "task_prompt", "plug", "plug, shuffled users", "plug, no history"):
        assert title in told
    for seed in (0, 1, 2):
        kept = json.loads(Path(f"results/data/out-seed{seed}.json").read_text())
        assert [r["method"] for r in kept["rows"]] == ["none", "task_prompt", "plug", "plug", "plug"]
        assert str(config.parent) not in json.dumps(kept)
    ids = [c["id"] for c in json.loads(Path("results/claims.json").read_text())]
    assert ids == ["data.out.plug-beats-shuffled-users", "data.out.plug-beats-task-prompt"]
    assert "The same request, two people" in Path("report.html").read_text()
    refused = run("eval", "results/data/out-seed0.json", code=2)
    assert "a result, and not a configuration; look at it with: personaplug report" in refused


def test_a_method_without_training_is_measured_and_has_no_rival(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text(
        "task.name = 'synthetic'\ntask.users = 20\nbackbone.name = 'echo'\nmethod.name = 'none'\nencoder = {}\n"
    )
    assert "none has nothing to train" in run("train", "a.toml")
    assert "only one row was measured" in run("eval", "a.toml")
    assert not Path("results/claims.json").exists()


def test_wrong_inputs_are_one_line_and_exit_code_2(tmp_path, config, monkeypatch):
    assert "no such configuration file" in run("train", "missing.toml", code=2)
    assert "unknown key 'persona_token'" in run("train", config, "--set", "method.persona_token=2", code=2)
    assert "no such result" in run("report", "missing.json", code=2)


@pytest.mark.slow
def test_the_demo_goes_from_nothing_to_a_report_and_a_second_run_repeats_nothing(tmp_path, tiny_causal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {
        "backbone.model": tiny_causal, "backbone.dtype": "float32", "encoder.layer": 1,
        "task.path": write_data(tmp_path / "d"), "task.min_history": 2, "training.steps": 3, "training.batch_size": 4,
    }  # fmt: skip
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    first = run("demo", "--out", "demo", *sets)
    assert "72 new" in first
    for said in ("plug, shuffled users", "as nobody", "looked at", "training plug"):
        assert said in first
    report = Path("demo/report.html").read_text()
    assert "The same request, two people" in report
    second = run("demo", "--out", "demo", *sets)
    assert "0 new" in second
    assert "training" not in second
    assert "measuring" not in second


@pytest.mark.model
def test_the_real_small_model_trains_and_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, "smollm2-135m", steps=2)
    sets = ["--set", "encoder.name=hidden", "--set", "task.requests_per_user=2", "--set", "backbone.dtype=bfloat16"]
    told = run("eval", config, *sets, "--limit", 6, "--generate", 2)
    assert "task_prompt" in told
    rows = json.loads(Path("results/data/tiny-seed0.json").read_text())["rows"]
    assert all(0 < r["scores"]["nll"] < 20 for r in rows)


def test_voices_measures_what_people_see_and_writes_it_with_intervals(run, tmp_path, tiny_causal):
    config = write_config(tmp_path, tiny_causal)
    words = ("voices", config, "--people", 3, "--among", 2, "--questions", 2, "--texts", 4, "--off-topic", 0)
    result = run(*words, "--strength", 1, "--strength", 2, "--results", tmp_path / "results", "--show")
    assert result.exit_code == 0
    assert "plug, strength 2" in result.stdout
    [path] = (tmp_path / "results").rglob("*.voices.json")
    found = json.loads(path.read_text())
    assert [row["strength"] for row in found["rows"]] == [1.0, 2.0]
    assert {"mean", "low", "high"} <= found["rows"][0]["scores"]["author"].keys()
    refused = run(*words, "--among", 9)
    assert refused.exit_code == 2
    assert "among" in refused.stderr
