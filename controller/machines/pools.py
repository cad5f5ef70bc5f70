"""Which IPPools there are, by subnet and by namespace, and which of them has which address.

Every address has one pool at most: of two pools that name it the older one (creationTimestamp, then name) has it,
whatever order they are heard of in, and the younger one gives nothing out until they are apart. What a refused pool
names beside that stays out of the default pool: no mistake gives a pool's addresses away.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from controller.core.addresses import Address
from controller.core.catalogue import Message, Reason, say
from controller.core.ipam import FAMILIES
from controller.core.pools import Items, read_items
from controller.core.ranges import RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.core.addresses import Family
    from controller.core.ipam import SubnetPlan
    from controller.core.neighbours import Pool

_SHOWN = 5


@dataclass(slots=True)
class _Known:
    pool: Pool
    items: Items
    outside: Message | None = None
    overlap: Message | None = None


@dataclass(slots=True)
class Pools:
    """All IPPools by name, and the indexes over them."""

    _known: dict[str, _Known] = field(default_factory=dict)
    _of_subnet: dict[str, set[str]] = field(default_factory=dict)
    _of_namespace: dict[str, set[str]] = field(default_factory=dict)

    def put(self, name: str, pool: Pool | None) -> set[str]:
        """Take in the pool as it is now (None: gone); answer the subnets to be divided anew."""
        old = self._known.pop(name, None)
        for known, listed in ((old, False), (pool, True)):
            one = known.pool if isinstance(known, _Known) else known
            if one is not None:
                _list(self._of_subnet, (one.spec.subnet,), name, listed=listed)
                _list(self._of_namespace, one.spec.namespaces, name, listed=listed)
        if pool is not None:
            self._known[name] = _Known(pool, read_items(pool.spec.ips))
        return {one.spec.subnet for one in (old.pool if old else None, pool) if one is not None}

    def divide(self, plan: SubnetPlan) -> SubnetPlan:
        """The same plan with its pools in it: each address in the oldest one that names it."""
        taken: dict[Family, dict[str, RangeSet]] = {family: {} for family in plan.families}
        given: dict[Family, RangeSet] = {family: RangeSet() for family in plan.families}
        for name in self._by_age(self.of_subnet(plan.name)):
            known = self._known[name]
            known.outside, known.overlap = _outside(known.items, plan), None
            for family, regions in taken.items():
                one = plan.family(family)
                mine = known.items.region(one) if one else RangeSet()
                lost = mine & given[family]
                if lost.size:
                    other = next(other for other, region in regions.items() if (mine & region).size)
                    known.overlap = known.overlap or _overlap(family, mine & regions[other], other)
                regions[name] = mine - lost
                given[family] |= mine
        four, six = (plan.family(family) for family in FAMILIES)
        return replace(
            plan,
            v4=four and replace(four, pools=_filled(taken[4])),
            v6=six and replace(six, pools=_filled(taken[6])),
        )

    def get(self, name: str) -> Pool | None:
        """The pool as it was last heard of."""
        known = self._known.get(name)
        return known.pool if known else None

    def items(self, name: str) -> Items:
        """What its `spec.ips` say."""
        known = self._known.get(name)
        return known.items if known else Items()

    def fault(self, name: str) -> Message | None:
        """Why the pool gives nothing out; raises KeyError for an unknown one."""
        known = self._known[name]
        if known.pool.fault:
            return say(Reason.POOL_FAILED, "object", why=known.pool.fault)
        if known.items.faults:
            return say(Reason.POOL_FAILED, "item", why="; ".join(known.items.faults[:_SHOWN]))
        return known.overlap

    def complaint(self, name: str) -> Message | None:
        """What is wrong with the pool, be it only with a part of it; raises KeyError for an unknown one."""
        return self.fault(name) or self._known[name].outside

    def of_subnet(self, subnet: str) -> tuple[str, ...]:
        """The pools of the subnet that are not going, by name."""
        names = self._of_subnet.get(subnet, ())
        return tuple(sorted(name for name in names if not self._known[name].pool.metadata.deleting))

    def of_namespace(self, namespace: str) -> tuple[str, ...]:
        """The pools that list the namespace and are not going, by name."""
        names = self._of_namespace.get(namespace, ())
        return tuple(sorted(name for name in names if not self._known[name].pool.metadata.deleting))

    def _by_age(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=lambda name: (self._known[name].pool.metadata.creation_timestamp, name))


def _list(index: dict[str, set[str]], values: Iterable[str], name: str, *, listed: bool) -> None:
    for value in values:
        names = index.setdefault(value, set())
        if listed:
            names.add(name)
        else:
            names.discard(name)
        if not names:
            del index[value]


def _outside(items: Items, plan: SubnetPlan) -> Message | None:
    cidrs = [one.cidr for family in FAMILIES if (one := plan.family(family)) is not None]
    found = items.outside(cidrs)
    if not found:
        return None
    texts = ", ".join(found[:_SHOWN])
    return say(Reason.POOL_FAILED, "outside", items=texts, cidr=",".join(map(str, cidrs)), subnet=plan.name)


def _overlap(family: Family, shared: RangeSet, other: str) -> Message:
    first, _ = next(iter(shared))
    return say(Reason.POOL_FAILED, "overlap", address=Address(family, first), other=other)


def _filled(regions: dict[str, RangeSet]) -> tuple[tuple[str, RangeSet], ...]:
    return tuple((name, region) for name, region in regions.items() if region.size)
