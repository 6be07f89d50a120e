"""SpamAssassin corpus: wanted mails of 2002; a behaviour is the subject that someone gave to what they wrote."""

from __future__ import annotations

import email
import email.policy
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC
from email.message import EmailMessage
from email.utils import parseaddr, parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

from personaplug.core.types import Behavior
from personaplug.data.names import hide_addresses, pseudonym

LONGEST = 2000
"""Characters of a mail that are read, from its beginning."""
FEWEST = 20
"""Mails that a sender must have in the corpus to be taken."""

# Senders that are programs or newsletters: news feeds, headlines, a bug tracker.
_PROGRAMS = frozenset({"u29213b", "u485619", "u56a143", "u68f387"})
# What programs put before a subject: reply marks and the names of mailing lists.
_MARKS = re.compile(r"^(?:\s*(?:(?:re|fwd?|aw)(?:\[\d+\])?\s*:|\[[^\]]*\]))+", re.IGNORECASE)
_QUOTED = re.compile(r"^\s*(?:[>|]|.*\b(?:wrote|writes|said)\s*:\s*$)")


class _Mail(NamedTuple):
    sender: str
    id: str
    subject: str
    body: str
    at: float


def read(file: Path) -> Iterator[Behavior]:
    """Behaviours by user, oldest first; of a user's mails in one thread only the first, since they share a subject."""
    by_sender: defaultdict[str, list[_Mail]] = defaultdict(list)
    for mail in _mails(file):
        by_sender[mail.sender].append(mail)
    for sender in sorted(by_sender):
        if len(by_sender[sender]) < FEWEST or sender in _PROGRAMS:
            continue
        threads: set[str] = set()
        for mail in sorted(by_sender[sender], key=lambda m: (m.at, m.id)):
            thread = mail.subject.casefold()
            if mail.subject and mail.body and thread not in threads:
                threads.add(thread)
                yield Behavior(user=sender, id=mail.id, input=mail.body, output=mail.subject, at=mail.at)


def _mails(file: Path) -> Iterator[_Mail]:
    with tarfile.open(file) as archive:
        for member in archive:
            if "/data/" not in member.name or "-ham-" not in member.name or not member.name.endswith(".json"):
                continue
            content = archive.extractfile(member)
            assert content is not None
            record: dict[str, Any] = json.load(content)
            mail = _mail(f"{record['group']}/{record['id']}", record["text"])
            if mail is not None:
                yield mail


def _mail(name: str, text: str) -> _Mail | None:
    """None where the sender or the date cannot be read."""
    message = email.message_from_string(text, policy=email.policy.default)
    address = parseaddr(str(message["from"] or ""))[1].lower()
    try:
        date = parsedate_to_datetime(str(message["date"] or ""))
    except ValueError:
        return None
    if not address:
        return None
    at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    subject = hide_addresses(_MARKS.sub("", " ".join(str(message["subject"] or "").split())).strip())
    return _Mail(pseudonym(address), name, subject, _own_words(message), at)


def _own_words(message: EmailMessage) -> str:
    """The plain text without quotations and signature, its addresses hidden."""
    part = message.get_body(("plain",))
    if part is None:
        return ""
    lines: list[str] = []
    for line in part.get_content().splitlines():
        if line.rstrip() == "--":  # the signature follows
            break
        if not _QUOTED.match(line):
            lines.append(line.rstrip())
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return hide_addresses(text)[:LONGEST]
