"""How a text is written, as named numbers: length, case, marks, spacing, smileys and small words; no model.

`FEATURES` names the columns. Each lies in 0..1: yes or no, a share, the square root of a share (whether a mark occurs
at all says more than how often), or the logarithm of a count divided by that of a large one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev

import numpy as np

from personaplug.core.config import NoConfig
from personaplug.encoders.base import Encoder, TextRole, Vectors

StyleConfig = NoConfig

VERSION = 1  # rises when a feature is added, removed or measured otherwise

_URL = re.compile(r"(?:https?://|www\.)\S+")
_EMOJI = re.compile("[\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u2600-\u27bf]")
_EMOTICON = re.compile(r"(?<!\w)(?:[:;=]['-]?(?:[()]+|[DPpOo3/|\\*])|\({1,3}[:;=]|[xX]D+|<3+|\^[_.-]?\^)(?!\w)")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_ELLIPSIS = re.compile(r"\.{2,}|…")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_STRETCHED = re.compile(r"([^\W\d_])\1\1")  # "soooo"
_REPEATED_MARK = re.compile(r"[!?]{2,}")
_SPACED_MARK = re.compile(r"\w [,.!?;:](?!\S)")
_UNSPACED_MARK = re.compile(r"[^\W\d_][,;!?][^\W\d_]")
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]", re.MULTILINE)
_LAUGHTER = re.compile(r"(?:a?ha(?:ha)+h?|he(?:he)+|lo+l|lmf?ao|rofl)")

# Typographic and full-width forms of marks, so that each mark is counted once whatever the keyboard.
_ONE_FORM = str.maketrans("’‘“”„«»。，！？：；（）–", '\'\'""""".,!?:;()—')
_TYPOGRAPHIC = re.compile("[’‘“”„«»]")

_MARKS = {
    "periods": ".",
    "commas": ",",
    "exclamation_marks": "!",
    "question_marks": "?",
    "apostrophes": "'",
    "quotes": '"',
    "hyphens": "-",
    "long_dashes": "—",
    "colons": ":",
    "semicolons": ";",
    "parentheses": "(",
}

# A word before its apostrophe, in lower case; a word may be in several rows.
_SMALL_WORDS = {
    "first_person": "i me my mine myself im ive",
    "first_person_plural": "we us our ours ourselves",
    "second_person": "you your yours yourself yourselves youre u ur",
    "articles": "a an the",
    "prepositions": "of in on at by for with from to into about over after before between through during",
    "connectives": "and also but however although though yet while because so therefore since thus hence cause cuz",
    "negations": "no not never none nothing nobody neither nor dont cant wont didnt doesnt isnt wasnt nope cannot",
    "hedges": "maybe perhaps probably possibly guess think seem seems somewhat rather kinda sorta might apparently",
    "intensifiers": "very really so too extremely absolutely totally super quite pretty definitely highly completely",
    "fillers": "well like just actually basically literally anyway um uh hmm oh ah",
    "agreement": "yes yeah yep yup yea sure ok okay right exactly true indeed",
    "politeness": "hi hello hey dear bye goodbye cheers regards please pls thanks thank thx sorry welcome kindly",
    "abbreviations": "u ur r omg idk btw tbh imo wtf lol lmao thx pls plz bc gonna wanna gotta ya",
    "bare_contractions": "im ive dont cant wont didnt doesnt isnt wasnt youre thats whats lets id theyre hes shes",
}


