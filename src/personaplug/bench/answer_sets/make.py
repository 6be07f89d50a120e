"""Build an answer set from a recipe: write answers, score them, standardise, measure how users differ; resumable."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from personaplug.backbones.base import Backbone
from personaplug.bench.answer_sets.recipe import Recipe, Writer, draw_prompts
from personaplug.bench.journal import Journal
from personaplug.core.config import to_mapping
from personaplug.core.files import write_text
from personaplug.core.registry import Section
from personaplug.core.types import Prompt, Request, Sampling
from personaplug.pipeline.build import build_backbone
from personaplug.pipeline.fingerprint import portable
from personaplug.pipeline.run import Progress
from personaplug.rewards.base import Reward
from personaplug.rewards.panel import Panel, measured
from personaplug.tasks.simulate.answer_set import PANEL_FILE, SET_FILE, AnswerSet

_SCORED = 256  # answers between two writes


@dataclass(frozen=True, slots=True, eq=False)
class BuiltSet:
    """An answer set that is complete.

    Attributes:
        train: its train prompts, whose answers are the reference set.
        test: its test prompts.
        panel: the rewards' scales.
    """

    train: AnswerSet
    test: AnswerSet
    panel: Panel


def build(recipe: Recipe, folder: Path, progress: Progress) -> BuiltSet:
    """Build a set in a folder; what is there already, from this recipe or one that shares parts of it, is not redone.

    Leaves train.jsonl and test.jsonl (the published columns), panel.json and set.json, and beside them the journals
    that killed runs go on from, in answers/ and scores/.

    Args:
        recipe: what to build.
        folder: where.
        progress: shows a step: called with its name and size, yields what advances it.

    Raises:
        DataError: prompts are missing, or a journal there is of another recipe.
        ModelError: a model is not here.
    """
    prompts = draw_prompts(recipe.prompts)
    answers = _written(recipe, prompts, folder / "answers", progress)
    raw, keys = _scored(recipe, prompts, answers, folder / "scores", progress)
    names = tuple(recipe.writers)
    whole = AnswerSet(tuple(prompts), tuple(answers), (names,) * len(prompts), tuple(recipe.rewards), raw)
    cut = len(prompts) - recipe.prompts.test
    train, test = whole.take(range(cut)), whole.take(range(cut, len(prompts)))
    panel = measured(train.raw.reshape(-1, len(recipe.rewards)), keys)
    train.write(folder / "train.jsonl")
    test.write(folder / "test.jsonl")
    panel.save(folder / PANEL_FILE)
    write_text(folder / SET_FILE, json.dumps(portable(to_mapping(recipe)), indent=2, ensure_ascii=False) + "\n")
    return BuiltSet(train, test, panel)


# -- answers ----------------------------------------------------------------------------------------------------------


def _written(recipe: Recipe, prompts: Sequence[str], folder: Path, progress: Progress) -> list[tuple[str, ...]]:
    """Each writer's answer to each prompt; a backbone is loaded once, and not at all if nothing is missing."""
    journals: dict[str, Journal] = {}
    for backbone, section in recipe.backbones.items():
        loaded: Backbone | None = None
        for name, writer in recipe.writers.items():
            if writer.backbone != backbone:
                continue
            journal = Journal(*_journal(folder, name, [section, to_mapping(replace(writer, backbone=""))]))
            journals[name] = journal
            if all(_key(p) in journal.values for p in prompts):
                continue
            loaded = loaded or build_backbone(section)
            with progress(f"answers of {name}", len(prompts)) as advance:
                _write(loaded, writer, prompts, recipe.batch, journal, advance)
    return [tuple(str(journals[name].values[_key(p)]) for name in recipe.writers) for p in prompts]


def _write(
    backbone: Backbone,
    writer: Writer,
    prompts: Sequence[str],
    batch: int,
    journal: Journal,
    advance: Callable[[int], None],
) -> None:
    for at in range(0, len(prompts), batch):
        chunk = prompts[at : at + batch]
        missing = [p for p in chunk if _key(p) not in journal.values]
        if missing:
            # Drawn from the chunk: one stream for all prompts would give a writer the same luck everywhere.
            seed = random.Random(f"{writer.seed}/{_key(chunk[0])}").getrandbits(48)
            sampling = Sampling(writer.max_tokens, writer.temperature, writer.top_p, seed=seed)
            asked = [Prompt(Request.of(None, p, writer.system or None).messages) for p in missing]
            said = backbone.generate(asked, sampling)
            journal.add({_key(p): c.text.strip() for p, c in zip(missing, said, strict=True)})
        advance(len(chunk))


# -- scores -----------------------------------------------------------------------------------------------------------


def _scored(
    recipe: Recipe, prompts: Sequence[str], answers: Sequence[Sequence[str]], folder: Path, progress: Progress
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], dict[str, str]]:
    """Raw scores [p, a, w] of all answers, and each reward's key."""
    pairs = [(p, a) for p, own in zip(prompts, answers, strict=True) for a in own]
    columns: list[list[float]] = []
    keys: dict[str, str] = {}
    for name, section in recipe.rewards.items():
        reward: Reward = Section.parse("reward", section).build()
        keys[name] = reward.key
        journal = Journal(_journal(folder, name, [reward.key])[0], reward.key)
        with progress(f"scores of {name}", len(pairs)) as advance:
            columns.append(score_missing(reward, pairs, journal, advance))
    shape = (len(prompts), len(recipe.writers), len(recipe.rewards))
    return np.array(columns).T.reshape(shape), keys


def score_missing(
    reward: Reward, pairs: Sequence[tuple[str, str]], journal: Journal, advance: Callable[[int], None]
) -> list[float]:
    """The reward's scores of (prompt, answer) pairs, of which only those that the journal lacks are computed."""
    missing = {k: pair for pair in pairs if (k := _key(*pair)) not in journal.values}
    advance(len(pairs) - len(missing))
    todo = list(missing.items())
    for at in range(0, len(todo), _SCORED):
        chunk = todo[at : at + _SCORED]
        scores = reward.score([p for _, (p, _) in chunk], [a for _, (_, a) in chunk])
        journal.add({k: float(s) for (k, _), s in zip(chunk, scores, strict=True)})
        advance(len(chunk))
    return [float(journal.values[_key(*pair)]) for pair in pairs]


def _journal(folder: Path, name: str, made_by: Any) -> tuple[Path, str]:
    """The file of a journal, named by what makes its values, and that in words."""
    maker = json.dumps(portable(made_by), sort_keys=True)
    digest = hashlib.blake2b(maker.encode(), digest_size=5).hexdigest()
    return folder / f"{name}-{digest}.jsonl", maker


def _key(*texts: str) -> str:
    return hashlib.blake2b(json.dumps(texts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
