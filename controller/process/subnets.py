"""What is per subnet, read from the Picture at scrape: never per pod, never per address.

Kube-OVN's `subnet_available_ip_count` and `subnet_used_ip_count` go on under their own names and labels, so that
dashboards made for it go on working.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from controller.core.addresses import FAMILY_NAME
from controller.core.catalogue import Reason
from controller.process.exposition import Table, in_slices, labelled
from controller.reconcilers import keys

if TYPE_CHECKING:
    from controller.core.catalogue import Message
    from controller.core.objects import Subnet
    from controller.reconcilers.controller import Controller
    from controller.reconcilers.keys import Key

FAMILIES: Final = (
    ("keepip_subnet_used_addresses", "Addresses in use"),
    ("keepip_subnet_available_addresses", "Addresses that can be given out"),
    ("keepip_subnet_excluded_addresses", "Addresses of excludeIps"),
    ("keepip_subnet_reservations", "Reservations by state: granted, waiting for an address, or refused"),
    ("keepip_subnet_reservations_unused", "Granted reservations that no pod used when the last sweep looked"),
    ("keepip_subnet_waiting", "Pods and IPs that wait for an address"),
    ("keepip_subnet_oldest_wait_seconds", "The longest of these waits"),
    ("keepip_subnet_duplicate_addresses", "Addresses with two claimants"),
    ("keepip_subnet_leaked", "Ports of nobody that hold addresses, as the last sweep saw it"),
    ("keepip_subnet_orphaned", "IP objects of nobody, as the last sweep saw it"),
    ("keepip_subnet_drifting", "IPs whose records disagree, as the last sweep saw it"),
    ("keepip_subnet_sweep_stopped", "What a sweep leaves because it is so much"),
    ("subnet_available_ip_count", "As Kube-OVN has it"),
    ("subnet_used_ip_count", "As Kube-OVN has it"),
)


class Subnets:
    """One scrape of all subnets; a subnet's own numbers are of one moment, those of two subnets need not be."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._table = Table(FAMILIES)
        self._waits = controller.waiting.stats(controller.world.clock.now())
        self._twice = Counter(name for name, _ in controller.picture.ledger.duplicates())
        self._refused: Counter[tuple[str, bool]] = Counter()

    async def text(self) -> str:
        """All of it, with turns of the loop in between."""
        await in_slices(tuple(self._controller.worker.refusals.items()), self._count)
        await in_slices(tuple(self._controller.picture.subnets.values()), self._write)
        return "".join(self._table.text())

    def _count(self, refusal: tuple[Key, Message]) -> None:
        """A reservation without an address, by its subnet and by whether it only waits for one."""
        key, message = refusal
        if key.kind == keys.RESERVATION and (ip := self._controller.picture.ips.get("", key.name)) is not None:
            self._refused[ip.spec.subnet, message.reason is Reason.SUBNET_EXHAUSTED] += 1

    def _write(self, subnet: Subnet) -> None:
        name = subnet.metadata.name
        self._addresses(subnet, name)
        add, mine = self._table.add, labelled(subnet=name)
        for state, count in (
            ("granted", self._controller.picture.reserved.get(name, 0)),
            ("waiting", self._refused[name, True]),
            ("refused", self._refused[name, False]),
        ):
            add("keepip_subnet_reservations", f'{mine},state="{state}"', count)
        waiting, longest = self._waits.get(name, (0, 0.0))
        audit, stop = self._controller.sweeper.audit, self._controller.sweeper.stopped.get(name)
        add("keepip_subnet_waiting", mine, waiting)
        add("keepip_subnet_oldest_wait_seconds", mine, longest)
        add("keepip_subnet_duplicate_addresses", mine, self._twice[name])
        add("keepip_subnet_reservations_unused", mine, audit.unused.get(name, 0))
        add("keepip_subnet_leaked", mine, audit.leaked.get(name, 0))
        add("keepip_subnet_orphaned", mine, audit.orphaned.get(name, 0))
        add("keepip_subnet_drifting", mine, audit.drifting.get(name, 0))
        add("keepip_subnet_sweep_stopped", mine, stop.much if stop is not None else 0)

    def _addresses(self, subnet: Subnet, name: str) -> None:
        add, counts = self._table.add, self._controller.picture.ledger.counts(name)
        for family, one in counts.items():
            labels = labelled(subnet=name, family=FAMILY_NAME[family])
            add("keepip_subnet_used_addresses", labels, one.used)
            add("keepip_subnet_available_addresses", labels, one.available)
            add("keepip_subnet_excluded_addresses", labels, one.excluded)
        if counts:
            spec = subnet.spec
            old = labelled(subnet_name=name, protocol=spec.protocol, subnet_cidr=spec.cidr_block)
            add("subnet_available_ip_count", old, min(one.available for one in counts.values()))
            add("subnet_used_ip_count", old, (counts.get(4) or counts[6]).used)
