"""What becomes of what was asked for, as a user's own watch shows it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from controller.core import naming
from controller.core.objects import FINALIZER
from controller.load.client import IPS, News

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.load.client import Api
    from controller.load.objects import Place

STUCK_S: Final = 40.0
_ROUTED: Final = naming.PREFIX + "routed"
_ADDRESS: Final = naming.PREFIX + "ip_address"


class Wrong(Exception):
    """Something happened that no load excuses."""


@dataclass
class Goal:
    """Names that shall come true, and when each did."""

    open: set[str]
    done: dict[str, float] = field(default_factory=dict)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, name: str) -> None:
        """One more."""
        self.open.add(name)
        self.reached.clear()

    def drop(self, name: str) -> None:
        """That one will not come true."""
        self.open.discard(name)
        if not self.open:
            self.reached.set()

    def hit(self, name: str, at: float) -> None:
        """This has been seen."""
        if name in self.open:
            self.done[name] = at
            self.drop(name)

    async def wait(self) -> None:
        """Until all are done; raises Wrong when nothing happens for long."""
        while self.open:
            before = len(self.open)
            try:
                async with asyncio.timeout(STUCK_S):
                    await self.reached.wait()
            except TimeoutError:
                if len(self.open) == before:
                    some = ", ".join(sorted(self.open)[:5])
                    raise Wrong(f"{before} objects never completed, among them {some}") from None


class Watcher:
    """The IPs and pods of one namespace."""

    def __init__(self, api: Api, place: Place) -> None:
        self._api, self._place = api, place
        self.ips: dict[str, str] = {}  # name -> addresses, with commas
        self.pods: dict[str, str] = {}
        self.last = time.perf_counter()
        self.events = 0
        self._complete = Goal(set())
        self._gone = Goal(set())
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read everything, and follow it."""
        for path, see in ((IPS, self._see_ip), (self._place.pods, self._see_pod)):
            objects, version = await self._api.everything(path)
            for one in objects:
                see(News("ADDED", one), 0.0)
            self._tasks.append(asyncio.create_task(self._follow(path, version, see)))

    async def stop(self) -> None:
        """Follow it no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def expect(self, names: Iterable[str] = ()) -> Goal:
        """The goal that these IPs or pods are complete."""
        self._complete = Goal(set(names))
        return self._complete

    def expect_gone(self, names: Iterable[str] = ()) -> Goal:
        """The goal that these IPs are no more."""
        self._gone = Goal(set(names))
        return self._gone

    async def quiet(self, seconds: float = 0.8, limit: float = 120.0) -> None:
        """Until nothing has changed for that long, from now on."""
        begin = time.perf_counter()
        while (now := time.perf_counter()) - max(self.last, begin) < seconds:
            if now > begin + limit:
                raise Wrong(f"objects are still being written {limit:.0f} s after all was done")
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raise Wrong if an address has two owners, a pod another than its IP says, or a watch has ended."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                raise Wrong(f"a watch has ended: {task.exception()}")
        owners: dict[str, str] = {}
        for name, addresses in self.ips.items():
            for address in filter(None, addresses.split(",")):
                if address in owners:
                    raise Wrong(f"{address} belongs to {owners[address]} and to {name}")
                owners[address] = name
        for name, address in self.pods.items():
            if address and self.ips.get(self._place.ip(name)) != address:
                raise Wrong(f"pod {name} has {address}, its IP {self.ips.get(self._place.ip(name))}")

    async def _follow(self, path: str, version: str, see: Callable[[News, float], None]) -> None:
        async for news in self._api.watch(path, version):
            now = time.perf_counter()
            for one in news:
                see(one, now)

    def _saw(self, now: float) -> None:
        self.last = now
        self.events += 1

    def _see_ip(self, news: News, now: float) -> None:
        meta, spec = news.object.metadata, news.object.spec
        if spec.namespace != self._place.namespace:
            return
        self._saw(now)
        if news.type == "DELETED":
            self.ips.pop(meta.name, None)
            self._gone.hit(meta.name, now)
            return
        address = spec.ip_address or ""
        self.ips[meta.name] = address
        if address and FINALIZER in (meta.finalizers or ()):
            self._complete.hit(meta.name, now)

    def _see_pod(self, news: News, now: float) -> None:
        self._saw(now)
        meta = news.object.metadata
        if news.type == "DELETED":
            self.pods.pop(meta.name, None)
            return
        notes = meta.annotations or {}
        self.pods[meta.name] = notes.get(_ADDRESS, "")
        if notes.get(_ROUTED) == "true" and notes.get(_ADDRESS):
            self._complete.hit(meta.name, now)
