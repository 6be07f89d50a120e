"""Nobody gets more than their share, and nothing is computed for somebody who has gone."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.serve.http_server import is_loopback
from personaplug.serve.runtime.service import Served
from personaplug.serve.security.access import RateLimiter
from personaplug.serve.security.api_keys import Limits, make_key
from serving import OPEN, Live, Parrot, Slow, listening, served, text_service

CHAT = {"model": "echo:none", "messages": [{"role": "user", "content": "hello"}]}


@given(st.lists(st.floats(0, 3)), st.sampled_from([0.5, 1.0, 3.0]), st.sampled_from([0.0, 2.0]))
def test_a_bucket_gives_no_more_than_its_rate_and_a_burst(waits, rate, burst) -> None:
    now = 0.0
    buckets = RateLimiter(burst, clock=lambda: now)
    given_ = 0
    for wait in waits:
        now += wait
        left = buckets.take("k", rate)
        given_ += left == 0
        assert given_ <= max(rate * burst, 1) + rate * now + 1e-6
        if left:
            assert RateLimiter.take(buckets, "another", rate) == 0 or "another" in buckets._buckets
            now += left + 1e-9
            assert buckets.take("k", rate) == 0  # what it says is enough to wait
            given_ += 1


def test_no_rate_is_no_limit() -> None:
    buckets = RateLimiter(1, clock=lambda: 0.0)
    assert [buckets.take("k", 0) for _ in range(1000)] == [0.0] * 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.db"


def test_who_asks_too_often_is_told_when_to_come_back_and_others_are_served(path) -> None:
    service = text_service(path, Parrot(), replace(OPEN, rate=0, user_rate=0.5, burst=2))
    with served(service, path) as live:
        _, slow = make_key(live.keys, limits=Limits(rate=0.5))
        _, quick = make_key(live.keys, limits=Limits(rate=0))
        with live.client(slow) as web:
            assert web.get("/v1/models").status_code == 200
            refused = web.get("/v1/models")
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["Retry-After"]) <= 3
            assert refused.json()["error"]["code"] == "rate_limited"
        with live.client(quick) as web:
            for user, wanted in (("ada", 200), ("ada", 429), ("bob", 200)):
                assert web.post("/v1/chat/completions", json=CHAT | {"user": user}).status_code == wanted


def test_a_key_has_limits_of_its_own_within_those_of_the_server(path) -> None:
    server = replace(OPEN, open_locally=False, user_rate=0, history_bytes=5_000)
    made = (Limits(body_bytes=400, behaviors=3), Limits(), Limits(body_bytes=9_000), Limits(user_rate=0.1))
    with served(text_service(path, Parrot(), server), path) as live, ExitStack() as left:
        keys = [make_key(live.keys, limits=limits)[1] for limits in made]
        limited, free, generous, slow = (left.enter_context(live.client(key)) for key in keys)

        def add(web, *outputs: str, user: str = "ada"):
            lines = [{"id": str(n), "output": output} for n, output in enumerate(outputs)]
            return web.post(f"/v1/users/{user}/history", json=lines)

        for web, size, wanted in ((limited, 500, 413), (free, 500, 200), (generous, 6_000, 413)):
            assert add(web, "x" * size, user="bob").status_code == wanted
        assert add(limited, "a", "b").json()["added"] == 2
        assert add(limited, "a", "b").json()["added"] == 0  # what is there takes no more room
        full = add(limited, "a", "b", "c", "d")
        assert (full.status_code, full.json()["error"]["code"]) == (403, "history_full")
        assert "2 behaviours would join 2, but this key keeps at most 3 of a user" in full.json()["error"]["message"]
        said = {"input": "a", "output": "b", "rating": 1.0}
        found = [limited.post("/v1/users/ada/feedback", json=said).status_code for _ in range(2)]
        assert found == [201, 403]
        assert add(free, "a", "b", "c", "d").json()["added"] == 2
        found = [slow.get(f"/v1/users/{user}").status_code for user in ("ada", "ada", "bob")]
        assert found == [200, 429, 200]
        assert free.get("/v1/users/ada").status_code == 200


def test_what_is_too_large_is_refused_without_being_read_to_its_end(path) -> None:
    small = replace(OPEN, body_bytes=5_000, history_bytes=9_000)
    with listening(text_service(path, Parrot(), small), path) as live, live.client() as web:
        large = CHAT | {"messages": [{"role": "user", "content": "x" * 6_000}]}
        refused = web.post("/v1/chat/completions", json=large)
        assert refused.status_code == 413
        assert "too large" in refused.json()["error"]["message"]
        assert web.post("/v1/users/ada/history", json={"output": "x" * 6_000}).status_code == 200
        assert web.post("/v1/users/ada/history", json={"output": "x" * 9_000}).status_code == 413

        def endless():
            while True:
                yield b" " * 1_000

        with suppress(httpx.TransportError):  # it may hang up on us, which does as well
            response = web.post("/v1/chat/completions", content=endless(), headers={"Content-Type": "application/json"})
            assert response.status_code == 413
        assert web.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_full_queue_is_told_at_once_with_when_to_come_back(path) -> None:
    service = text_service(path, Slow(), replace(OPEN, max_running=1, max_waiting=1))
    with served(service, path) as live, live.client() as web, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(web.post, "/v1/chat/completions", json=CHAT | {"max_tokens": 40}) for _ in range(4)]
        found = [f.result() for f in asked]
    assert sorted(r.status_code for r in found) == [200, 200, 503, 503]
    assert all("Retry-After" in r.headers for r in found if r.status_code == 503)


def test_no_persona_is_made_for_whom_there_is_no_room(path, monkeypatch) -> None:
    made = []
    build = Served.build_prompts
    monkeypatch.setattr(Served, "build_prompts", lambda self, batch: made.extend(batch) or build(self, batch))
    service = text_service(path, Slow(), replace(OPEN, max_running=1, max_waiting=1))
    with served(service, path) as live, live.client() as web, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(web.post, "/v1/chat/completions", json=CHAT | {"max_tokens": 40}) for _ in range(4)]
        assert sorted(f.result().status_code for f in asked) == [200, 200, 503, 503]
    assert len(made) == 2


def test_an_answer_that_takes_too_long_is_ended(path) -> None:
    slow = Slow()
    with served(text_service(path, slow, replace(OPEN, request_seconds=0.3)), path) as live, live.client() as web:
        refused = web.post("/v1/chat/completions", json=CHAT | {"max_tokens": 4000})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "timeout")
        assert slow.ended.wait(2)
        assert slow.said < 200
        with web.stream("POST", "/v1/chat/completions", json=CHAT | {"max_tokens": 4000, "stream": True}) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert '"code": "timeout"' in lines[-1]


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_computed_for_a_client_who_has_gone(path, stream) -> None:
    slow = Slow()
    with listening(text_service(path, slow, OPEN), path) as live:
        with closing(HTTPConnection(live.url.removeprefix("http://"), timeout=20)) as connection:
            body = json.dumps(CHAT | {"max_tokens": 4000, "stream": stream})
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            assert slow.began.wait(20)
            if stream:
                connection.getresponse().read(1)
        assert slow.ended.wait(2)
        assert slow.said < 300
        assert service_is_idle(live)


def service_is_idle(live: Live) -> bool:
    until = time.monotonic() + 2
    while time.monotonic() < until:
        if live.service.engines[0].load() == (0, 0):
            return True
        time.sleep(0.01)
    return False


def test_on_shutdown_what_is_under_way_is_finished(path) -> None:
    answers: list[httpx.Response] = []

    def ask(live: Live) -> None:
        with live.client() as web:
            answers.append(web.post("/v1/chat/completions", json=CHAT | {"max_tokens": 50}))

    slow = Slow()
    with listening(text_service(path, slow, OPEN), path) as live:
        thread = Thread(target=ask, args=(live,))
        thread.start()
        while not slow.said:
            time.sleep(0.01)
    thread.join()
    assert answers[0].json()["choices"][0]["message"]["content"] == "word " * 50


def test_a_connection_that_dawdles_is_closed_and_the_others_are_served(path, monkeypatch) -> None:
    monkeypatch.setattr("personaplug.serve.http_server.HEADER_SECONDS", 0.3)
    with listening(text_service(path, Parrot(), replace(OPEN, body_seconds=0.3)), path) as live, live.client() as web:
        place = urlsplit(live.url)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        late = head + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        with (
            socket.create_connection((place.hostname, place.port)) as headers,
            socket.create_connection((place.hostname, place.port)) as body,
        ):
            headers.sendall(head)
            body.sendall(late)
            assert web.post("/v1/chat/completions", json=CHAT).status_code == 200
            for slow, said in ((headers, b""), (body, b"HTTP/1.1 408")):
                slow.settimeout(5)
                assert slow.recv(12) == said
        assert web.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("192.168.1.4", False), ("example.org", False), ("", False)],
)  # fmt: skip
def test_only_loopback_is_loopback(host, only_here) -> None:
    assert is_loopback(host) is only_here
