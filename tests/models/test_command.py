"""`personaplug models`: what is listed, and what pulling says."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from personaplug import models
from personaplug.cli.models import app


@pytest.fixture
def run(cache, index, tiny_bundle, monkeypatch):
    pull = models.pull
    monkeypatch.setattr(models, "pull", lambda name, progress: pull(name, progress, index.fetch))
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_list_says_what_is_here(run):
    assert all(name in run("list").stdout for name in models.BUNDLES)
    run("pull", "tiny")
    (row,) = [line for line in run("list").stdout.splitlines() if "tiny" in line]
    assert "yes" in row


def test_pulling_prints_where_the_model_is(run):
    done = run("pull", "tiny")
    assert done.stdout == f"tiny: {models.resolve('tiny').location}\n"


def test_what_one_must_know_of_a_model_is_said(run):
    assert "Gemma Terms of Use" in run("list").stdout
