"""A set of addresses is a few intervals: its cost is that of the intervals, never that of the addresses in them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from typing import TYPE_CHECKING

from controller.core.addresses import Address, Cidr, Family, format_address, parse_address
from controller.core.faults import Impossible, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Interval = tuple[int, int]


class RangeSet:
    """Sorted, disjoint, merged and never changed: sets of the same integers are equal, however they were made."""

    __slots__ = ("_firsts", "_lasts", "size")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        """Take intervals that are sorted, disjoint and merged already; `of` and `from_sorted` make them so."""
        pairs = tuple(intervals)
        self._firsts = tuple(first for first, _ in pairs)
        self._lasts = tuple(last for _, last in pairs)
        self.size = sum(self._lasts) - sum(self._firsts) + len(pairs)

    @classmethod
    def of(cls, pairs: Iterable[Interval]) -> RangeSet:
        """The union of the closed intervals, in any order, overlapping or not."""
        return cls(_merged(sorted(pairs)))

    @classmethod
    def from_sorted(cls, values: Iterable[int]) -> RangeSet:
        """The set of ascending integers, in one pass."""
        return cls(_merged((value, value) for value in values))

    def __contains__(self, value: int) -> bool:
        """Whether the integer is in the set."""
        return self.end_of(value) is not None

    def end_of(self, value: int) -> int | None:
        """The last integer of the interval that holds `value`, so that a walk may jump over it; None if none does."""
        index = bisect_right(self._firsts, value) - 1
        if index >= 0 and value <= self._lasts[index]:
            return self._lasts[index]
        return None

    def __iter__(self) -> Iterator[Interval]:
        """The intervals in ascending order."""
        return zip(self._firsts, self._lasts, strict=True)

    def __or__(self, other: RangeSet) -> RangeSet:
        """What is in either."""
        return RangeSet.of(chain(self, other))

    def __and__(self, other: RangeSet) -> RangeSet:
        """What is in both."""
        return RangeSet(_common(tuple(self), tuple(other)))

    def __sub__(self, other: RangeSet) -> RangeSet:
        """What is in this one only."""
        if not self._firsts:
            return self
        return self & RangeSet(other.gaps(self._firsts[0], self._lasts[-1]))

    def gaps(self, first: int, last: int) -> Iterator[Interval]:
        """The intervals of `first`..`last` that are not in the set."""
        for here, end in self:
            if first < here:
                yield first, min(here - 1, last)
            first = max(first, end + 1)
            if first > last:
                return
        yield first, last

    def __eq__(self, other: object) -> bool:
        """Equal as sets."""
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    def __hash__(self) -> int:
        """Equal sets hash equal."""
        return hash((self._firsts, self._lasts))

    def __repr__(self) -> str:
        """The intervals as they can be given to `of`."""
        return f"RangeSet.of({list(self)})"

    def render(self, family: Family) -> str:
        """Kube-OVN's spelling in status fields: `a-b,c`, and nothing for the empty set."""
        return ",".join(_spelled(first, last, family) for first, last in self)


def parse_ranges(items: Sequence[str], cidr: Cidr) -> RangeSet:
    """The usable addresses of `cidr` that the items (`a` or `a..b`) name; raises Malformed at the first bad item.

    A list may hold both families and addresses outside of the CIDR: all of it is read, and what cannot be given
    out anyway is left out (bug row 45).
    """
    intervals = [_parse_item(item) for item in items]
    mine = RangeSet.of((first.value, last.value) for first, last in intervals if first.family == cidr.family)
    return mine & RangeSet(((cidr.first, cidr.last),))


def _parse_item(item: str) -> tuple[Address, Address]:
    head, dots, tail = item.partition("..")
    first = parse_address(head)
    last = parse_address(tail) if dots else first
    if first.family != last.family:
        raise Malformed(f"{item} mixes IPv4 and IPv6: write a range of one family")
    if last < first:
        raise Malformed(f"{item} is reversed: write {format_address(last)}..{format_address(first)}")
    return first, last


def _merged(pairs: Iterable[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for first, last in pairs:
        if last < first:
            raise Impossible(f"interval {first}..{last} is reversed")
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _common(ours: Sequence[Interval], theirs: Sequence[Interval]) -> Iterator[Interval]:
    i = j = 0
    while i < len(ours) and j < len(theirs):
        first, last = max(ours[i][0], theirs[j][0]), min(ours[i][1], theirs[j][1])
        if first <= last:
            yield first, last
        if ours[i][1] < theirs[j][1]:
            i += 1
        else:
            j += 1


def _spelled(first: int, last: int, family: Family) -> str:
    head = format_address(Address(family, first))
    return head if first == last else f"{head}-{format_address(Address(family, last))}"
