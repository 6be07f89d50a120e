"""Users and their histories over HTTP: added, paged, edited, exported, erased."""

from __future__ import annotations

import io
import json
import zipfile
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from serving import Live


@pytest.fixture(scope="module")
def web(parrot: Live):
    with parrot.client() as client:
        yield client


def add(web: httpx.Client, user: str, *behaviors: object) -> dict:
    lines = "\n".join(json.dumps(b) for b in behaviors)
    response = web.post(
        f"/v1/users/{quote(user, safe='')}/history", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    assert response.status_code == 200, response.text
    return response.json()


def test_good_lines_are_added_and_bad_ones_are_named(web) -> None:
    lines = [b'{"output": "one", "at": 1}', b"", b'{"output": 2}', b"nonsense", b'{"output": "\xff"}']
    body = b"\n".join([*lines, b'{"output": "two", "at": "1970-01-02"}', b""])
    response = web.post("/v1/users/lines/history", content=body, headers={"Content-Type": "application/x-ndjson"})
    said = response.json()
    assert (response.status_code, said["added"], said["failed"]) == (200, 2, 3)
    assert [e["line"] for e in said["errors"]] == [3, 4, 5]
    assert "expected a string" in said["errors"][0]["message"]
    assert "UTF-8" in said["errors"][2]["message"]
    page = web.get("/v1/users/lines/history").json()
    assert [(b["output"], b["at"]) for b in page["data"]] == [("two", 86400.0), ("one", 1.0)]


def test_adding_the_same_again_adds_nothing_and_other_content_is_a_conflict(web) -> None:
    assert add(web, "again", {"id": "1", "output": "a"}, {"output": "b"})["added"] == 2
    assert add(web, "again", {"id": "1", "output": "a"}, {"output": "b"})["added"] == 0
    said = add(web, "again", {"id": "1", "output": "other"}, {"id": "2", "output": "c"})
    assert (said["added"], said["known"], said["errors"][0]["line"]) == (1, 0, 1)
    alone = web.post("/v1/users/again/history", json={"id": "1", "output": "other"})
    assert alone.status_code == 409
    assert "'1'" in alone.json()["error"]["message"]


def test_a_check_says_what_would_happen_and_adds_nothing(web) -> None:
    add(web, "preview", {"id": "1", "output": "a"})
    body = [{"id": "1", "output": "a"}, {"id": "2", "output": "b"}, {"id": "1", "output": "c"}, {"output": ""}]
    said = web.post("/v1/users/preview/history?check=true", json=body).json()
    assert (said["added"], said["known"], [e["line"] for e in said["errors"]]) == (1, 1, [3, 4])
    assert web.get("/v1/users/preview").json()["behaviors"] == 1


def test_a_history_is_paged_in_both_directions(web) -> None:
    add(web, "pages", *({"id": str(i), "output": f"text {i}", "at": i} for i in range(5)))
    for order, wanted in (("desc", "43210"), ("asc", "01234")):
        found, after = [], None
        while True:
            extra = {"after": after} if after else {}
            page = web.get("/v1/users/pages/history", params={"limit": 2, "order": order, **extra}).json()
            found += [b["id"] for b in page["data"]]
            after = page["last_id"]
            if not page["has_more"]:
                break
        assert "".join(found) == wanted
        assert page["total"] == 5


def test_an_edit_and_a_deletion_show_in_the_next_answer(web) -> None:
    add(web, "edits", {"id": "a/b", "output": "alpha"}, {"id": "2", "output": "beta"})
    ask = {"model": "echo:recent", "messages": [{"role": "user", "content": "hi"}], "user": "edits"}

    def answer() -> str:
        return web.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]["content"]

    assert "alpha" in answer()
    edited = web.put("/v1/users/edits/history/a%2Fb", json={"output": "gamma", "at": "1970-01-01T00:00:05Z"})
    assert (edited.status_code, edited.json()["at"]) == (200, 5.0)
    assert "gamma" in answer()
    assert "alpha" not in answer()
    assert web.delete("/v1/users/edits/history/2").json()["deleted"]
    assert "beta" not in answer()
    assert web.delete("/v1/users/edits/history/2").status_code == 404
    assert web.get("/v1/users/edits/history/a%2Fb").json()["output"] == "gamma"


