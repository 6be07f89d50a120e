"""What every store on the shelf must do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.strategies import NAMES, TIMES

from personaplug.core import registry
from personaplug.core.errors import ConflictError, DataError, UnknownUserError
from personaplug.core.types import Behavior
from personaplug.stores import DEFAULT
from personaplug.stores.base import Store, VectorRow

# Store -> the config of an empty one in a folder, where that is not a file at `url`.
CONFIGS: dict[str, Callable[[Path], dict[str, Any]]] = {}

KEY = "hashing/8@1"
PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
fresh = (f"user {n}" for n in itertools.count())  # hypothesis examples share a store, never a user


def b(user: str, id_: str, output: str = "out", at: float | None = None, **rest: Any) -> Behavior:
    return Behavior(user, id_, rest.pop("input", "in"), output, at, **rest)


def row(user: str, id_: str, digest: str, vector: Any) -> VectorRow:
    return VectorRow(user, id_, digest, np.asarray(vector, np.float32))


@pytest.fixture(params=[*registry.names("store"), pytest.param("postgres", marks=pytest.mark.slow)])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same store again; all are closed at the end."""
    if request.param == "postgres":
        name, config = DEFAULT, {"url": request.getfixturevalue("postgres_url")}
    else:
        make = CONFIGS.get(request.param, lambda folder: {"url": str(folder / "store.db")})
        name, config = request.param, make(tmp_path)
    opened: list[Store] = []

    def build() -> Store:
        opened.append(registry.build("store", name, config))
        return opened[-1]

    yield build
    for each in opened:
        each.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()


def test_adding_the_same_behaviours_again_adds_nothing(store: Store) -> None:
    given_ = [b("ann", "1", at=1, rating=1, fields={"x": "1", "y": "2"}), b("bob", "1")]
    assert store.add(given_) == 2
    again = [b("ann", "1", at=1.0, rating=1.0, fields={"y": "2", "x": "1"}), b("bob", "1")]
    assert store.add(again) == 0
    assert len(store.history("ann")) == len(store.history("bob")) == 1


def test_an_id_given_twice_in_one_call_is_added_once(store: Store) -> None:
    assert store.add([b("ann", "1"), b("ann", "1")]) == 1
    with pytest.raises(ConflictError, match="'2' of user 'ann' is given twice"):
        store.add([b("ann", "2", "yes"), b("ann", "2", "no")])


@pytest.mark.parametrize("other", [{"output": "changed"}, {"at": 9.0}, {"rating": 0.5}, {"fields": {"a": "b"}}])
def test_an_id_with_other_content_is_a_conflict_and_nothing_of_the_call_is_added(store: Store, other: Any) -> None:
    store.add([b("ann", "1")])
    with pytest.raises(ConflictError, match=r"behaviour '1' of user 'ann'.*remove the old one"):
        store.add([b("ann", "0"), b("new", "1"), b("ann", "1", **other)])
    assert store.history("ann").behaviors == (b("ann", "1"),)
    assert [(u.user, u.version) for u in store.users()] == [("ann", 1)]


def test_a_conflict_far_into_a_large_call_adds_nothing(store: Store) -> None:
    store.add([b("ann", "2499")])
    with pytest.raises(ConflictError):
        store.add([b("ann", str(i), "changed") for i in range(2500)])
    assert len(store.history("ann")) == 1
    assert store.add([b("ann", str(i)) for i in range(2500)]) == 2499


def test_a_version_rises_only_for_users_who_got_something_new(store: Store) -> None:
    store.add([b("ann", "1"), b("bob", "1")])
    store.add([b("ann", "1"), b("bob", "1"), b("bob", "2"), b("bob", "3")])
    assert [(u.user, u.behaviors, u.version) for u in store.users()] == [("ann", 1, 1), ("bob", 3, 2)]
    assert store.history("bob").version == 2


def test_no_behaviours_make_no_user(store: Store) -> None:
    assert store.add([]) == 0
    assert store.users() == []


