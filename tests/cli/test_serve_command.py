"""`serve` refuses what it cannot serve in one line, before it makes anything."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "nothing: no trained plug here"),
        (["bm25", "nothing"], "nothing: no trained plug here"),
        (["nothing", "--report", "absent.html"], "absent.html: no such file"),
        (["nothing", "--set", "training.steps=1"], "only backbone"),
    ],
)
def test_what_cannot_be_served_is_refused_and_no_store_is_left(run, words, said):
    result = run("serve", *words, "--store", "users.db")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("users.db").exists()
