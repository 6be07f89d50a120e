"""The real lm_eval runs LaMP through a personaplug backbone, and says what our own bench says."""

from __future__ import annotations

import json
import shlex
import socket
import sys
from pathlib import Path

import pytest

from personaplug import models
from personaplug.backbones.echo import EchoBackbone
from personaplug.bench.measure import MeasureConfig, measure
from personaplug.core import registry
from personaplug.core.errors import ConfigError, DataError, MismatchError, UnknownNameError
from personaplug.pipeline.build import RunConfig, build_components
from personaplug.pipeline.fingerprint import pseudonym
from personaplug.tasks.lamp import SPECS

lm_eval = pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install 'personaplug[lm-eval]'")

from lm_eval.tasks import TaskManager  # noqa: E402

from personaplug.integrations.lm_eval import __main__ as command  # noqa: E402
from personaplug.integrations.lm_eval.__main__ import TASKS  # noqa: E402
from personaplug.integrations.lm_eval.adapter import PersonaplugLM  # noqa: E402
from personaplug.integrations.lm_eval.docs import to_docs, to_example, to_info  # noqa: E402

NAMES = {name: name.lower() for name in SPECS}  # ours -> lm_eval's


@pytest.fixture(autouse=True)
def offline(request, monkeypatch):
    """No network, but for what the real models' first pull needs."""
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # lm_eval's command sets it for the whole process
    if not request.node.get_closest_marker("model"):
        monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a test went to the network"))


def runs_alone(name: str) -> bool:
    """Whether a method is one that lm_eval can run from its name."""
    cls = registry.find("method", name)
    return not cls.trained and not cls.oracle


def task_manager(folder: Path | str = "") -> TaskManager:
    metadata = {"lamp": str(folder)} if folder else None
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


def evaluate(lm, tasks, folder: Path | str = "", **more):
    return lm_eval.simple_evaluate(model=lm, tasks=tasks, task_manager=task_manager(folder), **more)


def scores(results, task: str) -> dict[str, float]:
    """Metric -> value, without the errors."""
    found = results["results"][task]
    return {k.removesuffix(",none"): v for k, v in found.items() if k.endswith(",none") and "_stderr" not in k}


def bench(lamp: Path, name: str, backbone: dict, method: dict, encoder: dict | None = None):
    """What our own bench measures."""
    task = registry.build("task", "lamp", {"path": str(lamp / name), "task": name})
    run = RunConfig.parse(backbone=backbone, encoder=encoder or {}, method=method)
    examples = task.examples("dev")
    how = MeasureConfig(generate=len(examples))
    return measure(build_components(run, task.info, None).method, task.info, examples, how)


def check_same_scores(lm, lamp: Path, names: list[str], backbone: dict, method: dict, encoder: dict | None = None):
    """lm_eval's scores and order are our bench's."""
    results = evaluate(lm, [NAMES[n] for n in names], lamp)
    for name in names:
        row = bench(lamp, name, backbone, method, encoder)
        theirs = scores(results, NAMES[name])
        assert theirs
        assert theirs == pytest.approx({k: row.scores[k] for k in theirs}, abs=1e-9), name
        samples = sorted(results["samples"][NAMES[name]], key=lambda s: s["doc_id"])
        assert [pseudonym(s["doc"]["id"]) for s in samples] == list(row.ids)
    return results


def test_lm_eval_and_our_bench_give_the_same_scores(lamp):
    method = {"name": "bm25", "k": 1}
    lm = PersonaplugLM(backbone="echo", method="bm25", **{"method.k": 1})
    check_same_scores(lm, lamp, list(NAMES), {"name": "echo"}, method)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in registry.names("method") if runs_alone(n)])
def test_each_method_that_needs_no_training_gives_the_same_scores(lamp, name):
    lm = PersonaplugLM(backbone="echo", method=name, encoder="hashing")
    check_same_scores(lm, lamp, ["LaMP_3", "LaMP_5"], {"name": "echo"}, {"name": name}, {"name": "hashing"})


