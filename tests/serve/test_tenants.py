"""Two tenants on one server never see anything of each other, whatever they ask."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personaplug.serve.security.api_keys import make_key
from personaplug.serve.settings import Settings
from serving import Parrot, served, text_service

USERS = ("ada", "bob", "a/da")
IDS = ("1", "2")
SCOPES = ["read", "write", "admin"]


@dataclass
class Tenant:
    """A tenant with two words that only their own texts and users hold."""

    name: str
    canary: str
    web: httpx.Client

    @property
    def only(self) -> str:
        return f"only-{self.canary}"


@pytest.fixture(scope="module")
def tenants(tmp_path_factory) -> Iterator[tuple[Tenant, Tenant]]:
    path = tmp_path_factory.mktemp("tenants") / "users.db"
    service = text_service(path, Parrot(), Settings(rate=0, user_rate=0), ("none", "recent", "bm25", "dense"))
    with served(service, path) as live:
        made = []
        for name, canary in (("", "kestrel"), ("acme", "wombat")):
            _, key = make_key(live.keys, tenant=name, scopes=SCOPES)
            made.append(Tenant(name, canary, live.client(key)))
        yield made[0], made[1]
        for tenant in made:
            tenant.web.close()


def text_of(response: httpx.Response) -> str:
    """All that a response says, archives unpacked."""
    said = str(response.headers) + response.text
    if response.headers.get("content-type") == "application/zip":
        with zipfile.ZipFile(io.BytesIO(response.content)) as file:
            said += "".join(file.read(n).decode("latin-1") for n in file.namelist())
    return said


def act(tenant: Tenant, what: str, user: str, id_: str) -> httpx.Response:
    web, at = tenant.web, f"/v1/users/{quote(user, safe='')}"
    ask = {"model": "echo:recent" if id_ == "1" else "echo:bm25", "user": user, "messages": [
        {"role": "user", "content": "which words"}]}  # fmt: skip
    own = {"id": id_, "input": f"words of {tenant.canary}", "output": f"{tenant.canary} {user}"}
    match what:
        case "add":
            return web.post(f"{at}/history", json=own)
        case "conflict":
            return web.post(f"{at}/history", json={**own, "output": "other words"})
        case "only":
            return web.post("/v1/users", json={"id": tenant.only})
        case "ask":
            return web.post("/v1/chat/completions", json=ask)
        case "stream":
            return web.post("/v1/chat/completions", json=ask | {"stream": True, "n": 2})
        case "complete":
            return web.post("/v1/completions", json={"model": ask["model"], "prompt": "words", "user": user})
        case "explain":
            return web.post(f"{at}/explain", json={"model": "echo:dense", "input": "words"})
        case "edit":
            return web.put(f"{at}/history/{id_}", json={"output": f"{tenant.canary} edited"})
        case "feedback":
            return web.post(f"{at}/feedback", json={"id": id_, "input": tenant.canary, "output": "a", "rating": 1})
        case "delete":
            return web.delete(f"{at}/history/{id_}")
        case "erase":
            return web.delete(at)
        case "metrics":
            return web.get("/metrics") if tenant.name else web.get("/readyz")
        case "list" | "after":
            return web.get("/v1/users", params={"after": user} if what == "after" else {})
        case _:
            return web.get(at + {"user": "", "page": "/history", "export": "/export", "map": "/map"}[what])


WHAT = ["add", "conflict", "only", "ask", "stream", "complete", "explain", "edit", "feedback", "delete", "erase",
        "metrics", "list", "after", "user", "page", "export", "map"]  # fmt: skip
STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(WHAT), st.sampled_from(USERS), st.sampled_from(IDS)), max_size=12
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_no_response_to_a_tenant_holds_anything_of_the_other(tenants, steps) -> None:
    for tenant in tenants:  # both always have something to lose
        act(tenant, "add", "ada", "1")
        act(tenant, "only", "", "")
    for which, what, user, id_ in [*steps, *((n, "export", "ada", "1") for n in (0, 1))]:
        tenant, other = tenants[which], tenants[1 - which]
        response = act(tenant, what, user, id_)
        assert response.status_code < 500
        said = text_of(response)
        assert other.canary not in said, (what, said)
        assert "\\u001f" not in said
        assert "acme" not in said


def test_what_one_tenant_does_moves_nothing_of_the_others(tenants) -> None:
    one, other = tenants
    act(one, "add", "shared", "1")
    before = one.web.get("/v1/users/shared").json()
    act(other, "add", "shared", "1")
    act(other, "edit", "shared", "1")
    act(other, "erase", "shared", "1")
    after = one.web.get("/v1/users/shared").json()
    assert after == before
    said = one.web.post(
        "/v1/chat/completions",
        json={"model": "echo:recent", "user": "shared", "messages": [{"role": "user", "content": "x"}]},
    ).json()
    assert "kestrel shared" in said["choices"][0]["message"]["content"]
    assert said["personaplug"]["persona"]["behaviors"] == 1
    assert json.dumps(said).count("wombat") == 0
