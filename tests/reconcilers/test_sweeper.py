"""The sweep as it runs: two passes, one alarm, and what the audit counts meanwhile (contract §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from controller.core import naming
from controller.core.addresses import format_address
from controller.core.decisions import pod as of_pod
from controller.core.decisions import sweep
from controller.core.objects import Kind
from controller.machines.waiting import Waiting
from controller.reconcilers import keys
from controller.reconcilers.audit import disagree
from controller.reconcilers.events import Recorder
from controller.reconcilers.keys import Key
from controller.reconcilers.picture import Picture
from controller.reconcilers.settings import Tuning
from controller.reconcilers.sweeper import Sweeper
from controller.reconcilers.telemetry import SWEPT, Telemetry
from controller.reconcilers.views import Views
from tests.core.worlds import (
    GRANTED,
    NOW,
    ORDINARY,
    granted_ip,
    make_pod,
    make_row,
    make_subnet,
    names,
    notes_of,
)
from tests.reconcilers.test_picture import TWO, show, show_row
from tests.sim.apiserver import Request
from tests.sim.loop import run
from tests.sim.world import SimWorld

ORPHAN = {**GRANTED, **ORDINARY}


class Broom:
    """A Sweeper over a Picture of its own."""

    def __init__(self, universe: SimWorld) -> None:
        self.picture, self.looked_at, self.events = Picture(), list[Key](), list[Request]()
        clock = universe.world.clock
        universe.traffic.witness.append(lambda one: self.events.append(one) if one.verb == "report" else None)
        self.telemetry = Telemetry()
        recorder = Recorder(universe.world.kube, clock, self.telemetry, "me")
        self.recording = asyncio.create_task(recorder.run())
        self.views = Views(self.picture, Waiting(), {}, clock, lambda _key: False, sweeps=True)
        self.sweeper = Sweeper(
            clock, Tuning(), self.picture, self.views, recorder, self.telemetry, self.looked_at.append
        )
        show(self.picture, Kind.SUBNET, None, make_subnet(cidr="10.0.0.0/24"))

    def orphan(self, number: int) -> None:
        """A port and an ordinary IP of a pod that nobody here has ever seen."""
        name, address = f"p{number}", format_address(TWO._replace(value=TWO.value + number))
        ip = granted_ip(name=f"{name}.default", address=address, labels=ORPHAN, pod_name=name)
        show(self.picture, Kind.IP, None, ip)
        show_row(self.picture, make_row(address, name=f"{name}.default", pod=f"default/{name}"), f"{name}.default")

    def decided(self, name: str) -> list[str]:
        """What the pod flow does about that pod now."""
        return names(of_pod.decide(self.views.pod("default", name), NOW))


def story(told: Callable[[Broom], Awaitable[None]]) -> None:
    """One universe."""

    async def main() -> None:
        broom = Broom(SimWorld(1))
        await told(broom)
        broom.recording.cancel()

    run(main())


def test_an_orphan_goes_with_the_second_pass() -> None:
    """Counted from the first on; the pod flow does not touch it before it is cleared, and reads its pod live then."""

    async def told(broom: Broom) -> None:
        broom.orphan(0)
        await broom.sweeper.pass_once()
        assert (broom.sweeper.audit.leaked, broom.sweeper.audit.orphaned) == ({"net": 1}, {"net": 1})
        assert broom.looked_at == []
        assert broom.decided("p0") == []
        await broom.sweeper.pass_once()
        assert broom.looked_at == [keys.pod("default", "p0")]
        assert broom.decided("p0") == ["ConfirmGone", "DropPort", "DeleteIP"]

    story(told)


def test_an_orphan_whose_ip_was_edited_to_name_another_goes_too() -> None:
    """Seed 611: nothing named the owner but the IP's own name, and so no pass ever looked at it."""

    async def told(broom: Broom) -> None:
        edited = granted_ip(name="p0.default", address="10.0.0.2", labels=ORPHAN, pod_name="another")
        show(broom.picture, Kind.IP, None, edited)
        await broom.sweeper.pass_once()
        await broom.sweeper.pass_once()
        assert broom.looked_at == [keys.pod("default", "p0")]
        assert broom.decided("p0") == ["ConfirmGone", "DeleteIP"]

    story(told)


