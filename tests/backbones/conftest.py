"""Connections of clients end with the test that opened them: left to the garbage collector, sockets may go first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import openai

    made = []
    make = openai.OpenAI.__init__

    def remembering(self, *args, **kwargs) -> None:
        make(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(openai.OpenAI, "__init__", remembering)
    yield
    for client in made:
        client.close()
