"""Converting quantised weights: the copy is plain, tied, and answers like the original."""

from __future__ import annotations

import pytest
import torch
import transformers

from personaplug.models import convert


@pytest.fixture
def untied():
    """What a GGUF with an embedding and a head of its own loads as."""
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config)


def test_the_copy_has_one_matrix_for_embedding_and_head_and_it_is_the_heads(untied):
    copy = convert._plain_copy(untied)
    assert copy.lm_head.weight.data_ptr() == copy.model.embed_tokens.weight.data_ptr()
    assert torch.equal(copy.lm_head.weight, untied.lm_head.weight.to(torch.bfloat16))


def test_the_copy_has_the_originals_other_weights_in_bfloat16_and_can_be_saved(untied, tmp_path):
    copy = convert._plain_copy(untied)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(copy.state_dict()[name], untied.state_dict()[name].to(torch.bfloat16))
    copy.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    assert again.config.tie_word_embeddings


def test_converting_is_silent_and_leaves_the_librarys_voice_as_it_was(capfd):
    import sys
    import warnings

    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with convert._quiet():
        sys.stderr.write("a bar")
        warnings.warn("a warning", stacklevel=1)
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr().err == ""
