"""One OpenAI-compatible server through the official client: requests side by side, and its errors in one line each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import openai

from personaplug.core.errors import BusyError, ConfigError, DataError, ModelError, PersonaplugError, did_you_mean
from personaplug.core.types import Prompt, Sampling

T = TypeVar("T")

_SHOWN = 300  # characters of what a server says of an error


class Remote:
    """A server and a model there.

    Args:
        what: the backbone's name, for errors.
        base_url: where the server's addresses begin, usually with `/v1` at the end.
        model: its name there.
        api_key_env: the environment variable that holds the key, or "" for a server that asks for none.
        timeout: seconds for one request.
        parallel: requests at once.

    Raises:
        ConfigError: the variable is not set, or the address is none.
    """

    def __init__(
        self, what: str, base_url: str, model: str, *, api_key_env: str, timeout: float, parallel: int
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"backbone {what!r}: base_url = {base_url!r} is no address; give http://HOST:PORT/v1")
        if not model:
            raise ConfigError(f"backbone {what!r}: no model is named; set model as GET {base_url}/models lists it")
        if timeout <= 0 or parallel < 1:
            raise ConfigError(
                f"backbone {what!r}: timeout = {timeout:g}, parallel = {parallel}; give seconds above 0, and 1 or more"
            )
        # Never the key that the library finds by itself: it may be another server's.
        key = os.environ.get(api_key_env, "") if api_key_env else "none"
        if not key:
            raise ConfigError(
                f"backbone {what!r}: the environment variable {api_key_env} holds no key; set it, or set "
                "api_key_env = '' for a server that asks for none"
            )
        self.what, self.base_url, self.model = what, base_url, model
        self.api_key_env, self.timeout, self.parallel = api_key_env, timeout, parallel
        self.client = openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout)

    def each(self, ask: Callable[[Prompt], T], prompts: Sequence[Prompt]) -> list[T]:
        """What `ask` gives for each prompt, in order; several run at once, and the first error ends it all."""
        if len(prompts) < 2:
            return [ask(p) for p in prompts]
        with ThreadPoolExecutor(min(self.parallel, len(prompts)), "personaplug-remote") as pool:
            return list(pool.map(ask, prompts))

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Errors of the library become one line each that names the server, the cause and the way out."""
        try:
            yield
        except openai.OpenAIError as error:
            raise self._in_a_line(error) from error
        except json.JSONDecodeError as error:
            raise self.no_answer() from error

    def choices(self, create: Callable[..., Any], body: Mapping[str, Any]) -> Iterator[Any]:
        """The first choice of each of a stream's chunks; it is closed when nobody reads on."""
        chunk = None
        with self.translated_errors(), create(**body, stream=True) as chunks:
            for chunk in chunks:
                yield from chunk.choices[:1]
        if chunk is None:
            raise self.no_answer()

    def entry(self) -> Any:
        """What the server says of the model.

        Raises:
            ModelError: it has none of this name.
        """
        with self.translated_errors():
            served = {m.id: m for m in self.client.models.list()}
        if self.model not in served:
            raise ModelError(f"{self._at} serves no model {self.model!r}; {did_you_mean(self.model, served)}")
        return served[self.model]

    def no_answer(self) -> ModelError:
        """The error for a reply that is none of OpenAI's."""
        return ModelError(
            f"{self._at} replied with something else than an answer; give the base_url of an OpenAI-compatible server "
            "(it usually ends with /v1)"
        )

    @property
    def _at(self) -> str:
        return f"backbone {self.what!r}: the server {self.base_url}"

    def _in_a_line(self, error: openai.OpenAIError) -> PersonaplugError:
        said = _line(getattr(error, "message", error))
        kind: type[PersonaplugError] = ModelError
        match error:
            case openai.APITimeoutError():
                kind, words = BusyError, f"gave no answer within {self.timeout:g} s; try again, or raise timeout"
            case openai.APIConnectionError():
                words = f"is not reached ({_line(error.__cause__ or said)}); start it, or correct base_url"
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                held = f"the key in {self.api_key_env}" if self.api_key_env else "requests without a key"
                words = f"refuses {held} ({error.status_code}); set api_key_env to a good key's name"
            case openai.NotFoundError():
                words = f"has no model {self.model!r}, or no such address ({said}); correct model or base_url"
            case openai.RateLimitError():
                kind, words = BusyError, f"takes no more now (429: {said}); try again later, or lower parallel"
            case openai.APIStatusError() if error.status_code < 500:
                # What was asked is at fault, and whoever asked is words: not where the model runs.
                return DataError(
                    f"model {self.model!r} refuses this ({error.status_code}: {said}); change what it names"
                )
            case openai.APIStatusError():
                words = f"failed ({error.status_code}: {said}); look into its log"
            case _:
                words = f"broke off ({said}); look into its log"
        return kind(f"{self._at} {words}")


def _line(said: object) -> str:
    return " ".join(str(said).split())[:_SHOWN]


def finish_of(reason: str | None) -> Literal["stop", "length"]:
    """Why an answer ended, by what the server gives as its reason: servers have more of them than we tell apart."""
    return "length" if reason == "length" else "stop"


def sampled(sampling: Sampling) -> dict[str, Any]:
    """How to decode, in the words that chats and completions share."""
    given: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.stop:
        given["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        given["seed"] = sampling.seed
    return given
