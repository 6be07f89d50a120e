"""What was written at commit e4ef43a (version 0.1) is read as it was: artifacts, a store, the digests of runs."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from personaplug.bench.plan import plan_methods
from personaplug.core import registry
from personaplug.core.config import from_mapping
from personaplug.core.errors import ConfigError
from personaplug.core.types import History, Profile, Request
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.methods.base import digest_of
from personaplug.methods.plug import PlugMethodConfig
from personaplug.pipeline.artifacts import load_info, load_tensors
from personaplug.pipeline.build import read_run
from personaplug.pipeline.fingerprint import fingerprint

ROOT = Path(__file__).parents[2]
WRITTEN = ROOT / "tests" / "fixtures" / "e4ef43a"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def store(tmp_path: Path):
    shutil.copy(WRITTEN / "users.db", tmp_path)
    opened = registry.build("store", "sql", {"url": str(tmp_path / "users.db")})
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def backbone(tiny_causal: Path):
    return registry.build("backbone", "causal", {"model": str(tiny_causal), "dtype": "float32", "device": "cpu"})


@pytest.mark.parametrize("name", EXPECTED["prefixes"])
def test_an_artifact_and_a_store_give_the_soft_tokens_that_they_gave(name, store, backbone) -> None:
    info, tensors = load_info(WRITTEN / name), load_tensors(WRITTEN / name)
    assert info.encoder is not None
    encoder = registry.build("encoder", info.encoder.name, info.encoder.config)
    assert encoder.key == info.encoder.key == EXPECTED["encoder"]
    method = registry.build(
        "method", name, info.config, backbone=backbone, vectors=VectorCache(encoder, store), task=info.task
    )
    method.load_tensors(tensors)
    module = method.prompt if name == "task_prompt" else method.plug
    module.scale = 1.0  # the length of a natural token is the backbone's, and a random one's differs by machine
    for user, expected in EXPECTED["prefixes"][name].items():
        history = History(user) if user == "nobody" else store.history(user)
        prompt = method.personalize(Request.of(user, "tell me more"), Profile(history, method.prepare(history)))
        np.testing.assert_allclose(np.asarray(prompt.prefix), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["plug", "pplug", "preference_plug"])
def test_states_that_were_stored_for_a_plug_are_still_its_own(name, backbone) -> None:
    info, tensors = load_info(WRITTEN / name), load_tensors(WRITTEN / name)
    assert info.encoder is not None
    encoder = registry.build("encoder", info.encoder.name, info.encoder.config)
    method = registry.build("method", name, info.config, backbone=backbone, vectors=VectorCache(encoder))
    method.load_tensors(tensors)
    assert method.weights_digest() == digest_of(tensors)


def test_a_stored_history_has_the_digest_that_it_had(store) -> None:
    assert {user: store.history(user).digest for user in EXPECTED["digest"]} == EXPECTED["digest"]


@pytest.mark.parametrize("name", sorted({key.rpartition(":")[0] for key in EXPECTED["fingerprints"]}))
def test_runs_have_the_fingerprints_under_which_they_were_measured(name) -> None:
    path = ROOT / "experiments" / f"{name}.toml"
    run = read_run(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    for entry in plan_methods(run, (), True):
        trained = "train" if entry.cls.trained else ""
        digest = fingerprint(entry.run.to_mapping(), trained=trained, measured="test")
        assert digest == EXPECTED["fingerprints"][f"{name}:{entry.label}"], entry.label


def test_a_field_that_was_removed_is_read_at_its_old_default_and_refused_elsewhere() -> None:
    assert from_mapping(PlugMethodConfig, {"peers": 0, "teacher": {}, "scale": 0.0}) == PlugMethodConfig()
    with pytest.raises(ConfigError, match=r"method 'plug': peers = 3: this choice was removed"):
        registry.build("method", "plug", {"peers": 3}, backbone=None)


def test_a_plug_that_used_what_was_removed_is_refused_by_name(backbone) -> None:
    info, tensors = load_info(WRITTEN / "plug"), load_tensors(WRITTEN / "plug")
    assert info.encoder is not None
    vectors = VectorCache(registry.build("encoder", info.encoder.name, info.encoder.config))
    method = registry.build("method", "plug", info.config, backbone=backbone, vectors=vectors)
    with pytest.raises(Exception, match="do not fit"):
        method.load_tensors({**tensors, "peer_keys": torch.ones(2, 8)})
