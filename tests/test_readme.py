"""The README's Python blocks run as they stand and the first is short; its table is what the results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tiny
from personaplug.bench.report.board import board, gather
from personaplug.bench.report.table import markdown, read_from
from personaplug.pipeline.build import RunConfig, build_components
from personaplug.tasks.base import TaskInfo

README = Path(__file__).parents[1] / "README.md"


def test_the_code_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(blocks[0].strip().splitlines()) <= 12
    monkeypatch.chdir(tmp_path)
    model = tiny.save_causal(tmp_path / "tiny")
    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(model), "dtype": "float32"},
        encoder={"name": "hashing"},
        method={"name": "plug"},
    )
    # A folder with an artifact comes before what the package brings under that name.
    build_components(run, TaskInfo("chat", "text", history_text="{output}"), None).save(
        tmp_path / "smollm2-135m", {}, {}
    )
    names: dict[str, object] = {}
    for block in blocks:  # a later one may go on where an earlier one ended
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "grand!! just back from a run" in printed
    assert "behaviors=2" in printed


@pytest.mark.parametrize(
    ("page", "folders", "metric"),
    [
        ("docs/results.md", ["compare"], "nll"),
        ("docs/ablation.md", ["ablation"], "nll"),
        ("results/README.md", ["LaMP_3", "LaMP_4", "chitchat", "movie_like", "studemo"], "nll"),
        ("results/rivals/README.md", ["rivals"], ""),
    ],
)
def test_a_pages_table_is_what_the_results_say(page: str, folders: list[str], metric: str) -> None:
    root = README.parent
    found = gather([root / "results" / folder for folder in folders])
    assert read_from(root / page) == markdown(board(found, metric=metric))
