"""Every error a user can cause: each names the thing, the value and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PersonaplugError(Exception):
    """Base of all errors that personaplug raises on purpose; the command prints it as one line and exits with 2."""


class ConfigError(PersonaplugError):
    """A configuration key or value is wrong."""


class DataError(PersonaplugError):
    """A behaviour, a history file or a benchmark file is malformed."""


class UnknownNameError(PersonaplugError):
    """A name that no shelf, bundle or task has."""


class UnknownUserError(PersonaplugError):
    """The store holds no such user."""


class ConflictError(PersonaplugError):
    """A behaviour id is stored already with other content."""


class MismatchError(PersonaplugError):
    """Two parts do not fit: a method and a backbone, or an artifact and what it was trained against."""


class ModelError(PersonaplugError):
    """A model's weights are missing, damaged or unusable here."""


class BusyError(PersonaplugError):
    """More is asked for than can be done now; the same request may succeed later."""


class MissingExtraError(PersonaplugError):
    """A library that an extra would have installed is missing."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End of an error line: the nearest known name where one is near, else all of them.

    >>> did_you_mean("plugg", ["plug", "none"])
    "did you mean 'plug'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(known) or 'none'}"
