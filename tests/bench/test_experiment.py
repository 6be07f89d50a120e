from __future__ import annotations

import dataclasses

import pytest

from personaplug.bench import results
from personaplug.bench.experiment import Experiment
from personaplug.bench.measure import MeasureConfig
from personaplug.bench.report.showcase import compare_users, short_requests, user_examples
from personaplug.bench.report.summary import summarize
from personaplug.core.errors import ConfigError, MismatchError
from personaplug.core.registry import Section
from personaplug.pipeline.build import read_run
from personaplug.pipeline.personalizer import Personalizer


@pytest.fixture
def experiment(parrot, run, tmp_path):
    made = Experiment(run, tmp_path / "out", "demo")
    yield made
    made.store.close()


def test_a_second_fit_loads_what_the_first_one_saved(experiment, parrot):
    first, second = experiment.fit(), experiment.fit()
    assert (first.reused, second.reused, parrot.fits) == (False, True, 1)
    assert second.components.method.key == first.components.method.key
    assert second.curve == first.curve


def test_an_artifact_of_another_configuration_is_not_used_under_a_wrong_name(experiment, run, tmp_path):
    experiment.fit()
    other = dataclasses.replace(run, training=dataclasses.replace(run.training, steps=9))
    with pytest.raises(ConfigError, match=r"training\.steps = 3, now it is 9"):
        Experiment(other, tmp_path / "out", "demo").fit()
    wordy = dataclasses.replace(run, method=Section("method", "parrot", {"words": 2}))
    with pytest.raises(ConfigError, match=r"method\.words = 1, now it is 2"):
        Experiment(wordy, tmp_path / "out", "demo").fit()


@pytest.fixture
def kept(tmp_path):
    """Where results are kept, by seed."""
    return lambda seed=0: tmp_path / "results" / f"demo-seed{seed}.json"


def test_an_evaluation_measures_the_method_beside_its_controls(experiment, kept):
    found = experiment.evaluate(0, MeasureConfig(), kept())
    assert [r.title for r in found.rows] == ["none", "parrot", "parrot, shuffled users", "parrot, no history"]
    pooled = summarize([found])
    assert pooled.metric == "accuracy"
    assert all(g.interval.low > 0 for g in pooled.gains)


def test_likelihoods_are_refused_before_anything_is_trained_where_the_backbone_gives_none(
    experiment, parrot, kept, monkeypatch
):
    monkeypatch.setattr(type(experiment.backbone), "scores", False)
    with pytest.raises(MismatchError, match="a measurement needs log-probabilities"):
        experiment.evaluate(0, MeasureConfig(), kept())
    assert parrot.fits == 0


def test_seeds_are_trained_apart_and_the_frozen_model_is_measured_once(experiment, parrot, tmp_path, kept):
    first, second = experiment.evaluate(0, MeasureConfig(), kept(0)), experiment.evaluate(1, MeasureConfig(), kept(1))
    assert parrot.fits == 2
    assert first.rows[0] == second.rows[0]
    assert first.rows[0].seconds == second.rows[0].seconds
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"parrot", "parrot-seed1"}


def test_a_killed_evaluation_goes_on_after_its_last_row(run, parrot, tmp_path, kept):
    seen = []

    def progress(name, total):
        if name == "measuring parrot, no history" and not seen.count("killed"):
            seen.append("killed")
            raise KeyboardInterrupt
        seen.append(name)
        from personaplug.pipeline.run import no_progress

        return no_progress(name, total)

    broken = Experiment(run, tmp_path / "out", "demo", progress)
    with pytest.raises(KeyboardInterrupt):
        broken.evaluate(0, MeasureConfig(), kept())
    seen.clear()
    seen.append("killed")
    again = Experiment(run, tmp_path / "out", "demo", progress)
    found = again.evaluate(0, MeasureConfig(), kept())
    assert len(found.rows) == 4
    assert parrot.fits == 1
    assert [s for s in seen if s.startswith("measuring")] == ["measuring parrot, no history"]
    broken.store.close()
    again.store.close()


def test_rows_of_another_measuring_are_not_reused(experiment, kept):
    experiment.evaluate(0, MeasureConfig(), kept())
    fewer = experiment.evaluate(0, MeasureConfig(limit=4), kept())
    assert all(len(r.ids) == 4 for r in fewer.rows[1:])


def test_what_is_measured_can_be_read_back(experiment, kept):
    found = experiment.evaluate(0, MeasureConfig(), kept())
    again = results.load(kept())
    assert [r.scores["nll"] for r in again.rows] == pytest.approx([r.scores["nll"] for r in found.rows], abs=1e-5)
    assert "seed" not in again.config["training"]


def test_a_look_shows_the_heaviest_behaviours_and_all_answers(experiment, kept):
    found = experiment.evaluate(0, MeasureConfig(), kept())
    fitted = experiment.fit()
    shown = user_examples(fitted.components.method, experiment.examples("test"), found, count=2, shown=3)
    assert len({s.user for s in shown}) == 2
    for look in shown:
        assert [t for t, _ in look.answers] == ["none", "parrot"]
        assert [s.weight for s in look.shares] == sorted((s.weight for s in look.shares), reverse=True)
        assert look.behaviors == 8


def test_a_duel_asks_two_users_the_same(experiment):
    personalizer = Personalizer(experiment.fit().components.method, experiment.store, experiment.info)
    found = compare_users(personalizer, experiment.examples("test"), count=2)
    assert found is not None
    assert found.people[0].user != found.people[1].user
    assert len(found.requests) == len(found.answers) == len(found.plain) == 2


