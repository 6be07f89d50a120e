"""Messages as clients write them, and as they send an earlier answer back; what cannot be served is refused by name."""

from __future__ import annotations

import json
import logging

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug.serve.openai.errors import LOG
from serving import Live

ASK = {"role": "user", "content": "what is your favourite colour"}
TOOL_CALL = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


@pytest.fixture(scope="module")
def web(parrot: Live):
    with parrot.client() as client:
        yield client


def chat(web: httpx.Client, *messages: object, **more: object) -> httpx.Response:
    return web.post("/v1/chat/completions", json={"model": "echo:none", "messages": messages} | more)


def read(web: httpx.Client, *messages: object) -> str:
    """What the model read of messages: the parrot says all of it."""
    response = chat(web, *messages, max_tokens=400)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def refused(web: httpx.Client, *messages: object) -> tuple[str, str | None]:
    """The line and the field of a refusal."""
    response = chat(web, *messages)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["message"], error["param"]


def test_an_answer_is_taken_as_the_next_turn_as_it_came(web) -> None:
    answer = chat(web, ASK).json()["choices"][0]["message"]
    assert chat(web, ASK, answer, {"role": "user", "content": "and why"}).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("refusal", None), ("annotations", []), ("annotations", [{"type": "url_citation"}]), ("audio", None),
        ("tool_calls", None), ("tool_calls", []), ("function_call", None), ("reasoning_content", "let me see"),
        ("reasoning", "let me see"), ("cache_control", {"type": "ephemeral"}), ("parsed", None), ("name", "ada"),
        ("id", "chatcmpl-1"), ("something_new", None), ("something_new", []),
    ],
)  # fmt: skip
def test_a_field_that_says_nothing_here_changes_nothing(web, field, value) -> None:
    said = {"role": "assistant", "content": "blue"}
    assert read(web, ASK, said | {field: value}, ASK) == read(web, ASK, said, ASK)


def test_an_answer_without_content_is_empty_and_one_that_was_refused_is_its_refusal(web) -> None:
    answer = {"role": "assistant"}
    for nothing in ({"content": None}, {"content": None, "tool_calls": None}, {"content": ""}, {"content": []}, {}):
        assert read(web, ASK, answer | nothing, ASK) == read(web, ASK, answer | {"content": ""}, ASK)
    assert "rather not" in read(web, ASK, answer | {"content": None, "refusal": "I would rather not"}, ASK)


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["red", "blue"], "red\nblue"), (["red ", "blue"], "red blue"), (["red\n", "blue"], "red\nblue"),
        (["red", " blue"], "red blue"), (["red", "", "blue"], "red\nblue"), (["", "red"], "red"), (["red"], "red"),
    ],
)  # fmt: skip
def test_words_of_two_parts_never_run_into_one(web, texts, joined) -> None:
    parts = [{"type": "text", "text": text} for text in texts]
    assert read(web, {"role": "user", "content": parts}) == read(web, {"role": "user", "content": joined})


def test_text_is_read_under_each_name_that_clients_give_its_parts(web) -> None:
    for part in (
        {"type": "text", "text": "red", "cache_control": {"type": "ephemeral"}},
        {"type": "input_text", "text": "red"},
        {"type": "output_text", "text": "red", "annotations": [], "logprobs": None},
        {"type": "refusal", "refusal": "red"},
    ):
        assert read(web, {"role": "user", "content": [part]}) == read(web, {"role": "user", "content": "red"})


def test_a_developer_is_the_system(web) -> None:
    told = [{"role": role, "content": "be kind"} for role in ("developer", "system")]
    assert read(web, told[0], ASK) == read(web, told[1], ASK)


def user(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize(
    ("message", "param", "says"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, "tool_calls", "not supported"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "function_call", "not supported"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "audio", "not supported"),
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, "role", "'tool' is not supported"),
        (user({"type": "image_url", "image_url": {"url": "x"}}), "content.0.image_url", "not supported"),
        (user({"type": "input_audio", "input_audio": {}}), "content.0.input_audio", "not supported"),
        (user({"type": "text", "text": "x", "txt": "y"}), "content.0.txt", "unknown field 'txt'"),
        ({"role": "user", "content": "x", "contents": "y"}, "contents", "did you mean 'content'"),
        ({"role": "user", "content": None}, "content", "None"),
        ({"role": "user"}, "content", "missing"),
        ({"content": "x"}, "role", "missing"),
        ({"role": "user", "content": 5}, "content", "5"),
        ("hello", "", "'hello'"),
    ],
)
def test_what_the_model_cannot_be_given_is_refused_by_the_fields_name(web, message, param, says) -> None:
    line, field = refused(web, ASK, message)
    assert field == f"messages.1.{param}".rstrip(".")
    assert says in line


def test_of_a_field_of_two_types_the_fault_of_the_one_that_was_meant_is_named(web) -> None:
    response = chat(web, ASK, stop=[f"a{n}" for n in range(17)])
    assert "at most 16 items" in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "stop"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["role", "content", "name", "refusal", "annotations", "audio", "tool_calls", "function_call", "cache_control",
     "tool_call_id", "reasoning_content", "type", "text"]
)  # fmt: skip
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "input_text", "output_text", "refusal", "image_url"]) | JSON},
    optional={
        "text": st.text(max_size=9) | JSON,
        "refusal": st.text(max_size=9),
        "cache_control": JSON,
        "image_url": JSON,
    },
)
MESSAGE = st.builds(
    lambda usual, more: more | usual,
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]),
            "content": st.none() | st.text(max_size=20) | st.lists(PART | JSON, max_size=3),
        },
    ),
    st.dictionaries(FIELDS, JSON, max_size=4),
)
MORE = ("max_tokens", "stop", "n", "stream", "user", "metadata", "tools", "personaplug", "logprobs", "stop_")
BODY = st.fixed_dictionaries(
    {"model": st.just("echo:none"), "messages": st.lists(MESSAGE | JSON, max_size=3) | JSON},
    optional=dict.fromkeys(MORE, JSON),
)


def check(web: httpx.Client, body: object) -> None:
    """Served, or refused in one line; nothing unexpected in the log."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    LOG.addHandler(handler)
    try:
        data = json.dumps(body).encode()
        response = web.post("/v1/chat/completions", content=data, headers={"Content-Type": "application/json"})
    finally:
        LOG.removeHandler(handler)
    assert response.status_code < 500, response.text
    assert not [record for record in seen if record.exc_info]
    if response.status_code >= 400:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert "\n" not in error["message"]


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODY)
def test_no_body_is_a_fault_of_the_server(web, body) -> None:
    check(web, body)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODY)
def test_none_of_a_thousand_bodies_is_a_fault_of_the_server(web, body) -> None:
    check(web, body)
