"""Poolings: what each says of a behaviour, before any training."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from personaplug.plug.pooling import POOLINGS, Pooling

B, N, E = 2, 5, 8
KEYS, QUERY = (torch.randn(*shape, generator=torch.Generator().manual_seed(4)) for shape in ((B, N, E), (B, E)))
AGE = torch.arange(N).flip(0).expand(B, N)


def made(name: str, temperature: float = 1.0) -> Pooling:
    torch.manual_seed(0)
    return POOLINGS[name](E, temperature).requires_grad_(False)


@pytest.mark.parametrize("name", POOLINGS)
def test_it_gives_every_behaviour_a_finite_logit(name: str) -> None:
    assert made(name)(KEYS, QUERY, AGE).shape == (B, N)
    assert torch.isfinite(made(name)(KEYS, QUERY, AGE)).all()


@pytest.mark.parametrize("name", POOLINGS)
def test_the_request_counts_exactly_where_it_says_so(name: str) -> None:
    pooling = made(name)
    if pooling.uses_query:
        assert not torch.allclose(pooling(KEYS, QUERY, AGE), pooling(KEYS, -QUERY, AGE))
        with pytest.raises(ValueError, match="needs a query"):
            pooling(KEYS, None, AGE)
    else:
        assert torch.equal(pooling(KEYS, QUERY, AGE), pooling(KEYS, None, AGE))


@pytest.mark.parametrize("name", POOLINGS)
def test_the_age_counts_exactly_where_it_says_so(name: str) -> None:
    pooling = made(name)
    assert torch.equal(pooling(KEYS, QUERY, AGE), pooling(KEYS, QUERY, AGE.flip(1))) != pooling.ordered


def test_the_mean_favours_nothing() -> None:
    assert (made("mean")(KEYS, None, AGE) == 0).all()


def test_softmax_is_the_product_over_the_temperature() -> None:
    expected = torch.stack([KEYS[b] @ QUERY[b] for b in range(B)]) / 0.25
    torch.testing.assert_close(made("softmax", 0.25)(KEYS, QUERY, AGE), expected)


def test_nearest_begins_as_a_sharp_nearest_neighbour_search_whatever_the_lengths() -> None:
    cosines = F.cosine_similarity(KEYS, QUERY[:, None], dim=-1)
    for keys, query in ((KEYS, QUERY), (KEYS * 100, QUERY / 50)):
        unit = F.normalize(keys, dim=-1)  # as the plug gives them
        torch.testing.assert_close(made("nearest")(unit, query, AGE), 10 * cosines)


def test_with_recency_the_newest_behaviour_counts_most_and_the_older_the_less() -> None:
    logits = made("recent")(KEYS, None, AGE)
    assert (logits.diff(dim=1) > 0).all()  # oldest first
    assert (logits[:, -1] == 0).all()
