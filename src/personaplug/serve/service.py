"""What a server serves: methods on shared backbones, over one store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from personaplug.errors import ConfigError, UnknownUserError, did_you_mean
from personaplug.personalizer import Personalizer
from personaplug.serve.engine import Engine, engine_of
from personaplug.serve.faults import Refusal
from personaplug.serve.settings import Settings
from personaplug.serve.together import Together
from personaplug.stores.base import Store
from personaplug.types import History, Message, Profile, Prompt, Request, Weight

if TYPE_CHECKING:
    from personaplug.artifacts import Part
    from personaplug.backbones.base import Backbone
    from personaplug.encoders.base import Encoder
    from personaplug.vectors import VectorCache

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
    personalize_seconds: float


@dataclass(slots=True)
class Served:
    """One method on one backbone.

    Attributes:
        id: `<backbone>:<method>`.
        personalizer: the method with the store.
        engine: what runs its backbone.
        encoder: the id of its encoder, or "".
        created: UTC seconds.
    """

    id: str
    personalizer: Personalizer
    engine: Engine
    encoder: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def request(self, user: str | None, messages: Sequence[Message]) -> Request:
        """The conversation in the words that the method was trained with, where it has no system message itself."""
        instruction = self.personalizer.task.instruction
        if instruction and not any(m.role == "system" for m in messages):
            messages = (Message("system", instruction), *messages)
        return Request(user, tuple(messages))

    def find(self, user: str | None) -> tuple[Profile, bool]:
        """A user's profile; of whom nothing is stored is as good as nobody, and this says so."""
        method = self.personalizer.method
        if user is not None and method.personal:
            with contextlib.suppress(UnknownUserError):
                return self.personalizer.profile(user, stale=method.costly), True
        return Profile(History("")), False

    def explain(self, request: Request, profile: Profile, most: int) -> list[Weight]:
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
        self._pool = ThreadPoolExecutor(settings.threads, "personaplug-work")
        self._prompts = {id_: Together(partial(self._write, model)) for id_, model in self.models.items()}
        # Of its own, so that preparing users behind their requests never keeps a request waiting.
        self._behind = ThreadPoolExecutor(1, "personaplug-behind")

    async def off(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what would block in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*args, **kwargs))

    async def personal(self, model: Served, request: Request) -> Personal:
        """What the backbone is given; requests that come together share the encoder's batch."""
        start = time.perf_counter()
        profile, known = await self.off(model.find, request.user)
        found = time.perf_counter()
        prompt = await self._prompts[model.id]((request, profile))
        return Personal(prompt, profile, known, found - start, time.perf_counter() - found)

    async def _write(self, model: Served, batch: Sequence[tuple[Request, Profile]]) -> Sequence[Prompt]:
        requests, profiles = zip(*batch, strict=True)
        return await self.off(model.personalizer.method.personalize_many, requests, profiles)

    def model(self, name: str) -> Served:
        """A model by its id.

        Raises:
            Refusal: 404, there is none.
        """
        if name not in self.models:
            end = did_you_mean(name, self.models)
            raise Refusal(404, f"model {name!r} is not served; {end}", param="model", code="model_not_found")
        return self.models[name]

    def changed(self, user: str, *, lost: bool = False) -> None:
        """After a change of a user's history: those who have asked lately are prepared again behind the requests.

        Args:
            user: whose, as stored.
            lost: something went, which no persona may show any longer.
        """
        for model in self.models.values():
            wanted = model.personalizer.method.costly or model.personalizer.keeps(user)
            if lost:
                model.personalizer.drop(user)
            if wanted and not self.closing:
                self._behind.submit(_refresh, model.personalizer, user)

    def close(self) -> None:
        """Finish what was taken, then let everything go."""
        self.closing = True
        for engine in self.engines:
            engine.close()
        self._behind.shutdown(cancel_futures=True)
        self._pool.shutdown()
        self.store.close()


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
            ConfigError: the label is taken, or the method chooses among several answers.
        """
        from personaplug.artifacts import load_info, locate
        from personaplug.assembly import build_backbone, load

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

    def _backbone_section(self, part: Part) -> dict[str, Any]:
        """How an artifact's backbone is built here."""
        if self.settings.backbone:
            own = {"model": part.config["model"]} if "model" in part.config else {}
            return {**own, **self.settings.backbone}
        bounded = {"prompt_cache": self.settings.prompt_cache} if "prompt_cache" in part.config else {}
        return {"name": part.name, **part.config, **bounded}

    def _quicker(self, part: Part) -> Encoder | None:
        """The same encoder on a quicker runtime, where that is wanted and there is one."""
        if not self.settings.openvino or part.name != "sentence":
            return None
        from personaplug import registry

        encoder: Encoder = registry.build("encoder", part.name, {**part.config, "backend": "openvino"})
        return encoder

    def beside(self, other: Served, method: str) -> Served:
        """Serve a method that needs no training, on the backbone and with the vectors and words of another.

        Raises:
            ConfigError: it must be trained, or the label is taken.
        """
        from personaplug import registry

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
        if personalizer.method.chooses:
            raise ConfigError(
                f"method {personalizer.method.name!r} chooses among several answers, which a server cannot stream; "
                "use it with `personaplug answer`, or serve another"
            )
        if id_ in self.models:
            raise ConfigError(f"two models would be called {id_!r}; name one with LABEL=ARTIFACT")
        self.models[id_] = Served(id_, personalizer, engine, encoder)
        return self.models[id_]


def _identity(part: Part | None) -> str:
    """Equal for parts that may be one."""
    return "" if part is None else f"{part.name} {part.key} {sorted(part.config.items(), key=lambda kv: kv[0])!r}"


def _model_name(part: Part) -> str:
    """What a part's model is called: the last word of its name or path, or the part's own name."""
    return Path(str(part.config.get("model") or part.name)).name
