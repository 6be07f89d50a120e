"""What users, behaviours and fields may be called: one rule for files, the API, the page, Python and the stores.

A name that passes can be put into an address, listed, exported, read back and erased. Case, blanks and Unicode normal
forms are left as they are: names that differ in any code point are different names.
"""

from __future__ import annotations

import re

TENANT_SEPARATOR = "\x1f"
"""Stands between a tenant and a user's name in a store; no name of a user may hold it."""

LONGEST_USER = 256  # characters, of a field's name too
LONGEST_ID = 1024  # characters of a behaviour's id, which may be a message id or an address

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 60  # characters of a value in an error


def name_fault(name: str, longest: int = LONGEST_USER) -> str:
    r"""Why nothing may be called so, as the end of a sentence; "" where it is a name.

    >>> name_fault("Ada Lovelace/1"), name_fault(".."), name_fault("a\n")
    ('', 'is a step in an address and names nothing', 'holds a control character')
    """
    if not name:
        return "must not be empty"
    if len(name) > longest:
        return f"is longer than {longest:,} characters"
    if name in {".", ".."}:
        return "is a step in an address and names nothing"
    if not name.isprintable():
        if _CONTROL.search(name):
            return "holds a control character"
        if _SURROGATE.search(name):
            return "holds half of a surrogate pair"
    return ""


def user_fault(user: str) -> str:
    """As `name_fault`, for a user's name in a store, where a tenant may stand before it."""
    if TENANT_SEPARATOR in user:
        return next(filter(None, map(name_fault, user.split(TENANT_SEPARATOR, 1))), "")
    return name_fault(user)


def is_name(name: str) -> bool:
    """Whether a user may be called so."""
    return not name_fault(name)


def has_half_surrogate(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which no encoding can write."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def quoted(value: object) -> str:
    """A value as errors show it: in quotes, escaped, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
