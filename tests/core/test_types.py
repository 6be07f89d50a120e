"""The nouns: what cannot be is refused where it is made."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import TIMES

from personaplug.core.errors import DataError
from personaplug.core.types import Behavior, Conditioning, History, Message, Prompt, Request

DATED = st.none() | TIMES


def history(ats) -> History:
    return History("ada", tuple(Behavior("ada", str(i), "in", f"out {i}", at) for i, at in enumerate(ats)), 3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"user": ""}, "user and id must not be empty"),
        ({"id": ""}, "user and id must not be empty"),
        ({"input": "", "output": ""}, "both input and output are empty"),
        ({"at": math.nan}, "at is nan"),
        ({"at": math.inf}, "at is inf"),
        ({"rating": 1.01}, "rating is 1.01"),
        ({"rating": -0.01}, "rating is -0.01"),
        ({"rating": math.nan}, "rating is nan"),
        ({"rating": True}, "rating is True"),
        ({"at": 5e10}, "no time up to the year 2100"),
        ({"at": "01.03.2024"}, "at is '01.03.2024', expected UTC seconds"),
        ({"user": ".."}, "the user's name is a step in an address"),
        ({"user": "a\n"}, "the user's name holds a control character"),
        ({"user": "acme\x1f"}, "the user's name must not be empty"),
        ({"user": "acme\x1fa\x1fb"}, "the user's name holds a control character"),
        ({"user": "x" * 257}, "the user's name is longer than 256 characters"),
        ({"user": 7}, "user is 7, expected a string"),
        ({"id": "x" * 1025}, "the id is longer than 1,024 characters"),
        ({"id": "."}, "the id is a step in an address"),
        ({"output": "a\ud800"}, "half a surrogate pair"),
        ({"fields": {"a\tb": "1"}}, "the name of the field 'a\\\\tb' holds a control character"),
        ({"fields": {"a": 1}}, "field 'a' is 1, expected a string"),
    ],
)
def test_a_behaviour_that_cannot_be_is_refused_with_its_id_and_user(changes, says):
    good = {"user": "ada", "id": "7", "input": "in", "output": "out"}
    with pytest.raises(DataError, match=says) as caught:
        Behavior(**good | changes)
    assert str(caught.value).startswith("behaviour ")


@pytest.mark.parametrize("changes", [{"input": ""}, {"output": ""}, {"rating": 0.0}, {"rating": 1.0}, {"at": 0.0}])
def test_a_behaviour_at_the_edge_of_what_can_be_is_taken(changes):
    Behavior(**{"user": "ada", "id": "7", "input": "in", "output": "out"} | changes)


def test_a_behaviour_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Behavior("ada", "1", "in", "out").output = "other"


@given(st.lists(DATED, max_size=10), st.floats(-1e9, 1e9))
def test_before_never_holds_what_came_later_or_may_have(ats, at):
    cut = history(ats).before(at)
    assert [b.at for b in cut] == [t for t in ats if t is not None and t < at]
    assert (cut.user, cut.version) == ("ada", 3)


@given(st.lists(DATED, max_size=10), st.integers(-2, 12))
def test_last_holds_the_newest_in_order(ats, n):
    whole = history(ats)
    assert whole.last(n).behaviors == (whole.behaviors[-n:] if n > 0 else ())


def test_digests_tell_texts_apart_however_they_are_cut():
    def digest(*texts):
        return History("u", tuple(Behavior("u", str(i), a, b) for i, (a, b) in enumerate(texts))).digest

    assert digest(("ab", "c")) != digest(("a", "bc"))
    assert digest(("a", "b"), ("c", "d")) != digest(("c", "d"), ("a", "b"))
    assert digest(("a", "b")) == digest(("a", "b"))


def test_a_request_is_about_its_last_user_message_unless_told_otherwise():
    turns = (Message("user", "first"), Message("assistant", "reply"), Message("user", "second"), Message("system", "s"))
    assert Request("ada", turns).query == "second"
    assert Request("ada", turns, query="other").query == "other"
    assert Request(None, (Message("system", "only"),)).query == "only"


def test_a_request_without_messages_is_refused():
    with pytest.raises(DataError, match="no messages"):
        Request("ada", ())


def test_a_request_of_a_text_may_have_a_system_message():
    assert [m.role for m in Request.of("ada", "hi").messages] == ["user"]
    assert [m.role for m in Request.of("ada", "hi", system="be kind").messages] == ["system", "user"]


def test_a_prompt_needs_what_it_holds():
    turns = (Message("user", "hi"),)
    prefix = np.zeros((1, 4))
    assert Prompt(turns).needs == Conditioning.TEXT
    assert Prompt(turns, prefix=prefix).needs == Conditioning.TEXT | Conditioning.PREFIX
    assert (
        Prompt(turns, prefix=prefix, adapter="ada").needs
        == Conditioning.TEXT | Conditioning.PREFIX | Conditioning.ADAPTER
    )


def test_needs_are_written_as_words():
    assert str(Conditioning.TEXT | Conditioning.PREFIX) == "text+prefix"
    assert str(Conditioning(0)) == "nothing"


def test_a_behaviour_has_utc_seconds_whatever_its_time_was_written_in():
    written = [1_700_000_000, 1_700_000_000_000, "2023-11-14T22:13:20Z", 1_700_000_000_000_000_000]
    assert {Behavior("ada", "1", "in", "out", at).at for at in written} == {1.7e9}


def test_a_row_of_a_store_is_read_whatever_an_older_version_took():
    old = Behavior.from_store("a\n", "..", "in", "out", 1e300, 0.5, {"": "x"})
    assert (old.user, old.id, old.at, old.fields) == ("a\n", "..", 1e300, {"": "x"})
