"""What a server serves: methods on shared backbones, over one store."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from personaplug.core.errors import ConfigError, ModelError, UnknownUserError, did_you_mean
from personaplug.core.types import Attribution, Message, Profile, Prompt, Request
from personaplug.models.devices import pick_device
from personaplug.models.threads import few_processors, share_processors
from personaplug.pipeline.personalizer import Lookup, Personalizer
from personaplug.serve.openai.errors import Refusal
from personaplug.serve.runtime.engine import NICENESS, Chooser, Engine, engine_of
from personaplug.serve.runtime.microbatch import Together
from personaplug.serve.settings import Settings
from personaplug.stores.base import Store

if TYPE_CHECKING:
    from personaplug.backbones.base import Backbone
    from personaplug.encoders.base import Encoder
    from personaplug.encoders.cache.embeddings import VectorCache
    from personaplug.pipeline.artifacts import ComponentSpec

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Personal:
    """A request with its user's profile, as its backbone reads it.

    Attributes:
        prompt: what the backbone is given.
        profile: of the user; empty for nobody.
        known: whether anything is stored of the user.
        profile_seconds: that it took to find the user, prepared.
        personalize_seconds: that it took to make the prompt.
    """

    prompt: Prompt
    profile: Profile
    known: bool
    profile_seconds: float
    personalize_seconds: float = 0.0


_NOBODY = Lookup("unknown", None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, with its user's profile where that had to be prepared."""

    request: Request
    lookup: Lookup | None = None


@dataclass(slots=True)
class Served:
    """One method on one backbone.

    Attributes:
        id: `<backbone>:<method>`.
        personalizer: the method with the store.
        engine: what runs its backbone.
        encoder: the id of its encoder, or "".
        created: UTC seconds.
        chooser: what runs a method that chooses among several answers.
    """

    id: str
    personalizer: Personalizer
    engine: Engine
    encoder: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    chooser: Chooser | None = None

    @property
    def gives_logprobs(self) -> bool:
        """Whether it says how likely its tokens were."""
        return self.engine.gives_logprobs and self.chooser is None

    def request(self, user: str | None, messages: Sequence[Message]) -> Request:
        """The conversation in the words that the method was trained with, where it has no system message itself."""
        instruction = self.personalizer.task.instruction
        if instruction and not any(m.role == "system" for m in messages):
            messages = (Message("system", instruction), *messages)
        return Request(user, tuple(messages))

    def lookup(self, user: str | None) -> Lookup:
        """What is known of a user at a look; where there is no user, or none that the method would see, nobody."""
        method = self.personalizer.method
        if user is None or not method.personal:
            return _NOBODY
        return self.personalizer.lookup(user, allow_stale=method.slow_prepare)

    def prepare(self, lookup: Lookup) -> Lookup:
        """The same user, prepared; takes as long as the method does."""
        try:
            return replace(lookup, status="cached", profile=self.personalizer.prepare(lookup))
        except UnknownUserError:  # erased meanwhile
            return _NOBODY

    def build_prompts(self, batch: Sequence[_Asked]) -> list[Personal | Lookup]:
        """What the backbone is given for each; the lookup of whoever must be prepared first."""
        start = time.perf_counter()
        lookups = [asked.lookup or self.lookup(asked.request.user) for asked in batch]
        looked = time.perf_counter() - start
        ready = [(asked.request, one) for asked, one in zip(batch, lookups, strict=True) if one.status != "stored"]
        method = self.personalizer.method
        prompts = iter(method.personalize_many([r for r, _ in ready], [one.profile for _, one in ready]))
        return [
            one if one.status == "stored" else Personal(next(prompts), one.profile, one.status == "cached", looked)
            for one in lookups
        ]

    def explain(self, request: Request, profile: Profile, most: int) -> list[Attribution]:
        """The behaviours that carried the persona, heaviest first."""
        return self.personalizer.method.explain(request, profile)[:most] if profile.history.behaviors else []


