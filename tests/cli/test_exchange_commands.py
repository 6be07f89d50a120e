"""`predict` writes what LaMP's evaluator reads, `score` reads it, and what is wrong leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mini_lamp
from personaplug.backbones.echo import EchoBackbone

ECHO = '[backbone]\nname = "echo"\n[encoder]\nname = "hashing"\n'


@pytest.fixture
def config(tmp_path):
    """Writes LaMP.toml, for a task's files in miniature."""

    def make(task: str = "LaMP_4", more: str = '[method]\nname = "recent"\n', **how) -> Path:
        folder = mini_lamp.write(tmp_path / "lamp", task, **how)
        path = tmp_path / "LaMP.toml"
        path.write_text(f'[task]\nname = "lamp"\npath = "{folder}"\n{ECHO}{more}')
        return path

    return make


def written(path: str | Path) -> tuple[str, dict[str, str]]:
    body = json.loads(Path(path).read_text("utf-8"))
    assert set(body) == {"task", "golds"}
    assert all(set(gold) == {"id", "output"} for gold in body["golds"])
    return body["task"], {gold["id"]: gold["output"] for gold in body["golds"]}


def questions(split: str) -> list[dict]:
    return json.loads(Path(f"lamp/{split}_questions.json").read_text("utf-8"))


def refused(result) -> str:
    assert result.exit_code == 2
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.endswith(line + "\n")
    return line


@pytest.mark.parametrize("task", ["LaMP_1", "LaMP_2", "LaMP_3", "LaMP_7"])
def test_a_test_without_its_answers_is_predicted_in_one_step(run, config, task):
    done = run("predict", config(task, withheld=True), "--out", "p.json")
    assert done.exit_code == 0
    assert f"p.json: 3 predictions for {task} (test) by recent" in done.stdout
    name, answers = written("p.json")
    assert name == task
    assert list(answers) == [q["id"] for q in questions("test")]
    assert all(answers.values())


def test_a_prediction_is_scored_by_the_official_metrics(run, config):
    run("predict", config("LaMP_3", users=4), "--split", "dev", "--out", "out/dev.json")
    done = run("score", "out/dev.json", "lamp/dev_outputs.json", "--json", "scores.json")
    assert done.exit_code == 0
    kept = json.loads(Path("scores.json").read_text())["LaMP_3"]
    assert set(kept) == {"mae", "rmse", "requests"}
    assert kept["requests"] == 4
    for value in ("LaMP_3", f"{kept['mae']:.4f}", f"{kept['rmse']:.4f}"):
        assert value in done.stdout
    assert run("score", "out", "lamp/dev_outputs.json").stdout == done.stdout  # a folder of one task


def test_a_method_is_chosen_by_its_label_or_its_name(run, config):
    path = config(more='[method]\nname = "none"\n[methods.one]\nname = "recent"\nk = 1\n')
    told = {}
    for label in ("none", "one", "recent"):
        run("predict", path, "--method", label, "--out", f"{label}.json")
        told[label] = [text.count("is the title for") for text in written(f"{label}.json")[1].values()]
    assert told == {"none": [0] * 3, "one": [1] * 3, "recent": [4] * 3}
    assert "did you mean 'one'?" in refused(run("predict", path, "--method", "onee", "--out", "x.json"))


def test_a_method_that_needs_no_training_needs_no_train_files(run, config):
    path = config("LaMP_5", withheld=True)
    for split in ("train", "dev"):
        for what in ("questions", "outputs"):
            Path(f"lamp/{split}_{what}.json").unlink()
    done = run("predict", path, "--set", "task.task=LaMP_5", "--method", "bm25", "--out", "p.json", "--limit", 2)
    assert done.exit_code == 0
    assert len(written("p.json")[1]) == 2


def test_a_trained_folder_predicts_without_training_again(run, config, tiny_causal):
    plug = '[method]\nname = "plug"\n[training]\nsteps = 2\nbatch_size = 2\n'
    path = config("LaMP_1", plug)
    sets = ["--set", f"backbone={{name = 'causal', model = '{tiny_causal}', dtype = 'float32', device = 'cpu'}}"]
    first = run("predict", path, *sets, "--out", "a.json")
    assert first.exit_code == 0
    assert "training plug" in first.stderr
    again = run("predict", "runs/LaMP", "--out", "b.json")
    assert "training" not in again.stderr
    assert written("a.json") == written("b.json")
    assert set(written("a.json")[1].values()) <= {"[1]", "[2]"}


