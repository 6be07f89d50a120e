"""Request and response bodies of OpenAI's API: requests are checked here, and are plain data behind."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from personaplug.core.errors import did_you_mean
from personaplug.core.types import MAX_STRENGTH, Completion, Message, Role, TokenLogprob

Text = Annotated[str, Field(max_length=2_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Stops = Annotated[list[Stop], Field(max_length=16)]

# Fields that change nothing here: how a vendor bills, stores or caches, or hints for models that think.
_IGNORED = frozenset(
    {"service_tier", "store", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort",
     "verbosity", "prompt_cache_options"}
)  # fmt: skip
# Fields that would change the answer and are not supported, with what they may say anyway.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "suffix": (None, ""),
    "best_of": (None, 1),
}


class Body(BaseModel):
    """A request's body: every field is known, no type is guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _know_fields(cls, data: Any) -> Any:
        """Refuse a field that is not known, with the one that may be meant."""
        unknown = next((key for key in data if key not in cls.model_fields), None) if isinstance(data, dict) else None
        if unknown is not None:
            end = did_you_mean(unknown, cls.model_fields)
            raise PydanticCustomError("unknown", "unknown field {field}; {end}", {"field": ascii(unknown), "end": end})
        return data


class _OpenAI(Body):
    """A body that clients of OpenAI may fill with more than is served here."""

    @model_validator(mode="before")
    @classmethod
    def _drop_unused(cls, data: Any) -> Any:
        """Drop fields that change nothing here; refuse those that would and are not supported."""
        if not isinstance(data, dict):
            return data
        for field, neutral in _NEUTRAL.items():
            if field in data and field not in cls.model_fields and data[field] not in neutral:
                raise PydanticCustomError("refused", "{field} is not supported; leave it out", {"field": field})
        unused = (_IGNORED | set(_NEUTRAL)) - set(cls.model_fields)
        return {key: value for key, value in data.items() if key not in unused}


class Extension(Body):
    """Options of this server's own.

    Attributes:
        behaviors: how many that carried the persona are named in the response.
        strength: of the persona: 1 as measured, 0 nobody, above 1 exaggerated; by default the method's own.
        no_repeat_ngram: no n-gram of so many tokens comes up twice in an answer; 0: no such rule.
    """

    behaviors: int = Field(5, ge=0, le=100)
    strength: float | None = Field(None, ge=0, le=MAX_STRENGTH)
    no_repeat_ngram: int | None = Field(None, ge=0, le=64)


class TextPart(Body):
    """A part of a message; text is all that is read, under whichever name a client gives it."""

    type: Literal["text"]
    text: Text

    _TEXTS: ClassVar[Mapping[str, str]] = {
        "text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal",
    }  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _read_kind(cls, data: Any) -> Any:
        """Refuse a part of another kind by that kind's name."""
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            return data
        kind, data = data["type"], _without_silent(data, _SILENT_IN_PARTS)
        if kind not in cls._TEXTS:
            raise PydanticCustomError("refused", "{field} is not supported; send parts of text", {"field": kind})
        field = cls._TEXTS[kind]
        return {"text" if key == field else key: value for key, value in {**data, "type": "text"}.items()}


class MessageBody(Body):
    """One turn of a conversation, as clients write it or send an earlier answer back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: str | None = None

    _ROLES: ClassVar[Mapping[str, Role]] = {
        "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    }  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _drop_silent(cls, data: Any) -> Any:
        """Drop what says nothing; refuse what the model would have to know and cannot: tools and sound."""
        if not isinstance(data, dict):
            return data
        if data.get("role") in ("tool", "function"):
            context = {"field": repr(data["role"]), "param": "role"}
            raise PydanticCustomError("refused", "role {field} is not supported: no tools are run here", context)
        for field in ("tool_calls", "function_call", "audio", "tool_call_id"):
            if data.get(field) not in _NOTHING:
                raise PydanticCustomError("refused", "{field} is not supported; leave it out", {"field": field})
        content, refusal = data.get("content"), data.get("refusal")
        data = _without_silent(data, _SILENT_IN_MESSAGES)
        if data.get("role") == "assistant" and content is None:  # an answer that was refused, or empty
            return {**data, "content": refusal if isinstance(refusal, str) else ""}
        return data if content is None else {**data, "content": content}

    def message(self) -> Message:
        """As the rest of the package has it; parts are joined by a line break unless they bring white space along."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        text = parts[0] if parts else ""
        for part in parts[1:]:
            joined = not text or not part or text[-1].isspace() or part[0].isspace()
            text += part if joined else f"\n{part}"
        return Message(self._ROLES[self.role], text)


