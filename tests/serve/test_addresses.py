"""Addresses: a wrong one is told the base, a wrong method those there are, and HEAD is a GET without its body."""

from __future__ import annotations

import pytest

from serving import Live


@pytest.fixture(scope="module")
def web(parrot: Live):
    with parrot.client() as client:
        yield client


BODY = {"model": "echo:none", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/", "/v1//chat/completions"]
)
def test_a_base_that_was_put_together_wrongly_is_told_the_right_one(web, path) -> None:
    response = web.post(path, json=BODY)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "not_found")
    assert error["message"].endswith("the base of this API ends in /v1; did you mean /v1/chat/completions?")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_where_nothing_is_there_is_nothing_for_any_method(web, method) -> None:
    for path in ("/v1/responses", "/v1/audio/speech", "/nothing", "/v1"):
        response = web.request(method, path)
        assert response.status_code == 404
        assert "the base of this API ends in /v1" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("DELETE", "/v1/models", {"GET", "HEAD"}),
        ("PATCH", "/v1/users/ada", {"GET", "HEAD", "DELETE"}),
        ("PATCH", "/v1/users/ada/history/1", {"GET", "HEAD", "PUT", "DELETE"}),
        ("HEAD", "/v1/chat/completions", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("POST", "/openapi.json", {"GET", "HEAD"}),
        ("POST", "/", {"GET", "HEAD"}),
        ("DELETE", "/main.js", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_all_that_an_address_takes(web, method, path, allow) -> None:
    response = web.request(method, path)
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/v1/models/echo:none", "/", "/openapi.json"])
def test_head_is_what_get_is_without_its_body(web, path) -> None:
    head, get = web.head(path), web.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("id_", ["echo:none", "echo%3Anone", "echo%3anone", "%65cho:none"])
def test_a_models_address_may_be_encoded_as_a_client_likes(web, id_) -> None:
    assert web.get(f"/v1/models/{id_}").json()["id"] == "echo:none"


def test_a_model_that_is_not_there_is_named_with_the_nearest(web) -> None:
    response = web.get("/v1/models/echo%2Fnone")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "model 'echo/none' is not served; did you mean 'echo:none'?"
    assert response.json()["error"]["param"] == "model"


def test_a_users_name_with_a_slash_or_a_percent_sign_is_one_user(web) -> None:
    for name, path in (("a/b", "a%2Fb"), ("a/b", "a%2fb"), ("100%", "100%25"), ("a%2Fb", "a%252Fb"), ("a b", "a%20b")):
        web.post("/v1/users", json={"id": name})
        assert web.get(f"/v1/users/{path}").json()["id"] == name
        assert web.delete(f"/v1/users/{path}").json()["id"] == name
