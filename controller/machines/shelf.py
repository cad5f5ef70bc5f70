"""The addresses of one family of one subnet: each is held, released, never used, or closed.

held      by the claims of one or more ports, also when it is closed or outside the plan
released  free again, remembered with who let go and when; given out last, the longest-released first
never used  everything that is none of the others; given out first, the lowest first
closed    excluded, the gateway, a node's own, or outside the usable range: never given out by itself

What is open belongs to one stock: that of the named pool that has it, else the default one, "". A move costs
O(log n) in the number of intervals of the plan, never in that of addresses or pools.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from controller.core.addresses import Address, Family
from controller.core.ipam import Counts, Release, Usage
from controller.core.ranges import RangeSet
from controller.machines.stock import Stock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from controller.core.ipam import FamilyPlan

Thing = TypeVar("Thing")

REMEMBERED = 65_536  # releases per stock
DEFAULT: Final = ""  # the pool of what is in no other


class Claims(Generic[Thing]):
    """Who has what: a name has a thing as long as one of its claims on it is left, whoever else has it too."""

    __slots__ = ("_claims", "doubled")

    def __init__(self) -> None:
        self._claims: dict[Thing, tuple[str, ...]] = {}  # one name per claim, in the order of their coming
        self.doubled: dict[Thing, None] = {}  # the things with two names or more, as an ordered set

    def add(self, thing: Thing, name: str) -> bool:
        """One more claim of that name; True if the thing was nobody's."""
        before = self._claims.get(thing, ())
        self._claims[thing] = (*before, name)
        if before and name not in before:
            self.doubled[thing] = None
        return not before

    def remove(self, thing: Thing, name: str) -> bool:
        """One claim of that name less; True if it was the name's last one. Nobody else's claim is touched."""
        claims = self._claims[thing]
        at = len(claims) - 1 - claims[::-1].index(name)  # the newest, so that the order of first claims stays
        left = claims[:at] + claims[at + 1 :]
        if left:
            self._claims[thing] = left
            if thing in self.doubled and left.count(left[0]) == len(left):
                del self.doubled[thing]
        else:
            del self._claims[thing]
        return name not in left

    def names(self, thing: Thing) -> tuple[str, ...]:
        """The names that have the thing, each once, in order of first claim."""
        return tuple(dict.fromkeys(self._claims.get(thing, ())))

    def __contains__(self, thing: object) -> bool:
        return thing in self._claims

    def __iter__(self) -> Iterator[Thing]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)


