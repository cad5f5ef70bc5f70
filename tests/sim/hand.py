"""A hand on the cluster: it chooses by the seed, and what it chooses from is small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core.objects import Kind
from tests.sim.stage import ADDRESSES, BAD_ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sim.documents import Doc
    from tests.sim.world import SimWorld


class Hand:
    """What all who act by the seed have in common; `serial` gives every new thing a number."""

    def __init__(self, universe: SimWorld, serial: Iterator[int]) -> None:
        self.universe, self.store, self.rng = universe, universe.store, universe.users_rng
        self.serial = serial

    def subnet(self) -> str:
        """The name of a subnet that is there, rarely of one that is not."""
        known = sorted(name for _, name in self.store.docs[Kind.SUBNET]) or ["ovn-default"]
        return self.rng.choice(known) if self.rng.random() < 0.95 else "ghost"

    def any(self, kind: Kind, *, when: Callable[[Doc], bool] = lambda _doc: True) -> Doc | None:
        """One of the documents of that kind."""
        found = [doc for _, doc in sorted(self.store.docs[kind].items()) if when(doc)]
        return self.rng.choice(found) if found else None

    def address(self, subnet: str) -> str:
        """An address for that subnet, rarely a good one."""
        if self.rng.random() < 0.04:
            return self.rng.choice(BAD_ADDRESSES)
        return self.rng.choice(ADDRESSES.get(subnet, ADDRESSES["tiny"]))
