"""Whatever name a file may give a user or a behaviour, an address reaches it, and the rest is refused there too."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from tests.strategies import NAMES

from personaplug.core.names import LONGEST_ID, LONGEST_USER
from personaplug.core.types import Behavior
from serving import Live

ODD = (
    "o'neil/../x?y#z%41", " ada ", "ada\u200b", "José", "Jose\u0301", "%2F", "a//b", "...", "+", "\u2028", "-",
    "a\\b", "👩‍👩‍👧", "𝔘" * LONGEST_USER,
)  # fmt: skip
NEVER = ("a\n", "a\tb", "\x7f", "acme\x1fbob", ".", "..", "x" * (LONGEST_ID + 1))


@pytest.fixture(scope="module")
def web(parrot: Live):
    with parrot.client() as client:
        yield client


def stored_and_erased(web, name: str) -> None:
    Behavior(name, name, "", "text")  # a file may say so
    user, behavior = (quote(name, safe="") for _ in range(2))
    assert web.post(f"/v1/users/{user}/history", json={"id": name, "output": "text"}).json()["added"] == 1
    assert web.get(f"/v1/users/{user}").json()["id"] == name
    assert web.get(f"/v1/users/{user}/history/{behavior}").json()["id"] == name
    assert web.put(f"/v1/users/{user}/history/{behavior}", json={"output": "other"}).json()["output"] == "other"
    assert web.delete(f"/v1/users/{user}/history/{behavior}").json()["deleted"]
    assert web.delete(f"/v1/users/{user}").json()["deleted"]
    assert web.get(f"/v1/users/{user}").status_code == 404


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_of_a_user_and_a_behaviour_can_be_read_edited_and_erased(web, name):
    stored_and_erased(web, name)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_any_name_that_may_be_given_can_be_read_edited_and_erased(web, name):
    stored_and_erased(web, name)


def test_the_longest_id_can_be_read(web):
    longest = "𝔘" * LONGEST_ID
    assert web.post("/v1/users/long/history", json={"id": longest, "output": "text"}).status_code == 200
    assert web.get(f"/v1/users/long/history/{quote(longest, safe='')}").json()["id"] == longest


@pytest.mark.parametrize("name", NEVER)
def test_what_no_file_may_say_is_refused_here_too(web, name):
    added = web.post("/v1/users/ada/history", json={"id": name, "output": "text"})
    assert (added.status_code, web.get("/v1/users/ada").status_code) == (400, 404), added.text
    assert web.post("/v1/users", json={"id": name}).status_code == 400
    assert web.post("/v1/users/ada/history", json={"fields": {name: ""}, "output": "text"}).status_code == 400


@pytest.mark.parametrize("at", [1_700_000_000_000, "1700000000000", "2023-11-14T22:13:20Z", 20231114221320])
def test_a_time_over_http_may_be_written_in_any_unit(web, at):
    web.post("/v1/users/clock/history", json={"id": str(at), "at": at, "output": "text"})
    assert web.get(f"/v1/users/clock/history/{at}").json()["at"] == 1.7e9
    assert web.put(f"/v1/users/clock/history/{at}", json={"at": at, "output": "new"}).json()["at"] == 1.7e9


def test_one_rating_beyond_the_scale_refuses_all_and_the_scale_can_be_named(web):
    stars = [{"id": "1", "output": "awful", "rating": 1}, {"id": "2", "output": "great", "rating": 5}]
    refused = web.post("/v1/users/stars/history", json=stars)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "rating_scale")
    assert "?rating_scale=1:5" in refused.json()["error"]["message"]
    assert web.get("/v1/users/stars").status_code == 404
    assert web.post("/v1/users/stars/history?rating_scale=1:5", json=stars).json()["added"] == 2
    assert [b["rating"] for b in web.get("/v1/users/stars/history?order=asc").json()["data"]] == [0, 1]
    assert web.post("/v1/users/stars/history?rating_scale=many", json=stars).status_code == 400