def test_what_changed_between_two_passes_is_seen_anew() -> None:
    """Another port of that name may be another pod's, whose events are late."""

    async def told(broom: Broom) -> None:
        broom.orphan(0)
        await broom.sweeper.pass_once()
        show_row(broom.picture, None, "p0.default")
        show_row(broom.picture, make_row(name="p0.default", pod="default/p0")._replace(uuid="new"), "p0.default")
        await broom.sweeper.pass_once()
        assert broom.looked_at == []
        await broom.sweeper.pass_once()
        assert broom.looked_at == [keys.pod("default", "p0")]

    story(told)


def test_whose_owner_this_process_has_known_waits_for_no_sweep() -> None:
    """A pod that was seen to go, and a reservation that its user ended: both are let go of at once."""

    async def told(broom: Broom) -> None:
        pod = make_pod("p0", notes=notes_of())
        show(broom.picture, Kind.POD, None, pod)
        broom.orphan(0)
        show(broom.picture, Kind.POD, pod, None)
        assert broom.decided("p0") == ["DropPort", "DeleteIP"]
        show(broom.picture, Kind.IP, None, granted_ip("10.0.0.9"))
        ended = granted_ip("10.0.0.9", labels=ORPHAN)
        show(broom.picture, Kind.IP, granted_ip("10.0.0.9"), ended)
        assert broom.decided("web") == ["ConfirmGone", "DeleteIP"]
        await broom.sweeper.pass_once()
        await broom.sweeper.pass_once()
        assert broom.looked_at == []

    story(told)


def test_a_pod_that_was_served_here_is_known_by_its_port() -> None:
    """Its name need not be its port's: a VM's launcher pods have others."""

    async def told(broom: Broom) -> None:
        broom.orphan(0)
        view = broom.views.pod("default", "p0")
        assert view.grounds.unproven == {"p0.default"}
        (held,) = view.left
        broom.picture.acquaintance.meet(held.port, sweep.ids_of(held))
        assert broom.decided("p0") == ["ConfirmGone", "DropPort", "DeleteIP"]
        await broom.sweeper.pass_once()
        assert len(broom.picture.acquaintance) == 1
        show(broom.picture, Kind.IP, held.ip, None)
        show_row(broom.picture, None, "p0.default")
        await broom.sweeper.pass_once()
        assert len(broom.picture.acquaintance) == 0

    story(told)


def test_a_mass_of_orphans_raises_an_alarm_and_stays() -> None:
    """Until the operator allows it; then it goes with the next pass, and the alarm ends."""

    async def told(broom: Broom) -> None:
        for number in range(12):
            broom.orphan(number)
        for _ in range(3):
            await broom.sweeper.pass_once()
        await asyncio.sleep(5)
        assert broom.looked_at == []
        assert broom.decided("p0") == []
        assert broom.sweeper.stopped["net"] == sweep.Stop("net", 12, 12, 10)
        (event,) = broom.events
        assert (event.body["reason"], event.body["involvedObject"]["kind"]) == ("SweepStopped", "Subnet")
        assert "12 of 12" in event.body["message"]
        assert "keepip.io/sweep=allow" in event.body["message"]
        allowed = make_subnet(cidr="10.0.0.0/24", notes={naming.SWEEP: "allow"})
        show(broom.picture, Kind.SUBNET, make_subnet(cidr="10.0.0.0/24"), allowed)
        await broom.sweeper.pass_once()
        assert len(broom.looked_at) == 12
        assert broom.sweeper.stopped == {}

    story(told)


