"""What becomes a behaviour: the rules of each data set, on a few lines made on the spot."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from personaplug.data import chitchat, spam_assassin
from personaplug.data.names import hide_addresses, pseudonym


def said(sender, text, minute=0, zone="Z"):
    return {"sender": sender, "text": text, "timestamp": f"2018-05-02T19:{minute:02}:00{zone}"}


@pytest.fixture
def read_chats(tmp_path, monkeypatch):
    monkeypatch.setattr(chitchat, "FEWEST", 1)
    monkeypatch.setattr(chitchat, "MOST_ALIKE", 1.0)

    def read(*conversations):
        file = tmp_path / "dataset.json"
        file.write_text(json.dumps({f"c{i}": {"messages": c} for i, c in enumerate(conversations)}))
        return list(chitchat.read(file))

    return read


def test_a_behaviour_is_a_turn_given_the_other_persons_turn_before_it(read_chats):
    found = read_chats(
        [
            [said("a", "hi "), said("a", "you there?")],
            [said("b", "yes", 1), said("b", " sure", 2)],
            [said("a", "ok", 3)],
        ]
    )
    assert {(b.user, b.input, b.output) for b in found} == {
        (pseudonym("b"), "hi\nyou there?", "yes\nsure"),
        (pseudonym("a"), "yes\nsure", "ok"),
    }
    assert {b.fields["conversation"] for b in found} == {"c0"}
    assert len({b.id for b in found}) == 2


def test_turns_of_one_sender_that_follow_each_other_are_one(read_chats):
    (found,) = read_chats([[said("a", "one")], [said("a", "two")], [said("a", " ")], [said("b", "reply")]])
    assert found.input == "one\ntwo"


def test_times_are_utc_seconds_of_the_first_message_with_or_without_a_zone(read_chats):
    turns = [said("a", "hi"), said("b", "with", 1), said("b", "more", 9)], [said("c", "hi"), said("d", "bare", 1, "")]
    with_zone, bare = (read_chats([[m] for m in c])[0].at for c in turns)
    assert with_zone == bare == 1_525_287_660


def test_someone_who_talks_alone_replies_to_nobody(read_chats):
    assert read_chats([[said("a", "hello?")], [said("a", "anyone?")]]) == []


def test_long_messages_are_left_out_on_either_side(read_chats):
    long = "x" * (chitchat.LONGEST + 1)
    assert read_chats([[said("a", long)], [said("b", "ok")]], [[said("a", "hi")], [said("b", long)]]) == []


def test_who_mostly_says_the_same_is_left_out(read_chats, monkeypatch):
    monkeypatch.setattr(chitchat, "MOST_ALIKE", 0.5)
    chat = [[said("ab"[i % 2], "ping" if i % 2 else f"line {i}")] for i in range(12)]
    assert {b.user for b in read_chats(chat)} == {pseudonym("a")}


def test_who_has_few_replies_is_left_out(read_chats, monkeypatch):
    monkeypatch.setattr(chitchat, "FEWEST", 3)
    chat = [[said("ab"[i % 2], f"line {i}")] for i in range(6)]
    assert {b.user for b in read_chats(chat)} == {pseudonym("b")}


def mail(sender, subject, body, date="Thu, 22 Aug 2002 18:26:25 +0700"):
    return f"From: {sender}\nTo: list@example.org\nSubject: {subject}\nDate: {date}\n\n{body}\n"


@pytest.fixture
def read_mails(tmp_path, monkeypatch):
    monkeypatch.setattr(spam_assassin, "FEWEST", 1)

    def read(*mails, group="easy-ham-1"):
        file = tmp_path / "package.tgz"
        with tarfile.open(file, "w:gz") as archive:
            for i, text in enumerate(mails):
                content = json.dumps({"id": f"{i:05}", "group": group, "text": text}).encode()
                entry = tarfile.TarInfo(f"package/data/{group}/{i:05}.json")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return list(spam_assassin.read(file))

    return read


def test_a_behaviour_is_the_subject_of_what_someone_wrote_themselves(read_mails):
    body = "Ann <ann@example.org> wrote:\n> old words\n\nMy words to bob@example.org.\n\n\n\nMore.\n-- \nAda, +1 555"
    (found,) = read_mails(mail("Ada <Ada@Example.org>", "Re: [LIST] Re: Sequences  window", body))
    assert found.user == pseudonym("ada@example.org")
    assert found.output == "Sequences window"
    assert found.input == "My words to <email>.\n\nMore."
    assert found.at == 1030015585


def test_only_the_first_mail_of_a_thread_counts_since_the_others_repeat_its_subject(read_mails):
    later = "Fri, 23 Aug 2002 18:26:25 +0700"
    found = read_mails(mail("a@b.cd", "RE: Topic", "second", later), mail("a@b.cd", "Topic", "first"))
    assert [b.input for b in found] == ["first"]


@pytest.mark.parametrize(
    "unusable",
    [
        mail("a@b.cd", "subject", ""),
        mail("a@b.cd", "", "body"),
        mail("a@b.cd", "subject", "body", date="some day"),
        mail("nobody", "subject", "body").replace("nobody", ""),
    ],
)
def test_a_mail_without_sender_date_subject_or_text_is_left_out(read_mails, unusable):
    assert read_mails(unusable) == []


def test_spam_is_left_out(read_mails):
    assert read_mails(mail("a@b.cd", "subject", "body"), group="spam-1") == []


def test_addresses_are_hidden_but_users_stay_the_same_users():
    assert hide_addresses("x.y+z@mail.example.co.uk, @home") == "<email>, @home"
    assert pseudonym("a@b.cd") == pseudonym("a@b.cd") != pseudonym("a@b.ce")