@pytest.mark.parametrize("user", ["a/b", "a%2Fb", "ü ?#&", "...", "日本"])
def test_a_user_may_have_any_name(web, user) -> None:
    at = f"/v1/users/{quote(user, safe='')}"
    assert web.post("/v1/users", json={"id": user}).status_code == 201
    assert web.post("/v1/users", json={"id": user}).status_code == 200
    add(web, user, {"output": "hello"})
    assert web.get(at).json()["id"] == user
    assert web.delete(at).json()["behaviors"] == 1
    assert web.get(at).status_code == 404


def test_users_are_listed_in_pages(web) -> None:
    for name in ("list-a", "list-b", "list-c"):
        web.post("/v1/users", json={"id": name})
    found, after = [], ""
    while True:
        page = web.get("/v1/users", params={"limit": 2, "after": after}).json()
        found += [u["id"] for u in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert [u for u in found if u.startswith("list-")] == ["list-a", "list-b", "list-c"]
    assert len(found) == len(set(found))


def test_an_export_holds_everything_and_can_be_added_again(web, parrot) -> None:
    add(web, "leaver", {"id": "1", "output": "é", "at": 3, "rating": 0.5, "fields": {"mood": "calm"}}, {"output": "b"})
    parrot.service.store.put_state("leaver", "some method", 1, {"x": np.arange(3)})
    cache = parrot.service.encoders["hashing"]
    cache.embed(parrot.service.store.history("leaver"), "{output}")
    response = web.get("/v1/users/leaver/export")
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as file:
        about = json.loads(file.read("about.json"))
        lines = file.read("behaviors.jsonl")
        assert {"behaviors.jsonl", "vectors/0.npz", "states/0.npz"} == set(about["files"])
        with np.load(io.BytesIO(file.read("states/0.npz"))) as state:
            assert state["x"].tolist() == [0, 1, 2]
        with np.load(io.BytesIO(file.read("vectors/0.npz"))) as vectors:
            assert len(vectors.files) == 2
    again = web.post("/v1/users/leaver/history", content=lines, headers={"Content-Type": "application/x-ndjson"}).json()
    assert (again["added"], again["known"], again["failed"]) == (0, 2, 0)


def test_an_erased_user_is_gone_from_everything(web) -> None:
    add(web, "erased", {"output": "secret words"})
    receipt = web.delete("/v1/users/erased").json()
    assert (receipt["user"], receipt["behaviors"]) == ("erased", 1)
    for path in ("", "/history", "/export"):
        assert web.get(f"/v1/users/erased{path}").status_code == 404
    ask = {"model": "echo:recent", "messages": [{"role": "user", "content": "hi"}], "user": "erased"}
    said = web.post("/v1/chat/completions", json=ask).json()
    assert "secret" not in json.dumps(said)
    assert not said["personaplug"]["personalized"]
    assert web.delete("/v1/users/erased").status_code == 404


def test_feedback_becomes_a_behaviour_once(web) -> None:
    liked = {"id": "chatcmpl-1", "input": "tea?", "output": "Yes.", "rating": 0.9}
    better = {"input": "tea?", "output": "Yes.", "preferred": "oh yes please"}
    for body in (liked, better):
        assert web.post("/v1/users/judge/feedback", json=body).status_code == 201
    found = {b["output"]: b for b in web.get("/v1/users/judge/history").json()["data"]}
    assert found["Yes."]["rating"] == 0.9
    assert found["oh yes please"]["fields"] == {"disliked": "Yes."}
    worse = {"id": "2", "input": "coffee?", "output": "Never.", "rating": 0}
    web.post("/v1/users/judge/feedback", json=worse)
    [down] = [b for b in web.get("/v1/users/judge/history").json()["data"] if b["input"] == "coffee?"]
    assert (down["output"], down["fields"]) == ("", {"disliked": "Never."})  # not the user's own words
    assert web.post("/v1/users/judge/feedback", json={"input": "a", "output": "b"}).status_code == 400


def test_explain_gives_the_behaviours_that_a_method_shows(tiny_server) -> None:
    with tiny_server.client() as web:
        add(web, "why", {"id": "1", "output": "red"}, {"id": "2", "output": "blue"})
        found = web.post("/v1/users/why/explain", json={"model": "tiny-causal:plug", "input": "red"}).json()
        assert {b["output"] for b in found["data"]} == {"red", "blue"}
        assert sum(b["weight"] for b in found["data"]) == pytest.approx(1, abs=1e-4)
        assert web.post("/v1/users/none/explain", json={"model": "tiny-causal:plug", "input": "a"}).status_code == 404
        assert web.post("/v1/users/why/explain", json={"model": "tiny-causal:plug"}).status_code == 400
        assert web.get("/v1/users/why").json()["prepared"]["tiny-causal:plug"] is True
