"""Configuration: plain data in, dataclasses out, and every mistake named."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplug.core.config import (
    apply_sets,
    fill,
    from_mapping,
    read_toml,
    renamed,
    to_mapping,
    with_retired,
    write_toml,
)
from personaplug.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inner:
    steps: int = 10
    lr: float = 0.1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    path: Path = Path("here")
    tags: tuple[str, ...] = ()
    seed: int | None = None
    inner: Inner = field(default_factory=Inner)


KEYS = st.text("abcdefgh_", min_size=1, max_size=6)
TEXT = st.text(max_size=20)


@given(
    st.builds(
        Outer,
        name=TEXT,
        path=st.just(Path("some/where")),
        tags=st.lists(TEXT).map(tuple),
        seed=st.none() | st.integers(),
        inner=st.builds(
            Inner, steps=st.integers(), lr=st.floats(allow_nan=False, allow_infinity=False), kind=st.sampled_from("ab")
        ),
    )
)
def test_what_is_written_reads_back_equal(outer):
    assert from_mapping(Outer, to_mapping(outer)) == outer


def test_what_is_written_as_toml_reads_back_equal(tmp_path):
    outer = Outer("é\n", tags=("x", 'y"'), inner=Inner(3, 1e-4, "b"))
    write_toml(tmp_path / "c.toml", to_mapping(outer))
    assert from_mapping(Outer, read_toml(tmp_path / "c.toml")) == outer


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"name": "x", "tag": []}, "unknown key 'tag'; did you mean 'tags'?"),
        ({"name": "x", "inner": {"step": 3}}, "inner: unknown key 'step'; did you mean 'steps'?"),
        ({"name": "x", "inner": {"steps": "many"}}, r"inner\.steps = 'many'"),
        ({"name": "x", "inner": {"kind": "c"}}, r"inner\.kind = 'c'"),
        ({"name": 3}, "name = 3"),
        ({}, "name"),
    ],
)
def test_a_wrong_key_or_value_is_named(mapping, says):
    with pytest.raises(ConfigError, match=says) as caught:
        from_mapping(Outer, mapping, where="run.toml")
    assert str(caught.value).startswith("run.toml")
    assert "\n" not in str(caught.value)


def test_numbers_may_be_written_as_text():
    assert from_mapping(Inner, {"steps": "3", "lr": "1e-3"}) == Inner(3, 1e-3)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.toml: no such configuration file"):
        read_toml(tmp_path / "no.toml")


@pytest.mark.parametrize("content", [b"a =", b"a = 1\na = 2", b"\xff"])
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml: not a TOML file"):
        read_toml(tmp_path / "c.toml")


@given(
    st.lists(KEYS, min_size=1, max_size=3), st.integers() | st.booleans() | st.text("xyz -", min_size=1).map(str.strip)
)
def test_a_set_value_stands_where_its_key_says(path, value):
    raw = str(value).lower() if isinstance(value, bool) else str(value)
    node = apply_sets({}, [f"{'.'.join(path)}={raw}"])
    for part in path:
        node = node[part]
    assert node == value


def test_sets_leave_the_original_as_it_was():
    original = {"a": {"b": 1}}
    assert apply_sets(original, ["a.b=2", "a.c=[1, 2]", "d = x y"]) == {"a": {"b": 2, "c": [1, 2]}, "d": "x y"}
    assert original == {"a": {"b": 1}}


def test_a_set_value_is_never_evaluated():
    raw = "__import__('os').system('true')"
    assert apply_sets({}, [f"a={raw}"]) == {"a": raw}


@pytest.mark.parametrize("item", ["a", "=1", "a..b=1", ".a=1", ""])
def test_a_set_without_key_or_value_says_what_is_expected(item):
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        apply_sets({}, [item])


def test_a_set_below_a_value_is_refused():
    with pytest.raises(ConfigError, match="'a' is a value, not a table"):
        apply_sets({"a": 1}, ["a.b=2"])


@given(st.text(), st.text())
def test_a_template_puts_in_texts_as_they_are(a, b):
    assert fill("<{a}|{b}|{a}>", {"a": a, "b": b}, "here") == f"<{a}|{b}|{a}>"


def test_a_template_leaves_other_braces_alone():
    assert fill("{} {{a}} {a.b} {a!r} {a:>9}", {"a": "1"}, "here") == "{} {1} {a.b} {a!r} {a:>9}"


def test_a_template_of_an_unknown_field_is_an_error():
    with pytest.raises(ConfigError, match=r"here: template .* names 'inputt'; did you mean 'input'\?"):
        fill("{inputt}", {"input": ""}, "here")


def test_a_file_that_extends_another_changes_it_table_by_table(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('[task]\nname = "a"\nsizes = [1, 2]\n[methods.x]\nk = 1\n')
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.toml").write_text('extends = "../base.toml"\n[task]\nsizes = [3]\n[methods.x]\nj = 2\n')
    read = read_toml(tmp_path / "deep" / "own.toml")
    assert read == {"task": {"name": "a", "sizes": [3]}, "methods": {"x": {"k": 1, "j": 2}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "own.toml"', "own.toml: extends itself"),
        ('extends = "gone.toml"', r"gone.toml: no such configuration file \(named by extends in .*own.toml\)"),
        ("extends = 3", "expected the path of one TOML file"),
    ],
)
def test_a_file_that_extends_what_it_cannot_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        read_toml(tmp_path / "own.toml")
    assert "\n" not in str(caught.value)


@renamed(keep="most")
@dataclass(frozen=True)
class Renamed:
    most: int = 2


def test_a_renamed_field_is_read_under_both_names_and_digested_under_the_first():
    assert from_mapping(Renamed, {"keep": 3}) == from_mapping(Renamed, {"most": 3}) == Renamed(3)
    assert with_retired(Renamed, to_mapping(Renamed(3))) == {"keep": 3}
    with pytest.raises(ConfigError, match="keep and most are the same; leave keep out"):
        from_mapping(Renamed, {"keep": 3, "most": 3})
