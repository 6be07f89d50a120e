"""Optional spans for OpenTelemetry: one a request, and one a stage in it; never a text and never who asked."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from personaplug.core.errors import ConfigError
from personaplug.core.registry import missing_extra
from personaplug.core.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.util.types import AnyValue

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_LONGEST = 8192  # characters of the headers that say which trace a request belongs to


class Tracing:
    """Makes the spans of a request when it is done, from when its stages began and ended.

    Args:
        provider: what hands spans on; closing this closes it.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("personaplug.serve", __version__)
        self._parents = TraceContextTextMapPropagator()

    def record(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        stages: Mapping[str, float],
        headers: Mapping[str, str],
    ) -> None:
        """Export a request that has just been served.

        Args:
            method: of HTTP.
            route: the address with names in the places of whom and what it names, as `/v1/users/{user}`.
            status: of the answer.
            seconds: from its arrival to its last byte.
            stages: seconds by stage; see `CompletionRun`.
            headers: of the request, of which `traceparent` and `tracestate` say what trace it belongs to.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        end = time.time_ns()
        begin = end - _nanoseconds(seconds)
        sent = {name: headers.get(name, "")[:_LONGEST] for name in ("traceparent", "tracestate")}
        attributes: dict[str, AnyValue] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        span = self._tracer.start_span(
            f"{method} {route}", self._parents.extract(sent), SpanKind.SERVER, attributes, start_time=begin
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        for name, start, spent in _placed(stages):
            stage = self._tracer.start_span(name, inside, start_time=begin + _nanoseconds(start))
            stage.end(begin + _nanoseconds(start + spent))
        span.end(end)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def tracing_of(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """What OpenTelemetry's own environment variables ask for; None where they ask for nothing.

    Raises:
        MissingExtraError: they ask for spans, and the libraries are not installed.
        ConfigError: they ask for an exporter that is not known here.
    """
    wanted = environment.get("OTEL_TRACES_EXPORTER") or (
        "otlp" if any(environment.get(e) for e in _ENDPOINTS) else "none"
    )
    if wanted == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(wanted)
    except ModuleNotFoundError as error:
        raise missing_extra("OpenTelemetry, which OTEL_* environment variables ask for,", error) from error
    named = {"service.name": environment.get("OTEL_SERVICE_NAME", "personaplug"), "service.version": __version__}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _exporter(name: str) -> Any:
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stdout)
    raise ConfigError(f"OTEL_TRACES_EXPORTER is {name!r}: expected otlp, console or none")


def _placed(stages: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """Each stage that has a place of its own in a request's time, with its start and its length in seconds."""
    entered = stages.get("overhead")
    if entered is None:
        return
    profile, personalize = stages.get("profile", 0.0), stages.get("personalize", 0.0)
    yield "profile", max(0.0, entered - personalize - profile), profile
    yield "personalize", max(0.0, entered - personalize), personalize
    if "generate" in stages:
        began = entered + stages.get("queue", 0.0)
        yield "queue", entered, began - entered
        yield "generate", began, stages["generate"]


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
