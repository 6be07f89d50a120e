"""The gate for retrieved text: it opens where text helped; a gated prompt is one of the two it chooses from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personaplug.core.types import History, Profile
from personaplug.methods.soft.gate import FEATURES, Gate, features
from personaplug.training.config import TrainingConfig

F = len(FEATURES)
GATED = {"persona_tokens": 1, "pooling": "mean", "text": {"name": "recent", "k": 1}, "gate": True}
FEW = TrainingConfig(steps=1, batch_size=8, save_every=1000)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_open_for_all_before_it_is_fitted() -> None:
    assert Gate()(some(20, F) * 100).all()


@pytest.mark.parametrize("at", range(F))
def test_it_opens_by_the_feature_that_tells_where_text_helps(at: int) -> None:
    gate, looked = Gate(), some(200, F) * torch.tensor([1.0, 0.1, 30.0]) + 5
    gate.fit(looked, looked[:, at] - 5)
    fresh = some(200, F, seed=1) * torch.tensor([1.0, 0.1, 30.0]) + 5
    assert (gate(fresh) == (fresh[:, at] > 5)).float().mean() > 0.95


@pytest.mark.parametrize(("gain", "opened"), [(0.3, True), (-0.3, False), (0.0, False)])
def test_where_all_are_helped_or_none_it_is_open_or_closed_for_all(gain: float, opened: bool) -> None:
    gate = Gate()
    gate.fit(some(20, F), torch.full((20,), gain))
    assert gate(some(50, F, seed=1) * 100).tolist() == [opened] * 50


@pytest.mark.parametrize("large", [1, -1])
def test_what_matters_more_weighs_more(large: int) -> None:
    gate, gain = Gate(), torch.tensor([large * 5.0] * 3 + [large * -0.1] * 30)
    gate.fit(torch.zeros(33, F), gain)
    assert gate(torch.zeros(4, F)).tolist() == [large > 0] * 4


def test_a_second_fit_forgets_the_first() -> None:
    gate = Gate()
    gate.fit(some(50, F), some(50, F)[:, 0])
    gate.fit(some(50, F), torch.ones(50))
    assert gate(some(50, F, seed=1) * 100).all()


def test_features_are_what_they_say() -> None:
    keys, query = torch.eye(6)[None, :5], torch.tensor([[4.0, 3.0, 0.0, 0.0, 0.0, 0.0]])
    [found] = features(keys, torch.ones(1, 5, dtype=torch.bool), query).tolist()
    assert found == pytest.approx([0.8, (0.8 + 0.6) / 4, np.log(6)])
    [near] = features(keys[:, :2], torch.ones(1, 2, dtype=torch.bool), query).tolist()
    assert near == pytest.approx([0.8, 0.7, np.log(3)])


def test_features_of_an_empty_history_are_zeros_and_padding_counts_for_nothing() -> None:
    keys, query, sizes = some(4, 6, 8), some(4, 8, seed=1), (0, 1, 3, 6)
    mask = torch.arange(6) < torch.tensor(sizes)[:, None]
    together = features(keys, mask, query)
    assert (together[0] == 0).all()
    for row, n in enumerate(sizes):
        one = slice(row, row + 1)
        torch.testing.assert_close(together[one], features(keys[one, :n], mask[one, :n], query[one]))


# -- in a method ------------------------------------------------------------------------------------------------------


@pytest.fixture
def examples(synthetic):
    return synthetic.examples("test")[:6]


def both(make_method, method, examples):
    """Each example's messages without and with the text."""
    text = make_method("recent", k=1)
    return [(e.request.messages, text.personalize(e.request, Profile(e.history)).messages) for e in examples]


def asked(method, examples):
    profiles = [Profile(e.history, method.prepare(e.history)) for e in examples]
    return method.personalize_many([e.request for e in examples], profiles)


def test_before_it_is_fitted_the_text_is_always_there(make_method, examples) -> None:
    method = make_method("plug", **GATED)
    assert [p.messages for p in asked(method, examples)] == [w for _, w in both(make_method, method, examples)]


@pytest.mark.parametrize("helps", [True, False])
@pytest.mark.parametrize("dev", [0, 4])
def test_it_learns_from_how_likely_answers_are_with_the_text_and_without(
    make_method, synthetic, examples, tmp_path, monkeypatch, helps, dev
) -> None:
    method, train = make_method("plug", **GATED), synthetic.examples("train")[:8]
    held_out = synthetic.examples("dev")[:dev]
    plain = {e.request.messages for e in [*train, *held_out]}
    judged = []

    def loss(prompts, targets):
        judged.extend(targets)
        return torch.tensor([float((p.messages in plain) == helps) for p in prompts])

    monkeypatch.setattr(method.backbone, "loss", loss)
    method.fit(train, held_out, FEW, tmp_path)
    assert judged == [e.target for e in held_out or train] * 2  # where there are some, nothing that was trained on
    expected = [pair[helps] for pair in both(make_method, method, examples)]
    assert [p.messages for p in asked(method, examples)] == expected


def test_a_gated_prompt_has_the_persona_and_either_messages_and_a_saved_gate_chooses_alike(
    make_method, synthetic, examples, tmp_path
) -> None:
    method = make_method("plug", **GATED)
    method.fit(synthetic.examples("train")[:16], [], FEW, tmp_path)
    other = make_method("plug", **GATED)
    assert other.key != method.key
    # The fitted gate may be open or closed for all: this one is neither.
    cosines = method._personas([e.request for e in examples], [Profile(e.history) for e in examples])[1][:, 1]
    tensors = method.tensors() | {"gate.weight": torch.tensor([0.0, 1.0, 0.0]), "gate.bias": -cosines.median()}
    tensors |= {"gate.center": torch.zeros(F), "gate.spread": torch.ones(F)}
    for m in (method, other):
        m.load_tensors(tensors)
    assert other.key == method.key
    found = asked(method, examples)
    pairs = both(make_method, method, examples)
    opened = [p.messages == written for p, (_, written) in zip(found, pairs, strict=True)]
    assert set(opened) == {True, False}
    assert all(p.messages in pair for p, pair in zip(found, pairs, strict=True))
    ungated = make_method("plug", **(GATED | {"gate": False, "text": {}}))
    ungated.load_tensors({k: v for k, v in tensors.items() if not k.startswith("gate.")})
    for p, again, alone in zip(found, asked(other, examples), asked(ungated, examples), strict=True):
        assert p.messages == again.messages
        np.testing.assert_array_equal(p.prefix, again.prefix)
        np.testing.assert_allclose(p.prefix, alone.prefix, atol=1e-2)  # its state is kept in half precision


def test_a_user_without_history_passes_the_gate_too(make_method, examples) -> None:
    method = make_method("plug", **GATED)
    prompt = method.personalize(examples[0].request, Profile(History("nobody")))
    assert np.isfinite(np.asarray(prompt.prefix)).all()
