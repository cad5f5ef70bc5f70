"""Beside a live Lease of Kube-OVN's own controller nothing is managed; beside a dead one everything is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from controller.core.objects import Kind
from controller.reconcilers.controller import Controller
from controller.reconcilers.rival import Rival
from controller.reconcilers.settings import Tuning
from tests.sim.loop import run
from tests.sim.world import SYSTEM_NAMESPACE, SimWorld

LEASE = (Kind.LEASE, "kube-system", "kube-ovn-controller")


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


class Kubeovn:
    """Kube-OVN's controller, as far as its Lease shows it; `hours` is how much its clock is wrong."""

    def __init__(self, universe: SimWorld, hours: float = 0.0) -> None:
        self.universe, self.hours = universe, hours

    def write(self, **more: Any) -> None:
        renewed = stamp(self.universe.wall() + 3600 * self.hours)
        spec = {"holderIdentity": "kube-ovn-a", "leaseDurationSeconds": 30, "renewTime": renewed, **more}
        if self.universe.store.get(*LEASE) is None:
            self.universe.store.create(*LEASE, {"spec": spec}, "kube-ovn")
        else:
            self.universe.store.patch(*LEASE, {"spec": spec}, "kube-ovn")

    async def live(self, seconds: float) -> None:
        for _ in range(int(seconds / 6)):
            self.write()
            await asyncio.sleep(6)


def live(story: Callable[[SimWorld, Controller], Awaitable[None]]) -> None:
    async def main() -> None:
        universe = SimWorld(1)
        universe.store.create(Kind.NAMESPACE, "", "kube-system", {}, "installer")
        await story(universe, Controller(universe.world, Tuning(identity="me", lease_namespace=SYSTEM_NAMESPACE)))

    run(main())


def holder(universe: SimWorld) -> str:
    lease = universe.store.get(Kind.LEASE, SYSTEM_NAMESPACE, "keepip")
    return str(lease["spec"]["holderIdentity"]) if lease is not None else ""


@pytest.mark.parametrize("hours", [0.0, 5.0, -0.05])
def test_nothing_is_managed_while_it_lives(hours: float) -> None:
    """It begins when that one is dead or gives its Lease back, and stops when it comes alive again."""

    async def story(universe: SimWorld, controller: Controller) -> None:
        kubeovn, subnet = Kubeovn(universe, hours), {"spec": {"cidrBlock": "10.1.0.0/28"}}
        universe.store.create(Kind.SUBNET, "", "net", subnet, "user")
        kubeovn.write()
        life = asyncio.create_task(controller.run())
        writes = universe.writes
        await kubeovn.live(120)
        assert (holder(universe), universe.writes, universe.database.fence) == ("", writes, None)
        assert any("kube-ovn-a manages this cluster" in why for why in controller.troubles())
        await asyncio.sleep(30)
        assert holder(universe) == "me"
        assert universe.writes > writes
        assert not controller.troubles()
        kubeovn.write()
        await asyncio.sleep(3)
        assert not holder(universe)
        writes = universe.writes
        universe.store.create(Kind.SUBNET, "", "other", {"spec": {"cidrBlock": "10.2.0.0/28"}}, "user")
        await kubeovn.live(60)
        assert (holder(universe), universe.writes) == ("", writes + 1)
        kubeovn.write(holderIdentity="")
        await asyncio.sleep(3)
        assert holder(universe) == "me"
        controller.stop()
        await life

    live(story)


def test_what_a_removed_controller_left_behind_delays_no_start() -> None:
    async def story(universe: SimWorld, controller: Controller) -> None:
        Kubeovn(universe, hours=-1).write()
        life = asyncio.create_task(controller.run())
        await asyncio.sleep(1)
        assert holder(universe) == "me"
        life.cancel()

    live(story)


@pytest.mark.parametrize("renewed", ["", "yesterday", "2001-01-01T00:00:00"])
def test_a_record_without_a_time_is_watched(renewed: str) -> None:
    async def story(universe: SimWorld, _: Controller) -> None:
        Kubeovn(universe).write(renewTime=renewed)
        rival = Rival(universe.world, Tuning())
        assert await rival.look()
        assert rival.live

    live(story)


def test_nothing_is_begun_before_it_could_be_read() -> None:
    """Nobody knows is not nobody."""

    async def story(universe: SimWorld, controller: Controller) -> None:
        universe.faults.denied = 1.0
        life = asyncio.create_task(controller.run())
        await asyncio.sleep(60)
        assert not holder(universe)
        assert any("cannot be read" in why for why in controller.troubles())
        universe.faults.denied = 0.0
        await asyncio.sleep(30)
        assert holder(universe) == "me"
        life.cancel()

    live(story)


def test_it_can_be_told_to_mind_nobody() -> None:
    async def story(universe: SimWorld, _: Controller) -> None:
        Kubeovn(universe).write()
        alone = Controller(universe.world, Tuning(identity="me", lease_namespace=SYSTEM_NAMESPACE, kube_ovn_lease=""))
        life = asyncio.create_task(alone.run())
        await asyncio.sleep(1)
        assert holder(universe) == "me"
        life.cancel()

    live(story)


def test_a_stop_ends_the_waiting() -> None:
    async def story(universe: SimWorld, controller: Controller) -> None:
        Kubeovn(universe).write()
        life = asyncio.create_task(controller.run())
        await asyncio.sleep(5)
        controller.stop()
        await asyncio.wait_for(life, 5)

    live(story)
