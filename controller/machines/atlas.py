"""Which subnets there are, which of them can be used, and how a pod comes to one.

Overlap is judged by age: of two subnets of one VPC that overlap the older one is valid, whatever order they are heard
of in. Accepted CIDRs are kept sorted, so a subnet is compared with its neighbours, not with all.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.addresses import Address, Cidr, format_address
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions.namespace import lists
from controller.core.decisions.placement import Place, Seat
from controller.core.decisions.subnet import Layout, completed, layout_of
from controller.core.ipam import FAMILIES
from controller.machines.pools import Pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.core.addresses import Family
    from controller.core.ipam import SubnetPlan
    from controller.core.neighbours import Pool
    from controller.core.objects import Namespace, Subnet

_Span = tuple[int, int, str]  # network, broadcast, subnet: disjoint within one list, so sorted by both ends
_Area = tuple[str, str, int]  # vpc, vlan, family


@dataclass(slots=True)
class _Known:
    subnet: Subnet
    layout: Layout | Message
    shown: Subnet  # with its defaults, if it is well-formed
    overlap: Message | None = None
    plan: SubnetPlan | None = None  # the layout's, with the pools in it


@dataclass(slots=True)
class Atlas:
    """All Subnets by name, and the indexes over them."""

    switches: Callable[[str], bool] = lambda _name: True
    has_room: Callable[[str, Family, str], bool] = lambda _name, _family, _pool: True
    pools: Pools = field(default_factory=Pools)
    _known: dict[str, _Known] = field(default_factory=dict)
    _spans: dict[_Area, list[_Span]] = field(default_factory=dict)
    _refused_by: dict[str, set[str]] = field(default_factory=dict)
    _listed: dict[str, set[str]] = field(default_factory=dict)  # namespace -> subnets that list it
    _selecting: set[str] = field(default_factory=set)
    _defaults: set[str] = field(default_factory=set)
    _bound: dict[str, set[str]] = field(default_factory=dict)  # provider -> subnets of it
    _kept_out: set[str] = field(default_factory=set)  # by nodes
    _nodes: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    _node_addresses: list[tuple[int, int, str]] = field(default_factory=list)  # family, value, node

    # -- what is told to the atlas -----------------------------------------------------------------

    def put(self, name: str, subnet: Subnet | None) -> set[str]:
        """Take in the Subnet as it is now (None: gone); answer every name whose usability may have changed."""
        changed = {name} | self._forget(name)
        if subnet is not None:
            layout = layout_of(subnet)
            shown = completed(subnet, layout) if isinstance(layout, Layout) else subnet
            self._known[name] = _Known(subnet, layout, shown)
            self._index(name, subnet)
        for one in self._by_age(changed):
            changed |= self._judge(one)
        self._divide(name)
        return changed

    def put_pool(self, name: str, pool: Pool | None) -> set[str]:
        """Take in the IPPool as it is now (None: gone); answer the subnets whose plan may have changed."""
        touched = self.pools.put(name, pool)
        for subnet in touched:
            self._divide(subnet)
        return touched

    def _divide(self, name: str) -> None:
        known = self._known.get(name)
        if known is not None and isinstance(known.layout, Layout):
            known.plan = self.pools.divide(known.layout.plan)

    def put_node(self, node: str, addresses: Iterable[Address]) -> set[str]:
        """A node's own addresses: a subnet that is not validated yet may not contain them.

        Answers every subnet whose usability may have changed: those that nodes kept out, and those around the new.
        """
        mine = tuple(dict.fromkeys(addresses))
        if set(mine) == set(self._nodes.get(node, ())):
            return set()
        for address in self._nodes.pop(node, ()):
            self._node_addresses.remove((address.family, address.value, node))
        if mine:
            self._nodes[node] = mine
        for address in mine:
            insort(self._node_addresses, (address.family, address.value, node))
        changed = set(self._kept_out) | {name for address in mine for name in self._around(address)}
        return changed.union(*(self._judge(one) for one in self._by_age(changed)))

    def _around(self, address: Address) -> list[str]:
        """The accepted overlay subnet of the default VPC that has the address."""
        spans = self._spans.get((naming.DEFAULT_VPC, "", address.family), [])
        at = bisect_left(spans, (address.value + 1, 0, "")) - 1
        return [spans[at][2]] if at >= 0 and address.value <= spans[at][1] else []

    def _by_age(self, names: Iterable[str]) -> list[str]:
        return sorted((n for n in names if n in self._known), key=self._age)

    def _age(self, name: str) -> tuple[str, str]:
        return (self._known[name].subnet.metadata.creation_timestamp, name)

    def _forget(self, name: str) -> set[str]:
        """Take the subnet out of every index; those it kept out may come in now."""
        known = self._known.pop(name, None)
        if known is None:
            return set()
        self._withdraw(name, known)
        for listed in known.subnet.spec.namespaces:
            _discard(self._listed, listed, name)
        _discard(self._bound, known.subnet.spec.provider, name)
        self._selecting.discard(name)
        self._defaults.discard(name)
        return self._refused_by.pop(name, set())

    def _index(self, name: str, subnet: Subnet) -> None:
        for listed in subnet.spec.namespaces:
            self._listed.setdefault(listed, set()).add(name)
        self._bound.setdefault(subnet.spec.provider, set()).add(name)
        if subnet.spec.namespace_selectors:
            self._selecting.add(name)
        if subnet.spec.default:
            self._defaults.add(name)

    # -- who overlaps whom -------------------------------------------------------------------------

    def _judge(self, name: str) -> set[str]:
        """Let the subnet in, or say which older one it overlaps.

        Younger ones in its way have to go, and those that they kept out may come in.
        """
        known = self._known[name]
        self._withdraw(name, known)
        known.overlap = None
        if isinstance(known.layout, Message):
            return set()
        rivals = {other for cidr in _cidrs(known.layout) for other in self._rivals(known, cidr)} - {name}
        older = sorted(r for r in rivals if self._age(r) < self._age(name))
        if older:
            self._refused_by.setdefault(older[0], set()).add(name)
            known.overlap = self._overlap_of(known.layout, older[0])
            return set()
        known.overlap = self._node_in(known)
        if known.overlap is not None:
            self._kept_out.add(name)
            freed = self._refused_by.pop(name, set())
            return freed.union(*(self._judge(one) for one in self._by_age(freed)))
        for younger in rivals:
            self._withdraw(younger, self._known[younger])
        for cidr in _cidrs(known.layout):
            insort(self._spans.setdefault(_area(known.subnet, cidr), []), (cidr.network, cidr.broadcast, name))
        freed = {kept_out for rival in rivals for kept_out in self._refused_by.pop(rival, ())}
        return rivals.union(freed, *(self._judge(one) for one in self._by_age(rivals | freed)))

    def _withdraw(self, name: str, known: _Known) -> None:
        for names in list(self._refused_by.values()) if known.overlap else ():
            names.discard(name)
        self._kept_out.discard(name)
        if isinstance(known.layout, Message):
            return
        for cidr in _cidrs(known.layout):
            spans, span = self._spans.get(_area(known.subnet, cidr), []), (cidr.network, cidr.broadcast, name)
            at = bisect_left(spans, span)
            if at < len(spans) and spans[at] == span:
                del spans[at]

    def _rivals(self, known: _Known, cidr: Cidr) -> list[str]:
        """Accepted subnets that share an address with the CIDR: neighbours in the sorted list."""
        spans = self._spans.get(_area(known.subnet, cidr), [])
        at = bisect_left(spans, (cidr.network, 0, ""))
        at -= at > 0 and spans[at - 1][1] >= cidr.network
        found = []
        while at < len(spans) and spans[at][0] <= cidr.broadcast:
            found.append(spans[at][2])
            at += 1
        return found

    def _overlap_of(self, layout: Layout, other: str) -> Message:
        theirs = self._known[other].layout
        assert isinstance(theirs, Layout)  # noqa: S101 - only accepted subnets are rivals
        pairs = [(a, b) for a in _cidrs(layout) for b in _cidrs(theirs) if a.family == b.family and a.overlaps(b)]
        return say(Reason.SUBNET_INVALID, "overlap", cidr=pairs[0][0], other_cidr=pairs[0][1], other=other)

    def _node_in(self, known: _Known) -> Message | None:
        """A node's address inside a new overlay subnet of the default VPC; one in use is not disturbed any more."""
        spec = known.subnet.spec
        validated = any(c.type == "Validated" and c.status == "True" for c in known.subnet.status.conditions)
        overlay = naming.is_ovn(spec.provider) and not spec.vlan and spec.vpc in {"", naming.DEFAULT_VPC}
        if validated or not overlay or isinstance(known.layout, Message):
            return None
        for cidr in _cidrs(known.layout):
            at = bisect_left(self._node_addresses, (cidr.family, cidr.network, ""))
            if at < len(self._node_addresses):
                family, value, node = self._node_addresses[at]
                if family == cidr.family and value <= cidr.broadcast:
                    text = format_address(Address(cidr.family, value))
                    return say(Reason.SUBNET_INVALID, "node", cidr=cidr, address=text, node=node)
        return None

    # -- what is asked of it (placement.Places) ----------------------------------------------------

    def subnet(self, name: str) -> Subnet | None:
        """The Subnet as it was last heard of."""
        known = self._known.get(name)
        return known.subnet if known else None

    def layout(self, name: str) -> Layout | Message:
        """The subnet in normal form, or what is wrong with it by itself; raises KeyError for an unknown one."""
        return self._known[name].layout

    def overlap(self, name: str) -> Message | None:
        """Which subnet or node keeps this one out."""
        known = self._known.get(name)
        return known.overlap if known else None

    def gives_addresses(self, name: str) -> bool:
        """False for a subnet that gives MACs only, and for one that nobody knows."""
        known = self._known.get(name)
        return known is not None and not (isinstance(known.layout, Layout) and not known.layout.plan.families)

    def plan(self, name: str) -> SubnetPlan | None:
        """What may be given out of the subnet: None if it is unknown, malformed, kept out or going."""
        return self.place(name).plan

    def place(self, name: str) -> Place:
        """The subnet as those who want an address see it, also when it does not exist."""
        known = self._known.get(name)
        if known is None:
            missing = say(Reason.SUBNET_NOT_FOUND, "absent", subnet=name) if name else None
            return Place(name, None, None, switch=False, problem=missing or say(Reason.SUBNET_NOT_FOUND, "none"))
        switch = not naming.is_ovn(known.subnet.spec.provider) or self.switches(name)
        bad = known.layout if isinstance(known.layout, Message) else known.overlap
        if known.subnet.metadata.deleting:
            bad = say(Reason.SUBNET_NOT_FOUND, "deleting", subnet=name)
        elif bad is not None:
            bad = say(Reason.SUBNET_NOT_FOUND, "invalid", subnet=name, why=bad.text)
        shape = known.plan
        return Place(name, known.shown, shape if bad is None else None, switch, bad, shape)

    def seat(self, name: str) -> Seat:
        """The IPPool as those who want an address of it see it, also when it does not exist."""
        pool = self.pools.get(name)
        if pool is None:
            return Seat(name, "", say(Reason.POOL_NOT_FOUND, "absent", pool=name))
        subnet = pool.spec.subnet
        if pool.metadata.deleting:
            return Seat(name, subnet, say(Reason.POOL_NOT_FOUND, "deleting", pool=name))
        fault = self.pools.fault(name)
        if fault is not None:
            return Seat(name, subnet, say(Reason.POOL_NOT_FOUND, "invalid", pool=name, why=fault.text))
        return Seat(name, subnet)

    def complaint(self, name: str) -> Message | None:
        """What is to be corrected about the IPPool, or about its subnet; raises KeyError for an unknown one."""
        own, pool = self.pools.complaint(name), self.pools.get(name)
        place = self.place(pool.spec.subnet if pool is not None else "")
        return say(Reason.POOL_FAILED, "subnet", why=place.problem.text) if place.problem is not None else own

    def listing(self, namespace: Namespace) -> tuple[str, ...]:
        """Names of the subnets that list or select the namespace, sorted; only those with selectors are looked at."""
        named = self._listed.get(namespace.metadata.name, set())
        return tuple(sorted(named | {n for n in self._selecting if lists(self._known[n].subnet, namespace)}))

    def selecting(self) -> frozenset[str]:
        """The subnets with namespace selectors."""
        return frozenset(self._selecting)

    def default(self) -> str:
        """The subnet with spec.default true, else `ovn-default`."""
        return min(self._defaults, default=naming.DEFAULT_SUBNET)

    def bound(self, provider: str) -> tuple[str, ...]:
        """The subnets whose spec.provider is that one, sorted."""
        return tuple(sorted(self._bound.get(provider, ())))

    def room(self, name: str, pool: str = "", families: tuple[Family, ...] = FAMILIES) -> bool:
        """True if each of these families that the subnet has has a free address in that pool now."""
        plan = self.plan(name)
        if plan is None:
            return False
        wanted = [family for family in plan.families if family in families]
        return bool(wanted or not plan.families) and all(self.has_room(name, family, pool) for family in wanted)

    def containing(self, address: Address) -> tuple[str, ...]:
        """Every usable subnet whose CIDR has the address: for records that do not say where they are."""
        found = []
        for name in self._known:
            plan = self.plan(name)
            one = plan.family(address.family) if plan else None
            if one is not None and address in one.cidr:
                found.append(name)
        return tuple(found)


def _discard(index: dict[str, set[str]], key: str, name: str) -> None:
    names = index.get(key, set())
    names.discard(name)
    if not names:
        index.pop(key, None)


def _cidrs(layout: Layout) -> tuple[Cidr, ...]:
    return tuple(one.cidr for family in FAMILIES if (one := layout.plan.family(family)) is not None)


def _area(subnet: Subnet, cidr: Cidr) -> _Area:
    vpc = subnet.spec.vpc or (naming.DEFAULT_VPC if naming.is_ovn(subnet.spec.provider) else "")
    return (vpc, subnet.spec.vlan, cidr.family)
