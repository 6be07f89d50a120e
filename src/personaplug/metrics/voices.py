"""Whether answers differ by person: whose text an answer is most like, how many differ, how many are broken.

Shapes: u: people, e: the encoder's width.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from personaplug.core.errors import DataError

Vectors = NDArray[np.floating]

_GRAM = 4  # words
_RUN = re.compile(r"(.{1,8}?)\1{5,}", re.DOTALL)  # "#10#10#10#10#10#10"


def author_retrieval(answers: Mapping[str, Vectors], texts: Mapping[str, Vectors], among: int = 10) -> dict[str, float]:
    """User -> chance that the answers given as them are most like their own texts, and not those of another of `among`.

    The other people are drawn at random. Features are standardised over all people's texts; an author is the mean of
    their texts, a set of answers the mean of them, likeness is the cosine. The chance is exact: where r of the others
    are nearer, it is the chance that none of them is drawn.

    Args:
        answers: user -> vectors [n, e] of the answers given as this user, by an encoder that training did not see.
        texts: user -> vectors [m, e] of their own texts.
        among: how many people.

    Raises:
        DataError: there are fewer people than that.
    """
    users = list(answers)
    if not 1 < among <= len(users):
        raise DataError(
            f"author retrieval among {among} people: there are {len(users)}; take more people, or fewer among"
        )
    rows = np.concatenate([texts[user] for user in users]).astype(np.float64)
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-6, scale, np.inf)  # what never differs says nothing
    authors = np.stack([((texts[u] - mean) / scale).mean(axis=0) for u in users])  # [u, e]
    asked = np.stack([((answers[u] - mean) / scale).mean(axis=0) for u in users])  # [u, e]
    likeness = (_unit(asked) @ _unit(authors).T).round(9)
    retrieved = {}
    for i, user in enumerate(users):
        nearer = int((likeness[i] > likeness[i, i]).sum())
        tied = int((likeness[i] == likeness[i, i]).sum()) - 1
        # Of those that are equally near, any may be taken for the author.
        chances = [_none_drawn(len(users) - 1, nearer + t, among - 1) for t in range(tied + 1)]
        retrieved[user] = float(np.mean(chances))
    return retrieved


def distinct(answers: Sequence[str]) -> int:
    """How many different answers there are to one question; broken ones do not count.

    >>> distinct(["ok", " ok", "Ok!", ""])
    2
    """
    return len({" ".join(a.split()) for a in answers if not broken(a)})


def broken(text: str) -> bool:
    """Whether an answer is empty, without a letter or digit, or goes round in circles.

    In circles go: four words in a row that come up twice, one word three times in a row, a few characters six times in
    a row, or a sentence said again.

    >>> broken("I'm so sorry. I'm so sorry."), broken("no no no"), broken("#10#10#10#10#10#10"), broken("see you then")
    (True, True, True, False)
    """
    words = re.findall(r"\w+(?:['’]\w+)*", text.casefold())
    if not words:
        return True
    grams = Counter(tuple(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1))
    thrice = any(words[i] == words[i + 1] == words[i + 2] for i in range(len(words) - 2))
    sentences = [s for s in re.split(r"[.!?\n]+\s*", text.casefold().strip()) if len(s.split()) > 1]
    again = len(set(sentences)) < len(sentences)
    return thrice or again or any(n > 1 for n in grams.values()) or bool(_RUN.search(text))


def _none_drawn(others: int, nearer: int, drawn: int) -> float:
    """Chance that of so many others none of the nearer ones is among those drawn."""
    return math.comb(others - nearer, drawn) / math.comb(others, drawn)


def _unit(rows: Vectors) -> Vectors:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0))
