"""A model that is served elsewhere answers as it does in this process, given the same persona."""

from __future__ import annotations

import base64
import dataclasses
import io

import pytest
import torch

import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.core import registry
from personaplug.core.errors import DataError, MismatchError, ModelError
from personaplug.core.types import Behavior, Example, History, Message, Profile, Prompt, Request, Sampling
from personaplug.pipeline import build as assembly
from personaplug.pipeline.build import RunConfig, build_components
from personaplug.serve.runtime.loader import ModelLoader
from personaplug.tasks.base import TaskInfo
from personaplug.training.config import TrainingConfig
from remote import vllm_like
from serving import OPEN, served

INFO = TaskInfo("chat", "text", history_text="{input} {output}")
MESSAGES = [
    (Message("user", text),) for text in ("a b c", "tell me more please", "no", "what is your favourite colour")
]
GREEDY = Sampling(max_tokens=8)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def pair(request, tmp_path_factory):
    """The same weights in this process and served; one of the models scales its embeddings and has no template."""
    chat = request.param == "llama"
    folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny", family=request.param, chat=chat)
    with vllm_like(folder, "served", context=64) as seen:
        there = registry.build("backbone", "vllm", {"model": str(folder), "served": "served", "base_url": seen.url})
        here = CausalBackbone(CausalConfig(str(folder), "float32", "cpu"))
        yield here, there, seen, folder


@pytest.fixture(scope="module")
def llama(tiny_causal, tmp_path_factory):
    with vllm_like(tiny_causal, "served", context=64) as seen:
        there = registry.build(
            "backbone", "vllm", {"model": str(tiny_causal), "served": "served", "base_url": seen.url}
        )
        yield CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu")), there, seen, tiny_causal


def save_plug(backbone, model, folder) -> None:
    """An artifact of an untrained plug."""
    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(model), "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing", "width": 16},
        method={"name": "plug"},
    )
    build_components(run, INFO, None, backbone).save(folder, {}, {})


def prefixes(backbone, count, k=3):
    torch.manual_seed(1)
    return [p * backbone.token_norm / p.norm(dim=-1, keepdim=True) for p in torch.randn(count, k, backbone.width)]


def test_it_is_the_same_model_to_whatever_was_trained_against_it(pair) -> None:
    here, there, _, _ = pair
    assert (there.key, there.width) == (here.key, here.width)
    assert there.token_norm == pytest.approx(here.token_norm, rel=1e-6)
    torch.testing.assert_close(there.words("red blue").float(), here.words("red blue"))
    assert there.cut("red blue green", 2) == here.cut("red blue green", 2)


@pytest.mark.parametrize("position", [None, "first", "last"])
def test_its_greedy_answers_are_those_of_the_model_in_this_process(pair, position) -> None:
    here, there, _, _ = pair
    prompts = [
        Prompt(m) if position is None else Prompt(m, p, position)
        for m, p in zip(MESSAGES, prefixes(here, len(MESSAGES)), strict=True)
    ]
    answers = there.generate(prompts, GREEDY)
    assert answers == here.generate(prompts, GREEDY)
    assert len({a.text for a in answers}) > 1
    assert ["".join(there.stream(p, GREEDY)) for p in prompts] == [a.text for a in answers]


def test_stop_strings_are_sent(llama) -> None:
    here, there, _, _ = llama
    prompts = [Prompt(m) for m in MESSAGES]
    stop = here.generate(prompts, GREEDY)[0].text.split()[1]
    for mine, its in zip(
        here.generate(prompts, Sampling(8, stop=(stop,))),
        there.generate(prompts, Sampling(8, stop=(stop,))),
        strict=True,
    ):
        assert its.text == mine.text


def test_rows_are_sent_in_half_precision_with_a_salt_of_the_persona_alone(llama) -> None:
    _, there, seen, _ = llama
    mine, others = prefixes(there, 2)
    seen.bodies.clear()
    for messages, prefix in ((MESSAGES[0], mine), (MESSAGES[1], mine), (MESSAGES[0], others)):
        there.generate([Prompt(messages, prefix)], GREEDY)
    salts = [b["cache_salt"] for b in seen.bodies]
    assert salts[0] == salts[1] != salts[2]
    assert len(salts[0]) == 64
    sent = torch.load(io.BytesIO(base64.b64decode(seen.bodies[0]["prompt_embeds"])), weights_only=True)
    assert sent.dtype == torch.float16
    assert sent.shape == (3 + len(there.prompt_ids(MESSAGES[0])), there.width)
    torch.testing.assert_close(sent[:3], mine.half())
    assert not {"user", "cache_salt", "prompt_embeds"} & set(there._body(Prompt(MESSAGES[0]), GREEDY)["extra_body"])


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        pytest.param(torch.ones(2, 31), r"\[k, 32\]", id="width"),
        pytest.param(torch.ones(32), r"\[k, 32\]", id="one row"),
        pytest.param(torch.ones(0, 32), "empty", id="no row"),
        pytest.param(torch.full((2, 32), torch.nan), "float16 does not hold", id="nan"),
        pytest.param(torch.full((2, 32), 1e6), "float16 does not hold", id="range"),
        pytest.param(torch.ones(2, 32, dtype=torch.long), "real numbers", id="integers"),
        pytest.param(torch.ones(64, 32), "at most 64", id="more than the server reads"),
    ],
)
def test_rows_that_could_break_the_server_are_never_sent(llama, prefix, said) -> None:
    _, there, seen, _ = llama
    seen.bodies.clear()
    with pytest.raises(DataError, match=said):
        there.generate([Prompt(MESSAGES[0], prefix)], GREEDY)
    assert not seen.bodies


