"""The sentence encoder: a tiny random BERT made on the spot, and MiniLM where models are at hand."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from string import ascii_lowercase

import numpy as np
import pytest
import torch

if (
    find_spec("sentence_transformers") is None
):  # not imported: that takes seconds, also of a worker that runs other tests
    pytest.skip("sentence-transformers is not installed", allow_module_level=True)

from personaplug import models
from personaplug.core.errors import ConfigError, MissingExtraError, ModelError
from personaplug.encoders import sentence
from personaplug.encoders.sentence import SentenceConfig, SentenceEncoder

TEXTS = ["a rather longer text than the others", "short", "", "x y z"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("models")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *ascii_lowercase, *(f"##{c}" for c in ascii_lowercase)]
    (path / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(path / "bert")
    BertTokenizerFast(str(path / "vocab.txt"), model_max_length=64).save_pretrained(path / "bert")
    bert = Transformer(str(path / "bert"))
    SentenceTransformer(modules=[bert, Pooling(32, "mean")], device="cpu").save(str(path / "tiny"))
    return str(path / "tiny")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of converted models of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONAPLUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def build(folder, **config):
    return SentenceEncoder(SentenceConfig(**({"model": folder, "device": "cpu"} | config)))


def openvino(folder, **config):
    pytest.importorskip("openvino")
    return build(folder, backend="openvino", **config)


def test_vectors_are_unit_length_unless_asked_not_to_be(folder):
    unit, raw = build(folder), build(folder, normalize=False)
    lengths = np.linalg.norm(raw.encode(TEXTS), axis=-1, keepdims=True)
    assert np.abs(lengths - 1).min() > 1e-3
    np.testing.assert_allclose(unit.encode(TEXTS), raw.encode(TEXTS) / lengths, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 16, 4096])
def test_the_batch_budget_does_not_change_a_vector(folder, budget):
    np.testing.assert_allclose(
        build(folder, tokens_per_batch=budget).encode(TEXTS), build(folder).encode(TEXTS), atol=1e-5
    )


def test_the_query_prefix_stands_before_queries_only(folder):
    plain, prefixed = build(folder), build(folder, query_prefix="find ")
    np.testing.assert_allclose(prefixed.encode(TEXTS), plain.encode(TEXTS), atol=1e-5)
    queries = prefixed.encode(TEXTS[:2], role="query")
    np.testing.assert_allclose(queries, plain.encode(["find " + t for t in TEXTS[:2]]), atol=1e-5)
    assert not np.allclose(queries, plain.encode(TEXTS[:2], role="query"), atol=1e-3)


def test_texts_beyond_the_models_length_are_cut(folder):
    long = build(folder).encode(["a b c " * 500, "a b c " * 600])
    np.testing.assert_allclose(long[0], long[1], atol=1e-5)


def test_keys_tell_dtype_normalization_and_prefix_apart(folder):
    configs = [{}, {"dtype": "bfloat16"}, {"normalize": False}, {"query_prefix": "find "}]
    keys = {build(folder, **c).key for c in configs}
    assert len(keys) == 4
    assert build(folder).key == build(folder, dtype="float32", tokens_per_batch=8).key
    assert build(folder).key.endswith(":mean:float32:unit")


def test_a_trainable_copy_starts_at_the_encoders_vectors_and_learns_without_moving_them(folder):
    encoder = build(folder, query_prefix="find ")
    before = encoder.encode(TEXTS, role="query")
    trained = encoder.copy_for_training().eval()
    np.testing.assert_allclose(trained(TEXTS).detach().numpy(), before, atol=1e-5)
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=1.0)
    trained(TEXTS)[:, 0].sum().backward()
    optimizer.step()
    assert not np.allclose(trained(TEXTS).detach().numpy(), before, atol=1e-4)
    assert np.array_equal(encoder.encode(TEXTS, role="query"), before)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1, 16, 4096])
@pytest.mark.usefixtures("cache")
def test_openvino_gives_the_same_vectors_under_the_same_key(folder, budget):
    plain, fast = (make(folder, query_prefix="find ", tokens_per_batch=budget) for make in (build, openvino))
    assert fast.key == plain.key
    for role in ("history", "query"):
        np.testing.assert_allclose(fast.encode(TEXTS, role=role), plain.encode(TEXTS, role=role), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.usefixtures("cache")
def test_another_dtype_of_openvino_has_its_own_key_or_is_refused_where_the_cpu_lacks_it(folder, dtype):
    try:
        key = openvino(folder, dtype=dtype).key
    except ConfigError as error:
        key = str(error)
    assert key.endswith(f":{dtype}-openvino:unit") or f"cannot compute in {dtype} on this CPU" in key


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_openvino_converts_a_model_once(folder, monkeypatch):
    first = openvino(folder).encode(TEXTS)
    monkeypatch.setattr(sentence, "_convert", None)
    assert np.array_equal(openvino(folder).encode(TEXTS), first)


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_a_trainable_copy_of_an_openvino_encoder_has_gradients(folder):
    encoder = openvino(folder)
    trained = encoder.copy_for_training().eval()
    np.testing.assert_allclose(trained(TEXTS).detach().numpy(), encoder.encode(TEXTS, role="query"), atol=1e-5)
    trained(TEXTS)[:, 0].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())


def test_openvino_refuses_another_device_than_the_cpu(folder):
    with pytest.raises(ConfigError, match="'cuda:0'"):
        build(folder, backend="openvino", device="cuda:0")


@pytest.mark.usefixtures("cache")
def test_a_missing_openvino_is_named_with_the_way_out(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*openvino"):
        build(folder, backend="openvino")


def test_a_model_that_openvino_cannot_convert_is_a_one_line_error(folder, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("no rule\nfor this")

    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path))
    monkeypatch.setattr(pytest.importorskip("openvino"), "convert_model", fails)
    with pytest.raises(ModelError, match=r"OpenVINO \(no rule\); use backend = 'torch'$"):
        openvino(folder)


def test_a_folder_without_a_model_is_a_one_line_error(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json"):
        build(str(tmp_path))


@pytest.mark.model
def test_a_trainable_copy_of_minilm_starts_at_its_vectors():
    models.pull("minilm")
    encoder = build("minilm")
    trained = encoder.copy_for_training().eval()
    np.testing.assert_allclose(trained(TEXTS).detach().numpy(), encoder.encode(TEXTS, role="query"), atol=1e-4)
    trained(TEXTS)[:, 0].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.parameters())


@pytest.mark.model
def test_bfloat16_minilm_stays_near_float32():
    models.pull("minilm")
    texts = ["a movie about robots", "no.", "the quarterly tax report is late again"]
    full, half = build("minilm").encode(texts), build("minilm", dtype="bfloat16").encode(texts)
    assert (full * half).sum(-1).min() > 0.999
    assert np.linalg.norm(half, axis=-1) == pytest.approx(1, abs=1e-5)
