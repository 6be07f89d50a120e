"""Tiny random models with tiny tokenizers, made on the spot: real transformers code paths in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TEXT = "a b c d e f g red blue green yes no what is your favourite colour tell me more please"
WORDS = TEXT.split(" ")
SPECIALS = ["<pad>", "<s>", "<eos>", "<unk>"]
CHAT = "{% for m in messages %}<s> {{ m['content'] }} <eos> {% endfor %}{% if add_generation_prompt %}<s> {% endif %}"


def tokenizer(words: Sequence[str] = WORDS, chat: bool = True):
    """A word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([*SPECIALS, *words]))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    if chat:
        fast.chat_template = CHAT
    return fast


def save_causal(folder: Path, words: Sequence[str] = WORDS, chat: bool = True, family: str = "llama") -> Path:
    """A random decoder-only model of 32 dimensions and 3 layers."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

    tok = tokenizer(words, chat)
    own = {"head_dim": 8, "sliding_window": 6} if family == "gemma3" else {}
    config = {"llama": LlamaConfig, "gemma3": Gemma3TextConfig}[family](
        vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        initializer_range=0.3, tie_word_embeddings=True, **own,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def save_t5(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """A random encoder-decoder model of 32 dimensions and 2 layers."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tok = tokenizer(words, chat=False)
    config = T5Config(
        vocab_size=len(tok), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0,
        eos_token_id=2, pad_token_id=0, initializer_factor=3.0,
    )  # fmt: skip
    torch.manual_seed(0)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def save_judge(folder: Path, words: Sequence[str] = WORDS, chat: bool = True) -> Path:
    """A random reward model of 32 dimensions and 2 layers: a decoder with one output."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tok = tokenizer(words, chat)
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        initializer_range=0.3, num_labels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
