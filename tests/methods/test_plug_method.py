"""The plug as a method: it must be personal, faithful when saved, and leave the frozen model alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from personaplug.core import registry
from personaplug.core.errors import ConfigError, MismatchError, PersonaplugError
from personaplug.core.types import Behavior, Example, History, Profile, Prompt, Request
from personaplug.encoders.base import TrainableEncoder
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import Method
from personaplug.methods.soft.method import learned_tensors
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig
from personaplug.training.trainer import SampledExample

# The simplest plug, whatever the defaults are.
SIMPLE: dict[str, Any] = {
    "persona_tokens": 1, "instruction_tokens": 1, "position": "last", "pooling": "mean", "start": "random",
    "history_text": "{input} {output}", "nobody": False, "standardize": True, "history_dropout": 0.5,
}  # fmt: skip
RICH = SIMPLE | {"pooling": "mean+nearest", "history_text": ["{input}", "{output}"], "nobody": True}
FEW = TrainingConfig(steps=2, batch_size=8, save_every=1000)
TRAINING = TrainingConfig(steps=120, batch_size=16, lr=3e-3, save_every=1000, seed=1)


@pytest.fixture(scope="module")
def trained(make_method, synthetic, tmp_path_factory):
    """A plug after a few steps: trained, though it has not learned much."""
    method = make_method("plug", **SIMPLE)
    before = {k: v.clone() for k, v in method.backbone.model.state_dict().items()}
    result = method.fit(synthetic.examples("train")[:16], [], FEW, tmp_path_factory.mktemp("plug"))
    return method, result, before


@pytest.mark.slow
def test_a_plug_beats_the_task_prompt_and_shuffled_users(make_method, synthetic, measure, tmp_path) -> None:
    method, control = make_method("plug", **SIMPLE), make_method("task_prompt", start="random")
    result = method.fit(synthetic.examples("train"), [], TRAINING, tmp_path / "plug")
    test = synthetic.examples("test")
    control.fit(synthetic.examples("train"), [], TRAINING, tmp_path / "control")
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
    method = make_method("plug", **(SIMPLE | {"instruction_tokens": 0, "pooling": "softmax", "temperature": 0.05,
                         "unit_length": True, "standardize": False, "history_dropout": 0.0}))  # fmt: skip
    training = TrainingConfig(steps=250, batch_size=16, lr=3e-3, save_every=1000)
    method.fit(task.examples("train"), [], training, tmp_path)
    test = task.examples("test")
    first = test[0]
    weights = method.explain(first.request, Profile(first.history))
    assert weights[0].behavior.input == first.request.query
    assert sum(w.weight for w in weights) == pytest.approx(1, abs=1e-3)
    assert measure(method, test) > 0.8


@pytest.mark.parametrize(("config", "arrays"), [(SIMPLE, {"static"}), (RICH, {"keys", "values", "static"})])
def test_stored_states_give_the_same_prompt_as_fresh_ones(make_method, synthetic, config, arrays) -> None:
    method = make_method("plug", **config)
    for example in synthetic.examples("test")[:5]:
        state = method.prepare(example.history)
        assert set(state) == arrays
        stored = method.personalize(example.request, Profile(example.history, state))
        fresh = method.personalize(example.request, Profile(example.history))
        np.testing.assert_allclose(stored.prefix, fresh.prefix, atol=1e-6)


def test_an_extended_state_is_of_the_newest_behaviours_only(make_method, synthetic) -> None:
    method = make_method("plug", **(RICH | {"max_history": 4}))
    history = next(e.history for e in synthetic.examples("test") if len(e.history) > 5)
    before, added = (
        dataclasses.replace(history, behaviors=part) for part in (history.behaviors[:-2], history.behaviors[-2:])
    )
    state, anew = method.extend(Profile(before, method.prepare(before)), added), method.prepare(history)
    assert len(state["keys"]) == 4
    for name, rows in state.items():
        np.testing.assert_allclose(rows, anew[name], atol=2e-3)


@pytest.mark.parametrize("config", [SIMPLE, RICH, SIMPLE | {"pooling": "softmax"}])
def test_mixed_users_get_what_each_gets_alone(make_method, synthetic, config) -> None:
    method = make_method("plug", **config)
    examples = synthetic.examples("test")[:6]
    profiles = [Profile(e.history.last(i), None) for i, e in enumerate(examples)]  # lengths 0 to 5
    together = method.personalize_many([e.request for e in examples], profiles)
    for example, profile, prompt in zip(examples, profiles, together, strict=True):
        np.testing.assert_allclose(prompt.prefix, method.personalize(example.request, profile).prefix, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "config"), [("plug", SIMPLE), ("plug", RICH), ("pplug", {"query_encoder": "frozen"}), ("task_prompt", {})]
)
def test_a_user_without_history_gets_a_finite_persona(make_method, synthetic, name, config) -> None:
    request = synthetic.examples("test")[0].request
    prompt = make_method(name, **config).personalize(request, Profile(History("nobody")))
    assert np.isfinite(np.asarray(prompt.prefix)).all()


@pytest.mark.parametrize("config", [SIMPLE, RICH])
def test_training_on_users_without_any_history_stays_finite(make_method, synthetic, tmp_path, config) -> None:
    method = make_method("plug", **config)
    train = [dataclasses.replace(e, history=History(e.history.user)) for e in synthetic.examples("train")[:8]]
    method.fit(train, [], FEW, tmp_path)
    assert all(torch.isfinite(v).all() for v in method.tensors().values())


def test_each_template_is_encoded_alone_and_the_vectors_stand_side_by_side(make_method, synthetic) -> None:
    history = synthetic.examples("test")[0].history
    both = make_method("plug", **(SIMPLE | {"history_text": ["{input}", "{output}"]}))
    assert both.history_templates == ("{input}", "{output}")
    one = [make_method("plug", **(SIMPLE | {"history_text": text})).views(history) for text in both.history_templates]
    assert torch.equal(both.views(history), torch.cat(one, dim=-1))


def test_without_a_template_the_tasks_own_is_used(make_method, synthetic) -> None:
    for none in ("", []):
        method = make_method("plug", **(SIMPLE | {"history_text": none}))
        assert method.history_templates == (synthetic.info.history_text,)
        assert np.isfinite(method.prepare(synthetic.examples("test")[0].history)["static"]).all()


def test_started_from_words_every_user_begins_with_the_instructions_last_ones(
    synthetic, synthetic_backbone, make_method
) -> None:
    task = dataclasses.replace(synthetic.info, instruction="drink food amber birch")
    config = RICH | {"start": "words", "persona_tokens": 2, "instruction_tokens": 1}
    method = registry.build(
        "method", "plug", config, backbone=synthetic_backbone, vectors=make_method("dense").vectors, task=task
    )
    words = synthetic_backbone.words("food amber birch").numpy()
    for example in synthetic.examples("test")[:3]:
        prompt = method.personalize(example.request, Profile(example.history))
        np.testing.assert_allclose(prompt.prefix, words, atol=1e-6)


def test_behaviours_that_say_the_same_have_the_same_influence(make_method) -> None:
    history = History("u", tuple(Behavior("u", str(i), "drink", said) for i, said in enumerate(("amber", "birch") * 2)))
    method = make_method("plug", **SIMPLE)
    weights = method.explain(Request.of("u", "drink"), Profile(history))
    assert [w.weight for w in weights] == sorted((w.weight for w in weights), reverse=True)
    assert sum(w.weight for w in weights) == pytest.approx(1)
    of = {w.behavior.id: w.weight for w in weights}
    assert of["0"] == pytest.approx(of["2"], rel=1e-4)
    assert of["1"] == pytest.approx(of["3"], rel=1e-4)


def test_tensors_round_trip_and_the_key_says_which_weights(trained, make_method, synthetic) -> None:
    method, _, _ = trained
    other = make_method("plug", **SIMPLE)
    assert other.key != method.key
    other.load_tensors(method.tensors())
    assert other.key == method.key
    example = synthetic.examples("test")[0]
    a, b = (m.personalize(example.request, Profile(example.history)).prefix for m in (method, other))
    np.testing.assert_array_equal(a, b)


def test_weights_of_another_shape_are_refused(trained, make_method) -> None:
    with pytest.raises(MismatchError, match="do not fit"):
        make_method("plug", **(SIMPLE | {"persona_tokens": 3})).load_tensors(trained[0].tensors())


def test_an_encoder_that_cannot_be_trained_is_refused(make_method) -> None:
    with pytest.raises(ConfigError, match=r"query_encoder = 'full', but encoder .* cannot be trained"):
        make_method("pplug", query_encoder="full")


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


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"objective": "nl"}, "nl"),
        ({"pooling": "mean+next"}, "pooling 'next' is unknown"),
        ({"gate": True}, "gate = true needs a text method"),
        ({"persona_tokens": 0}, "persona_tokens is 0, expected at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(make_method, config, said) -> None:
    with pytest.raises(PersonaplugError, match=said) as caught:
        make_method("plug", **(SIMPLE | config))
    assert "\n" not in str(caught.value)


def test_options_are_no_objective_of_a_task_without_any(make_method, synthetic_backbone) -> None:
    parts = {"backbone": synthetic_backbone, "vectors": make_method("dense").vectors}
    with pytest.raises(ConfigError, match="'chat' is of kind text; use nll"):
        registry.build("method", "plug", {"objective": "options"}, task=TaskInfo("chat", "text"), **parts)


# -- what is learnt ---------------------------------------------------------------------------------------------------


def losses(method: Method, examples: list[Example]) -> torch.Tensor:
    """Each example's loss, with its whole history."""
    module = method.training_module(examples, examples)
    with torch.no_grad():
        return module(**module.collate([SampledExample(i, 0) for i in range(len(examples))]))


