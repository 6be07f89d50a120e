"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from personaplug.core import registry
from personaplug.serve.runtime.service import Loading
from personaplug.tasks.base import TaskInfo
from serving import OPEN, Live, Parrot, served, text_service


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server without keys and limits, whose model repeats everything."""
    path = tmp_path_factory.mktemp("parrot") / "users.db"
    with served(text_service(path, Parrot(), OPEN), path) as live:
        yield live


@pytest.fixture(scope="module")
def tiny_server(tiny_causal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of a plug of a tiny random model."""
    from personaplug.pipeline.build import RunConfig, build_components

    folder = tmp_path_factory.mktemp("tiny")
    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(tiny_causal), "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing", "width": 16},
        method={"name": "plug"},
    )
    info = TaskInfo("chat", "text", history_text="{input} {output}")
    build_components(run, info, None).save(folder / "plug", {}, {})
    loading = Loading(registry.build("store", "sql", {"url": str(folder / "users.db")}), OPEN)
    loading.beside(loading.add(str(folder / "plug")), "recent")
    with served(loading.service(), folder / "users.db") as live:
        yield live
