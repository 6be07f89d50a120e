"""The shelves: found by name, built from plain data, every wrong name with the way out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from personaplug.core import registry
from personaplug.core.config import from_mapping
from personaplug.core.errors import ConfigError, MissingExtraError, UnknownNameError
from personaplug.core.registry import build, find, missing_extra, names

EVERYTHING = [(kind, name) for kind in registry.SHELVES for name in names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERYTHING)
def test_each_thing_on_a_shelf_says_what_it_is_and_where_it_comes_from(kind, name):
    thing = find(kind, name)
    assert thing.summary
    assert "\n" not in thing.summary
    assert thing.source
    assert issubclass(thing, registry_base(kind))


@pytest.mark.parametrize(("kind", "name"), EVERYTHING)
def test_each_thing_refuses_an_unknown_key(kind, name):
    with pytest.raises(ConfigError, match=f"{kind} '{name}': unknown key 'no_such_key'"):
        from_mapping(find(kind, name).Config, {"no_such_key": 1}, where=f"{kind} {name!r}")


def test_the_base_of_a_shelf_is_not_a_thing_on_it():
    assert all("base" not in names(kind) for kind in registry.SHELVES)


def test_names_are_sorted_and_unique():
    for kind in registry.SHELVES:
        assert names(kind) == sorted(set(names(kind)))


def test_a_wrong_name_is_met_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"no method is named 'plugg'; did you mean 'plug'\?"):
        find("method", "plugg")


def test_a_wrong_shelf_is_met_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"no shelf is named 'methods'; did you mean 'method'\?"):
        names("methods")


def test_build_checks_the_configuration_and_hands_over_the_parts():
    assert build("encoder", "hashing", {"width": 8}).width == 8
    with pytest.raises(ConfigError, match=r"encoder 'hashing': unknown key 'widht'; did you mean 'width'\?"):
        build("encoder", "hashing", {"widht": 8})
    backbone = build("backbone", "echo")
    assert build("method", "none", backbone=backbone).backbone is backbone


def test_a_thing_of_another_package_joins_by_its_entry_point(monkeypatch):
    class Foreign:
        """Somebody else's method."""

    entry = SimpleNamespace(name="foreign", load=lambda: Foreign)
    groups = {"personaplug.methods": [entry]}
    monkeypatch.setattr(registry, "entry_points", lambda group: groups.get(group, []))
    assert "foreign" in names("method")
    assert find("method", "foreign") is Foreign
    assert "foreign" not in names("store")


def test_a_missing_library_is_named_with_the_extra_that_installs_it(monkeypatch):
    imported = registry.importlib.import_module

    def without_torch(name):
        if name.endswith("methods.plug"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")
        return imported(name)

    monkeypatch.setattr(registry.importlib, "import_module", without_torch)
    with pytest.raises(MissingExtraError, match=r"method 'plug' needs .*'torch': pip install 'personaplug\[local\]'"):
        find("method", "plug")


def test_a_missing_library_of_no_extra_is_to_be_installed_itself():
    error = missing_extra("task 'x'", ModuleNotFoundError("no", name="somelib.part"))
    assert str(error) == "task 'x' needs the library 'somelib': pip install somelib"


def registry_base(kind):
    from importlib import import_module

    folder, base = registry.SHELVES[kind]
    return getattr(import_module(f"personaplug.{folder}.base"), base)
