"""What the shell counts: one registry per controller, every series there from the start (craft.md 17).

Names follow client-go and controller-runtime where they have one, so existing dashboards work; what is per subnet is
read from the Picture at scrape (process/metrics.py), never kept twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from controller.core.catalogue import Reason
from controller.core.decisions.retention import FREED
from controller.reconcilers import keys

if TYPE_CHECKING:
    from controller.core.objects import Seconds

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RESULTS: Final = ("success", "error", "requeue_after", "behind", "refused")
SWEPT: Final = ("clean", "freed", "stopped")
DISAGREEMENTS: Final = (
    "duplicate_address",
    "leaked_port",
    "orphaned_ip",
    "records_differ",
    "port_missing",
    "ip_missing",
)


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
        self.errors = Counter(
            "controller_runtime_reconcile_errors",
            "Reconciles whose writes failed",
            ["controller"],
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
        self.releases = Counter("keepip_releases", "Addresses let go of, by cause", ["cause"], registry=registry)
        self.writes = Counter("keepip_writes", "Writes by effect", ["effect"], registry=registry)
        self.events = Counter("keepip_events", "Events by outcome", ["outcome"], registry=registry)
        self.events_waiting = Gauge("keepip_events_waiting", "Events not sent yet", registry=registry)
        self.sweeps = Counter("keepip_sweeps", "Sweeps by result", ["result"], registry=registry)
        self.sweep_seconds = Histogram(
            "keepip_sweep_duration_seconds", "Time of a sweep", buckets=_FAST, registry=registry
        )
        self.sweep_end = Gauge("keepip_sweep_timestamp_seconds", "When the last sweep ended", registry=registry)
        self.disagreements = Gauge(
            "keepip_disagreements", "What --mode=observe reports now, by kind", ["kind"], registry=registry
        )
        self.relists = Counter("keepip_relists", "Whole lists read", ["kind"], registry=registry)
        self.leading = Gauge("leader_election_master_status", "1 while this process leads", ["name"], registry=registry)
        self.terms = Counter("keepip_leader_terms", "Times that this process became the leader", registry=registry)
        self._initialise()
        # Looking a child up by its labels costs twice what counting does, so those of the hot path are kept.
        self._results = {(k, r): self.reconciles.labels(k, r) for k in keys.KINDS for r in RESULTS}
        self._waits = {kind: self.queue_seconds.labels(kind) for kind in keys.KINDS}
        self._works = {k: (self.work_seconds.labels(k), self.reconcile_seconds.labels(k)) for k in keys.KINDS}
        self._writes: dict[str, Counter] = {}

    def waited(self, kind: str, seconds: Seconds) -> None:
        """A key was taken after so long."""
        self._waits[kind].observe(seconds)

    def worked(self, kind: str, seconds: Seconds) -> None:
        """A key was worked on for so long, its writes included."""
        for histogram in self._works[kind]:
            histogram.observe(seconds)

    def reconciled(self, kind: str, result: str) -> None:
        """A reconcile ended like this."""
        self._results[kind, result].inc()
        if result == "error":
            self.errors.labels(kind).inc()

    def wrote(self, effect: str) -> None:
        """An effect was carried out."""
        child = self._writes.get(effect)
        if child is None:
            child = self._writes[effect] = self.writes.labels(effect)
        child.inc()

    def released(self, cause: str) -> None:
        """An address was let go of, for that cause."""
        self.releases.labels(cause).inc()

    def swept(self, result: str, seconds: Seconds, wall: Seconds) -> None:
        """A sweep ended like this, after so long, at that time."""
        self.sweeps.labels(result).inc()
        self.sweep_seconds.observe(seconds)
        self.sweep_end.set(wall)

    def led(self, *, leading: bool) -> None:
        """A term of leadership began or ended."""
        self.leading.labels("keepip").set(leading)
        if leading:
            self.terms.inc()

    def _initialise(self) -> None:
        for kind in keys.KINDS:
            self.reconcile_seconds.labels(kind)
            self.queue_seconds.labels(kind)
            self.work_seconds.labels(kind)
            self.panics.labels(kind)
            self.errors.labels(kind)
            for result in RESULTS:
                self.reconciles.labels(kind, result)
        for reason in Reason:
            self.refusals.labels(str(reason))
        for cause in FREED:
            self.releases.labels(str(cause))
        for outcome in ("sent", "dropped", "failed", "repeated"):
            self.events.labels(outcome)
        for result in SWEPT:
            self.sweeps.labels(result)
        for kind in DISAGREEMENTS:
            self.disagreements.labels(kind)
        self.leading.labels("keepip").set(0)
