"""A server whose store is PostgreSQL: what it cannot keep, several servers, and a database that goes away."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest

import postgres
from serving import OPEN, Live, Parrot, listening, text_service

pytestmark = pytest.mark.slow

LINES = r"""{"id": "1", "output": "a\u0000b"}
{"id": "2", "output": "good"}
{"id": "3", "fields": {"k": "\u0000"}, "output": ""}
"""


def ask(web: httpx.Client, user: str) -> str:
    body = {"model": "echo:recent", "user": user, "messages": [{"role": "user", "content": "and now?"}]}
    return str(
        web.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]["content"]
    )


@pytest.fixture
def live(postgres_url: str) -> Iterator[Live]:
    with listening(text_service(postgres_url, Parrot(), OPEN), postgres_url) as running:
        yield running


def test_what_the_database_cannot_keep_is_refused_by_name_and_the_rest_is_kept(live: Live) -> None:
    with live.client() as web:
        added = web.post(
            "/v1/users/ada/history", content=LINES, headers={"Content-Type": "application/x-ndjson"}
        ).json()
        assert (added["added"], [e["line"] for e in added["errors"]]) == (1, [1, 3])
        assert "NUL" in added["errors"][0]["message"]
        unknown = "".join(random.Random(0).choices("abcdefghijklmnop€", k=9000))
        for method, path, body in (
            ("POST", "/v1/users/ada/history", {"id": "4", "output": "a\0b"}),
            ("POST", "/v1/users/ada/history", {"id": unknown, "output": "b"}),
            ("PUT", "/v1/users/ada/history/2", {"output": "a\0b"}),
            ("POST", "/v1/users/ada/feedback", {"input": "\0", "output": "b", "rating": 1}),
            ("GET", "/v1/users?after=%00", None),
        ):
            refused = web.request(method, path, json=body)
            assert refused.status_code == 400, refused.text
            assert any(way in refused.text for way in ("leave it out", "use a shorter one", "give it another id"))
        assert [b["output"] for b in web.get("/v1/users/ada/history").json()["data"]] == ["good"]


def test_servers_on_one_database_see_each_others_changes(live: Live, postgres_url: str) -> None:
    with (
        listening(text_service(postgres_url, Parrot(), OPEN), postgres_url) as other,
        live.client() as here,
        other.client() as there,
    ):
        here.post("/v1/users/ada/history", json=[{"id": "1", "output": "a wren"}, {"id": "2", "output": "an owl"}])
        assert "a wren" in ask(there, "ada")
        here.put("/v1/users/ada/history/1", json={"output": "a canary"})
        assert "a wren" not in ask(there, "ada")
        assert "a canary" in ask(there, "ada")
        here.delete("/v1/users/ada/history/2")
        assert "an owl" not in ask(there, "ada")
        assert here.delete("/v1/users/ada").json()["behaviors"] == 1
        assert there.get("/v1/users/ada").status_code == 404
        assert "a canary" not in ask(there, "ada")


def test_while_the_database_is_away_requests_are_refused_in_one_line_and_then_served_again() -> None:
    with (
        postgres.throwaway() as server,
        postgres.database(server.url) as url,
        listening(text_service(url, Parrot(), OPEN), url) as live,
        live.client() as web,
    ):
        web.post("/v1/users/ada/history", json={"id": "1", "output": "a wren"}).raise_for_status()
        assert "a wren" in ask(web, "ada")
        server.stop()
        for method, path in (
            ("GET", "/v1/users/ada"),
            ("GET", "/v1/users/ada/history"),
            ("POST", "/v1/users/ada/history"),
            ("DELETE", "/v1/users/ada"),
        ):
            refused = web.request(method, path, json={"id": "2", "output": "b"} if method == "POST" else None)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert "Traceback" not in refused.text
            assert "\n" not in refused.json()["error"]["message"]
        assert (web.get("/readyz").status_code, web.get("/healthz").status_code) == (503, 200)
        server.start()
        assert "a wren" in ask(web, "ada")
        assert web.get("/v1/users/ada/history").json()["total"] == 1
        assert web.get("/readyz").status_code == 200
