"""personaplug as an lm_eval model: any backbone and any method on the shelf, for each question as its own user."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, CacheHook
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm
from typing_extensions import override

from personaplug.backbones.base import Backbone
from personaplug.core.config import apply_sets
from personaplug.core.errors import ConfigError, MismatchError
from personaplug.core.types import History, Message, Profile, Prompt, Request, Sampling, Scored
from personaplug.encoders.cache.embeddings import VectorCache
from personaplug.integrations.lm_eval.docs import is_example, to_example, to_info
from personaplug.methods.base import Method
from personaplug.pipeline.build import RunConfig, build_backbone, build_encoder, build_method, load
from personaplug.tasks.base import TaskInfo

_CHUNK = 256  # requests between two steps of the progress bar; the backbone batches them by tokens itself
_LM_EVALS = ("batch_size", "max_batch_size", "device")  # what lm_eval hands to every model, asked for or not


class Conversation(str):
    """A context under --apply_chat_template: the turns as JSON, which the backbone puts into its own words."""

    __slots__ = ()


@register_model("personaplug")
class PersonaplugLM(LM):
    """A frozen model with a method in front of it.

    A document of the LaMP tasks carries its user's profile: its request is personalized. Documents of other tasks have
    no user and are asked as by somebody without a history. Every context is one user turn (or, under
    --apply_chat_template, the turns that lm_eval makes) in the backbone's own chat form.

    Args:
        artifact: a trained artifact, which brings its own backbone, encoder and method; without one:
        args: `backbone`, `method` and `encoder` are names (default: causal, none, hidden), `model` is the backbone's,
            and a key with a dot sets an option of one of the three, as in `method.k=2`.

    Raises:
        ConfigError: an argument is unknown, or the method cannot be run here.
        MismatchError: the parts do not fit together.
    """

    def __init__(self, artifact: str = "", **args: Any) -> None:
        super().__init__()
        args = {k: v for k, v in args.items() if k not in _LM_EVALS}
        if artifact and args:
            given = ", ".join(sorted(args))
            raise ConfigError(f"--model_args artifact={artifact} brings its own backbone and method; leave out {given}")
        self._methods: dict[TaskInfo | None, Method] = {}
        self._trained_for: TaskInfo | None = None
        self._backbone: Backbone
        self._vectors: VectorCache | None
        if artifact:
            parts = load(str(artifact), None)
            self._backbone, self._vectors, self._trained_for = parts.backbone, parts.vectors, parts.info
            self._methods[None] = parts.method
        else:
            self._run = RunConfig.parse("--model_args", **_sections(args))
            _check(self._run)
            self._backbone, self._vectors = build_backbone(self._run.backbone), None
            if self._run.needs_encoder and self._run.encoder:
                self._vectors = VectorCache(build_encoder(self._run.encoder, self._backbone))
            self._method(None)

    # -- what lm_eval calls -----------------------------------------------------------------------------------------

    @override
    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability (nats) of each continuation, and whether greedy decoding gives it.

        The second is always False for personalized requests: no metric of theirs reads it, and it costs a generation.
        """
        out: list[tuple[float, bool]] = []
        for chunk in _chunks(requests, "log-likelihoods", disable_tqdm):
            prompts, texts = self._prompts(chunk), [str(r.args[1]) for r in chunk]
            scored = self._backbone.score(prompts, texts)
            plain = [i for i, r in enumerate(chunk) if not is_example(r.doc)]
            greedy = self._greedy([prompts[i] for i in plain], [texts[i] for i in plain], [scored[i] for i in plain])
            named = dict(zip(plain, greedy, strict=True))
            answers = [(s.logprob, named.get(i, False)) for i, s in enumerate(scored)]
            self._remember("loglikelihood", chunk, answers)
            out += answers
        return out

    @override
    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """An answer to each context."""
        out: list[str] = []
        for chunk in _chunks(requests, "answers", disable_tqdm):
            prompts, answers = self._prompts(chunk), [""] * len(chunk)
            alike: dict[Sampling, list[int]] = {}
            for i, request in enumerate(chunk):
                alike.setdefault(_sampling(request.args[1]), []).append(i)
            for sampling, rows in alike.items():
                completions = self._backbone.generate([prompts[i] for i in rows], sampling)
                for i, completion in zip(rows, completions, strict=True):
                    answers[i] = completion.text
            self._remember("generate_until", chunk, answers)
            out += answers
        return out

    @override
    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        """Refused: a backbone answers requests, and a text that nobody asked for is no answer.

        Raises:
            MismatchError: always.
        """
        name = requests[0].task_name if requests else ""
        raise MismatchError(
            f"task {name!r} asks for the perplexity of a text without a request, but a personaplug backbone scores "
            "answers; leave the task out, or run it with --model hf"
        )

    @override
    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The turns, to be put into the backbone's own form when they are run.

        Raises:
            MismatchError: the task begins the answer itself.
        """
        if not add_generation_prompt:
            raise MismatchError("a task with gen_prefix begins the answer itself; run it without --apply_chat_template")
        return Conversation(json.dumps(chat_history, ensure_ascii=False))

    @property
    @override
    def tokenizer_name(self) -> str:
        """Identity of what turns conversations into tokens."""
        return self._backbone.key

    @override
    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Take lm_eval's cache of answers, which knows questions and not who asks.

        Raises:
            ConfigError: the method answers two users differently.
        """
        method = self._method(None)
        if method.personal and cache_hook.dbdict is not None:
            raise ConfigError(
                f"--use_cache remembers answers by the question alone, but method {method.name!r} answers each user "
                "differently; leave it out"
            )
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, str]:
        """What lm_eval writes into its results."""
        encoder = {"encoder_key": self._vectors.encoder.key} if self._vectors else {}
        return {"backbone_key": self._backbone.key, "method_key": self._method(None).key, **encoder}

    # -- requests ---------------------------------------------------------------------------------------------------

    def _method(self, info: TaskInfo | None) -> Method:
        """The method in a task's words; of None for requests that belong to no task of ours."""
        if self._trained_for is not None:
            if info is not None and info.name != self._trained_for.name:
                raise MismatchError(
                    f"this artifact was trained for task {self._trained_for.name!r}, not {info.name!r}; "
                    "run the task it was trained for, or train one for this task"
                )
            return self._methods[None]
        if info not in self._methods:
            self._methods[info] = build_method(self._run.method, self._backbone, self._vectors, info)
        return self._methods[info]

    def _prompts(self, requests: Sequence[Instance]) -> list[Prompt]:
        """What the backbone reads; requests of one document share a prompt, which then runs once."""
        keys = [(r.task_name, r.doc_id, str(r.args[0])) for r in requests]
        asked = dict(zip(keys, requests, strict=True))
        by_task: dict[TaskInfo | None, list[tuple[str | None, int | None, str]]] = {}
        for key, request in asked.items():
            by_task.setdefault(to_info(request.doc) if is_example(request.doc) else None, []).append(key)
        made: dict[tuple[str | None, int | None, str], Prompt] = {}
        for info, own in by_task.items():
            method = self._method(info)
            wanted, histories = zip(*(_request(asked[key]) for key in own), strict=True)
            states = method.prepare_many(histories)
            profiles = [Profile(h, s) for h, s in zip(histories, states, strict=True)]
            made |= zip(own, method.personalize_many(wanted, profiles), strict=True)
        return [made[key] for key in keys]

    def _greedy(self, prompts: Sequence[Prompt], texts: Sequence[str], scored: Sequence[Scored]) -> list[bool]:
        """Whether greedy decoding begins with each text."""
        if not prompts:
            return []
        unique = {id(p): p for p in prompts}
        answers = self._backbone.generate(list(unique.values()), Sampling(max_tokens=max(s.tokens for s in scored)))
        said = {key: answer.text for key, answer in zip(unique, answers, strict=True)}
        return [
            self._backbone.cut(said[id(p)], s.tokens) == text for p, text, s in zip(prompts, texts, scored, strict=True)
        ]

    def _remember(self, what: str, requests: Sequence[Instance], answers: Sequence[Any]) -> None:
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(what, request.args, answer)


