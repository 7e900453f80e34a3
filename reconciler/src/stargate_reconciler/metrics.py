# SPDX-License-Identifier: Apache-2.0
"""Counters and histograms, in Prometheus' format; the only importer of its client.

Names and labels are listed in docs/metrics.md. No decision depends on a metric.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LONG = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_HOSTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SHORT = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """All metrics of one daemon, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at = self.registry
        ends = ["operation", "phase", "reason"]
        self.ended = Counter("stargate_operations_ended", "Operations that reached a final phase.", ends, registry=at)
        self.retried = Counter(
            "stargate_operation_retries", "Failed attempts followed by another.", ["operation"], registry=at
        )
        self.duration = Histogram(
            "stargate_operation_duration_seconds",
            "From creation to the final phase.",
            ["operation", "phase"],
            buckets=_LONG,
            registry=at,
        )
        self.to_running = Histogram(
            "stargate_operation_start_latency_seconds", "From creation to phase Running.", buckets=_SHORT, registry=at
        )
        self.runs = Gauge("stargate_runs", "Ansible processes now running.", registry=at)
        self.run_hosts = Histogram("stargate_run_hosts", "Hosts in a run.", buckets=_HOSTS, registry=at)
        self.run_seconds = Histogram("stargate_run_duration_seconds", "Length of a run.", buckets=_LONG, registry=at)
        self.reconciles = Counter("stargate_reconciles", "Looks at a Server's queue key.", ["outcome"], registry=at)
        self.reconcile_seconds = Histogram(
            "stargate_reconcile_duration_seconds", "Length of one look.", buckets=_SHORT, registry=at
        )
        self.queue_depth = Gauge("stargate_queue_depth", "Keys at work or due now.", registry=at)
        self.objects = Gauge("stargate_objects", "Objects in the daemon's store.", ["kind"], registry=at)
        self.leader = Gauge("stargate_leader", "1 while this process holds the Lease.", registry=at)
        self.watch_errors = Counter("stargate_watch_errors", "Failed lists and watches.", ["kind"], registry=at)

    def observe(self, gauge: str, read: Callable[[], float], **labels: str) -> None:
        """Let a gauge take its value from `read` whenever it is scraped."""
        metric: Gauge = getattr(self, gauge)
        (metric.labels(**labels) if labels else metric).set_function(read)

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format 0.0.4."""
        return generate_latest(self.registry)
