"""Two people beside each other: what they write, and the same question answered as each and by the bare model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from personaplug.cli.console import err, out, safe
from personaplug.core.types import Behavior, Prompt
from personaplug.pipeline.shipped import shipped_people

if TYPE_CHECKING:
    from personaplug.methods.base import Method
    from personaplug.pipeline.personalizer import Personalizer
    from personaplug.stores.base import Store
    from personaplug.tasks.base import TaskInfo

BARE = "the bare model"
_WIDTH = 88  # characters of a text


def two_people(model: str) -> dict[str, list[Behavior]]:
    """The two who are shown: the first of those who are shipped."""
    return dict(islice(shipped_people(model).items(), 2))


def pull_model(name: str) -> None:
    """Fetch a bundled model that is not here, and say so."""
    from personaplug import models

    found = next((a for a in models.available() if a.bundle.name == name), None)
    if found is not None and found.folder is None:
        err().print(f"the model {name} is not here yet; fetching it, once ({found.size / 1e6:.0f} MB)", markup=False)
        models.pull(name, lambda text: err().print(text, markup=False))


@contextmanager
def passing_store() -> Iterator[Store]:
    """A store that is gone afterwards."""
    from personaplug.pipeline.build import build_store
    from personaplug.stores import store_section

    with TemporaryDirectory() as folder, closing(build_store(store_section(Path(folder) / "users.db"))) as store:
        yield store


def shipped_personalizer(store: Store, name: str) -> Personalizer:
    """The shipped artifact with its model, which computes in float32: the same answers on every machine."""
    from personaplug.pipeline.artifacts import load_info, locate
    from personaplug.pipeline.build import build_backbone
    from personaplug.pipeline.personalizer import Personalizer

    section = load_info(locate(name)).backbone.section("backbone").updated(dtype="float32", device="cpu")
    return Personalizer.from_pretrained(name, store=store, backbone=build_backbone(section))


@contextmanager
def with_people(method: Method, info: TaskInfo, people: Mapping[str, Sequence[Behavior]]) -> Iterator[Personalizer]:
    """A trained method with these people alone."""
    from personaplug.pipeline.personalizer import Personalizer

    with passing_store() as store:
        store.add(b for own in people.values() for b in own)
        yield Personalizer(method, store, info)


def introduce(people: Mapping[str, Sequence[Behavior]]) -> None:
    """Three short texts of each."""
    for user, own in people.items():
        out().print(f"\n{safe(user)} writes:", markup=False, style="bold")
        for behavior in _short(own):
            out().print(f"  {safe(behavior.output, _WIDTH)}", markup=False, soft_wrap=True)


def answer_as(personalizer: Personalizer, users: Sequence[str], question: str, *, bare: bool = True) -> None:
    """Print the question with the answers as these users, and the bare model's."""
    answers = [(f"as {user}", text) for user, text in zip(users, _answers(personalizer, users, question), strict=True)]
    if bare:
        answers.append((BARE, _bare(personalizer, question)))
    out().print(f"\n{safe(question)}", markup=False, style="bold")
    width = max(len(label) for label, _ in answers)
    for label, text in answers:
        style = "dim" if label == BARE else None
        out().print(f"  {safe(label):{width}}  {safe(text, 2 * _WIDTH)}", markup=False, soft_wrap=True, style=style)


def _answers(personalizer: Personalizer, users: Sequence[str], question: str) -> list[str]:
    requests = [personalizer.task.request(user, question) for user in users]
    return [_whole(c.text, c.finish_reason) for c in personalizer.answer_many(requests)]


def _bare(personalizer: Personalizer, question: str) -> str:
    """The frozen model's own answer to the same prompt, without any soft token."""
    prompt = Prompt(personalizer.task.request(None, question).messages)
    [answer] = personalizer.backbone.generate([prompt], replace(personalizer.task.sampling, strength=1.0))
    return _whole(answer.text, answer.finish_reason)


def _whole(text: str, reason: str) -> str:
    """An answer, marked where it was cut."""
    return f"{text.strip()} …" if reason == "length" else text.strip() or "(nothing)"


def _short(own: Sequence[Behavior], count: int = 3) -> list[Behavior]:
    """The newest texts that are neither a word nor longer than a line."""
    fitting = [b for b in own if 20 <= len(b.output) <= _WIDTH and "\n" not in b.output]
    return (fitting or list(own))[-count:]
