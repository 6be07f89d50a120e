"""The public face: what a user does is in effect at once, prepared once, and gone when forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug import Behavior, Message, Personalizer, Request, Sampling
from personaplug.backbones.echo import EchoBackbone
from personaplug.core.config import NoConfig
from personaplug.core.errors import ConflictError, UnknownUserError
from personaplug.core.registry import build
from personaplug.core.types import Attribution, History, Profile, Prompt, State
from personaplug.methods.base import Method
from personaplug.stores.base import Store
from personaplug.tasks.base import TaskInfo


class Counting(Method):
    """Tells the model how many behaviours were prepared; counts how often it prepares."""

    Config = NoConfig
    summary = "for these tests"
    source = "–"
    key = "counting:1"

    def __init__(self, store_nothing: bool = False) -> None:
        super().__init__(NoConfig(), backbone=EchoBackbone())
        self.prepared: list[tuple[str, int]] = []
        self.store_nothing = store_nothing

    def prepare(self, history: History) -> State | None:
        self.prepared.append((history.user, len(history)))
        return None if self.store_nothing else {"count": np.array(len(history))}

    def personalize(self, request: Request, profile: Profile) -> Prompt:
        count = "no" if profile.state is None else int(profile.state["count"])
        text = f"{request.messages[-1].content} ({count} of {profile.history.user or 'nobody'})"
        return Prompt((*request.messages[:-1], Message("user", text)))

    def explain(self, request: Request, profile: Profile) -> list[Attribution]:
        return [Attribution(b, 1 / len(profile.history)) for b in profile.history]


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    opened = build("store", "sql", {"url": str(tmp_path / "users.db")})
    yield opened
    opened.close()


@pytest.fixture
def me(store) -> Personalizer:
    return Personalizer(Counting(), store)


def behavior(i: int, user: str = "ada") -> Behavior:
    return Behavior(user, str(i), f"question {i}", f"answer {i}", at=float(i))


def test_a_behaviour_is_in_effect_at_the_next_request(me):
    me.observe(behavior(1))
    assert me.answer("ada", "hi") == "hi (1 of ada)"
    me.observe(behavior(2), behavior(3))
    assert me.answer("ada", "hi") == "hi (3 of ada)"


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=4), max_size=6))
def test_observing_an_id_again_adds_nothing(tmp_path_factory, calls):
    opened = build("store", "sql", {"url": str(tmp_path_factory.mktemp("s") / "u.db")})
    me = Personalizer(Counting(), opened)
    seen: set[int] = set()
    for ids in calls:
        assert me.observe(*map(behavior, ids)) == len(set(ids) - seen)
        seen |= set(ids)
    if seen:
        assert {b.id for b in opened.history("ada")} == {str(i) for i in seen}
    me.close()


def test_an_id_with_other_content_is_refused_and_nothing_of_the_call_is_added(me, store):
    me.observe(behavior(1))
    with pytest.raises(ConflictError, match="'1' of user 'ada'"):
        me.observe(behavior(2), Behavior("ada", "1", "", "something else"))
    assert len(store.history("ada")) == 1


def test_a_user_is_prepared_anew_only_when_the_history_has_changed(me):
    me.observe(behavior(1))
    for _ in range(3):
        me.answer("ada", "hi")
    me.observe(behavior(1))
    me.answer("ada", "hi")
    assert me.method.prepared == [("ada", 1)]
    me.observe(behavior(2))
    me.answer("ada", "hi")
    assert me.method.prepared == [("ada", 1), ("ada", 2)]


class Going(Counting):
    """Goes on where a state ends."""

    key = "going:1"

    def extend(self, profile: Profile, added: History) -> State | None:
        return {"count": np.array(int(profile.state["count"]) + len(added))}


def test_a_state_goes_on_where_it_ended_while_behaviours_come_after_those_it_is_of(store):
    me = Personalizer(Going(), store)
    me.observe(*map(behavior, range(10, 20)))
    me.answer("ada", "hi")
    for i in range(20, 24):
        me.observe(behavior(i))
        assert me.answer("ada", "hi") == f"hi ({i - 9} of ada)"
    assert me.method.prepared == [("ada", 10)]
    assert store.state("ada", "going:1")[1]["count"] in (13, 14)  # written now and then
    me.observe(behavior(1))  # earlier than the others
    assert me.answer("ada", "hi") == "hi (15 of ada)"
    store.remove("ada", ["1"])
    assert me.answer("ada", "hi") == "hi (14 of ada)"
    assert me.method.prepared == [("ada", 10), ("ada", 15), ("ada", 14)]


def test_what_was_prepared_outlives_the_process(me, store):
    me.observe(behavior(1))
    me.answer("ada", "hi")
    later = Personalizer(Counting(), store)
    assert later.answer("ada", "hi") == "hi (1 of ada)"
    assert later.method.prepared == []


def test_a_state_of_another_artifact_is_never_used(me, store):
    me.observe(behavior(1))
    me.answer("ada", "hi")
    other = Personalizer(Counting(), store)
    other.method.key = "counting:2"
    other.answer("ada", "hi")
    assert other.method.prepared == [("ada", 1)]


def test_a_method_that_prepares_nothing_stores_nothing(store):
    me = Personalizer(Counting(store_nothing=True), store)
    me.observe(behavior(1))
    assert me.answer("ada", "hi") == "hi (no of ada)"
    assert store.state("ada", me.method.key) is None


def test_one_batch_prepares_each_user_once_and_answers_each_alone(me):
    for user in ("ada", "bob"):
        me.observe(behavior(1, user))
    me.observe(behavior(2, "bob"))
    requests = [Request.of(user, text) for user, text in (("ada", "a"), ("bob", "b"), (None, "c"), ("ada", "d"))]
    together = [c.text for c in me.answer_many(requests)]
    assert together == ["a (1 of ada)", "b (2 of bob)", "c (no of nobody)", "d (1 of ada)"]
    assert me.method.prepared == [("ada", 1), ("bob", 2)]
    assert together == [me.answer(r.user, r) for r in requests]


def test_the_pieces_of_a_stream_joined_are_the_answer(me):
    me.observe(behavior(1))
    assert "".join(me.stream("ada", "one two three")) == me.answer("ada", "one two three")


def test_the_task_puts_requests_into_its_words_and_says_how_to_decode(store):
    task = TaskInfo("mail", "text", instruction="Be brief.", sampling=Sampling(max_tokens=2))
    me = Personalizer(Counting(), store, task)
    [prompt] = me.prompts([me.task.request(None, "one two three")])
    assert [m.role for m in prompt.messages] == ["system", "user"]
    assert me.answer(None, "one two three") == "one two"
    assert me.answer(None, "one two three", Sampling(max_tokens=3)) == "one two three"
    assert "".join(me.stream(None, "one two three")) == "one two"


def test_explain_speaks_of_the_users_own_behaviours(me):
    me.observe(behavior(1), behavior(2))
    weights = me.explain("ada", "hi")
    assert {w.behavior.id for w in weights} == {"1", "2"}
    assert sum(w.weight for w in weights) == pytest.approx(1.0)


def test_a_forgotten_user_is_unknown_and_leaves_no_byte(me, store, tmp_path):
    me.observe(Behavior("ada", "1", "", "unmistakable"), behavior(1, "bob"))
    me.answer("ada", "hi")
    receipt = me.forget("ada")
    assert (receipt.user, receipt.behaviors, receipt.states) == ("ada", 1, 1)
    with pytest.raises(UnknownUserError):
        me.answer("ada", "hi")
    assert me.answer("bob", "hi") == "hi (1 of bob)"
    assert all(b"unmistakable" not in f.read_bytes() for f in tmp_path.iterdir())


@pytest.mark.parametrize("act", ["answer", "stream", "explain", "forget", "refresh"])
def test_an_unknown_user_is_an_error_with_the_nearest_name(me, act):
    me.observe(behavior(1))
    ask = {
        "answer": lambda: me.answer("adda", "hi"),
        "stream": lambda: "".join(me.stream("adda", "hi")),
        "explain": lambda: me.explain("adda", "hi"),
        "forget": lambda: me.forget("adda"),
        "refresh": lambda: me.refresh(["adda"]),
    }[act]
    with pytest.raises(UnknownUserError, match=r"'adda'.*did you mean 'ada'\?"):
        ask()


def test_the_unknown_user_is_answered_from_an_empty_history(me):
    assert me.answer(None, "hi") == "hi (no of nobody)"


def test_refresh_prepares_everybody_who_changed_and_reports_each(me):
    for user in ("ada", "bob", "eve"):
        me.observe(behavior(1, user))
    me.answer("bob", "hi")
    steps: list[int] = []
    assert me.refresh(progress=steps.append) == 3
    assert steps == [1, 1, 1]
    assert sorted(me.method.prepared) == [("ada", 1), ("bob", 1), ("eve", 1)]
    assert me.refresh(["ada"]) == 1
    assert len(me.method.prepared) == 3


def test_from_pretrained_makes_the_store_and_answers(tmp_path):
    from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, save_pretrained

    info = ArtifactInfo("none", {}, ComponentSpec("echo", "echo"), task=TaskInfo("chat", "text"))
    save_pretrained(tmp_path / "echo", info, {})
    me = Personalizer.from_pretrained(tmp_path / "echo", store=tmp_path / "u.db")
    me.observe(behavior(1))
    assert me.answer("ada", "hello") == "hello"
    me.close()
    again = build("store", "sql", {"url": str(tmp_path / "u.db")})
    assert len(again.history("ada")) == 1
    again.close()


def test_a_plug_is_refused_in_front_of_another_model(tmp_path: Path) -> None:
    import tiny
    from personaplug.core.errors import MismatchError
    from personaplug.pipeline.build import RunConfig, build_backbone, build_components

    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(tiny.save_causal(tmp_path / "one")), "dtype": "float32"},
        encoder={"name": "hashing"},
        method={"name": "plug"},
    )
    build_components(run, TaskInfo("chat", "text"), None).save(tmp_path / "plug", {}, {})
    other = tiny.save_causal(tmp_path / "two", words=[*tiny.WORDS, "extra"])
    backbone = build_backbone({"name": "causal", "model": str(other), "dtype": "float32"})
    with pytest.raises(MismatchError, match="was trained against backbone causal:one@") as caught:
        Personalizer.from_pretrained(tmp_path / "plug", store=tmp_path / "users.db", backbone=backbone)
    assert "\n" not in str(caught.value)
    assert Personalizer.from_pretrained(tmp_path / "plug", store=tmp_path / "users.db").answer(None, "a b") is not None


def test_a_prepared_user_is_kept_in_memory_until_they_change(store, monkeypatch):
    me = Personalizer(Counting(), store)
    me.observe(Behavior("ada", "1", "a", "b"))
    first = me.profile("ada")
    monkeypatch.setattr(store, "history", lambda user: pytest.fail(f"the history of {user} was read again"))
    assert me.profile("ada") is first
    monkeypatch.undo()
    me.observe(Behavior("ada", "2", "c", "d"))
    assert len(me.profile("ada").history) == 2


def test_nothing_in_memory_outlives_a_user_who_was_erased_by_another_process(store, tmp_path):
    me = Personalizer(Counting(), store)
    me.observe(Behavior("ada", "1", "a", "the old secret"))
    me.profile("ada")
    other = build("store", "sql", {"url": str(tmp_path / "users.db")})
    other.forget("ada")
    other.add([Behavior("ada", "1", "a", "something new")])
    other.close()
    assert [b.output for b in me.profile("ada").history] == ["something new"]


def test_memory_is_bounded_and_a_user_too_large_for_it_is_answered_all_the_same(store):
    me = Personalizer(Counting(), store, memory_bytes=3000)
    for user, length in (("ada", 100), ("bob", 100), ("eve", 5000)):
        me.observe(*(Behavior(user, str(i), "x", "y" * length) for i in range(3)))
        assert "3 of" in me.prompts([Request.of(user, "hi")])[0].messages[-1].content
    assert me._cache.currsize <= 3000
    assert "eve" not in me._cache


def test_another_method_is_never_given_what_the_first_prepared(store):
    me = Personalizer(Counting(), store)
    me.observe(Behavior("ada", "1", "a", "b"))
    me.profile("ada")
    me.method.key = "counting:2"
    me.profile("ada")
    assert me.method.prepared == [("ada", 1)] * 2


def test_what_is_in_memory_will_do_where_it_may_be_stale_until_users_are_erased(me, store):
    me.observe(behavior(1), behavior(1, "bob"))
    me.profile("ada")
    me.observe(behavior(2))
    assert me.is_cached("ada")
    assert not me.is_prepared("ada")
    assert len(me.profile("ada", allow_stale=True).history) == 1
    assert (me.hits, me.misses) == (1, 1)
    me.evict("ada")
    assert not me.is_cached("ada")
    assert len(me.profile("ada", allow_stale=True).history) == 2
    assert me.is_prepared("ada")
    me.observe(behavior(3))
    store.forget("bob")
    assert len(me.profile("ada", allow_stale=True).history) == 3


def test_a_lookup_says_cached_stored_or_unknown_at_one_glance_into_the_store(me, store, monkeypatch):
    looked: list[str] = []
    stamp = store.version_stamp
    monkeypatch.setattr(store, "version_stamp", lambda user: looked.append(user) or stamp(user))
    assert me.lookup("ada").status == "unknown"
    me.observe(behavior(1))
    stored = me.lookup("ada")
    assert stored.status == "stored"
    profile = me.prepare(stored)
    cached = me.lookup("ada")
    assert (cached.status, cached.profile) == ("cached", profile)
    assert me.prepare(cached) is profile
    me.observe(behavior(2))
    assert (me.lookup("ada").status, me.lookup("ada", allow_stale=True).status) == ("stored", "cached")
    assert looked == ["ada"] * 5
