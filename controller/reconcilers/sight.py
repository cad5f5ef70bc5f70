"""The subnets and pools as one port sees them: room that others have waited longer for is none for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.core.ipam import FAMILIES, line_of

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.decisions.placement import Place, Seat
    from controller.core.objects import Namespace
    from controller.machines.atlas import Atlas
    from controller.machines.ledger import Ledger
    from controller.machines.waiting import Waiting
    from controller.reconcilers.keys import Key


@dataclass(frozen=True, slots=True)
class Sight:
    """`placement.Places`: the atlas, and what this port may take of it now."""

    atlas: Atlas
    ledger: Ledger
    waiting: Waiting[Key]
    key: Key
    port: str

    def place(self, name: str) -> Place:
        """See Atlas.place."""
        return self.atlas.place(name)

    def listing(self, namespace: Namespace) -> tuple[str, ...]:
        """See Atlas.listing."""
        return self.atlas.listing(namespace)

    def default(self) -> str:
        """See Atlas.default."""
        return self.atlas.default()

    def bound(self, provider: str) -> tuple[str, ...]:
        """See Atlas.bound."""
        return self.atlas.bound(provider)

    def seat(self, pool: str) -> Seat:
        """See Atlas.seat."""
        return self.atlas.seat(pool)

    def keeps(self, name: str) -> bool:
        """True if the port has an address of that subnet, and the subnet can be used."""
        plan, kept = self.atlas.plan(name), self.ledger.kept(name, self.port)
        has = (kept.v4, kept.v6) if plan is not None and plan.families else (kept.mac,)
        return plan is not None and any(one is not None for one in has)

    def room(self, name: str, pool: str = "", families: tuple[Family, ...] = FAMILIES) -> bool:
        """True if the port may take an address of each of these families there."""
        return self.atlas.room(name, pool, families) and not self.patient(name, pool, families)

    def patient(self, name: str, pool: str = "", families: tuple[Family, ...] = FAMILIES) -> bool:
        """Whether others have waited longer for that room, and there is not enough for all."""
        plan = self.ledger.plan(name) if len(self.waiting) else None
        if plan is None:
            return False
        wanted = [family for family in plan.families if family in families]
        free = min((self.ledger.free_count(name, family, pool) for family in wanted), default=0)
        return self.waiting.patient(self.key, line_of(plan, pool, families), free)
