"""Metrics for Prometheus: jobs, workers, watchers, requests, and the process of the server."""

import time
from collections.abc import Iterator, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gramstyle.serve.http.guard import App, Receive, Scope, Send
from gramstyle.serve.job import STATES
from gramstyle.serve.service import Service

METHODS = ("GET", "POST", "DELETE", "OPTIONS")  # HEAD counts as GET
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one service, and the requests that it has answered."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_OfService(service))
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            "gramstyle_request_seconds",
            "The time until a response has started, by route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )

    def text(self) -> bytes:
        """Return the metrics in the text format."""
        return generate_latest(self._registry)

    def measured(self, app: App) -> App:
        """Return an application whose requests are measured."""

        async def measuring(scope: Scope, receive: Receive, send: Send) -> None:
            began = time.perf_counter()

            async def sending(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    # Not the path, which has ids, nor any method: clients choose them, and one
                    # series for each would fill the memory.
                    route = getattr(scope.get("route"), "path", "other")
                    method = scope["method"] if scope["method"] in METHODS else "other"
                    labels = (method, route, str(message["status"]))
                    self._requests.labels(*labels).observe(time.perf_counter() - began)
                await send(message)

            await app(scope, receive, sending if scope["type"] == "http" else send)

        return measuring


class _OfService(Collector):
    """Reads the state of the service when the metrics are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        service, counts = self._service, self._service.counts()
        jobs = GaugeMetricFamily("gramstyle_jobs", "Stored jobs by state.", labels=["state"])
        for state in STATES:
            jobs.add_metric([state], counts.get(state, 0))
        yield jobs
        yield GaugeMetricFamily(
            "gramstyle_storage_bytes", "The bytes of all files of the service.", service.size()
        )
        ready = service.workers_ready
        yield GaugeMetricFamily("gramstyle_workers_ready", "Workers that run or take jobs.", ready)
        yield CounterMetricFamily(
            "gramstyle_worker_deaths", "Workers that have died in a job.", service.worker_deaths
        )
        yield GaugeMetricFamily(
            "gramstyle_watchers", "Clients that watch a job.", service.feed.watchers
        )
