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


TESTS = Path(__file__).parent

# Files whose tests import the same heavy library run in one worker, so that no other worker pays for the import.
FAMILIES = {
    "sentence-transformers": ("contracts/test_encoders.py", "encoders/test_sentence.py", "encoders/test_static.py"),
    "matplotlib": ("bench/test_report.py", "bench/test_answer_sets.py", "cli/test_report_command.py"),
    "openai": ("backbones/test_openai.py", "backbones/test_vllm.py", "serve/test_openai_client.py"),
}
FAMILY_OF = {file: family for family, files in FAMILIES.items() for file in files}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for `--dist loadgroup`: a family of files, or one file with its shared fixtures, to a worker."""
    for item in items:
        file = item.path.relative_to(TESTS).as_posix()
        item.add_marker(pytest.mark.xdist_group(FAMILY_OF.get(file, file)))


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
