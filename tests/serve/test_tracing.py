"""Spans for OpenTelemetry: a request and its stages, and nothing of who asked what."""

from __future__ import annotations

from pathlib import Path

import pytest

from personaplug.core.errors import ConfigError, MissingExtraError
from personaplug.serve.telemetry.tracing import Tracing, tracing_of
from serving import OPEN, Parrot, served, text_service

pytest.importorskip("opentelemetry.sdk", reason="pip install 'personaplug[otel]'")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_and_its_stages_are_spans_without_texts_and_users(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    path = tmp_path / "users.db"
    with served(text_service(path, Parrot(), OPEN), path, tracing=Tracing(provider)) as live, live.client() as web:
        web.post("/v1/users/canary-ada/history", json={"id": "canary-1", "output": "canary-text"})
        ask = {
            "model": "echo:recent",
            "messages": [{"role": "user", "content": "canary-question"}],
            "user": "canary-ada",
        }
        for stream in (False, True):
            web.post("/v1/chat/completions", json={**ask, "stream": stream}, headers={"traceparent": PARENT})
        web.get("/v1/users/canary-nobody")
    spans = {span.name: span for span in kept.get_finished_spans()}
    chat = spans["POST /v1/chat/completions"]
    assert dict(chat.attributes) == {
        "http.request.method": "POST", "http.route": "/v1/chat/completions", "http.response.status_code": 200,
    }  # fmt: skip
    assert f"{chat.context.trace_id:032x}" in PARENT
    assert f"{chat.parent.span_id:016x}" in PARENT
    for name in ("profile", "personalize", "queue", "generate"):
        assert spans[name].parent.span_id == chat.context.span_id
        assert chat.start_time <= spans[name].start_time <= spans[name].end_time <= chat.end_time
    assert spans["GET /v1/users/{user}"].attributes["http.response.status_code"] == 404
    assert len(kept.get_finished_spans()) == 4 + 2 * 4
    assert "canary" not in "".join(span.to_json() for span in kept.get_finished_spans())


def test_the_environment_asks_for_spans_and_says_where_to(monkeypatch, capsys) -> None:
    assert tracing_of({}) is None
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    assert tracing_of({**asked, "OTEL_SDK_DISABLED": "true"}) is None
    assert tracing_of({**asked, "OTEL_TRACES_EXPORTER": "none"}) is None
    with pytest.raises(ConfigError, match="'zipkin': expected otlp, console or none"):
        tracing_of({"OTEL_TRACES_EXPORTER": "zipkin"})
    tracing = tracing_of({"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "mine"})
    assert tracing is not None
    tracing.record("GET", "/healthz", 200, 0.1, {}, {})
    tracing.close()
    shown = capsys.readouterr().out
    assert "GET /healthz" in shown
    assert "mine" in shown
    tracing = tracing_of(asked)
    assert tracing is not None
    tracing.close()


def test_spans_that_are_asked_for_without_the_libraries_name_the_way_out(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'personaplug\[otel\]'"):
        tracing_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
