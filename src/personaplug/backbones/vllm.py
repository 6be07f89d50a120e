"""A model that vLLM serves, with soft tokens: prompts are tokenized and embedded here and sent as embeddings.

    messages ── template, tokenizer ──► ids [n] ──────────────────────────────► completions, prompt = ids
                                          │
                      embeddings of the model, held here
                                          ▼
    prefix [k, d] ───── in its place ──► rows [n + k, d] ── float16, base64 ──► completions, prompt_embeds = rows

Shapes: n: tokens, k: prefix tokens, d: the model's width.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from openai.types import Completion as Reply
from torch import Tensor
from typing_extensions import override

from personaplug import models
from personaplug.backbones.local.chat import chat_text
from personaplug.backbones.local.tokens import TokenizedBackbone, with_prefix
from personaplug.backbones.remote.backbone import RemoteBackbone
from personaplug.backbones.remote.client import Remote, finish_of, sampled
from personaplug.backbones.remote.embedding import load_embedding, load_tokenizer
from personaplug.core.errors import DataError
from personaplug.core.types import Completion, Conditioning, Message, Prompt, Sampling

# What a server would else take from the model's own generation config.
_PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True)
class VllmConfig:
    """Which model, and where it is served.

    Attributes:
        model: a bundle's name, a folder or a hub id of the weights that the server serves; their tokenizer and token
            embeddings are loaded here, nothing else.
        served: its name on the server (`--served-model-name`); "" for the same as `model`.
        base_url: where the server's addresses begin.
        api_key_env: the environment variable that holds the key (never the key itself), or "" where there is none.
        timeout: seconds for one request; the library tries twice more after a timeout, a lost connection, a 429 or a
            5xx.
        parallel: requests at once; the server batches them.
    """

    model: str = "smollm2-135m"
    served: str = ""
    base_url: str = "http://127.0.0.1:8000/v1"
    api_key_env: str = ""
    timeout: float = 120.0
    parallel: int = 32


class VllmBackbone(RemoteBackbone, TokenizedBackbone):
    """A frozen decoder-only model behind `vllm serve MODEL --enable-prompt-embeds`.

    It takes what was trained against `causal` with the same weights: both have one key. That the server really serves
    these weights is its operator's word; checked are the model's name there, and the length that it reads.
    """

    Config = VllmConfig
    summary = "a model that vLLM serves elsewhere; text and soft tokens, no training, no scores"
    source = "vLLM's completions with prompt_embeds"
    accepts = Conditioning.TEXT | Conditioning.PREFIX

    def __init__(self, config: VllmConfig) -> None:
        self.config = config
        self._remote = Remote(
            "vllm", config.base_url, config.served or config.model,
            api_key_env=config.api_key_env, timeout=config.timeout, parallel=config.parallel,
        )  # fmt: skip
        served = self._remote.entry()
        resolved = models.resolve(config.model)
        embedding, context = load_embedding(resolved)
        context = min(context, getattr(served, "max_model_len", None) or context)
        super().__init__(f"causal:{resolved.identity}", load_tokenizer(resolved), embedding, torch.float16, context)

    @override
    def _text(self, messages: Sequence[Message]) -> str:
        return chat_text(self.tokenizer, messages)

    # -- what is sent -----------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def rows(self, prompt: Prompt) -> Tensor:
        """All of a prompt with its prefix in its place [n + k, d], in half precision.

        Raises:
            DataError: the prefix is of another width, no real numbers, or more than the model reads. A server that is
                given such rows may stop for everybody.
        """
        given = torch.as_tensor(prompt.prefix)
        if not given.is_floating_point():
            raise DataError(f"a prefix is of {given.dtype}, but {self.key!r} reads float16 rows; give real numbers")
        prefix = self.soft(prompt)
        if not len(prefix) or not prefix.isfinite().all():
            raise DataError(
                f"a prefix of shape {tuple(prefix.shape)} is empty or has numbers that float16 does not hold; train "
                "the method again at a lower rate, or use a backbone in this process"
            )
        if self.left_length(prompt) >= self.context:
            raise DataError(
                f"a prompt has {self.left_length(prompt)} tokens with its prefix, but {self.key!r} reads at most "
                f"{self.context}; shorten it"
            )
        return with_prefix(self.embed(self.prompt_ids(prompt.messages)).half(), prefix, prompt.position)

    def _body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        self.check(prompt.needs, "a prompt")
        self.check_sampling(sampling)
        extra: dict[str, Any] = {**_PLAIN, "return_token_ids": True}
        if ends := sorted({self.tokenizer.eos_token_id, self.end_of_turn} - {None}):
            extra["stop_token_ids"] = ends
        # Not "", which vLLM 0.32 takes for another prompt, and refuses for being empty.
        ids: list[int] | None = None
        if prompt.prefix is None:
            ids = self.prompt_ids(prompt.messages)
        else:
            extra["prompt_embeds"] = packed(self.rows(prompt))
            extra["cache_salt"] = salt(self.soft(prompt))
        return {
            "model": self._remote.model,
            "prompt": ids,
            # A server refuses more than it reads, whatever the answer's length would be.
            "max_tokens": min(sampling.max_tokens, self.context - self.left_length(prompt)),
            **sampled(sampling),
            "extra_body": extra,
        }

    # -- what a backbone does ---------------------------------------------------------------------------------------

    @override
    def _answer(self, prompt: Prompt, sampling: Sampling) -> Completion:
        if sampling.max_tokens <= 0:  # which the server refuses
            return Completion("", (), self.left_length(prompt), "length")
        body = self._body(prompt, sampling)
        with self._remote.translated_errors():
            reply = self._remote.client.completions.create(**body)
        if not isinstance(reply, Reply) or not reply.choices:
            raise self._remote.no_answer()
        [choice, *_] = reply.choices
        return self._whole(prompt, choice.text, getattr(choice, "token_ids", None), choice.finish_reason)

    @override
    def follow(self, prompt: Prompt, sampling: Sampling) -> Iterator[str | Completion]:
        if sampling.max_tokens <= 0:
            yield self._answer(prompt, sampling)
            return
        text, ended, ids = "", None, list[int]()
        for choice in self._remote.choices(self._remote.client.completions.create, self._body(prompt, sampling)):
            ids += getattr(choice, "token_ids", None) or []
            ended = choice.finish_reason
            if choice.text:
                text += choice.text
                yield choice.text
        yield self._whole(prompt, text, ids or None, ended)

    def _whole(self, prompt: Prompt, text: str, ids: Sequence[int] | None, ended: str | None) -> Completion:
        """An answer with its token ids, but for the one that ended it."""
        finish = finish_of(ended)
        if ids is None:  # of an older server
            ids = self.text_ids(text)
        elif finish == "stop" and ids and ids[-1] in {self.end_of_turn, *self.tokenizer.all_special_ids}:
            ids = ids[:-1]
        return Completion(text, tuple(ids), self.left_length(prompt), finish)


def packed(rows: Tensor) -> str:
    """Rows [t, d] as the server reads them: a saved tensor in base64."""
    file = io.BytesIO()
    torch.save(rows.cpu().contiguous(), file)
    return base64.b64encode(file.getvalue()).decode("ascii")


def salt(prefix: Tensor) -> str:
    """What keeps the server's cached states of this prefix [k, d] to those who send the same one: a hash of it.

    Equal personas share, others never do; who cannot compute a persona cannot guess whose prompts were served.
    """
    return hashlib.sha256(prefix.cpu().contiguous().numpy().tobytes()).hexdigest()
