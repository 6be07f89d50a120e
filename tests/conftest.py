"""What several tests use: tiny models, and quiet libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random decoder-only model that has a chat template."""
    return tiny.save_causal(tmp_path_factory.mktemp("models") / "tiny-causal")


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random encoder-decoder model."""
    return tiny.save_t5(tmp_path_factory.mktemp("models") / "tiny-t5")
