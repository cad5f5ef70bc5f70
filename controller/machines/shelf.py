"""The addresses of one family of one subnet: each is held, released, never used, or closed; every move is O(1).

held      by the claims of one or more ports, also when it is closed or outside the plan
released  free again, remembered with who let go and when; given out last, the longest-released first
never used  everything from the cursor on that is none of the others; given out first, the lowest first
closed    excluded, the gateway, a node's own, or outside the usable range: never given out by itself
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING, Generic, TypeVar

from controller.core.addresses import Address, Family
from controller.core.ipam import Counts, Release, Usage
from controller.core.ranges import RangeSet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from controller.core.ipam import FamilyPlan

Thing = TypeVar("Thing")

REMEMBERED = 65_536  # releases per shelf


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
        "_closed", "_cursor", "_family", "_first", "_last", "_plan", "_released", "_remembered", "_resting", "_used",
        "held",
    )  # fmt: skip

    def __init__(self, family: Family, remembered: int = REMEMBERED) -> None:
        self._family: Family = family
        self._remembered = remembered
        self.held: Claims[int] = Claims()
        # OrderedDict, because the first key of a plain dict that is eaten from the front costs O(n).
        self._released: OrderedDict[int, Release] = OrderedDict()  # open: to be given out again
        self._resting: OrderedDict[int, Release] = OrderedDict()  # closed: only their cool-down matters
        self.adopt(None)

    def adopt(self, plan: FamilyPlan | None, barred: Collection[int] = ()) -> None:
        """Sort every address anew by this plan; claims and releases stay, whatever the plan says. O(n)."""
        self._plan = plan
        self._first, self._last = (plan.cidr.first, plan.cidr.last) if plan else (0, -1)
        self._closed = self._whole() & _unusable(plan, barred) if plan else RangeSet()
        self._cursor = self._first
        self._used = sum(map(self._is_open, self.held))
        releases = sorted(chain(self._resting.items(), self._released.items()), key=lambda item: item[1].at)
        self._resting.clear()
        self._released.clear()
        for value, release in releases:
            self._remember(value, release)

    def hold(self, value: int, port: str) -> None:
        """One more claim of the port."""
        if self.held.add(value, port):
            self._released.pop(value, None)
            self._resting.pop(value, None)
            self._used += self._is_open(value)

    def let_go(self, value: int, port: str, now: float) -> bool:
        """One claim of the port less; True if it was its last one on this address."""
        gone = self.held.remove(value, port)
        if gone and value not in self.held:
            self._used -= self._is_open(value)
            self._remember(value, Release(port, now))
        return gone

    def is_free(self, value: int) -> bool:
        """Whether the address could be given out as a dynamic one."""
        return self._is_open(value) and value not in self.held

    def release_of(self, value: int) -> Release | None:
        """Who let go of the address last, if nobody holds it now."""
        return self._released.get(value) or self._resting.get(value)

    def next_free(self, now: float, cooldown: float) -> int | None:
        """The lowest never-used address, then the longest-released one.

        Where addresses hardly ever run out (IPv6), releases would pile up for as long as the process lives: beyond
        `remembered` of them the longest-released one goes first, as soon as it has cooled down.
        """
        if len(self._released) > self._remembered:
            oldest = next(iter(self._released))
            if self._released[oldest].at + cooldown <= now:
                return oldest
        self._advance()
        return self._cursor if self._cursor <= self._last else next(iter(self._released), None)

    def counts(self) -> Counts:
        """The numbers of `usage`, in O(1)."""
        total, excluded = self._last - self._first + 1, self._closed.size
        return Counts(self._used, total - excluded - self._used, excluded, total)

    def usage(self) -> Usage:
        """All of the shelf in one sorted pass over what is held."""
        values = sorted(self.held)
        whole = self._whole()
        is_open = whole - self._closed
        using = is_open & RangeSet.from_sorted(values)
        return Usage(using, is_open - using, self._closed.size, whole.size, tuple(self._outside(values)))

    def _outside(self, values: list[int]) -> Iterator[tuple[Address, str]]:
        below = above = 0
        if self._plan:
            cidr = self._plan.cidr
            below, above = bisect_left(values, cidr.network), bisect_right(values, cidr.broadcast)
        for value in chain(values[:below], values[above:]):
            for port in self.held.names(value):
                yield Address(self._family, value), port

    def _advance(self) -> None:
        """Move the cursor to the lowest never-used address. It passes every address once per plan: O(1) for each."""
        while self._cursor <= self._last:
            end = self._closed.end_of(self._cursor)
            if end is None and not (self._cursor in self.held or self._cursor in self._released):
                return
            self._cursor = (self._cursor if end is None else end) + 1

    def _remember(self, value: int, release: Release) -> None:
        if self._is_open(value):
            self._released[value] = release
            return
        self._resting[value] = release
        if len(self._resting) > self._remembered:
            self._resting.popitem(last=False)

    def _is_open(self, value: int) -> bool:
        return self._first <= value <= self._last and value not in self._closed

    def _whole(self) -> RangeSet:
        return RangeSet(((self._first, self._last),) if self._plan else ())


def _unusable(plan: FamilyPlan, barred: Collection[int]) -> RangeSet:
    """The gateway is in `excluded` already; it is closed here too because a mistake there would give it out."""
    gateway = () if plan.gateway is None else (plan.gateway,)
    return plan.excluded | RangeSet.of((value, value) for value in (*gateway, *barred))
