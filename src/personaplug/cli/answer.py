"""`personaplug answer`: one request or a chat as a user, beside other methods if wanted, and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personaplug.cli.console import DEFAULT_STORE, WORK, StoreOption, err, format_time, open_store, out, safe
from personaplug.core.errors import ConfigError, DataError, PersonaplugError, UnknownNameError, did_you_mean
from personaplug.core.types import Message, Request, Sampling
from personaplug.data.feedback import thumb_behavior
from personaplug.pipeline import shipped

if TYPE_CHECKING:
    from rich.table import Table

    from personaplug.pipeline.personalizer import Personalizer
    from personaplug.stores.base import Store

PLACE = (WORK, 10)
EPILOG = (
    'Examples: personaplug answer --user ada --store users.db "Dinner on Friday?"'
    '\n\npersonaplug answer runs/mail/plug --user ada --store users.db "Dinner on Friday?" --vs none --why'
    "\n\npersonaplug answer runs/mail/plug --user ada --store users.db"
)

_WHY = 10  # behaviours in the table of --why
_HELP = """\
/user NAME   go on as another user, in a new conversation
/vs NAME     show a method's answer beside (none, or the folder of a trained one); /vs alone: only the first
/why         what carried the persona in the last request
/up, /down   whether the last answer was liked; stored as the user's feedback, in effect from the next request on
/new         a new conversation
/quit        leave (or Ctrl-D)"""


def answer(  # noqa: PLR0913 (a command's options, each of which people look for by its own name)
    artifact: Annotated[
        str | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="A trained plug: a folder or a hub id; or a method that needs no training, by name. Without it, what "
            "this package brings for smollm2-135m.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The request; without it, an interactive chat.", show_default=False),
    ] = None,
    *,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="As whom; by default as the unknown user.", show_default=False)
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    vs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="Show this method's answer beside it: 'none' for the model alone, or a trained plug's folder. "
            "May be repeated.",
        ),
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Show which behaviours carried the persona.")] = False,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, metavar="T", help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Nucleus sampling.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the random draws.")] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="S", help="Of the persona: 1 as measured, 0 nobody, 2 exaggerated.", show_default="1"
        ),
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="No N tokens come up twice in an answer; 0: no such rule.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Ends the answer where it comes up. May be repeated.")
    ] = None,
) -> None:
    """Answer as a user: one request, or a chat when no TEXT is given.

    What is not set stands as the plug was trained with.
    """
    artifact, text = _place_and_text(artifact, text)
    if text is not None and not text.strip():
        raise DataError("the request is empty; write one, or leave it out for a chat")
    given = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "strength": strength,
        "no_repeat_ngram": no_repeat_ngram,
        "stop": tuple(stop) if stop else None,
    }
    for name in vs or ():
        _is_folder(name)
    with closing(open_store(store)) as opened:
        if user is None:
            err().print("no --user: answering as the unknown user")
        else:
            opened.history(user)  # a wrong name should show before a model is loaded
        session = ChatSession.start(artifact, opened, user, {k: v for k, v in given.items() if v is not None})
        for name in vs or ():
            session.add_contestant(name)
        if text is None:
            _chat(session)
        else:
            session.ask(text)
            if why:
                session.explain()


@dataclass(slots=True)
class Contestant:
    """One of the answerers, with what was said so far in its conversation."""

    name: str
    personalizer: Personalizer
    turns: list[Message] = field(default_factory=list)

    def request(self, user: str | None, text: str) -> Request:
        """The text in the task's words, after what was said."""
        base = self.personalizer.task.request(user, text)
        return Request(user, (*base.messages[:-1], *self.turns, base.messages[-1]), base.query)

    def remember(self, text: str, answer: str) -> None:
        """Keep a turn, where the task is one of free text: a rating or a choice has no conversation."""
        if self.personalizer.task.kind == "text":
            self.turns += [Message("user", text), Message("assistant", answer)]


