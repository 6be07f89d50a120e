"""What clients send, in OpenAI's words: checked here, plain data behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from personaplug.core.errors import did_you_mean
from personaplug.core.types import MAX_STRENGTH, Message, Role

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
    def _lay_aside(cls, data: Any) -> Any:
        """Drop what changes nothing; refuse what would and cannot."""
        if not isinstance(data, dict):
            return data
        for field, neutral in _NEUTRAL.items():
            if field in data and field not in cls.model_fields and data[field] not in neutral:
                raise PydanticCustomError("refused", "{field} is not supported; leave it out", {"field": field})
        aside = (_IGNORED | set(_NEUTRAL)) - set(cls.model_fields)
        return {key: value for key, value in data.items() if key not in aside}


class Extension(Body):
    """What only this server understands.

    Attributes:
        behaviors: how many that carried the persona shall be named in the response.
        strength: of the persona: 1 as measured, 0 nobody, above 1 exaggerated; by default the method's own.
        no_repeat_ngram: no so many tokens come up twice in an answer; 0: no such rule.
    """

    behaviors: int = Field(5, ge=0, le=100)
    strength: float | None = Field(None, ge=0, le=MAX_STRENGTH)
    no_repeat_ngram: int | None = Field(None, ge=0, le=64)


class TextPart(Body):
    """A part of a message; text is all that is read."""

    type: Literal["text"]
    text: Text


class MessageBody(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: str | None = None

    _ROLES: ClassVar[Mapping[str, Role]] = {
        "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
    }  # fmt: skip

    def message(self) -> Message:
        """As the rest of the package has it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(self._ROLES[self.role], text)


class StreamOptions(Body):
    """How an answer is streamed."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(_OpenAI):
    """What chats and completions have in common."""

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
        """What the body says of its user, by field."""
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
        """What the body says of its user, by field."""
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
        """What the body says of its user, by field."""
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


class UserBody(Body):
    """`POST /v1/users`."""

    id: Name


class EditBody(Body):
    """`PUT .../history/{id}`: all of a behaviour's content."""

    input: Text = ""
    output: Text
    at: float | str | None = None
    rating: float | None = Field(None, ge=0, le=1)
    fields: dict[str, str] | None = None


class ExplainBody(Body):
    """`POST .../explain`: a request, as messages or as one text."""

    model: Name
    messages: list[MessageBody] | None = Field(None, min_length=1, max_length=4096)
    input: Text | None = None
    limit: int = Field(20, ge=1, le=1000)

    def conversation(self) -> tuple[Message, ...] | None:
        """The request's messages; None where there is neither or both."""
        if (self.messages is None) == (self.input is None):
            return None
        if self.messages is not None:
            return tuple(m.message() for m in self.messages)
        return (Message("user", self.input or ""),)


class FeedbackBody(Body):
    """`POST .../feedback`: how an answer was liked, or what would have been better.

    Attributes:
        id: the answer's id, so that saying it twice counts once.
        input: what was asked.
        output: the answer.
        rating: how much it was liked, in [0, 1].
        preferred: what the user would rather have read.
    """

    id: Name | None = None
    input: Text
    output: Text
    rating: float | None = Field(None, ge=0, le=1)
    preferred: Text | None = Field(None, min_length=1)