@PROPERTY
@given(times=st.lists(st.none() | TIMES, max_size=12), data=st.data())
def test_history_is_undated_first_then_by_time_then_in_order_of_arrival(store: Store, times: Any, data: Any) -> None:
    user = next(fresh)
    added = [b(user, str(i), at=at) for i, at in enumerate(times)]
    cut = data.draw(st.integers(0, len(added)))
    store.add([*added[:cut], b(user, "last", at=4.1e9)])
    store.add(added[cut:])
    expected = sorted(added, key=lambda each: (each.at is not None, each.at or 0.0))
    assert store.history(user).behaviors == (*expected, b(user, "last", at=4.1e9))


@PROPERTY
@given(data=st.data())
def test_any_text_comes_back_unchanged(store: Store, data: Any) -> None:
    barred = "" if store.keeps_nul else "\0"  # every other character of Unicode is text
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=barred))
    user = next(fresh) + data.draw(NAMES)[:200]
    one = Behavior(
        user,
        data.draw(NAMES),
        data.draw(text),
        data.draw(text) or "out",
        data.draw(st.none() | TIMES),
        data.draw(st.none() | st.floats(0, 1)),
        data.draw(st.dictionaries(NAMES, text, max_size=3)),
    )
    store.add([one])
    assert store.history(user).behaviors == (one,)
    assert store.add([one]) == 0
    assert user in {u.user for u in store.users()}


@pytest.mark.parametrize("where", ["user", "id", "input", "output"])
def test_half_a_surrogate_pair_is_refused_by_name(store: Store, where: str) -> None:
    good = {"user": "ann", "id": "1", "input": "in", "output": "out"}
    with pytest.raises(DataError, match="surrogate"):
        store.add([Behavior(**{**good, where: "a\ud800"})])
    with pytest.raises(DataError, match="surrogate"):
        store.history("a\ud800")


def test_users_are_listed_by_name_with_counts_and_dates(store: Store) -> None:
    store.add([b("bob", "1", at=5), b("bob", "2"), b("Ann", "1"), b("bob", "3", at=2)])
    ann, bob = store.users()
    assert (ann.user, ann.behaviors, ann.first, ann.last) == ("Ann", 1, None, None)
    assert (bob.user, bob.behaviors, bob.first, bob.last) == ("bob", 3, 2.0, 5.0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda s: s.history("aliec"),
        lambda s: s.forget("aliec"),
        lambda s: s.remove("aliec", ["1"]),
        lambda s: s.put_state("aliec", "plug", 1, {}),
    ],
)
def test_an_unknown_user_is_an_error_that_names_the_nearest_one(store: Store, ask: Callable[[Store], Any]) -> None:
    with pytest.raises(UnknownUserError, match="no user 'aliec'"):
        ask(store)
    store.add([b("alice", "1"), b("bob", "1")])
    with pytest.raises(UnknownUserError, match=r"no user 'aliec' among 2 users; did you mean 'alice'\?") as error:
        ask(store)
    assert "\n" not in str(error.value)


@PROPERTY
@given(vector=hnp.arrays(np.float16, st.integers(1, 40), elements=st.floats(-60000, 60000, width=16)))
def test_vectors_come_back_as_float32_with_float16_precision(store: Store, vector: Any) -> None:
    user = next(fresh)
    store.add([b(user, "1")])
    store.put_vectors(KEY, [VectorRow(user, "1", user, vector)])
    for found in (store.vectors(user, KEY)[user], store.find_vectors(KEY, [user, "absent"])[user]):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, vector.astype(np.float32))


def test_encoder_keys_never_mix(store: Store) -> None:
    store.add([b("ann", "1")])
    for i, key in enumerate(("model@1", "model@2", "Model@1", "model@1 ")):
        store.put_vectors(key, [row("ann", "1", "same text", [i, i])])
    for i, key in enumerate(("model@1", "model@2", "Model@1", "model@1 ")):
        assert store.vectors("ann", key)["same text"].tolist() == [i, i]
        assert store.find_vectors(key, ["same text"])["same text"].tolist() == [i, i]
    assert store.vectors("ann", "model@3") == store.find_vectors("model@3", ["same text"]) == {}


def test_vectors_of_users_do_not_mix_and_are_found_for_any_user(store: Store) -> None:
    store.add([b("ann", "1"), b("bob", "1")])
    store.put_vectors(KEY, [row("ann", "1", "a", [1]), row("bob", "1", "b", [2])])
    assert set(store.vectors("ann", KEY)) == {"a"}
    assert set(store.find_vectors(KEY, ["a", "b", "a"])) == {"a", "b"}
    assert store.vectors("nobody", KEY) == {}


