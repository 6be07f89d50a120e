"""The plug: the paper's formula, and what must hold whatever the configuration."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personaplug.methods.plug import PlugMethodConfig
from personaplug.methods.pplug import PaperConfig
from personaplug.methods.soft.fitting import drop_history
from personaplug.methods.task_prompt import SoftPrompt
from personaplug.plug import Plug, PlugConfig
from personaplug.plug.attribution import influence
from personaplug.plug.pooling import POOLINGS

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
    plug = Plug(PaperConfig(query_encoder="frozen"), E, D, token_norm=3.7, views=1)
    prefix, weights = plug(
        torch.tensor(history[None]).float(), torch.ones(1, n, dtype=torch.bool), torch.tensor(query[None]).float()
    )
    expected, shares = paper_in_numpy(plug, history, query, scale=3.7)
    np.testing.assert_allclose(prefix[0].detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(weights[0, 0].detach().numpy(), shares, atol=1e-5)


def test_instruction_starts_at_the_length_of_a_natural_token() -> None:
    plug = Plug(plain(instruction_tokens=3), E, D, token_norm=5.0, views=1)
    for prefix in (null_prefix(plug)[0, :3], SoftPrompt(3, D, token_norm=5.0)()):
        assert prefix.norm(dim=-1).mean().item() == pytest.approx(5.0, rel=1e-5)


configs = st.builds(
    PlugConfig,
    persona_tokens=st.integers(1, 3),
    instruction_tokens=st.integers(0, 2),
    pooling=st.lists(st.sampled_from(sorted(POOLINGS)), min_size=1, unique=True).map("+".join),
    nobody=st.booleans(),
    temperature=st.floats(0.05, 3),
    unit_length=st.booleans(),
    standardize=st.booleans(),
)
views = st.sampled_from([1, 2])


def plain(**config: Any) -> PlugConfig:
    """The simplest plug with a persona, whatever the defaults are."""
    simple = {
        "persona_tokens": 2, "instruction_tokens": 1, "pooling": "mean", "nobody": False, "temperature": 1.0,
        "unit_length": False, "standardize": False,
    }  # fmt: skip
    return PlugConfig(**(simple | config))


def build(config: PlugConfig, views: int = 1) -> Plug:
    torch.manual_seed(1)
    plug = Plug(config, E, D, token_norm=2.0, views=views)
    plug.standard.fit(torch.randn(30, E * views) * 3 + 1)
    if plug.null_user is not None:
        with torch.no_grad():  # as after some training
            plug.null_user.normal_()
    return plug.eval()


def null_prefix(plug: Plug) -> torch.Tensor:
    """The prefix of a user without behaviours [1, i + k, d]."""
    nothing = torch.zeros(1, 0, plug.inner.in_features)
    return plug(nothing, nothing[..., 0].bool(), torch.zeros(1, E))[0]


def some(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everybody(rows: int, n: int) -> torch.Tensor:
    return torch.ones(rows, n, dtype=torch.bool)


@given(configs, views, st.integers(0, 6))
@torch.no_grad()
def test_an_empty_history_gets_the_unknown_users_finite_persona(config: PlugConfig, views: int, padding: int) -> None:
    plug, nobody = build(config, views), torch.zeros(1, padding, dtype=torch.bool)
    prefix, weights = plug(torch.zeros(1, padding, E * views), nobody, some(1, E))
    assert torch.isfinite(prefix).all()
    assert weights.sum() == 0
    torch.testing.assert_close(prefix, null_prefix(plug), atol=1e-5, rtol=1e-5)


@given(configs, views, st.booleans())
def test_gradients_are_finite_with_empty_histories_in_the_batch_and_from_the_first_step(
    config: PlugConfig, views: int, from_words: bool
) -> None:
    plug = build(config, views)
    if from_words:
        plug.start_from(some(2, D))
    query = some(2, E).requires_grad_()
    prefix, _ = plug(torch.zeros(2, 3, E * views), torch.tensor([[False] * 3, [True] * 3]), query)
    (prefix * some(*prefix.shape)).sum().backward()
    grads = [p.grad for p in (*plug.parameters(), query) if p.grad is not None and p.numel()]
    assert all(torch.isfinite(g).all() and g.abs().max() < 1e6 for g in grads)


@given(configs, views, st.integers(1, 6), st.integers(0, 6), st.integers(0, 2**31))
@torch.no_grad()
def test_users_in_one_batch_get_what_each_gets_alone(config: PlugConfig, views: int, n: int, m: int, seed: int) -> None:
    plug, wide = build(config, views), E * views
    a, b, q = some(n, wide, seed=seed), some(m, wide, seed=seed + 1), some(2, E, seed=seed + 2)
    both, mask = torch.full((2, max(n, m), wide), 1e4), torch.zeros(2, max(n, m), dtype=torch.bool)
    both[0, :n], both[1, :m], mask[0, :n], mask[1, :m] = a, b, True, True
    prefixes, weights = plug(both, mask, q)
    for row, own in enumerate((a, b)):
        prefix, shares = plug(own[None], everybody(1, len(own)), q[row : row + 1])
        torch.testing.assert_close(prefixes[row], prefix[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(weights[row, :, : len(own)], shares[0], atol=1e-5, rtol=1e-4)


@given(configs, views, st.permutations(range(5)))
@torch.no_grad()
def test_the_order_of_behaviours_counts_only_where_a_pooling_says_so(
    config: PlugConfig, views: int, order: list[int]
) -> None:
    plug, h, q = build(config, views), some(1, 5, E * views), torch.ones(1, E)
    before, after = (plug(x, everybody(1, 5), q)[1] for x in (h, h[:, order]))
    for at, track in enumerate(plug.poolings):
        same = torch.allclose(before[0, at, order], after[0, at], atol=1e-5)
        assert same == (not track.ordered or order == sorted(order))
    if not any(track.ordered for track in plug.poolings):
        prefixes = (plug(x, everybody(1, 5), q)[0] for x in (h, h[:, order]))
        torch.testing.assert_close(*prefixes, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_recency_another_order_is_another_persona() -> None:
    plug, h = build(plain(pooling="mean+recent")), some(1, 5, E)
    assert not torch.allclose(plug(h, everybody(1, 5))[0], plug(h.flip(1), everybody(1, 5))[0], atol=1e-3)


@given(configs, views, st.integers(1, 6))
@torch.no_grad()
def test_weights_are_shares_of_which_nobody_takes_the_rest(config: PlugConfig, views: int, n: int) -> None:
    _, weights = build(config, views)(some(2, n, E * views), everybody(2, n), some(2, E))
    assert weights.shape == (2, len(config.poolings), n)
    assert (weights >= 0).all()
    total = weights.sum(-1)
    assert (total <= 1 + 1e-5).all()
    if not config.nobody:
        torch.testing.assert_close(total, torch.ones_like(total))


@torch.no_grad()
def test_nobody_is_one_more_behaviour_of_the_average_user() -> None:
    without, h = build(plain(standardize=True)), some(1, 4, E)
    joined = Plug(plain(standardize=True, nobody=True), E, D, token_norm=2.0, views=1)
    joined.load_state_dict(without.state_dict() | {"null_user": torch.zeros(1)})
    average = torch.cat([h, without.standard.mean[None, None]], dim=1)
    expected = without(average, everybody(1, 5))[0]
    torch.testing.assert_close(joined(h, everybody(1, 4))[0], expected, atol=1e-5, rtol=1e-5)


@given(configs, views, st.integers(1, 9), st.integers(0, 4))
@torch.no_grad()
def test_started_from_words_the_prefix_is_those_words_for_every_user(
    config: PlugConfig, views: int, w: int, n: int
) -> None:
    plug, words = build(config, views), some(w, D)
    plug.start_from(words)
    prefix, _ = plug(some(2, n, E * views), everybody(2, n), some(2, E))
    size = config.instruction_tokens + config.persona_tokens
    last = torch.cat([words] * size)[-size:]
    torch.testing.assert_close(prefix, last.expand(2, -1, -1))


@torch.no_grad()
def test_a_coordinate_that_never_varied_in_training_cannot_drown_the_others() -> None:
    plug = Plug(plain(standardize=True), E, D, token_norm=2.0, views=1)
    seen = some(30, E)
    seen[:, 4] = 0.5
    plug.standard.fit(seen)
    odd = some(1, E, seed=8)
    plug_keys = {value: plug.project(odd.index_fill(1, torch.tensor([4]), value))[0] for value in (0.5, 1e6)}
    others = torch.arange(E) != 4
    assert torch.equal(plug_keys[0.5][:, others], plug_keys[1e6][:, others])
    assert plug_keys[0.5][0, 4] == 0
    assert plug_keys[1e6][0, 4] <= 10 / E**0.5 + 1e-6


@given(configs, views, st.integers(1, 5))
@torch.no_grad()
def test_with_unit_length_keys_and_queries_have_it(config: PlugConfig, views: int, n: int) -> None:
    plug = build(dataclasses.replace(config, unit_length=True), views)
    for vectors in (plug.project(some(n, E * views))[0], plug.standard(some(n, E))):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(n))


@given(configs, views, st.integers(1, 6), st.integers(0, 2**31))
@torch.no_grad()
def test_influences_are_shares_that_agree_with_leaving_each_behaviour_out(
    config: PlugConfig, views: int, n: int, seed: int
) -> None:
    plug, h, q = build(config, views), some(n, E * views, seed=seed), some(1, E, seed=seed + 1)
    keys, values = plug.project(h)
    weights = plug.weights(keys[None], everybody(1, n), plug.standard(q))
    shares = influence(plug, values, weights[0])
    assert shares.shape == (n,)
    assert (shares >= 0).all()
    assert shares.sum().item() == pytest.approx(1, abs=1e-5)
    # Ages shift when an older behaviour is left out; where one has all the weight, the difference drowns in rounding.
    if "recent" in config.poolings or weights.max() > 0.99:
        return
    whole, moved = plug.prefix(plug.pooled(values[None], weights)), []
    for i in range(n):
        rest = torch.arange(n) != i
        less = plug.weights(keys[None, rest], everybody(1, n - 1), plug.standard(q))
        moved.append((whole - plug.prefix(plug.pooled(values[None, rest], less))).norm())
    torch.testing.assert_close(shares, torch.stack(moved) / sum(moved), atol=1e-3, rtol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("prototypes", [2, 5])
def test_one_behaviour_is_read_as_what_people_like_its_user_did(prototypes: int) -> None:
    plug = build(plain(prototypes=prototypes))
    kinds = some(2, E, seed=5)
    users = [kinds[n % 2] + 0.1 * some(1 + n, E, seed=n) for n in range(8)]
    plug.standard.fit(torch.cat(users))
    assert plug.prototypes is not None
    plug.prototypes.fit([plug.standard(own) for own in users], plug.inner.weight)
    usual = [plug.prototype_values(kind[None, None], everybody(1, 1)) for kind in kinds]
    own = plug.prototype_values((kinds[0] + 0.5 * some(1, E, seed=77))[None], everybody(1, 1))
    assert (own - usual[0]).norm() < 0.3 * (own - usual[1]).norm()
    padded = torch.cat([kinds[:1], torch.full((1, E), 9.0)])[None]
    torch.testing.assert_close(plug.prototype_values(padded, torch.tensor([[True, False]])), usual[0])
    assert torch.isfinite(null_prefix(plug)).all()
    assert plug.prototypes.shares.sum().item() == pytest.approx(1)


def test_a_low_temperature_picks_the_nearest_behaviour() -> None:
    plug = build(plain(pooling="softmax", temperature=0.01, unit_length=True))
    h = torch.eye(E)[None, :4]
    assert plug(h, everybody(1, 4), h[:, 2])[1][0, 0, 2] > 0.999


@given(st.integers(0, 40), st.floats(0, 0.9), st.integers(1, 20), st.integers(0, 2**31))
def test_history_dropout_keeps_a_sorted_subset_within_its_bounds(n: int, share: float, most: int, seed: int) -> None:
    left = drop_history(n, share, most, torch.Generator().manual_seed(seed)).tolist()
    assert left == sorted(set(left))
    assert len(left) <= most
    assert all(0 <= i < n for i in left)
    assert len(left) >= min(most, n - int(n * share) - 1, n) or n <= 2
    assert bool(left) == (n > 0)


def test_history_dropout_draws_afresh() -> None:
    draws = {tuple(drop_history(30, 0.5, 512, torch.Generator().manual_seed(s)).tolist()) for s in range(20)}
    assert len(draws) == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"persona_tokens": -1},
        {"persona_tokens": 0},
        {"history_dropout": 1.0},
        {"temperature": 0.0},
        {"max_history": 0},
        {"prototypes": -1},
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        PlugMethodConfig(**wrong)


@pytest.mark.parametrize("pooling", ["softmax", "mean+nearest"])
def test_a_query_aware_pooling_without_a_query_is_refused(pooling: str) -> None:
    with pytest.raises(ValueError, match="needs a query"):
        build(plain(pooling=pooling))(torch.zeros(1, 1, E), everybody(1, 1))


@pytest.mark.parametrize("pooling", ["means", "mean+", "mean,nearest", ""])
def test_an_unknown_pooling_is_refused_by_a_line_that_lists_the_known(pooling: str) -> None:
    with pytest.raises(ValueError, match=r"is unknown, expected names joined by \+ of: mean, softmax") as caught:
        PlugConfig(pooling=pooling)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("templates", "views"), [("", 1), ((), 1), ("{output}", 1), (("{input}", "{output}"), 2)])
def test_a_behaviour_has_a_view_for_each_template(templates: str | tuple[str, ...], views: int) -> None:
    assert PlugMethodConfig(history_text=templates).views == views


@pytest.mark.parametrize(("pooling", "wants"), [("mean+recent", False), ("mean+nearest", True)])
def test_a_plug_uses_the_query_where_a_pooling_does(pooling: str, wants: bool) -> None:
    assert PlugMethodConfig(pooling=pooling).uses_query == wants


@pytest.mark.parametrize("pooling", ["nearest", "mean+nearest", "softmax+nearest"])
def test_nearest_does_not_look_at_lengths_whatever_stands_beside_it(pooling: str) -> None:
    config = PlugConfig(pooling=pooling, standardize=False)
    plug = Plug(config, E, D, 2.0, 1).eval()
    vectors, query = some(1, 5, E), some(1, E)
    weights = [plug(vectors * scale, everybody(1, 5), query)[1][:, -1] for scale in (1, 100)]
    torch.testing.assert_close(*weights)
    cosines = torch.nn.functional.cosine_similarity(vectors, query[:, None], dim=-1)
    torch.testing.assert_close(weights[0], (10 * cosines).softmax(-1))
