"""`personaplug serve`: trained methods behind addresses that any OpenAI client knows."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personaplug.cli.console import DEFAULT_STORE, WORK, StoreOption, err, open_store, safe
from personaplug.core.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from personaplug.serve.runtime.service import Served, Service
    from personaplug.serve.settings import Settings
    from personaplug.stores.base import Store
    from personaplug.stores.database.keys import KeyTable

PLACE = (WORK, 11)
EPILOG = (
    "Examples: personaplug serve --store users.db"
    "\n\npersonaplug serve runs/mail/plug --store users.db"
    "\n\npersonaplug serve runs/mail/plug old=runs/mail/plug-1 bm25 --store users.db --host 0.0.0.0"
)


def serve(  # noqa: PLR0913 (a command's options, each of which people look for by its own name)
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARTIFACT...",
            help="Trained methods: folders or hub ids, LABEL=FOLDER to name one; and methods that need no training, by "
            "name. Without a trained one first, what this package brings for smollm2-135m. The bare model "
            "(none) is always there.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Any but loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 for any that is free.")] = 8000,
    rate: Annotated[float, typer.Option(min=0, metavar="N", help="Requests a second of a key; 0 for no limit.")] = 20,
    user_rate: Annotated[
        float, typer.Option(min=0, metavar="N", help="Requests a second for one user; 0 for no limit.")
    ] = 10,
    max_running: Annotated[
        int, typer.Option("--max-running", "--rows", min=1, metavar="N", help="Answers decoded together.")
    ] = 16,
    max_batch_tokens: Annotated[
        int,
        typer.Option(
            "--max-batch-tokens", "--batch-tokens", min=0, metavar="N", help="Tokens that these hold; 0 for no limit."
        ),
    ] = 65_536,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", "--waiting", min=1, metavar="N", help="Answers that may wait for that.")
    ] = 256,
    openvino: Annotated[
        bool | None,
        typer.Option(
            "--openvino/--no-openvino",
            help="Run sentence encoders in OpenVINO (extra openvino), faster on a CPU; by default where it is there.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, metavar="N", help="Time for an answer.")] = 120,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A bench report (`personaplug report`) for the page to show.")
    ] = None,
    sets: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="backbone.*: a model that runs elsewhere in place of the artifact's own: backbone.name=vllm.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer's own default for a list
) -> None:
    """Serve trained methods: OpenAI's chats and completions, personal by naming the user; users, histories, metrics."""
    from personaplug.serve.http_server import is_loopback, log_to_stderr, server
    from personaplug.serve.settings import Settings

    if report is not None and not report.is_file():
        raise ConfigError(f"--report {report}: no such file; write one with `personaplug report`")
    settings = Settings(
        open_locally=is_loopback(host),
        rate=rate,
        user_rate=user_rate,
        max_running=max_running,
        max_batch_tokens=max_batch_tokens,
        max_waiting=max_waiting,
        request_seconds=seconds,
        openvino=openvino,
        backbone=_backbone(sets),
    )
    app = _app(_named(artifacts or []), store, host, settings, report)
    log_to_stderr()
    running = server(app, host, port)
    running.run()
    if not running.started:
        raise ConfigError(f"--port {port}: {host} does not give it; name another one")


def _app(named: list[tuple[str, str]], store: str, host: str, settings: Settings, report: Path | None) -> FastAPI:
    """The application, which closes the store and the keys that are opened here."""
    from personaplug.serve.app import create_app
    from personaplug.serve.telemetry.tracing import tracing_of
    from personaplug.stores.database.keys import KeyTable

    tracing = tracing_of()  # before a store is made
    with ExitStack() as left:
        opened = left.enter_context(closing(open_store(store, create=True)))
        keys = left.enter_context(closing(KeyTable(store)))
        if not settings.open_locally:
            _check_keys(keys, host, store)
        service = _service(named, opened, settings)
        app = create_app(service, keys, report, tracing)
        left.pop_all()  # the app closes all of them
    for id_ in service.models:
        err().print(f"model {safe(id_)}", markup=False)
    return app


def _check_keys(keys: KeyTable, host: str, store: str) -> None:
    """Others can reach this address: there must be a key."""
    from personaplug.serve.security.access import KeyRing

    if not KeyRing(keys).any_good():
        way_out = f"make a key with `personaplug keys create --store {store}`"
        raise ConfigError(f"--host {host}: others could reach the users; {way_out}")


def _backbone(sets: list[str]) -> dict[str, Any]:
    """The section that `--set`s write."""
    from personaplug.core.config import apply_sets

    given = apply_sets({}, sets)
    if set(given) - {"backbone"} or not isinstance(given.get("backbone", {}), dict):
        raise ConfigError(f"--set {' '.join(sets)}: only backbone.* is set here, all else is the artifact's own")
    return dict(given.get("backbone", {}))


def _named(artifacts: list[str]) -> list[tuple[str, str]]:
    """Label ("" for none) and place of each artifact, or "" and a method's name; the first one has a model.

    Raises:
        ModelError: there is no such artifact.
    """
    from personaplug.core import registry
    from personaplug.pipeline import shipped
    from personaplug.pipeline.artifacts import load_info, locate

    known = registry.names("method")
    named = []
    for given in artifacts:
        label, _, place = given.rpartition("=")
        if place not in known:
            load_info(locate(place))
        named.append((label, place))
    if not named or named[0][1] in known:
        err().print(shipped.SAID, markup=False, soft_wrap=True)
        named.insert(0, ("", shipped.DEFAULT))
    return named


def _service(named: list[tuple[str, str]], store: Store, settings: Settings) -> Service:
    """Load everything that was named."""
    from personaplug.core import registry
    from personaplug.serve.runtime.loader import ModelLoader

    loader, known = ModelLoader(store, settings), registry.names("method")
    first: Served | None = None
    for label, place in named:
        if place in known and first is not None:
            loader.add_untrained(first, place)
        else:
            err().print(f"loading {safe(place)} …", markup=False)
            served = loader.add(place, label)
            first = first or served
    return loader.service()
