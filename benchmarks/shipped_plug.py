"""Is the plug inside the package worth it to people whom it was never trained on, and more than their newest texts?

    personaplug train experiments/shipped/chitchat.toml --out runs/shipped
    python benchmarks/shipped_plug.py ship runs/shipped/plug
    python benchmarks/shipped_plug.py measure

`ship` writes a trained artifact into the package: its weights in float16 (it prints what that changes), how it decodes
by default, and the people whom `personaplug try` shows, all of them held out of the training. `measure` lets held-out
people answer the same held-out requests by the shipped plug at strengths 1 and 2, and by `recent`, and records what
`personaplug voices` measures: habits, author retrieval, distinct and broken answers.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch

from personaplug import data
from personaplug.bench.claims import Claim, record
from personaplug.bench.voices import LOWER, VoicesConfig, VoicesRow, measure_voices
from personaplug.core import registry
from personaplug.core.config import read_toml, to_mapping
from personaplug.core.errors import DataError
from personaplug.core.files import write_json
from personaplug.core.types import Behavior, History, Profile
from personaplug.data.jsonl import find_data, read_behaviors, write_lines
from personaplug.metrics.bootstrap import Interval
from personaplug.pipeline.artifacts import load_info, load_tensors, save_pretrained
from personaplug.pipeline.build import RunConfig, build_task, load, read_run
from personaplug.pipeline.shipped import DEFAULT, PEOPLE, shipped_plug

HERE = Path(__file__).parent
RECIPE = HERE.parent / "experiments" / "shipped" / "chitchat.toml"
TARGET = HERE.parent / "src" / "personaplug" / "pipeline" / "shipped" / DEFAULT
SHOWN = ("u78c488", "ud4b133", "u71ca70", "u39091a", "u81a4c8", "uee7910")  # of the held-out people; `try` shows two
TEXTS = 40
STRENGTH, NO_REPEAT = 2.0, 4
HOW = VoicesConfig(people=50, questions=3, texts=12, strengths=(1.0, STRENGTH), no_repeat_ngram=NO_REPEAT, off_topic=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("ship").add_argument("plug", type=Path, help="a trained artifact")
    what.add_parser("measure").add_argument("--results", type=Path, default=HERE, help="folder of shipped_plug.json")
    args = parser.parse_args()
    run = read_run(read_toml(RECIPE), str(RECIPE))
    if args.what == "ship":
        ship(args.plug, run)
    else:
        measure(run, args.results)


def ship(plug: Path, run: RunConfig) -> None:
    info, tensors = load_info(plug), load_tensors(plug)
    halved = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    sampling = dataclasses.replace(info.task.sampling, strength=STRENGTH, no_repeat_ngram=NO_REPEAT)
    people = held_out_people(run)
    save_pretrained(TARGET, dataclasses.replace(info, task=dataclasses.replace(info.task, sampling=sampling)), halved)
    (TARGET / PEOPLE).write_bytes(b"".join(write_lines(b for own in people.values() for b in own)))
    size = sum(f.stat().st_size for f in TARGET.iterdir())
    print(f"{TARGET.relative_to(HERE.parent)}: {size / 1e6:.1f} MB")
    changed(plug, people)


def held_out_people(run: RunConfig) -> dict[str, list[Behavior]]:
    """The newest texts of those who are shown, oldest first.

    Raises:
        DataError: somebody of them was trained on.
    """
    task = build_task(run.task or {})
    held = {e.history.user for e in task.examples("test")} - {e.history.user for e in task.examples("train")}
    if missing := set(SHOWN) - held:
        raise DataError(f"{', '.join(sorted(missing))}: trained on, or without a request in the test split")
    people: dict[str, list[Behavior]] = {user: [] for user in SHOWN}
    file, _ = find_data(data.path("chitchat"))
    for behavior in read_behaviors(file):
        if behavior.user in people:
            people[behavior.user].append(dataclasses.replace(behavior, fields={}))
    return {user: own[-TEXTS:] for user, own in people.items()}


def changed(plug: Path, people: dict[str, list[Behavior]]) -> None:
    """Print what float16 weights change of the personas, against those that were trained."""
    before = load(plug, None)
    after = load(TARGET, None, before.backbone, vectors=before.vectors)
    far = 0.0
    for user, own in people.items():
        history = History(user, tuple(own))
        request = before.info.request(user, "hello")
        pair: list[Any] = [
            m.personalize(request, Profile(history, m.prepare(history))).prefix for m in (before.method, after.method)
        ]
        far = max(far, float(torch.norm(pair[0] - pair[1]) / torch.norm(pair[0])))
    print(f"float16 changes a persona by at most {far:.2%} of its length")


def measure(run: RunConfig, results: Path) -> None:
    task = build_task(run.task or {})
    examples = task.examples("test")
    components = load(str(shipped_plug(DEFAULT)), None)
    info, method = components.info, components.method
    rows = measure_voices(method, "plug", info, examples, HOW, show=True)
    recent = registry.build("method", "recent", {"max_length": 256}, backbone=components.backbone, task=info)
    rows += measure_voices(recent, "recent", info, examples, HOW, show=True)
    for row in rows:
        print(row.method, row.strength, {name: round(i.mean, 3) for name, i in row.scores.items()}, row.correlation)
        for user, answers in list(row.answers.items())[:12]:
            print("   ", user, *map(repr, answers))
    write_json(results / "shipped_plug.json", [to_mapping(dataclasses.replace(r, values={}, answers={})) for r in rows])
    one, default, newest = rows
    record(results, *claims(default, one, newest))


def claims(default: VoicesRow, one: VoicesRow, newest: VoicesRow) -> list[Claim]:
    who = f"the shipped plug at its default strength {STRENGTH:g}, {len(default.users)} people never trained on"
    scores = default.scores

    def claim(id_: str, words: str, value: Interval, goal: str) -> Claim:
        return Claim.now(f"shipped-plug-{id_}", f"{words} ({who})", value, goal)

    made = [
        claim("distinct", "different answers to one question, of ten people", scores["distinct"], ">= 8"),
        claim("broken", "share of empty or looping answers", scores["broken"], "<= 0.05"),
        claim("author", "author retrieval among ten by style features; chance 0.1", scores["author"], ">= 0.55"),
        claim("habits", "agreement with a user's three strongest habits over that of others' answers",
              scores["habits gain"], "> 0"),
    ]  # fmt: skip
    for who_does, goal in (("always", ">= 0.7"), ("never", "<= 0.05")):
        name = f"lower case, who {who_does} does"
        if name in scores:
            words = f"answers that begin in lower case, of users who (almost) {who_does} do"
            made.append(claim(f"lower-{who_does}", words, scores[name], goal))
    if default.correlation is not None:
        words = f"correlation over users of how often their answers and their own texts are such: {LOWER} ({who})"
        made.append(Claim.now("shipped-plug-lower-correlation", words, [default.correlation], ">= 0.7"))
    for row, id_ in ((one, "at-1"), (newest, "recent")):
        words = f"author retrieval among ten: {row.method} at strength {row.strength:g}, the same people and requests"
        made.append(Claim.now(f"shipped-plug-author-{id_}", words, row.scores["author"], "reported"))
    return made


if __name__ == "__main__":
    main()
