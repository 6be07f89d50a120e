"""What holds for every backbone on the shelf. One that runs a causal model of a folder joins by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from personaplug.backbones.base import Backbone
from personaplug.backbones.echo import EchoBackbone
from personaplug.core import registry
from personaplug.core.errors import MismatchError
from personaplug.core.types import Conditioning, Message, Prompt, Sampling
from remote import vllm_like
from serving import OPEN, listening, text_service

PROMPTS = [Prompt((Message("user", text),)) for text in ("a b c", "tell me more please", "no")]


@pytest.fixture(scope="module")
def served_elsewhere(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Servers for the backbones whose models run elsewhere, and how those are built."""
    path = tmp_path_factory.mktemp("served") / "users.db"
    with (
        listening(text_service(path, EchoBackbone(), OPEN, ("none",)), path) as chats,
        vllm_like(tiny_causal, "tiny") as completions,
    ):
        yield {
            "openai": {"model": "echo:none", "base_url": f"{chats.url}/v1", "api_key_env": ""},
            "vllm": {"model": str(tiny_causal), "served": "tiny", "base_url": completions.url},
        }


@pytest.fixture(params=registry.names("backbone"))
def backbone(
    request: pytest.FixtureRequest, tiny_causal: Path, tiny_t5: Path, served_elsewhere: dict[str, Any]
) -> Backbone:
    fields = {f.name for f in dataclasses.fields(registry.find("backbone", request.param).Config)}
    here = {"model": str(tiny_causal), "dtype": "float32", "device": "cpu"}
    other = {**served_elsewhere, "seq2seq": {**here, "model": str(tiny_t5)}}
    config = other.get(request.param, {k: v for k, v in here.items() if k in fields})
    return registry.build("backbone", request.param, config)


def test_it_says_what_it_is_and_accepts_text(backbone: Backbone) -> None:
    assert backbone.summary
    assert backbone.source
    assert backbone.key
    assert Conditioning.TEXT in backbone.accepts


def test_a_batch_gives_what_each_prompt_gives_alone(backbone: Backbone) -> None:
    together = backbone.generate(PROMPTS, Sampling(max_tokens=5))
    assert together == [backbone.generate([p], Sampling(max_tokens=5))[0] for p in PROMPTS]


def test_an_answer_keeps_to_its_limit(backbone: Backbone) -> None:
    for answer in backbone.generate(PROMPTS, Sampling(max_tokens=2)):
        assert len(answer.tokens) <= 2
        assert answer.prompt_tokens > 0


def test_streamed_pieces_join_to_the_answer(backbone: Backbone) -> None:
    for prompt in PROMPTS:
        pieces = list(backbone.stream(prompt, Sampling(max_tokens=5)))
        assert "".join(pieces) == backbone.generate([prompt], Sampling(max_tokens=5))[0].text


def test_scores_are_log_probabilities_and_independent_of_the_batch(backbone: Backbone) -> None:
    if not backbone.scores:
        with pytest.raises(MismatchError, match="needs log-probabilities"):
            backbone.score(PROMPTS[:1], ["yes"])
        return
    pairs = [(p, c) for p in PROMPTS for c in ("yes", "no please")]
    for (prompt, text), scored in zip(pairs, backbone.score(*map(list, zip(*pairs, strict=True))), strict=True):
        assert scored.logprob <= 0
        assert scored.logprob == pytest.approx(backbone.score([prompt], [text])[0].logprob, rel=1e-4)


def test_nothing_in_nothing_out(backbone: Backbone) -> None:
    assert backbone.generate([], Sampling()) == []
    assert backbone.score([], []) == []


@pytest.mark.parametrize(("name", "position"), [("causal", "first"), ("causal", "last"), ("seq2seq", "first")])
def test_gradients_are_the_same_with_checkpointing_and_fewer_tensors_are_kept(
    name: str, position: Any, tiny_causal: Path, tiny_t5: Path
) -> None:
    model = str(tiny_causal if name == "causal" else tiny_t5)
    found, kept = [], []
    for checkpointing in (False, True):
        made: Any = registry.build(
            "backbone", name, {"model": model, "dtype": "float32", "device": "cpu", "checkpointing": checkpointing}
        )
        prefix = torch.ones(2, made.width, requires_grad=True)
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        prompts = [Prompt(p.messages, prefix, position) for p in PROMPTS]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = made.loss(prompts, ["red", "yes please", "no"]).sum()
        loss.backward()
        assert prefix.grad is not None
        found.append(prefix.grad)
        kept.append(sum(sizes))
    torch.testing.assert_close(found[0], found[1])
    assert kept[1] < kept[0] if position == "first" else kept[1] == kept[0]
