from __future__ import annotations

import dataclasses

import pytest

from personaplug.bench import results
from personaplug.bench.experiment import Experiment, Measuring, read_run
from personaplug.bench.showcase import duel, looks, short_requests
from personaplug.bench.summary import summarize
from personaplug.errors import ConfigError
from personaplug.personalizer import Personalizer


@pytest.fixture
def experiment(parrot, run, tmp_path):
    made = Experiment(run, tmp_path / "out", "demo")
    yield made
    made.store.close()


def test_a_second_fit_loads_what_the_first_one_saved(experiment, parrot):
    first, second = experiment.fit(), experiment.fit()
    assert (first.reused, second.reused, parrot.fits) == (False, True, 1)
    assert second.assembly.method.key == first.assembly.method.key
    assert second.curve == first.curve


def test_an_artifact_of_another_configuration_is_not_used_under_a_wrong_name(experiment, run, tmp_path):
    experiment.fit()
    other = dataclasses.replace(run, training=dataclasses.replace(run.training, steps=9))
    with pytest.raises(ConfigError, match=r"training\.steps = 3, now it is 9"):
        Experiment(other, tmp_path / "out", "demo").fit()
    wordy = dataclasses.replace(run, method={"name": "parrot", "words": 2})
    with pytest.raises(ConfigError, match=r"method\.words = 1, now it is 2"):
        Experiment(wordy, tmp_path / "out", "demo").fit()


def test_an_evaluation_measures_the_method_beside_its_controls(experiment):
    found = experiment.evaluate(0, Measuring())
    assert [r.title for r in found.rows] == ["none", "parrot", "parrot, shuffled users", "parrot, no history"]
    pooled = summarize([found])
    assert pooled.metric == "accuracy"
    assert all(g.interval.low > 0 for g in pooled.gains)


def test_seeds_are_trained_apart_and_the_frozen_model_is_measured_once(experiment, parrot, tmp_path):
    first, second = experiment.evaluate(0, Measuring()), experiment.evaluate(1, Measuring())
    assert parrot.fits == 2
    assert first.rows[0] is second.rows[0]
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"parrot", "parrot-seed1", "results", "users.db"}


def test_a_killed_evaluation_goes_on_after_its_last_row(experiment, run, parrot, tmp_path, monkeypatch):
    seen = []

    def watch(name, total):
        if name == "measuring parrot, no history" and not seen.count("killed"):
            seen.append("killed")
            raise KeyboardInterrupt
        seen.append(name)
        from personaplug.bench.experiment import silent

        return silent(name, total)

    broken = Experiment(run, tmp_path / "out", "demo", watch)
    with pytest.raises(KeyboardInterrupt):
        broken.evaluate(0, Measuring())
    seen.clear()
    seen.append("killed")
    again = Experiment(run, tmp_path / "out", "demo", watch)
    found = again.evaluate(0, Measuring())
    assert len(found.rows) == 4
    assert parrot.fits == 1
    assert [s for s in seen if s.startswith("measuring")] == ["measuring parrot, no history"]
    broken.store.close()
    again.store.close()


def test_rows_of_another_measuring_are_not_reused(experiment):
    experiment.evaluate(0, Measuring())
    fewer = experiment.evaluate(0, Measuring(limit=4))
    assert all(len(r.ids) == 4 for r in fewer.rows[1:])


def test_what_is_measured_can_be_read_back(experiment, tmp_path):
    found = experiment.evaluate(0, Measuring())
    kept = results.load(tmp_path / "out" / "results" / "demo-seed0.json")
    assert [r.scores["nll"] for r in kept.rows] == pytest.approx([r.scores["nll"] for r in found.rows], abs=1e-5)
    assert "seed" not in kept.config["training"]


def test_a_look_shows_the_heaviest_behaviours_and_all_answers(experiment):
    found = experiment.evaluate(0, Measuring())
    fitted = experiment.fit()
    shown = looks(fitted.assembly.method, experiment.examples("test"), found, count=2, shown=3)
    assert len({s.user for s in shown}) == 2
    for look in shown:
        assert [t for t, _ in look.answers] == ["none", "parrot"]
        assert [s.weight for s in look.shares] == sorted((s.weight for s in look.shares), reverse=True)
        assert look.behaviors == 8


def test_a_duel_asks_two_users_the_same(experiment):
    personalizer = Personalizer(experiment.fit().assembly.method, experiment.store, experiment.info)
    found = duel(personalizer, experiment.examples("test"), count=2)
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
