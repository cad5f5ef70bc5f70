"""Which subnet a pod belongs to and what it asks for there (contract §4, kube-ovn-behaviour §7.3 and §8).

Pure look-ups over indexes; nothing here decides who gets an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from controller.core import naming
from controller.core.addresses import Address, Family, parse_address, parse_mac
from controller.core.catalogue import Reason, say
from controller.core.decisions.namespace import entries
from controller.core.decisions.networks import DEFAULT
from controller.core.faults import Malformed
from controller.core.ipam import FAMILIES, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from controller.core.catalogue import Message
    from controller.core.decisions.networks import Nic
    from controller.core.effects import Topic
    from controller.core.ipam import SubnetPlan
    from controller.core.objects import Namespace, Pod, Subnet


T = TypeVar("T")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NUMBERS: Final = re.compile(r"[0-9.]+")
_FAMILIES: Final[dict[str, tuple[Family, ...]]] = {"": FAMILIES, "ipv4": (4,), "ipv6": (6,)}


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


@dataclass(frozen=True, slots=True)
class Seat:
    """An IPPool as an owner of addresses sees it: usable, or not with a reason."""

    pool: str
    subnet: str
    problem: Message | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """Where a pod's address shall come from; with a problem from nowhere.

    `pools` may change that choice; `lines` are those of all rooms that would do, should none of them have room.
    """

    subnet: str
    pool: str = ""
    problem: Message | None = None
    pools: tuple[Topic, ...] = ()
    lines: tuple[Topic, ...] = ()


class Listing(Protocol):
    """The cluster's subnets by the namespaces that they ask for."""

    def listing(self, namespace: Namespace) -> tuple[str, ...]:
        """Names of the subnets that list the namespace or select it, sorted."""
        ...


class Places(Listing, Protocol):
    """The cluster's subnets and pools, by the ways in which a pod can come to one, as one port sees them."""

    def place(self, name: str) -> Place:
        """That subnet, also when it does not exist."""
        ...

    def default(self) -> str:
        """The name of the default subnet: `spec.default` true, else `ovn-default`."""
        ...

    def bound(self, provider: str) -> tuple[str, ...]:
        """Names of the subnets whose spec.provider is that one, sorted."""
        ...

    def seat(self, pool: str) -> Seat:
        """That IPPool, also when it does not exist."""
        ...

    def room(self, name: str, pool: str = "", families: tuple[Family, ...] = FAMILIES) -> bool:
        """True if every family has a free address for this port in live IPAM (W34: not by status numbers)."""
        ...

    def keeps(self, name: str) -> bool:
        """True if the port has an address of that subnet already."""
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
    pool_name: str = ""  # of an IPPool
    families: tuple[Family, ...] = FAMILIES


def home_of(pod: Pod, namespace: Namespace | None, places: Places, reserved_in: str, ask: Ask) -> Home:
    """The pod's subnet and pool, first rule that applies (contract §4, kube-ovn-behaviour §8).

    A reservation, like an address that is named, comes from whatever pool it lies in.
    """
    if ask.pool_name:
        return _in_pool(pod, namespace, places, reserved_in, ask)
    subnet = subnet_of(pod, namespace, places, reserved_in, ask)
    if reserved_in or ask.entry is not None or ask.pool:
        return Home(subnet)
    rooms = _candidates(pod, namespace, places)
    pools = entries(namespace.metadata.annotations.get(naming.PREFIX + "ip_pool", "")) if namespace else ()
    if pools:
        return _of_pools(pools, rooms, places, ask.families)
    lines = (_line(places.place(room), "", ask.families) for room in rooms)
    return Home(subnet, lines=tuple(line for line in lines if line))


def _in_pool(pod: Pod, namespace: Namespace | None, places: Places, reserved_in: str, ask: Ask) -> Home:
    """The pool that the pod names, in whose subnet it is unless an annotation says another one."""
    seat, pinned = places.seat(ask.pool_name), pod.metadata.annotations.get(naming.PREFIX + "logical_switch", "")
    return _seated(seat, pinned or seat.subnet or subnet_of(pod, namespace, places, reserved_in, ask))