def test_a_plug_trained_against_the_model_here_answers_the_same_in_front_of_the_server(llama, tmp_path) -> None:
    here, there, _, folder = llama
    save_plug(here, folder, tmp_path / "plug")
    mine, its = (assembly.load(tmp_path / "plug", None, b).method for b in (here, there))
    history = History(
        "ada", tuple(Behavior("ada", str(i), "what is", t, at=float(i)) for i, t in enumerate(("red", "no")))
    )
    requests = [Request("ada", m) for m in MESSAGES]
    profiles = [Profile(history, its.prepare(history))] * len(requests)
    answers = [m.backbone.generate(m.personalize_many(requests, profiles), GREEDY) for m in (mine, its)]
    assert answers[0] == answers[1]


def test_a_server_of_ours_puts_a_plug_in_front_of_a_model_that_runs_elsewhere(llama, tmp_path) -> None:
    here, _, seen, folder = llama
    save_plug(here, folder, tmp_path / "plug")
    answers = []
    section = {"name": "vllm", "base_url": seen.url, "served": "served"}
    for n, settings in enumerate((OPEN, dataclasses.replace(OPEN, backbone=section))):
        loading = ModelLoader(registry.build("store", "sql", {"url": str(tmp_path / f"{n}.db")}), settings)
        loading.add(str(tmp_path / "plug"))
        path = tmp_path / f"{n}.db"
        with served(loading.service(), path) as live, live.client() as client:
            client.post("/v1/users/ada/history", json={"id": "1", "input": "what", "output": "red"}).raise_for_status()
            body = {"model": f"{folder.name}:plug", "user": "ada", "max_tokens": 6}
            reply = client.post("/v1/chat/completions", json={**body, "messages": [{"role": "user", "content": "a b"}]})
            assert reply.json()["personaplug"]["personalized"]
            [choice] = reply.json()["choices"]
            answers.append((choice["message"], choice["finish_reason"], reply.json()["usage"]))
    assert answers[0] == answers[1]


def test_a_plug_of_other_weights_is_refused_in_front_of_it(llama, tmp_path) -> None:
    _, there, _, _ = llama
    torch.manual_seed(3)
    other = tiny.save_causal(tmp_path / "other", words=[*tiny.WORDS, "more"][::-1])
    save_plug(None, other, tmp_path / "plug")
    with pytest.raises(MismatchError, match="trained against backbone"):
        assembly.load(tmp_path / "plug", None, there)


def test_it_trains_nothing_and_says_where_to(llama, tmp_path) -> None:
    _, there, _, _ = llama
    method = registry.build("method", "task_prompt", {}, backbone=there)
    example = Example("1", Request.of("ada", "a"), History("ada"), "red")
    with pytest.raises(MismatchError, match="train it on a backbone of the same weights"):
        method.fit([example], [], TrainingConfig(), tmp_path)


def test_a_name_that_is_not_served_is_refused_when_built(llama) -> None:
    _, _, seen, folder = llama
    with pytest.raises(ModelError, match="did you mean 'served'"):
        registry.build("backbone", "vllm", {"model": str(folder), "served": "serve", "base_url": seen.url})


@pytest.mark.model
def test_a_real_model_answers_the_same_over_the_wire() -> None:
    from pathlib import Path

    from personaplug import models

    models.pull("smollm2-135m")
    here = CausalBackbone(CausalConfig("smollm2-135m", "float32", "cpu"))
    found = models.resolve("smollm2-135m")
    prompts = [Prompt((Message("user", "Name three colours."),), p, "last") for p in prefixes(here, 1)]
    prompts.append(Prompt((Message("system", "Be brief."), Message("user", "Where is Paris?"))))
    with vllm_like(Path(found.location), "smollm2-135m", context=2048) as seen:
        there = registry.build("backbone", "vllm", {"model": "smollm2-135m", "base_url": seen.url})
        assert there.generate(prompts, GREEDY) == here.generate(prompts, GREEDY)
