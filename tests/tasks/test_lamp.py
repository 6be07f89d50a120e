"""LaMP's published files are read as they are, all seven tasks, and what does not fit is refused."""

from __future__ import annotations

import json
import os

import pytest

import mini_lamp
from personaplug.core import registry
from personaplug.core.config import fill
from personaplug.core.errors import ConfigError, DataError, UnknownNameError
from personaplug.core.types import Profile
from personaplug.metrics.scores import compute
from personaplug.tasks.lamp import read_outputs
from personaplug.tasks.lamp_specs import SPECS

# Task -> (question, its query, profile fields, (input, output, history text), gold). Wordings as published.
PUBLISHED = {
    "LaMP_1": (
        'For an author who has written the paper with the title "On "Quotes" in Titles", which reference is related? '
        'Just answer with [1] or [2] without explanation. [1]: "First" [2]: "Second"',
        'On "Quotes" in Titles',
        {"title": "My Paper", "abstract": "We show."},
        ("We show.", "My Paper", "My Paper We show."),
        "[2]",
    ),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
        "explanation. tags: [sci-fi, classic] description: A ship: lost.",
        "A ship: lost.",
        {"description": "A robot.", "tag": "sci-fi"},
        ("A robot.", "sci-fi", "A robot."),
        "classic",
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
        "further explanation. review: Good review: really.",
        "Good review: really.",
        {"text": "Meh.", "score": "2"},
        ("Meh.", "2", "Meh."),
        "4",
    ),
    "LaMP_4": (
        "Generate a headline for the following article: It rained.",
        "It rained.",
        {"text": "It snowed.", "title": "Snow"},
        ("It snowed.", "Snow", "It snowed. Snow"),
        "Rain",
    ),
    "LaMP_5": (
        "Generate a title for the following abstract of a paper: We prove it.",
        "We prove it.",
        {"title": "A Proof", "abstract": "We try."},
        ("We try.", "A Proof", "A Proof We try."),
        "The Proof",
    ),
    "LaMP_6": (
        "Generate a subject for the following email: See you at noon.",
        "See you at noon.",
        {"text": "Bring it.", "title": "Tomorrow"},
        ("Bring it.", "Tomorrow", "Bring it. Tomorrow"),
        "Noon",
    ),
    "LaMP_7": (
        "Paraphrase the following tweet without any explanation before or after it: so tired 😴",
        "so tired 😴",
        {"text": "omg monday"},
        ("", "omg monday", "omg monday"),
        "sooo sleepy",
    ),
}


def write(folder, task, questions, golds, split="train"):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}_questions.json").write_text(json.dumps(questions))
    if golds is not None:
        (folder / f"{split}_outputs.json").write_text(json.dumps({"task": task, "golds": golds}))
    return folder


def question(key="10", profile=None, **more):
    item = {"id": "p1", "text": "It snowed.", "title": "Snow"}
    return {"id": key, "input": PUBLISHED["LaMP_4"][0], "profile": [item] if profile is None else profile, **more}


def gold(key="10", output="Rain"):
    return {"id": key, "output": output}


def build(folder, **config):
    return registry.build("task", "lamp", {"path": str(folder), **config})


@pytest.mark.parametrize("task", PUBLISHED)
def test_each_task_is_read_in_its_published_form(tmp_path, task):
    text, query, fields, (given, wrote, history_text), right = PUBLISHED[task]
    questions = [{"id": "10", "input": text, "profile": [{"id": "101", **fields}]}]
    lamp = build(write(tmp_path, task, questions, [gold(output=right)]))
    assert lamp.info.name == task
    [example] = lamp.examples("train")
    assert example.id == "10"
    assert [(m.role, m.content) for m in example.request.messages] == [("user", text)]
    assert example.request.query == query
    assert example.target == right
    assert not example.options or right in example.options
    [behavior] = example.history
    assert (behavior.id, behavior.input, behavior.output) == ("101", given, wrote)
    seen = fill(lamp.info.history_text, {"input": behavior.input, "output": behavior.output}, "history_text")
    assert seen == history_text
    for metric in lamp.info.metrics:
        compute(metric, ["?"], [right], lamp.info.options)


