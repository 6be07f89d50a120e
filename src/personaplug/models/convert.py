"""Quantised GGUF weights to an ordinary safetensors folder, once; loading that takes seconds instead of a minute."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file into `folder`, as bfloat16 safetensors.

    Expects a model whose embedding and head are one tied matrix, as all small ones are.

    Args:
        gguf: the quantised weights.
        folder: an existing folder.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    with _quiet():
        where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        quantised = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        # Left: a batch's answers all begin at its last position.
        tokenizer = AutoTokenizer.from_pretrained(**where, padding_side="left")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = _plain_copy(quantised)
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _plain_copy(quantised: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    # A model loaded from GGUF refuses to be saved; the same weights in a fresh model do not.
    config = quantised.config
    if "quantization_config" in vars(config):
        del config.quantization_config
    config.tie_word_embeddings = True
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantised.state_dict())
    # A GGUF may hold the tied matrix twice, quantised in two ways; the head's copy is the finer one.
    model.get_input_embeddings().weight.data.copy_(quantised.get_output_embeddings().weight.data)
    model.tie_weights()
    config.dtype = torch.bfloat16
    return model.to(torch.bfloat16)


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # one of its bars heeds no setting
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