def test_requests_for_a_duel_are_short_questions_where_there_are_any(experiment):
    def texts(*queries):
        example = experiment.examples("test")[0]
        return [dataclasses.replace(example, request=experiment.info.request("u", q)) for q in queries]

    assert short_requests(texts("how are you today?", "x" * 500, "what did you eat?"), 2) == [
        "how are you today?",
        "what did you eat?",
    ]
    assert short_requests(texts("y" * 300), 3) == ["y" * 300]


def test_a_run_without_a_task_is_refused():
    with pytest.raises(ConfigError, match=r"no \[task\]"):
        read_run({"method": {"name": "none"}}, "a.toml")


# -- many methods -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(parrot, run, tmp_path):
    methods = {"recent": {"k": 2}, "bm25": {}, "loud": {"name": "parrot", "words": 2}}
    made = Experiment(dataclasses.replace(run, methods=methods), tmp_path / "out", "demo", by_content=True)
    yield made
    made.close()


def titles(found):
    return [r.title for r in found.rows]


def test_every_method_is_measured_and_a_second_run_measures_nothing_and_leaves_the_file_alone(bench, parrot, kept):
    first = bench.evaluate(0, MeasureConfig(controls=("shuffled users",)), kept())
    assert {r.method for r in first.rows} == {"none", "recent", "bm25", "loud", "parrot"}
    assert first.main == "parrot"
    assert first.row("loud").section["words"] == 2
    before, prepared, at = kept().read_bytes(), parrot.prepared, kept().stat().st_mtime_ns
    again = Experiment(bench.run, bench.out, "demo", by_content=True)
    second = again.evaluate(0, MeasureConfig(controls=("shuffled users",)), kept())
    assert (parrot.fits, parrot.prepared) == (2, prepared)
    assert titles(second) == titles(first)
    assert (kept().read_bytes(), kept().stat().st_mtime_ns) == (before, at)


def test_only_what_a_change_touches_is_measured_again(bench, parrot, kept):
    how = MeasureConfig(controls=())
    bench.evaluate(0, how, kept())
    methods = {**bench.run.methods, "loud": {"name": "parrot", "words": 3}}
    seen = []

    def progress(name, total):
        from personaplug.pipeline.run import no_progress

        seen.append(name)
        return no_progress(name, total)

    changed = Experiment(dataclasses.replace(bench.run, methods=methods), bench.out, "demo", progress, by_content=True)
    changed.evaluate(0, how, kept())
    assert [s for s in seen if s.startswith("measuring")] == ["measuring loud"]


def test_some_of_the_methods_join_what_is_there(bench, kept):
    how = MeasureConfig(controls=())
    bench.evaluate(0, how, kept(), ["recent"])
    found = bench.evaluate(0, how, kept(), ["bm25"])
    assert sorted(titles(found)) == ["bm25", "recent"]


def test_a_method_that_fails_is_noted_and_the_others_go_on(bench, parrot, kept, monkeypatch):
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(parrot, "prepare", fails)
    found = bench.evaluate(0, MeasureConfig(controls=()), kept())
    assert titles(found) == ["none", "bm25", "recent"] or sorted(titles(found)) == ["bm25", "none", "recent"]
    assert found.failures == {"loud": "RuntimeError: out of memory", "parrot": "RuntimeError: out of memory"}
    assert results.load(kept()).failures == found.failures
    monkeypatch.undo()


def test_where_nothing_can_be_measured_the_error_comes_through_and_no_file_is_left(bench, kept, monkeypatch):
    from personaplug.core.errors import DataError
    from personaplug.metrics import scores as metrics

    def fails(*_: object) -> float:
        raise DataError("metric 'accuracy' fails")

    monkeypatch.setattr(metrics, "compute", fails)
    with pytest.raises(DataError, match="metric 'accuracy' fails"):
        bench.evaluate(0, MeasureConfig(), kept())
    assert not kept().exists()


def test_examples_stand_in_the_result_with_what_each_method_used_and_answered(bench, kept):
    found = bench.evaluate(0, MeasureConfig(controls=("shuffled users",), examples=3), kept())
    assert len(found.shown) == 3
    recent = found.row("recent")
    assert len(recent.used) == len(recent.answers) == 3
    assert all(1 <= len(texts) <= 4 for texts in recent.used)
    assert [recent.predictions[s.index] for s in found.shown] == list(recent.answers)
    assert found.row("recent", "shuffled users").used == ()
    assert found.row("none").used == ((), (), ())
    without = bench.evaluate(0, MeasureConfig(controls=()), kept(1))
    assert without.shown == ()


def test_a_cold_start_curve_is_measured_for_the_method_that_the_experiment_is_about(bench, kept):
    found = bench.evaluate(0, MeasureConfig(controls=(), newest=(0, 1, 8)), kept())
    assert [t for t in titles(found) if "newest" in t] == ["parrot, newest 0", "parrot, newest 1", "parrot, newest 8"]
    accuracy = [found.row("parrot", f"newest {n}").scores["accuracy"] for n in (0, 1, 8)]
    assert accuracy[0] < accuracy[1] <= accuracy[2]


def test_costs_are_in_every_row(bench, kept):
    found = bench.evaluate(0, MeasureConfig(controls=()), kept())
    none, recent, parrot = (found.row(m) for m in ("none", "recent", "parrot"))
    assert 0 < none.prompt_tokens < recent.prompt_tokens
    assert none.bytes_per_user == 0 < parrot.bytes_per_user
    assert all(0 <= r.personalize_seconds <= r.seconds for r in found.rows)


def test_no_name_of_a_user_and_no_id_of_a_request_stands_in_a_result(bench, kept):
    bench.evaluate(0, MeasureConfig(), kept())
    text = kept().read_text()
    assert not [e.id for e in bench.examples("test") if f'"{e.id}"' in text]
    assert not [e.history.user for e in bench.examples("test") if f'"{e.history.user}"' in text]
