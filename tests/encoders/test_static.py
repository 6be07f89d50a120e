"""The static encoder: a tiny static model, and ones distilled from a tiny random BERT, made on the spot."""

from __future__ import annotations

import json
from string import ascii_lowercase

import numpy as np
import pytest

pytest.importorskip("model2vec")

from personaplug.core.errors import ConfigError, MissingExtraError, ModelError
from personaplug.encoders import static
from personaplug.encoders.static import StaticConfig, StaticEncoder

TEXTS = ["a rather longer text than the others", "short", "", "x y z", "z y x"] * 5
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, *ascii_lowercase, *(f"##{c}" for c in ascii_lowercase)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A static model of 8 dimensions, one token a letter."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 8)).astype(np.float16)
    path = tmp_path_factory.mktemp("models") / "static"
    StaticModel(vectors, tokenizer, {"model_type": "model2vec"}).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A random BERT, 32 wide."""
    pytest.importorskip("skeletoken")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("models") / "teacher"
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(WORDS))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(path)
    transformers.BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return str(path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(folder, **config):
    return StaticEncoder(StaticConfig(model=folder, **config))


def test_a_vector_is_the_mean_of_the_tokens_vectors(folder):
    from safetensors.numpy import load_file

    table = load_file(f"{folder}/model.safetensors")["embeddings"].astype(np.float32)
    mean = table[[WORDS.index(token) for token in ("x", "y", "##z")]].mean(0)
    np.testing.assert_allclose(build(folder, normalize=False).encode(["x yz"])[0], mean, atol=1e-6)
    np.testing.assert_allclose(build(folder).encode(["x yz"])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_vector_is_bit_equal_whatever_it_is_encoded_with(folder):
    encoder = build(folder)
    together = encoder.encode(TEXTS)
    assert np.array_equal(together, np.concatenate([encoder.encode([text]) for text in TEXTS]))
    assert np.array_equal(together, encoder.encode(TEXTS[::-1])[::-1])


def test_the_empty_text_gets_zeros(folder):
    assert not build(folder).encode([""]).any()


def test_a_static_model_is_taken_as_it_is_and_known_by_its_weights(folder, cache):
    encoder = build(folder)
    assert encoder.width == 8
    assert encoder.key == build(folder, width=64).key
    assert encoder.key.startswith("static:static@")
    assert encoder.key != build(folder, normalize=False).key
    assert not cache.exists()


def test_a_sentence_encoder_is_distilled_once_and_alike_each_time(teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "one"))
    encoder = build(teacher, width=6)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), 6)
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "two"))
    again = build(teacher, width=6)
    assert again.key == encoder.key
    assert np.array_equal(again.encode(TEXTS), vectors)
    monkeypatch.setattr(static, "_distil", None)
    assert np.array_equal(build(teacher, width=6).encode(TEXTS), vectors)


@pytest.mark.usefixtures("cache")
def test_the_key_of_a_distilled_model_names_its_teacher_and_its_width(teacher):
    keys = {build(teacher, width=width).key for width in (4, 6)}
    assert len(keys) == 2
    assert all(key.startswith("static:teacher@") for key in keys)


@pytest.mark.parametrize("width", [0, 33])
def test_a_width_that_cannot_be_distilled_is_refused_and_leaves_nothing(teacher, cache, width):
    with pytest.raises(ConfigError, match=f"width is {width}, expected 2 to 32"):
        build(teacher, width=width)
    assert not [path for path in (cache / "static").iterdir() if path.is_dir()]


@pytest.mark.usefixtures("cache")
def test_what_cannot_be_distilled_is_a_one_line_error(folder, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(json.dumps({"model_type": "no such"}))
    (tmp_path / "odd" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="no static model can be distilled from") as caught:
        build(str(tmp_path / "odd"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cache")
def test_a_missing_library_for_distilling_is_named(teacher, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "skeletoken", None)
    with pytest.raises(MissingExtraError, match="skeletoken"):
        build(teacher)