class StyleEncoder(Encoder):
    """Named numbers that say how a text is written (`FEATURES`); case, spelling and spacing count, topics hardly.

    A text needs a few dozen microseconds. Both roles get the same vector. The empty text gets zeros. Words are
    English; marks, case and lengths are counted in any script.
    """

    Config = StyleConfig
    summary = "no weights: named style features (length, case, punctuation, emoji, small words)"
    source = "Stamatatos 2009, A Survey of Modern Authorship Attribution Methods, section 2; features chosen here"

    key = f"style:{VERSION}"

    def __init__(self, config: NoConfig) -> None:
        self.config = config
        self.width = len(FEATURES)

    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], e = len(FEATURES), each number in 0..1."""
        del role
        out = np.zeros((len(texts), self.width), np.float32)
        for i, text in enumerate(texts):
            out[i] = list(_measured(text).values())
        if progress is not None:
            progress(len(texts))
        return out


def _measured(text: str) -> dict[str, float]:
    """All features of a text, in the order of `FEATURES`."""
    urls, emoji = len(_URL.findall(text)), len(_EMOJI.findall(text))
    # What smileys and addresses are made of is no punctuation.
    plain, emoticons = _EMOTICON.subn(" ", _URL.sub(" ", text))
    plain = plain.translate(_ONE_FORM)
    words = _WORD.findall(plain)
    n = len(words)
    return {
        **_lengths(plain, words),
        **_case(plain, words),
        **_ending(text),
        **_marks(plain, n),
        "typographic_marks": _rate(len(_TYPOGRAPHIC.findall(text)), n),
        "emoji": _rate(emoji, n),
        "emoticons": _rate(emoticons, n),
        "urls": _rate(urls, n),
        "line_breaks": _rate(text.count("\n"), n),
        "bullets": _rate(len(_BULLET.findall(text)), text.count("\n") + 1),
        "digits": _rate(sum(map(str.isdigit, plain)), len(text)),
        "not_ascii": _share(len(text) - len(text.encode("ascii", "ignore")), len(text)),
        **_vocabulary(words),
    }


def _lengths(plain: str, words: Sequence[str]) -> dict[str, float]:
    sentences = [len(s.split()) for s in _SENTENCE_END.split(plain) if s.strip()]
    letters = [len(w) for w in words]
    return {
        "characters": _log(len(plain), 5000),
        "words": _log(len(words), 1000),
        "sentences": _log(len(sentences), 100),
        "sentence_length": _log(fmean(sentences), 60) if sentences else 0.0,
        "sentence_length_deviation": _log(pstdev(sentences), 30) if sentences else 0.0,
        "word_length": _share(fmean(letters), 12) if letters else 0.0,
        "word_length_deviation": _share(pstdev(letters), 6) if letters else 0.0,
    }


def _case(plain: str, words: Sequence[str]) -> dict[str, float]:
    starts = [s.lstrip(" \t\"'(*-—")[:1] for s in _SENTENCE_END.split(plain) if s.strip()]
    return {
        "capitals": _rate(sum(map(str.isupper, plain)), sum(map(len, words))),
        "starts_with_capital": float(bool(words) and words[0][0].isupper()),
        "sentences_with_capital": _share(sum(map(str.isupper, starts)), len(starts)),
        "capitalised_words": _share(sum(w[0].isupper() and not w.isupper() for w in words), len(words)),
        "shouted_words": _rate(sum(len(w) > 1 and w.isupper() for w in words), len(words)),
        "small_i": _rate(sum(w.partition("'")[0] == "i" for w in words), len(words)),
    }


def _ending(text: str) -> dict[str, float]:
    """The last character but for spaces and closing quotes, as one of a few kinds."""
    end = text.rstrip().rstrip("\"'”’").translate(_ONE_FORM)
    ellipsis = end.endswith(("..", "…"))
    tail = end[-12:].rstrip("\ufe0f")  # an emoji may be followed by a sign of how it is drawn
    return {
        "ends_with_ellipsis": float(ellipsis),
        "ends_with_period": float(end.endswith(".") and not ellipsis),
        "ends_with_exclamation_mark": float(end.endswith("!")),
        "ends_with_question_mark": float(end.endswith("?")),
        "ends_with_smiley": float(any(m.end() == len(tail) for p in (_EMOJI, _EMOTICON) for m in p.finditer(tail))),
        "ends_bare": float(end[-1:].isalnum()),
    }


def _marks(plain: str, words: int) -> dict[str, float]:
    """How often each mark stands, per word."""
    rest, ellipses = _ELLIPSIS.subn(" ", plain.replace("--", "—"))
    return {
        **{name: _rate(rest.count(mark), words) for name, mark in _MARKS.items()},
        "ellipses": _rate(ellipses, words),
        "repeated_marks": _rate(len(_REPEATED_MARK.findall(rest)), words),
        "spaces_before_marks": _rate(len(_SPACED_MARK.findall(rest)), words),
        "no_spaces_after_marks": _rate(len(_UNSPACED_MARK.findall(rest)), words),
    }


def _vocabulary(words: Sequence[str]) -> dict[str, float]:
    """Which kinds of small words are used, per word."""
    n = len(words)
    counts = Counter(w.lower() for w in words)
    whole = {
        # Over the first words only: a longer text always repeats more.
        "distinct_words": _share(len({w.lower() for w in words[:50]}), min(n, 50)),
        "stretched_words": _rate(_sum(counts, lambda w: bool(_STRETCHED.search(w))), n),
        "laughter": _rate(_sum(counts, lambda w: bool(_LAUGHTER.fullmatch(w))), n),
        "contractions": _rate(_sum(counts, lambda w: "'" in w), n),
    }
    kinds = dict.fromkeys(_SMALL_WORDS, 0)
    for word, count in counts.items():
        for kind in _KINDS.get(word.partition("'")[0], ()):
            kinds[kind] += count
        if word.endswith("n't"):
            kinds["negations"] += count
    return whole | {kind: _rate(count, n) for kind, count in kinds.items()}


def _sum(counts: Mapping[str, int], wanted: Callable[[str], bool]) -> int:
    return sum(count for word, count in counts.items() if wanted(word))


def _share(count: float, of: float) -> float:
    return min(1.0, count / max(of, 1))


def _rate(count: float, of: float) -> float:
    return math.sqrt(_share(count, of))


def _log(count: float, large: int) -> float:
    return min(1.0, math.log1p(count) / math.log1p(large))


def _by_word(kinds: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Word -> the kinds that it is of."""
    distinct = {w for words in kinds.values() for w in words.split()}
    return {w: tuple(kind for kind, words in kinds.items() if w in words.split()) for w in distinct}


_KINDS = _by_word(_SMALL_WORDS)

FEATURES: tuple[str, ...] = tuple(_measured(""))
"""What each column of a vector is."""
