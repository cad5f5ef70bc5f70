"""Northbound's fence follows the Lease: raised once a term and mended, by nobody but the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from controller.core.effects import PutSwitch
from controller.ports import Fenced
from controller.reconcilers.fence import Guard
from controller.reconcilers.leader import Deposed, Leader
from controller.reconcilers.settings import Tuning
from tests.sim.apiserver import Request
from tests.sim.loop import run
from tests.sim.world import API, NB, SYSTEM_NAMESPACE, SimWorld


class Side:
    """A process with all that leads and guards, and a reader, which is what connects."""

    def __init__(self, universe: SimWorld, name: str) -> None:
        self.world, self.process = universe.connect(name)
        self.leader = Leader(self.world, Tuning(identity=name, lease_namespace=SYSTEM_NAMESPACE))
        self.refused = asyncio.Event()
        self.guard = Guard(self.world, self.leader, self.refused)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for _ in self.world.northbound.rows():
            pass

    async def lead(self) -> asyncio.Task[None]:
        """Take the Lease; the task that holds it."""
        assert await self.leader.acquire()
        return asyncio.create_task(self.leader.hold(asyncio.create_task(asyncio.sleep(1e9))))

    async def write(self, name: str) -> None:
        await self.world.northbound.commit((PutSwitch(name),))


def live(story: Callable[[SimWorld], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(SimWorld(1))

    run(main())


def says(universe: SimWorld) -> dict[str, str]:
    return dict(universe.database.fence or ())


def test_a_new_leader_ends_what_the_one_before_may_still_send() -> None:
    async def story(universe: SimWorld) -> None:
        first, second = Side(universe, "a"), Side(universe, "b")
        term = await first.lead()
        await first.guard.put_up()
        assert (says(universe)["holder"], says(universe)["term"]) == ("a", "0")
        await first.write("one")
        first.process.held_until = universe.now() + 60  # its packets wait in the cable, and so do the answers
        with pytest.raises(Deposed):
            await term
        await second.lead()
        await second.guard.put_up()
        assert (says(universe)["holder"], says(universe)["term"]) == ("b", "1")
        first.process.held_until = 0
        with pytest.raises(Fenced):
            await first.write("late")
        await second.write("two")
        assert {row.name for row in universe.database.tables.switches.values()} == {"one", "two"}

    live(story)


def test_who_leads_no_more_raises_no_fence() -> None:
    """Its clock may say that it leads: only a renewal counts that was sent after the fence was read."""

    async def story(universe: SimWorld) -> None:
        first, second = Side(universe, "a"), Side(universe, "b")
        term = await first.lead()
        universe.network.away_until[API] = universe.now() + 30
        raising = asyncio.create_task(first.guard.put_up())
        with pytest.raises(Deposed):
            await term
        assert universe.database.fence is None
        await second.lead()
        await second.guard.put_up()
        before = universe.database.fence
        await asyncio.sleep(120)
        assert not raising.done()
        assert universe.database.fence == before
        raising.cancel()

    live(story)


@pytest.mark.parametrize("found", [None, (), (("holder", "a"), ("term", "0")), (("term", "99"),)])
def test_a_leader_mends_a_fence_that_was_not_moved_by_a_leader(found: tuple[tuple[str, str], ...] | None) -> None:
    """Deleted, edited, or of an older backup: the Lease says who leads, not the number in the fence."""

    async def story(universe: SimWorld) -> None:
        side = Side(universe, "a")
        await side.lead()
        await side.guard.put_up()
        mending = asyncio.create_task(side.guard.mend())
        ours, universe.database.fence = universe.database.fence, found
        with pytest.raises(Fenced):
            await side.write("refused")
        side.refused.set()
        await asyncio.sleep(2)
        assert universe.database.fence == ours
        await side.write("written")
        mending.cancel()

    live(story)


def test_a_fence_that_cannot_be_raised_is_told_and_raised_later() -> None:
    """Northbound is away when the term begins, and away again."""

    async def story(universe: SimWorld) -> None:
        side = Side(universe, "a")
        await side.lead()
        universe.network.away_until[NB] = universe.now() + 20
        raising = asyncio.create_task(side.guard.put_up())
        await asyncio.sleep(10)
        assert side.guard.trouble
        await asyncio.wait_for(raising, 30)
        assert not side.guard.trouble
        await side.write("written")

    live(story)


def test_at_rest_the_fence_asks_for_nothing() -> None:
    """Neither a write nor a renewal more than the Lease is due."""

    async def story(universe: SimWorld) -> None:
        side, sent = Side(universe, "a"), list[Request]()
        await side.lead()
        await side.guard.put_up()
        mending = asyncio.create_task(side.guard.mend())
        universe.traffic.witness.append(sent.append)
        await asyncio.sleep(100)
        assert {one.verb for one in sent} == {"patch"}
        assert len(sent) <= 51
        mending.cancel()

    live(story)
