from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from personaplug.bench.report.board import board, cold_start, gather
from personaplug.bench.results import save
from personaplug.core.errors import DataError, UnknownNameError


def with_rows(result, *rows):
    return dataclasses.replace(result, rows=(*result.rows, *rows))


def better(row, by: float, method: str, control: str = "", **changes):
    """The row with every request `by` nats nearer to what the user wrote."""
    nll = tuple(n - by for n in row.nll)
    scores = {**row.scores, "nll": sum(nll) / len(nll)}
    return dataclasses.replace(row, method=method, control=control, nll=nll, scores=scores, **changes)


@pytest.fixture
def two_seeds(make_result):
    return [make_result(0), make_result(1)]


def write(folder: Path, *results) -> list[Path]:
    paths = [folder / r.task.name / f"{r.name}-seed{r.seed}.json" for r in results]
    for path, result in zip(paths, results, strict=True):
        save(path, result)
    return paths


def test_seeds_of_an_experiment_are_one_column_and_other_experiments_another(make_result, tmp_path):
    write(tmp_path, make_result(1), make_result(0), make_result(0, name="other"))
    (tmp_path / "claims.json").write_text("[]")
    found = gather([tmp_path])
    assert [[(r.name, r.seed) for r in seeds] for seeds in found] == [[("demo", 0), ("demo", 1)], [("other", 0)]]
    table = board(found).tables[0]
    assert [c.title for c in table.columns] == ["chat / demo", "chat / other"]
    line = table.columns[0].cells["plug"].line
    assert line.seeds == 2
    assert line.scores["nll"][0] == pytest.approx(sum(r.row("plug").scores["nll"] for r in found[0]) / 2)


def test_a_file_that_is_named_twice_is_read_once(make_result, tmp_path):
    [path] = write(tmp_path, make_result(0))
    assert len(gather([path, tmp_path, path])[0]) == 1


def test_every_method_is_compared_with_the_baseline_the_reference_and_itself_with_strangers(two_seeds):
    cells = board([two_seeds]).columns[0].cells
    assert set(cells["plug"].gains) == {"baseline", "reference", "shuffled"}
    assert cells["plug"].gains["baseline"].interval.mean == pytest.approx(1.5, abs=0.02)
    assert cells["plug"].gains["shuffled"].interval.mean == pytest.approx(0.25)
    assert set(cells["none"].gains) == {"reference"}
    assert cells["none"].worse("reference")
    assert [m for m, cell in cells.items() if cell.best] == ["plug"]


def test_a_gain_is_corrected_for_all_gains_of_its_kind_in_the_table(two_seeds):
    few = board([two_seeds]).columns[0].cells["plug"].gains["baseline"]
    rows = [better(two_seeds[0].row("plug"), -0.01 * i, f"m{i}") for i in range(20)]
    column = board([[with_rows(r, *rows) for r in two_seeds]]).columns[0]
    many = column.cells["plug"].gains["baseline"]
    assert few.adjusted == pytest.approx(2 * few.interval.p)  # task_prompt and plug
    assert many.adjusted == pytest.approx(min(1, 22 * few.interval.p))
    assert many.interval == few.interval


def test_an_oracle_is_never_best_nor_counted_nor_marked(two_seeds):
    oracle = better(two_seeds[0].row("plug"), 1.0, "best item", oracle=True)
    before = board([two_seeds]).columns[0].cells["plug"]
    table = board([[with_rows(r, oracle) for r in two_seeds]]).tables[0]
    cells = table.columns[0].cells
    assert cells["plug"] == before
    assert not cells["best item"].best
    assert not cells["best item"].better("baseline")
    assert table.methods[-1] == "best item"
    assert "best item" not in table.columns[0].measured
    assert table.columns[0].main == "plug"


def test_known_and_unseen_users_stand_in_two_tables(make_result):
    known = make_result(0)
    unseen = dataclasses.replace(known, name="new", task=dataclasses.replace(known.task, split="user"))
    tables = board([[unseen], [known]]).tables
    assert [(t.split, [c.title for c in t.columns]) for t in tables] == [
        ("time", ["chat / demo"]),
        ("user", ["chat / new"]),
    ]


