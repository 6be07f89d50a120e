"""Examples as lm_eval carries them, JSON-like documents with the user's profile in them, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from personaplug.core.config import from_mapping, to_mapping
from personaplug.core.types import Behavior, Example, History, Message, Request
from personaplug.tasks.base import TaskInfo

_FORMAT = "personaplug.example"


class Docs(list[dict[str, Any]]):
    """A split as lm_eval reads it; plain dictionaries, since Arrow tables would copy each profile for each question."""

    @property
    def features(self) -> dict[str, None]:
        """The names of a document's fields, as of a `datasets.Dataset`."""
        return dict.fromkeys(self[0])


def to_docs(examples: Iterable[Example], info: TaskInfo) -> Docs:
    """A document for each example of one user message."""
    task = to_mapping(info)
    return Docs(
        {
            "format": _FORMAT,
            "id": example.id,
            "user": example.request.user,
            "input": example.request.messages[-1].content,
            "query": example.request.query,
            "at": example.request.at,
            "target": example.target,
            "options": list(example.options),
            "profile": [_plain(b) for b in example.history],
            "task": task,
        }
        for example in examples
    )


def is_example(doc: Any) -> bool:
    """Whether a document was made here; those of other tasks know no user."""
    return isinstance(doc, Mapping) and doc.get("format") == _FORMAT


def to_example(doc: Mapping[str, Any]) -> Example:
    """The example that a document was made of."""
    user = doc["user"]
    history = History(user, tuple(Behavior(user=user, **item) for item in doc["profile"]))
    request = Request(user, (Message("user", doc["input"]),), doc["query"], doc["at"])
    return Example(doc["id"], request, history, doc["target"], tuple(doc["options"]))


def to_info(doc: Mapping[str, Any]) -> TaskInfo:
    """The task that a document belongs to."""
    return _info(json.dumps(doc["task"], sort_keys=True))


@lru_cache(maxsize=64)
def _info(task: str) -> TaskInfo:
    return from_mapping(TaskInfo, json.loads(task), where="an lm_eval document's task")


def _plain(behavior: Behavior) -> dict[str, Any]:
    item = {f.name: getattr(behavior, f.name) for f in dataclasses.fields(behavior) if f.name != "user"}
    return {**item, "fields": dict(behavior.fields)}
