from __future__ import annotations

import dataclasses

import pytest

from personaplug.bench.measure import NLL, OPTION_NLL, MeasureConfig, headline, lower_is_better, measure
from personaplug.core import registry
from personaplug.core.errors import DataError
from personaplug.core.types import Behavior, Example, History, Sampling
from personaplug.tasks.base import TaskInfo


@pytest.fixture
def task():
    return registry.build("task", "synthetic", {"users": 24})


def test_a_personal_method_beats_itself_with_shuffled_users_and_with_no_history(echo_parrot, task):
    examples = task.examples("test")
    own = measure(echo_parrot, task.info, examples)
    shuffled = measure(echo_parrot, task.info, examples, control="shuffled users")
    nobody = measure(echo_parrot, task.info, examples, control="no history")
    assert own.scores["accuracy"] == 1.0 > shuffled.scores["accuracy"]
    assert own.scores[NLL] == 0.0 < shuffled.scores[NLL] <= nobody.scores[NLL] == 1.0
    assert own.ids == shuffled.ids
    assert own.histories == shuffled.histories  # those of the users themselves


def test_a_row_has_a_value_for_every_example_and_counts_progress(echo_parrot, task):
    done: list[int] = []
    examples = task.examples("test")
    row = measure(echo_parrot, task.info, examples, MeasureConfig(batch_size=5), progress=done.append)
    assert sum(done) == len(examples) == len(row.nll) == len(row.predictions) == len(row.values["accuracy"])
    assert row.answered == tuple(range(len(examples)))
    assert row.nats == sum(n * t for n, t in zip(row.nll, row.tokens, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(echo_parrot, task, batch_size):
    examples = task.examples("test")
    rows = [measure(echo_parrot, task.info, examples, MeasureConfig(batch_size=n)) for n in (7, batch_size)]
    timeless = {"seconds": 0, "prepare_seconds": 0, "personalize_seconds": 0}
    assert dataclasses.replace(rows[0], **timeless) == dataclasses.replace(rows[1], **timeless)


def test_each_history_is_prepared_once(parrot, echo_parrot, task):
    measure(echo_parrot, task.info, task.examples("test"), MeasureConfig(batch_size=2))
    assert parrot.prepared == len({e.history.user for e in task.examples("test")})


def text_examples(info: TaskInfo) -> list[Example]:
    return [
        Example(
            f"{u}/{i}",
            info.request(f"u{u}", "say something"),
            History(f"u{u}", (Behavior(f"u{u}", "1", "", f"word{u} there"),)),
            target=f"word{u} there",
        )
        for u in range(5)
        for i in range(4)
    ]


def test_text_is_scored_for_all_and_generated_for_as_many_as_wanted_evenly_spread(echo_parrot):
    info = TaskInfo("chat", "text", metrics=("rouge1", "exact"), sampling=Sampling(max_tokens=8))
    row = measure(echo_parrot, info, text_examples(info), MeasureConfig(generate=5))
    assert len(row.nll) == 20
    assert len({row.users[i] for i in row.answered}) == 5
    assert row.predictions == ("say something",) * 5
    assert row.scores["exact"] == 0.0
    none = measure(echo_parrot, info, text_examples(info), MeasureConfig(generate=0))
    assert none.answered == ()
    assert none.scores == {NLL: none.scores[NLL]}


def test_auc_ranks_requests_by_how_much_likelier_the_first_option_is(echo_parrot):
    info = TaskInfo("like", "choice", options=("yes", "no"), metrics=("accuracy", "auc"))
    examples = [
        Example(str(i), info.request(u, "film"), History(u, (Behavior(u, "1", "", said),)), said, info.options)
        for i, (u, said) in enumerate([("a", "yes"), ("b", "no"), ("c", "yes")])
    ]
    row = measure(echo_parrot, info, examples)
    assert row.scores["auc"] == row.scores["accuracy"] == 1.0
    assert "auc" not in row.values


def test_an_empty_split_is_refused(echo_parrot, task):
    with pytest.raises(DataError, match="no examples"):
        measure(echo_parrot, task.info, [])


def test_the_headline_has_a_value_for_each_example():
    assert headline(TaskInfo("t", "text", metrics=("rouge1",))) == NLL
    assert headline(TaskInfo("t", "choice", options=("a", "b"), metrics=("auc", "accuracy"))) == "accuracy"


def test_a_closed_task_is_measured_by_what_people_read_and_by_nats_among_the_options(echo_parrot):
    info = TaskInfo("like", "choice", options=("yes", "no"), metrics=("accuracy",))
    examples = [
        Example(str(i), info.request(u, "film"), History(u, (Behavior(u, "1", "", said),)), said, info.options)
        for i, (u, said) in enumerate([("a", "yes"), ("b", "no"), ("c", "yes")])
    ]
    row = measure(echo_parrot, info, examples)
    assert list(row.scores) == ["accuracy", "auc", "macro_f1", OPTION_NLL, NLL]
    # The echo model gives 0 nats to the word that it saw and -1 to the other: exp(0) / (exp(0) + exp(-1)).
    assert row.values[OPTION_NLL] == pytest.approx([0.31326] * 3, abs=1e-4)
    assert lower_is_better(OPTION_NLL)
