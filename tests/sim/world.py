"""The universe: two servers, a network, processes, and everything that chance decides, from one seed."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from controller.core.objects import Kind
from controller.ports import Clock, World
from tests.sim.apiserver import SERVER as API
from tests.sim.apiserver import Request, SimKube, Traffic
from tests.sim.network import Faults, Network, Process
from tests.sim.northbound import SERVER as NB
from tests.sim.northbound import Database, SimNorthbound, Transaction
from tests.sim.store import Commit, Rules, Store

if TYPE_CHECKING:
    from collections.abc import Callable

BIG_BANG: Final = 1_790_000_000.0
SYSTEM_NAMESPACE: Final = "keepip-system"


@dataclass(frozen=True, slots=True)
class Options:
    """What kind of universe it is; `chosen` lets the seed decide."""

    admission: bool = True
    ip_status: bool = True
    page: int = 500
    hostile: bool = False
    crashes: bool = False
    standby: bool = False
    keep_vm_ip: bool = True
    weather: tuple[tuple[str, float], ...] = ()  # faults that come more often than usual
    kubevirt: str = "never"  # when its CRDs come: always there, late, or never
    small: int = 0  # kinds with fewer objects are listed at a take-over, the others caught up with

    @classmethod
    def chosen(cls, seed: int) -> Options:
        """Odd universes crash their controllers; the rest is a roll of the dice."""
        rng = Random(f"{seed}/options")
        return cls(
            admission=rng.random() < 0.5,
            ip_status=rng.random() < 0.75,
            page=rng.choice((2, 5, 500)),
            hostile=True,
            crashes=seed % 2 == 1,
            standby=rng.random() < 0.3,
            keep_vm_ip=rng.random() < 0.85,
            kubevirt=rng.choice(("always", "always", "late", "never")),
            small=rng.choice((0, 0, 3, 1000)),
        )


class SimClock(Clock):
    """The loop's time, the seed's dice."""

    def __init__(self, universe: SimWorld, process: Process) -> None:
        self._universe, self._process = universe, process

    def now(self) -> float:
        """Virtual monotonic seconds."""
        return self._universe.now()

    def wall(self) -> float:
        """Virtual seconds since the epoch; jumps now and then."""
        return self._universe.wall()

    def jitter(self) -> float:
        """Between 0.8 and 1.2."""
        return self._universe.dice.uniform(0.8, 1.2)

    def dice(self) -> int:
        """46 bits of the seed."""
        return self._universe.dice.getrandbits(46)

    async def sleep(self, seconds: float) -> None:
        """Return after that long, or later: nobody promises more."""
        await asyncio.sleep(max(0.0, seconds))


class SimWorld:
    """The truth, its witnesses and its trace."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.seed = seed
        self.options = options or Options()
        self.users_rng = Random(f"{seed}/users")
        self.dice = Random(f"{seed}/dice")
        self._weather = Random(f"{seed}/weather")
        self.faults = Faults(**dict(self.options.weather))
        if not self.options.hostile:
            self.faults.off()
        self._loop = asyncio.get_running_loop()
        self._wall_offset = 0.0
        self._digest = hashlib.sha256()
        self._away: dict[str, float] = {}
        self.network = Network(Random(f"{seed}/network"), self.faults)
        self.store = Store(self.now, self.wall, Rules(self.options.admission, self.options.ip_status))
        self.database = Database()
        self.traffic = Traffic()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self.processes: list[Process] = []
        self.writes = 0
        self.requests: dict[str, int] = {}
        self.store.witness.append(self._recorded)
        self.database.witness.append(self._transacted)
        self.traffic.witness.append(self._counted)
        self._first: World | None = None
        for namespace in ("default", SYSTEM_NAMESPACE):
            self.store.create(Kind.NAMESPACE, "", namespace, {}, "installer")

    # -- time and chance ---------------------------------------------------------------------------------------
    def now(self) -> float:
        """Virtual monotonic seconds."""
        return self._loop.time()

    def wall(self) -> float:
        """Virtual wall time, which is not always right."""
        return BIG_BANG + self.now() + self._wall_offset

    # -- processes ---------------------------------------------------------------------------------------------
    @property
    def world(self) -> World:
        """The ports of one process that lives as long as the universe."""
        if self._first is None:
            self._first, _ = self.connect("controller")
        return self._first

    def connect(self, name: str) -> tuple[World, Process]:
        """The ports of a new process."""
        process = Process(name)
        self.processes.append(process)
        kube = SimKube(self.store, self.network, process, self.traffic, self.options.page)
        northbound = SimNorthbound(self.database, self.network, process, self.traffic)
        return World(kube, northbound, SimClock(self, process)), process

    # -- weather -----------------------------------------------------------------------------------------------
    async def weather(self) -> None:
        """Servers away for a while, clocks that are set, processes that are cut off, torn fences; until cancelled."""
        rng, network = self._weather, self.network
        while True:
            await asyncio.sleep(rng.expovariate(1 / 25))
            roll = rng.random()
            if roll < 0.2:
                network.away_until[API] = self.now() + rng.expovariate(1 / 8)
            elif roll < 0.45:
                network.away_until[NB] = self.now() + rng.expovariate(1 / 10)
            elif roll < 0.55:
                network.away_until[API] = network.away_until[NB] = self.now() + rng.uniform(1, 30)
            elif roll < 0.65:
                self._wall_offset += rng.uniform(-90, 90)
            elif roll < 0.75 and self.processes:
                rng.choice(self.processes[-2:]).held_until = self.now() + rng.uniform(1, 30)
            elif roll < 0.8:
                self.store.compact()
            elif roll < 0.85:
                self.database.fence = rng.choice((None, (), (("term", "0"),)))  # an edit, or an older backup

    def calm(self) -> None:
        """From now on nothing fails any more."""
        self.faults.off()
        self.network.away_until.clear()
        for process in self.processes:
            process.held_until = 0.0

    # -- witnesses ---------------------------------------------------------------------------------------------
    def watched_by(self, commits: Callable[[Commit], None], transactions: Callable[[Transaction], None]) -> None:
        """Let checkers look at every change before anybody else can see it; a violation ends the universe."""
        self.store.witness.append(lambda commit: self.judge(lambda: commits(commit)))
        self.database.witness.append(lambda change: self.judge(lambda: transactions(change)))

    def judge(self, check: Callable[[], None]) -> None:
        """Run a check; its verdict is the end, and so is a mistake of its own."""
        try:
            check()
        except Exception as violation:
            if not self.failed.done():
                self.failed.set_exception(violation)
                self.failed.exception()
            raise

    def _recorded(self, commit: Commit) -> None:
        if commit.kind is not Kind.LEASE:
            self.writes += 1
        self._note("api", commit.version, commit.kind, commit.name, commit.by, commit.new)
        if self.network.chance(self.faults.compact):
            self.store.compact()

    def _transacted(self, change: Transaction) -> None:
        self.writes += 1
        self._note("nb", change.seq, change.by, change.ports, change.switches, change.sets)

    def _counted(self, request: Request) -> None:
        if request.kind != Kind.LEASE:
            self.requests[request.verb] = self.requests.get(request.verb, 0) + 1

    def _note(self, *what: object) -> None:
        self._digest.update(f"{self.now():.9f} {what!r}\n".encode())

    def digest(self) -> str:
        """The same for every run of the same seed."""
        return self._digest.hexdigest()[:16]


__all__ = ["API", "BIG_BANG", "NB", "SYSTEM_NAMESPACE", "Options", "SimClock", "SimWorld"]
