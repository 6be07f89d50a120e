"""Batches of like lengths: nothing lost, nothing doubled, never over the budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.sequences import token_batches


@given(st.lists(st.integers(0, 50)), st.integers(1, 200))
def test_every_position_is_in_one_batch_within_the_budget_longest_first(lengths, budget):
    batches = list(token_batches(lengths, budget))
    assert sorted(i for b in batches for i in b) == list(range(len(lengths)))
    flat = [lengths[i] for b in batches for i in b]
    assert flat == sorted(flat, reverse=True)
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= budget or not lengths[b[0]] for b in batches)