@pytest.mark.slow
def test_a_random_model_gives_the_same_scores_on_all_tasks(lamp, tiny_model):
    backbone = {"name": "causal", "model": tiny_model, "dtype": "float32", "device": "cpu"}
    for method in ({"name": "none"}, {"name": "recent", "k": 1}):
        check_same_scores(PersonaplugLM(backbone=backbone, method=method), lamp, list(NAMES), backbone, method)


@pytest.mark.model
def test_the_real_small_model_gives_the_same_scores(lamp):
    models.pull("smollm2-135m")
    models.pull("minilm")
    backbone, method, encoder = {"name": "causal", "dtype": "float32"}, {"name": "dense", "k": 1}, {"name": "sentence"}
    lm = PersonaplugLM(
        backbone="causal", model="smollm2-135m", method="dense", encoder="sentence",
        **{"method.k": 1, "backbone.dtype": "float32"},
    )  # fmt: skip
    results = check_same_scores(lm, lamp, ["LaMP_1", "LaMP_2", "LaMP_3"], backbone, method, encoder)
    assert results["config"]["backbone_key"].startswith("causal:")


@pytest.mark.slow
def test_a_trained_artifact_gives_the_same_scores_on_its_own_task_and_no_other(lamp, tiny_model, tmp_path):
    task = registry.build("task", "lamp", {"path": str(lamp / "LaMP_3")})
    backbone = {"name": "causal", "model": tiny_model, "dtype": "float32", "device": "cpu"}
    plug = build_components(RunConfig.parse(backbone=backbone, encoder={"name": "hashing"}), task.info, None)
    plug.save(tmp_path / "plug", {}, {})
    expected = measure(plug.method, task.info, task.examples("dev")).scores
    results = evaluate(PersonaplugLM(artifact=tmp_path / "plug"), ["lamp_3"], lamp)
    assert scores(results, "lamp_3") == pytest.approx({k: expected[k] for k in ("mae", "rmse")})
    with pytest.raises(MismatchError, match="trained for task 'LaMP_3', not 'LaMP_4'"):
        evaluate(PersonaplugLM(artifact=tmp_path / "plug"), ["lamp_4"], lamp)


@pytest.mark.parametrize("name", NAMES)
def test_the_task_files_say_what_our_tasks_say(lamp, name):
    [task] = task_manager(lamp).load([NAMES[name]])["tasks"].values()
    info = registry.build("task", "lamp", {"path": str(lamp / name), "task": name}).info
    assert list(task.higher_is_better()) == list(info.metrics)
    if info.kind == "text":
        assert task.config.generation_kwargs["max_gen_toks"] == info.sampling.max_tokens
        assert task.config.generation_kwargs["until"] == list(info.sampling.stop)
    else:
        assert task.config.output_type == "multiple_choice"


def test_an_example_survives_as_a_document(lamp):
    for name in NAMES:
        task = registry.build("task", "lamp", {"path": str(lamp / name), "task": name})
        docs = json.loads(json.dumps(to_docs(task.examples("dev"), task.info)))
        assert [to_example(d) for d in docs] == task.examples("dev")
        assert all(to_info(d) == task.info for d in docs)


# -- what is personal ------------------------------------------------------------------------------------------------


class Spy(EchoBackbone):
    """Keeps the prompts that it is asked."""

    def score(self, prompts, continuations):
        self.seen = getattr(self, "seen", []) + [p.messages for p in prompts]
        return super().score(prompts, continuations)


@pytest.fixture
def spy(monkeypatch) -> type[Spy]:
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda kind, name: Spy if name == "echo" else find(kind, name))
    return Spy


def test_each_question_is_asked_with_its_own_users_past(lamp, said, spy):
    lm = PersonaplugLM(backbone="echo", method="recent")
    evaluate(lm, ["lamp_2"], lamp)
    asked = {" ".join(m.content for m in messages) for messages in lm._backbone.seen}
    assert len(asked) == 5
    for n in range(1, 5):
        [prompt] = [a for a in asked if a.endswith(f"description: {said[(n + 2) % 5]}")]
        assert said[n % 5] in prompt
        assert said[(n + 1) % 5] in prompt


