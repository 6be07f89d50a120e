"""The real small model: what tiny random ones cannot show."""

from __future__ import annotations

import pytest
import torch

from personaplug import models
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.core.types import Message, Prompt, Sampling

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def smollm() -> CausalBackbone:
    models.pull("smollm2-135m")
    return CausalBackbone(CausalConfig("smollm2-135m", dtype="float32", device="cpu"))


QUESTIONS = [
    "Hi! How are you?",
    "What is the capital of France?",
    "Tell me a joke.",
    "Any plans for the weekend, or are you staying home with a book again?",
    "ok",
]


@pytest.mark.parametrize("position", ["first", "last"])
def test_ten_users_with_different_histories_get_in_one_batch_what_each_gets_alone(smollm, position: str) -> None:
    g = torch.Generator().manual_seed(0)
    prompts = [
        Prompt(
            (Message("user", QUESTIONS[i % len(QUESTIONS)]),),
            torch.randn(1 + i % 5, smollm.width, generator=g) * smollm.token_norm / smollm.width**0.5,
            position,  # type: ignore[arg-type]
        )
        for i in range(10)
    ]
    sampling = Sampling(max_tokens=24)
    together = smollm.generate(prompts, sampling)
    assert [c.tokens for c in together] == [smollm.generate([p], sampling)[0].tokens for p in prompts]
    assert len({c.text for c in together}) > 5


def test_it_answers_sensibly_and_streams_what_it_generates(smollm) -> None:
    prompt = Prompt((Message("user", "What is the capital of France? Answer in one word."),))
    [answer] = smollm.generate([prompt], Sampling(max_tokens=16))
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"
    assert "".join(smollm.stream(prompt, Sampling(max_tokens=16))) == answer.text


def test_it_scores_the_right_continuation_higher(smollm) -> None:
    prompt = Prompt((Message("user", "Is fire hot or cold? Answer with one word."),))
    hot, cold = smollm.score([prompt, prompt], ["Hot", "Cold"])
    assert hot.logprob / hot.tokens > cold.logprob / cold.tokens