def prompts(method: Method, examples: list[Example]) -> list[Prompt]:
    return method.personalize_many([e.request for e in examples], [Profile(e.history) for e in examples])


@pytest.fixture
def with_objective(make_method):
    """A plug with another objective and the same weights."""
    plain = make_method("plug", **SIMPLE)

    def make(**config: Any) -> Method:
        method = make_method("plug", **(SIMPLE | config))
        method.load_tensors(plain.tensors())
        return method

    return make


def test_nll_is_the_backbones_loss_of_the_prompts_that_requests_get(with_objective, synthetic) -> None:
    method, examples = with_objective(objective="nll"), synthetic.examples("train")[:6]
    expected = method.backbone.loss(prompts(method, examples), [e.target for e in examples])
    torch.testing.assert_close(losses(method, examples), expected, atol=1e-3, rtol=1e-3)  # stored in half precision


def test_options_is_the_cross_entropy_of_their_scores_with_the_end_of_turn(with_objective, synthetic) -> None:
    method, examples = with_objective(objective="options"), synthetic.examples("train")[:4]
    for example, prompt, found in zip(
        examples, prompts(method, examples), losses(method, examples).tolist(), strict=True
    ):
        options = list(example.options)
        scores = method.backbone.token_logprobs([prompt] * len(options), options)[0].sum(-1)
        assert found == pytest.approx(-scores.log_softmax(-1)[options.index(example.target)].item(), abs=1e-2)


