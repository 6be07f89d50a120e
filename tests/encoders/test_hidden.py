"""The hidden-state encoder against the model's own `output_hidden_states`, on tiny models with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from personaplug.backbones.causal import CausalBackbone, CausalConfig
from personaplug.core.errors import ConfigError, ModelError
from personaplug.core.types import Prompt, Request
from personaplug.encoders.hidden import HiddenConfig, HiddenEncoder

CUT = ["gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"]
WHOLE = ["gpt2", "gpt_neox"]
TEXTS = ["a rather longer text than the others", "short", "", "日本語 🙂", "x"]


def states(folder: str, text: str, layer: int, bos: bool = True) -> np.ndarray:
    """Hidden states [t, e] after `layer` blocks, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.bos_token_id] * bos + tokenizer(text, add_special_tokens=False).input_ids
    with torch.inference_mode():
        return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0].numpy()


def build(folder: str, backbone: CausalBackbone | None = None, **config) -> HiddenEncoder:
    return HiddenEncoder(HiddenConfig(**({"model": folder, "dtype": "float32"} | config)), backbone)


@pytest.mark.parametrize("family", CUT + WHOLE)
@pytest.mark.parametrize("layer", [1, 3])
def test_running_the_first_blocks_alone_gives_the_models_own_hidden_states(tiny_model, family, layer):
    folder = tiny_model(family)
    vectors = build(folder, layer=layer).encode(TEXTS[:2])
    for vector, text in zip(vectors, TEXTS[:2], strict=True):
        np.testing.assert_allclose(vector, states(folder, text, layer)[1:].mean(0), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", CUT + WHOLE)
def test_a_vector_does_not_depend_on_its_batch(tiny_model, family):
    encoder = build(tiny_model(family))
    together = encoder.encode(TEXTS)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, np.concatenate([encoder.encode([t]) for t in TEXTS]), atol=2e-5, rtol=1e-4)


def test_bfloat16_rounds_but_does_not_mix_texts(tiny_model):
    encoder = build(tiny_model(), dtype="bfloat16", tokens_per_batch=64)
    together, alone = encoder.encode(TEXTS), np.concatenate([encoder.encode([t]) for t in TEXTS])
    cosine = (together * alone).sum(-1) / np.linalg.norm(together, axis=-1) / np.linalg.norm(alone, axis=-1)
    assert cosine.min() > 0.999


def test_layer_zero_is_half_of_the_blocks(tiny_model):
    assert np.array_equal(build(tiny_model()).encode(TEXTS), build(tiny_model(), layer=2).encode(TEXTS))
    assert build(tiny_model()).key == build(tiny_model(), layer=2).key


def test_the_last_block_is_taken_before_the_final_norm(tiny_model):
    last = build(tiny_model(), layer=4).encode(["some text"])
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32).eval()
    normed = states(tiny_model(), "some text", 4)[1:].mean(0)
    assert not np.allclose(last[0], normed, atol=1e-3)
    seen = []
    model.model.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ids = [0, *AutoTokenizer.from_pretrained(tiny_model())("some text", add_special_tokens=False).input_ids]
    with torch.inference_mode():
        model(torch.tensor([ids]))
    np.testing.assert_allclose(last[0], seen[0][0, 1:].mean(0).numpy(), atol=2e-5, rtol=1e-4)


def test_pooling_last_is_the_state_of_the_last_token(tiny_model):
    vectors = build(tiny_model(), pooling="last").encode(TEXTS)
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, states(tiny_model(), text, 2)[-1], atol=2e-5, rtol=1e-4)


def test_without_a_bos_the_first_text_token_is_the_sink_unless_it_is_alone(tiny_model):
    folder = tiny_model(bos=False)
    long, one, empty = build(folder).encode(["long", "x", ""])
    np.testing.assert_allclose(long, states(folder, "long", 2, bos=False)[1:].mean(0), atol=2e-5, rtol=1e-4)
    np.testing.assert_allclose(one, states(folder, "x", 2, bos=False)[0], atol=2e-5, rtol=1e-4)
    assert np.isfinite(empty).all()


def test_tokens_beyond_max_tokens_are_not_seen(tiny_model):
    encoder = build(tiny_model(), max_tokens=5)
    np.testing.assert_allclose(*encoder.encode(["12345", "12345 and more"]), atol=2e-5)
    assert encoder.key != build(tiny_model()).key


def test_huge_states_are_clipped_to_what_float16_holds(tiny_model):
    backbone = CausalBackbone(CausalConfig(model=tiny_model(), dtype="float32", device="cpu"))
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight.mul_(1e9)
    vectors = build(tiny_model(), backbone).encode(TEXTS)
    assert np.abs(vectors).max() == np.finfo(np.float16).max


def test_a_backbone_with_the_same_weights_is_shared_and_stays_as_it_is(tiny_model):
    backbone = CausalBackbone(CausalConfig(model=tiny_model(), dtype="float32", device="cpu"))
    prompt = Prompt(Request.of(None, "hello").messages)
    before = backbone.score([prompt], ["there"])
    weights = {n: p.clone() for n, p in backbone.model.named_parameters()}
    shared = build(tiny_model(), backbone)
    pointers = {p.data_ptr() for p in backbone.model.parameters()}
    assert {p.data_ptr() for p in shared._blocks.parameters()} <= pointers
    np.testing.assert_allclose(shared.encode(TEXTS), build(tiny_model()).encode(TEXTS), atol=2e-5, rtol=1e-4)
    assert shared.key == build(tiny_model()).key
    assert backbone.score([prompt], ["there"]) == before
    assert all(torch.equal(p, weights[n]) for n, p in backbone.model.named_parameters())


@pytest.mark.parametrize(("family", "dtype"), [("llama", "bfloat16"), ("qwen2", "float32")])
def test_a_backbone_of_other_weights_or_another_dtype_is_not_used(tiny_model, family, dtype):
    backbone = CausalBackbone(CausalConfig(model=tiny_model(family), dtype=dtype, device="cpu"))
    apart = build(tiny_model(), backbone)
    assert np.array_equal(apart.encode(TEXTS), build(tiny_model()).encode(TEXTS))


def test_keys_tell_layer_pooling_length_and_dtype_apart(tiny_model):
    configs = [{}, {"layer": 1}, {"pooling": "last"}, {"max_tokens": 8}, {"dtype": "bfloat16"}]
    assert len({build(tiny_model(), **c).key for c in configs} | {build(tiny_model("qwen2")).key}) == 6


def test_a_layer_that_does_not_exist_is_refused_with_the_number_of_layers(tiny_model):
    with pytest.raises(ConfigError, match=r"layer is 5, but .* has 4 layers"):
        build(tiny_model(), layer=5)


def test_max_tokens_of_zero_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        build(tiny_model(), max_tokens=0)


def test_an_unknown_model_is_a_one_line_error():
    with pytest.raises(ModelError, match="no-such-model"):
        build("no-such-model")
