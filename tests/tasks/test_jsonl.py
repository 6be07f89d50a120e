"""A user's own data becomes requests, split so that nothing leaks."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.config import to_mapping
from personaplug.core.errors import ConfigError, DataError
from personaplug.core.types import Profile
from personaplug.tasks.base import Wording
from personaplug.tasks.jsonl import Jsonl, JsonlConfig

SPLITS = ("train", "dev", "test")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(users=3, n=10, **more):
    return [
        {"user": f"u{u}", "id": f"{i}", "at": i, "input": f"q{i} of u{u}", "output": f"a{i}", **more}
        for u in range(users)
        for i in range(n)
    ]


def build(path, **config):
    return registry.build("task", "jsonl", {"path": str(path), **config})


# The folder and its task.json


def test_a_folder_or_a_file_may_be_named(tmp_path):
    write(tmp_path / "behaviors.jsonl", rows())
    assert build(tmp_path).examples("test") == build(tmp_path / "behaviors.jsonl").examples("test")
    with pytest.raises(DataError, match="no such file or folder"):
        build(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder has no behaviors\.jsonl"):
        build(tmp_path / "empty")


def test_task_json_fills_what_the_configuration_leaves_unset(tmp_path):
    write(tmp_path / "behaviors.jsonl", [{**r, "output": "yes"} for r in rows()])
    (tmp_path / "task.json").write_text(
        json.dumps({"name": "t", "users": 3, "kind": "choice", "options": ["yes", "no"], "instruction": "Yes or no?"})
    )
    task = build(tmp_path, name="mine", metrics=["accuracy"])
    assert (task.info.name, task.info.kind, task.info.options) == ("mine", "choice", ("yes", "no"))
    assert task.info.metrics == ("accuracy",)
    [system, user] = task.examples("test")[0].request.messages
    assert (system.role, system.content, user.role) == ("system", "Yes or no?", "user")
    assert user.content == task.examples("test")[0].request.query


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ('{"kind": "choise", "options": ["a"]}', ConfigError, "kind = 'choise'; did you mean 'choice'"),
        ('{"kinds": "text"}', ConfigError, "unknown key 'kinds'"),
        ('{"options": 5}', ConfigError, "options = 5"),
        ('{"kind": "choice"}', ConfigError, "kind 'choice' needs options"),
        ('{"options": ["a", "b"]}', ConfigError, "kind 'text' has no options"),
        ('{"metrics": ["rouge"]}', ConfigError, "metrics = 'rouge'; did you mean"),
        ('{"kind":\n oops}', DataError, "task.json:2: not JSON"),
        ("[1]", DataError, "expected a JSON object"),
    ],
)
def test_a_wrong_task_json_is_refused(tmp_path, content, error, words):
    write(tmp_path / "behaviors.jsonl", rows())
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(error, match=words) as caught:
        build(tmp_path)
    assert "task.json" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"test": 0.8, "dev": 0.3}, "test = 0.8 and dev = 0.3"),
        ({"min_history": -1}, "min_history = -1"),
        ({"max_history": 0}, "max_history = 0"),
    ],
)
def test_impossible_configurations_are_refused(tmp_path, config, words):
    with pytest.raises(ConfigError, match=words):
        build(write(tmp_path / "b.jsonl", rows()), **config)


@pytest.mark.parametrize(
    ("data", "config", "words"),
    [
        (rows(n=3), {}, "no behaviour can be a request.*4 older ones.*lower min_history"),
        ([{**row, "at": 5} for row in rows(n=9)], {}, "all behaviours of each user have the same 'at'"),
        ([{k: v for k, v in r.items() if k != "at"} for r in rows()], {}, "no behaviour has 'at'"),
        (rows(fields={"chat": "1"}), {"group": "chats"}, "no behaviour has the field 'chats'.*did you mean 'chat'"),
        (rows(), {"kind": "choice", "options": ["yes", "no"]}, "behaviour '4' of user 'u0': output 'a4' is none of"),
    ],
)
def test_data_that_makes_no_requests_is_refused(tmp_path, data, config, words):
    with pytest.raises(DataError, match=words):
        build(write(tmp_path / "b.jsonl", data), **config).examples("test")


# Splitting


behaviours_of_some_users = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3"]),
        st.integers(0, 12),  # at: many equal times
        st.sampled_from([None, "c1", "c2", "c3", "c4"]),  # conversation
        st.sampled_from(["p", "q", "r", "s", "t"]),  # input
    ),
    min_size=2,
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=behaviours_of_some_users,
    group=st.booleans(),
    by_text=st.booleans(),
    split=st.sampled_from(["time", "user"]),
    max_history=st.integers(1, 6),
    limits=st.integers(0, 3),
)
def test_nothing_leaks(tmp_path, data, group, by_text, split, max_history, limits):
    lines = [
        {"user": u, "id": str(i), "at": at, "input": text, "output": "x", "fields": {"c": c} if c else {"d": ""}}
        for i, (u, at, c, text) in enumerate(data)
    ]
    if group and not any(c for _, _, c, _ in data):
        return
    config = JsonlConfig(
        path=write(tmp_path / "b.jsonl", lines),
        group="c" if group else "",
        by_text=by_text,
        split=split,
        test=0.3,
        dev=0.2,
        min_history=0,
        max_history=max_history,
        requests_per_user=limits,
        eval_requests_per_user=limits,
    )
    examples = {s: Jsonl(config).examples(s) for s in SPLITS}
    stored = {(line["user"], line["id"]): line for line in lines}

    def line_of(example):
        return stored[example.request.user, example.id.split("/")[1]]

    for split_name in SPLITS:
        per_user = defaultdict(int)
        for example in examples[split_name]:
            own = line_of(example)
            per_user[example.request.user] += 1
            assert (example.request.at, example.request.query) == (own["at"], own["input"])
            chat = own["fields"].get("c") if group else None
            older = [
                x
                for x in lines
                if x["user"] == own["user"]
                and x["at"] < own["at"]
                and (
                    chat is None
                    or x["at"]
                    < min(y["at"] for y in lines if y["user"] == own["user"] and y["fields"].get("c") == chat)
                )
            ]
            older.sort(key=lambda x: x["at"])
            assert [b.id for b in example.history] == [x["id"] for x in older][-max_history:]
            assert chat is None or chat not in {b.fields.get("c") for b in example.history}
        assert not limits or max(per_user.values(), default=0) <= limits

    train, held_out = examples["train"], examples["dev"] + examples["test"]
    if by_text:
        assert not {e.request.query for e in train} & {e.request.query for e in held_out}
    if group:
        chats = [{(e.request.user, line_of(e)["fields"].get("c")) for e in examples[s]} for s in SPLITS]
        chats = [{(u, c) for u, c in found if c} for found in chats]
        assert not chats[0] & chats[1] | chats[0] & chats[2] | chats[1] & chats[2]
    if split == "user":
        users = [{e.request.user for e in examples[s]} for s in SPLITS]
        assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]
    else:
        for user in ("u1", "u2", "u3"):
            times = [[e.request.at for e in examples[s] if e.request.user == user] for s in SPLITS]
            assert [t for part in times for t in sorted(part)] == sorted(t for part in times for t in part)


def test_the_newest_share_is_test_and_the_share_before_it_dev(tmp_path):
    task = build(write(tmp_path / "b.jsonl", rows(users=1, n=20)), test=0.2, dev=0.1, min_history=0)
    assert [[int(e.request.at) for e in task.examples(s)] for s in SPLITS] == [
        list(range(14)),
        [14, 15],
        [16, 17, 18, 19],
    ]


def test_limits_take_train_requests_evenly_and_the_newest_for_evaluation(tmp_path):
    task = build(
        write(tmp_path / "b.jsonl", rows(users=1, n=40)),
        test=0.2,
        dev=0,
        min_history=2,
        requests_per_user=3,
        eval_requests_per_user=2,
    )
    assert [e.request.at for e in task.examples("train")] == [7, 17, 27]
    assert [e.request.at for e in task.examples("test")] == [38, 39]


def test_undated_behaviours_are_in_no_history_and_no_request(tmp_path):
    data = [*rows(users=1), {"user": "u0", "id": "undated", "input": "?", "output": "!"}]
    task = build(write(tmp_path / "b.jsonl", data), min_history=0)
    used = {b.id for s in SPLITS for e in task.examples(s) for b in e.history}
    assert used
    assert "undated" not in used
    assert "undated" in {b.id for b in task.behaviors()}


def test_behaviours_without_a_question_or_an_answer_are_history_only(tmp_path):
    data = rows(users=1)
    data[8]["input"], data[9]["output"] = "", " "
    data.append({**data[7], "id": "10", "at": 10})
    task = build(write(tmp_path / "b.jsonl", data), min_history=0)
    asked = {e.id for s in SPLITS for e in task.examples(s)}
    assert not {"u0/8", "u0/9"} & asked
    assert {"8", "9"} <= {b.id for b in task.examples("test")[-1].history}


def test_max_users_limits_requests_and_ingest_to_the_same_users(tmp_path):
    path = write(tmp_path / "b.jsonl", rows(users=10))
    task = build(path, max_users=3)
    users = {e.request.user for s in SPLITS for e in task.examples(s)}
    assert len(users) == 3
    assert {b.user for b in task.behaviors()} == users
    drawn = {frozenset(b.user for b in build(path, max_users=3, seed=s).behaviors()) for s in range(5)}
    assert len(drawn) > 1


def test_texts_that_everyone_judged_in_the_same_order_cost_no_request_to_the_split_by_text(tmp_path):
    data = [{**r, "input": f"tweet {r['at']}"} for r in rows(users=5, n=20)]
    path = write(tmp_path / "b.jsonl", data)
    with_text, without = build(path, by_text=True), build(path)
    assert all(with_text.examples(s) == without.examples(s) for s in SPLITS)


def test_several_labels_are_right_answers_of_multilabel_alone(tmp_path):
    data = [{**r, "output": "joy, fear"} for r in rows()]
    path = write(tmp_path / "b.jsonl", data)
    assert build(path, kind="multilabel", options=["joy", "fear"]).examples("test")[0].target == "joy, fear"
    with pytest.raises(DataError, match="'joy, fear' is none of the options"):
        build(path, kind="choice", options=["joy", "fear"]).examples("test")


def test_users_and_ids_with_slashes_never_share_an_example_id(tmp_path):
    data = [
        {"user": u, "id": i, "at": n, "input": "q", "output": "a"}
        for n, (u, i) in enumerate([("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c")])
    ]
    task = build(write(tmp_path / "b.jsonl", data), min_history=0, test=0, dev=0)
    assert len({e.id for e in task.examples("train")}) == 3


@pytest.mark.slow
def test_fifty_thousand_behaviours_are_split_in_seconds(tmp_path):
    path = write(tmp_path / "b.jsonl", rows(users=100, n=500))
    started = time.monotonic()
    task = build(path, requests_per_user=50)
    assert len(task.examples("train")) == 5_000
    assert time.monotonic() - started < 20


def test_max_behaviors_uses_only_each_users_newest(tmp_path):
    write(tmp_path / "behaviors.jsonl", rows(n=20))
    task = build(tmp_path, max_behaviors=8, min_history=2)
    used = {b.id for split in SPLITS for e in task.examples(split) for b in e.history}
    assert used <= {str(i) for i in range(12, 20)}
    assert {e.id.split("/")[1] for split in SPLITS for e in task.examples(split)} == {str(i) for i in range(14, 20)}


# Words


def worded(tmp_path, task=None, **config):
    write(tmp_path / "behaviors.jsonl", [{**r, "output": "yes"} for r in rows(fields={"title": "T"})])
    (tmp_path / "task.json").write_text(json.dumps(task or {}))
    return build(tmp_path, **config)


def test_by_default_behaviours_are_turns_and_each_kind_asks_for_a_profile_of_its_own(tmp_path):
    kinds = {"text": (), "choice": ("yes", "no"), "rating": ("yes", "no"), "multilabel": ("yes", "no")}
    infos = [worded(tmp_path, kind=kind, options=options).info for kind, options in kinds.items()]
    assert {i.wording.item for i in infos} == {""}
    assert len({i.wording.profile for i in infos}) == len(kinds)


def test_the_configuration_words_what_it_sets_and_task_json_the_rest(tmp_path):
    task = {"wording": {"item": "{title}: {output}", "profile": "Who?"}}
    wording = worded(tmp_path, task, wording={"joint": "; ", "profile": "Who is it?"}).info.wording
    assert (wording.item, wording.joint, wording.profile) == ("{title}: {output}", "; ", "Who is it?")
    assert wording.whole == Wording().whole


def test_a_wording_reads_back_from_a_written_configuration(tmp_path):
    task = worded(tmp_path, wording={"item": "{title}"})
    again = registry.build("task", "jsonl", to_mapping(task.config))
    assert again.info == task.info


@pytest.mark.parametrize(
    ("task", "config", "words"),
    [
        ({"wording": {"items": "{output}"}}, {}, "task.json: wording: unknown key 'items'; did you mean 'item'"),
        ({"wording": {"item": 5}}, {}, "task.json: wording: item = 5"),
        ({"wording": "{output}"}, {}, "task.json: wording = '{output}'"),
        ({}, {"wording": {"itm": "{output}"}}, "unknown key 'itm'; did you mean 'item'"),
    ],
)
def test_a_wrong_wording_is_refused(tmp_path, task, config, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        worded(tmp_path, task, **config)


def test_a_wording_of_a_field_that_no_behaviour_has_is_an_error_when_it_is_used(tmp_path):
    for wording, name in ({"item": "{titel}: {output}"}, "titel"), ({"item": "{title}", "whole": "{all}"}, "all"):
        task = worded(tmp_path, wording=wording)
        method = registry.build("method", "recent", backbone=EchoBackbone(), task=task.info)
        example = task.examples("test")[0]
        with pytest.raises(ConfigError, match=f"names {name!r}") as caught:
            method.personalize(example.request, Profile(example.history))
        assert "\n" not in str(caught.value)


def test_the_task_says_how_it_was_split(tmp_path):
    assert [worded(tmp_path, split=split).info.split for split in ("time", "user")] == ["time", "user"]
