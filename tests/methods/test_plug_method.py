"""The plug as a method: it must be personal, faithful when saved, and leave the frozen model alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from personaplug import registry
from personaplug.errors import ConfigError, MismatchError
from personaplug.training import TrainingConfig
from personaplug.types import History, Profile

TRAINING = TrainingConfig(steps=120, batch_size=16, lr=3e-3, save_every=1000, seed=1)


@pytest.fixture(scope="module")
def trained(make_method, synthetic, tmp_path_factory):
    method = make_method("plug", pooling="mean", persona_tokens=1)
    before = {k: v.clone() for k, v in method.backbone.model.state_dict().items()}
    result = method.fit(synthetic.examples("train"), [], TRAINING, tmp_path_factory.mktemp("plug"))
    return method, result, before


def test_a_plug_beats_the_task_prompt_and_shuffled_users(trained, make_method, synthetic, measure, tmp_path) -> None:
    method, result, _ = trained
    test = synthetic.examples("test")
    control = make_method("task_prompt")
    control.fit(synthetic.examples("train"), [], TRAINING, tmp_path)
    true = measure(method, test)
    shuffled = measure(method, test, [Profile(e.history, method.prepare(e.history)) for e in test[2:] + test[:2]])
    assert result.seconds < 60
    assert true > 0.9
    assert measure(control, test) < 0.5
    assert shuffled < 0.5


def test_the_frozen_model_is_bit_equal_after_fit(trained) -> None:
    method, _, before = trained
    assert all(torch.equal(before[k], v) for k, v in method.backbone.model.state_dict().items())


@pytest.mark.slow
def test_a_query_aware_plug_finds_the_topic(make_method, synthetic_backbone, measure, tmp_path) -> None:
    task = registry.build(
        "task", "synthetic", {"kind": "topic", "users": 300, "behaviors": 4, "topics": 4, "options": 3}
    )
    method = make_method("plug", persona_tokens=1, instruction_tokens=0, temperature=0.05, unit_length=True,
                         standardize=False, history_dropout=0.0)  # fmt: skip
    training = TrainingConfig(steps=250, batch_size=16, lr=3e-3, save_every=1000)
    method.fit(task.examples("train"), [], training, tmp_path)
    test = task.examples("test")
    first = test[0]
    weights = method.explain(first.request, Profile(first.history))
    assert weights[0].behavior.input == first.request.query
    assert sum(w.weight for w in weights) == pytest.approx(1, abs=1e-3)
    assert measure(method, test) > 0.8


def test_stored_states_give_the_same_prompt_as_fresh_ones(make_method, synthetic) -> None:
    for config in ({"pooling": "mean"}, {"pooling": "softmax"}):
        method = make_method("plug", **config)
        for example in synthetic.examples("test")[:5]:
            stored = method.personalize(example.request, Profile(example.history, method.prepare(example.history)))
            fresh = method.personalize(example.request, Profile(example.history))
            np.testing.assert_allclose(stored.prefix, fresh.prefix, atol=1e-6)


def test_mixed_users_get_what_each_gets_alone(make_method, synthetic) -> None:
    method = make_method("plug", pooling="softmax")
    examples = synthetic.examples("test")[:6]
    profiles = [Profile(e.history.last(i), None) for i, e in enumerate(examples)]  # lengths 0 to 5
    together = method.personalize_many([e.request for e in examples], profiles)
    for example, profile, prompt in zip(examples, profiles, together, strict=True):
        np.testing.assert_allclose(prompt.prefix, method.personalize(example.request, profile).prefix, atol=1e-5)


def test_a_user_without_history_gets_a_finite_persona(make_method, synthetic) -> None:
    request = synthetic.examples("test")[0].request
    for name in ("plug", "pplug", "task_prompt"):
        config = {"train_query_encoder": False} if name == "pplug" else {}
        prompt = make_method(name, **config).personalize(request, Profile(History("nobody")))
        assert np.isfinite(np.asarray(prompt.prefix)).all()


def test_tensors_round_trip_and_the_key_says_which_weights(trained, make_method, synthetic) -> None:
    method, _, _ = trained
    other = make_method("plug", pooling="mean", persona_tokens=1)
    assert other.key != method.key
    other.load_tensors(method.tensors())
    assert other.key == method.key
    example = synthetic.examples("test")[0]
    a, b = (m.personalize(example.request, Profile(example.history)).prefix for m in (method, other))
    np.testing.assert_array_equal(a, b)


def test_weights_of_another_shape_are_refused(trained, make_method) -> None:
    with pytest.raises(MismatchError, match="do not fit"):
        make_method("plug", persona_tokens=3).load_tensors(trained[0].tensors())


def test_an_encoder_that_cannot_be_trained_is_refused(make_method) -> None:
    with pytest.raises(ConfigError, match="cannot be trained"):
        make_method("pplug")


def test_a_text_only_backbone_is_refused_when_the_pair_is_built() -> None:
    from personaplug.backbones.echo import EchoBackbone

    with pytest.raises(MismatchError, match="accepts only text"):
        registry.build("method", "plug", {}, backbone=EchoBackbone())


def test_a_plug_without_an_encoder_is_refused(synthetic_backbone) -> None:
    with pytest.raises(ConfigError, match="needs an encoder"):
        registry.build("method", "plug", {}, backbone=synthetic_backbone)


def test_no_training_requests_is_a_clear_error(make_method, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training requests"):
        make_method("task_prompt").fit([], [], TRAINING, tmp_path)
