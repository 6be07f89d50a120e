"""Any OpenAI-compatible chat server through the official client: closed models too, so text methods only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from openai.types.chat import ChatCompletion
from typing_extensions import override

from personaplug import models
from personaplug.backbones.local.chat import cut_text
from personaplug.backbones.remote.backbone import RemoteBackbone
from personaplug.backbones.remote.client import Remote, finish_of, sampled
from personaplug.backbones.remote.embedding import load_tokenizer
from personaplug.core.types import Completion, Conditioning, Prompt, Sampling

_CHARACTERS = 4  # of a token, where there is no tokenizer: about what English text has


@dataclass(frozen=True, slots=True)
class OpenAIConfig:
    """Which server and which model there.

    Attributes:
        model: its name on the server.
        base_url: where the server's addresses begin.
        api_key_env: the environment variable that holds the key (never the key itself: configurations are stored in
            results and artifacts), or "" for a server that asks for none.
        timeout: seconds for one request; the library tries twice more after a timeout, a lost connection, a 429 or a
            5xx.
        parallel: requests at once.
        tokenizer: whose tokens budgets are counted in: a bundle's name, a folder or a hub id; "" takes
            4 characters for a token.
        limit: what the server calls the limit of an answer's tokens; OpenAI's newer models want
            `max_completion_tokens`.
        omit: what else the model refuses and is then not sent: `temperature`, `top_p`, `stop`, `seed`.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    parallel: int = 8
    tokenizer: str = ""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    omit: tuple[Literal["temperature", "top_p", "stop", "seed"], ...] = ()


class OpenAIBackbone(RemoteBackbone):
    """A chat model behind OpenAI's protocol. No user is named to it: what a method writes is all it learns of them."""

    Config = OpenAIConfig
    summary = "any OpenAI-compatible chat server, closed models too; text only, no scores"
    source = "OpenAI chat completions"
    accepts = Conditioning.TEXT

    def __init__(self, config: OpenAIConfig) -> None:
        self.config = config
        self.key = f"openai:{config.model}@{urlsplit(config.base_url).netloc.rpartition('@')[2]}"
        self._remote = Remote(
            "openai", config.base_url, config.model,
            api_key_env=config.api_key_env, timeout=config.timeout, parallel=config.parallel,
        )  # fmt: skip
        self._tokenizer = load_tokenizer(models.resolve(config.tokenizer)) if config.tokenizer else None

    @override
    def _answer(self, prompt: Prompt, sampling: Sampling) -> Completion:
        if sampling.max_tokens <= 0:  # which servers refuse
            return Completion("", (), self._read(prompt), "length")
        with self._remote.translated_errors():
            answer = self._remote.client.chat.completions.create(**self._body(prompt, sampling))
        if not isinstance(answer, ChatCompletion) or not answer.choices:
            raise self._remote.no_answer()
        [choice, *_] = answer.choices
        text = choice.message.content or ""
        usage = answer.usage
        return Completion(
            text,
            # Their ids are not reported, their number is; thoughts that are not shown count among them.
            tuple(range(usage.completion_tokens if usage else self.count(text))),
            usage.prompt_tokens if usage else self._read(prompt),
            finish_of(choice.finish_reason),
        )

    @override
    def follow(self, prompt: Prompt, sampling: Sampling) -> Iterator[str | Completion]:
        text, ended = "", "length"
        create = self._remote.client.chat.completions.create
        if sampling.max_tokens > 0:
            for choice in self._remote.choices(create, self._body(prompt, sampling)):
                if piece := choice.delta.content:
                    text += piece
                    yield piece
                ended = choice.finish_reason
        yield Completion(text, tuple(range(self.count(text))), self._read(prompt), finish_of(ended))

    @override
    def count(self, text: str) -> int:
        if self._tokenizer is None:
            return -(-len(text) // _CHARACTERS)
        return len(self._tokenizer(text, add_special_tokens=False).input_ids)

    @override
    def cut(self, text: str, tokens: int) -> str:
        if self._tokenizer is None:
            return text[: max(tokens, 0) * _CHARACTERS]
        return cut_text(self._tokenizer, text, tokens)

    def _read(self, prompt: Prompt) -> int:
        return sum(self.count(m.content) for m in prompt.messages)

    def _body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        self.check(prompt.needs, "a prompt")
        self.check_sampling(sampling)
        given = {k: v for k, v in sampled(sampling).items() if k not in self.config.omit}
        return {
            "model": self.config.model,
            "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
            self.config.limit: sampling.max_tokens,
            **given,
        }