@pytest.mark.parametrize(
    ("task", "predictions", "golds", "expected"),
    [
        (
            "LaMP_1",
            ["[1]", " [2]\n", "1", ""],
            ["[1]", "[2]", "[1]", "[2]"],
            {"accuracy": 2 / 4, "macro_f1": 2 / 3},  # each class: tp 1, fn 1, fp 0
        ),
        (
            "LaMP_2",
            ["classic", "Classic", "sci-fi"],
            ["classic", "classic", "comedy"],
            {"accuracy": 1 / 3, "macro_f1": (2 / 3) / 15},
        ),
        (
            "LaMP_3",
            ["4.5", "five", "9", " 2"],
            ["4", "2", "5", "2"],
            {"mae": (0.5 + 3 + 4 + 0) / 4, "rmse": ((0.25 + 9 + 16 + 0) / 4) ** 0.5},
        ),
        ("LaMP_4", ["Rain in Spain", ""], ["rain, Spain!", "x"], {"rouge1": 0.8 / 2, "rougeL": 0.8 / 2}),
        ("LaMP_7", ["running late"], ["late run"], {"rouge1": 0.5, "rougeL": 0.5}),  # no stemming
    ],
)
def test_official_metrics_by_hand(tmp_path, task, predictions, golds, expected):
    text, _, fields, _, right = PUBLISHED[task]
    questions = [{"id": "10", "input": text, "profile": [{"id": "101", **fields}]}]
    info = build(write(tmp_path, task, questions, [gold(output=right)])).info
    assert set(info.metrics) == set(expected)
    for metric, value in expected.items():
        assert compute(metric, predictions, golds, info.options) == pytest.approx(value), metric


def test_the_news_categories_of_the_first_form_can_be_named(tmp_path):
    text = "Which category does this article relate to? article: A match."
    questions = [{"id": "1", "input": text, "profile": [{"id": "2", "text": "Votes.", "category": "politics"}]}]
    folder = write(tmp_path, "LaMP_2", questions, [gold("1", "sports")])
    task = build(folder, task="LaMP_2N")
    assert task.examples("train")[0].history.behaviors[0].output == "politics"
    assert task.info.options == SPECS["LaMP_2N"].options


def test_without_a_user_id_each_question_is_a_user(tmp_path):
    task = build(write(tmp_path, "LaMP_4", [question("10"), question("20")], [gold("10"), gold("20")]))
    assert [e.request.user for e in task.examples("train")] == ["10", "20"]


def test_profiles_are_put_in_order_by_date_and_cut_to_the_newest(tmp_path):
    dates = ["2013-5-2", "2012", "2013-05", "2011-01-01T10:00:00"]
    profile = [{"id": d, "text": "t", "title": "h", "date": d} for d in dates]
    folder = write(tmp_path, "LaMP_4", [question(profile=profile, user_id=7)], [gold()])
    [example] = build(folder).examples("train")
    assert [b.id for b in example.history] == ["2011-01-01T10:00:00", "2012", "2013-05", "2013-5-2"]
    assert example.history.behaviors[1].at == 1325376000.0
    assert example.request.user == "7"
    assert [b.id for b in build(folder, max_history=2).examples("train")[0].history] == ["2013-05", "2013-5-2"]


def test_behaviours_are_the_union_over_all_questions_of_all_splits(tmp_path):
    def items(n):
        return [{"id": str(i), "text": "t", "title": f"h{i}", "date": 2000 + i} for i in range(n)]

    write(tmp_path, "LaMP_4", [question("1", items(2), user_id="u")], [gold("1")])
    write(tmp_path, "LaMP_4", [question("2", items(3), user_id="u")], [gold("2")], "dev")
    write(tmp_path, "LaMP_4", [question("3", items(2), user_id="v")], None, "test")
    assert [(b.user, b.id) for b in build(tmp_path, max_history=1).behaviors()] == [
        ("u", "0"), ("u", "1"), ("u", "2"), ("v", "0"), ("v", "1"),
    ]  # fmt: skip


def test_only_the_test_may_lack_its_outputs(tmp_path):
    write(tmp_path, "LaMP_4", [question("1")], [gold("1")])
    write(tmp_path, "LaMP_4", [question("2")], None, "dev")
    (tmp_path / "test_questions.json").write_text(json.dumps({"task": "LaMP_4", "golds": [question("3")]}))
    task = build(tmp_path)
    assert [e.target for e in task.examples("test")] == [""]
    with pytest.raises(DataError, match=r"dev_outputs\.json: no such file; only the test"):
        task.examples("dev")


