"""Whatever is sent, the server says what is wrong with it, and goes on serving."""

from __future__ import annotations

import json
import random
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from serving import Live

CHAT = {"model": "echo:none", "messages": [{"role": "user", "content": "hello"}]}
WEIRD = [
    None, True, 0, -1, 1e308, 10**30, "", "x" * 5000, "\x00", "é\u202e", [], {}, [[]], {"a": {"b": []}}, "NaN",
    ["a"] * 50, -0.5, "../../etc/passwd", "'; DROP TABLE users; --", "user",
]  # fmt: skip
ROUTES: list[tuple[str, str, dict]] = [
    ("POST", "/v1/chat/completions", {**CHAT, "temperature": 1, "top_p": 1, "n": 1, "stop": ["a"], "max_tokens": 2,
     "user": "ada", "metadata": {"user_id": "ada"}, "stream_options": {"include_usage": True}, "seed": 1}),
    ("POST", "/v1/completions", {"model": "echo:none", "prompt": "a", "max_tokens": 2, "echo": True, "logprobs": None}),
    ("POST", "/v1/embeddings", {"model": "hashing", "input": ["a"], "encoding_format": "float", "dimensions": 16}),
    ("POST", "/v1/users", {"id": "ada"}),
    ("POST", "/v1/users/ada/history", {"id": "1", "input": "a", "output": "b", "at": 1, "rating": 1, "fields": {}}),
    ("PUT", "/v1/users/ada/history/1", {"input": "a", "output": "b", "at": 1, "rating": 1, "fields": {}}),
    ("POST", "/v1/users/ada/explain", {"model": "echo:recent", "messages": CHAT["messages"], "limit": 3}),
    ("POST", "/v1/users/ada/feedback", {"id": "1", "input": "a", "output": "b", "rating": 0.5}),
]  # fmt: skip


@pytest.fixture(scope="module")
def web(parrot: Live):
    with parrot.client() as client:
        yield client


def mutated(rng: random.Random, body: object) -> object:
    """The body with something wrong somewhere."""
    if isinstance(body, dict) and body and rng.random() < 0.8:
        key = rng.choice(list(body))
        match rng.randrange(4):
            case 0:
                return {k: v for k, v in body.items() if k != key}
            case 1:
                return {**body, rng.choice(["x", "usr", "__proto__", "\ud800"]): 1}
            case _:
                return {**body, key: mutated(rng, body[key])}
    if isinstance(body, list) and body and rng.random() < 0.5:
        return [mutated(rng, body[0])]
    return rng.choice(WEIRD)


def broken(rng: random.Random, data: bytes) -> bytes:
    """The bytes with something wrong somewhere."""
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 2:
            return (
                data[:at]
                + rng.choice([b"\xff\xfe", b"\xed\xa0\x80", b"NaN", b"1e999", b"\x00", b"[" * 3000])
                + data[at:]
            )
        case 3:
            return data.replace(b'"hello"', b'"\\ud800"').replace(b'"a"', b'"\\udfff"')
        case _:
            return b"9" * 6000


def checked(response: httpx.Response) -> None:
    """Served, or refused with one line that says why."""
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error["message"]
        assert "\n" not in error["message"]
        assert len(error["message"]) < 600


@pytest.mark.parametrize(
    "part", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_hundreds_of_bodies_with_something_wrong_harm_nothing(web, part) -> None:
    rng = random.Random(part)
    for _ in range(50 if part < 2 else 500):
        method, path, body = rng.choice(ROUTES)
        data = broken(rng, json.dumps(body).encode()) if part % 2 else json.dumps(mutated(rng, body)).encode()
        kind = rng.choice(["application/json"] * 8 + ["text/plain", "application/x-ndjson", ""])
        headers = {"Content-Type": kind} if kind else {}
        checked(web.request(method, path, content=data, headers=headers))
    assert web.post("/v1/chat/completions", json=CHAT).json()["choices"][0]["message"]["content"] == "hello"
    assert web.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/users?limit=0", 400),
        ("/v1/users?limit=x", 400),
        ("/v1/users/%ff", 400),
        ("/v1/users/%00", 400),
        ("/v1/users/%1F", 400),
        (f"/v1/users/{'x' * 300}", 400),
        ("/v1/users/a/history?order=up", 400),
        ("/v1/users/nobody/history", 404),
        ("/v1/nothing", 404),
        ("/v1/models/%ff", 404),
        ("/nothing", 404),
    ],
)
def test_an_address_that_makes_no_sense_is_told_so(web, path, status) -> None:
    response = web.get(path)
    assert response.status_code == status
    checked(response)


def test_other_methods_are_told_so(web) -> None:
    assert web.delete("/v1/models").status_code == 405
    checked(web.delete("/v1/models"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\nContent-Type: application/json\r\n\r\n{",
        b"POST /v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/users/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    ],
)
def test_what_is_not_http_or_ends_too_early_harms_nothing(listening_parrot, data) -> None:
    place = urlsplit(listening_parrot.url)
    with socket.create_connection((place.hostname, place.port)) as raw:
        raw.sendall(data)
    with listening_parrot.client() as web:
        assert web.get("/readyz").status_code == 200


@pytest.mark.slow
def test_every_route_keeps_to_its_schema(listening_parrot) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error

    schema = schemathesis.openapi.from_url(f"{listening_parrot.url}/openapi.json")
    tried = 0
    for operation in schema.get_all_operations():

        @settings(
            max_examples=20, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.ok().as_strategy())
        def served(case) -> None:
            case.call_and_validate(checks=[not_a_server_error], timeout=10)

        served()
        tried += 1
    assert tried > 15