def test_a_failure_is_shown_with_its_reason_and_costs_no_other_seed(two_seeds):
    first, second = two_seeds
    second = dataclasses.replace(
        second,
        rows=tuple(r for r in second.rows if r.method != "plug"),
        failures={"plug": "DataError: no\nroom", "plug, shuffled users": "the same"},
    )
    first = dataclasses.replace(first, failures={"lora": "needs a GPU"})
    second = dataclasses.replace(second, failures={**second.failures, "lora": "needs a GPU"})
    cells = board([[first, second]]).columns[0].cells
    assert cells["plug"].line.seeds == 1
    assert cells["plug"].failure == "seed 1: DataError: no room; shuffled users, seed 1: the same"
    assert (cells["lora"].line, cells["lora"].failure) == (None, "needs a GPU")


def test_an_experiment_of_which_all_failed_is_a_column_of_failures(make_result):
    empty = dataclasses.replace(make_result(0), rows=(), failures={"plug": "no room"})
    column = board([[empty]]).columns[0]
    assert column.cells["plug"].failure == "no room"
    assert (column.main, column.lines) == ("", ())


def test_cold_starts_go_from_nothing_to_all_and_are_no_methods_of_their_own(two_seeds):
    def cold(result):
        row = result.row("plug")
        points = [better(row, -1 + n / 10, "plug", f"newest {n}") for n in (8, 1, 4)]
        return with_rows(result, *points, better(row, -1.2, "plug", "no history"))

    column = board([[cold(r) for r in two_seeds]]).columns[0]
    points = cold_start(column, "plug", "none")
    assert [p.behaviors for p in points] == [0, 1, 4, 8, None]
    assert [p.interval.mean for p in points] == pytest.approx([0.3, 0.6, 0.9, 1.3, 1.5], abs=0.02)
    assert list(column.cells) == ["none", "task_prompt", "plug"]
    assert cold_start(column, "task_prompt", "none") == ()
    scores = cold_start(column, "plug", "nobody")
    assert scores[-1].interval.mean == pytest.approx(column.cells["plug"].line.scores["nll"][0])


def test_costs_do_not_count_the_preparing_of_users(make_result, make_row):
    row = dataclasses.replace(make_row("plug"), seconds=12.0, prepare_seconds=6.0, bytes_per_user=2048.0)
    cost = board([[dataclasses.replace(make_result(0), rows=(row,))]]).columns[0].cells["plug"].cost
    assert (cost.tokens, cost.soft, cost.seconds, cost.prepare, cost.stored) == (45.5, 5, 0.5, 6.0, 2048.0)


def test_results_of_one_user_have_scores_and_no_gains(make_result):
    result = make_result(0)
    alone = [dataclasses.replace(r, users=("ada",) * 12) for r in result.rows]
    cell = board([[dataclasses.replace(result, rows=tuple(alone))]]).columns[0].cells["plug"]
    assert cell.line.scores["nll"][0] > 0
    assert cell.gains == {}


def test_the_main_method_is_the_named_one_else_the_last(make_result):
    result = make_result(0)
    other = better(result.row("plug"), 0.1, "plug+recent")
    assert board([[with_rows(result, other)]]).columns[0].main == "plug+recent"
    named = dataclasses.replace(with_rows(result, other), main="plug")
    assert board([[named]]).columns[0].main == "plug"


def test_a_baseline_that_nobody_measured_is_an_error_that_says_what_there_is(two_seeds):
    with pytest.raises(UnknownNameError, match=r"no result has a method 'plugg' .*did you mean 'plug'"):
        board([two_seeds], baseline="plugg")
    assert board([two_seeds], baseline="task_prompt").columns[0].cells["plug"].gains["baseline"].other == "task_prompt"


def test_what_cannot_be_reported_is_told_with_its_file(make_result, tmp_path):
    with pytest.raises(DataError, match="no results"):
        gather([tmp_path])
    [path] = write(tmp_path / "a", make_result(0))
    [twice] = write(tmp_path / "b", make_result(0))
    with pytest.raises(DataError, match=f"{twice}: seed 0 of chat/demo stands in {path} too"):
        gather([tmp_path])
    plain = json.loads(twice.read_text())
    twice.write_text(json.dumps({**plain, "seed": 1, "examples": {**plain["examples"], "ids": ["x"] * 12}}))
    with pytest.raises(DataError, match=f"{twice}: of other examples than {path}"):
        gather([tmp_path])
    twice.write_text("{")
    with pytest.raises(DataError, match=f"{twice}: no result"):
        gather([tmp_path])


def test_the_metric_can_be_chosen_and_must_have_been_measured(make_result):
    from personaplug.bench.report.board import board

    [column] = board([[make_result(0)]], metric="rouge1").columns
    assert (column.metric, column.lower) == ("rouge1", False)
    with pytest.raises(DataError, match="was not measured in 'rouge2'"):
        board([[make_result(0)]], metric="rouge2")
