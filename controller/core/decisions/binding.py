"""Who may use a reservation: the comparison of a pod with what was granted (contract §3, Use).

One function answers for both sides, the pod that is refused and the IP that shows why, so they never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.addresses import Address, format_address, format_mac
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions.networks import DEFAULT
from controller.core.effects import Patch
from controller.core.objects import Kind

if TYPE_CHECKING:
    from controller.core.decisions.networks import Nic
    from controller.core.decisions.placement import Ask, Home
    from controller.core.ipam import Want
    from controller.core.objects import Ip, Pod, Recorded


@dataclass(frozen=True, slots=True)
class Bidder:
    """A live pod as a claimant of the address of one of its NICs.

    `running` says that its annotations carry an allocation; then `address` and `mac` are what it runs with, as text.
    `ask` is None if its annotations cannot be read. `home` is where its address shall come from. `first` is the
    ordinal that its StatefulSet begins with, None if that is not known.
    """

    object: Pod
    port: str
    owner: naming.Owner
    kind: str
    home: Home
    ask: Ask | None
    running: bool
    address: str = ""
    mac: str = ""
    first: int | None = 0
    nic: Nic = DEFAULT

    @property
    def subnet(self) -> str:
        """The name of the subnet that it belongs to."""
        return self.home.subnet

    @property
    def is_cut_off(self) -> bool:
        """True if the network was taken from it for good."""
        return naming.cut_off(self.nic.provider) in self.object.metadata.annotations

    def note(self, name: str) -> str:
        """What the pod's annotation of that name says for this NIC, or ""."""
        return self.object.metadata.annotations.get(self.nic.key(name), "")

    @property
    def pod(self) -> str:
        """`namespace/name` of the pod itself (not of its VM)."""
        return f"{self.object.metadata.namespace}/{self.object.metadata.name}"

    def joins(self, leader: Bidder) -> bool:
        """True for the leader, for who runs, and for a sibling that wants nothing else than the leader has."""
        if self is leader or self.running:
            return True
        fits = self.subnet == leader.subnet and self.ask is not None
        if not fits or self.ask is None:
            return False
        entries = (self.ask.entry,) if self.ask.entry is not None else self.ask.pool
        same_mac = self.ask.mac is None or format_mac(self.ask.mac) == leader.mac
        has = set(leader.address.split(","))  # a family that an entry leaves open is the leader's
        return same_mac and (not entries or any(set(_text(e.v4, e.v6).split(",")) <= has for e in entries))

    def runs_with(self, recorded: Recorded) -> bool:
        """True if the pod runs with just what was granted."""
        return self.running and self.subnet == recorded.subnet and self.address == addresses(recorded)


def addresses(recorded: Recorded) -> str:
    """`v4`, `v6` or `v4,v6`."""
    return ",".join(filter(None, (recorded.v4_ip_address, recorded.v6_ip_address)))


def clash(bidder: Bidder, ip: str, recorded: Recorded) -> Message | None:
    """Why the pod may not use the reservation: the first attribute that differs; None if it may."""
    if bidder.running:
        if bidder.runs_with(recorded):
            return None
        has, gets = bidder.address or "another network", addresses(recorded)
        return say(Reason.RESERVATION_MISMATCH, "running", pod=bidder.pod, actual=has, reserved=gets)
    for attribute, reserved, actual in _pairs(bidder, recorded):
        if reserved != actual:
            return say(
                Reason.RESERVATION_MISMATCH,
                "attribute",
                ip=ip,
                attribute=attribute,
                reserved=f'"{reserved}"',
                actual=f'"{actual}"',
            )
    return None


def _pairs(bidder: Bidder, recorded: Recorded) -> list[tuple[str, str, str]]:
    pairs = [
        ("namespace", recorded.namespace, bidder.owner.namespace),
        ("podName", recorded.pod_name, bidder.owner.name),
        ("podType", recorded.pod_type, bidder.kind),
        ("subnet", recorded.subnet, bidder.subnet),
    ]
    ask = bidder.ask
    if ask is None:
        return pairs
    if ask.mac is not None:
        pairs.append(("macAddress", recorded.mac_address.lower(), format_mac(ask.mac)))
    entries = (ask.entry,) if ask.entry is not None else ask.pool
    if entries and not any(_fits(e.v4, e.v6, recorded) for e in entries):
        pairs.append(("address", addresses(recorded), " ".join(_text(e.v4, e.v6) for e in entries)))
    return pairs


def _fits(v4: int | None, v6: int | None, recorded: Recorded) -> bool:
    """An entry that names one family only leaves the other to the reservation."""
    four = v4 is None or format_address(Address(4, v4)) == recorded.v4_ip_address
    return four and (v6 is None or format_address(Address(6, v6)) == recorded.v6_ip_address)


def _text(v4: int | None, v6: int | None) -> str:
    parts = [format_address(Address(4, v4))] if v4 is not None else []
    return ",".join(parts + ([format_address(Address(6, v6))] if v6 is not None else []))


def clash_of_request(bidder: Bidder, ip: Ip, want: Want) -> Message | None:
    """Why a request that came after the pod's own address cannot become its reservation; None if it can."""
    have = set(bidder.address.split(","))
    asked = {_text(want.v4, None), _text(None, want.v6)} - {""}
    mac = format_mac(want.mac) if want.mac is not None else bidder.mac
    same = ip.spec.subnet == bidder.subnet and ip.spec.pod_type == bidder.kind
    if not bidder.running or (same and asked <= have and mac == bidder.mac):
        return None
    reserved = " ".join((ip.spec.subnet, ip.spec.pod_type, _text(want.v4, want.v6), ip.spec.mac_address)).split()
    return say(
        Reason.RESERVATION_MISMATCH,
        "running",
        pod=bidder.pod,
        actual=f"{bidder.address} of subnet {bidder.subnet}",
        reserved=" ".join(reserved),
    )


def cut_off(bidder: Bidder) -> Patch:
    """Take the network from a running pod's NIC for good: it gets none again until the pod is created anew."""
    meta, nic = bidder.object.metadata, bidder.nic
    notes = {naming.cut_off(nic.provider): "true", nic.key("allocated"): None, nic.key("routed"): None}
    body = {"metadata": {"uid": meta.uid, "annotations": notes}}
    return Patch(Kind.POD, meta.namespace, meta.name, body)
