"""Predictions go out and come back in LaMP's file format, and only what fits together is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mini_lamp
from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.measure import MeasureConfig, measure
from personaplug.bench.submission import Draft, check_writable, predict, score_submission, write_submission
from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError
from personaplug.tasks.lamp import read_outputs

GOLDS = {"10": "Rain in Spain", "20": "Snow", "30": "Wind"}


@pytest.fixture
def golds(tmp_path) -> Path:
    write_submission(tmp_path / "golds.json", "LaMP_4", GOLDS)
    return tmp_path / "golds.json"


def lamp(folder: Path, task: str, **how):
    return registry.build("task", "lamp", {"path": str(mini_lamp.write(folder, task, **how))})


def recent(task, name: str = "recent"):
    return registry.build("method", name, {"k": 1} if name == "recent" else {}, backbone=EchoBackbone(), task=task.info)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_submission_has_the_shape_of_the_published_outputs_in_the_given_order(tmp_path):
    write_submission(tmp_path / "p.json", "LaMP_7", {"20": "sooo müde", "10": ""})
    assert json.loads((tmp_path / "p.json").read_text(encoding="utf-8")) == {
        "task": "LaMP_7",
        "golds": [{"id": "20", "output": "sooo müde"}, {"id": "10", "output": ""}],
    }


@given(st.dictionaries(st.text(min_size=1), st.text(st.characters()) | st.just("\ud83d")))
def test_what_is_written_is_read_back_whatever_its_characters(tmp_path_factory, predictions):
    path = tmp_path_factory.getbasetemp() / "any.json"
    write_submission(path, "LaMP_5", predictions)
    assert read_outputs(path) == ("LaMP_5", predictions)
    assert list(read_outputs(path)[1]) == list(predictions)


@pytest.mark.parametrize(("task", "published"), [("LaMP_2N", "LaMP_2"), ("LaMP_2", "LaMP_2"), ("mail", "mail")])
def test_a_task_is_named_as_it_is_published(tmp_path, task, published):
    write_submission(tmp_path / "p.json", task, {"1": "sports"})
    assert read_outputs(tmp_path / "p.json")[0] == published


def test_a_file_that_cannot_be_written_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"is a folder; name a file in it, for example .*predictions\.json"):
        check_writable(tmp_path)
    with pytest.raises(DataError, match="nothing can be written in"):
        check_writable(tmp_path / "file" / "p.json")
    check_writable(tmp_path / "new" / "folder" / "p.json")
    assert not (tmp_path / "new").exists()


# -- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", mini_lamp.TASKS)
def test_predictions_are_what_the_bench_measures_and_need_no_right_answers(tmp_path, task):
    known, withheld = lamp(tmp_path / "a", task), lamp(tmp_path / "b", task, withheld=True)
    examples = withheld.examples("test")
    assert {e.target for e in examples} == {""}
    done: list[int] = []
    given = predict(recent(withheld), withheld.info, examples, batch_size=2, progress=done.append)
    assert given == list(
        measure(recent(known), known.info, known.examples("test"), MeasureConfig(generate=9)).predictions
    )
    assert done == [2, 1]


def test_what_is_measured_is_what_its_submission_scores(tmp_path):
    task = lamp(tmp_path / "LaMP_3", "LaMP_3", users=6)
    row = measure(recent(task), task.info, task.examples("test"))
    given = predict(recent(task), task.info, task.examples("test"))
    write_submission(
        tmp_path / "p.json", task.info.name, dict(zip([e.id for e in task.examples("test")], given, strict=True))
    )
    [score] = score_submission(tmp_path / "p.json", tmp_path / "LaMP_3" / "test_outputs.json")
    assert score.metrics == pytest.approx({m: row.scores[m] for m in ("mae", "rmse")})


def test_an_oracle_cannot_predict(tmp_path):
    task = lamp(tmp_path, "LaMP_4")
    with pytest.raises(ConfigError, match="'oracle' looks at the right answers"):
        predict(recent(task, "oracle"), task.info, task.examples("test"))


def test_a_draft_goes_on_where_it_was_killed_even_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "p.json"
    Draft(path, "key").add({"1": "a", "2": "ü"})
    file = tmp_path / ".p.json.draft"
    file.write_text(file.read_text("utf-8") + '{"3": "c', "utf-8")
    again = Draft(path, "key")
    assert again.answers == {"1": "a", "2": "ü"}
    again.add({"3": "c"})
    again.add({"4": "d"})
    last = Draft(path, "key")
    last.finish("LaMP_4", ["4", "3", "2", "1"])
    assert list(read_outputs(path)[1].items()) == [("4", "d"), ("3", "c"), ("2", "ü"), ("1", "a")]
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


def test_a_draft_of_other_answers_is_begun_anew(tmp_path):
    Draft(tmp_path / "p.json", "old").add({"1": "a"})
    other = Draft(tmp_path / "p.json", "new")
    assert other.answers == {}
    other.add({"2": "b"})
    assert Draft(tmp_path / "p.json", "new").answers == {"2": "b"}


# -- scores -----------------------------------------------------------------------------------------------------------


def test_a_perfect_submission_in_any_order_scores_one(tmp_path, golds):
    write_submission(tmp_path / "p.json", "LaMP_4", dict(reversed(GOLDS.items())))
    [score] = score_submission(tmp_path / "p.json", golds)
    assert (score.task, score.requests, score.metrics) == ("LaMP_4", 3, {"rouge1": 1.0, "rougeL": 1.0})


def test_all_tasks_are_scored_from_folders(tmp_path):
    for task in mini_lamp.TASKS:
        mini_lamp.write(tmp_path / "lamp" / task, task)
        (tmp_path / "golds" / task).mkdir(parents=True)
        (tmp_path / "lamp" / task / "test_outputs.json").rename(tmp_path / "golds" / task / "test_outputs.json")
        _, right = read_outputs(tmp_path / "golds" / task / "test_outputs.json")
        write_submission(tmp_path / "mine" / f"{task}.json", task, right)
    scores = score_submission(tmp_path / "mine", tmp_path / "golds")
    assert [s.task for s in scores] == list(mini_lamp.TASKS)
    best = {"accuracy": 1.0, "rouge1": 1.0, "rougeL": 1.0, "mae": 0.0, "rmse": 0.0}
    assert {m: v for s in scores for m, v in s.metrics.items() if m != "macro_f1"} == best
    (tmp_path / "mine" / "LaMP_6.json").unlink()
    with pytest.raises(DataError, match="has no predictions of LaMP_6"):
        score_submission(tmp_path / "mine", tmp_path / "golds")


@pytest.mark.parametrize(("right", "name"), [("sports", "LaMP_2N"), ("comedy", "LaMP_2")])
def test_the_right_answers_tell_which_lamp_2_it_is(tmp_path, right, name):
    write_submission(tmp_path / "g.json", "LaMP_2", {"1": right})
    write_submission(tmp_path / "p.json", name, {"1": right})
    [score] = score_submission(tmp_path / "p.json", tmp_path / "g.json")
    assert (score.task, score.metrics) == (name, {"accuracy": 1.0, "macro_f1": pytest.approx(1 / 15)})


def body(*golds, task="LaMP_4"):
    return json.dumps({"task": task, "golds": [{"id": key, "output": output} for key, output in golds]})


@pytest.mark.parametrize(
    ("predictions", "words"),
    [
        (body(("10", "a"), ("30", "b")), r"p\.json: has no prediction for id '20', which .*golds\.json has; every req"),
        (body(*((str(i), "") for i in (*GOLDS, 40))), r"p\.json: id '40' not in .*golds\.json; was another split"),
        (body(*((str(i), "") for i in (*GOLDS, *range(5)))), r"5 ids \('0', '1', '2', \.\.\.\) not in"),
        (body(*((i, "") for i in (*GOLDS, "20"))), "id '20' stands there twice; remove one"),
        (body(("10", "a"), task="LaMP_5"), "has no predictions of LaMP_4, which"),
        (body(("10", "a"), task=4), "expected {\"task\": NAME, \"golds\""),
        (body(("10", None)), r"gold 0 \('10'\) needs a string 'output', got None"),
        (body(("10", 4.5)), r"gold 0 \('10'\) needs a string 'output', got 4\.5"),
        (json.dumps([]), "expected {\"task\": NAME"),
        (json.dumps({"task": "LaMP_4", "golds": {}}), "golds must be a JSON list, got dict"),
        (json.dumps({"task": "LaMP_4", "golds": ["10"]}), "gold 0 must be a JSON object, got str"),
        ('{"task": "LaMP_4",\n "golds": [', r"p\.json:2: not JSON"),
        (None, r"p\.json: no such file"),
    ],
)  # fmt: skip
def test_predictions_that_do_not_fit_the_golds_are_refused_in_one_line(tmp_path, golds, predictions, words):
    if predictions is not None:
        (tmp_path / "p.json").write_text(predictions)
    with pytest.raises(DataError, match=words) as caught:
        score_submission(tmp_path / "p.json", golds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (body(task="LaMP_4"), "has no right answers; name another file"),
        (body(("10", "x"), task="mail"), "task is 'mail', which has no official metrics"),
        (body(("10", "[3]"), task="LaMP_1"), r"the right answer of '10' is '\[3\]'; expected \[1\], \[2\]"),
    ],
)
def test_golds_that_cannot_be_scored_are_refused(tmp_path, right, words):
    (tmp_path / "g.json").write_text(right)
    (tmp_path / "p.json").write_text(right)
    with pytest.raises(DataError, match=words):
        score_submission(tmp_path / "p.json", tmp_path / "g.json")


def test_folders_that_do_not_fit_are_refused(tmp_path, golds):
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match=r"mine: the folder has no \.json file"):
        score_submission(tmp_path / "mine", golds)
    write_submission(tmp_path / "mine" / "a.json", "LaMP_4", GOLDS)
    write_submission(tmp_path / "mine" / "b.json", "LaMP_5", GOLDS)
    with pytest.raises(DataError, match="has no right answers of LaMP_5; leave that task out"):
        score_submission(tmp_path / "mine", golds)
    write_submission(tmp_path / "mine" / "b.json", "LaMP_4", GOLDS)
    with pytest.raises(DataError, match=r"b\.json: is of LaMP_4, as .*a\.json is; leave one file"):
        score_submission(tmp_path / "mine", golds)
