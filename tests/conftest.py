"""What several tests use: tiny models, databases, and how many examples a property is tried on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import postgres
import tiny

# A property is tried on few examples while one works and on many where a change is judged (`.ci/run`).
settings.register_profile("fast", max_examples=20, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random decoder-only model that has a chat template."""
    return tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-causal")


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random encoder-decoder model."""
    return tiny.save_t5(tmp_path_factory.mktemp("models") / "tiny-t5")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL on which databases may be made."""
    if named := os.environ.get(postgres.NAMED):
        yield named
        return
    with postgres.throwaway() as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with postgres.database(postgres_server) as url:
        yield url


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as in a pipe, whatever ran the tests says of its terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
