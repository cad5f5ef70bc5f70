"""What the shell counts: one registry per controller, every series there from the start (craft.md 17).

Names follow client-go and controller-runtime where they have one, so existing dashboards work; what is per subnet is
read from the Picture at scrape (process/metrics.py), never kept twice.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.core.catalogue import Reason
from controller.reconcilers import keys

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RESULTS: Final = ("success", "error", "requeue_after", "behind", "refused")
CAUSES: Final = ("owner_gone", "ip_deleted", "subnet_deleted")


class Telemetry:
    """All counters and histograms of the shell."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.reconciles = Counter(
            "controller_runtime_reconcile",
            "Reconciles by result",
            ["controller", "result"],
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Time of one reconcile, its writes included",
            ["controller"],
            buckets=_FAST,
            registry=registry,
        )
        self.panics = Counter(
            "controller_runtime_reconcile_panics", "Reconciles that met a bug", ["controller"], registry=registry
        )
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds",
            "Time a key waits before it is taken",
            ["name"],
            buckets=_FAST,
            registry=registry,
        )
        self.work_seconds = Histogram(
            "workqueue_work_duration_seconds", "Time a key is worked on", ["name"], buckets=_FAST, registry=registry
        )
        self.refusals = Counter("keepip_refusals", "Refusals told, by reason", ["reason"], registry=registry)
        self.writes = Counter("keepip_writes", "Writes by effect", ["effect"], registry=registry)
        self.events = Counter("keepip_events", "Events by outcome", ["outcome"], registry=registry)
        self.events_waiting = Gauge("keepip_events_waiting", "Events not sent yet", registry=registry)
        self.relists = Counter("keepip_relists", "Whole lists read", ["kind"], registry=registry)
        self.oldest_change = Gauge(
            "keepip_replica_changed_seconds", "When it changed last", ["kind"], registry=registry
        )
        self.leading = Gauge("leader_election_master_status", "1 while this process leads", ["name"], registry=registry)
        self._initialise()

    def _initialise(self) -> None:
        for kind in keys.KINDS:
            self.reconcile_seconds.labels(kind)
            self.queue_seconds.labels(kind)
            self.work_seconds.labels(kind)
            self.panics.labels(kind)
            for result in RESULTS:
                self.reconciles.labels(kind, result)
        for reason in Reason:
            self.refusals.labels(str(reason))
        for outcome in ("sent", "dropped", "failed", "repeated"):
            self.events.labels(outcome)
        self.leading.labels("keepip").set(0)
