"""The door's other port: whether it lives, whether it can keep a promise, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streams.ingestion.counts import LATENCY_BOUNDS, Counts

PREFIX = "ai_agents_ingestion_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

State = Callable[[], Mapping[str, Any]]
"""What /health shows; `ready` in it decides /ready, its numbers and flags are gauges in /metrics."""


class _Numbers(Collector):
    """Reads the counts when asked, so that a request pays for no metric of its own."""

    def __init__(self, counts: Counts, state: State) -> None:
        self._counts = counts
        self._state = state

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            PREFIX + "accepted", "Deliveries answered 2xx, by what made them durable.", labels=["tenant", "tool", "by"]
        )
        refused = CounterMetricFamily(PREFIX + "refused", "Requests refused, by reason.", labels=["tenant", "tool", "reason"])
        for (tenant, tool), counts in self._counts.so_far().items():
            requests.add_metric([tenant, tool, "broker"], counts.accepted)
            requests.add_metric([tenant, tool, "spool"], counts.spooled)
            for reason, count in counts.refused.items():
                refused.add_metric([tenant, tool, reason], count)
        yield requests
        yield refused
        yield self._latency()
        for name, value in self._state().items():
            if isinstance(value, (bool, int, float)):
                yield GaugeMetricFamily(PREFIX + name, f"{name.replace('_', ' ')}, as /health shows it.", value=float(value))

    def _latency(self) -> HistogramMetricFamily:
        buckets, sum_so_far = [], 0
        for bound, count in zip([*map(str, LATENCY_BOUNDS), "+Inf"], self._counts.latency_buckets, strict=True):
            sum_so_far += count
            buckets.append((bound, sum_so_far))
        return HistogramMetricFamily(
            PREFIX + "answer_seconds", "From the request's head to its 2xx.", buckets=buckets, sum_value=self._counts.latency_sum
        )


def admin_app(counts: Counts, state: State) -> Starlette:
    """GET /health (alive, and its state), /ready (200, or 503 when nothing can be made durable), /metrics."""
    registry = CollectorRegistry()
    registry.register(_Numbers(counts, state))

    async def health(request: Request) -> Response:
        return JSONResponse(dict(state()))

    async def ready(request: Request) -> Response:
        now = dict(state())
        return JSONResponse(now, status_code=200 if now["ready"] else 503)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/health", health), Route("/ready", ready), Route("/metrics", metrics)])