def _seated(seat: Seat, subnet: str) -> Home:
    topic = (("pool", seat.pool),)
    if seat.problem is not None:
        return Home(subnet, seat.pool, seat.problem, topic)
    if subnet != seat.subnet:
        why = say(Reason.POOL_NOT_FOUND, "elsewhere", pool=seat.pool, actual=seat.subnet, subnet=subnet)
        return Home(subnet, seat.pool, why, topic)
    return Home(subnet, seat.pool, pools=topic)


def _of_pools(pools: tuple[str, ...], rooms: tuple[str, ...], places: Places, families: tuple[Family, ...]) -> Home:
    """The first of the namespace's pools that has room and lies in a subnet that the pod may be in."""
    topics = tuple(("pool", pool) for pool in pools)
    usable = [s for s in map(places.seat, pools) if s.problem is None and s.subnet in rooms]
    if not usable:
        kept = next((room for room in rooms if places.keeps(room)), None)
        texts = {"pools": ", ".join(pools), "subnets": ", ".join(rooms)}
        why = None if kept else say(Reason.POOL_NOT_FOUND, "none", **texts)
        return Home(kept or rooms[0], problem=why, pools=topics)
    mine = next((s for s in usable if places.keeps(s.subnet)), None)
    first = mine or next((s for s in usable if places.room(s.subnet, s.pool, families)), usable[0])
    lines = (_line(places.place(s.subnet), s.pool, families) for s in usable)
    return Home(first.subnet, first.pool, pools=topics, lines=tuple(line for line in lines if line))


def _line(place: Place, pool: str, families: tuple[Family, ...]) -> Topic | None:
    return line_of(place.plan, pool, families) if place.plan is not None else None


def subnet_of(pod: Pod, namespace: Namespace | None, places: Places, reserved_in: str, ask: Ask) -> str:
    """The name of the pod's subnet, first rule that applies (contract §4); "" only if there is no default.

    Of several subnets of a namespace the pod's reservation picks the one it lies in, then the first of its named
    addresses that lies in any, then what its port has already, else the first with room (bug row 49: the reported
    error is that of the subnet the address belongs to).
    """
    pinned = pod.metadata.annotations.get(naming.PREFIX + "logical_switch", "")
    if pinned:
        return pinned
    listed = tuple(_listed(namespace, places))
    if not listed:
        return reserved_in or places.default()
    if reserved_in in listed:
        return reserved_in
    asked = (ask.entry,) if ask.entry is not None else ask.pool
    if asked:
        return next((s for entry in asked for s in listed if _contains(places.place(s), entry)), listed[0])
    kept = next((s for s in listed if places.keeps(s)), None)
    return kept or next((s for s in listed if places.room(s, "", ask.families)), listed[0])


def _candidates(pod: Pod, namespace: Namespace | None, places: Places) -> tuple[str, ...]:
    """Every subnet that the pod may be in."""
    pinned = pod.metadata.annotations.get(naming.PREFIX + "logical_switch", "")
    return (pinned,) if pinned else tuple(_listed(namespace, places)) or (places.default(),)


def subnet_of_nic(pod: Pod, nic: Nic, places: Places, reserved_in: str, ask: Ask) -> str:
    """The name of a further NIC's subnet: the one it names, else one that is bound to its provider, "" without any.

    Of several, that of its reservation, of the first address it asks for that lies in any, of what it has already, the
    first with room.
    """
    pinned = pod.metadata.annotations.get(nic.key("logical_switch"), "")
    bound = places.bound(nic.bound)
    if pinned or not bound:
        return pinned
    asked = (ask.entry,) if ask.entry is not None else ask.pool
    fits: list[Callable[[str], bool]] = [lambda s: s == reserved_in]
    fits += [lambda s, entry=entry: _contains(places.place(s), entry) for entry in asked]  # type: ignore[misc]
    fits += [places.keeps, lambda s: places.room(s, "", ask.families)]
    return next((s for fit in fits for s in bound if fit(s)), bound[0])


