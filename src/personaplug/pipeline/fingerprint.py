"""Digests of all that a training or a measurement depends on: what has the same digest is not done twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personaplug.core import registry
from personaplug.core.config import with_retired
from personaplug.core.types import Behavior, Example
from personaplug.training.config import TrainingConfig

# Sections that do not change the numbers.
_IGNORED = ("store", "methods", "bench")


def fingerprint(run: Mapping[str, Any], **more: Any) -> str:
    """16 hex digits of a run as plain data and of whatever else counts."""
    plain = {k: v for k, v in run.items() if k not in _IGNORED}
    if method := plain.get("method"):
        plain["method"] = with_retired(registry.find("method", method["name"]).Config, method)
    if training := plain.pop("training", None):
        plain |= {"training": with_retired(TrainingConfig, training)} if more.get("trained") else {}
    return _digest([json.dumps([plain, more], sort_keys=True)])


def content(examples: Sequence[Example]) -> str:
    """16 hex digits of the examples' ids, messages, histories, targets and options, in their order."""
    behaviors: dict[int, str] = {}  # many histories share one behaviour: each object is read once

    def digest(behavior: Behavior) -> str:
        known = behaviors.get(id(behavior))
        if known is None:
            texts = [behavior.user, behavior.id, behavior.input, behavior.output, str(behavior.at)]
            known = _digest([*texts, str(behavior.rating), json.dumps(dict(behavior.fields), sort_keys=True)])
            behaviors[id(behavior)] = known
        return known

    return _digest(
        _digest(
            [e.id, e.target, *e.options, e.request.query, *(f"{m.role}:{m.content}" for m in e.request.messages)]
            + [digest(b) for b in e.history]
        )
        for e in examples
    )


def pseudonym(name: str) -> str:
    """12 hex digits in the place of a user's name or a request's id, since results are passed on.

    The same name always has the same one. Whoever knows a name can find its pseudonym: it hides names from readers, not
    from those who try them.
    """
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def portable(value: Any) -> Any:
    """Plain data with absolute paths cut to their last part: results are read on other machines."""
    if isinstance(value, Mapping):
        return {k: portable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [portable(v) for v in value]
    return Path(value).name if isinstance(value, (str, Path)) and Path(value).is_absolute() else value


def _digest(texts: Any) -> str:
    h = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()