def test_a_few_of_a_users_vectors_are_found_by_their_digests(store: Store) -> None:
    store.add([b("ann", "1"), b("ann", "2"), b("bob", "1")])
    store.put_vectors(KEY, [row("ann", "1", "a", [1]), row("ann", "2", "c", [3]), row("bob", "1", "b", [2])])
    assert set(store.vectors("ann", KEY, ["a", "b", "absent"])) == {"a"}
    assert store.vectors("ann", KEY, []) == {}


def test_vectors_of_behaviours_that_are_not_stored_are_left_out(store: Store) -> None:
    store.add([b("ann", "1")])
    store.put_vectors(KEY, [row("ann", "2", "a", [1]), row("bob", "1", "b", [1]), row("ann", "1", "c", [1])])
    store.put_vectors(KEY, [])
    assert set(store.find_vectors(KEY, ["a", "b", "c"])) == {"c"}


def test_a_vector_put_again_replaces_the_old_one(store: Store) -> None:
    store.add([b("ann", "1")])
    store.put_vectors(KEY, [row("ann", "1", "a", [1, 1])])
    store.put_vectors(KEY, [row("ann", "1", "a", [2, 2, 2])])
    assert store.vectors("ann", KEY)["a"].tolist() == [2, 2, 2]
    assert store.forget("ann").vectors == 1


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [1e6], [[1.0]]])
def test_a_vector_that_float16_cannot_hold_is_refused(store: Store, bad: Any) -> None:
    store.add([b("ann", "1")])
    with pytest.raises(DataError, match=r"'1' of user 'ann'.*float16"):
        store.put_vectors(KEY, [row("ann", "1", "a", bad)])


def test_states_come_back_with_their_version_names_and_types(store: Store) -> None:
    store.add([b("ann", "1")])
    state = {
        "file": np.arange(6, dtype=np.float16).reshape(2, 3),
        "ids/of é": np.array(["x", "yé"]),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(3, np.int64),
    }
    store.put_state("ann", "plug@1", 1, state)
    version, back = store.state("ann", "plug@1") or (0, {})
    assert version == 1
    assert set(back) == set(state)
    for name, array in state.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    store.put_state("ann", "plug@1", 2, {})
    assert store.state("ann", "plug@1") == (2, {})
    assert store.state("ann", "other") is None
    assert store.state("nobody", "plug@1") is None


def test_states_take_no_python_objects(store: Store) -> None:
    store.add([b("ann", "1")])
    with pytest.raises(DataError, match="'x' holds Python objects"):
        store.put_state("ann", "plug", 1, {"x": np.array([object()])})


def test_removing_behaviours_drops_their_vectors_and_the_states_and_raises_the_version(store: Store) -> None:
    store.add([b("ann", "1"), b("ann", "2"), b("bob", "1")])
    store.put_vectors(KEY, [row("ann", "1", "a", [1]), row("ann", "2", "b", [1]), row("bob", "1", "c", [1])])
    for user in ("ann", "bob"):
        store.put_state(user, "plug", 1, {})
    assert store.remove("ann", ["1", "1", "absent"]) == 1
    assert [x.id for x in store.history("ann")] == ["2"]
    assert store.history("ann").version == 2
    assert set(store.find_vectors(KEY, ["a", "b", "c"])) == {"b", "c"}
    assert store.state("ann", "plug") is None
    assert store.state("bob", "plug") is not None
    assert store.add([b("ann", "1", "written anew")]) == 1


def test_removing_what_is_not_there_changes_nothing(store: Store) -> None:
    store.add([b("ann", "1"), b("bob", "2")])
    store.put_state("ann", "plug", 1, {})
    assert store.remove("ann", ["2"]) == store.remove("ann", []) == 0
    assert store.history("ann").version == 1
    assert store.state("ann", "plug") is not None


