"""One run: reservations, pods, churn, all of it away again; every time is the generator's own."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.load import objects, results
from controller.load.client import IPS, NAMESPACES, SUBNETS, Refused
from controller.load.results import Change, Result
from controller.load.traffic import FLIGHT, play
from controller.load.watching import Goal, Watcher, Wrong

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from controller.load.client import Api
    from controller.load.objects import Place, Request
    from controller.load.scrape import Scraper
    from controller.load.screen import Show

_TICK_S: Final = 0.25
_READY_S: Final = 60.0
_KINDS: Final = ("reservations", "pods")
_DELETIONS: Final = "deletions"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much, how fast, how long."""

    reservations: int = 1000
    pods: int = 1000
    rate: float = 0.0  # creations a second; 0: as fast as `flight` at once allow
    flight: int = FLIGHT
    churn: float = 50.0  # changes a second
    seconds: float = 60.0
    cidr: str = ""
    own_namespace: bool = True
    own_subnet: bool = True
    keep: bool = False


class Run:
    """A plan being carried out; `result` fills up as it goes."""

    def __init__(self, api: Api, place: Place, plan: Plan, scraper: Scraper, show: Show, result: Result) -> None:
        self._api, self._place, self._plan, self._show = api, place, plan, show
        self._scraper = scraper
        self.result = result
        self._watcher = Watcher(api, place)
        self._begin = time.perf_counter()
        self._changes: list[Change] = []
        self._alive: dict[str, deque[str]] = {kind: deque() for kind in _KINDS}
        self._flying: set[asyncio.Task[bytes]] = set()
        self._refusals: list[str] = []
        self._serial = 0

    async def play(self) -> None:
        """Everything; raises Wrong. What was made is there still when it is cancelled."""
        await self._prepare()
        await self._watcher.start()
        self._begin = time.perf_counter()
        try:
            async with self._scraping():
                for kind, count in zip(_KINDS, (self._plan.reservations, self._plan.pods), strict=True):
                    await self._create(kind, count)
                if self._plan.churn and self._plan.seconds:
                    await self._churn()
                self._watcher.check()
                self._count()
                if not self._plan.keep:
                    for kind in _KINDS:
                        await self._delete(kind)
        finally:
            await self._watcher.stop()
            self._sum_up()

    async def settle(self) -> None:
        """Until what was sent has been answered: nothing is made any more after this."""
        if self._flying:
            await asyncio.wait(self._flying)

    # ---- before the first second

    async def _prepare(self) -> None:
        if self._plan.own_namespace:
            await self._api.send("POST", NAMESPACES, objects.namespace(self._place))
        if self._plan.own_subnet:
            await self._api.send("POST", SUBNETS, objects.subnet(self._place, self._plan.cidr))
        deadline = time.monotonic() + _READY_S
        while not await self._subnet_ready():
            if time.monotonic() > deadline:
                raise Wrong(f"Subnet {self._place.subnet} is not ready after {_READY_S:.0f} s: does keepip run?")
            await asyncio.sleep(0.2)

    async def _subnet_ready(self) -> bool:
        found = msgspec.json.decode(await self._api.send("GET", f"{SUBNETS}/{self._place.subnet}"))
        conditions: list[dict[str, Any]] = (found.get("status") or {}).get("conditions") or []
        states = {one["type"]: one for one in conditions}
        if states.get("Validated", {}).get("status") == "False":
            raise Wrong(f"Subnet {self._place.subnet}: {states['Validated'].get('message', '')}")
        return states.get("Ready", {}).get("status") == "True"

    # ---- phases

    async def _create(self, kind: str, count: int) -> None:
        names = self._names(kind, count)
        requests = objects.creations(self._place, kind, names)
        await self._phase(f"{kind} created", kind, requests, self._watcher.expect(), self._plan.rate or None)
        self._alive[kind].extend(names)

    async def _delete(self, kind: str) -> None:
        requests = objects.deletions(self._place, kind, self._alive[kind])
        await self._phase(f"{kind} deleted", _DELETIONS, requests, self._watcher.expect_gone(), None)
        self._alive[kind].clear()

    async def _phase(self, title: str, series: str, requests: list[Request], goal: Goal, rate: float | None) -> None:
        if not requests:
            return
        begin, mine = time.perf_counter(), {}

        async def send(one: Request) -> None:
            mine[one.seen_as] = await self._send(one, series, goal)

        async with self._shown(title, len(requests), goal):
            await play(requests, send, rate, self._plan.flight)
            await goal.wait()
        self._end(title, begin, mine, goal)

    async def _churn(self) -> None:
        """Creations and deletions in turn, so that there are always about as many; the oldest go first."""
        plan, begin = self._plan, time.perf_counter()
        made, gone = self._watcher.expect(), self._watcher.expect_gone()
        created: dict[str, Change] = {}
        deleted: dict[str, Change] = {}

        async def send(one: Request) -> None:
            deletes = one.method == "DELETE"
            goal, into = (gone, deleted) if deletes else (made, created)
            series = _DELETIONS if deletes else "reservations" if one.path == IPS else "pods"
            into[one.seen_as] = await self._send(one, series, goal)

        total = math.ceil(plan.churn * plan.seconds)
        async with self._shown(f"churn at {plan.churn:g}/s", total, made, gone):
            await play(self._changing(total, made), send, plan.churn)
            await made.wait()
            await gone.wait()
        title = f"churn at {plan.churn:g}/s"
        self._end(f"{title}: created", begin, created, made)
        self._end(f"{title}: deleted", begin, deleted, gone)

    def _changing(self, total: int, made: Goal) -> Iterator[Request]:
        kinds = [kind for kind in _KINDS if self._alive[kind]] or list(_KINDS)
        for number in range(total):
            kind = kinds[number // 2 % len(kinds)]
            alive = self._alive[kind]
            if number % 2 and alive and self._complete(kind, alive[0], made):
                yield objects.deletions(self._place, kind, [alive.popleft()])[0]
            else:
                names = self._names(kind, 1)
                alive.extend(names)
                yield objects.creations(self._place, kind, names)[0]

    def _complete(self, kind: str, name: str, made: Goal) -> bool:
        return (self._place.ip(name) if kind == "reservations" else name) not in made.open

    # ---- one change

    async def _send(self, one: Request, series: str, goal: Goal) -> Change:
        """Ask for it, and remember when. An answer is waited for also if nobody waits for it any more."""
        goal.add(one.seen_as)
        change = Change(series, time.perf_counter())
        self._changes.append(change)
        asked = asyncio.create_task(self._api.send(one.method, one.path, one.body))
        self._flying.add(asked)
        asked.add_done_callback(self._flying.discard)
        try:
            await asyncio.shield(asked)
        except Refused as refused:
            goal.drop(one.seen_as)
            self._refusals.append(str(refused))
        return change

    def _end(self, title: str, begin: float, changes: dict[str, Change], goal: Goal) -> None:
        for name, change in changes.items():
            change.done = goal.done.get(name)
        one = results.phase(title, begin, list(changes.values()), self._begin)
        self.result.phases.append(one)
        self._show.phase(one)

    def _names(self, kind: str, count: int) -> list[str]:
        """Never the same twice."""
        first = self._serial
        self._serial += count
        return [f"{kind[:3]}-{number:06}" for number in range(first, first + count)]

    # ---- beside the phases

    @asynccontextmanager
    async def _shown(self, title: str, total: int, *goals: Goal) -> AsyncIterator[None]:
        with self._show.bar(title, total) as advance:

            async def tick() -> None:
                while True:
                    advance(sum(len(goal.done) for goal in goals))
                    await asyncio.sleep(_TICK_S)

            ticking = asyncio.create_task(tick())
            try:
                yield
            finally:
                ticking.cancel()

    @asynccontextmanager
    async def _scraping(self) -> AsyncIterator[None]:
        async def follow() -> None:
            while True:
                due = time.perf_counter() + 1.0
                await self._scraper.look(self._begin)
                await asyncio.sleep(max(0.1, due - time.perf_counter()))

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _count(self) -> None:
        facts = self.result.facts
        facts["there before the deletion"] = f"{len(self._watcher.ips):,} IPs, {len(self._watcher.pods):,} pods"
        facts["addresses given twice"] = "0"  # or check() would have raised

    def _sum_up(self) -> None:
        result = self.result
        result.bins = results.bins(self._changes, self._begin)
        result.readings = list(self._scraper.readings)
        result.facts["requests refused"] = f"{len(self._refusals)}" + "".join(f"; {one}" for one in self._refusals[:3])
        result.facts["throttled by the server"] = f"{self._api.throttled}"
        result.facts["load average at the end"] = f"{os.getloadavg()[0]:.1f}"
        if peak := max((one.rss for one in result.readings if one.rss is not None), default=0.0):
            result.facts["controller's memory, highest"] = f"{peak:.0f} MB"