def test_orphans_of_a_subnet_that_is_gone_stop_a_sweep_too() -> None:
    """Nobody can be told on an object; log and metric say it."""

    async def told(broom: Broom) -> None:
        for number in range(12):
            broom.orphan(number)
        show(broom.picture, Kind.SUBNET, make_subnet(cidr="10.0.0.0/24"), None)
        await broom.sweeper.pass_once()
        await broom.sweeper.pass_once()
        await asyncio.sleep(5)
        assert broom.looked_at == []
        assert list(broom.sweeper.stopped) == ["net"]
        assert broom.events == []

    story(told)


def test_each_pass_is_counted_by_its_result() -> None:
    """Nothing found, something cleared, or stopped by its own limit."""

    def counted(broom: Broom) -> list[float]:
        samples = next(iter(broom.telemetry.sweeps.collect())).samples
        found = {one.labels["result"]: one.value for one in samples if one.name.endswith("_total")}
        return [found[result] for result in SWEPT]

    async def told(broom: Broom) -> None:
        await broom.sweeper.pass_once()
        broom.orphan(0)
        await broom.sweeper.pass_once()
        await broom.sweeper.pass_once()
        assert counted(broom) == [2, 1, 0]
        for number in range(1, 12):
            broom.orphan(number)
        await broom.sweeper.pass_once()
        assert counted(broom) == [2, 1, 1]

    story(told)


def test_a_reservation_without_a_pod_is_counted_until_one_comes() -> None:
    """It is as it should be: the audit is clean all the same."""

    async def told(broom: Broom) -> None:
        show(broom.picture, Kind.IP, None, granted_ip("10.0.0.9"))
        await broom.sweeper.pass_once()
        assert (broom.sweeper.audit.unused, broom.sweeper.audit.clean) == ({"net": 1}, True)
        show(broom.picture, Kind.POD, None, make_pod("web"))
        await broom.sweeper.pass_once()
        assert broom.sweeper.audit.unused == {"net": 0}

    story(told)


def test_it_runs_at_once_and_then_every_minute() -> None:
    """A term that begins anew has seen nothing twice yet."""

    async def told(broom: Broom) -> None:
        broom.orphan(0)
        for _ in range(2):
            broom.looked_at.clear()
            running = asyncio.create_task(broom.sweeper.run())
            await asyncio.sleep(40)
            assert broom.looked_at == []
            await asyncio.sleep(40)
            assert broom.looked_at == [keys.pod("default", "p0")]
            assert not broom.sweeper.audit.clean
            running.cancel()
            await asyncio.sleep(0)
            assert broom.sweeper.audit.clean, "who does not lead shows no old numbers"

    story(told)


@pytest.mark.parametrize(("note", "drifts"), [("10.0.0.2", 0), ("10.0.0.3", 1), ("", 0)])
def test_records_that_name_different_addresses_are_counted(note: str, drifts: int) -> None:
    """One that names none does not say otherwise."""

    async def told(broom: Broom) -> None:
        show(broom.picture, Kind.IP, None, granted_ip(labels=ORPHAN))
        show_row(broom.picture, make_row())
        show(broom.picture, Kind.POD, None, make_pod(notes=notes_of(note)))
        assert disagree(broom.picture, "web.default") == bool(drifts)
        await broom.sweeper.pass_once()
        assert sum(broom.sweeper.audit.drifting.values()) == drifts
        assert broom.sweeper.audit.clean == (not drifts)

    story(told)


def test_another_vendors_port_of_that_name_says_nothing_about_ours() -> None:
    """It is that vendor's."""

    async def told(broom: Broom) -> None:
        show(broom.picture, Kind.IP, None, granted_ip())
        show_row(broom.picture, make_row("10.0.0.9", vendor="other"))
        await broom.sweeper.pass_once()
        assert broom.sweeper.audit.clean

    story(told)
