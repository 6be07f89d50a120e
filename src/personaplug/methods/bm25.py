"""The behaviours that share the most telling words with the request, as text.

Shapes: n: behaviours, w: distinct words of a history, m: pairs of a word and a behaviour it is in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.types import History, Profile, Request, State
from personaplug.encoders.cache.embeddings import VectorCache, behavior_text
from personaplug.methods.retrieval import Retrieval
from personaplug.methods.retrieval.ranking import RankingConfig, best, ranked_text
from personaplug.tasks.base import TaskInfo

# Combining signs that Python's \w leaves out: Latin, Hebrew, Arabic, the scripts of India, Tibetan.
_SIGNS = r"\u0300-\u036f\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0df3\u0f71-\u0fbc"
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_SPACELESS = (
    r"\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u1049\u1780-\u17d3\u3041-\u3096\u30a1-\u30fa\u30fc"
    r"\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[\w{_SIGNS}{_SPACELESS}]+")
_RUN = re.compile(rf"([{_SPACELESS}]+)")


class BM25(Retrieval):
    """Highest BM25 score first; of equal ones, and where no word is shared, the newer first.

    LaMP takes Okapi BM25 (rank_bm25) over the pieces between blanks, as they are. Ours differs in two ways. Words are
    lower-cased and free of punctuation, and scripts without spaces are cut into characters and pairs of them, so that
    any language works; nothing is stemmed or stopped. And the weight of a word is Lucene's, which is always
    positive: Okapi's is zero or negative for a word in half of the behaviours, which in a short history are most.
    """

    Config = RankingConfig
    summary = "the k behaviours that share the most telling words with the request, in the prompt"
    source = "Robertson and Zaragoza 2009; LaMP, arXiv 2304.11406, section 3; bm25s, arXiv 2407.03618"

    def __init__(
        self, config: Any, *, backbone: Backbone, vectors: VectorCache | None = None, task: TaskInfo | None = None
    ) -> None:
        super().__init__(config, backbone=backbone, vectors=vectors, task=task)
        self.template = ranked_text(config, task)

    @property
    @override
    def key(self) -> str:
        return f"{self.name}:{self.template}"

    @override
    def prepare(self, history: History) -> State:
        """The user's own index.

        It holds the words (UTF-8, a line each) and, word after word, the behaviours [m] that a word is in and the
        scores [m] that it adds to them; `starts` [w + 1] says where each word's begin.
        """
        known: dict[str, int] = {}
        ids = [[known.setdefault(w, len(known)) for w in words(behavior_text(b, self.template))] for b in history]
        scores = _index(ids, known)
        return {
            "words": np.frombuffer("\n".join(known).encode("utf-8", "surrogatepass"), np.uint8),
            "scores": scores["data"],
            "behaviors": scores["indices"].astype(np.min_scalar_type(len(history))),
            "starts": scores["indptr"].astype(np.uint32),
        }

    @override
    def rank(self, requests: Sequence[Request], profiles: Sequence[Profile]) -> list[list[int]]:
        return [self._best(r, p) for r, p in zip(requests, profiles, strict=True)]

    def _best(self, request: Request, profile: Profile) -> list[int]:
        state = self.prepare(profile.history) if profile.state is None else profile.state
        lines = state["words"].tobytes().decode("utf-8", "surrogatepass").split("\n")
        known = {word: i for i, word in enumerate(lines)}
        asked = [known[w] for w in words(request.query) if w in known]
        scores = np.zeros(len(profile.history), np.float32)
        starts = state["starts"]
        for i in asked:  # a word that is asked twice counts twice, as in bm25s
            column = slice(int(starts[i]), int(starts[i + 1]))
            scores[state["behaviors"][column]] += state["scores"][column]  # a behaviour stands once in a column
        return best(scores, self.config.k)


def words(text: str) -> list[str]:
    """The words of a text in any script, lower-cased.

    >>> words("Don't panic, 你好!")
    ['don', 't', 'panic', '你', '好', '你好']
    """
    text = unicodedata.normalize("NFKC", text).lower()
    tokens: list[str] = _WORD.findall(text)
    if text.isascii():
        return tokens
    parts: list[str] = []
    for word in tokens:
        for at, part in enumerate(_RUN.split(word)):  # every other part is a run without spaces
            if at % 2:
                parts += [*part, *map("".join, pairwise(part))]
            elif part:
                parts.append(part)
    return parts


def _index(ids: Sequence[Sequence[int]], known: dict[str, int]) -> dict[str, Any]:
    """A sparse matrix (by columns) of the score that each word adds to each behaviour."""
    if not known:  # bm25s takes no corpus without words
        return {"data": np.zeros(0, np.float32), "indices": np.zeros(0, np.int32), "indptr": np.zeros(1, np.int32)}
    import bm25s

    scores: dict[str, Any] = bm25s.BM25(method="lucene").build_index_from_ids(
        unique_token_ids=list(known.values()), corpus_token_ids=ids, show_progress=False
    )
    return scores
