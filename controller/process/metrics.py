"""What Prometheus reads: counters of the shell and of the wires, and what only the Picture knows, read at scrape.

Names are client-go's and controller-runtime's where they have one, so that existing dashboards and alerts work.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from controller import __version__
from controller.core.catalogue import CATALOGUE
from controller.machines.workqueue import Lane
from controller.process.exposition import text_of
from controller.process.subnets import Subnets
from controller.reconcilers import keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from controller.core.objects import Seconds
    from controller.reconcilers.controller import Controller

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FEEL_S: Final = 0.25  # between two looks at the loop's lag
MODES: Final = ("manage", "observe")
_ON: Final = {  # what a key's kind is called in the catalogue
    keys.RESERVATION: "IP",
    keys.POD: "Pod",
    keys.SUBNET: "Subnet",
    keys.POOL: "IPPool",
}


class Link(Protocol):
    """The connection to Northbound, as far as a person asks about it."""

    @property
    def connected(self) -> bool:
        """True while the rows are whole and commits are taken."""

    @property
    def reconnects(self) -> int:
        """How many connections there were."""

    @property
    def silence(self) -> Seconds:
        """How long the server has said nothing, not even to a probe."""


class Wires:
    """Requests, transactions and the loop itself: what the adapters report through their hooks."""

    def __init__(self) -> None:
        self.requests = Counter("rest_client_requests", "Requests by answer", ["code", "method", "kind"], registry=None)
        self.request_seconds = Histogram(
            "rest_client_request_duration_seconds", "Time of a request", ["verb"], buckets=_SECONDS, registry=None
        )
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram | None]] = {}
        self.serving = Gauge("keepip_apiserver_up", "1 while the API server serves our requests", registry=None)
        self.transactions = Counter(
            "keepip_northbound_transactions", "Northbound transactions", ["outcome"], registry=None
        )
        self.effects = Counter("keepip_northbound_effects", "Rows written in transactions", registry=None)
        self.transaction_seconds = Histogram(
            "keepip_northbound_transaction_duration_seconds", "Time of a transaction", buckets=_SECONDS, registry=None
        )
        self.lag = Histogram(
            "keepip_event_loop_lag_seconds", "How late the event loop runs what is due", buckets=_SECONDS, registry=None
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Show them in this registry."""
        timed = (self.request_seconds, self.transaction_seconds, self.lag)
        for part in (self.requests, self.serving, self.transactions, self.effects, *timed):
            registry.register(part)

    def request(self, verb: str, kind: str, code: str, seconds: float) -> None:
        """One request was answered, or not (`code` says what stood in for an answer)."""
        known = self._known.get((code, verb, kind))
        if known is None:  # looking children up by their labels costs twice what counting does
            known = self._known[code, verb, kind] = (
                self.requests.labels(code, verb, kind),
                self.request_seconds.labels(verb) if verb != "watch" else None,
            )
        count, histogram = known
        count.inc()
        if histogram is not None:
            histogram.observe(seconds)
        self.serving.set(code.isdigit() and code < "500")

    def transaction(self, seconds: float, effects: int, outcome: str) -> None:
        """One transaction ended."""
        self.transactions.labels(outcome).inc()
        self.effects.inc(effects)
        self.transaction_seconds.observe(seconds)

    async def feel(self) -> None:
        """Measure the loop's lag until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _FEEL_S
            await asyncio.sleep(_FEEL_S)
            self.lag.observe(max(0.0, loop.time() - due))


class State(Collector):
    """The controller in numbers, made anew at each scrape; what is per subnet is in subnets.py."""

    def __init__(self, controller: Controller, link: Link, mode: str = "manage") -> None:
        self._controller, self._link, self._mode = controller, link, mode

    def collect(self) -> Iterable[Metric]:
        """Yield every family; nothing of it grows with the cluster."""
        yield from self._queue()
        yield from self._workers()
        yield from self._refusals()
        yield from self._replicas()
        yield from self._self()

    def _queue(self) -> Iterable[Metric]:
        controller = self._controller
        stats = controller.queue.stats(controller.world.clock.now())
        depth = GaugeMetricFamily("workqueue_depth", "Keys that wait, by lane", labels=["name"])
        for lane in Lane:
            depth.add_metric([lane.name.lower()], stats.depth[lane])
        yield depth
        unfinished, longest = stats.unfinished_seconds, stats.longest_running_seconds
        one = ["keepip"]
        for name, text, value in (
            ("workqueue_unfinished_work_seconds", "Time that keys under way have taken so far", unfinished),
            ("workqueue_longest_running_processor_seconds", "The longest of these", longest),
            ("workqueue_delayed", "Keys booked for later", stats.delayed),
            ("workqueue_processing", "Keys under way", stats.processing),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["name"])
            gauge.add_metric(one, value)
            yield gauge
        for name, text, value in (
            ("workqueue_adds", "Keys added", stats.adds),
            ("workqueue_retries", "Keys put back after a failure", stats.retries),
        ):
            counter = CounterMetricFamily(name, text, labels=["name"])
            counter.add_metric(one, value)
            yield counter
        yield GaugeMetricFamily("keepip_writes_unseen", "Keys whose writes are not shown yet", len(controller.barrier))

    def _workers(self) -> Iterable[Metric]:
        controller = self._controller
        active, most = controller.worker.under_way, controller.tuning.workers
        for name, text, value in (
            ("controller_runtime_active_workers", "Writes under way", active),
            ("controller_runtime_max_concurrent_reconciles", "Writes under way at most", most),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["controller"])
            gauge.add_metric(["keepip"], value)
            yield gauge

    def _refusals(self) -> Iterable[Metric]:
        text = "Objects that are refused now, by kind and reason"
        refused = GaugeMetricFamily("keepip_refused", text, labels=["kind", "reason"])
        counts = Tally((_ON.get(key.kind, ""), one.reason) for key, one in self._controller.worker.refusals.items())
        for reason, entry in CATALOGUE.items():
            for kind in entry.on:
                refused.add_metric([kind, str(reason)], counts[kind, reason])
        yield refused

    def _replicas(self) -> Iterable[Metric]:
        picture, link = self._controller.picture, self._link
        sizes = dict(picture.sizes()) | {
            "Logical_Switch_Port": len(picture.ports.ports()),
            "Logical_Switch": len(picture.ports.switches()),
            "Address_Set": len(picture.ports.sets()),
        }
        rows = GaugeMetricFamily("keepip_replica_objects", "Objects in the replicas", labels=["kind"])
        for kind, size in sizes.items():
            rows.add_metric([kind], size)
        yield rows
        synced = GaugeMetricFamily("keepip_replica_synced", "1 once the source was read whole", labels=["source"])
        for source, whole in picture.sources():
            synced.add_metric([source], whole)
        yield synced
        age = GaugeMetricFamily(
            "keepip_replica_age_seconds",
            "Since the source was last heard, if only that nothing is new",
            labels=["source"],
        )
        for source, seconds in (*self._controller.ages(), ("Northbound", link.silence)):
            age.add_metric([source], seconds)
        yield age
        yield GaugeMetricFamily("keepip_northbound_connected", "1 while Northbound takes commits", link.connected)
        yield CounterMetricFamily("keepip_northbound_connections", "Connections made to Northbound", link.reconnects)

    def _self(self) -> Iterable[Metric]:
        mode = GaugeMetricFamily("keepip_mode", "1 for the mode this process runs in", labels=["mode"])
        for one in MODES:
            mode.add_metric([one], one == self._mode)
        yield mode
        if self._mode == "manage":  # who only looks does not ask for that Lease
            rival = bool(self._controller.rival.live)
            yield GaugeMetricFamily("keepip_kube_ovn_live", "1 while Kube-OVN's controller manages this cluster", rival)
        info = GaugeMetricFamily("keepip_build_info", "Which version this is", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


class Page:
    """The page that Prometheus reads."""

    def __init__(self, controller: Controller, wires: Wires, link: Link, mode: str = "manage") -> None:
        self._controller, self._registry = controller, controller.telemetry.registry
        wires.register(self._registry)
        self._registry.register(State(controller, link, mode))
        ProcessCollector(registry=self._registry)

    async def text(self) -> str:
        """All families; between two of them, and within what is per subnet, others get their turn."""
        parts = []
        for metric in self._registry.collect():
            parts.append(text_of(metric))
            await asyncio.sleep(0)
        parts.append(await Subnets(self._controller).text())
        return "".join(parts)