@pytest.mark.parametrize("template", [False, True], ids=["plain", "chat template"])
def test_a_chat_template_is_the_backbones_business(lamp, spy, template):
    lm = PersonaplugLM(backbone="echo")
    evaluate(lm, ["lamp_3"], lamp, apply_chat_template=template)
    assert {len(messages) for messages in lm._backbone.seen} == {1}
    assert all(m.role == "user" and m.content.startswith("What is") for [m] in lm._backbone.seen)


def test_a_system_instruction_stays_one(lamp, spy):
    lm = PersonaplugLM(backbone="echo", method="recent")
    evaluate(lm, ["lamp_3"], lamp, apply_chat_template=True, system_instruction="Be brief.")
    assert {messages[0].content for messages in lm._backbone.seen} == {"Be brief."}


def test_answers_are_not_cached_by_the_question_alone(lamp, tmp_path):
    lm = PersonaplugLM(backbone="echo", method="recent")
    with pytest.raises(ConfigError, match="'recent' answers each user differently"):
        evaluate(lm, ["lamp_1"], lamp, use_cache=str(tmp_path / "cache"))


# -- other tasks -----------------------------------------------------------------------------------------------------

QUESTIONS = [
    {"q": "what is your favourite colour", "choices": ["red", "blue", "a b c"], "gold": 1},
    {"q": "tell me more please", "choices": ["yes", "no no", "g"], "gold": 0},
    {"q": "a b c d e", "choices": ["f", "g", "yes red"], "gold": 2},
]


def plain_task(**more):
    from datasets import Dataset

    return {
        "task": "plain",
        "custom_dataset": lambda **_: {"test": Dataset.from_list(QUESTIONS)},
        "test_split": "test",
        "doc_to_text": "q",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "output_type": "multiple_choice",
        "num_fewshot": 0,
        "metadata": {"version": 1},
        **more,
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "recent"])
def test_a_task_without_users_is_asked_as_the_plain_model(tiny_model, method):
    """What lm_eval's own model says under the chat template, which our backbone always applies."""
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=tiny_model, device="cpu", dtype="float32", batch_size=1)
    lm = PersonaplugLM(model=tiny_model, method=method, **{"backbone.dtype": "float32", "backbone.device": "cpu"})
    found = [evaluate(m, [plain_task()], apply_chat_template=True)["samples"]["plain"] for m in (theirs, lm)]
    for expected, sample in zip(*found, strict=True):
        for (logprob, greedy), (our_logprob, our_greedy) in zip(
            expected["filtered_resps"], sample["filtered_resps"], strict=True
        ):
            assert our_logprob == pytest.approx(logprob, abs=1e-4)
            assert our_greedy == greedy


@pytest.mark.slow
def test_what_greedy_decoding_gives_is_said_to_be_greedy(tiny_model):
    lm = PersonaplugLM(model=tiny_model, **{"backbone.dtype": "float32", "backbone.device": "cpu"})
    task = plain_task(output_type="generate_until", generation_kwargs={"until": ["\n"], "max_gen_toks": 2})
    answers = [
        s["resps"][0][0]
        for s in evaluate(lm, [task | {"doc_to_choice": None, "doc_to_target": "q"}])["samples"]["plain"]
    ]
    rows = [dict(q, choices=["yes red", answer], gold=1) for q, answer in zip(QUESTIONS, answers, strict=True)]
    from datasets import Dataset

    judged = plain_task(custom_dataset=lambda **_: {"test": Dataset.from_list(rows)}, target_delimiter="")
    for sample in evaluate(lm, [judged])["samples"]["plain"]:
        assert [greedy for _, greedy in sample["filtered_resps"]] == [False, True]


# -- what is refused -------------------------------------------------------------------------------------------------


