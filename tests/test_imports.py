"""What imports what: dependencies point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import personaplug

ROOT = Path(personaplug.__file__).parent

# Lowest first: a module imports from its own layer or from lower ones.
LAYERS = (
    {"types", "errors", "spread"},
    {
        "config", "registry", "metrics", "plug", "pooling", "objectives", "batching", "decoding", "devices",
        "prompt_cache", "jsonl_reader", "preferences", "processors", "memory",
    },
    {"encoders", "backbones", "inprocess", "tokenized", "stores", "tasks", "models", "data", "rewards", "simulate"},
    {"training", "artifacts", "vectors", "ingest", "wording", "score_cache", "scheduler"},
    {"methods"},
    {"assembly"},
    {"personalizer"},
    {"bench", "serve", "integrations"},
    {"cli"},
    {"__main__"},
)  # fmt: skip
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
HEAVY = {"torch", "transformers", "sentence_transformers", "sqlalchemy", "alembic", "pydantic", "matplotlib"}

FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def part(file: Path) -> str:
    """The file or folder of the package that a file belongs to."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and part of each import of the package's own modules, those for type checkers included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            names = module.split(".")
            # The package itself holds nothing but its version and doors to what lies below.
            if names[0] == "personaplug" and names[1:] != ["__version__"]:
                yield node.lineno, names[1]


def test_each_part_of_the_package_has_a_layer():
    assert {part(f) for f in FILES} <= set(HEIGHT)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_file_imports_from_a_higher_layer(file):
    mine = part(file)
    upward = [
        f"{file}:{line}: {mine} imports {other}" for line, other in imported(file) if HEIGHT[other] > HEIGHT[mine]
    ]
    assert not upward


@pytest.mark.parametrize(("file", "known"), [("plug.py", {"pooling"}), ("pooling.py", set())])
def test_the_plug_can_be_lifted_out_of_the_package(file, known):
    assert {other for _, other in imported(ROOT / file)} == known


def loaded(code: str, cwd: Path) -> set[str]:
    """Which heavy libraries are loaded after running the code in a new process."""
    program = f"import json, sys\n{code}\nsys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stderr.splitlines()[-1]))


def command(*words: str) -> str:
    return f"from personaplug.cli import app\napp({list(words)!r}, standalone_mode=False)"


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import personaplug; personaplug.Behavior; personaplug.Request", id="the types"),
        pytest.param(command("--help"), id="--help"),
    ],
)
def test_nothing_heavy_is_loaded_for(code, tmp_path):
    assert not loaded(code, tmp_path)


def test_histories_are_kept_without_torch(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"user": "ada", "output": "hi"}\n')
    code = command("ingest", "b.jsonl") + "\n" + command("users", "list")
    assert not loaded(code, tmp_path) & {"torch", "transformers", "sentence_transformers", "matplotlib"}


def test_every_public_name_is_there():
    for name in personaplug.__all__:
        assert getattr(personaplug, name) is not None
    assert dir(personaplug) == personaplug.__all__


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Personaliser'"):
        personaplug.Personaliser  # noqa: B018
