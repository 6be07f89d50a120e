"""What every encoder on the shelf keeps to; a new one is covered by its name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from personaplug import models
from personaplug.core import registry
from personaplug.core.errors import ConfigError

# What cannot be built with defaults.
CONFIGS = {"joined": {"parts": [{"name": "style"}, {"name": "hashing"}]}}
# What changes an encoder's vectors, and so its key.
OTHER = {
    "hashing": {"width": 64},
    "hidden": {"layer": 3},
    "sentence": {"normalize": False},
    "static": {"normalize": False},
    "joined": {"parts": [{"name": "hashing"}] * 2},
}


def bundle_of(name):
    """The bundle that is an encoder's default model; None of one that runs with no weights."""
    defaults = {f.name: f.default for f in dataclasses.fields(registry.find("encoder", name).Config)}
    return defaults.get("model") if defaults.get("model") in models.BUNDLES else None


TEXTS = [
    "A movie about robots, and a good one.",
    "no.",
    "",
    "Ünïcödé: 日本語 🙂 здравствуйте",
    "the same words again and again " * 12,
    " leading and trailing space ",
    "NO!!!",
    "a\nline\tand a tab \0 nul",
]

BUNDLES = {name: bundle for name in registry.names("encoder") if (bundle := bundle_of(name))}
NAMES = [pytest.param(name, marks=pytest.mark.model) if name in BUNDLES else name for name in registry.names("encoder")]


@pytest.fixture(scope="module", params=NAMES)
def encoder(request):
    if request.param in BUNDLES:
        models.pull(BUNDLES[request.param])
    return registry.build("encoder", request.param, CONFIGS.get(request.param))


def cosine(a, b):
    return (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)


def test_every_text_even_the_empty_one_gets_a_finite_float32_vector_of_the_encoders_width(encoder):
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.width)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert np.abs(vectors).max() <= np.finfo(np.float16).max


def test_no_texts_give_no_vectors(encoder):
    assert encoder.encode([]).shape == (0, encoder.width)


def test_a_vector_does_not_depend_on_the_batch_and_keeps_its_texts_place(encoder):
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([t]) for t in TEXTS])
    backwards = encoder.encode(TEXTS[::-1])[::-1]
    something = np.linalg.norm(alone, axis=-1) > 0
    assert something.sum() >= len(TEXTS) - 1
    assert cosine(together, alone)[something].min() > 0.999
    assert cosine(together, backwards)[something].min() > 0.999


def test_texts_that_differ_get_vectors_that_differ(encoder):
    vectors = encoder.encode(["I love this film", "I will file the tax report", "日本語のテキスト"])
    gram = cosine(vectors[:, None], vectors[None])
    assert (gram[~np.eye(3, dtype=bool)] < 0.9999).all()


def test_queries_are_encoded_to_the_same_width(encoder):
    assert encoder.encode(TEXTS[:3], role="query").shape == (3, encoder.width)


def test_progress_adds_up_to_the_number_of_texts(encoder):
    seen = []
    encoder.encode(TEXTS, progress=seen.append)
    assert sum(seen) == len(TEXTS)


def test_the_key_names_the_encoder_and_differs_by_configuration(encoder):
    name = type(encoder).__module__.rsplit(".", 1)[-1]
    assert encoder.key.startswith(f"{name}:")
    assert registry.build("encoder", name, CONFIGS.get(name)).key == encoder.key
    if name in OTHER:
        assert registry.build("encoder", name, OTHER[name]).key != encoder.key


@pytest.mark.parametrize("name", registry.names("encoder"))
def test_an_unknown_configuration_key_is_refused_by_name(name):
    with pytest.raises(ConfigError, match="widht"):
        registry.build("encoder", name, {"widht": 3})
