"""What Prometheus reads: the shell's counters, and what only the Picture knows, read at scrape, per subnet.

Kube-OVN's `subnet_available_ip_count` and `subnet_used_ip_count` go on under their own names, so dashboards work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.core.addresses import FAMILY_NAME
from controller.core.catalogue import Message
from controller.machines.workqueue import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from controller.reconcilers.controller import Controller

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Wires:
    """Requests and transactions: what the adapters report through their hooks."""

    def __init__(self) -> None:
        self.requests = Counter("rest_client_requests", "Requests by answer", ["code", "method", "kind"], registry=None)
        self.request_seconds = Histogram(
            "rest_client_request_duration_seconds", "Time of a request", ["verb"], buckets=_SECONDS, registry=None
        )
        self._known: dict[tuple[str, str, str], tuple[Counter, Histogram | None]] = {}
        self.transactions = Counter(
            "keepip_northbound_transactions", "Northbound transactions", ["outcome"], registry=None
        )
        self.effects = Counter("keepip_northbound_effects", "Rows written in transactions", registry=None)
        self.transaction_seconds = Histogram(
            "keepip_northbound_transaction_duration_seconds", "Time of a transaction", buckets=_SECONDS, registry=None
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Show them in this registry."""
        parts = (self.requests, self.request_seconds, self.transactions, self.effects, self.transaction_seconds)
        for part in parts:
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

    def transaction(self, seconds: float, effects: int, outcome: str) -> None:
        """One transaction ended."""
        self.transactions.labels(outcome).inc()
        self.effects.inc(effects)
        self.transaction_seconds.observe(seconds)


class State(Collector):
    """The Picture in numbers, made anew at each scrape."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterable[Metric]:
        """Yield every family; O(subnets), nothing of it per address."""
        yield from self._subnets()
        yield from self._queue()
        yield from self._reservations()

    def _subnets(self) -> Iterable[Metric]:
        picture, now = self._controller.picture, self._controller.world.clock.now()
        labels = ["subnet", "family"]
        used = GaugeMetricFamily("keepip_subnet_used_addresses", "Addresses in use", labels=labels)
        free = GaugeMetricFamily("keepip_subnet_available_addresses", "Addresses that can be given out", labels=labels)
        excluded = GaugeMetricFamily("keepip_subnet_excluded_addresses", "Addresses of excludeIps", labels=labels)
        doubled = GaugeMetricFamily(
            "keepip_subnet_duplicate_addresses", "Addresses with two claimants", labels=["subnet"]
        )
        waiting = GaugeMetricFamily("keepip_subnet_waiting", "Pods and IPs that wait for an address", labels=["subnet"])
        oldest = GaugeMetricFamily("keepip_subnet_oldest_wait_seconds", "The longest of these waits", labels=["subnet"])
        old = ["subnet_name", "protocol", "subnet_cidr"]
        old_free = GaugeMetricFamily("subnet_available_ip_count", "As Kube-OVN has it", labels=old)
        old_used = GaugeMetricFamily("subnet_used_ip_count", "As Kube-OVN has it", labels=old)
        waits = self._controller.waiting.stats(now)
        twice: dict[str, int] = {}
        for name, _ in picture.ledger.duplicates():
            twice[name] = twice.get(name, 0) + 1
        for subnet in picture.subnets.values():
            name = subnet.metadata.name
            counts = picture.ledger.counts(name)
            for family, one in counts.items():
                text = FAMILY_NAME[family]
                used.add_metric([name, text], one.used)
                free.add_metric([name, text], one.available)
                excluded.add_metric([name, text], one.excluded)
            doubled.add_metric([name], twice.get(name, 0))
            count, longest = waits.get(name, (0, 0.0))
            waiting.add_metric([name], count)
            oldest.add_metric([name], longest)
            if counts:
                also = [name, subnet.spec.protocol, subnet.spec.cidr_block]
                first = counts.get(4) or counts[6]
                old_free.add_metric(also, min(one.available for one in counts.values()))
                old_used.add_metric(also, first.used)
        yield from (used, free, excluded, doubled, waiting, oldest, old_free, old_used)

    def _queue(self) -> Iterable[Metric]:
        controller = self._controller
        stats = controller.queue.stats(controller.world.clock.now())
        depth = GaugeMetricFamily("workqueue_depth", "Keys that wait, by lane", labels=["name"])
        for lane in Lane:
            depth.add_metric([lane.name.lower()], stats.depth[lane])
        yield depth
        one = ["keepip"]
        for name, text, value in (
            (
                "workqueue_unfinished_work_seconds",
                "Time that keys under way have taken so far",
                stats.unfinished_seconds,
            ),
            ("workqueue_longest_running_processor_seconds", "The longest of these", stats.longest_running_seconds),
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

    def _reservations(self) -> Iterable[Metric]:
        """Reservations and leaks by subnet: counts that the Picture keeps as it changes."""
        controller = self._controller
        reserved = GaugeMetricFamily("keepip_subnet_reserved", "Granted reservations", labels=["subnet"])
        audit = controller.sweeper.audit
        leaked = GaugeMetricFamily("keepip_subnet_leaked", "Ports of nobody that hold addresses", labels=["subnet"])
        orphaned = GaugeMetricFamily("keepip_subnet_orphaned", "IP objects of nobody", labels=["subnet"])
        drift = GaugeMetricFamily("keepip_subnet_drifting", "IPs whose records disagree", labels=["subnet"])
        stopped = GaugeMetricFamily(
            "keepip_subnet_sweep_stopped",
            "What a sweep leaves because it is so much",
            labels=["subnet"],
        )
        for subnet in controller.picture.subnets.values():
            name = subnet.metadata.name
            reserved.add_metric([name], controller.picture.reserved.get(name, 0))
            leaked.add_metric([name], audit.leaked.get(name, 0))
            orphaned.add_metric([name], audit.orphaned.get(name, 0))
            drift.add_metric([name], audit.drifting.get(name, 0))
            stop = controller.sweeper.stopped.get(name)
            stopped.add_metric([name], stop.much if stop is not None else 0)
        yield from (reserved, leaked, orphaned, drift, stopped)
        refused = GaugeMetricFamily("keepip_refused", "Objects that are refused now, by reason", labels=["reason"])
        counts: dict[str, int] = {}
        for message in controller.worker.refusals.values():
            if isinstance(message, Message):
                counts[str(message.reason)] = counts.get(str(message.reason), 0) + 1
        for reason, count in sorted(counts.items()):
            refused.add_metric([reason], count)
        yield refused
        picture = controller.picture
        rows = GaugeMetricFamily("keepip_replica_objects", "Objects in the replicas", labels=["kind"])
        for kind, size in (*picture.sizes(), ("Logical_Switch_Port", len(picture.ports.ports()))):
            rows.add_metric([kind], size)
        yield rows


def page(registry: CollectorRegistry) -> bytes:
    """The registry in Prometheus' text format."""
    return generate_latest(registry)
