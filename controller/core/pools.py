"""What an IPPool's `spec.ips` say: addresses, `a..b` ranges and CIDRs (kube-ovn-behaviour §3.3).

Read item by item: what cannot be read is a reason on the pool, and what can be read of it stays out of the default
pool all the same, so that a mistyped edit never gives a pool's addresses away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from controller.core.addresses import WIDTH, Address, Cidr, Family, format_address, parse_address
from controller.core.faults import Malformed
from controller.core.ranges import RangeSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.core.ipam import FamilyPlan


class Span(NamedTuple):
    """One item: all addresses from the first to the last, and how it was written."""

    family: Family
    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """All items of a pool: those that can be read, and why others cannot."""

    spans: tuple[Span, ...] = ()
    faults: tuple[str, ...] = ()

    def region(self, plan: FamilyPlan) -> RangeSet:
        """What the pool has of that family of its subnet."""
        cidr = plan.cidr
        mine = RangeSet.of((span.first, span.last) for span in self.spans if span.family == cidr.family)
        return mine & RangeSet(((cidr.first, cidr.last),))

    def outside(self, cidrs: Iterable[Cidr]) -> tuple[str, ...]:
        """The items that no CIDR of the subnet covers whole."""
        blocks = tuple(cidrs)
        return tuple(span.text for span in self.spans if not any(_covers(cidr, span) for cidr in blocks))


def read_items(texts: Iterable[str]) -> Items:
    """Every item that can be read, and a sentence for every one that cannot."""
    spans: list[Span] = []
    faults: list[str] = []
    for text in filter(None, map(str.strip, texts)):
        try:
            spans.append(_span(text))
        except Malformed as why:
            faults.append(str(why))
    return Items(tuple(spans), tuple(faults))


def address_set(items: Items) -> tuple[str, ...]:
    """The pool as OVN's Address_Set holds it, as Kube-OVN writes it: CIDRs, single addresses bare, sorted as text.

    Raises Malformed for a pool of both families: an Address_Set has one.
    """
    if len({span.family for span in items.spans}) > 1:
        raise Malformed("it mixes IPv4 and IPv6, and an address set of OVN holds one family: make a pool for each")
    return tuple(sorted({text for span in items.spans for text in _blocks(span)}))


def _span(text: str) -> Span:
    lower = text.lower()
    head, dots, tail = lower.partition("..")
    if dots:
        first, last = parse_address(head), parse_address(tail)
    elif "/" in lower:
        first, last = _ends(lower)
    elif "-" in lower:
        raise Malformed(f"{text[:80]!r} is no range: write two dots between first and last, like 10.0.0.5..10.0.0.9")
    else:
        first = last = parse_address(lower)
    if first.family != last.family:
        raise Malformed(f"{text[:80]} mixes IPv4 and IPv6: write a range of one family")
    if last < first:
        raise Malformed(f"{text} is reversed: write {format_address(last)}..{format_address(first)}")
    return Span(first.family, first.value, last.value, text)


def _ends(text: str) -> tuple[Address, Address]:
    """The ends of a block; one of full width is a single address."""
    head, _, prefix = text.partition("/")
    address = parse_address(head)
    if prefix == str(WIDTH[address.family]):
        return address, address
    cidr = Cidr.parse(text)
    return Address(cidr.family, cidr.network), Address(cidr.family, cidr.broadcast)


def _covers(cidr: Cidr, span: Span) -> bool:
    return cidr.family == span.family and cidr.network <= span.first and span.last <= cidr.broadcast


def _blocks(span: Span) -> Iterator[str]:
    """The fewest CIDRs that are just the span."""
    first, width = span.first, WIDTH[span.family]
    while first <= span.last:
        aligned = (first & -first).bit_length() - 1 if first else width
        size = min(aligned, (span.last - first + 1).bit_length() - 1)
        text = format_address(Address(span.family, first))
        yield text if size == 0 else f"{text}/{width - size}"
        first += 1 << size