def test_the_perplexity_of_a_text_is_refused():
    lm = PersonaplugLM(backbone="echo")
    task = plain_task(output_type="loglikelihood_rolling", doc_to_choice=None, doc_to_target="q")
    with pytest.raises(MismatchError, match=r"'plain' asks for the perplexity .* --model hf"):
        evaluate(lm, [task])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"metod": "bm25"}, "metod='bm25': expected artifact, model, backbone"),
        ({"method": "bm52"}, "no method is named 'bm52'; did you mean 'bm25'"),
        ({"method.k": 2}, "method 'none': unknown key 'k'"),
        ({"method": "plug"}, "method 'plug' must be trained first: .* artifact=FOLDER"),
        ({"method": "oracle"}, "method 'oracle' looks at the right answers"),
        ({"artifact": "runs/plug", "method": "bm25"}, "artifact=runs/plug brings its own .* leave out method"),
    ],
)
def test_wrong_model_arguments_are_refused(args, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        PersonaplugLM(**{"backbone": "echo", **args} if "artifact" not in args else args)


@pytest.mark.parametrize(("key", "value"), [("num_beams", 4), ("top_k", 5)])
def test_decoding_that_no_backbone_knows_is_refused(lamp, key, value):
    with pytest.raises(ConfigError, match=f"generation_kwargs {key}={value}: .* leave the task out"):
        evaluate(PersonaplugLM(backbone="echo"), ["lamp_4"], lamp, gen_kwargs={key: value})


def test_answers_end_where_lm_eval_says(lamp):
    lm = PersonaplugLM(backbone="echo")
    results = evaluate(lm, ["lamp_4"], lamp, gen_kwargs={"max_gen_toks": 3})
    assert {s["resps"][0][0] for s in results["samples"]["lamp_4"]} == {"Generate a headline"}


def test_a_folder_of_one_task_can_be_named_itself(lamp, monkeypatch):
    monkeypatch.setenv("PERSONAPLUG_LAMP", str(lamp / "LaMP_4"))
    assert len(next(iter(task_manager().load(["lamp_4"])["tasks"].values())).eval_docs) == 5
    with pytest.raises(DataError, match="holds LaMP_4, not LaMP_3"):
        task_manager().load(["lamp_3"])


# -- the command -----------------------------------------------------------------------------------------------------


def run_command(monkeypatch, *words: str) -> None:
    """Run lm_eval's command in this process."""
    monkeypatch.chdir(TASKS.parents[2])
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # its handler would outlive the test
    monkeypatch.setattr(sys, "argv", ["lm_eval", *words])
    command.main()


@pytest.mark.slow
def test_the_documented_command_prints_a_table_of_all_tasks(lamp, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "lm_eval.md").read_text(encoding="utf-8")
    [line] = [text for text in page.splitlines() if text.startswith("PERSONAPLUG_LAMP=lamp python -m ")]
    words = shlex.split(line.replace("model=smollm2-135m", "backbone=echo"))
    assert words[3] == command.__package__
    monkeypatch.setenv("PERSONAPLUG_LAMP", str(lamp))
    run_command(monkeypatch, *words[4:])
    table = capsys.readouterr().out
    for word in (*NAMES.values(), "accuracy", "macro_f1", "mae", "rmse", "rouge1", "rougeL"):
        assert word in table


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "message"), [("", "no folder of LaMP files is named"), ("gone", "is no folder")])
def test_a_missing_folder_is_one_line(folder, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERSONAPLUG_LAMP", str(tmp_path / folder) if folder else "")
    with pytest.raises(SystemExit) as left:
        run_command(
            monkeypatch, "run", "--include_path", str(TASKS), "--tasks", "lamp_3", "--model", "personaplug",
            "--model_args", "backbone=echo",
        )  # fmt: skip
    assert left.value.code == 2
    [line] = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error:")]
    assert message in line
    assert "PERSONAPLUG_LAMP=FOLDER" in line


def test_without_lm_eval_the_command_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    with pytest.raises(SystemExit) as left:
        command.main()
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: the lm_eval integration needs the library 'lm_eval': pip install")
