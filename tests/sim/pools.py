"""Which pool has which address, worked out a second time: address by address, from the documents alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, summarize_address_range
from typing import TYPE_CHECKING, Final

from controller.core.objects import Kind
from tests.sim.documents import Doc, deleting, meta, spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.sim.store import Store

NAME: Final = re.compile(r"[a-z][a-z0-9-]*\Z")


def is_pool_name(text: str) -> bool:
    """True for what names a pool; the simulation's pools begin with a letter."""
    return bool(NAME.match(text))


@lru_cache(maxsize=1024)
def expand(item: str) -> tuple[str, ...] | None:
    """Every address of one item, None if it cannot be read; the simulation's ranges are small."""
    head, _, tail = item.partition("..")
    try:
        low, high = ip_address(head), ip_address(tail or head)
    except ValueError:
        return None
    if low.version != high.version or int(low) > int(high):
        return None
    return tuple(str(low + step) for step in range(int(high) - int(low) + 1))


@lru_cache(maxsize=1024)
def blocks(items: tuple[str, ...]) -> tuple[str, ...]:
    """What an Address_Set of these items holds."""
    found = set()
    for item in items:
        head, _, tail = item.partition("..")
        for net in summarize_address_range(ip_address(head), ip_address(tail or head)):
            found.add(str(net).removesuffix("/32").removesuffix("/128"))
    return tuple(sorted(found))


def named(items: Iterable[str]) -> set[str]:
    """Every address that the items name, as far as they can be read."""
    return {address for item in items for address in expand(item) or ()}


@dataclass
class Pools:
    """Reads the store; writes nothing."""

    store: Store

    def get(self, name: str) -> Doc | None:
        """The pool, unless it is going."""
        pool = self.store.get(Kind.POOL, "", name)
        return None if pool is None or deleting(pool) else pool

    def subnet(self, name: str) -> str:
        """The subnet of a pool, "" if there is no such pool."""
        pool = self.store.get(Kind.POOL, "", name)
        return str(spec(pool).get("subnet") or "") if pool is not None else ""

    def by_age(self, subnet: str) -> list[tuple[str, Doc]]:
        """The pools of a subnet that are not going, the oldest first."""
        docs = ((name, doc) for (_, name), doc in self.store.docs[Kind.POOL].items() if not deleting(doc))
        mine = [(name, doc) for name, doc in docs if spec(doc).get("subnet") == subnet]
        return sorted(mine, key=lambda one: (meta(one[1])["creationTimestamp"], one[0]))

    def regions(self, subnet: str) -> dict[str, set[str]]:
        """What each pool has: an address that several name is the oldest one's."""
        found: dict[str, set[str]] = {}
        for name, doc in self.by_age(subnet):
            found[name] = named(spec(doc).get("ips") or ()) - set().union(*found.values())
        return found

    def pool_of(self, subnet: str, address: str) -> str:
        """The pool that has the address, "" for none."""
        return next((name for name, region in self.regions(subnet).items() if address in region), "")

    def usable(self, name: str) -> bool:
        """True if the pool gives out what it has."""
        pool = self.get(name)
        if pool is None:
            return False
        items = spec(pool).get("ips") or ()
        readable = all(expand(item) is not None for item in items)
        return readable and named(items) == self.regions(self.subnet(name))[name]
