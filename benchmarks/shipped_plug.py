"""Is what the package brings for smollm2-135m worth it to people whom nothing was trained on?

    python benchmarks/shipped_plug.py ship recent --strength 1.5      # as it is now; or a plug:
    personaplug train experiments/shipped/chitchat.toml --out runs/shipped
    python benchmarks/shipped_plug.py ship runs/shipped/plug --strength 2
    python benchmarks/shipped_plug.py measure

`ship` writes a trained artifact (its weights in float16; it prints what that changes), or a method that needs no
training, into the package, with how it decodes by default and the people whom `personaplug try` shows, all of them held
out of the recipe's training. `measure` lets held-out people answer the same held-out requests at strength 1 and at the
default one, a plug beside `recent`, and records what `personaplug voices` measures: habits, author retrieval, distinct
and broken answers. Ship a plug only if it is better than `recent` there, and then say so in `shipped.SAID`.
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
from personaplug.models import resolve
from personaplug.pipeline.artifacts import ArtifactInfo, ComponentSpec, load_info, load_tensors, save_pretrained
from personaplug.pipeline.build import RunConfig, build_task, load, read_run
from personaplug.pipeline.fingerprint import portable
from personaplug.pipeline.shipped import DEFAULT, PEOPLE, shipped_plug

HERE = Path(__file__).parent
RECIPE = HERE.parent / "experiments" / "shipped" / "chitchat.toml"
TARGET = HERE.parent / "src" / "personaplug" / "pipeline" / "shipped" / DEFAULT
SHOWN = ("u78c488", "ud4b133", "u71ca70", "u39091a", "u81a4c8", "uee7910")  # of the held-out people; `try` shows two
TEXTS = 40
WIDTH = 576  # of the model
OPTIONS = {"recent": {"k": 8, "max_length": 256}}
STRENGTH, NO_REPEAT = 2.0, 4
HOW = VoicesConfig(people=50, questions=3, texts=12, no_repeat_ngram=NO_REPEAT, off_topic=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    shipping = what.add_parser("ship")
    shipping.add_argument("method", help="the folder of a trained artifact, or a method that needs no training")
    shipping.add_argument("--strength", type=float, default=STRENGTH, help="of the persona, by default")
    measuring = what.add_parser("measure")
    measuring.add_argument("--results", type=Path, default=HERE, help="folder of shipped_plug.json")
    measuring.add_argument("--people", type=int, default=HOW.people)
    measuring.add_argument("--questions", type=int, default=HOW.questions)
    args = parser.parse_args()
    run = read_run(read_toml(RECIPE), str(RECIPE))
    if args.what == "ship":
        ship(args.method, run, args.strength)
    else:
        measure(run, args.results, args.people, args.questions)


def ship(what: str, run: RunConfig, strength: float) -> None:
    """Write a trained artifact, or a method that needs no training, into the package."""
    folder, known = Path(what), registry.names("method")
    if what in known and not folder.is_dir():
        info, tensors = untrained(what, run), {}
    else:
        info, tensors = load_info(folder), load_tensors(folder)
    halved = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    sampling = dataclasses.replace(info.task.sampling, strength=strength, no_repeat_ngram=NO_REPEAT)
    people = held_out_people(run)
    save_pretrained(TARGET, dataclasses.replace(info, task=dataclasses.replace(info.task, sampling=sampling)), halved)
    (TARGET / PEOPLE).write_bytes(b"".join(write_lines(b for own in people.values() for b in own)))
    size = sum(f.stat().st_size for f in TARGET.iterdir())
    print(f"{TARGET.relative_to(HERE.parent)}: {size / 1e6:.1f} MB")
    if tensors:
        changed(folder, people)


def untrained(name: str, run: RunConfig) -> ArtifactInfo:
    """A method that needs no training, on the recipe's model and with its task."""
    model = resolve(str(run.backbone.given["model"]))
    config = registry.find("method", name).Config(**OPTIONS.get(name, {}))
    backbone = ComponentSpec("causal", f"causal:{model.identity}", WIDTH, dict(run.backbone.given))
    data_of = {"task": portable(run.to_mapping()["task"])}
    return ArtifactInfo(name, to_mapping(config), backbone, build_task(run.task or {}).info, data=data_of)


def held_out_people(run: RunConfig) -> dict[str, list[Behavior]]:
    """The newest texts of those who are shown, oldest first.

    Raises:
        DataError: somebody of them was trained on.
    """
    task = build_task(run.task or {})
    if trained := set(SHOWN) & {e.history.user for e in task.examples("train")}:
        raise DataError(f"{', '.join(sorted(trained))}: trained on, so nobody to show")
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


def measure(run: RunConfig, results: Path, people: int, questions: int) -> None:
    task = build_task(run.task or {})
    examples = task.examples("test")
    components = load(str(shipped_plug(DEFAULT)), None)
    info, method = components.info, components.method
    strength = info.sampling.strength
    how = dataclasses.replace(HOW, people=people, questions=questions, strengths=(1.0, strength))
    rows = measure_voices(method, method.name, info, examples, how, show=True)
    if method.name != "recent":
        recent = registry.build("method", "recent", OPTIONS["recent"], backbone=components.backbone, task=info)
        rows += measure_voices(recent, "recent", info, examples, how, show=True)
    for row in rows:
        print(row.method, row.strength, {name: round(i.mean, 3) for name, i in row.scores.items()}, row.correlation)
        for user, answers in list(row.answers.items())[:12]:
            print("   ", user, *map(repr, answers))
    write_json(results / "shipped_plug.json", [to_mapping(dataclasses.replace(r, values={}, answers={})) for r in rows])
    record(results, *claims(rows[1], [rows[0], *rows[2:]]))


def claims(default: VoicesRow, others: list[VoicesRow]) -> list[Claim]:
    who = (
        f"what the package brings, {default.method} at its default strength {default.strength:g}; "
        f"{len(default.users)} people whom nothing was trained on"
    )
    scores = default.scores

    def claim(id_: str, words: str, value: Interval, goal: str) -> Claim:
        return Claim.now(f"shipped-{id_}", f"{words} ({who})", value, goal)

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
        made.append(Claim.now("shipped-lower-correlation", words, [default.correlation], ">= 0.7"))
    for row in others:
        words = f"author retrieval among ten: {row.method} at strength {row.strength:g}, the same people and requests"
        made.append(claim_of(row, words))
    return made


def claim_of(row: VoicesRow, words: str) -> Claim:
    return Claim.now(f"shipped-author-{row.method}-{row.strength:g}", words, row.scores["author"], "reported")


if __name__ == "__main__":
    main()