def test_a_forgotten_user_is_unknown_and_the_others_stay(store: Store) -> None:
    store.add([b("ann", "1"), b("ann", "2"), b("bob", "1")])
    store.put_vectors(KEY, [row("ann", "1", "a", [1]), row("bob", "1", "b", [1])])
    store.put_state("ann", "plug", 1, {})
    receipt = store.forget("ann")
    assert (receipt.user, receipt.behaviors, receipt.vectors, receipt.states) == ("ann", 2, 1, 1)
    assert [u.user for u in store.users()] == ["bob"]
    assert set(store.find_vectors(KEY, ["a", "b"])) == {"b"}
    with pytest.raises(UnknownUserError):
        store.history("ann")
    store.add([b("ann", "1", "as a new user")])
    assert store.history("ann").version == 1
    assert store.state("ann", "plug") is None


def test_metadata_comes_back_is_replaced_and_outlives_users(store: Store) -> None:
    assert store.metadata("source") is None
    store.put_metadata("source", {"file": "a.jsonl"})
    store.put_metadata("source", {"file": "bé.jsonl", "rows": [1, None, {"x": 0.5}]})
    store.add([b("ann", "1")])
    store.forget("ann")
    assert store.metadata("source") == {"file": "bé.jsonl", "rows": [1, None, {"x": 0.5}]}


def test_everything_is_there_for_the_next_one_who_opens_it(reopen: Callable[[], Store]) -> None:
    first = reopen()
    first.add([b("ann", "1")])
    first.put_vectors(KEY, [row("ann", "1", "a", [1])])
    first.put_state("ann", "plug", 1, {"x": np.ones(2)})
    first.put_metadata("k", {"v": 1})
    for second in (reopen(), first.close() or reopen()):  # beside the first one, and after it
        assert second.history("ann").behaviors == (b("ann", "1"),)
        assert set(second.vectors("ann", KEY)) == {"a"}
        assert second.state("ann", "plug") is not None
        assert second.metadata("k") == {"v": 1}


def test_a_user_may_be_there_before_any_behaviour(store: Store) -> None:
    assert [store.create("ann"), store.create("ann")] == [True, False]
    assert store.history("ann").behaviors == ()
    store.add([b("ann", "1")])
    assert len(store.history("ann")) == 1


def test_an_edited_behaviour_keeps_its_place_and_loses_its_vectors_and_states(store: Store) -> None:
    store.add([b("ann", "1"), b("ann", "2"), b("ann", "3", at=5.0)])
    store.put_vectors(KEY, [row("ann", id_, f"text {id_}", [1.0, 2.0]) for id_ in ("1", "2")])
    store.put_state("ann", "plug", 1, {"x": np.ones(2)})
    before = store.history("ann")
    assert store.replace(b("ann", "1", "new words", fields={"a": "1"}))
    after = store.history("ann")
    assert [x.id for x in after] == ["1", "2", "3"]
    assert after.behaviors[0] == b("ann", "1", "new words", fields={"a": "1"})
    assert after.version > before.version
    assert set(store.vectors("ann", KEY)) == {"text 2"}
    assert store.state("ann", "plug") is None
    assert not store.replace(b("ann", "1", "new words", fields={"a": "1"}))
    assert store.history("ann").version == after.version
    with pytest.raises(DataError, match="no behaviour '9'"):
        store.replace(b("ann", "9"))
    with pytest.raises(UnknownUserError):
        store.replace(b("bob", "1"))


def test_users_are_found_page_by_page_by_how_their_names_begin(store: Store) -> None:
    names = [f"a%_\x1f{n}" for n in range(5)] + ["A%_\x1f9", "a", "aXY\x1f1", "b", "c"]
    store.add([b(name, "1") for name in names])
    found: list[str] = []
    while page := store.find_users("a%_\x1f", found[-1] if found else "", 2):
        found += [info.user for info in page]
    assert found == names[:5]
    assert [info.user for info in store.find_users(without="\x1f")] == ["a", "b", "c"]
    assert store.find_users("b") == [info for info in store.users() if info.user == "b"]


def test_a_store_says_what_else_it_keeps_of_a_user(store: Store) -> None:
    store.add([b("ann", "1"), b("bob", "1")])
    store.put_vectors(KEY, [row("ann", "1", "text", [1.0])])
    store.put_state("ann", "plug", 1, {"x": np.ones(2)})
    held = store.inventory("ann")
    assert (held.encoders, held.methods) == ((KEY,), ("plug",))
    assert store.inventory("bob").encoders == store.inventory("bob").methods == ()
