"""What imports what: dependencies point one way, and nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import personaplug
from rooms import ROOMS

ROOT = Path(personaplug.__file__).parent

HEIGHT = {name: height for height, name in enumerate((*ROOMS, "__main__"))}
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
            if names[0] == "personaplug":
                yield node.lineno, names[1]


def module(file: Path) -> str:
    """The dotted name of a file, without the package's."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_the_top_of_the_package_is_rooms_in_a_strict_order():
    assert {part(f) for f in FILES} == {*ROOMS, "__main__"}
    assert len(ROOMS) <= 17


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_file_imports_from_a_higher_room(file):
    mine = part(file)
    upward = [
        f"{file}:{line}: {mine} imports {other}" for line, other in imported(file) if HEIGHT[other] > HEIGHT[mine]
    ]
    assert not upward


def test_rooms_stand_on_at_most_eleven_floors():
    below: dict[str, set[str]] = {room: set() for room in HEIGHT}
    for file in FILES:
        below[part(file)] |= {other for _, other in imported(file)} - {part(file)}
    floor: dict[str, int] = {}
    for room in HEIGHT:
        floor[room] = 1 + max((floor[other] for other in below[room]), default=0)
    assert max(floor.values()) <= 11, floor


def test_no_files_import_each_other_in_a_circle():
    names = {module(f) for f in FILES}
    edges = {module(f): {n for n in modules_of(f, names) if n != module(f)} for f in FILES}
    TopologicalSorter(edges).prepare()  # raises CycleError, which names the circle


def modules_of(file: Path, names: set[str]) -> Iterator[str]:
    """The package's own modules that a file imports at run time, those inside functions included."""
    for node in run_time(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("personaplug."):
            base = (node.module or "").removeprefix("personaplug.")
            inner = {f"{base}.{a.name}" for a in node.names} & names
            yield from inner or {base}


def run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that are run, those under `if TYPE_CHECKING:` left out."""
    yield node
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from run_time(child)


def test_the_plug_can_be_lifted_out_of_the_package():
    for file in (ROOT / "plug").glob("*.py"):
        assert {other for _, other in imported(file)} <= {"plug"}, file


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
