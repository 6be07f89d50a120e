"""`personaplug data`: what is listed, and what pulling says."""

from __future__ import annotations

from typer.testing import CliRunner

from personaplug import data
from personaplug.cli.data import app


def test_the_list_names_every_data_set_with_its_license():
    listed = CliRunner().invoke(app, ["list"]).stdout
    assert all(name in listed for name in data.DATA_SETS)
    assert "MIT" in listed


def test_pulling_prints_where_the_data_are(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "pull", lambda name, progress: tmp_path / name)
    done = CliRunner().invoke(app, ["pull", "chitchat", "spam-assassin"])
    assert done.stdout == f"chitchat: {tmp_path / 'chitchat'}\nspam-assassin: {tmp_path / 'spam-assassin'}\n"
