"""Errors: one base to catch, and the nearest name at the end of the line."""

from __future__ import annotations

import inspect

import pytest

from personaplug.core import errors
from personaplug.core.errors import PersonaplugError, did_you_mean


def test_every_kind_is_caught_by_the_base():
    kinds = [c for c in vars(errors).values() if inspect.isclass(c) and c.__module__ == errors.__name__]
    assert len(kinds) > 5
    assert all(issubclass(kind, PersonaplugError) for kind in kinds)


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("plugg", ["none", "plug"], "did you mean 'plug'?"),
        ("xyz", ["none", "plug"], "known: none, plug"),
        ("xyz", [], "known: none"),
        ("plug", iter(["pplug"]), "did you mean 'pplug'?"),
    ],
)
def test_a_wrong_name_is_met_with_the_nearest_or_with_all(name, known, says):
    assert did_you_mean(name, known) == says
