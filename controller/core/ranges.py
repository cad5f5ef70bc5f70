"""A set of addresses is a few intervals: its cost is that of the intervals, never that of the addresses in them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from math import inf
from typing import TYPE_CHECKING

from controller.core.addresses import Address, Cidr, Family, format_address, parse_address
from controller.core.faults import Impossible, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Interval = tuple[int, int]


class RangeSet:
    """Sorted, disjoint, merged and never changed: sets of the same integers are equal, however they were made."""

    __slots__ = ("_intervals", "size")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        """Take intervals that are sorted, disjoint and merged already; `of` and `from_sorted` make them so."""
        self._intervals = tuple(intervals)
        self.size = sum(last - first + 1 for first, last in self._intervals)

    @classmethod
    def of(cls, pairs: Iterable[Interval]) -> RangeSet:
        """The union of the closed intervals, in any order, overlapping or not."""
        return cls(_merged(sorted(pairs)))

    @classmethod
    def from_sorted(cls, values: Iterable[int]) -> RangeSet:
        """The set of ascending integers, in one pass."""
        return cls(_runs(values))

    def __contains__(self, value: int) -> bool:
        """Whether the integer is in the set."""
        return self.end_of(value) is not None

    def end_of(self, value: int) -> int | None:
        """The last integer of the interval that holds `value`, so that a walk may jump over it; None if none does."""
        index = bisect_right(self._intervals, (value, inf)) - 1
        if index >= 0 and value <= self._intervals[index][1]:
            return self._intervals[index][1]
        return None

    def next_from(self, value: int) -> int | None:
        """The lowest integer of the set that is not below `value`; None if there is none."""
        index = bisect_right(self._intervals, (value, inf)) - 1
        if index >= 0 and value <= self._intervals[index][1]:
            return value
        return self._intervals[index + 1][0] if index + 1 < len(self._intervals) else None

    def __iter__(self) -> Iterator[Interval]:
        """The intervals in ascending order."""
        return iter(self._intervals)

    def __or__(self, other: RangeSet) -> RangeSet:
        """What is in either."""
        return RangeSet.of(chain(self, other))

    def __and__(self, other: RangeSet) -> RangeSet:
        """What is in both."""
        return RangeSet(_common(self._intervals, other._intervals))

    def __sub__(self, other: RangeSet) -> RangeSet:
        """What is in this one only."""
        if not self._intervals:
            return self
        return self & RangeSet(other.gaps(self._intervals[0][0], self._intervals[-1][1]))

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
        return self._intervals == other._intervals

    def __hash__(self) -> int:
        """Equal sets hash equal."""
        return hash(self._intervals)

    def __repr__(self) -> str:
        """The intervals as they can be given to `of`."""
        return f"RangeSet.of({list(self._intervals)})"

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


def _runs(values: Iterable[int]) -> Iterator[Interval]:
    first = last = None
    for value in values:
        if first is None or last is None:
            first = value
        elif value > last + 1:
            yield first, last
            first = value
        last = value
    if first is not None and last is not None:
        yield first, last


def _common(ours: Sequence[Interval], theirs: Sequence[Interval]) -> Iterator[Interval]:
    i = j = 0
    while i < len(ours) and j < len(theirs):
        (first, last), (other_first, other_last) = ours[i], theirs[j]
        if first <= other_last and other_first <= last:
            yield max(first, other_first), min(last, other_last)
        if last < other_last:
            i += 1
        else:
            j += 1


def _spelled(first: int, last: int, family: Family) -> str:
    head = format_address(Address(family, first))
    return head if first == last else f"{head}-{format_address(Address(family, last))}"
