"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import OPEN, Live, Parrot, listening, served, text_service, tiny_service


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server without keys and limits, whose model repeats everything."""
    path = tmp_path_factory.mktemp("parrot") / "users.db"
    with served(text_service(path, Parrot(), OPEN), path) as live:
        yield live


@pytest.fixture(scope="module")
def listening_parrot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The same, over real HTTP."""
    path = tmp_path_factory.mktemp("parrot") / "users.db"
    with listening(text_service(path, Parrot(), OPEN), path) as live:
        yield live


@pytest.fixture(scope="module")
def tiny_server(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of a plug of a tiny random model."""
    folder = tmp_path_factory.mktemp("tiny")
    with served(tiny_service(tiny_causal, folder), folder / "users.db") as live:
        yield live


@pytest.fixture(scope="module")
def listening_tiny_server(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The same, over real HTTP."""
    folder = tmp_path_factory.mktemp("tiny")
    with listening(tiny_service(tiny_causal, folder), folder / "users.db") as live:
        yield live
