"""The rooms of the package, and their tree in docs/design.md, which `python tests/rooms.py` rewrites."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "personaplug"
DESIGN = Path(__file__).parents[1] / "docs" / "design.md"

# One strict order: a room imports from itself and from rooms before it.
ROOMS = (
    "core", "plug", "training", "metrics", "models", "stores", "data", "backbones", "encoders", "rewards", "tasks",
    "methods", "pipeline", "integrations", "bench", "serve", "cli",
)  # fmt: skip

BEGIN, END = "<!-- tree: python tests/rooms.py -->\n", "<!-- /tree -->\n"
_WIDTH = 124
_INDENT = 18


def tree() -> str:
    """The rooms from the top down: what each is for, its files, and its inner folders with theirs."""
    lines = ["    src/personaplug/"]
    for room in reversed(ROOMS):
        lines += _described(f"{room}/", ROOT / room, depth=1)
    return "\n".join(lines) + "\n"


def write() -> None:
    """Put the tree into docs/design.md."""
    page = DESIGN.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    DESIGN.write_text(before + BEGIN + "\n" + tree() + "\n" + END + rest.split(END)[1], encoding="utf-8")


def read() -> str:
    """The tree that stands in docs/design.md."""
    return DESIGN.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip("\n") + "\n"


def _described(name: str, folder: Path, depth: int) -> list[str]:
    first = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    files = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__")
    head = "    " + "  " * depth + name
    lines = _wrapped(head.ljust(_INDENT + 2), first.split("\n")[0])
    if files:
        lines += _wrapped(" " * (_INDENT + 2), " · ".join(files))
    for inner in sorted(p for p in folder.iterdir() if (p / "__init__.py").exists()):
        lines += _described(f"{inner.name}/", inner, depth + 1)
    return lines


def _wrapped(head: str, text: str) -> list[str]:
    lines, line = [], head
    for word in text.split(" "):
        if len(line) + len(word) > _WIDTH and line.strip():
            lines.append(line.rstrip())
            line = " " * (_INDENT + 2)
        line += word + " "
    return [*lines, line.rstrip()]


if __name__ == "__main__":
    write()
