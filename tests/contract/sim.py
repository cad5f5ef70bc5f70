"""The simulation's world, faults off, on its own virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping

from controller.core.effects import Body, DropPort
from controller.core.objects import Kind
from controller.ports import Fence
from tests.contract.worlds import Law
from tests.sim.loop import run as run_in_virtual_time
from tests.sim.northbound import Transaction
from tests.sim.world import API, NB, SimWorld


class SimPoke:
    """Somebody else: hands straight in the store."""

    def __init__(self, universe: SimWorld) -> None:
        self._universe = universe

    def name(self, stem: str) -> str:
        return stem

    @contextlib.asynccontextmanager
    async def kube_gap(self) -> AsyncIterator[None]:
        self._universe.network.away_until[API] = math.inf
        try:
            yield
        finally:
            del self._universe.network.away_until[API]

    @contextlib.asynccontextmanager
    async def northbound_gap(self) -> AsyncIterator[None]:
        self._universe.network.away_until[NB] = math.inf
        for _ in range(5):  # a reader that is in the middle of a Rows does not hear of it
            for listener in tuple(self._universe.database.listeners):
                listener.set()
            await asyncio.sleep(0.1)
        try:
            yield
        finally:
            del self._universe.network.away_until[NB]

    async def create(self, kind: Kind, namespace: str, name: str, body: Body) -> None:
        self._universe.store.create(kind, namespace, name, body, "somebody")

    async def serve_nads(self) -> None:
        self._universe.store.serve(Kind.NAD)

    async def drop_port(self, name: str) -> None:
        database = self._universe.database
        database.commit((DropPort(database.tables.ports[name]),), "somebody")

    async def relabel_port(self, name: str, external_ids: Mapping[str, str]) -> None:
        database = self._universe.database
        old = database.tables.ports[name]
        new = old._replace(external_ids=tuple(sorted(external_ids.items())))
        database.tables = database.tables.copy()  # a reader may hold the old ones
        database.tables.ports[name] = new
        database.log.append(Transaction(database.tick(), "somebody", {name: (old, new)}, {}))
        for listener in database.listeners:
            listener.set()

    async def put_fence(self, fence: Fence | None) -> None:
        self._universe.database.fence = fence

    async def forgotten(self) -> int:
        self._universe.store.compact()
        return 1


async def _live(law: Law) -> None:
    universe = SimWorld(1)
    universe.store.served -= {Kind.NAD}  # as a cluster is before Multus is installed
    await law(universe.world, SimPoke(universe))


def run(law: Law) -> None:
    """Run the law in the simulation."""
    run_in_virtual_time(_live(law))
