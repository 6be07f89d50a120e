from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from personaplug.bench.states import StateCache
from personaplug.core import registry
from personaplug.core.config import NoConfig
from personaplug.core.types import Behavior, History, Profile, Prompt, Request, State
from personaplug.methods.base import Method


class Slow(Method):
    """Counts what it prepares."""

    Config = NoConfig
    summary = source = "tests"
    slow_prepare = True
    key = "slow:1"

    def prepare_many(self, histories: Sequence[History]) -> list[State | None]:
        self.prepared = getattr(self, "prepared", 0) + len(histories)
        return [{"n": np.array([len(h)])} if h.behaviors else None for h in histories]

    def personalize(self, request: Request, profile: Profile) -> Prompt:
        return Prompt(request.messages)


def history(*outputs: str) -> History:
    return History("ada", tuple(Behavior("ada", str(i), "", text) for i, text in enumerate(outputs)))


@pytest.fixture
def slow() -> Slow:
    return Slow(NoConfig(), backbone=registry.build("backbone", "echo"))


def test_a_costly_state_is_made_once_for_each_content(slow, tmp_path):
    first = StateCache(tmp_path).prepare(slow, [history("a"), history("a", "b"), history()])
    again = StateCache(tmp_path).prepare(slow, [history("a", "b"), history(), history("a"), history("c")])
    assert slow.prepared == 4
    assert [s and s["n"].item() for s in first] == [1, 2, None]
    assert [s and s["n"].item() for s in again] == [2, None, 1, 1]


def test_another_key_or_a_damaged_file_is_prepared_anew(slow, tmp_path):
    StateCache(tmp_path).prepare(slow, [history("a")])
    [file] = tmp_path.rglob("*.npz")
    file.write_bytes(b"half")
    StateCache(tmp_path).prepare(slow, [history("a")])
    slow.key = "slow:2"
    StateCache(tmp_path).prepare(slow, [history("a")])
    assert slow.prepared == 3


def test_what_is_cheap_is_not_kept(slow, tmp_path, monkeypatch):
    monkeypatch.setattr(Slow, "slow_prepare", False)
    StateCache(tmp_path).prepare(slow, [history("a")])
    assert not list(tmp_path.iterdir())
