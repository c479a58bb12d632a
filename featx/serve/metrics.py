"""What happens, in numbers: ``/metrics`` as Prometheus reads it (prometheus-client).

Several processes of one server count into files of one folder (prometheus-client's multi-process mode), and whichever
is asked adds them up. What a store is like is looked at when somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featx.errors import FeatxError
from featx.serve.batches import SENT
from featx.serve.mounted import Mounts
from featx.serve.resident import resident

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # of the files of several processes
TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_OTHER = "other"  # no route of ours: whatever strangers ask for must not make new rows


class Times(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], seconds: float) -> None:
        """How many fell between each bound and the one before, and the sum of all."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            bucket.inc(count)
        self._sum.inc(seconds)


class Counts:
    """Requests, bytes and times, by route and status.

    sources: called before anything is told, they bring what was counted elsewhere.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sources: list[Callable[[], object]] = []
        labels, registry = ("route", "method", "status"), self.registry
        self._requests = Counter("featx_requests", "Requests that were answered.", labels, registry=registry)
        self._bytes = Counter("featx_sent_bytes", "Bytes of bodies that were sent.", ("route",), registry=registry)
        self._times = Times(
            "featx_request_seconds", "From a request to the last byte that was handed over.", ("route",),
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._children: dict[tuple[str, str, int], tuple[Any, Any, Any]] = {}

    def note(self, route: str, method: str, status: int, size: int, seconds: float) -> None:
        """One request was answered."""
        requests, sent, times = self._of(route, method, status)
        requests.inc()
        sent.inc(size)
        times.observe(seconds)

    def add(
        self, route: str, answered: Mapping[tuple[str, int], tuple[int, int]], times: Sequence[int], seconds: float
    ) -> None:
        """Many were: by method and status how many, and the bytes of their bodies; ``times`` as ``BUCKETS`` has them,
        and what took longer; the seconds of all."""
        for (method, status), (count, size) in answered.items():
            requests, sent, histogram = self._of(route, method, status)
            requests.inc(count)
            sent.inc(size)
        histogram.add(times, seconds)

    def _of(self, route: str, method: str, status: int) -> tuple[Any, Any, Any]:
        found = self._children.get((route, method, status))
        if found is None:
            one = (
                self._requests.labels(route, method, str(status)),
                self._bytes.labels(route),
                self._times.labels(route),
            )
            found = self._children[route, method, status] = one
        return found


class Metered:
    """Middleware that counts. routes: the path of each endpoint, as it is written in the documentation."""

    def __init__(self, app: ASGIApp, counts: Counts, routes: Mapping[Any, str]) -> None:
        self.app, self.counts, self.routes = app, counts, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status, size = perf_counter(), 499, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, counted)
        finally:
            route = self.routes.get(scope.get("endpoint"), _OTHER)
            method = scope["method"] if scope["method"] in _METHODS else _OTHER
            self.counts.note(route, method, status, size + scope.get(SENT, 0), perf_counter() - began)


_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


class StoreState(Collector):
    """What the stores are like at the moment."""

    def __init__(self, mounts: Mounts) -> None:
        self._mounts = mounts

    def collect(self) -> Iterator[Metric]:
        families = {
            "featx_store_open": "Whether the store can be read (1), and is what lies in its folder now.",
            "featx_store_records": "Records of the store.",
            "featx_store_complete": "Whether every part of it is finished.",
            "featx_store_mapped_bytes": "Bytes of its files that are mapped.",
            "featx_store_cached_bytes": "About how many of them are in memory (page cache), by a sample of pages.",
        }
        made = {name: GaugeMetricFamily(name, text, labels=("store",)) for name, text in families.items()}
        for name, mounted in self._mounts.stores.items():
            for family, value in zip(made.values(), _state(mounted), strict=True):
                if value is not None:
                    family.add_metric((name,), value)
        yield from made.values()


def _state(mounted: Any) -> Sequence[float | None]:
    try:
        reader = mounted.reader
    except FeatxError:
        return (0, None, None, None, None)
    mapped, cached = resident(mounted.spans.maps)
    return float(mounted.trouble is None), len(reader), float(reader.manifest.complete), mapped, cached


class Figures(Collector):
    """The numbers of the extensions."""

    def __init__(self, sources: Sequence[Callable[[], Mapping[str, float]]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        for source in self._sources:
            for name, value in source().items():
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                yield kind(name, "Of this process.", value=value)


def metrics_route(counts: Counts, mounts: Mounts, figures: Sequence[Callable[[], Mapping[str, float]]] = ()) -> Route:
    """``/metrics``."""
    state = CollectorRegistry()
    state.register(StoreState(mounts))
    state.register(Figures(figures))

    def text() -> bytes:
        for bring in counts.sources:
            bring()
        registry = counts.registry
        if FOLDER in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(state)

    async def metrics(request: Request) -> Response:
        return Response(await run_in_threadpool(text), headers={"content-type": TYPE, "cache-control": "no-store"})

    return Route("/metrics", metrics)
