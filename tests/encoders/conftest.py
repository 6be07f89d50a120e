"""Tiny language models with random weights and a byte-level tokenizer, made on the spot."""

from __future__ import annotations

import pytest
import torch

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 300,
    "max_position_embeddings": 256,
    "head_dim": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def tiny_tokenizer(bos: bool = True):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], vocab_size=258, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    names = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", **names)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """(family, bos) -> a folder with a model and a tokenizer."""
    made = {}

    def make(family: str = "llama", bos: bool = True) -> str:
        if (family, bos) not in made:
            from transformers import AutoConfig, AutoModelForCausalLM

            folder = tmp_path_factory.mktemp("models") / f"{family}-{bos}"
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **TINY)).save_pretrained(folder)
            tiny_tokenizer(bos).save_pretrained(folder)
            made[family, bos] = str(folder)
        return made[family, bos]

    return make
