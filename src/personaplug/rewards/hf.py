"""Any sequence-classification reward model of transformers; PersonalLLM's ten by their short names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from typing_extensions import override

from personaplug import models
from personaplug.core.config import fill
from personaplug.core.errors import ConfigError, ModelError
from personaplug.models.devices import pick_device
from personaplug.models.loading import loading
from personaplug.rewards.base import Reward, Scores
from personaplug.rewards.published import PUBLISHED

_WAY_OUT = "score with its own library and give the scores as columns"
_NO_PADDING = -1  # an id that no token has: the last token of a row is always its last


@dataclass(frozen=True, slots=True)
class HfConfig:
    """Which model and how it runs.

    Attributes:
        model: one of PersonalLLM's by its alias (gemma_2b, oasst_deberta_v3, ...), a folder or a hub id.
        form: how a prompt and an answer are put to the model: `chat` (its chat template), `pair` (two segments), or a
            template over {prompt} and {answer}; by default what the alias's published scores were made with, else
            `chat` where there is a chat template, and `pair` where there is none.
        output: which of the model's outputs is the score.
        negate: take minus the output, for models that say what an answer costs.
        max_length: tokens of prompt and answer; what is over is cut off at the end.
        batch_size: answers of equal length that run together.
        dtype: `auto` is float32 on a CPU, else bfloat16.
        device: `auto`, `cpu`, `cuda`, ...
    """

    model: str = "oasst_deberta_v3"
    form: str = ""
    output: int = 0
    negate: bool = False
    max_length: int = 8192
    batch_size: int = 16
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"


class HfReward(Reward):
    """A reward model on this machine.

    Only answers of exactly equal length share a batch, so nothing is ever padded: such a model reads its score off the
    last token, and where padding may stand for one, its scores change with the batch, as the published ones do.

    Raises:
        ModelError: the weights are missing, or the scoring head is none that transformers knows.
    """

    Config = HfConfig
    summary = "any sequence-classification reward model from a folder or a hub; PersonalLLM's ten by name"
    source = "PersonalLLM, arXiv 2409.20296, section 2; transformers AutoModelForSequenceClassification"

    def __init__(self, config: HfConfig) -> None:
        if config.max_length < 1 or config.batch_size < 1:
            raise ConfigError(f"reward 'hf': max_length = {config.max_length}, batch_size = {config.batch_size}; min 1")
        self.config = config
        known = PUBLISHED.get(config.model)
        if known and known.own_class:
            raise ModelError(f"reward model {config.model!r} is of a class of its own, {known.own_class}; {_WAY_OUT}")
        resolved = models.resolve(known.model if known else config.model)
        self._device = pick_device(config.device)
        self._model, self._tokenizer = _load(resolved, self._dtype)
        self._model.to(self._device)
        self._form = config.form or (known.form if known else "chat" if self._tokenizer.chat_template else "pair")
        if self._form == "chat" and not self._tokenizer.chat_template:
            raise ConfigError(f"reward 'hf': {config.model!r} has no chat template; set form to pair or to a template")
        start = self._tokenizer.bos_token
        itself = start and self._tokenizer("")["input_ids"][:1] == [self._tokenizer.bos_token_id]
        self._start = start if itself else ""  # what the tokenizer writes before a text, chat templates too
        parts = (self._form, config.output, config.negate, config.max_length)
        self.key = f"hf:{resolved.identity}:{':'.join(map(str, parts))}"

    @property
    def _dtype(self) -> Any:
        import torch

        named = "float32" if self._device == "cpu" else "bfloat16"
        return getattr(torch, named if self.config.dtype == "auto" else self.config.dtype)

    @override
    def score(
        self, prompts: Sequence[str], answers: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> Scores:
        rows = [self._encoded(p, a) for p, a in zip(prompts, answers, strict=True)]
        scores = np.zeros(len(rows))
        for batch in _alike([len(row["input_ids"]) for row in rows], self.config.batch_size):
            scores[batch] = self._run([rows[i] for i in batch])
            if progress:
                progress(len(batch))
        return -scores if self.config.negate else scores

    def _encoded(self, prompt: str, answer: str) -> dict[str, list[int]]:
        cut = {"truncation": True, "max_length": self.config.max_length}
        if self._form == "pair":
            return dict(self._tokenizer(prompt, answer, **cut))
        if self._form == "chat":
            chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            text = self._tokenizer.apply_chat_template(chat, tokenize=False)
            return dict(self._tokenizer(text.removeprefix(self._start), add_special_tokens=bool(self._start), **cut))
        text = fill(self._form, {"prompt": prompt, "answer": answer}, "reward 'hf': form")
        return dict(self._tokenizer(text, **cut))

    def _run(self, rows: Sequence[dict[str, list[int]]]) -> Scores:
        import torch

        names = ["input_ids", "attention_mask"]
        if getattr(self._model.config, "type_vocab_size", 0) > 1:
            names.append("token_type_ids")
        inputs = {k: torch.tensor([row[k] for row in rows], device=self._device) for k in names if k in rows[0]}
        with torch.inference_mode():
            logits = self._model(**inputs).logits.float()  # [b, outputs]
        return logits[:, self.config.output].cpu().numpy().astype(np.float64)


def _alike(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Positions in batches of equal lengths, the longest first."""
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for i, length in enumerate(lengths):
        by_length[length].append(i)
    for length in sorted(by_length, reverse=True):
        same = by_length[length]
        yield from (same[at : at + size] for at in range(0, len(same), size))


def _load(resolved: models.ResolvedModel, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with loading(resolved):
        tokenizer = AutoTokenizer.from_pretrained(resolved.location, revision=resolved.revision)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            resolved.location, revision=resolved.revision, dtype=dtype, output_loading_info=True
        )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])[0]
        raise ModelError(
            f"reward model {resolved.name!r} has no weight {missing!r}: it is no sequence-classification model, or "
            f"one of a class of its own; {_WAY_OUT}"
        )
    model.config.pad_token_id = _NO_PADDING
    return model.requires_grad_(False).eval(), tokenizer
