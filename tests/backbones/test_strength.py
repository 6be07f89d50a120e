"""Persona strength and repetition rules: each row of a mixed batch gives what it gives alone."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.backbones.local.generation import PLAUSIBLE, guided
from personaplug.backbones.local.scheduler import Scheduler
from personaplug.backbones.seq2seq import Seq2SeqBackbone, Seq2SeqConfig
from personaplug.core import registry
from personaplug.core.errors import ConfigError, MismatchError
from personaplug.core.types import Behavior, History, Message, Profile, Prompt, Request, Sampling

D = 32


@pytest.fixture(scope="module", params=["last", "first", "seq2seq", "gemma3-last"])
def case(request, tiny_causal: Path, tiny_t5: Path, tmp_path_factory):
    if request.param == "seq2seq":
        return Seq2SeqBackbone(Seq2SeqConfig(str(tiny_t5), "float32", "cpu")), "first"
    folder = tiny_causal
    if request.param.startswith("gemma3"):
        folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-gemma3", family="gemma3", chat=False)
    return CausalBackbone(CausalConfig(str(folder), "float32", "cpu")), request.param.rsplit("-", 1)[-1]


def prompts_of(position: str, count: int = 5) -> list[Prompt]:
    g = torch.Generator().manual_seed(7)
    found = []
    for i in range(count):
        messages = (Message("user", " ".join(tiny.WORDS[: 1 + 3 * i])),)
        nobody = Prompt(messages, torch.randn(2, D, generator=g), position)
        found.append(Prompt(messages, torch.randn(2, D, generator=g), position, unconditional=nobody))
    return found


def texts(backbone, prompts: list[Prompt], **sampling) -> list[tuple[int, ...]]:
    return [c.tokens for c in backbone.generate(prompts, Sampling(max_tokens=10, **sampling))]


def test_strength_one_is_the_persona_and_strength_zero_is_nobody(case) -> None:
    backbone, position = case
    prompts = prompts_of(position)
    plain = [dataclasses.replace(p, unconditional=None) for p in prompts]
    assert texts(backbone, prompts) == texts(backbone, plain)
    assert texts(backbone, prompts, strength=0.0) == texts(backbone, [p.unconditional for p in prompts])
    assert texts(backbone, prompts, strength=0.0) != texts(backbone, prompts)


def test_rows_with_and_without_strength_and_rules_side_by_side_give_what_each_gives_alone(case) -> None:
    backbone, position = case
    prompts = prompts_of(position, 6)
    samplings = [
        Sampling(max_tokens=4 + 3 * i, strength=(1.0, 2.0, 0.5)[i % 3], no_repeat_ngram=2 * (i % 2),
                 temperature=float(i == 5), seed=i, repetition_penalty=1.0 + 0.5 * (i == 4))
        for i in range(6)
    ]  # fmt: skip
    alone = [backbone.generate([p], s)[0] for p, s in zip(prompts, samplings, strict=True)]
    running, choices = backbone.running(), [backbone.choice(s) for s in samplings]
    running.admit(prompts[:4], choices[:4])
    running.step()
    if not backbone.supports_batching:
        while not all(c.done for c in running.choices):
            running.step()
    running.admit(prompts[4:], choices[4:])
    while not all(c.done for c in running.choices):
        running.step()
    assert [backbone.completion(p, c) for p, c in zip(prompts, choices, strict=True)] == alone
    with Scheduler(backbone) as scheduler:
        answers = [scheduler.submit(p, s) for p, s in zip(prompts, samplings, strict=True)]
        assert [a.completion() for a in answers] == alone


def test_the_next_token_is_that_of_the_guided_log_probabilities_by_hand(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    for prompt in prompts_of("last"):
        mine, nobody = (
            backbone.prefill([p]).logits[0].log_softmax(-1) for p in (prompt, prompt.unconditional) if p is not None
        )
        scores = nobody + 2.0 * (mine - nobody)
        scores[mine.exp() < 0.05 * mine.exp().max()] = -math.inf
        [answer] = backbone.generate([prompt], Sampling(max_tokens=1, strength=2.0))
        assert answer.tokens in {(int(scores.argmax()),), ()}


def test_an_exaggerated_persona_never_writes_what_it_finds_unlikely() -> None:
    mine, nobody = torch.tensor([3.0, 2.9, -3.0]), torch.tensor([3.0, 3.0, -30.0])
    found = guided(mine, nobody, 3.0)
    assert found[2] == -math.inf  # by far the most exaggerated, and less than 5% as likely as the first
    assert math.exp(-0.1) > PLAUSIBLE
    assert found[0] > found[1] > -math.inf
    assert guided(mine, nobody, 0.5).isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_sequence_of_n_tokens_comes_up_twice(case, n: int) -> None:
    backbone, position = case
    for prompt, answer in zip(
        prompts_of(position),
        backbone.generate(prompts_of(position), Sampling(max_tokens=20, no_repeat_ngram=n)),
        strict=True,
    ):
        grams = [answer.tokens[i : i + n] for i in range(len(answer.tokens) - n + 1)]
        assert len(set(grams)) == len(grams), prompt


def test_a_method_says_what_it_would_hand_over_for_nobody(tiny_causal: Path) -> None:
    backbone = CausalBackbone(CausalConfig(str(tiny_causal), "float32", "cpu"))
    method = registry.build("method", "recent", {"k": 1}, backbone=backbone)
    history = History("ada", (Behavior("ada", "1", "what is", "red red", at=1.0),))
    request, profile = Request.of("ada", "tell me"), Profile(history)
    prompts = method.personalize_many([request], [profile])
    [strong] = method.with_unconditional([request], prompts, Sampling(strength=2.0))
    assert strong.unconditional == method.personalize(Request.of(None, "tell me"), Profile(History("")))
    assert method.with_unconditional([request], prompts, Sampling()) == prompts
    nobody = registry.build("method", "none", {}, backbone=backbone)
    assert nobody.with_unconditional([request], prompts, Sampling(strength=2.0)) == prompts


@pytest.mark.parametrize("given", [{"strength": 2.0}, {"no_repeat_ngram": 4}, {"repetition_penalty": 1.2}])
def test_a_backbone_that_cannot_is_refused_by_name_with_the_way_out(given) -> None:
    method = registry.build("method", "recent", {}, backbone=registry.build("backbone", "echo"))
    request = Request.of("ada", "tell me")
    [name] = given
    with pytest.raises(MismatchError, match=rf"{name} = .*'echo'.*leave {name} at"):
        method.with_unconditional([request], [Prompt(request.messages)], Sampling(**given))


@pytest.mark.parametrize(
    "given", [{"strength": -0.1}, {"strength": 99.0}, {"no_repeat_ngram": -1}, {"repetition_penalty": 0.0}]
)
def test_a_sampling_out_of_range_is_refused(given) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        Sampling(**given)