@pytest.mark.parametrize(
    "config",
    [
        {"objective": "options"},
        {"text": {"name": "bm25", "k": 1}, "position": "first"},
        {"pooling": "mean+softmax+nearest+recent", "nobody": True},
    ],
)
def test_it_learns_with(make_method, synthetic, tmp_path, config) -> None:
    method = make_method("plug", **(SIMPLE | config))
    method.fit(synthetic.examples("train")[:16], synthetic.examples("dev")[:4], FEW, tmp_path)
    fresh = make_method("plug", **(SIMPLE | config)).tensors()
    assert all(torch.isfinite(v).all() for v in method.tensors().values())
    assert not torch.equal(method.tensors()["outer.weight"], fresh["outer.weight"])


def test_a_task_prompt_learns_and_looks_at_no_history(make_method, synthetic, tmp_path) -> None:
    control = make_method("task_prompt", start="random")
    before = control.tensors()["instruction"].clone()
    control.fit(synthetic.examples("train")[:16], [], FEW, tmp_path)
    assert control.history_templates == ()
    assert not torch.equal(control.tensors()["instruction"], before)


class Trainable(TrainableEncoder):
    """The hashing encoder, with a trainable copy that has dropout as real ones do."""

    Config, summary, source = type(None), "", ""

    def __init__(self) -> None:
        self.frozen = registry.build("encoder", "hashing", {"width": 16})
        self.width, self.key = 16, "trainable"

    def encode(self, texts, role="history", progress=None):
        return self.frozen.encode(texts, role, progress)

    def copy_for_training(self):
        frozen = self.frozen

        class Copy(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rotate, self.drop = torch.nn.Linear(16, 16), torch.nn.Dropout(0.5)

            def forward(self, texts):
                return self.rotate(self.drop(torch.as_tensor(frozen.encode(texts))))

        return Copy().eval()


def test_a_trained_query_encoder_is_learnt_kept_and_quiet_afterwards(synthetic, synthetic_backbone, tmp_path) -> None:
    parts = {"backbone": synthetic_backbone, "task": synthetic.info}
    config = SIMPLE | {"pooling": "softmax", "query_encoder": "full"}
    method, other = (
        registry.build("method", "plug", config, vectors=VectorCache(Trainable()), **parts) for _ in range(2)
    )
    before = {k: v.clone() for k, v in method.tensors().items()}
    method.fit(synthetic.examples("train")[:16], [], FEW, tmp_path)
    assert not torch.equal(before["query_encoder.rotate.weight"], method.tensors()["query_encoder.rotate.weight"])
    asked = method.queries(["drink"])
    assert torch.equal(asked, method.queries(["drink"]))
    other.load_tensors(method.tensors())
    assert torch.equal(asked, other.queries(["drink"]))


def test_an_artifact_keeps_what_was_learnt_and_not_what_stayed_frozen() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.BatchNorm1d(2))
    assert set(learned_tensors(module)) == {k for k in module.state_dict() if k.startswith("1.")}
