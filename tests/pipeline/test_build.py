"""A run's sections: read once, checked when they are first used, written as they were given."""

from __future__ import annotations

from pathlib import Path

import pytest

from personaplug.bench.experiment import Experiment
from personaplug.bench.plan import plan_methods
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.registry import Section
from personaplug.pipeline.build import RunConfig, read_run
from personaplug.pipeline.fingerprint import fingerprint

RUN = {
    "task": {"name": "synthetic", "users": 6, "seed": 3},
    "backbone": {"name": "echo"},
    "encoder": {"name": "hashing", "width": 32},
    "method": {"name": "dense", "k": 2},
    "training": {"steps": 7, "lr": 0.25},
    "store": {"name": "sql", "url": "somewhere/users.db"},
    "methods": {
        "recent": {"k": 2},
        "random": {},
        "wide": {"name": "dense", "encoder": {"name": "hashing", "width": 8}},
        "ropg": {"training": {"lr": 0.5}},
    },
    "bench": {"limit": 8, "generate": 4, "controls": ["shuffled users"]},
}

# Computed by commit e4ef43a: a digest that changes would have committed results measured again.
ROWS = {
    "none": ("5c44103b1334a32a", "19421092d7d4915c", "cf234ebb"),
    "recent": ("a328f2ec1a32828f", "eee09fb49a3d8223", "333f3239"),
    "random": ("cf0a8ca66fdb7324", "21ff4ad52eb687bc", "5513eb34"),
    "wide": ("e482732ac782f3a7", "9ffaa99a52b4e495", "5455f3f2"),
    "ropg": ("a5c7173fe0bb8945", "8cb2f3c2c07ba112", "c6203238"),
    "dense": ("6ee7a68ef6235d4a", "c90e6c5703804577", "405b19ac"),
}


def test_digests_of_rows_and_checkpoints_are_those_of_the_first_results(tmp_path):
    run = read_run(RUN, "run.toml")
    experiment = Experiment(run, tmp_path, "demo")
    assert experiment.content("train") == "119ec3e2f642a065"
    rows = {}
    for planned in plan_methods(run, [], prefix=False):
        own = experiment._fingerprint(planned, "", 0, experiment.measuring)
        shuffled = experiment._fingerprint(planned, "shuffled users", 1, experiment.measuring)
        rows[planned.label] = own, shuffled, fingerprint(planned.run.to_mapping(), trained="here")[:8]
    assert rows == ROWS


def test_a_run_is_written_as_it_was_given_and_read_back():
    run = read_run(RUN, "run.toml")
    written = run.to_mapping()
    assert {kind: written[kind] for kind in RUN if kind not in ("training", "bench")} == {
        kind: section for kind, section in RUN.items() if kind not in ("training", "bench")
    }
    assert RunConfig.parse(**written) == run


def test_a_section_is_looked_up_and_checked_once(monkeypatch):
    looked_up = []
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: looked_up.append((kind, name)) or find(kind, name))
    section = Section.parse("encoder", {"name": "hashing", "width": 8})
    assert [section.build().config for _ in range(3)] == [section.config] * 3
    assert looked_up == [("encoder", "hashing")]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"method": {"k": 2}}, r"\[method\]: no name; one of: .*plug"),
        ({"methd": {"name": "plug"}}, r"run: unknown key 'methd'.*method"),
        ({"training": {"step": 2}}, r"run\.training: unknown key 'step'.*steps"),
        ({"methods": {"recent": 2}}, r"run: methods.*recent = 2"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_in_one_line(sections, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse(**sections)


def test_an_empty_encoder_is_none_and_an_unused_one_is_left_out():
    assert RunConfig.parse(encoder={}).encoder is None
    assert RunConfig.parse(method={"name": "recent"}).without_unused_encoder().encoder is None
    assert RunConfig.parse(method={"name": "dense"}).without_unused_encoder().encoder == Section("encoder", "hidden")


def test_a_run_without_a_task_cannot_be_trained(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no \[task\]"):
        read_run({"method": {"name": "none"}}, "a.toml")
    with pytest.raises(ConfigError, match="'mail' has no task"):
        Experiment(RunConfig(), tmp_path, "mail")


def test_the_first_name_of_a_training_key_is_read_wherever_a_run_is():
    methods = {"ropg": {"training": {"keep": 4}}}
    run = RunConfig.parse(training={"keep": 3}, encoder={"name": "hashing"}, methods=methods)
    assert run.training.max_checkpoints == 3
    [ropg] = [m for m in plan_methods(run, ["ropg"], prefix=True) if m.label == "ropg"]
    assert ropg.run.training.max_checkpoints == 4
