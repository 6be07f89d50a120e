"""The synthetic task in front of a tiny random model: everything real but the size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tiny
from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.core import registry
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.encoders.hashing import HashingEncoder
from personaplug.methods.base import Method
from personaplug.tasks.base import Task


@pytest.fixture(scope="session")
def synthetic() -> Task:
    return registry.build("task", "synthetic", {"users": 160, "options": 4})


@pytest.fixture(scope="session")
def synthetic_backbone(synthetic, tmp_path_factory: pytest.TempPathFactory) -> CausalBackbone:
    folder = tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-synthetic", synthetic.vocabulary())
    return CausalBackbone(CausalConfig(str(folder), "float32", "cpu"))


@pytest.fixture(scope="session")
def make_method(synthetic, synthetic_backbone) -> Callable[..., Method]:
    """Build a method by name with the hashing encoder; without a store."""

    def make(name: str, **config) -> Method:
        encoder = registry.build("encoder", "hashing", {"width": 64})
        assert isinstance(encoder, HashingEncoder)
        return registry.build(
            "method", name, config, backbone=synthetic_backbone, vectors=VectorCache(encoder), task=synthetic.info
        )

    return make


def accuracy(method: Method, examples, profiles=None) -> float:
    """Share of examples whose target scores highest among the options."""
    from personaplug.core.types import Profile

    profiles = profiles or [Profile(e.history, method.prepare(e.history)) for e in examples]
    prompts = method.personalize_many([e.request for e in examples], profiles)
    right = 0
    for example, prompt in zip(examples, prompts, strict=True):
        scores = method.backbone.score([prompt] * len(example.options), list(example.options))
        best = max(range(len(scores)), key=lambda i: scores[i].logprob)
        right += example.options[best] == example.target
    return right / len(examples)


@pytest.fixture(scope="session")
def measure() -> Callable[..., float]:
    return accuracy
