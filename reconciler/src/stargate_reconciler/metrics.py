# SPDX-License-Identifier: Apache-2.0
"""Counters and histograms, in Prometheus' format; the only importer of its client.

Names and labels are listed in docs/metrics.md. No decision depends on a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LONG = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
_HOSTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SHORT = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)


class Counted(Protocol):
    """How many machines of a place are Nodes or should be, and how many of them are not Ready."""

    total: int
    bad: int


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
        place = ["namespace", "router"]
        self.nodes = Gauge("stargate_server_nodes", "Servers that are Nodes, or should be.", place, registry=at)
        self.not_ready = Gauge("stargate_server_nodes_not_ready", "Those that are not Ready.", place, registry=at)
        self.circuit_open = Gauge("stargate_circuit_open", "1 where nothing automatic is started.", place, registry=at)
        self.auto_repaves = Counter(
            "stargate_auto_repaves", "Repaves started without being asked for.", ["namespace"], registry=at
        )

    def show_places(self, counts: Mapping[tuple[str, str], Counted], opened: Mapping[tuple[str, str], bool]) -> None:
        """Show how the machines of each place are; places that are gone are not shown any more."""
        for gauge in (self.nodes, self.not_ready, self.circuit_open):
            gauge.clear()
        for place, count in counts.items():
            self.nodes.labels(*place).set(count.total)
            self.not_ready.labels(*place).set(count.bad)
            self.circuit_open.labels(*place).set(opened.get(place, False))

    def observe(self, gauge: str, read: Callable[[], float], **labels: str) -> None:
        """Let a gauge take its value from `read` whenever it is scraped."""
        metric: Gauge = getattr(self, gauge)
        (metric.labels(**labels) if labels else metric).set_function(read)

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format 0.0.4."""
        return generate_latest(self.registry)