def _request(asked: Instance) -> tuple[Request, History]:
    """Who asks what: the turns are lm_eval's, the user and what rankers look at are the document's."""
    context = asked.args[0]
    turns = json.loads(context) if isinstance(context, Conversation) else [{"role": "user", "content": context}]
    messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    if not is_example(asked.doc):
        return Request(None, messages), History("")
    example = to_example(asked.doc)
    return Request(example.request.user, messages, example.request.query, example.request.at), example.history


def _sections(args: Mapping[str, Any]) -> dict[str, Any]:
    """The sections [backbone], [encoder] and [method] that --model_args name.

    >>> _sections({"model": "smollm2-135m", "method": "bm25", "method.k": 2})["method"]
    {'name': 'bm25', 'k': 2}
    """
    sections: dict[str, Any] = {
        "backbone": {"name": "causal"}, "encoder": {"name": "hidden"}, "method": {"name": "none"}
    }  # fmt: skip
    sets = []
    for key, value in args.items():
        kind, dot, _ = key.partition(".")
        if key != "model" and kind not in sections:
            raise ConfigError(
                f"--model_args {key}={value!r}: expected artifact, model, backbone, encoder, method, or an option of "
                "one of the last three, for example method.k=2"
            )
        if isinstance(value, Mapping) and not dot:
            sections[kind] = dict(value)
        else:
            path = "backbone.model" if key == "model" else key if dot else f"{key}.name"
            sets.append(f"{path}={json.dumps(value, ensure_ascii=False)}")
    return apply_sets(sections, sets)


def _check(run: RunConfig) -> None:
    """Refuse a method that cannot be run from its configuration alone.

    Raises:
        ConfigError: it must be trained first, or it knows the right answers.
    """
    name, cls = run.method.name, run.method.cls
    if cls.trained:
        raise ConfigError(f"method {name!r} must be trained first: personaplug train; then give artifact=FOLDER")
    if cls.oracle:
        raise ConfigError(f"method {name!r} looks at the right answers, which a model in lm_eval must not see")


def _sampling(given: Mapping[str, Any]) -> Sampling:
    """How to decode, of lm_eval's generation arguments.

    Raises:
        ConfigError: one that no backbone of ours knows.
    """
    kwargs = dict(normalize_gen_kwargs(dict(given)))
    until, sampled = kwargs.pop("until"), kwargs.pop("do_sample")
    tokens, temperature = kwargs.pop("max_gen_toks"), float(kwargs.pop("temperature", 1.0 if sampled else 0.0))
    top_p = float(kwargs.pop("top_p", 1.0))
    if kwargs.pop("num_beams", 1) != 1 or kwargs:
        key = next(iter(kwargs), "num_beams")
        raise ConfigError(
            f"generation_kwargs {key}={given[key]!r}: a personaplug backbone decodes with until, max_gen_toks, "
            "do_sample, temperature and top_p; leave the task out, or change it"
        )
    return Sampling(tokens, temperature if sampled else 0.0, top_p, tuple(s for s in until if s))


def _chunks(requests: Sequence[Instance], what: str, quiet: bool) -> Any:
    starts = range(0, len(requests), _CHUNK)
    return (requests[at : at + _CHUNK] for at in tqdm(starts, desc=what, disable=quiet))
