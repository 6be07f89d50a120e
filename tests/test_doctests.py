"""The examples in docstrings say what the code does."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import personaplug

ROOT = Path(personaplug.__file__).parent
FILES = sorted(f for f in ROOT.rglob("*.py") if ">>> " in f.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_the_examples_in_the_docstrings_are_true(file: Path) -> None:
    name = ".".join(("personaplug", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert any(test.examples for test in doctest.DocTestFinder().find(module))
    assert doctest.testmod(module).failed == 0
