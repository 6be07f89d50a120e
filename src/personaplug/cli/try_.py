"""`personaplug try`: two people, one question, their answers, in a minute; then the one who is typing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from personaplug.cli.console import START, err, out
from personaplug.core.errors import DataError
from personaplug.core.types import Behavior

if TYPE_CHECKING:
    from personaplug.pipeline.personalizer import Personalizer

PLACE = (START, 0)
EPILOG = 'Examples: personaplug try\n\npersonaplug try --question "any plans for tonight?"'

QUESTION = "what did you do last weekend?"
YOU = "you"
_MESSAGES = 5


def try_(
    question: Annotated[
        str,
        typer.Option("--question", "-q", metavar="TEXT", help="What both are asked.", show_default=f"'{QUESTION}'"),
    ] = "",
) -> None:
    """See it in a minute: one small frozen model answers as two people, then as you.

    The two are real people of public chats (MIT licence, pseudonyms). Nothing was trained: the model reads a few of
    their newest texts, and what these change in its answer is made stronger; now and then it copies from them. In a
    terminal and without --question it then asks for five messages of yours and answers as you. Nothing is stored.

    The first time, the model is fetched (93 MB). No key, no account, no graphics card.
    """
    from personaplug.cli import pair
    from personaplug.pipeline.shipped import DEFAULT

    if question and not question.strip():
        raise DataError("the question is empty; write one, or leave --question out")
    pair.pull_model(DEFAULT)
    people = pair.two_people(DEFAULT)
    pair.introduce(people)
    with pair.passing_store() as store:
        with err().status(f"loading {DEFAULT} …"):
            me = pair.shipped_personalizer(store, DEFAULT)
            me.observe(*(b for own in people.values() for b in own))
        pair.answer_as(me, list(people), question.strip() or QUESTION)
        if not question and _typing():
            _you(me)
    err().print("\nyour own people: personaplug ingest --help; the whole path: personaplug demo", markup=False)


def _you(me: Personalizer) -> None:
    """Read messages of whoever is typing, then questions, and answer as them."""
    from personaplug.cli import pair

    screen = out()
    screen.print(f"\nNow you: paste {_MESSAGES} messages of yours, one a line; an empty line ends.", style="bold")
    lines = []
    while line := _line("  "):
        lines.append(line)
    if not lines:
        return
    me.observe(*(Behavior(YOU, str(i), "", line, float(i)) for i, line in enumerate(lines)))
    if len(lines) < _MESSAGES:
        screen.print(f"({len(lines)} are few: the more it reads, the more it is you)", style="dim")
    asked = QUESTION
    while asked:
        pair.answer_as(me, [YOU], asked, bare=False)
        asked = _line("\nask something else, or leave with an empty line: ")


def _typing() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty()


def _line(prompt: str) -> str:
    """What is typed, or "" at the end of the input."""
    try:
        return out().input(prompt).strip()
    except EOFError:
        return ""
