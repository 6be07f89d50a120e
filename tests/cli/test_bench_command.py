"""`personaplug bench` through the real command, with no model."""

from __future__ import annotations

import json

import pytest

CONFIG = """
[task]
name = "synthetic"
users = 24

[backbone]
name = "echo"

[encoder]
name = "hashing"

[method]
name = "recent"

[methods.bm25]
k = 2

[methods.stats]

[bench]
controls = ["shuffled users"]
"""


@pytest.fixture
def configs(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "one.toml").write_text(CONFIG)
    (folder / "two.toml").write_text(CONFIG.replace("users = 24", "users = 36"))
    return folder


def rows(path):
    return [(r["method"], r["control"]) for r in json.loads(path.read_text())["rows"]]


@pytest.mark.slow
def test_a_folder_of_experiments_is_measured_and_a_report_written_and_again_is_free(run, configs, tmp_path):
    done = run("bench", configs, "--report", "page.html", "--limit", 12)
    assert done.exit_code == 0
    files = sorted((tmp_path / "results").rglob("*.json"))
    assert [f.name for f in files] == ["one-seed0.json", "two-seed0.json"]
    assert rows(files[0]) == [
        ("none", ""),
        *[(m, c) for m in ("bm25", "stats", "recent") for c in ("", "shuffled users")],
    ]
    assert "bm25" in (tmp_path / "page.html").read_text()
    stamps = [f.stat().st_mtime_ns for f in files]
    again = run("bench", configs, "--limit", 12)
    assert "measuring" not in again.stderr
    assert [f.stat().st_mtime_ns for f in files] == stamps


def test_a_method_that_fails_is_told_and_noted_and_the_rest_is_measured(run, configs, tmp_path):
    done = run("bench", configs / "one.toml", "--methods", "none,recent,plug")
    assert done.exit_code == 1
    assert "failed: " in done.stderr
    assert "plug: method 'plug' needs text+prefix" in done.stderr
    [file] = (tmp_path / "results").rglob("*.json")
    assert {m for m, _ in rows(file)} == {"none", "recent"}
    assert "plug" in json.loads(file.read_text())["failures"]


@pytest.mark.slow
def test_all_methods_that_the_backbone_can_run_are_run(run, configs, tmp_path):
    done = run("bench", configs / "one.toml", "--methods", "all", "--limit", 6, "--set", "training.steps=2")
    [file] = (tmp_path / "results").rglob("*.json")
    assert {m for m, _ in rows(file)} >= {"none", "random", "recent", "bm25", "dense", "rrf", "stats", "summary"}
    assert not json.loads(file.read_text())["failures"], done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "bm52"], "method 'bm52' is neither in the experiment nor on the shelf; did you mean 'bm25'?"),
        (["--set", "bench.limt=3"], "unknown key 'limt'"),
        (["--set", "bench.controls=['shufled users']"], "control 'shufled users' is unknown"),
        (["--set", "task.name=nothing"], "no task is named 'nothing'"),
        (["--set", "methods.bm25.kk=3"], "unknown key 'kk'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_result(run, configs, tmp_path, words, said):
    done = run("bench", configs / "one.toml", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.strip().count("\n") <= 3
    assert not list(tmp_path.rglob("*-seed0.json"))


def test_an_empty_folder_is_told(run, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("bench", tmp_path / "empty")
    assert (done.exit_code, "no .toml file in this folder" in done.stderr) == (2, True)


def test_an_experiment_that_another_process_measures_is_left_to_it(run, configs, tmp_path):
    from filelock import FileLock

    folder = tmp_path / "runs" / "bench" / "experiments" / "one"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        done = run("bench", configs / "one.toml")
    assert done.exit_code == 2
    assert "another process is measuring this experiment" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_experiments_side_by_side_leave_what_one_after_the_other_leave(run, configs, tmp_path):
    run("bench", configs, "--limit", 6, "--results", "one-by-one")
    done = run("bench", configs, "--limit", 6, "--jobs", 2, "--out", "other", "--report", "page.html")
    assert done.exit_code == 0
    for path in sorted((tmp_path / "one-by-one").rglob("*.json")):
        other = tmp_path / "results" / path.relative_to(tmp_path / "one-by-one")
        scores = [
            [(r["method"], r["control"], r["scores"]) for r in json.loads(f.read_text())["rows"]] for f in (path, other)
        ]
        assert scores[0] == scores[1]
    assert (tmp_path / "page.html").exists()