class Service:
    """All that is served, and the threads in which what would block runs.

    Args:
        store: the users.
        models: by id.
        encoders: vectors by the id of their encoder.
        settings: how.
    """

    def __init__(
        self,
        store: Store,
        models: Mapping[str, Served],
        encoders: Mapping[str, VectorCache],
        settings: Settings,
    ) -> None:
        self.store = store
        self.models = dict(models)
        self.encoders = dict(encoders)
        self.settings = settings
        self.engines = list({id(m.engine): m.engine for m in models.values()}.values())
        self.closing = False
        self.lost = 0
        """How often something of users has gone: whatever was made before may show it."""
        self._pool = _threads(settings.threads, "work")
        # Of their own, so that nothing that takes long keeps a request waiting: neither what a client may wait for, nor
        # users who are prepared behind their requests, nor saying what carried an answer while it is being written.
        self._quick = _threads(len(self.models), "personas")
        self._behind = _threads(1, "behind")
        self._explaining = _threads(1, "explain", NICENESS)
        self._personas = {id_: Together(partial(self._made, model)) for id_, model in self.models.items()}

    async def off(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what would block in a thread."""
        return await _in(self._pool, work, *args, **kwargs)

    async def personal(self, model: Served, request: Request, strength: float = 1.0) -> Personal:
        """What the backbone is given; requests that come together share the encoder's batch.

        At a strength other than 1, with what it would be given for nobody, from which the strength is counted.
        """
        start = time.perf_counter()
        together = self._personas[model.id]
        made, prepared = await together(_Asked(request)), 0.0
        if isinstance(made, Lookup):  # stored, not prepared: nobody else shall wait for that
            lookup = await self.off(model.prepare, made)
            prepared = time.perf_counter() - start
            made = await together(_Asked(request, lookup))
        assert isinstance(made, Personal)
        if model.personalizer.method.slow_prepare and made.known and request.user is not None:
            self._prepare_again(request.user, [model.personalizer])  # another server may have added to the user
        if strength != 1.0 and model.personalizer.method.personal:
            plain = await together(_Asked(replace(request, user=None)))
            assert isinstance(plain, Personal)  # nobody is always prepared
            made = replace(made, prompt=replace(made.prompt, unconditional=plain.prompt))
        profile = prepared + made.profile_seconds
        return replace(made, profile_seconds=profile, personalize_seconds=time.perf_counter() - start - profile)

    async def _made(self, model: Served, batch: Sequence[_Asked]) -> Sequence[Personal | Lookup]:
        return await _in(self._quick, model.build_prompts, batch)

    async def explain(self, model: Served, request: Request, profile: Profile, most: int) -> list[Attribution]:
        """The behaviours that carried an answer's persona, in no hurry: the answer is still being written."""
        return await _in(self._explaining, model.explain, request, profile, most)

    def model(self, name: str) -> Served:
        """A model by its id.

        Raises:
            Refusal: 404, there is none.
        """
        if name not in self.models:
            end = did_you_mean(name, self.models)
            raise Refusal(404, f"model {name!r} is not served; {end}", param="model", code="model_not_found")
        return self.models[name]

    def changed(self, user: str) -> None:
        """After a user's history has grown: those who have asked lately are prepared again behind the requests."""
        self._prepare_again(user, self._asking(user))

    def _asking(self, user: str) -> list[Personalizer]:
        return [
            m.personalizer
            for m in self.models.values()
            if m.personalizer.method.slow_prepare or m.personalizer.is_cached(user)
        ]

    def _prepare_again(self, user: str, asking: Sequence[Personalizer]) -> None:
        for personalizer in asking if not self.closing else []:
            self._behind.submit(_refresh, personalizer, user)

    async def forgotten(self, user: str) -> int:
        """After something of a user has gone: no persona may show it any longer, and nothing in memory holds it.

        Returns:
            Of how many tokens of prompts something was kept in memory: all goes, since whose they were is not known.
        """
        self.lost += 1
        asking = self._asking(user)
        for model in self.models.values():
            model.personalizer.evict(user)
        dropped = await self.off(self._forget)
        self._prepare_again(user, asking)
        return dropped

    def _forget(self) -> int:
        for vectors in self.encoders.values():
            vectors.forget()
        return sum(engine.forget_prompts() for engine in self.engines)

    def close(self) -> None:
        """Finish what was taken, then let everything go."""
        self.closing = True
        for model in self.models.values():
            if model.chooser is not None:
                model.chooser.close()
        for engine in self.engines:
            engine.close()
        self._behind.shutdown(cancel_futures=True)
        for pool in (self._explaining, self._quick, self._pool):
            pool.shutdown()
        self.store.close()


async def _in(pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: work(*args, **kwargs))


def _threads(count: int, name: str, niceness: int = 0) -> ThreadPoolExecutor:
    """Threads beside the model's, each of which takes few of its processors: several wait for each other otherwise."""
    return ThreadPoolExecutor(max(1, count), f"personaplug-{name}", share_processors, (few_processors(), niceness))


def _refresh(personalizer: Personalizer, user: str) -> None:
    try:
        personalizer.profile(user)
    except UnknownUserError:  # erased meanwhile
        return


class Loading:
    """Builds a service from artifacts: what several share is loaded once."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.models: dict[str, Served] = {}
        self.vectors: dict[str, VectorCache] = {}
        self._backbones: dict[str, tuple[str, Backbone, Engine]] = {}
        self._encoders: dict[str, str] = {}

    def add(self, artifact: str, label: str = "") -> Served:
        """Serve a trained method; `none` on the same backbone comes with it.

        Args:
            artifact: a folder or a hub id.
            label: what it is called; by default the method's name, or the folder's where that is taken.

        Raises:
            ModelError: there is no artifact, or a model is missing.
            ConfigError: the label is taken.
        """
        from personaplug.pipeline.artifacts import load_info, locate
        from personaplug.pipeline.build import build_backbone, load

        folder = locate(artifact)
        info = load_info(folder)
        key = _identity(info.backbone)
        if key not in self._backbones:
            backbone = build_backbone(self._backbone_section(info.backbone))
            self._backbones[key] = _model_name(info.backbone), backbone, engine_of(backbone, self.settings)
        name, backbone, engine = self._backbones[key]
        encoder = self._encoders.get(_identity(info.encoder), "")
        quicker = self._quicker(info.encoder) if info.encoder and not encoder else None
        loaded = load(folder, self.store, backbone, quicker, self.vectors.get(encoder))
        if info.encoder and loaded.vectors and not encoder:
            model = f"{_model_name(info.encoder)}:" if info.encoder.config.get("model") else ""
            named = f"{model}{info.encoder.name}"
            encoder = named if named not in self.vectors else f"{named}-{len(self.vectors) + 1}"
            self._encoders[_identity(info.encoder)] = encoder
            self.vectors[encoder] = loaded.vectors
        personalizer = Personalizer(loaded.method, self.store, loaded.info)
        label = label or (folder.name if f"{name}:{info.method}" in self.models else info.method)
        served = self._serve(f"{name}:{label}", personalizer, engine, encoder)
        if f"{name}:none" not in self.models:
            self.beside(served, "none")
        return served

    def _backbone_section(self, part: ComponentSpec) -> dict[str, Any]:
        """How an artifact's backbone is built here."""
        if self.settings.backbone:
            own = {"model": part.config["model"]} if "model" in part.config else {}
            return {**own, **self.settings.backbone}
        bounded = {"prompt_cache": self.settings.prompt_cache} if "prompt_cache" in part.config else {}
        return {"name": part.name, **part.config, **bounded}

    def _quicker(self, part: ComponentSpec) -> Encoder | None:
        """The same encoder on a quicker runtime: where it is asked for, or of use and there.

        Raises:
            MissingExtraError: it is asked for and not installed.
            ModelError: it is asked for and cannot run the model.
        """
        wanted = self.settings.openvino
        of_use = (
            part.config.get("dtype", "auto") in ("auto", "float32")
            and pick_device(str(part.config.get("device", "auto"))) == "cpu"
            and importlib.util.find_spec("openvino") is not None
        )
        if part.name != "sentence" or not (of_use if wanted is None else wanted):
            return None
        from personaplug.core import registry

        runtime = {"backend": "openvino", "threads": few_processors()}
        with contextlib.suppress(*(() if wanted else (ModelError, ConfigError))):
            encoder: Encoder = registry.build("encoder", part.name, {**part.config, **runtime})
            return encoder
        return None

    def beside(self, other: Served, method: str) -> Served:
        """Serve a method that needs no training, on the backbone and with the vectors and words of another.

        Raises:
            ConfigError: it must be trained, or the label is taken.
        """
        from personaplug.core import registry

        if registry.find("method", method).trained:
            raise ConfigError(f"method {method!r} must be trained; give the folder of a trained one")
        main = other.personalizer
        parts = {"backbone": main.backbone, "vectors": main.method.vectors, "task": main.task}
        personalizer = Personalizer(registry.build("method", method, {}, **parts), self.store, main.task)
        return self._serve(f"{other.id.rsplit(':', 1)[0]}:{method}", personalizer, other.engine, other.encoder)

    def service(self) -> Service:
        """What was added."""
        return Service(self.store, self.models, self.vectors, self.settings)

    def _serve(self, id_: str, personalizer: Personalizer, engine: Engine, encoder: str) -> Served:
        if id_ in self.models:
            raise ConfigError(f"two models would be called {id_!r}; name one with LABEL=ARTIFACT")
        settings, method = self.settings, personalizer.method
        chooser = Chooser(method, settings.rows, settings.waiting) if method.reranks else None
        self.models[id_] = Served(id_, personalizer, engine, encoder, chooser=chooser)
        return self.models[id_]


def _identity(part: ComponentSpec | None) -> str:
    """Equal for parts that may be one."""
    return "" if part is None else f"{part.name} {part.key} {sorted(part.config.items(), key=lambda kv: kv[0])!r}"


def _model_name(part: ComponentSpec) -> str:
    """What a part's model is called: the last word of its name or path, or the part's own name."""
    return Path(str(part.config.get("model") or part.name)).name