class Shelf:
    """Gives out by one plan at a time, and remembers what it was told under all plans."""

    __slots__ = (
        "_closed", "_family", "_fences", "_first", "_last", "_plan", "_remembered", "_resting", "_stocks", "_used",
        "held",
    )  # fmt: skip

    def __init__(self, family: Family, remembered: int = REMEMBERED) -> None:
        self._family: Family = family
        self._remembered = remembered
        self.held: Claims[int] = Claims()
        self._resting: OrderedDict[int, Release] = OrderedDict()  # closed: only their cool-down matters
        self._stocks: dict[str, Stock] = {}
        self.adopt(None)

    def adopt(self, plan: FamilyPlan | None, barred: Collection[int] = ()) -> None:
        """Sort every address anew by this plan; claims and releases stay, whatever the plan says. O(n)."""
        self._plan = plan
        self._first, self._last = (plan.cidr.first, plan.cidr.last) if plan else (0, -1)
        self._closed = self._whole() & _unusable(plan, barred) if plan else RangeSet()
        releases = chain(self._resting.items(), *(stock.released.items() for stock in self._stocks.values()))
        ordered = sorted(releases, key=lambda item: item[1].at)
        self._divide(plan.pools if plan else ())
        self._used = 0
        for value in self.held:
            self._count(value, 1)
        self._resting.clear()
        for value, release in ordered:
            self._remember(value, release)

    def _divide(self, pools: tuple[tuple[str, RangeSet], ...]) -> None:
        """One stock for each pool, and one for what is in none."""
        rest = self._whole() - self._closed
        regions = [(name, rest & region) for name, region in pools]
        self._fences = sorted((first, last, name) for name, region in regions for first, last in region)
        rest -= RangeSet.of((first, last) for first, last, _ in self._fences)
        self._stocks = {DEFAULT: Stock(rest)} | {name: Stock(region) for name, region in regions}

    def hold(self, value: int, port: str) -> None:
        """One more claim of the port."""
        if self.held.add(value, port):
            self._stock(value).released.pop(value, None)
            self._resting.pop(value, None)
            self._count(value, 1)

    def let_go(self, value: int, port: str, now: float) -> bool:
        """One claim of the port less; True if it was its last one on this address."""
        gone = self.held.remove(value, port)
        if gone and value not in self.held:
            self._count(value, -1)
            self._remember(value, Release(port, now))
        return gone

    def is_free(self, value: int) -> bool:
        """Whether the address could be given out as a dynamic one."""
        return self._is_open(value) and value not in self.held

    def pool_of(self, value: int) -> str:
        """The named pool that has the address; "" for the default one."""
        index = bisect_right(self._fences, (value, inf, "")) - 1
        return self._fences[index][2] if index >= 0 and value <= self._fences[index][1] else DEFAULT

    def release_of(self, value: int) -> Release | None:
        """Who let go of the address last, if nobody holds it now."""
        return self._stock(value).released.get(value) or self._resting.get(value)

    def next_free(self, now: float, cooldown: float, pool: str = DEFAULT, skip: Collection[int] = ()) -> int | None:
        """The address of that pool whose turn it is: the lowest never-used one, then the longest-released one."""
        stock = self._stocks.get(pool)
        return stock.next_free(self.held, now, cooldown, self._remembered, skip) if stock else None

    def free(self, pool: str = DEFAULT) -> int:
        """How many dynamic addresses that pool has left."""
        stock = self._stocks.get(pool)
        return stock.free if stock else 0

    def counts(self) -> Counts:
        """The numbers of `usage`, in O(1)."""
        total, excluded = self._last - self._first + 1, self._closed.size
        return Counts(self._used, total - excluded - self._used, excluded, total)

    def usage(self) -> Usage:
        """All of the shelf in one sorted pass over what is held: the pools' addresses count like all others."""
        values = sorted(self.held)
        whole = self._whole()
        is_open = whole - self._closed
        using = is_open & RangeSet.from_sorted(values)
        return Usage(using, is_open - using, self._closed.size, whole.size, tuple(self._outside(values)))

    def pool_usage(self, pool: str) -> Usage:
        """The same of one pool, of which nothing is excluded and nothing outside."""
        region = self._stocks[pool].region if pool in self._stocks else RangeSet()
        using = RangeSet.from_sorted(sorted(value for value in self.held if value in region))
        return Usage(using, region - using, 0, region.size, ())

    def _outside(self, values: list[int]) -> Iterator[tuple[Address, str]]:
        below = above = 0
        if self._plan:
            cidr = self._plan.cidr
            below, above = bisect_left(values, cidr.network), bisect_right(values, cidr.broadcast)
        for value in chain(values[:below], values[above:]):
            for port in self.held.names(value):
                yield Address(self._family, value), port

    def _remember(self, value: int, release: Release) -> None:
        if self._is_open(value):
            self._stock(value).released[value] = release
            return
        self._resting[value] = release
        if len(self._resting) > self._remembered:
            self._resting.popitem(last=False)

    def _stock(self, value: int) -> Stock:
        return self._stocks[self.pool_of(value)]

    def _count(self, value: int, step: int) -> None:
        if self._is_open(value):
            self._used += step
            self._stock(value).used += step

    def _is_open(self, value: int) -> bool:
        return self._first <= value <= self._last and value not in self._closed

    def _whole(self) -> RangeSet:
        return RangeSet(((self._first, self._last),) if self._plan else ())


def _unusable(plan: FamilyPlan, barred: Collection[int]) -> RangeSet:
    """The gateway is in `excluded` already; it is closed here too because a mistake there would give it out."""
    gateway = () if plan.gateway is None else (plan.gateway,)
    return plan.excluded | RangeSet.of((value, value) for value in (*gateway, *barred))
