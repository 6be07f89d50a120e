"""What people say of answers changes the next ones, over HTTP: by what the prompt shows, or by which one is chosen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from personaplug.core import registry
from personaplug.serve.runtime.loader import ModelLoader
from personaplug.tasks.base import TaskInfo
from serving import OPEN, Live, Parrot, served, text_service

QUESTION = "and what now?"
LOWRANK, BARE = "tiny-causal:lowrank", "tiny-causal:none"


@pytest.fixture(scope="module")
def choosing(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server whose method chooses among four answers of a tiny random model."""
    import torch

    from personaplug.pipeline.build import RunConfig, build_components

    folder = tmp_path_factory.mktemp("choosing")
    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(tiny_causal), "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing", "width": 32},
        method={"name": "lowrank", "candidates": 4},
    )
    made = build_components(run, TaskInfo("chat", "text"), None)
    # As learned from people who differ in anything: nothing is expected of a new one.
    made.method.load_tensors({"basis": torch.eye(32), "mean": torch.zeros(32), "covariance": torch.eye(32)})
    made.save(folder / "lowrank", {}, {})
    loading = ModelLoader(
        registry.build("store", "sql", {"url": str(folder / "users.db")}), replace(OPEN, max_running=3, max_waiting=9)
    )
    loading.add(str(folder / "lowrank"))
    with served(loading.service(), folder / "users.db") as live:
        yield live


def asked(web, model: str = LOWRANK, **more):
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8, "seed": 5, **more}
    return web.post("/v1/chat/completions", json=body)


def texts(response) -> list[str]:
    return [choice["message"]["content"] for choice in response.json()["choices"]]


def test_another_answer_is_chosen_once_the_first_was_disliked(choosing: Live) -> None:
    with choosing.client() as web:
        [own] = texts(asked(web, BARE, temperature=0))
        others = [texts(asked(web, BARE, temperature=1, seed=5 + n))[0] for n in (1, 2, 3)]
        assert own not in others
        assert texts(asked(web, user="ada", temperature=0)) == [own]  # of whom nothing is known
        for n, other in enumerate(others):
            said = {"id": str(n), "input": QUESTION, "output": own, "preferred": other}
            assert web.post("/v1/users/ada/feedback", json=said).status_code == 201
        [now] = texts(asked(web, user="ada", temperature=0))
        assert now in others
        assert texts(asked(web, user="bob", temperature=0)) == [own]
        with web.stream("POST", "/v1/chat/completions", json={
            "model": LOWRANK, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8, "seed": 5,
            "temperature": 0, "user": "ada", "stream": True,
        }) as stream:  # fmt: skip
            lines = [line for line in stream.iter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        assert sum('"delta": {"content"' in line for line in lines) == 1


def test_candidates_are_written_together_and_several_answers_are_chosen(choosing: Live) -> None:
    scheduler = choosing.service.engines[0]
    with choosing.client() as web:
        before, drawn = scheduler.steps, scheduler.drawn
        asked(web, user="carl")
        assert scheduler.drawn - drawn > 1.5 * (scheduler.steps - before)
        assert len(texts(asked(web, user="carl", n=2))) == 2
        refused = asked(web, user="carl", logprobs=True)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")
        full = asked(web, user="carl", n=13)  # more than may be under way and wait
        assert (full.status_code, full.json()["error"]["code"]) == (503, "busy")
        until = time.monotonic() + 10
        while asked(web, user="carl").status_code == 503 and time.monotonic() < until:
            time.sleep(0.05)  # what was begun of the refused request is finished
        assert asked(web, user="carl").status_code == 200


@pytest.mark.parametrize("said", [{"rating": 1.0}, {"preferred": "grand, and you?"}], ids=["thumb", "pair"])
def test_what_was_liked_is_in_the_next_prompt(tmp_path: Path, said) -> None:
    path = tmp_path / "users.db"
    with served(text_service(path, Parrot(), OPEN, ("icl",)), path) as live, live.client() as web:
        first = texts(asked(web, "echo:icl", user="ada", max_tokens=500))[0]
        assert "Liked answer" not in first
        output = "grand, and you?" if "rating" in said else "No."
        web.post("/v1/users/ada/feedback", json={"input": "how are you?", "output": output, **said})
        answer = asked(web, "echo:icl", user="ada", max_tokens=500)
        assert "Liked answer: grand, and you?" in texts(answer)[0]
        assert "No." not in texts(answer)[0]
        assert len(answer.json()["personaplug"]["behaviors"]) == 1
