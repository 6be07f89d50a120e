"""Scores of a frozen model: computed once ever, whatever is killed between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.backbones.echo import EchoBackbone
from personaplug.core.errors import DataError
from personaplug.core.types import Message, Prompt, Scored
from personaplug.methods.retrieval.score_cache import ScoreCache


class Counting(EchoBackbone):
    """Remembers every pair that it was asked to score, and may be killed after some calls."""

    def __init__(self, key: str = "echo", calls: int = 10**6) -> None:
        super().__init__()
        self.key = key
        self.left = calls
        self.asked: list[tuple[tuple[Message, ...], str]] = []

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[Scored]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked += [(p.messages, c) for p, c in zip(prompts, continuations, strict=True)]
        return super().score(prompts, continuations)


def prompt(text: str) -> Prompt:
    return Prompt((Message("user", text),))


PROMPTS = [prompt(f"word{i} " * (i % 4 + 1)) for i in range(10)]
TARGETS = [f"word{i} other" for i in range(10)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["a", "a b", "c c"]))), st.integers(1, 4))
def test_cached_scores_are_the_backbones_own_in_order(tmp_path_factory, pairs, chunk) -> None:
    backbone = Counting()
    cache = ScoreCache(backbone, tmp_path_factory.mktemp("scores"), chunk)
    prompts, targets = [prompt(a) for a, _ in pairs], [b for _, b in pairs]
    done: list[int] = []
    first = cache.score(prompts, targets, done.append)
    assert first == EchoBackbone().score(prompts, targets) == cache.score(prompts, targets)
    assert sum(done) == len(pairs)
    assert len(backbone.asked) == len(set(pairs))


def test_after_a_kill_only_the_rest_is_scored(tmp_path: Path) -> None:
    killed, again = Counting(calls=2), Counting()
    with pytest.raises(KeyboardInterrupt):
        ScoreCache(killed, tmp_path, chunk=3).score(PROMPTS, TARGETS)
    assert ScoreCache(again, tmp_path, chunk=3).score(PROMPTS, TARGETS) == EchoBackbone().score(PROMPTS, TARGETS)
    assert len(killed.asked) == 6
    assert sorted(killed.asked + again.asked, key=str) == sorted(
        zip([p.messages for p in PROMPTS], TARGETS, strict=True), key=str
    )


def test_scores_of_another_backbone_are_never_used(tmp_path: Path) -> None:
    ScoreCache(Counting(), tmp_path).score(PROMPTS, TARGETS)
    other = Counting("another")
    ScoreCache(other, tmp_path).score(PROMPTS, TARGETS)
    assert len(other.asked) == len(PROMPTS)


def test_roles_and_the_place_where_a_message_ends_make_another_prompt(tmp_path: Path) -> None:
    backbone = Counting()
    prompts = [
        Prompt((Message("user", "a b"),)),
        Prompt((Message("system", "a b"),)),
        Prompt((Message("user", "a"), Message("user", " b"))),
    ]
    ScoreCache(backbone, tmp_path).score(prompts, ["c"] * 3)
    assert len(backbone.asked) == 3


def test_the_file_holds_no_text(tmp_path: Path) -> None:
    cache = ScoreCache(Counting(), tmp_path)
    cache.score([prompt("my secret")], ["answer"])
    data = cache.path.read_bytes()
    assert b"secret" not in data
    assert b"answer" not in data


def test_a_prompt_with_soft_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prefix"):
        ScoreCache(Counting(), tmp_path).score([Prompt(PROMPTS[0].messages, prefix=[[0.0]])], ["c"])


def test_a_file_of_something_else_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "scores.db").write_text("no database at all " * 100)
    with pytest.raises(DataError, match=r"scores\.db: cannot be used .* delete it"):
        ScoreCache(Counting(), tmp_path).score(PROMPTS, TARGETS)
