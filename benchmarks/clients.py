r"""Clients of a server under load, for Locust; `python benchmarks/serving.py` runs them.

    locust -f benchmarks/clients.py --headless --host http://127.0.0.1:8000 -u 32 -t 5m \
        --messages FILE --notes FILE [--people 200] [--model smollm2-135m:plug]

Each asks as one user after another, without a pause: eight of ten requests are chats of 16 to 48 tokens (half of them
streamed), one adds to a history, one reads. Whoever is asked to come later does. What a request met with is a line of
JSON in the notes: `at` (seconds since the epoch), `status`, and of a chat `timings` and `tokens`, of what was added
`added` (user, id).
"""

from __future__ import annotations

import json
import random
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gevent import sleep
from locust import FastHttpUser, constant, events, task
from locust.env import Environment

BUSY = (429, 503)


@events.init_command_line_parser.add_listener
def options(parser: ArgumentParser) -> None:
    parser.add_argument("--messages", type=Path, required=True, help="texts to send, a JSON array")
    parser.add_argument("--notes", type=Path, required=True, help="where to write what was met with")
    parser.add_argument("--people", type=int, default=200, help="users user0, user1, ... to ask as")
    parser.add_argument("--model", default="smollm2-135m:plug")


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    given = environment.parsed_options
    Client.messages = json.loads(given.messages.read_text())
    Client.notes = given.notes.open("w", buffering=1)
    Client.people, Client.model = given.people, given.model


class Client(FastHttpUser):
    """One of many."""

    wait_time = constant(0)
    network_timeout = connection_timeout = 120.0
    messages: list[str]
    notes: Any
    people: int
    model: str
    count = 0

    def on_start(self) -> None:
        """Have its own course of chance."""
        self.random = random.Random(Client.count)
        Client.count += 1

    @task(8)
    def chat(self) -> None:
        """Ask for an answer."""
        body = {"model": self.model, "messages": [{"role": "user", "content": self.random.choice(self.messages)}],
                "user": self.person(), "max_tokens": self.random.randint(16, 48),
                "stream": self.random.random() < 0.5, "stream_options": {"include_usage": True}}  # fmt: skip
        self.met("POST", "/v1/chat/completions", body)

    @task(1)
    def write(self) -> None:
        """Add to a history."""
        user, id_ = self.person(), f"new-{self.random.getrandbits(64):x}"
        body = {"id": id_, "output": self.random.choice(self.messages), "at": time.time()}
        self.met("POST", f"/v1/users/{user}/history", body, "/v1/users/USER/history", added=[user, id_])

    @task(1)
    def read(self) -> None:
        """Look at a history."""
        self.met("GET", f"/v1/users/{self.person()}/history?limit=20", None, "/v1/users/USER/history")

    def person(self) -> str:
        """Whoever is asked as next."""
        return f"user{self.random.randrange(self.people)}"

    def met(self, method: str, path: str, body: dict[str, Any] | None, name: str | None = None, **more: Any) -> None:
        """Send a request and note what came of it."""
        with self.client.request(method, path, json=body, name=name, catch_response=True) as response:
            status, said = response.status_code, response.text or ""
            note = {"at": time.time(), "status": status}
            if status == 200:
                note |= more | (answered(said) if "chat" in path else {})
                response.success() if note.pop("whole", True) else response.failure("an error in a stream")
            elif status in BUSY:
                response.success()
        self.notes.write(json.dumps(note) + "\n")
        if status in BUSY:
            sleep(float(response.headers["Retry-After"]))


def answered(said: str) -> dict[str, Any]:
    """What a chat's answer, streamed or not, tells of itself."""
    lines = [line[6:] for line in said.splitlines() if line.startswith("data: {")]
    note: dict[str, Any] = {"tokens": 0, "timings": None}
    for chunk in map(json.loads, lines or [said]):
        note["tokens"] += (chunk.get("usage") or {}).get("completion_tokens", 0)
        note["timings"] = (chunk.get("personaplug") or {}).get("timings") or note["timings"]
        if "error" in chunk:
            note |= {"whole": False, "status": "error in a stream"}
    return note
