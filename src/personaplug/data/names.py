"""What hides who the users of a data set are."""

from __future__ import annotations

import hashlib
import re

_ADDRESS = re.compile(r"[\w.+%=-]+@[\w-]+(?:\.[\w-]+)+")


def pseudonym(identity: str) -> str:
    """A stable short name that does not show the identity it stands for.

    >>> pseudonym("someone@example.org")
    'u79a612'
    """
    return "u" + hashlib.sha256(identity.encode()).hexdigest()[:6]


def hide_addresses(text: str) -> str:
    """The text with each e-mail address replaced.

    >>> hide_addresses("write to a.b@example.org!")
    'write to <email>!'
    """
    return _ADDRESS.sub("<email>", text)
