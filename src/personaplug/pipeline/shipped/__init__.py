"""What this package brings for a model, by the model's name: an artifact, and people to try it on.

How a plug for it is trained: experiments/shipped/; how one is shipped and measured: benchmarks/shipped_plug.py.
"""

from __future__ import annotations

from pathlib import Path

from personaplug.core.types import Behavior
from personaplug.data.jsonl import read_behaviors

DEFAULT = "smollm2-135m"
"""What the commands use where no artifact is named."""

SAID = (
    f"no artifact is named: {DEFAULT} with `recent` (a user's newest texts in the prompt) comes with this package; "
    "no plug has been measured to be better yet for people whom it was not trained on"
)
"""One line that says so, and why that one."""

PEOPLE = "people.jsonl"

_HERE = Path(__file__).parent


def shipped_plug(model: str) -> Path | None:
    """The folder of the artifact for this model, or None."""
    return next((f for f in _HERE.iterdir() if f.name == model and (f / PEOPLE).is_file()), None)


def shipped_people(model: str = DEFAULT) -> dict[str, list[Behavior]]:
    """A few real people, under pseudonyms, of those whom no plug is trained on: each one's texts, oldest first."""
    people: dict[str, list[Behavior]] = {}
    for behavior in read_behaviors(_HERE / model / PEOPLE):
        people.setdefault(behavior.user, []).append(behavior)
    return people