# Of messages and parts that clients send back: how a vendor caches, cites or numbers, and what a model thought.
_SILENT_IN_PARTS = frozenset({"annotations", "cache_control", "citations", "id", "logprobs"})
_SILENT_IN_MESSAGES = _SILENT_IN_PARTS | {
    "parsed", "provider_specific_fields", "reasoning", "reasoning_content", "reasoning_details", "refusal",
    "thinking_blocks",
}  # fmt: skip
_NOTHING: tuple[Any, ...] = (None, [], {}, "")


def _without_silent(data: Mapping[str, Any], silent: frozenset[str]) -> dict[str, Any]:
    """Without the fields that say nothing: these, and whatever is null or empty."""
    known = ("role", "content", "name", "type", "text")
    return {k: v for k, v in data.items() if k in known or (k not in silent and v not in _NOTHING)}


class StreamOptions(Body):
    """How an answer is streamed."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(_OpenAI):
    """The fields that chats and completions share."""

    model: Name
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=128)
    stop: Stop | Stops | None = None
    seed: int | None = Field(None, ge=-(2**62), le=2**62)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    personaplug: Extension | None = None

    @property
    def stops(self) -> tuple[str, ...] | None:
        """The texts that end an answer; None leaves the method's own."""
        return None if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def claims(self) -> dict[str, str | None]:
        """The users that the body names, by field."""
        return {"user": self.user}


class ChatBody(Generation):
    """`POST /v1/chat/completions`."""

    messages: list[MessageBody] = Field(min_length=1, max_length=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def claims(self) -> dict[str, str | None]:
        """The users that the body names, by field."""
        return {
            "user": self.user,
            "safety_identifier": self.safety_identifier,
            "metadata.user_id": (self.metadata or {}).get("user_id"),
        }

    @property
    def top(self) -> int | None:
        """Log-probabilities wanted: how many alternatives, or None for none at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(Generation):
    """`POST /v1/completions`; each prompt is read as a user's message."""

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=128)]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None
    metadata: dict[str, str] | None = None

    @property
    def prompts(self) -> list[str]:
        """One or many."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def claims(self) -> dict[str, str | None]:
        """The users that the body names, by field."""
        return {"user": self.user, "metadata.user_id": (self.metadata or {}).get("user_id")}


class EmbeddingBody(_OpenAI):
    """`POST /v1/embeddings`."""

    model: Name
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """One or many."""
        return [self.input] if isinstance(self.input, str) else self.input


# -- responses ---------------------------------------------------------------------------------------------------------


def new_id(kind: str) -> str:
    """A response's id."""
    return f"{kind}-{uuid.uuid4().hex}"


def event(data: dict[str, Any] | str) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def usage(completions: Iterable[Completion], n: int) -> dict[str, int]:
    """Tokens read and written; a prompt of several answers is read once."""
    all_ = list(completions)
    read, written = sum(c.prompt_tokens for c in all_[::n]), sum(len(c.tokens) for c in all_)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def head(id_: str, kind: str, model: str) -> dict[str, Any]:
    """The fields that every answer begins with."""
    return {"id": id_, "object": kind, "created": int(time.time()), "model": model}


# -- chats -------------------------------------------------------------------------------------------------------------


def chat_choice(
    index: int, completion: Completion, tokens: Sequence[TokenLogprob], *, logprobs: bool
) -> dict[str, Any]:
    """One finished answer."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": completion.text, "refusal": None},
        "logprobs": chat_logprobs(tokens) if logprobs else None,
        "finish_reason": completion.finish_reason,
    }


def chat_delta(index: int, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
    """A chunk of a streamed answer."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Log-probabilities of tokens, in the form of chats."""
    content = [
        {**_spelled(t.token, t.logprob), "top_logprobs": [_spelled(token, nats) for token, nats in t.top]}
        for t in tokens
    ]
    return {"content": content, "refusal": None}


def _spelled(token: str, nats: float) -> dict[str, Any]:
    return {"token": token, "logprob": _finite(nats), "bytes": list(token.encode())}


def _finite(nats: float) -> float:
    return max(nats, -9999.0)  # JSON has no infinity


# -- completions -------------------------------------------------------------------------------------------------------


def text_choice(
    index: int, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None
) -> dict[str, Any]:
    """One answer, or a chunk of it."""
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


def text_logprobs(tokens: Sequence[TokenLogprob], offset: int = 0) -> dict[str, Any]:
    """Log-probabilities of tokens, in the form of completions; the first token begins at `offset`."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [t.token for t in tokens],
        "token_logprobs": [_finite(t.logprob) for t in tokens],
        "top_logprobs": [{token: _finite(nats) for token, nats in t.top} for t in tokens],
        "text_offset": offsets,
    }
