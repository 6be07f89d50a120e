"""How far a reader walks who follows one chat request: the modules of the package that it visits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import personaplug
from personaplug.core.types import Behavior
from serving import served, tiny_service

PACKAGE = Path(personaplug.__file__).parent
SERVE = {
    "serve/security/middleware.py", "serve/security/access.py", "serve/openai/schemas.py", "serve/routes/chat.py",
    "serve/runtime/completion.py", "serve/runtime/service.py",
}  # fmt: skip
MOST = 30  # six of the server; the rest: the persona (plug, method, vectors, user) and the model


class Visits:
    """Notes the files of the package whose functions are called in threads that start from now on."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.noting = False

    def __call__(self, frame, event, _) -> None:
        if self.noting and event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            self.files.add(Path(frame.f_code.co_filename).relative_to(PACKAGE).as_posix())


@contextmanager
def visits() -> Iterator[Visits]:
    found = Visits()
    before = sys.getprofile()
    threading.setprofile(found)
    try:
        yield found
    finally:
        threading.setprofile(before)


def test_a_warm_chat_request_visits_few_modules(tiny_causal: Path, tmp_path: Path) -> None:
    with visits() as visited:
        service = tiny_service(tiny_causal, tmp_path)
        service.store.add([Behavior("ada", str(i), "tell me more", "red please", float(i)) for i in range(3)])
        body = {
            "model": "tiny-causal:plug", "user": "ada", "max_tokens": 3,
            "messages": [{"role": "user", "content": "what is your favourite colour"}],
        }  # fmt: skip
        with served(service, tmp_path / "users.db") as live, live.client() as web:
            for _ in range(3):
                answer = web.post("/v1/chat/completions", json=body).json()
                assert answer["personaplug"]["personalized"]
            visited.noting = True
            web.post("/v1/chat/completions", json=body)
            visited.noting = False
    assert {file for file in visited.files if file.startswith("serve/")} == SERVE
    assert len(visited.files) <= MOST, sorted(visited.files)
