"""`--mode=observe` in virtual time: what is told, how often, and that nothing else leaves the process (contract §9)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from structlog.testing import capture_logs

from controller.core import naming
from controller.core.effects import DropPort, PutPort, PutSwitch
from controller.core.objects import Kind
from controller.core.rows import PortRow
from controller.reconcilers.controller import Controller
from controller.reconcilers.settings import Tuning
from tests.core.worlds import MAC, NOTE, OURS, make_row, notes_of
from tests.sim.apiserver import BOOKMARK_EVERY
from tests.sim.loop import run
from tests.sim.world import NB, SYSTEM_NAMESPACE, SimWorld

EVERY_S = 10.0
HERE, ELSEWHERE = "10.0.0.2", "10.0.0.3"
PORT = "web.default"


class Watched:
    """A cluster of which another controller writes the records, and a process that only looks."""

    def __init__(self, universe: SimWorld, silence_s: float) -> None:
        self.universe, self.mine = universe, 0
        self.tuning = Tuning(
            mode="observe", sweep_s=EVERY_S, watch_silence_s=silence_s, lease_namespace=SYSTEM_NAMESPACE
        )
        self.controller = Controller(universe.world, self.tuning)
        universe.store.create(Kind.SUBNET, "", "net", {"spec": {"cidrBlock": "10.0.0.0/24"}}, "kube-ovn")
        universe.database.commit((PutSwitch("net"),), "kube-ovn")
        self._before = universe.writes

    @property
    def written(self) -> int:
        """The writes of all but us."""
        return self.universe.writes - self._before

    def pod(self, name: str = "web", address: str = HERE) -> None:
        """A pod that runs."""
        notes = {NOTE + key: text for key, text in notes_of(address).items()}
        body = {"metadata": {"annotations": notes}, "spec": {"nodeName": "a"}, "status": {"phase": "Running"}}
        self.universe.store.create(Kind.POD, "default", name, body, "kube-ovn")
        self.mine += 1

    def ip(self, name: str = "web", address: str = HERE, reserved: str = "false") -> None:
        """Its IP object."""
        spec = {"subnet": "net", "podName": name, "namespace": "default", "v4IpAddress": address, "macAddress": MAC}
        marks = {"finalizers": list(OURS), "labels": {naming.RESERVED: reserved}}
        self.universe.store.create(Kind.IP, "", f"{name}.default", {"metadata": marks, "spec": spec}, "kube-ovn")
        self.mine += 1

    def port(self, address: str = HERE, name: str = "web") -> None:
        """Its port, as it shall be from now on."""
        was = self.row(name)
        row = make_row(address, name=f"{name}.default", pod=f"default/{name}")._replace(uuid="")
        self.universe.database.commit((PutPort(row, was),), "kube-ovn")
        self.mine += 1

    def row(self, name: str = "web") -> PortRow | None:
        return self.universe.database.tables.ports.get(f"{name}.default")

    async def passes(self, count: int = 3) -> None:
        """Let it look so often, and no less; every watch has told a bookmark after the first of them."""
        await asyncio.sleep(1.3 * EVERY_S * count + BOOKMARK_EVERY)

    @property
    def open(self) -> dict[str, float]:
        """What the metric says, without the zeros."""
        (family,) = self.controller.telemetry.disagreements.collect()
        return {one.labels["kind"]: one.value for one in family.samples if one.value}


def told(script: Callable[[Watched], Awaitable[None]], silence_s: float = 90.0) -> list[tuple[str, str, str]]:
    """Event, kind and object of each line that it wrote while the script ran."""

    async def main() -> None:
        watched = Watched(SimWorld(1), silence_s)
        life = asyncio.create_task(watched.controller.run())
        await asyncio.sleep(1)
        await script(watched)
        assert watched.written == watched.mine
        assert watched.universe.requests.keys() <= {"list", "watch"}
        assert watched.universe.store.get(Kind.LEASE, SYSTEM_NAMESPACE, "keepip") is None
        assert watched.universe.database.fence is None
        stats = watched.controller.queue.stats(watched.universe.now())
        assert (stats.adds, sum(stats.depth)) == (0, 0)
        watched.controller.stop()
        await asyncio.wait_for(life, 5)

    with capture_logs() as lines:
        run(main())
    return [(one["event"], one["kind"], one["object"]) for one in lines if one["event"] in {"disagreement", "agreed"}]


def test_what_agrees_is_not_told() -> None:
    async def script(watched: Watched) -> None:
        watched.pod()
        watched.ip()
        watched.port()
        await watched.passes()
        assert watched.open == {}
        assert not watched.controller.troubles()

    assert told(script) == []


def test_it_is_told_once_whatever_is_said_meanwhile_and_again_when_it_comes_back() -> None:
    """A port that moves on from one wrong address to another disagrees all the same."""

    async def script(watched: Watched) -> None:
        watched.pod()
        watched.ip()
        watched.port(ELSEWHERE)
        await watched.passes()
        assert watched.open == {"records_differ": 1}
        for address in ("10.0.0.4", "10.0.0.5", "10.0.0.6"):
            watched.port(address)
            await watched.passes(1)
        await watched.passes()
        assert watched.open == {"records_differ": 1}
        watched.port(HERE)
        await watched.passes()
        assert watched.open == {}
        watched.port(ELSEWHERE)
        await watched.passes()

    line = ("records_differ", PORT)
    assert told(script) == [("disagreement", *line), ("agreed", *line), ("disagreement", *line)]


def test_what_is_under_way_is_not_told() -> None:
    """A disagreement that another one has replaced by the next pass was a moment of somebody's work."""

    async def script(watched: Watched) -> None:
        watched.pod()
        watched.ip()
        for number in range(20):
            watched.port(f"10.0.0.{10 + number}")
            await asyncio.sleep(0.75 * EVERY_S)
        watched.port(HERE)
        await watched.passes()

    assert told(script) == []


