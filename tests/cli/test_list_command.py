"""The list of what there is to choose from."""

from __future__ import annotations

import pytest

from personaplug.core import registry


@pytest.mark.parametrize(("kind", "folder"), [(k, f) for k, (f, _) in registry.SHELVES.items()])
def test_each_shelf_lists_every_name_with_its_summary_and_source(run, kind, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    shown = run("list", folder).stdout
    for name in registry.names(kind):
        thing = registry.find(kind, name)
        assert name in shown
        assert thing.summary in shown
        assert thing.source in shown


def test_without_a_shelf_all_are_listed(run):
    shown = run("list").stdout
    assert all(folder in shown for folder, _ in registry.SHELVES.values())


def test_an_unknown_shelf_is_an_error_with_the_nearest_name(run):
    result = run("list", "method")
    assert result.exit_code == 2
    assert result.stderr == "error: no shelf is named 'method'; did you mean 'methods'?\n"


def test_a_thing_whose_library_is_missing_is_listed_with_the_way_to_install_it(run, monkeypatch):
    find = registry.find

    def without_torch(kind, name):
        if name == "plug":
            raise registry.missing_extra("method 'plug'", ModuleNotFoundError("no torch", name="torch"))
        return find(kind, name)

    monkeypatch.setattr(registry, "find", without_torch)
    monkeypatch.setenv("COLUMNS", "400")
    shown = run("list", "methods").stdout
    assert "pip install 'personaplug[local]'" in shown
    assert "the frozen model alone" in shown
