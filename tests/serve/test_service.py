"""Methods that take long to prepare a user do it behind the requests; what was deleted never shows again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from personaplug.core import registry
from personaplug.core.errors import ConfigError
from personaplug.core.types import Behavior, Message, Prompt
from personaplug.methods.none import NoMethod
from personaplug.pipeline.personalizer import Personalizer
from personaplug.serve.runtime.loader import ModelLoader
from serving import OPEN, Parrot, served, text_service


class Pensive(NoMethod):
    """Takes its time over a history, then says how long that is."""

    personal = True
    slow_prepare = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.may_go_on = Event()
        self.may_go_on.set()

    def prepare(self, history):
        self.may_go_on.wait(5)
        return {"said": np.array([b.output for b in history])}

    def personalize(self, request, profile):
        said = () if profile.state is None else profile.state["said"].tolist()
        return Prompt((*request.messages, Message("user", "known: " + ",".join(said))))


def test_a_write_is_prepared_behind_the_requests_and_a_deletion_shows_at_once(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    service = text_service(path, Parrot(), OPEN, ("none",))
    main = service.models["echo:none"].personalizer
    method = Pensive(main.method.config, backbone=main.backbone, task=main.task)
    service.models["echo:none"].personalizer = Personalizer(method, service.store, main.task)
    ask = {"model": "echo:none", "messages": [{"role": "user", "content": "hi"}], "user": "ada"}
    with served(service, path) as live, live.client() as web:

        def answer() -> str:
            said = web.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]["content"]
            return said.split("known: ")[1].split(" ")[0]

        web.post("/v1/users/ada/history", json=[{"id": id_, "output": id_} for id_ in ("one", "two")])
        assert answer() == "one,two"
        method.may_go_on.clear()
        web.post("/v1/users/ada/history", json={"id": "three", "output": "three"})
        assert answer() == "one,two"  # nobody waits
        method.may_go_on.set()
        until = time.monotonic() + 5
        while answer() != "one,two,three" and time.monotonic() < until:
            time.sleep(0.01)
        assert answer() == "one,two,three"
        web.delete("/v1/users/ada/history/two")
        assert answer() == "one,three"


def test_what_another_server_adds_is_prepared_behind_the_requests_and_what_it_removes_is_gone_at_once(tmp_path) -> None:
    path = tmp_path / "users.db"
    service = text_service(path, Parrot(), OPEN, ("none",))
    main = service.models["echo:none"].personalizer
    method = Pensive(main.method.config, backbone=main.backbone, task=main.task)
    service.models["echo:none"].personalizer = Personalizer(method, service.store, main.task)
    other = registry.build("store", "sql", {"url": str(path)})
    ask = {"model": "echo:none", "messages": [{"role": "user", "content": "hi"}], "user": "ada"}
    with served(service, path) as live, live.client() as web, closing(other):

        def answer() -> str:
            said = web.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]["content"]
            return said.split("known: ")[1].split(" ")[0]

        other.add([Behavior("ada", "1", "", "one"), Behavior("ada", "2", "", "two")])
        assert answer() == "one,two"
        other.replace(Behavior("ada", "1", "", "uno"))
        assert answer() == "uno,two"
        other.remove("ada", ["2"])
        assert answer() == "uno"
        other.add([Behavior("ada", "3", "", "three")])
        until = time.monotonic() + 5
        while answer() != "uno,three" and time.monotonic() < until:
            time.sleep(0.01)
        assert answer() == "uno,three"


def test_whoever_must_be_prepared_first_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    service = text_service(path, Parrot(), OPEN, ("none",))
    main = service.models["echo:none"].personalizer
    method = Pensive(main.method.config, backbone=main.backbone, task=main.task)
    method.slow_prepare = False  # so nobody is prepared before they ask
    service.models["echo:none"].personalizer = Personalizer(method, service.store, main.task)
    with served(service, path) as live, live.client() as web, ThreadPoolExecutor(1) as beside:

        def answer(user: str) -> str:
            ask = {"model": "echo:none", "messages": [{"role": "user", "content": "hi"}], "user": user}
            return web.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]["content"]

        for user in ("ada", "bob"):
            web.post(f"/v1/users/{user}/history", json={"id": "1", "output": f"by-{user}"})
        assert "by-bob" in answer("bob")
        method.may_go_on.clear()
        waits = beside.submit(answer, "ada")
        assert "by-bob" in answer("bob")
        assert "by-" not in answer("nobody")
        assert not waits.done()
        method.may_go_on.set()
        assert "by-ada" in waits.result()


def test_what_several_methods_share_is_loaded_once(tiny_causal: Path, tmp_path: Path) -> None:
    from personaplug.core import registry
    from personaplug.pipeline.build import RunConfig, build_components
    from personaplug.tasks.base import TaskInfo

    run = RunConfig.parse(
        backbone={"name": "causal", "model": str(tiny_causal), "dtype": "float32", "device": "cpu"},
        encoder={"name": "hashing", "width": 16},
    )
    assembled = build_components(run, TaskInfo("chat", "text"), None)
    for name in ("one", "two"):
        assembled.save(tmp_path / name, {}, {})
    store = registry.build("store", "sql", {"url": str(tmp_path / "users.db")})
    store.add([Behavior("ada", "1", "a", "b")])
    loading = ModelLoader(store, OPEN)
    loading.add(str(tmp_path / "one"))
    loading.add(str(tmp_path / "two"))
    loading.add(str(tmp_path / "two"), "named")
    with pytest.raises(ConfigError, match="LABEL=ARTIFACT"):
        loading.add(str(tmp_path / "two"), "named")
    service = loading.service()
    assert set(service.models) == {f"tiny-causal:{m}" for m in ("plug", "none", "two", "named")}
    assert len({id(m.engine) for m in service.models.values()}) == 1
    assert len({id(m.personalizer.backbone) for m in service.models.values()}) == 1
    assert len({id(m.personalizer.method.vectors) for m in service.models.values()}) == 1
    service.close()
