"""How people write, as habits that anyone can check by eye; and whether answers keep to their users' own.

A habit is there (1) or not (0) in a text, or does not apply (None). A profile says in what share of a person's texts
each is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from personaplug.core.errors import DataError

Profile = Mapping[str, float]
"""Habit -> share of a person's texts that have it, of those to which it applies."""

_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_EMOJI = re.compile(r"[\U0001F1E6-\U0001F1FF\U0001F300-\U0001FAFF☀-➿]|(?<!\w)[:;=]['-]?[()DPpOo3/|](?!\w)|<3|\^_?\^")
_MARK_AT_END = re.compile(r"[.!?…。！？~)\]\"'”’]\s*$")
_CONTRACTED = re.compile(
    r"\b(?:i'?m|i'?ve|don'?t|can'?t|won'?t|didn'?t|doesn'?t|isn'?t|wasn'?t|aren'?t|you'?re|that'?s|what'?s|they'?re|"
    r"couldn'?t|wouldn'?t|shouldn'?t|haven'?t|there'?s|he'?s|she'?s)\b",
    re.IGNORECASE,
)
_SLANG = re.compile(
    r"\b(?:u|ur|r|omg|idk|btw|tbh|imo|wtf|lol|lmao|rofl|thx|pls|plz|bc|cuz|gonna|wanna|gotta|kinda|sorta|ya|yea|nah|"
    r"haha(?:ha)*|hehe(?:he)*|dunno|lemme|ngl|fr|brb|ikr)\b",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"\s*(?:hi|hello|hey|heya|hiya|dear|good (?:morning|afternoon|evening)|greetings)\b", re.IGNORECASE
)
_SIGN_OFF = re.compile(
    r"(?:regards|cheers|sincerely|best|yours|thanks|thank you|love|bye|xo+|take care)[,.!]*(?:\s+[^\W\d_]+){0,2}[.!]*"
    r"\s*$",
    re.IGNORECASE,
)
_STRETCHED = re.compile(r"([^\W\d_])\1\1|[!?]{2,}")
_CAPITALS = re.compile(r"\b[^\W\d_]{2,}\b")
_FEW_WORDS = 5


def _lower_start(text: str) -> float | None:
    first = next((c for c in text if c.lower() != c.upper()), None)
    return None if first is None else float(first == first.lower())


def _final_stop(text: str) -> float | None:
    return float(text.rstrip().endswith(".")) if text.strip() else None


def _has(pattern: re.Pattern[str]) -> Callable[[str], float | None]:
    return lambda text: float(bool(pattern.search(text))) if text.strip() else None


def _mark(mark: str) -> Callable[[str], float | None]:
    return lambda text: float(mark in text) if text.strip() else None


def _apostrophes(text: str) -> float | None:
    words = _CONTRACTED.findall(text.replace("’", "'"))
    return fmean("'" in word for word in words) if words else None


def _all_caps(text: str) -> float | None:
    words = _CAPITALS.findall(text)
    return float(any(w == w.upper() and w != w.lower() for w in words)) if words else None


def _short(text: str) -> float | None:
    words = len(_WORD.findall(text))
    return float(words <= _FEW_WORDS) if words else None


HABITS: Mapping[str, Callable[[str], float | None]] = {
    "begins in lower case": _lower_start,
    "ends with a full stop": _final_stop,
    "ends without a mark": lambda text: None if not text.strip() else float(not _MARK_AT_END.search(text)),
    "exclamation marks": _mark("!"),
    "question marks": _mark("?"),
    "commas": _mark(","),
    "dots in a row": _has(re.compile(r"\.{2,}|…")),
    "emoji": _has(_EMOJI),
    "five words or fewer": _short,
    "apostrophes in don't, I'm": _apostrophes,
    "slang": _has(_SLANG),
    "greets": lambda text: float(bool(_GREETING.match(text))) if text.strip() else None,
    "signs off": _has(_SIGN_OFF),
    "words in capitals": _all_caps,
    "repeated letters or marks": _has(_STRETCHED),
}
"""Name -> the habit: 1, 0, or in between where a text does both; None where it does not apply."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well answers keep to a person's habit.

    Attributes:
        user: whose habit.
        habit: its name.
        share: of the person's own texts that have it.
        own: chance that an answer given as this person and a text of theirs have the habit alike.
        others: the same of the answers to the same questions given as other people.
    """

    user: str
    habit: str
    share: float
    own: float
    others: float


def profile(texts: Sequence[str]) -> dict[str, float]:
    """A person's habits from their own texts; those that never applied are left out.

    >>> profile(["yes.", "No."])["begins in lower case"]
    0.5
    """
    shares = {}
    for name, habit in HABITS.items():
        values = [value for text in texts if (value := habit(text)) is not None]
        if values:
            shares[name] = fmean(values)
    return shares


def strongest(own: Profile, everybody: Profile, count: int = 3) -> list[str]:
    """The habits in which a person differs most from everybody, the largest difference first; of equal ones by name.

    Args:
        own: the person's profile.
        everybody: the profile of all people's texts together.
        count: how many.
    """
    known = [name for name in own if name in everybody]
    return sorted(known, key=lambda name: (-round(abs(own[name] - everybody[name]), 9), name))[:count]


def agreement(answers: Sequence[str], habit: str, share: float) -> float | None:
    """Chance that one of the answers and one of a person's texts have a habit alike; None where it never applies.

    Args:
        answers: to any questions.
        habit: its name.
        share: of the person's own texts that have it.

    >>> agreement(["yes", "no", "No"], "begins in lower case", 1.0)
    0.6666666666666666
    """
    values = [value for text in answers if (value := HABITS[habit](text)) is not None]
    return fmean(v * share + (1.0 - v) * (1.0 - share) for v in values) if values else None


def agreements(
    answers: Mapping[str, Sequence[str]], texts: Mapping[str, Sequence[str]], count: int = 3
) -> list[Agreement]:
    """For each person's strongest habits, how their own answers keep to them and how other people's do.

    Args:
        answers: user -> answers to the same questions, given as this user.
        texts: user -> their own texts.
        count: how many habits of each person.

    Raises:
        DataError: there are fewer than two people.
    """
    if len(answers) < 2:
        raise DataError(f"habits of {len(answers)} people: there is nobody to compare them with; give at least 2")
    everybody = profile([text for user in answers for text in texts[user]])
    rows = []
    for user, own in answers.items():
        mine = profile(texts[user])
        for habit in strongest(mine, everybody, count):
            here = agreement(own, habit, mine[habit])
            theirs = [agreement(other, habit, mine[habit]) for name, other in answers.items() if name != user]
            there = [value for value in theirs if value is not None]
            if here is not None and there:
                rows.append(Agreement(user, habit, mine[habit], here, fmean(there)))
    return rows


def habit_correlation(
    answers: Mapping[str, Sequence[str]], texts: Mapping[str, Sequence[str]], habit: str
) -> float | None:
    """Correlation over people of how often a habit is in their answers and in their texts; None if either is constant.

    Args:
        answers: user -> answers given as this user.
        texts: user -> their own texts.
        habit: its name.
    """
    pairs = []
    for user in answers:
        shown, own = profile(answers[user]).get(habit), profile(texts[user]).get(habit)
        if shown is not None and own is not None:
            pairs.append((shown, own))
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    return float(np.corrcoef(np.array(pairs).T)[0, 1])
