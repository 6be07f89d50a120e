from __future__ import annotations

import pytest

from personaplug.bench.measure import MeasureConfig
from personaplug.bench.plan import main_label, plan_methods
from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.registry import Section
from personaplug.pipeline.build import RunConfig

PLUG = {"name": "plug", "persona_tokens": 3, "instruction_tokens": 2, "position": "first"}


def run(**more):
    return RunConfig.parse(task={"name": "synthetic"}, encoder={"name": "hashing"}, method=PLUG, **more)


def labels(found):
    return [e.label for e in found]


def test_a_run_that_names_no_other_methods_is_measured_beside_the_bare_model_and_the_task_prompt():
    assert labels(plan_methods(run(), [], prefix=True)) == ["none", "task_prompt", "plug"]
    assert labels(plan_methods(run(), [], prefix=False)) == ["none", "plug"]


def test_named_methods_are_measured_with_the_ones_that_know_no_user_first_and_oracles_last():
    methods = {"oracle": {}, "recent": {"k": 2}, "task_prompt": {}}
    assert labels(plan_methods(run(methods=methods), [], prefix=True)) == [
        "none",
        "task_prompt",
        "recent",
        "plug",
        "oracle",
    ]


def test_all_is_everything_on_the_shelf_and_in_the_experiment():
    methods = {"plug+recent": {"name": "plug", "text": {"name": "recent"}}}
    found = labels(plan_methods(run(methods=methods), ["all"], prefix=True))
    paired = {"lowrank", "preference_plug"}  # learn from pairs of answers, which few tasks have
    assert set(found) == {*registry.names("method"), "plug+recent"} - paired
    assert "lowrank" in labels(plan_methods(run(), ["all", "lowrank"], prefix=True))
    assert len(found) == len(set(found))


def test_without_soft_tokens_all_leaves_out_what_needs_them():
    found = labels(plan_methods(run(), ["all"], prefix=False))
    assert "bm25" in found
    assert "pplug" not in found


def test_a_task_prompt_is_as_large_as_the_plug_and_stands_at_its_place():
    [_, prompt, _] = plan_methods(run(), [], prefix=True)
    assert prompt.run.method.given["instruction_tokens"] == 5
    assert prompt.run.method.given["position"] == "first"


def test_a_method_has_its_own_encoder_and_training_and_none_where_it_looks_at_no_vectors():
    methods = {"dense": {"encoder": {"name": "hashing", "width": 8}}, "recent": {}, "ropg": {"training": {"lr": 0.5}}}
    found = {e.label: e.run for e in plan_methods(run(methods=methods), [], prefix=True)}
    assert found["dense"].encoder == Section("encoder", "hashing", {"width": 8})
    assert found["recent"].encoder is None
    assert found["ropg"].encoder == Section("encoder", "hashing")
    assert found["ropg"].training.lr == 0.5
    assert found["plug"].training.lr == run().training.lr
    assert all("training" not in r.method.given and "encoder" not in r.method.given for r in found.values())


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"'recnt' is neither in the experiment nor on the shelf.*recent"):
        plan_methods(run(), ["recnt"], prefix=True)


def test_controls_are_for_methods_that_know_users_and_curves_for_the_measured_one():
    how = MeasureConfig(controls=("shuffled users", "no history"), newest=(0, 2))
    methods = {"oracle": {}, "recent": {}}
    found = {e.label: e.controls(how, main_label(run())) for e in plan_methods(run(methods=methods), [], prefix=True)}
    assert found["none"] == found["oracle"] == [""]
    assert found["recent"] == ["", "shuffled users"]  # without a history its prompt is the bare model's
    assert found["plug"] == ["", "shuffled users", "no history", "newest 0", "newest 2"]


def test_what_draws_by_itself_draws_anew_for_each_seed():
    import dataclasses

    methods = {"random": {}, "fixed": {"name": "random", "seed": 7}, "recent": {}}
    base = run(methods=methods)
    seeded = dataclasses.replace(base, training=dataclasses.replace(base.training, seed=3))
    found = {e.label: e.run.method for e in plan_methods(seeded, [], prefix=True)}
    assert (found["random"].given["seed"], found["fixed"].given["seed"]) == (3, 7)
    assert "seed" not in found["recent"].given
