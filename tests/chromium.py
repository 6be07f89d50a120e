"""Finds a Chromium for tests of the page: the machine's own, Playwright's, or one that lies inside an npm package."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from npm import npm_install

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

PACKAGE = "@sparticuz/chromium@153.0.0"
# It unpacks its libraries too where it believes to be on a machine that has none.
UNPACK = "import('@sparticuz/chromium').then((found) => found.default.executablePath())"
FONTS = "<fontconfig><dir>{0}/fonts/fonts</dir><cachedir>{0}/fonts-cache</cachedir></fontconfig>"


@dataclass(frozen=True, slots=True)
class Chromium:
    """An executable, and what its process needs in its environment."""

    path: str
    env: dict[str, str] = field(default_factory=dict)


def find_chromium(playwright: Playwright, cache: Path) -> Chromium:
    """The one named in PERSONAPLUG_CHROMIUM, else the first there is; skips, saying why, where none can be had.

    Args:
        playwright: whose own one is looked for too.
        cache: where the one from npm is kept.
    """
    named = os.environ.get("PERSONAPLUG_CHROMIUM")
    if named:
        return Chromium(named)
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
    return Chromium(found) if Path(found).is_file() else _from_npm(cache)


def _from_npm(cache: Path) -> Chromium:
    folder = cache / PACKAGE.rpartition("@")[2]
    if not folder.is_dir():
        work = cache / f"work-{os.getpid()}"
        (work / "out").mkdir(parents=True)
        node = npm_install(PACKAGE, work)
        env = {**os.environ, "TMPDIR": str(work / "out"), "AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"}
        done = subprocess.run([node, "-e", UNPACK], check=False, cwd=work, env=env, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{PACKAGE} does not unpack here: {done.stderr.strip().splitlines()[-1:]}")
        (work / "out").rename(folder)
        shutil.rmtree(work)
        (folder / "fonts.conf").write_text(FONTS.format(folder))
    libraries = f"{folder}/al2023/lib:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    return Chromium(
        str(folder / "chromium"), {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(folder / "fonts.conf")}
    )
