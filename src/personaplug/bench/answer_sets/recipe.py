"""A recipe of an answer set: which prompts, who answers them, by which rewards, for which users."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personaplug import data
from personaplug.core.errors import ConfigError, DataError, did_you_mean
from personaplug.core.names import quoted
from personaplug.data.jsonl import MAX_LINE_BYTES, find_data, read_behaviors
from personaplug.data.opening import Source
from personaplug.data.records import read_records
from personaplug.tasks.simulate.diversity import ALPHAS


@dataclass(frozen=True, slots=True)
class Prompts:
    """Where prompts come from.

    Attributes:
        path: a packaged data set's name, a folder with behaviors.jsonl (its inputs are the prompts), a .jsonl file
            with a `prompt` a line, or a .txt file with a prompt a line.
        count: how many are drawn; all if there are fewer.
        test: how many of them are the test.
        min_words: shorter ones are left out.
        max_characters: longer ones are left out (the paper: 2,400).
        seed: of the draw.
    """

    path: Path = Path("chitchat")
    count: int = 600
    test: int = 100
    min_words: int = 6
    max_characters: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.test < self.count:
            raise ConfigError(f"prompts: count = {self.count}, test = {self.test}; some must be left for train")


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes one answer to each prompt.

    Attributes:
        backbone: a key of the recipe's backbones.
        system: system message: a style.
        temperature: of sampling.
        top_p: of sampling.
        max_tokens: of an answer.
        seed: of sampling.
    """

    backbone: str
    system: str = ""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 128
    seed: int = 0


@dataclass(frozen=True, slots=True)
class UsersConfig:
    """Whom the set is for; written beside it, and the defaults of the task `personalllm` on it.

    Attributes:
        count: users.
        alpha: of their Dirichlet.
        seed: of their draw.
        alphas: of the analysis.
    """

    count: int = 1000
    alpha: float = 0.05
    seed: int = 0
    alphas: tuple[float, ...] = ALPHAS


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides an answer set.

    Attributes:
        prompts: where they come from.
        backbones: name -> section of a backbone.
        writers: name -> who writes; one answer each to each prompt.
        rewards: name -> section of a reward.
        users: whom it is for.
        batch: prompts answered together, and written together.
    """

    prompts: Prompts = Prompts()
    backbones: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"small": {"name": "causal", "model": "smollm2-135m"}}
    )
    writers: Mapping[str, Writer] = field(default_factory=dict)
    rewards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    users: UsersConfig = UsersConfig()
    batch: int = 16

    def __post_init__(self) -> None:
        if len(self.writers) < 2 or not self.rewards or self.batch < 1:
            raise ConfigError(
                f"recipe: {len(self.writers)} [writers.*], {len(self.rewards)} [rewards.*], batch = {self.batch}; "
                "expected two writers or more, a reward or more, and a batch of 1 or more"
            )
        for name, writer in self.writers.items():
            if writer.backbone not in self.backbones:
                raise ConfigError(
                    f"writers.{name}: backbone = {writer.backbone!r}; {did_you_mean(writer.backbone, self.backbones)}"
                )


def draw_prompts(config: Prompts) -> list[str]:
    """The recipe's prompts, drawn by its seed; the last `test` of them are the test. None stands there twice.

    Raises:
        DataError: the file is not there, or holds too few prompts.
    """
    distinct = dict.fromkeys(" ".join(text.split()) for text in _texts(config.path))
    usable = [t for t in distinct if len(t.split()) >= config.min_words and len(t) <= config.max_characters]
    random.Random(config.seed).shuffle(usable)
    if len(usable) <= config.test:
        raise DataError(
            f"{config.path}: {len(usable)} usable prompts, of which {config.test} would be the test; add some"
        )
    return usable[: config.count]


def _texts(path: Path) -> Iterator[str]:
    if path.suffix == ".txt":
        yield from _lines(path)
        return
    if path.suffix == ".jsonl" and path.is_file():
        rows = [(where, row) for where, row in read_records(Source(path), "", MAX_LINE_BYTES) if isinstance(row, dict)]
        if rows and "prompt" in rows[0][1]:
            for where, row in rows:
                if not isinstance(row.get("prompt"), str):
                    raise DataError(f"{where}: prompt is {quoted(row.get('prompt'))}, expected a text")
                yield row["prompt"]
            return
    located = data.path(str(path)) if str(path) in data.DATA_SETS and not path.exists() else path
    file, _ = find_data(located)
    yield from (b.input for b in read_behaviors(file))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; name prompts, or a packaged data set") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8: {error}") from None
