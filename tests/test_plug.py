"""The plug: the paper's formula, and what must hold whatever the configuration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplug.methods.pplug import PaperConfig
from personaplug.plug import Plug, PlugConfig, drop_history

E, D = 12, 20


def erf_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def paper_in_numpy(plug: Plug, history: np.ndarray, query: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Equations 3 to 5, item by item, with the projection before the sum; written from the paper alone."""
    w = {k: v.double().numpy() for k, v in plug.state_dict().items()}
    h = history / np.linalg.norm(history, axis=1, keepdims=True)
    x = query / np.linalg.norm(query)
    logits = h @ x
    weights = np.exp(logits) / np.exp(logits).sum()
    persona = np.zeros(D)
    for weight, item in zip(weights, h, strict=True):
        inner = erf_gelu(w["inner.weight"] @ item + w["inner.bias"])
        persona += weight * (w["outer.weight"] @ inner + w["outer.bias"])
    inner = erf_gelu(w["instruction_mlp.0.weight"] @ w["instruction"][0] + w["instruction_mlp.0.bias"])
    instruction = w["instruction_mlp.2.weight"] @ inner + w["instruction_mlp.2.bias"]
    return np.stack([instruction / w["instruction_norm"], persona]) * scale, weights


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_prefix_and_weights_equal_the_papers_formula(n: int) -> None:
    rng = np.random.default_rng(n)
    history, query = rng.normal(size=(n, E)), rng.normal(size=E)
    torch.manual_seed(n)
    plug = Plug(PaperConfig(train_query_encoder=False), E, D, token_norm=3.7)
    out = plug(
        torch.tensor(history[None]).float(), torch.ones(1, n, dtype=torch.bool), torch.tensor(query[None]).float()
    )
    prefix, weights = paper_in_numpy(plug, history, query, scale=3.7)
    np.testing.assert_allclose(out.prefix[0].detach().numpy(), prefix, atol=1e-5)
    np.testing.assert_allclose(out.weights[0].detach().numpy(), weights, atol=1e-5)


def test_instruction_starts_at_the_length_of_a_natural_token() -> None:
    plug = Plug(PlugConfig(persona_tokens=0, instruction_tokens=3), E, D, token_norm=5.0)
    prefix = plug(torch.zeros(1, 0, E), torch.zeros(1, 0, dtype=torch.bool)).prefix
    assert prefix.norm(dim=-1).mean().item() == pytest.approx(5.0, rel=1e-5)


configs = st.builds(
    PlugConfig,
    persona_tokens=st.integers(1, 4),
    instruction_tokens=st.integers(0, 2),
    pooling=st.sampled_from(["softmax", "mean"]),
    temperature=st.floats(0.05, 3),
    unit_length=st.booleans(),
    standardize=st.booleans(),
    projector_width=st.sampled_from([0, 5]),
)


def build(config: PlugConfig) -> Plug:
    torch.manual_seed(1)
    plug = Plug(config, E, D, token_norm=2.0)
    plug.set_statistics(torch.randn(30, E) * 3 + 1)
    return plug.eval()


@given(configs, st.integers(0, 6))
@settings(deadline=None, max_examples=60)
@torch.no_grad()
def test_an_empty_history_gets_a_finite_persona(config: PlugConfig, padding: int) -> None:
    out = build(config)(torch.zeros(1, padding, E), torch.zeros(1, padding, dtype=torch.bool), torch.randn(1, E))
    assert torch.isfinite(out.prefix).all()
    assert out.weights.sum() == 0


def test_an_empty_history_gives_no_nan_gradient() -> None:
    plug = build(PlugConfig(pooling="softmax"))
    plug(torch.zeros(2, 3, E), torch.tensor([[False] * 3, [True] * 3]), torch.randn(2, E)).prefix.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in plug.parameters() if p.grad is not None)


@given(configs, st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
@torch.no_grad()
def test_users_in_one_batch_get_what_each_gets_alone(config: PlugConfig, n: int, m: int, seed: int) -> None:
    plug, g = build(config), torch.Generator().manual_seed(seed)
    a, b, q = torch.randn(n, E, generator=g), torch.randn(m, E, generator=g), torch.randn(2, E, generator=g)
    both, mask = torch.full((2, max(n, m), E), 1e4), torch.zeros(2, max(n, m), dtype=torch.bool)
    both[0, :n], both[1, :m], mask[0, :n], mask[1, :m] = a, b, True, True
    out = plug(both, mask, q)
    for row, own in enumerate((a, b)):
        alone = plug(own[None], torch.ones(1, len(own), dtype=torch.bool), q[row : row + 1])
        torch.testing.assert_close(out.prefix[row], alone.prefix[0], atol=1e-4, rtol=1e-4)


@given(configs, st.permutations(range(5)))
@settings(deadline=None, max_examples=60)
@torch.no_grad()
def test_the_order_of_behaviours_does_not_change_a_persona(config: PlugConfig, order: list[int]) -> None:
    plug, h, q = build(config), torch.randn(1, 5, E, generator=torch.Generator().manual_seed(3)), torch.ones(1, E)
    mask = torch.ones(1, 5, dtype=torch.bool)
    torch.testing.assert_close(plug(h, mask, q).prefix, plug(h[:, order], mask, q).prefix, atol=1e-4, rtol=1e-4)


def test_a_low_temperature_picks_the_nearest_behaviour() -> None:
    plug = build(PlugConfig(temperature=0.01, unit_length=True, standardize=False))
    h = torch.eye(E)[None, :4]
    weights = plug(h, torch.ones(1, 4, dtype=torch.bool), h[:, 2]).weights
    assert weights[0, 2] > 0.999


@given(st.integers(0, 40), st.floats(0, 0.9), st.integers(1, 20), st.integers(0, 2**31))
def test_history_dropout_keeps_a_sorted_subset_within_its_bounds(n: int, share: float, most: int, seed: int) -> None:
    config = PlugConfig(history_dropout=share, max_history=most)
    kept = drop_history(n, config, torch.Generator().manual_seed(seed)).tolist()
    assert kept == sorted(set(kept))
    assert len(kept) <= most
    assert all(0 <= i < n for i in kept)
    assert len(kept) >= min(most, n - int(n * share) - 1, n) or n <= 2
    assert bool(kept) == (n > 0)


def test_history_dropout_draws_afresh() -> None:
    config = PlugConfig(history_dropout=0.5)
    draws = {tuple(drop_history(30, config, torch.Generator().manual_seed(s)).tolist()) for s in range(20)}
    assert len(draws) == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"persona_tokens": -1},
        {"persona_tokens": 0, "instruction_tokens": 0},
        {"history_dropout": 1.0},
        {"temperature": 0.0},
        {"max_history": 0},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|both 0"):
        PlugConfig(**wrong)


def test_softmax_pooling_without_a_query_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a query"):
        build(PlugConfig(pooling="softmax"))(torch.zeros(1, 1, E), torch.ones(1, 1, dtype=torch.bool))


def test_plug_knows_nothing_of_the_rest_of_the_package() -> None:
    import inspect

    import personaplug.plug as module

    assert "from personaplug" not in inspect.getsource(module)