def test_any_task_is_predicted_under_its_own_name(run, tmp_path):
    (tmp_path / "own.toml").write_text(f'[task]\nname = "synthetic"\nusers = 20\n{ECHO}[method]\nname = "bm25"\n')
    assert run("predict", "own.toml", "--out", "p.json").exit_code == 0
    name, answers = written("p.json")
    assert name == "synthetic-static"
    assert len(answers) == 10
    assert "'synthetic-static', which has no official metrics" in refused(run("score", "p.json", "p.json"))


def test_a_killed_prediction_goes_on_where_it_stopped(run, config, monkeypatch):
    path = config(users=40)
    answered: list[int] = []
    generate = EchoBackbone.generate

    def killed(self, prompts, sampling):
        if answered:
            raise KeyboardInterrupt
        answered.append(len(prompts))
        return generate(self, prompts, sampling)

    def counted(self, prompts, sampling):
        answered.append(len(prompts))
        return generate(self, prompts, sampling)

    monkeypatch.setattr(EchoBackbone, "generate", killed)
    assert run("predict", path, "--out", "p.json").exit_code == 130
    assert not Path("p.json").exists()
    monkeypatch.setattr(EchoBackbone, "generate", counted)
    assert run("predict", path, "--out", "p.json").exit_code == 0
    assert answered == [32, 8]
    assert run("predict", path, "--out", "whole.json").exit_code == 0
    assert Path("p.json").read_bytes() == Path("whole.json").read_bytes()
    assert not [p for p in Path().iterdir() if p.name.endswith(".draft")]


def spoil(split: str, change) -> None:
    """Change a split's first question."""
    asked = questions(split)
    change(asked[0])
    Path(f"lamp/{split}_questions.json").write_text(json.dumps(asked))


WRONG = {
    "an output is missing": (
        lambda: Path("lamp/test_outputs.json").write_text('{"task": "LaMP_4", "golds": []}'),
        [],
        "lamp/test_outputs.json: no output for question '021'; the two files do not fit together",
    ),
    "a profile has an id twice": (
        lambda: spoil("test", lambda q: q["profile"].append(q["profile"][0])),
        [],
        "lamp/test_questions.json: question '021' has profile id '030' twice; remove one",
    ),
    "there is no such task": (
        lambda: None,
        ["--set", "task.task=LaMP_9"],
        "LaMP has no task 'LaMP_9'; did you mean",
    ),
    "the files are of no task": (
        lambda: Path("lamp/train_outputs.json").write_text('{"task": "LaMP_44", "golds": []}'),
        [],
        "lamp/train_outputs.json: task is 'LaMP_44'; did you mean 'LaMP_4'?",
    ),
    "a profile item has no text": (
        lambda: spoil("test", lambda q: q["profile"][0].update(text=" ", title="")),
        [],
        "lamp/test_questions.json: question '021', profile item 0 ('030') has no text; remove the item",
    ),
    "a profile item lacks a field": (
        lambda: spoil("test", lambda q: q["profile"][0].pop("title")),
        [],
        "lamp/test_questions.json: question '021', profile item 0 needs a string 'title', got None",
    ),
    "the questions are not there": (
        lambda: Path("lamp/test_questions.json").unlink(),
        [],
        "lamp/test_questions.json: no such file",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_are_one_line_and_nothing_is_written(run, config, tmp_path, wrong):
    path = config()
    spoiled, options, says = WRONG[wrong]
    spoiled()
    there = sorted(tmp_path.rglob("*"))
    assert says in refused(run("predict", path, *options, "--out", "p.json"))
    assert sorted(tmp_path.rglob("*")) == there
    assert says in refused(run("eval", path, *options))
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "lamp"], "lamp: is a folder; name a file in it"),
        (["--out", "LaMP.toml/p.json"], "nothing can be written in"),
        (["--out", "p.json", "--method", "oracle"], "'oracle' looks at the right answers"),
        (["--out", "p.json", "--set", "method.kk=1"], "unknown key 'kk'"),
    ],
)
def test_what_cannot_be_predicted_is_refused_before_any_work(run, config, tmp_path, words, says):
    path = config()
    there = sorted(tmp_path.rglob("*"))
    assert says in refused(run("predict", path, *words))
    assert sorted(tmp_path.rglob("*")) == there


def test_predictions_that_do_not_fit_the_golds_are_not_scored(run, config):
    run("predict", config(), "--split", "dev", "--out", "p.json", "--limit", 1)
    line = refused(run("score", "p.json", "lamp/dev_outputs.json", "--json", "scores.json"))
    assert "p.json: has no prediction for ids '011', '211'" in line
    assert not Path("scores.json").exists()
