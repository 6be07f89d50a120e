"""What is erased is gone from the server's memory too, also while it answers others."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from personaplug.core.types import Message, Prompt, Sampling
from serving import OPEN, Live, Slow, served, text_service

MODEL = "tiny-causal:recent"
TEXTS = [{"id": str(n), "input": f"what of {n}?", "output": f"a canary sang {n}"} for n in range(4)]


def ask(web, user: str, model: str = MODEL, **more) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "and now?"}],
        "user": user,
        "max_tokens": 2,
        **more,
    }
    web.post("/v1/chat/completions", json=body).raise_for_status()


def kept(live: Live) -> str:
    """All that is in memory of prompts: what was tokenized, as text, and how many tokens there are states of."""
    backbone = live.service.models[MODEL].personalizer.backbone
    words = " ".join(m.content for messages in backbone._remembered for m in messages)
    return f"{words} {backbone._model.prompts.tokens or ''}".strip()


def test_no_prompt_with_texts_of_an_erased_user_is_left_in_memory(tiny_server: Live) -> None:
    with tiny_server.client() as web, ThreadPoolExecutor(1) as beside:
        web.post("/v1/users/ada/history", json=TEXTS)
        web.post("/v1/users/bob/history", json=[{"output": "a wren sang"}])
        ask(web, "ada")
        assert "canary" in kept(tiny_server)
        other = beside.submit(ask, web, "bob", max_tokens=100)  # the model runs meanwhile
        while not tiny_server.service.engines[0].load()[0] and not other.done():
            time.sleep(0.001)
        receipt = web.delete("/v1/users/ada").json()
        assert (receipt["behaviors"], receipt["user"]) == (4, "ada")
        assert receipt["prompt_tokens"] > 50
        assert "canary" not in kept(tiny_server)
        other.result()
        ask(web, "bob")
        assert "wren" in kept(tiny_server)
        assert "canary" not in kept(tiny_server)


@pytest.mark.parametrize("change", ["delete", "edit"])
def test_no_prompt_with_a_text_that_went_is_left_in_memory(tiny_server: Live, change: str) -> None:
    with tiny_server.client() as web:
        web.post("/v1/users/ada/history", json=TEXTS)
        ask(web, "ada")
        assert "canary sang 3" in kept(tiny_server)
        if change == "delete":
            web.delete("/v1/users/ada/history/3")
        else:
            web.put("/v1/users/ada/history/3", json={"output": "another"})
        assert kept(tiny_server) == ""
        ask(web, "ada")
        assert "canary sang 3" not in kept(tiny_server)
        assert "canary sang 2" in kept(tiny_server)
        web.delete("/v1/users/ada")


def test_prompts_that_wait_while_others_are_forgotten_are_forgotten_when_they_are_read(tiny_server: Live) -> None:
    scheduler = tiny_server.service.engines[0]
    long, short = (Prompt((Message("user", text),)) for text in ("a long one", "the canary waits"))
    running = [scheduler.submit(long, Sampling(max_tokens=30)) for _ in range(OPEN.max_running)]
    waiting = scheduler.submit(short, Sampling(max_tokens=2))
    scheduler.forget_prompts()
    for answer in [*running, waiting]:
        answer.completion()
    until = time.monotonic() + 5
    while scheduler._outdated and time.monotonic() < until:
        time.sleep(0.001)
    assert "canary" not in kept(tiny_server)


def test_a_backbone_that_keeps_nothing_has_nothing_to_forget(tmp_path) -> None:
    path = tmp_path / "users.db"
    with served(text_service(path, Slow(), OPEN), path) as live, live.client() as web:
        web.post("/v1/users/ada/history", json=TEXTS)
        assert web.delete("/v1/users/ada").json()["prompt_tokens"] == 0