def home_of_nic(pod: Pod, nic: Nic, places: Places, reserved_in: str, ask: Ask) -> Home:
    """A further NIC's subnet, and the pool if it names one."""
    subnet = subnet_of_nic(pod, nic, places, reserved_in, ask)
    if not ask.pool_name:
        return Home(subnet)
    pinned = pod.metadata.annotations.get(nic.key("logical_switch"), "")
    seat = places.seat(ask.pool_name)
    return _seated(seat, pinned or seat.subnet or subnet)


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


def choices(namespace: Namespace | None, places: Listing) -> tuple[str, ...]:
    """The subnets that the namespace chooses for its pods; none if it makes no choice."""
    return tuple(_listed(namespace, places))


def _listed(namespace: Namespace | None, places: Listing) -> Iterator[str]:
    """The namespace's own choice: its annotation in order, else the subnets that list or select it."""
    if namespace is None:
        return
    text = namespace.metadata.annotations.get(naming.PREFIX + "logical_switch", "")
    names = tuple(s.strip() for s in text.split(",") if s.strip())
    yield from names or places.listing(namespace)


def ask_of(pod: Pod, nic: Nic = DEFAULT) -> Ask:
    """What a pod asks for on that NIC; raises Refused for what cannot be read.

    An allocated pod asks for what it has: its own output is never a request (bug row 32).
    """
    notes = pod.metadata.annotations
    address_key, address = _wish(notes, nic, "ip_address", ",".join(ip.partition("/")[0] for ip in nic.ips))
    mac_key, mac = _wish(notes, nic, "mac_address", nic.mac)
    pool, family_key = notes.get(nic.key("ip_pool"), ""), nic.key("ip_family")
    families = _read(family_key, notes.get(family_key, ""), parse_families)
    named = is_pool_name(pool)
    entry = _read(address_key, address, parse_entry) if address else None
    listed = _read(nic.key("ip_pool"), pool, parse_pool) if pool and not address and not named else ()
    wanted = tuple(one for e in ((entry,) if entry else listed) if (one := _of_families(e, families)) is not None)
    if (entry or listed) and not wanted:
        why = "it leaves nothing of the addresses that the other annotations name: make them agree"
        raise Refused(say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=family_key, why=why))
    return Ask(
        entry=wanted[0] if entry else None,
        mac=_read(mac_key, mac, parse_mac) if mac else None,
        pool=() if entry else wanted,
        pool_name=pool.strip() if named else "",
        families=families,
    )


def _wish(notes: Mapping[str, str], nic: Nic, name: str, element: str) -> tuple[str, str]:
    """What is said of the very interface, else by the element of the Multus annotation, else of the provider."""
    own = notes.get(nic.own_key(name), "")
    if own or element:
        return (nic.own_key(name), own) if own else (naming.NETWORKS, element)
    return nic.key(name), notes.get(nic.key(name), "")


def _of_families(entry: Entry, families: tuple[Family, ...]) -> Entry | None:
    """The entry without what the pod does not want; None if nothing is left of it."""
    one = Entry(entry.v4 if 4 in families else None, entry.v6 if 6 in families else None)
    return one if one != Entry() else None


def parse_families(text: str) -> tuple[Family, ...]:
    """`ipv4` or `ipv6`, or both when it is empty; raises Malformed."""
    found = _FAMILIES.get(text.strip().lower())
    if found is None:
        raise Malformed(f"{text[:80]!r} is no address family: write ipv4 or ipv6")
    return found


def is_pool_name(text: str) -> bool:
    """True for a single word that may be an IPPool's name and is no address, whole or mistyped."""
    word = text.strip()
    return bool(_NAME.fullmatch(word)) and not _NUMBERS.fullmatch(word)


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
        raise Refused(say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=key, why=why)) from None


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

    The spellings are Kube-OVN's (kube-ovn-behaviour §8.8).
    """
    if ";" in text:
        return tuple(parse_entry(part) for part in _parts(text, ";"))
    parts = _parts(text, ",")
    if len(parts) == 2 and len({":" in p for p in parts}) == 2:
        return (parse_entry(text),)
    return tuple(parse_entry(part) for part in parts)


def _parts(text: str, separator: str) -> list[str]:
    parts = [part.strip() for part in text.split(separator) if part.strip()]
    if not parts:
        raise Malformed(f"{text!r} has no address in it: write one or more, with {separator} between them")
    return parts
