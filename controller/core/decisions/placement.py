"""Which subnet a pod belongs to and what it asks for there (contract §4, kube-ovn-behaviour §7.3 and §8).

Pure look-ups over indexes; nothing here decides who gets an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from controller.core import naming
from controller.core.addresses import Address, parse_address, parse_mac
from controller.core.catalogue import Reason, say
from controller.core.faults import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.core.catalogue import Message
    from controller.core.effects import Topic
    from controller.core.ipam import SubnetPlan
    from controller.core.objects import Namespace, Pod, Subnet


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A subnet as an owner of addresses sees it: usable with a plan, or not with a reason."""

    name: str
    subnet: Subnet | None
    plan: SubnetPlan | None
    switch: bool
    problem: Message | None
    shape: SubnetPlan | None = None  # what it would give out, were it not going or kept out by another one

    @property
    def provider(self) -> str:
        """The subnet's provider, `ovn` when it is empty or the subnet unknown."""
        return (self.subnet.spec.provider if self.subnet else "") or naming.OVN

    @property
    def waits(self) -> tuple[Topic, ...]:
        """What wakes those who cannot go on because of this subnet."""
        return (("subnet", self.name),)


class Places(Protocol):
    """The cluster's subnets, by the ways in which a pod can come to one."""

    def place(self, name: str) -> Place:
        """That subnet, also when it does not exist."""
        ...

    def listing(self, namespace: Namespace) -> tuple[str, ...]:
        """Names of the subnets that list the namespace or select it, sorted."""
        ...

    def default(self) -> str:
        """The name of the default subnet: `spec.default` true, else `ovn-default`."""
        ...

    def room(self, name: str) -> bool:
        """True if every family of the subnet has a free address in live IPAM (W34: not by status numbers)."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One address list entry or request: either family or both."""

    v4: int | None = None
    v6: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """What a pod's annotations ask for on its default network; everything parsed."""

    entry: Entry | None = None
    mac: int | None = None
    pool: tuple[Entry, ...] = ()


def subnet_of(pod: Pod, namespace: Namespace | None, places: Places, reserved_in: str, ask: Ask) -> str:
    """The name of the pod's subnet, first rule that applies (contract §4); "" only if there is no default.

    Of several subnets of a namespace the pod's reservation, then its named address, picks the one they lie in, else
    the first with room (bug row 49: the reported error is that of the subnet the address belongs to).
    """
    pinned = pod.metadata.annotations.get(naming.PREFIX + "logical_switch", "")
    if pinned:
        return pinned
    listed = tuple(_listed(namespace, places))
    if not listed:
        return reserved_in or places.default()
    if reserved_in in listed:
        return reserved_in
    entry = ask.entry or (ask.pool[0] if ask.pool else None)
    if entry is not None:
        return next((s for s in listed if _contains(places.place(s), entry)), listed[0])
    return next((s for s in listed if places.room(s)), listed[0])


def _contains(place: Place, entry: Entry) -> bool:
    plan = place.plan
    if plan is None:
        return False
    asked = [(plan.v4, entry.v4, 4), (plan.v6, entry.v6, 6)]
    return all(
        family is not None and Address(number, value) in family.cidr  # type: ignore[arg-type]
        for family, value, number in asked
        if value is not None
    )


def _listed(namespace: Namespace | None, places: Places) -> Iterator[str]:
    """The namespace's own choice: its annotation in order, else the subnets that list or select it."""
    if namespace is None:
        return
    text = namespace.metadata.annotations.get(naming.PREFIX + "logical_switch", "")
    names = tuple(s.strip() for s in text.split(",") if s.strip())
    yield from names or places.listing(namespace)


def ask_of(pod: Pod) -> Ask:
    """What the annotations ask for; raises Refused for one that cannot be read.

    An allocated pod asks for what it has: its own output is never a request (bug row 32).
    """
    notes = pod.metadata.annotations
    address = notes.get(naming.PREFIX + "ip_address", "")
    pool = notes.get(naming.PREFIX + "ip_pool", "")
    mac = notes.get(naming.PREFIX + "mac_address", "")
    return Ask(
        entry=_read("ip_address", address, parse_entry) if address else None,
        mac=_read("mac_address", mac, parse_mac) if mac else None,
        pool=_read("ip_pool", pool, parse_pool) if pool and not address else (),
    )


class Refused(Exception):
    """Carries the message that the owner is to be told."""

    def __init__(self, message: Message, waits: tuple[Topic, ...] = ()) -> None:
        super().__init__(message.text)
        self.message = message
        self.waits = waits


def _read(key: str, text: str, parser: Callable[[str], T]) -> T:
    try:
        return parser(text)
    except Malformed as why:
        name = naming.PREFIX + key
        raise Refused(say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=name, why=why)) from None


def parse_entry(text: str) -> Entry:
    """`v4`, `v6` or `v4,v6`; raises Malformed."""
    found: dict[int, int] = {}
    for part in text.split(","):
        address = parse_address(part.strip())
        if address.family in found:
            raise Malformed(f"two IPv{address.family} addresses in {text!r}: write one of each family at most")
        found[address.family] = address.value
    return Entry(found.get(4), found.get(6))


def parse_pool(text: str) -> tuple[Entry, ...]:
    """Entries separated by `;` (each may be `v4,v6`) or by `,` (two of different families are one); raises Malformed.

    The spellings are Kube-OVN's (kube-ovn-behaviour §8.8). A single word that is no address names an IPPool.
    """
    if ";" in text:
        return tuple(parse_entry(part) for part in _parts(text, ";"))
    parts = _parts(text, ",")
    if len(parts) == 2 and len({":" in p for p in parts}) == 2:
        return (parse_entry(text),)
    if len(parts) == 1 and not parts[0][:1].isdigit() and ":" not in parts[0]:
        raise Malformed(f"IPPool {parts[0]!r}: pools by name are not served by this version, write addresses")
    return tuple(parse_entry(part) for part in parts)


def _parts(text: str, separator: str) -> list[str]:
    parts = [part.strip() for part in text.split(separator) if part.strip()]
    if not parts:
        raise Malformed(f"{text!r} has no address in it: write one or more, with {separator} between them")
    return parts