def test_nothing_is_missing_while_its_watch_hangs() -> None:
    """The pod and its port are shown; its IP was made before both, and comes half a minute later."""

    async def script(watched: Watched) -> None:
        faults, picture = watched.universe.network.faults, watched.controller.picture
        faults.half_open, normal = 1.0, faults.half_open
        watched.ip()
        await asyncio.sleep(1)
        faults.half_open = normal
        watched.pod()
        watched.port()
        await asyncio.sleep(1)
        assert picture.pods.get("default", "web") is not None
        assert picture.port(PORT) is not None
        await asyncio.sleep(2.6 * EVERY_S)
        assert picture.ips.get("", PORT) is None
        await watched.passes()

    assert told(script) == []


def test_a_server_that_never_says_that_nothing_is_new_does_not_silence_it() -> None:
    """Of a kind of which nothing has happened since its own start it says nothing; what hung is open again by then."""

    async def script(watched: Watched) -> None:
        watched.pod()
        watched.ip()
        await asyncio.sleep(BOOKMARK_EVERY - 5)  # none has come yet
        watched.port()
        await asyncio.sleep(2 * EVERY_S)

    line = ("port_missing", PORT)
    assert told(script, silence_s=10.0) == [("disagreement", *line), ("agreed", *line)]
    assert told(script, silence_s=90.0) == [], "a watch may hang for longer"


def test_while_northbound_is_away_no_port_is_missing() -> None:
    """What is not known is not gone; what was missing already is told as soon as it is seen again."""

    async def script(watched: Watched) -> None:
        network, now = watched.universe.network, watched.universe.now()
        network.away_until[NB] = now + 20 * EVERY_S
        for name, address in (("web", HERE), ("bare", ELSEWHERE)):
            watched.pod(name, address)
            watched.ip(name, address)
            watched.port(address, name)
        row = watched.row("bare")
        assert row is not None
        watched.universe.database.commit((DropPort(row),), "kube-ovn")
        watched.mine += 1
        await watched.passes(7)
        assert watched.open == {}
        assert not watched.controller.world.northbound.connected
        await watched.passes(6)
        assert watched.open == {"port_missing": 1}

    assert told(script) == [("disagreement", "port_missing", "bare.default")]


def test_who_came_and_went_is_not_remembered() -> None:
    """Names come and go for as long as it looks on."""

    async def script(watched: Watched) -> None:
        watched.ip(reserved="true")
        await watched.passes(1)
        assert len(watched.controller.picture.acquaintance) == 1
        watched.universe.store.patch(Kind.IP, "", PORT, {"metadata": {"finalizers": None}}, "kube-ovn")
        watched.universe.store.delete(Kind.IP, "", PORT, "", "kube-ovn")
        watched.mine += 2
        await watched.passes()
        assert len(watched.controller.picture.acquaintance) == 0

    assert told(script) == []
