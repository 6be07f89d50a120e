"""How things are put on a line, and where the store is."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from personaplug.cli import console


def test_a_moment_that_no_calendar_has_is_shown_as_its_number():
    assert console.format_time(1e300) == "1e+300"


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("users.db", Path("users.db")),
        ("sqlite:///users.db", Path("users.db")),
        ("sqlite:////tmp/users.db", Path("/tmp/users.db")),
        ("postgresql://host/db", None),
    ],
)
def test_only_a_sqlite_store_is_a_file(url, file):
    assert console.store_file(url) == file


def test_a_closed_pipe_is_no_traceback(store):
    import subprocess
    import sys

    command = [sys.executable, "-c", "from personaplug.cli import main; main()", "users", "export", "ada"]
    process = subprocess.Popen(
        [*command, "--store", str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


def test_a_file_with_a_place_is_a_command(tmp_path, monkeypatch):
    import personaplug.cli as cli

    (tmp_path / "greet.py").write_text(
        "from personaplug.cli.console import START\nPLACE = (START, 9)\nEPILOG = ''\n"
        'def greet():\n    """Say hello."""\n    print(\'hello\')\n'
    )
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    assert CliRunner().invoke(cli.build_app(), ["greet"]).output == "hello\n"


def test_every_command_has_an_example_and_a_panel():
    from personaplug.cli import app

    shown = CliRunner().invoke(app, ["--help"]).output
    for command in typer.main.get_command(app).commands.values():
        assert f" {command.name} " in shown
        assert command.help
