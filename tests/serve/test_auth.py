"""Who may do what, as whom: a request can narrow what its key says, never widen it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.errors import ConfigError, UnknownNameError
from personaplug.core.names import TENANT_SEPARATOR, is_name
from personaplug.serve.security.access import SCOPES, Caller, DeniedError, KeyRing, decide
from personaplug.serve.security.api_keys import Limits, make_key, revoke_key
from personaplug.serve.settings import Settings
from personaplug.stores.database.keys import KeyTable
from serving import Live, Parrot, served, text_service

NAMES = st.sampled_from(["ada", "bob", "eve", f"acme{TENANT_SEPARATOR}ada", "", "."])
CHAT = {"model": "echo:none", "messages": [{"role": "user", "content": "hello"}]}


@given(
    users=st.none() | st.frozensets(NAMES, min_size=1),
    scopes=st.frozensets(st.sampled_from(SCOPES)),
    scope=st.sampled_from(SCOPES),
    claims=st.dictionaries(st.sampled_from(["user", "safety_identifier", "metadata.user_id"]), st.none() | NAMES),
)
def test_nobody_is_served_as_a_user_whom_the_key_does_not_reach(users, scopes, scope, claims) -> None:
    caller = Caller("k", "acme", users, scopes)
    named = {name for name in claims.values() if name is not None}
    right = scope in scopes and len(named) < 2 and all(map(is_name, named))
    if not right or not (users is None or named <= users):
        with pytest.raises(DeniedError):
            decide(caller, scope, claims)
        return
    found = decide(caller, scope, claims)
    if named:
        assert named == {found}
        assert is_name(found)
    else:
        assert found is None or users == {found}
    assert found is None or users is None or found in users


@given(st.text(), st.text(), st.sampled_from(["", "a", "b"]), st.sampled_from(["", "a", "b"]))
def test_no_two_tenants_share_a_users_name_in_the_store(one, other, tenant, another) -> None:
    if is_name(one) and is_name(other) and (tenant, one) != (another, other):
        assert Caller("", tenant).stored(one) != Caller("", another).stored(other)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[KeyTable]:
    keys = KeyTable(str(tmp_path / "keys.db"))
    yield keys
    keys.close()


def test_a_key_is_kept_as_a_hash_and_opens_until_it_is_revoked(table, tmp_path) -> None:
    row, key = make_key(table, tenant="acme", users=["ada"], scopes=["read"])
    ring = KeyRing(table)
    caller = ring.caller(key, open_locally=False)
    assert (caller.tenant, caller.users, caller.scopes) == ("acme", {"ada"}, {"read"})
    secret = key.split("-", 2)[2]
    assert all(secret.encode() not in p.read_bytes() for p in tmp_path.iterdir())
    for wrong in (key[:-1] + ("A" if key[-1] != "A" else "B"), f"pp-{'a' * 12}-{secret}", "", "pp", key + "x"):
        assert ring.caller(wrong, open_locally=False) is None
    revoke_key(table, row.id)
    assert KeyRing(table).caller(key, open_locally=True) is None
    with pytest.raises(UnknownNameError, match=row.id):
        revoke_key(table, row.id)


def test_without_any_key_loopback_is_open_and_with_a_revoked_one_it_stays_closed(table) -> None:
    assert KeyRing(table).caller("", open_locally=False) is None
    assert KeyRing(table).caller("", open_locally=True).scopes == set(SCOPES)
    row, _ = make_key(table)
    assert KeyRing(table).caller("", open_locally=True) is None
    revoke_key(table, row.id)
    assert KeyRing(table).caller("", open_locally=True) is None


@pytest.mark.parametrize(
    "wrong", [{"tenant": "A b"}, {"users": [""]}, {"scopes": ["root"]}, {"limits": Limits(rate=-1.0)}]
)
def test_a_key_that_makes_no_sense_is_not_made(table, wrong) -> None:
    with pytest.raises(ConfigError):
        make_key(table, **wrong)
    assert table.count() == 0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Live]:
    path = tmp_path_factory.mktemp("guarded") / "users.db"
    with served(text_service(path, Parrot(), Settings(rate=0, user_rate=0)), path) as live:
        yield live


def test_each_scope_opens_what_it_is_for(guarded) -> None:
    needed = {
        "read": [("GET", "/v1/models", None), ("GET", "/v1/users", None), ("POST", "/v1/chat/completions", CHAT)],
        "write": [("POST", "/v1/users", {"id": "s"}), ("POST", "/v1/users/s/history", {"output": "a"})],
        "admin": [("DELETE", "/v1/users/s", None), ("GET", "/metrics", None)],
    }
    for scope in ("read", "write", "admin"):  # the user is made before they are erased
        _, key = make_key(guarded.keys, scopes=[scope])
        with guarded.client(key) as web:
            for wanted, requests in needed.items():
                for method, path, body in requests:
                    status = web.request(method, path, json=body).status_code
                    assert status < 300 if wanted == scope else status == 403, (scope, method, path)


def test_no_key_and_a_wrong_one_open_nothing_but_the_page_and_the_state(guarded) -> None:
    for key in ("", "sk-something", "pp-aaaaaaaaaaaa-" + "b" * 43):
        with guarded.client(key) as web:
            for path in ("/v1/models", "/v1/users", "/metrics", "/v1/nothing"):
                response = web.get(path)
                assert response.status_code == 401
                assert response.json()["error"]["code"] == "invalid_api_key"
            for path in ("/", "/healthz", "/readyz", "/openapi.json"):
                assert web.get(path).status_code == 200


def test_a_key_of_one_user_speaks_for_that_user_and_for_no_other(guarded) -> None:
    _, all_users = make_key(guarded.keys, tenant="t", scopes=["read", "write"])
    _, adas = make_key(guarded.keys, tenant="t", users=["ada"])
    _, both = make_key(guarded.keys, tenant="t", users=["ada", "bob"])
    with guarded.client(all_users) as web:
        for user in ("ada", "bob", "eve"):
            web.post(f"/v1/users/{user}/history", json={"output": f"words of {user}"})
    with guarded.client(adas) as web:
        assert web.post("/v1/chat/completions", json=CHAT).json()["personaplug"]["user"] == "ada"
        for denied in ({"user": "bob"}, {"user": "ada", "metadata": {"user_id": "bob"}}, {"safety_identifier": "eve"}):
            assert web.post("/v1/chat/completions", json=CHAT | denied).status_code == 403
        assert web.get("/v1/users/bob/history").status_code == 403
        assert [u["id"] for u in web.get("/v1/users").json()["data"]] == ["ada"]
    with guarded.client(both) as web:
        assert web.post("/v1/chat/completions", json=CHAT).json()["personaplug"]["user"] is None
        assert [u["id"] for u in web.get("/v1/users").json()["data"]] == ["ada", "bob"]
        assert web.get("/v1/users/eve").status_code == 403


def test_measurements_name_no_user_and_are_not_for_tenants(guarded) -> None:
    _, tenants = make_key(guarded.keys, tenant="measured", scopes=["read", "write", "admin"])
    _, own = make_key(guarded.keys, scopes=["admin"])
    with guarded.client(tenants) as web:
        web.post("/v1/users/someone-known/history", json={"output": "a"})
        web.post("/v1/chat/completions", json=CHAT | {"user": "someone-known"})
        assert web.get("/metrics").status_code == 403
    with guarded.client(own) as web:
        text = web.get("/metrics").text
    assert "someone-known" not in text
    assert re.search(r'personaplug_stage_seconds_bucket\{le="[^"]+",stage="personalize"\} \d', text)
    for name in ("queue_size", "batch_size", "prepared_hits_total", "decode_tokens_total", "requests_in_flight"):
        assert f"personaplug_{name}" in text


def test_other_sites_pages_do_not_get_into_an_open_server(parrot) -> None:
    with parrot.client() as web:
        port = parrot.url.rsplit(":", 1)[1]
        assert web.get("/v1/users", headers={"Host": f"localhost:{port}"}).status_code == 200
        assert web.get("/v1/users", headers={"Host": "evil.example"}).status_code == 403
        assert web.get("/v1/users", headers={"Origin": "http://evil.example"}).status_code == 403
        assert web.get("/v1/users", headers={"Origin": parrot.url}).status_code == 200


def test_the_page_may_load_nothing_from_elsewhere(parrot) -> None:
    with parrot.client() as web:
        response = web.get("/")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "://" not in policy
        assert web.get("/../door.py").status_code == 404
        assert web.get("/%2e%2e/door.py").status_code == 404