@dataclass(slots=True)
class ChatSession:
    """Who talks with which sides; the first one is the plug that was asked for."""

    store: Store
    user: str | None
    contestants: list[Contestant]
    given: dict[str, Any]
    last: Request | None = None
    reply: str | None = None  # of the first contestant, to the last request; None once it was judged

    @staticmethod
    def start(artifact: str, store: Store, user: str | None, given: dict[str, Any]) -> ChatSession:
        """Load the plug with its models."""
        main = _named(artifact, store)
        return ChatSession(store, user, [Contestant(main.method.name, main)], given)

    def add_contestant(self, name: str) -> None:
        """Another method on the same backbone; the conversation begins anew, so that all sides hear the same."""
        self.restart(self.user)
        self.contestants.append(
            Contestant(
                Path(name).expanduser().resolve().name, _other(name, self.contestants[0].personalizer, self.store)
            )
        )

    def restart(self, user: str | None) -> None:
        """A new conversation, maybe as somebody else."""
        if user is not None:
            self.store.history(user)
        self.user, self.last, self.reply = user, None, None
        for contestant in self.contestants:
            contestant.turns.clear()

    def ask(self, text: str) -> None:
        """Show the answers as they come: plainly if there is one contestant, else next to each other."""
        requests = [contestant.request(self.user, text) for contestant in self.contestants]
        self.last = requests[0]
        answers = self._stream(requests[0]) if len(self.contestants) == 1 else self._compare(requests)
        for contestant, reply in zip(self.contestants, answers, strict=True):
            contestant.remember(text, reply)
        self.reply = answers[0]

    def judge(self, up: bool) -> None:
        """Keep whether the user liked the last answer.

        Raises:
            DataError: nobody was answered since the last judgement, or the unknown user was.
        """
        if self.last is None or self.user is None or self.reply is None:
            raise DataError("there is no answer to a known user to judge; choose one with /user NAME, and ask")
        id_ = f"thumb-{time.time_ns():x}"
        self.store.add([thumb_behavior(self.user, id_, self.last.query, self.reply, up, time.time())])
        self.reply = None
        err().print(f"stored: {safe(self.user)} {'liked' if up else 'disliked'} it", markup=False)

    def explain(self) -> None:
        """A table of the behaviours that carried the persona in the last request."""
        screen = out()
        if self.last is None:
            screen.print("nothing was asked yet")
            return
        weights = [] if self.user is None else self.contestants[0].personalizer.explain(self.user, self.last)
        if not weights:
            screen.print(f"no behaviour carried the answer of {self.contestants[0].name!r}", markup=False)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, title=f"{min(_WHY, len(weights))} of {len(weights):,} behaviours")
        for column in ("share", "at", "input", "output"):
            table.add_column(column)
        for w in weights[:_WHY]:
            b = w.behavior
            table.add_row(f"{w.weight:.1%}", format_time(b.at), Text(safe(b.input, 60)), Text(safe(b.output, 60)))
        screen.print(table)

    def _pieces(self, contestant: Contestant, request: Request) -> Iterator[str]:
        sampling: Sampling = replace(contestant.personalizer.task.sampling, **self.given)
        return contestant.personalizer.stream(self.user, request, sampling)

    def _stream(self, request: Request) -> list[str]:
        reply = ""
        for piece in self._pieces(self.contestants[0], request):
            reply += piece
            sys.stdout.write(safe(piece) if sys.stdout.isatty() else piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return [reply]

    def _compare(self, requests: list[Request]) -> list[str]:
        from rich.live import Live

        answers = [""] * len(self.contestants)
        screen = out()
        with Live(console=screen, refresh_per_second=8, transient=True) as live:
            for i, (contestant, request) in enumerate(zip(self.contestants, requests, strict=True)):
                for piece in self._pieces(contestant, request):
                    answers[i] += piece
                    if screen.is_terminal:
                        live.update(self._table(answers))
        screen.print(self._table(answers))
        return answers

    def _table(self, answers: list[str]) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.ROUNDED, expand=True)
        for contestant in self.contestants:
            table.add_column(Text(contestant.name), ratio=1, overflow="fold")
        table.add_row(*(Text(safe(reply)) for reply in answers))
        return table


def _place_and_text(first: str | None, second: str | None) -> tuple[str, str | None]:
    """Artifact and request of the two arguments, each of which may be left out: a request has spaces."""
    if second is None and first is not None and not Path(first).expanduser().is_dir() and len(first.split()) != 1:
        first, second = None, first
    if first is None:
        err().print(shipped.SAID, markup=False, soft_wrap=True)
    return first or shipped.DEFAULT, second


def _named(name: str, store: Store) -> Personalizer:
    """A trained plug, or a method that needs no training on the model, and with the task, of the shipped plug."""
    from personaplug.core import registry

    if name in registry.names("method") and not Path(name).expanduser().is_dir() and not _is_folder(name):
        return _other(name, _trained(shipped.DEFAULT, store), store)
    return _trained(name, store)


def _trained(artifact: str, store: Store, **parts: Any) -> Personalizer:
    from personaplug.pipeline.artifacts import load_info, locate
    from personaplug.pipeline.personalizer import Personalizer

    load_info(locate(artifact))  # before anything is said of loading
    screen = err()
    with screen.status(f"loading {safe(artifact)} …"):
        return Personalizer.from_pretrained(artifact, store=store, **parts)


def _other(name: str, main: Personalizer, store: Store) -> Personalizer:
    """A method on the backbone that is loaded."""
    from personaplug.core import registry
    from personaplug.pipeline.personalizer import Personalizer

    if _is_folder(name):
        return _trained(name, store, backbone=main.backbone)
    parts = {"backbone": main.backbone, "vectors": main.method.vectors, "task": main.task}
    return Personalizer(registry.build("method", name, {}, **parts), store, main.task)


def _is_folder(name: str) -> bool:
    """Whether a name is that of a trained method's folder, or else of a method that needs no training.

    Raises:
        ConfigError: a method that must be trained.
        UnknownNameError: neither.
    """
    from personaplug.core import registry

    known = registry.names("method")
    named = name in known
    if named and not registry.find("method", name).trained:
        return False
    if Path(name).expanduser().is_dir():
        return True
    if named:
        raise ConfigError(f"{name!r}: this method must be trained; give the folder of a trained one")
    raise UnknownNameError(f"{name!r}: no method and no folder of that name; {did_you_mean(name, known)}")


def _chat(session: ChatSession) -> None:
    """Read lines until there are no more; an error is printed and the chat goes on."""
    screen, typing = out(), sys.stdin.isatty()
    if typing:
        screen.print("a chat; /help lists the commands", style="dim")
    while True:
        try:
            line = screen.input(f"[bold]{'nobody' if session.user is None else 'you'}>[/] " if typing else "").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        try:
            if line.startswith("/"):
                _command(session, line)
            elif line:
                session.ask(line)
        except PersonaplugError as error:
            err().print(f"error: {error}", markup=False, soft_wrap=True)


def _command(session: ChatSession, line: str) -> None:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "/why":
        session.explain()
    elif word in ("/up", "/down"):
        session.judge(word == "/up")
    elif word == "/new":
        session.restart(session.user)
    elif word == "/user" and rest:
        session.restart(rest)
    elif word == "/vs" and rest:
        session.add_contestant(rest)
    elif word == "/vs":
        del session.contestants[1:]
    else:
        out().print(_HELP, markup=False)
