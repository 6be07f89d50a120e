"""Metrics for Prometheus; no label ever says who asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from personaplug.serve.runtime.service import Service

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """A server's counters; each app has its own."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "personaplug_requests", "Requests, by route and status.", ["method", "route", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "personaplug_request_seconds", "From a request's arrival to the last byte of its answer.", ["route"],
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.stages = Histogram(
            "personaplug_stage_seconds", "Parts of an answer's time.", ["stage"], registry=self.registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self.open = Gauge("personaplug_requests_in_flight", "Requests being served.", registry=self.registry)
        self.registry.register(_Gauges(service))

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    """Values that are read when Prometheus asks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Engines by backbone, caches by model."""
        running = GaugeMetricFamily("personaplug_batch_size", "Answers being decoded.", labels=["backbone"])
        waiting = GaugeMetricFamily("personaplug_queue_size", "Answers that wait.", labels=["backbone"])
        steps = CounterMetricFamily("personaplug_decode_steps", "Decode steps.", labels=["backbone"])
        drawn = CounterMetricFamily("personaplug_decode_tokens", "Tokens drawn in them.", labels=["backbone"])
        hits = CounterMetricFamily("personaplug_prepared_hits", "Users who were prepared in memory.", labels=["model"])
        misses = CounterMetricFamily("personaplug_prepared_misses", "Users who were not.", labels=["model"])
        seen: set[int] = set()
        for model in self._service.models.values():
            hits.add_metric([model.id], model.personalizer.hits)
            misses.add_metric([model.id], model.personalizer.misses)
            if id(model.engine) not in seen:
                seen.add(id(model.engine))
                backbone, load = [model.id.rsplit(":", 1)[0]], model.engine.load()
                running.add_metric(backbone, load[0])
                waiting.add_metric(backbone, load[1])
                steps.add_metric(backbone, model.engine.steps)
                drawn.add_metric(backbone, model.engine.drawn)
        yield from (running, waiting, steps, drawn, hits, misses)