def test_an_empty_profile_is_an_empty_history(tmp_path):
    assert len(build(write(tmp_path, "LaMP_4", [question(profile=[])], [gold()])).examples("train")[0].history) == 0


def test_ratings_become_shares(tmp_path):
    text, _, _, _, right = PUBLISHED["LaMP_3"]
    profile = [{"id": s, "text": "t", "score": s} for s in ("1", "4", "?")]
    questions = [{"id": "10", "input": text, "profile": profile}]
    [example] = build(write(tmp_path, "LaMP_3", questions, [gold(output=right)])).examples("train")
    assert [b.rating for b in example.history] == [0.0, 0.75, None]


ITEM = {"id": "p1", "text": "It snowed.", "title": "Snow"}


@pytest.mark.parametrize(
    ("questions", "golds", "words"),
    [
        ([question("1"), question("2")], [gold("1")], r"train_outputs\.json: no output for question '2'"),
        ([question("1")], [gold("1"), gold("2")], "no question '2', which the outputs have"),
        ([question("1"), question("1")], [gold("1")], "question id '1' stands there twice"),
        ([question("1", [ITEM, ITEM])], [gold("1")], "question '1' has profile id 'p1' twice"),
        ([question("1", [{"id": "p1", "title": "Snow"}])], [gold("1")], "profile item 0 needs a string 'text'"),
        ([question("1", [{**ITEM, "text": " ", "title": ""}])], [gold("1")], r"profile item 0 \('p1'\) has no text"),
        ([question("1", [{**ITEM, "date": "soon"}])], [gold("1")], "has date 'soon'"),
        ([question("1", [{**ITEM, "date": "2012-13-01"}])], [gold("1")], "has date '2012-13-01'"),
        ([question("1", ["p1"])], [gold("1")], "profile item 0 must be a JSON object, got str"),
        ([question("1", {})], [gold("1")], "profile of question '1' must be a JSON list, got dict"),
        ([{"id": "1", "profile": []}], [gold("1")], "question '1' needs a string 'input', got None"),
        ([{**question(""), "input": "x"}], [gold("1")], "question 0 needs a string 'id', got ''"),
        ([{**question("1"), "input": "x"}], [gold("1")], "lacks 'article: '; is this really LaMP_4"),
        ("questions", [gold("1")], "the questions must be a JSON list"),
        (
            [question("1", [ITEM], user_id="u"), question("2", [{**ITEM, "title": "Hail"}], user_id="u")],
            [gold("1"), gold("2")],
            "question '2' has profile id 'p1' with another content",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_naming_the_file_and_the_question(tmp_path, questions, golds, words):
    with pytest.raises(DataError, match=words) as caught:
        build(write(tmp_path, "LaMP_4", questions, golds)).examples("train")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_citation_question_without_its_end_is_refused(tmp_path):
    questions = [{"id": "1", "input": 'the paper with the title "Cut', "profile": []}]
    with pytest.raises(DataError, match="lacks '\", which reference is related"):
        build(write(tmp_path, "LaMP_1", questions, [gold("1", "[1]")])).examples("train")


def test_wrong_task_names_are_refused(tmp_path):
    folder = write(tmp_path, "LaMP_4", [question()], [gold()])
    with pytest.raises(UnknownNameError, match="no task 'LaMP_8'; did you mean"):
        build(folder, task="LaMP_8")
    with pytest.raises(DataError, match="holds LaMP_4, not LaMP_3"):
        build(folder, task="LaMP_3")
    with pytest.raises(DataError, match=r"train_outputs\.json: task is 'LaMP-4'; did you mean 'LaMP_4'"):
        build(write(tmp_path, "LaMP-4", [question()], [gold()]))


def test_missing_and_broken_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="to tell the task by; set task"):
        build(tmp_path)
    with pytest.raises(DataError, match=r"no train_questions\.json"):
        list(build(tmp_path, task="LaMP_3").behaviors())
    with pytest.raises(DataError, match=r"test_questions\.json: no such file"):
        build(tmp_path, task="LaMP_3").examples("test")
    with pytest.raises(ConfigError, match="max_history = 0"):
        build(tmp_path, task="LaMP_3", max_history=0)
    (tmp_path / "train_outputs.json").write_text('{"task":\n "LaMP_4", "golds": [')
    with pytest.raises(DataError, match=r"train_outputs\.json:2: not JSON"):
        build(tmp_path)


# Task -> what the question becomes with two items in it, the better one first: LaMP's own prompts.
WITH_ITEMS = {
    "LaMP_1": (
        'For an author who has written the paper with the title "My Paper", and "My Paper", and "On "Quotes" in '
        'Titles", which reference is related?'
    ),
    "LaMP_2": 'the tag for the movie: "A robot." is "sci-fi", and the tag for the movie: "A robot." is "sci-fi". Which',
    "LaMP_3": '2 is the score for "Meh.", and 2 is the score for "Meh.". What is the score',
    "LaMP_4": '"Snow" is the title for "It snowed.", and "Snow" is the title for "It snowed.". Generate a headline',
    "LaMP_5": (
        '"A Proof" is a title for "We try.", and "A Proof" is a title for "We try.". Following the given patterns '
        "Generate a title"
    ),
    "LaMP_6": '"Tomorrow" is the title for "Bring it.", and "Tomorrow" is the title for "Bring it.". Generate a',
    "LaMP_7": (
        '"omg monday", and "omg monday" are written by a person. Following the given patterns Paraphrase the following'
    ),
}


@pytest.mark.parametrize("task", PUBLISHED)
def test_retrieved_items_are_written_as_lamp_writes_them(tmp_path, task):
    text, _, fields, _, right = PUBLISHED[task]
    questions = [{"id": "10", "input": text, "profile": [{"id": key, **fields} for key in ("1", "2")]}]
    lamp = build(write(tmp_path, task, questions, [gold(output=right)]))
    method = registry.build("method", "recent", {}, backbone=registry.build("backbone", "echo"), task=lamp.info)
    [example] = lamp.examples("train")
    [message] = method.personalize(example.request, Profile(example.history)).messages
    assert message.content.startswith(WITH_ITEMS[task])
    assert message.content.endswith(text[-30:])


@pytest.mark.parametrize("task", SPECS)
def test_each_task_says_what_a_profile_shall_tell(task):
    told = [spec.wording.profile for spec in SPECS.values()]
    assert told.count(SPECS[task].wording.profile) == 1


@pytest.mark.parametrize(
    ("profile", "more", "split"),
    [
        ([{"id": "1", "text": "t", "title": "h", "date": "2012"}], {"user_id": "7"}, "time"),
        ([{"id": "1", "text": "t", "title": "h"}], {}, "user"),
        ([{"id": "1", "text": '", "profile": [{"date": "2012"}]', "title": '"date": 1'}], {}, "user"),
        ([{"id": "1", "text": "t", "title": "h", "date": None}], {"user_id": "7"}, "user"),
        ([{"id": "1", "text": "x" * 200_000, "title": "h", "date": "2012"}], {"user_id": "7"}, "time"),
        ([], {}, "user"),
    ],
    ids=["dates", "no dates", "dates in a text", "empty dates", "a long item", "no items"],
)
def test_dates_of_items_tell_the_time_based_split_from_the_user_based_one(tmp_path, profile, more, split):
    empty = question("9", profile=[])  # the first profile may be empty
    folder = write(tmp_path, "LaMP_4", [empty, question(profile=profile, **more)], [gold("9"), gold()])
    assert build(folder).info.split == split


def test_outputs_with_an_id_twice_are_refused(tmp_path):
    folder = write(tmp_path, "LaMP_4", [question()], [gold(), gold(output="Hail")])
    with pytest.raises(DataError, match=r"train_outputs\.json: id '10' stands there twice"):
        build(folder)
    assert read_outputs(write(tmp_path, "LaMP_4", [], [gold(10)]) / "train_outputs.json") == ("LaMP_4", {"10": "Rain"})


@pytest.mark.skipif("PERSONAPLUG_LAMP" not in os.environ, reason="PERSONAPLUG_LAMP names no folder of LaMP files")
def test_a_real_folder_is_read_whole():
    task = build(os.environ["PERSONAPLUG_LAMP"])
    known = {(b.user, b.id): b for b in task.behaviors()}
    for split in ("train", "dev"):
        examples = task.examples(split)
        assert examples
        assert all(e.target and e.request.query for e in examples)
        assert all(known[b.user, b.id] is b for e in examples for b in e.history)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; put LaMP's files there"):
        registry.build("task", "lamp", {"path": tmp_path / "nowhere"})


@pytest.fixture
def changed(tmp_path):
    """A miniature of LaMP_2 whose train golds, or whose questions, are changed by a function."""

    def make(task="LaMP_2", gold=None, question=None):
        folder = mini_lamp.write(tmp_path / "lamp", task)
        file = folder / f"train_{'outputs' if gold else 'questions'}.json"
        raw = json.loads(file.read_text(encoding="utf-8"))
        if gold:
            raw["golds"][0]["output"] = gold
        else:
            question(raw[0])
        file.write_text(json.dumps(raw), encoding="utf-8")
        return registry.build("task", "lamp", {"path": str(folder)})

    return make


@pytest.mark.parametrize(
    ("gold", "option"), [(" comedy ", "comedy"), ("Comedy", "comedy"), ("TRUE STORY\n", "true story")]
)
def test_blanks_and_case_of_a_gold_do_not_count(changed, gold, option):
    assert changed(gold=gold).examples("train")[0].target == option


@pytest.mark.parametrize(("task", "gold"), [("LaMP_2", "thriller"), ("LaMP_3", "6"), ("LaMP_2", " ")])
def test_a_gold_that_is_no_option_is_refused_with_its_file_its_id_and_the_options(changed, task, gold):
    lamp = changed(task, gold=gold)
    with pytest.raises(DataError, match=r"train_outputs\.json: the output of question .* is .*, none of the options"):
        lamp.examples("train")


def test_half_a_surrogate_pair_in_a_gold_is_refused_where_the_task_reads_it(changed):
    lamp = changed("LaMP_5", gold="\ud83d")
    with pytest.raises(DataError, match=r"train_outputs\.json: the output of question .* half of a surrogate pair"):
        lamp.examples("train")


def test_labels_of_a_profile_are_the_options_too(changed):
    lamp = changed(question=lambda q: q["profile"][0].update(tag=" Comedy"))
    assert "comedy" in {b.output for b in lamp.examples("train")[0].history}
    assert " Comedy" not in {b.output for b in lamp.examples("train")[0].history}


def test_dates_that_are_all_the_same_leave_a_profile_in_the_order_of_the_file(changed):
    def same(question):
        for item in question["profile"]:
            item["date"] = "2012-01-01"
        ids[:] = [item["id"] for item in question["profile"]]

    ids: list[str] = []
    assert [b.id for b in changed(question=same).examples("train")[0].history] == ids


@pytest.mark.parametrize("where", ["input", "profile"])
def test_half_a_surrogate_pair_is_refused_with_its_question(changed, where):
    def broken(question):
        if where == "input":
            question["input"] += "\ud83d"
        else:
            question["profile"][0]["description"] += "\ud83d"

    lamp = changed(question=broken)
    with pytest.raises(DataError, match=r"train_questions\.json: question .* half of a surrogate pair"):
        lamp.examples("train")


def test_the_layout_of_the_published_files_is_read_as_it_is_downloaded(tmp_path):
    flat = mini_lamp.write(tmp_path / "flat", "LaMP_2")
    for file in list(flat.glob("*.json")):
        split = file.name.partition("_")[0]
        for task in ("LaMP_2", "LaMP_3"):
            target = tmp_path / "time" / task / split
            target.mkdir(parents=True, exist_ok=True)
            (target / file.name).write_bytes(file.read_bytes())
    below = registry.build("task", "lamp", {"path": str(tmp_path / "time" / "LaMP_2")})
    above = registry.build("task", "lamp", {"path": str(tmp_path), "task": "LaMP_2"})
    wanted = [e.target for e in registry.build("task", "lamp", {"path": str(flat)}).examples("train")]
    assert [e.target for e in below.examples("train")] == [e.target for e in above.examples("train")] == wanted
    with pytest.raises(DataError, match="the folder holds LaMP_2 and LaMP_3; name one"):
        registry.build("task", "lamp", {"path": str(tmp_path / "time")})


def test_an_archive_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "LaMP.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="is a file; unpack it"):
        registry.build("task", "lamp", {"path": str(tmp_path / "LaMP.zip")})
