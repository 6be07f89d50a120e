"""Several encoders side by side: what one does not see, another does.

text ──┬─ part 1 ─► [e_1] ─┐
       ├─ part 2 ─► [e_2] ─┼─ concatenated ─► [e], e = e_1 + e_2 + ...
       └─ ...              ┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from personaplug.core import registry
from personaplug.core.config import to_mapping
from personaplug.core.errors import ConfigError
from personaplug.core.registry import Section
from personaplug.encoders.base import Encoder, TextRole, Vectors

# A section -> its encoder, of whichever class: each keeps what it was built with as `config`.
Build = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class JoinedConfig:
    """Which encoders stand side by side.

    Attributes:
        parts: two or more encoder sections, for example
            [{name = "hidden", layer = 15}, {name = "sentence"}, {name = "style"}].
    """

    parts: tuple[Mapping[str, Any], ...] = ()


class JoinedEncoder(Encoder):
    """The vectors of its parts, one after another, in the parts' order.

    The parts' raw vectors differ in scale, and are joined as they are: the plug standardises each coordinate, with
    statistics of its training histories. What compares raw vectors (the method `dense`) sees mostly the part with the
    largest ones.

    Args:
        config: the parts.
        build: makes a part of its section; by default with the section alone, so that no weights are shared.

    Raises:
        ConfigError: fewer than two parts, a part without a name, or a joined one among them.
    """

    Config = JoinedConfig
    summary = "several encoders side by side: their vectors concatenated"
    source = "Yin and Schütze 2016, Learning Word Meta-Embeddings (there: CONC)"

    def __init__(self, config: JoinedConfig, build: Build | None = None) -> None:
        _check(config)
        self._parts = tuple(map(build or _built_alone, config.parts))
        # Complete, with every default: an artifact means the same when defaults have changed.
        sections = zip(config.parts, self._parts, strict=True)
        self.config = JoinedConfig(tuple({"name": s["name"], **to_mapping(p.config)} for s, p in sections))
        self.width = sum(p.width for p in self._parts)
        self.key = f"joined:{'+'.join(f'[{p.key}]' for p in self._parts)}"

    def encode(
        self, texts: Sequence[str], role: TextRole = "history", progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors [n, e], float32."""
        done = 0

        def part_done(texts_of_a_part: int) -> None:
            # In texts, not in texts times parts; a part's share of a text shows once it adds up to a whole one.
            nonlocal done
            before, done = done // len(self._parts), done + texts_of_a_part
            if progress is not None and done // len(self._parts) > before:
                progress(done // len(self._parts) - before)

        return np.concatenate([part.encode(texts, role, part_done) for part in self._parts], axis=1)


def _check(config: JoinedConfig) -> None:
    if len(config.parts) < 2:
        raise ConfigError(f"encoder 'joined': parts has {len(config.parts)} entries, expected at least 2")
    for number, section in enumerate(config.parts):
        name = section.get("name")
        if not isinstance(name, str):
            known = ", ".join(n for n in registry.names("encoder") if n != "joined")
            raise ConfigError(f"encoder 'joined': parts[{number}] has no name; one of: {known}")
        if name == "joined":
            raise ConfigError(f"encoder 'joined': parts[{number}] is 'joined' again; list its parts here instead")


def _built_alone(section: Mapping[str, Any]) -> Any:
    return Section.parse("encoder", section).build()
