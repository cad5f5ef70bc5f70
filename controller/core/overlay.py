"""A book with what one decision has given out so far: the NICs of one pod are decided one after the other.

What it gave out is in nobody's records yet, and no two NICs may have one address or one MAC (bug row 18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core.addresses import Address
from controller.core.ipam import Held

if TYPE_CHECKING:
    from collections.abc import Collection

    from controller.core.addresses import Family
    from controller.core.effects import Promise
    from controller.core.ipam import Book, Release


class Overlay:
    """Answers as `book` does, with the promises on top."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._addresses: dict[tuple[str, Address], str] = {}
        self._macs: dict[int, str] = {}

    def give(self, promise: Promise) -> None:
        """Know what was given out."""
        pairs: tuple[tuple[Family, int | None], ...] = ((4, promise.v4), (6, promise.v6))
        for family, value in pairs:
            if value is not None:
                self._addresses[promise.subnet, Address(family, value)] = promise.port
        if promise.mac is not None:
            self._macs[promise.mac] = promise.port

    def holders(self, subnet: str, address: Address) -> tuple[str, ...]:
        """The ports that any record or any promise of this decision gives this address to."""
        mine = self._addresses.get((subnet, address))
        return _with(self._book.holders(subnet, address), mine)

    def mac_holders(self, mac: int) -> tuple[str, ...]:
        """The same for a MAC."""
        return _with(self._book.mac_holders(mac), self._macs.get(mac))

    def kept(self, subnet: str, port: str) -> Held:
        """What the port has by the records: each NIC is decided once."""
        return self._book.kept(subnet, port)

    def said(self, subnet: str, port: str) -> Held:
        """What only other records say that the port has."""
        return self._book.said(subnet, port)

    def barred(self, address: Address) -> str | None:
        """The node whose own address this is."""
        return self._book.barred(address)

    def released(self, subnet: str, address: Address) -> Release | None:
        """The last release of this address."""
        return self._book.released(subnet, address)

    def next_free(
        self, subnet: str, family: Family, now: float, pool: str = "", skip: Collection[int] = ()
    ) -> int | None:
        """The dynamic address whose turn it is, behind those that this decision has given out."""
        mine = {one.value for (where, one) in self._addresses if where == subnet and one.family == family}
        return self._book.next_free(subnet, family, now, pool, frozenset((*mine, *skip)))


def _with(ports: tuple[str, ...], port: str | None) -> tuple[str, ...]:
    return ports if port is None or port in ports else (*ports, port)
