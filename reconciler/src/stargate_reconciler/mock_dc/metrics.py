# SPDX-License-Identifier: Apache-2.0
"""What the mock datacenter counts, in the format of Prometheus.

Its own registry, so that it never mixes with the daemon's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Jobs by type and phase, and how long requests took by route and status."""

    def __init__(self, jobs: Callable[[], Iterable[dict[str, Any]]]) -> None:
        """Keep the question that gives all jobs; it is asked at each scrape."""
        self._registry = CollectorRegistry()
        self._jobs = jobs
        self._registry.register(self)
        self._requests = Histogram(
            "stargate_mock_dc_request_duration_seconds",
            "Time to answer a request, long polls included.",
            ["method", "route", "status"],
            registry=self._registry,
        )

    def collect(self) -> Iterable[Metric]:
        """Yield the number of jobs known by type and phase."""
        counts = Counter((job["type"], job["phase"]) for job in self._jobs())
        family = GaugeMetricFamily("stargate_mock_dc_jobs", "Jobs known, by type and phase.", labels=["type", "phase"])
        for labels, number in sorted(counts.items()):
            family.add_metric(list(labels), number)
        yield family

    def observe(self, labels: tuple[str, str, int], seconds: float) -> None:
        """Count one answered request: (method, route, status)."""
        method, route, status = labels
        self._requests.labels(method, route, str(status)).observe(seconds)

    def text(self) -> str:
        """Return the exposition."""
        return generate_latest(self._registry).decode()
