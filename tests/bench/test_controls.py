from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.bench.controls import apply_control, derangement
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.types import Behavior, Example, History, Request


def examples(users: int = 4, each: int = 3) -> list[Example]:
    found = []
    for u in range(users):
        past = tuple(Behavior(f"u{u}", f"{i}", "", f"word {i}", at=i) for i in range(each + 2))
        found += [
            Example(f"u{u}/{i}", Request.of(f"u{u}", "hi"), History(f"u{u}", past[: i + 2]), "yo") for i in range(each)
        ]
    return found


@given(st.sets(st.text(min_size=1), min_size=2), st.integers())
def test_nobody_is_given_their_own_history_and_everybody_is_used_once(users, seed):
    other = derangement(sorted(users), seed)
    assert set(other) == set(other.values()) == users
    assert all(a != b for a, b in other.items())


def test_equal_seeds_shuffle_alike_and_the_order_of_users_does_not_matter():
    users = [f"u{i}" for i in range(30)]
    assert derangement(users, 1) == derangement(users[::-1], 1) != derangement(users, 2)


def test_one_user_cannot_be_shuffled():
    with pytest.raises(DataError, match="at least 2 users, the split has 1"):
        derangement(["u", "u"], 0)


def test_shuffled_requests_keep_everything_but_the_history_which_is_the_newest_of_one_other_user():
    before = examples()
    after = apply_control(before, "shuffled users", seed=0)
    given_to: dict[str, set[str]] = {}
    for old, new in zip(before, after, strict=True):
        assert (old.id, old.request, old.target) == (new.id, new.request, new.target)
        assert new.history.user != old.history.user
        assert len(new.history) == 4
        given_to.setdefault(old.history.user, set()).add(new.history.user)
    assert all(len(found) == 1 for found in given_to.values())


def test_no_history_empties_every_history():
    assert all(len(e.history) == 0 for e in apply_control(examples(), "no history", 0))


def test_an_unknown_control_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'shuffled users'"):
        apply_control(examples(), "shuffled user", 0)
