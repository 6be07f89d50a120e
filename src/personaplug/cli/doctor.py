"""`personaplug doctor`: what is installed, what is usable here, and what to do about what is not."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from personaplug.cli.console import DEFAULT_STORE, START, StoreOption, open_store, out, pluralize, safe, store_file
from personaplug.core.errors import PersonaplugError
from personaplug.core.version import __version__

PLACE = (START, 2)
EPILOG = "Example: personaplug doctor --store users.db --model smollm2-135m"

Level = Literal["ok", "note", "broken"]

_MARKS = {"ok": "[green]ok[/]", "note": "[yellow]–[/]", "broken": "[red]broken[/]"}
_ROOM = 2 << 30  # bytes: the default models, fetched and converted, with the demo's files
_REQUIREMENT = re.compile(r"""([\w.-]+)[^;]*(?:;\s*extra\s*==\s*['"]([\w-]+)['"])?""")
_UNLIMITED = 1 << 30  # tokens: the context of a model whose configuration names none
_GATHERS = {"all"}  # extras that only name others
_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: a thing, how it is, and what to do about it ("" if nothing)."""

    level: Level
    thing: str
    state: str
    way_out: str = ""


ModelOption = Annotated[
    str, typer.Option("--model", help="Load this model (a bundle, a folder or a hub id) and say what it supports.")
]


def doctor(store: StoreOption = DEFAULT_STORE, model: ModelOption = "") -> None:
    """What is installed, which models, data and devices are usable, and what to do about what is not.

    With --model: how far that model's answers are from a plain forward of its own, and what it supports.

    Ends with 1 if something is broken that everything needs, else with 0.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "thing", "state", "what to do"):
        table.add_column(column, overflow="fold")
    broken = 0
    for finding in conforms(model) if model else findings(store):
        table.add_row(_MARKS[finding.level], *map(Text, (finding.thing, finding.state, finding.way_out)))
        broken += finding.level == "broken"
    screen = out()
    screen.print(table)
    screen.print(f"{pluralize(broken, 'thing')} broken" if broken else "nothing is broken")
    if broken:
        raise typer.Exit(1)


def findings(store: str) -> Iterator[Finding]:
    """Everything that is looked at, in the order of the report."""
    yield Finding("ok", "personaplug", __version__)
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from _libraries()
    yield from _devices()
    yield from _threads()
    yield _cache()
    yield from _models()
    yield from _data()
    yield _store(store)


def conforms(name: str) -> Iterator[Finding]:
    """What the conformance check measures of a model.

    Raises:
        ModelError: the model cannot be loaded, or gives something else than a plain forward in every way to run it.
    """
    from personaplug.backbones.causal import CausalBackbone, CausalConfig

    backbone = CausalBackbone(CausalConfig(model=name))
    support = backbone.support
    yield Finding("ok", "model", f"{backbone.key}, family {backbone.model.config.model_type}")
    state = f"at most {support.difference:.1e} standard deviations of the logits"
    yield Finding("ok", "difference to a plain forward", state)
    yield Finding("ok", "late persona", "supported")
    context = f"{backbone.context:,} tokens" if backbone.context < _UNLIMITED else "no limit"
    yield Finding("ok", "context", context)
    for thing, supported, otherwise in (
        ("shared prompt states", support.shared, "each request reads its prompt again"),
        ("batching", support.batching, "requests run one after another"),
        ("decoding from a cache", support.steps, "all columns run again for each token"),
    ):
        yield Finding("ok" if supported else "note", thing, "supported" if supported else f"not supported: {otherwise}")
    way_out = "" if support.training else "choose another model, or methods of text"
    yield Finding(
        "ok" if support.training else "note", "training", "supported" if support.training else "not supported", way_out
    )


