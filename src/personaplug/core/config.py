"""Dataclass <-> TOML and `--set a.b=1`; unknown keys are errors and nothing is evaluated."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from personaplug.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class NoConfig:
    """The configuration of a thing that has nothing to configure."""


_RETIRED: dict[type[Any], Mapping[str, Any]] = {}


def retired(**defaults: Any) -> Callable[[type[T]], type[T]]:
    """Name fields that a configuration once had, with the defaults that they had.

    A mapping that states such a default is read as if it did not; any other value is an error. Digests include the
    defaults (`with_retired`), so that what was measured or trained before stays valid.
    """

    def note(cls: type[T]) -> type[T]:
        _RETIRED[cls] = defaults
        return cls

    return note


_RENAMED: dict[type[Any], Mapping[str, str]] = {}


def renamed(**first: str) -> Callable[[type[T]], type[T]]:
    """Name fields that once had another name, as `first_name="now"`.

    A mapping may use either name. Digests are of the first (`with_retired`), so that they stay as they were.
    """

    def note(cls: type[T]) -> type[T]:
        _RENAMED[cls] = first
        return cls

    return note


def with_retired(cls: type[Any], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping as earlier versions wrote it: with removed fields at their defaults, and first names."""
    first = {now: name for name, now in _RENAMED.get(cls, {}).items()}
    return {first.get(k, k): v for k, v in {**_retired_of(cls), **mapping}.items()}


def _retired_of(cls: type[Any]) -> dict[str, Any]:
    return {k: v for base in reversed(cls.__mro__) for k, v in _RETIRED.get(base, {}).items()}


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "config") -> T:
    """A dataclass from plain data: unknown keys and wrong types are errors, strings are read as numbers where needed.

    Raises:
        ConfigError: naming the key, the value and the way out.
    """
    from pydantic import TypeAdapter, ValidationError

    mapping = with_new_names(cls, _without_retired(cls, mapping, where), where)
    _check_keys(cls, mapping, where)
    try:
        return TypeAdapter(cls).validate_python(dict(mapping))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        # A check of the whole names its own keys and values.
        raise ConfigError(f"{where}: {key} = {first['input']!r}: {said}" if key else f"{where}: {said}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain data (no None, tuples as lists) that `from_mapping` reads back to an equal dataclass."""
    return typing.cast("dict[str, Any]", _plain(dataclasses.asdict(config)))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as plain data. `extends = "other.toml"` reads another file first, beside it, and changes that one.

    Tables are merged key by key; anything else replaces what the other file says.

    Raises:
        ConfigError: no such file, not TOML (names the file and the line), or files that extend each other in a circle.
    """
    return _read_extended(path, ())


def _read_extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ConfigError(f"{path}: extends itself, through {' and '.join(p.name for p in above)}")
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        via = f" (named by extends in {above[-1]})" if above else ""
        raise ConfigError(f"{path}: no such configuration file{via}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends = {base!r}: expected the path of one TOML file")
    return _merged(_read_extended(path.parent / base, (*above, path.resolve())), own)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _merged(out[key], value) if both else value
    return out


def write_toml(path: Path, mapping: Mapping[str, Any]) -> None:
    """Write plain data as TOML."""
    import tomli_w

    path.write_text(tomli_w.dumps(mapping), encoding="utf-8")


def apply_sets(mapping: Mapping[str, Any], sets: Iterable[str]) -> dict[str, Any]:
    """The mapping with each `a.b=value` applied; a value is read as TOML, else taken as a string.

    >>> apply_sets({"plug": {"tokens": 1}}, ["plug.tokens=4", "task.name=lamp"])
    {'plug': {'tokens': 4}, 'task': {'name': 'lamp'}}

    Raises:
        ConfigError: no `=`, an empty key, or a key below something that is not a table.
    """
    out = _copy(mapping)
    for item in sets:
        key, equals, raw = item.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"--set {item!r}: expected KEY=VALUE, for example training.max_steps=100")
        node = out
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {item!r}: {part!r} is a value, not a table")
        node[parts[-1]] = _value(raw.strip())
    return out


def fill(template: str, values: Mapping[str, str], where: str) -> str:
    """A template with `{name}` replaced by `values[name]`; nothing else is interpreted.

    >>> fill("{input} => {output}", {"input": "a", "output": "b"}, "text")
    'a => b'

    Raises:
        ConfigError: the template names a field that is not there.
    """

    def one(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ConfigError(f"{where}: template {template!r} names {match[1]!r}; {did_you_mean(match[1], values)}")
        return values[match[1]]

    return _FIELD.sub(one, template)


def _without_retired(cls: type[Any], mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    old = _retired_of(cls)
    for key in mapping.keys() & old.keys():
        if _plain(mapping[key]) != _plain(old[key]):
            raise ConfigError(
                f"{where}: {key} = {mapping[key]!r}: this choice was removed, since it helped nowhere; leave it out"
            )
    return {k: v for k, v in mapping.items() if k not in old}


def with_new_names(cls: type[Any], mapping: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping with the present names of fields that were renamed.

    Raises:
        ConfigError: a field stands there under both names.
    """
    renamed = _RENAMED.get(cls, {})
    for name, now in renamed.items():
        if name in mapping and now in mapping:
            raise ConfigError(f"{where}: {name} and {now} are the same; leave {name} out")
    return {renamed.get(k, k): v for k, v in mapping.items()}


@cache
def _validator(cls: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


@cache
def _field_types(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _check_keys(cls: Any, mapping: Mapping[str, Any], where: str) -> None:
    hints = _field_types(cls)
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    for key, value in mapping.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; {did_you_mean(key, known)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _check_keys(hints[key], value, f"{where}.{key}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _copy(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in mapping.items()}


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"v = {raw}")["v"]
    except tomllib.TOMLDecodeError:
        return raw
