"""The plugs inside this package, by the name of the model that each was trained in front of, and people to try them on.

How they were made: experiments/shipped/; what they are worth: benchmarks/shipped_plug.py.
"""

from __future__ import annotations

from pathlib import Path

from personaplug.core.types import Behavior
from personaplug.data.jsonl import read_behaviors

DEFAULT = "smollm2-135m"
"""What the commands use where no artifact is named."""

SAID = f"no artifact is named: using the plug that comes with this package, for {DEFAULT} and replies in chats"
"""One line that says so, and why that one."""

PEOPLE = "people.jsonl"

_HERE = Path(__file__).parent


def shipped_plug(model: str) -> Path | None:
    """The folder of the artifact that was trained in front of this model, or None."""
    return next((f for f in _HERE.iterdir() if f.name == model and (f / PEOPLE).is_file()), None)


def shipped_people(model: str = DEFAULT) -> dict[str, list[Behavior]]:
    """A few real people whom that plug was never trained on, under pseudonyms: each one's texts, oldest first."""
    people: dict[str, list[Behavior]] = {}
    for behavior in read_behaviors(_HERE / model / PEOPLE):
        people.setdefault(behavior.user, []).append(behavior)
    return people