def _libraries() -> Iterator[Finding]:
    """The libraries of personaplug itself, then those of each extra, from the package's own metadata."""
    for requirement in metadata.requires("personaplug") or ():
        match = _REQUIREMENT.match(requirement)
        if match is None or match[2] in _GATHERS:
            continue
        library, extra = match[1], match[2]
        thing = f"{library} [{extra}]" if extra else library
        try:
            yield Finding("ok", thing, metadata.version(library))
        except metadata.PackageNotFoundError:
            way_out = f"pip install 'personaplug[{extra}]'" if extra else f"pip install {library}"
            yield Finding("note" if extra else "broken", thing, "not installed", way_out)


def _devices() -> Iterator[Finding]:
    """What `auto` means here."""
    try:
        import torch

        from personaplug.models.devices import pick_device, pick_dtype
    except ModuleNotFoundError:
        yield Finding("note", "device", "no torch: no model runs in this process", "pip install 'personaplug[local]'")
        return
    device = pick_device()
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    dtype = str(pick_dtype("auto", device)).removeprefix("torch.")
    yield Finding("ok", "device", f"auto is {device} ({name}), {dtype}")


def _threads() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    unset = {k: v for k, v in _THREADS.items() if os.environ.get(k, "").upper() != v}
    state = f"{pluralize(cores, 'core')}; OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'unset')}"
    if unset:
        way_out = "if two processes compute at once: export " + " ".join(f"{k}={v}" for k, v in unset.items())
        yield Finding("note", "threads", f"{state}; {', '.join(unset)} not set: waiting threads spin", way_out)
    else:
        yield Finding("ok", "threads", f"{state}; waiting threads sleep")


def _cache() -> Finding:
    from personaplug.models import cache_dir

    folder = cache_dir()
    there = _nearest(folder)
    if not os.access(there, os.W_OK):
        return Finding("broken", "cache", f"{folder}: not writable", "export PERSONAPLUG_CACHE=A_WRITABLE_FOLDER")
    free = shutil.disk_usage(there).free
    state = f"{folder}, {free / 2**30:,.1f} GB free"
    if free < _ROOM:
        return Finding("note", "cache", state, f"free {_ROOM >> 30} GB, or set PERSONAPLUG_CACHE to a larger disk")
    return Finding("ok", "cache", state)


def _models() -> Iterator[Finding]:
    from personaplug.models import available

    for model in available():
        thing = f"model {model.bundle.name}"
        yield _pulled(thing, model.folder, model.size, f"personaplug models pull {model.bundle.name}")


def _data() -> Iterator[Finding]:
    from personaplug.data import available

    for data_set in available():
        thing = f"data {data_set.data_set.name}"
        yield _pulled(thing, data_set.folder, data_set.size, f"personaplug data pull {data_set.data_set.name}")


def _pulled(thing: str, folder: Path | None, size: int, command: str) -> Finding:
    if folder is None:
        return Finding("note", thing, f"not here ({size / 1e6:,.0f} MB to fetch)", command)
    return Finding("ok", thing, f"{size / 1e6:,.0f} MB in {folder}")


def _store(url: str) -> Finding:
    """Whether the store opens; one that is not there is no fault as long as it can be made."""
    thing, file = f"store {safe(url)}", store_file(url)
    if file is not None and not file.exists():
        there = _nearest(file.absolute().parent)
        if not os.access(there, os.W_OK):
            return Finding("broken", thing, f"{there} is not writable", "name another file with --store")
        return Finding("note", thing, "not there yet", f"personaplug ingest PATH --store {safe(url)}")
    try:
        with closing(open_store(url)) as opened:
            users = len(opened.users())
    except PersonaplugError as error:
        state, _, way_out = str(error).rpartition("; ")
        return Finding("broken", thing, state, way_out)
    if file is not None and not (os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK)):
        return Finding("note", thing, f"{pluralize(users, 'user')}, read-only", "make the file and its folder writable")
    return Finding("ok", thing, pluralize(users, "user"))


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next(p for p in (folder, *folder.parents) if p.exists())
