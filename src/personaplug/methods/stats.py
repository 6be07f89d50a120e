"""Plain statistics of a history in words: the free baseline that a profile written by a language model must beat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median

from typing_extensions import override

from personaplug.core.types import Behavior, History
from personaplug.methods.profile import ProfileConfig, Profiled
from personaplug.metrics.scores import labels

_MOST = 3  # labels named
_FREQUENT = 5  # words named

# Share of the texts up to which a habit has this name.
_ADVERBS = ((0.0, "never"), (0.15, "rarely"), (0.4, "sometimes"), (0.7, "often"), (0.99, "usually"), (1.0, "always"))

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_ENDED = re.compile(r"""[.!?…。！？]["'”’)\]]*\s*$""")
_EMOJI = re.compile(r"[\U0001F300-\U0001FAFF\u2600-\u27BF]|(?<!\w)[:;=]['-]?[()DPpO/|](?!\w)")

# Words that say nothing of anybody.
_COMMON = frozenset(
    _WORD.findall(
        "a about all am an and any are as at be been but by can could did do does for from get had has have he her him "
        "his how i i'm if in into is it it's its just me more my no not of on one or our out she so some than that "
        "that's the their them then there they this to too up us was we were what when which who will with would you "
        "your"
    )
)


class Stats(Profiled):
    """The most used labels, the mean rating, or how the user writes; exact, and without any model."""

    Config = ProfileConfig
    summary = "statistics of the user's history in words: most used labels, mean rating, length, habits of writing"
    source = "personaplug, docs/design.md section 5; for profiles as in PAG, arXiv 2310.20081"

    @property
    @override
    def key(self) -> str:
        asked = f"{self.task.kind}:{','.join(self.task.options)}" if self.task else "text"
        return f"{self.name}:{asked}{self.text_key}"

    @override
    def describe(self, histories: Sequence[History]) -> list[str]:
        return [self._describe(h) for h in histories]

    def _describe(self, history: History) -> str:
        options = self.task.options if self.task else ()
        given = [answer for b in history if (answer := labels(b.output, options))]
        if not given:  # free text, or a history of other things than the task's answers
            return _writing([b for b in history if b.output.strip()])
        if self.task and self.task.kind == "rating" and all(_NUMBER.fullmatch(o) for o in options):
            return _ratings([float(label) for answer in given for label in answer], options)
        return _labels(given, options)


def _labels(given: Sequence[frozenset[str]], options: Sequence[str]) -> str:
    """Most used first; equally used ones in the options' order."""
    counts = Counter(label for answer in given for label in answer)
    most = sorted(counts, key=lambda label: (-counts[label], options.index(label)))[:_MOST]
    return f"they most often answered {_listed([f'{label} ({counts[label] / len(given):.0%})' for label in most])}."


def _ratings(given: Sequence[float], options: Sequence[str]) -> str:
    scale = sorted(float(o) for o in options)
    value, count = max(Counter(given).items(), key=lambda item: (item[1], item[0]))
    return (
        f"their mean rating is {fmean(given):.1f} on a scale from {scale[0]:g} to {scale[-1]:g}; "
        f"they most often gave {value:g} ({count / len(given):.0%})."
    )


def _writing(behaviors: Sequence[Behavior]) -> str:
    if not behaviors:
        return ""
    texts = [b.output for b in behaviors]
    length = round(median(len(t.split()) for t in texts))
    cased = [t for t in texts if t.lower() != t.upper()]
    habits = [
        ("write all in lower case", [t == t.lower() for t in cased]),
        ("end with punctuation", [bool(_ENDED.search(t)) for t in texts]),
        ("ask questions", ["?" in t for t in texts]),
        ("use exclamation marks", ["!" in t for t in texts]),
        ("use emoji", [bool(_EMOJI.search(t)) for t in texts]),
    ]
    named = [f"{_adverb(fmean(shown))} {habit}" for habit, shown in habits if shown]
    words = _frequent([b.output for b in behaviors], [b.input for b in behaviors])
    said = f"they typically write {length} {'word' if length == 1 else 'words'}. They {_listed(named)}."
    return f"{said} Words they often use: {', '.join(words)}." if words else said


def _adverb(share: float) -> str:
    return next(adverb for most, adverb in _ADVERBS if share <= most)


def _frequent(written: Sequence[str], seen: Sequence[str]) -> list[str]:
    """Words in several of the user's texts that are much rarer in what they answered; the most frequent first."""
    own, others = _texts_with(written), _texts_with(seen)
    least = max(2.0, 0.03 * len(written))
    frequent = [w for w, n in own.items() if n >= least and n > 2 * others[w] and w not in _COMMON]
    return sorted(frequent, key=lambda w: (-own[w], w))[:_FREQUENT]


def _texts_with(texts: Sequence[str]) -> Counter[str]:
    """Word -> number of texts with it."""
    return Counter(w for t in texts for w in set(_WORD.findall(t.lower().replace("’", "'"))))


def _listed(parts: Sequence[str]) -> str:
    *head, last = parts
    return f"{', '.join(head)} and {last}" if head else last
