"""The subnets and pools as one port sees them: room that others have waited longer for is none for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.core.ipam import FAMILIES, line_of

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.decisions.placement import Place, Seat
    from controller.core.effects import Topic
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
        plan = self.ledger.plan(name)
        line = line_of(plan, pool, families) if plan is not None else None
        return self.atlas.room(name, pool, families) and line not in self.queued(name, pool)

    def queued(self, name: str, pool: str = "") -> frozenset[Topic]:
        """The lines for that room in which others have waited longer, and there is not enough for all."""
        plan = self.ledger.plan(name) if len(self.waiting) else None
        if plan is None:
            return frozenset()
        kinds = {plan.families, *((family,) for family in plan.families)}
        return frozenset(
            line for families in kinds if self._patient(line := line_of(plan, pool, families), name, pool, families)
        )

    def _patient(self, line: Topic, name: str, pool: str, families: tuple[Family, ...]) -> bool:
        free = min((self.ledger.free_count(name, family, pool) for family in families), default=0)
        return self.waiting.patient(self.key, line, free)
