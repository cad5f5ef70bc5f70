"""Creates and deletes, at once or at a rate, and watches what becomes of it: all times are the generator's own."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from controller.core import naming
from controller.core.objects import FINALIZER
from tests.load import bodies
from tests.load.api import IPS, Api, News, Seen

FLIGHT = 32
_STUCK_S = 40.0
_ROUTED = naming.PREFIX + "routed"
_ADDRESS = naming.PREFIX + "ip_address"


class Wrong(Exception):
    """The subject did something that no load excuses."""


@dataclass
class Goal:
    """Names that shall come true, and when each did."""

    open: set[str]
    done: dict[str, float] = field(default_factory=dict)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def hit(self, name: str, at: float) -> None:
        if name in self.open:
            self.open.discard(name)
            self.done[name] = at
            if not self.open:
                self.reached.set()

    async def wait(self) -> None:
        """Until all are done; raises Wrong when nothing happens for long."""
        while self.open:
            before = len(self.open)
            try:
                async with asyncio.timeout(_STUCK_S):
                    await self.reached.wait()
            except TimeoutError:
                if len(self.open) == before:
                    some = ", ".join(sorted(self.open)[:5])
                    raise Wrong(f"{before} objects never completed, among them {some}") from None


@dataclass(frozen=True)
class Times:
    """Seconds."""

    wall: float
    p50: float
    p99: float


class Watcher:
    """What the API server shows, as a user's own watch sees it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.ips: dict[str, str] = {}  # name -> address
        self.pods: dict[str, str] = {}
        self.last = time.perf_counter()
        self.events = 0
        self._complete = Goal(set())
        self._gone = Goal(set())
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for path, see in ((IPS, self._see_ip), (bodies.PODS, self._see_pod)):
            objects, version = await self._api.everything(path)
            for one in objects:
                see(News("ADDED", one), 0.0)
            self._tasks.append(asyncio.create_task(self._follow(path, version, see)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def expect(self, names: Iterable[str]) -> Goal:
        """The goal that these IPs or pods are complete."""
        self._complete = Goal(set(names))
        return self._complete

    def expect_gone(self, names: Iterable[str]) -> Goal:
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
        """Raise Wrong if an address has two owners, or a pod runs with another than its IP says."""
        owners: dict[str, str] = {}
        for name, address in self.ips.items():
            if address and address in owners:
                raise Wrong(f"{address} belongs to {owners[address]} and to {name}")
            owners[address] = name
        for name, address in self.pods.items():
            if address and self.ips.get(bodies.port(name)) != address:
                raise Wrong(f"pod {name} has {address}, its IP {self.ips.get(bodies.port(name))}")

    async def _follow(self, path: str, version: str, see: Callable[[News, float], None]) -> None:
        async for news in self._api.watch(path, version):
            self.last = now = time.perf_counter()
            self.events += len(news)
            for one in news:
                see(one, now)

    def _see_ip(self, news: News, now: float) -> None:
        meta = news.object.metadata
        if news.type == "DELETED":
            self.ips.pop(meta.name, None)
            self._gone.hit(meta.name, now)
            return
        address = news.object.spec.v4_ip_address or ""
        self.ips[meta.name] = address
        if address and FINALIZER in (meta.finalizers or ()):
            self._complete.hit(meta.name, now)

    def _see_pod(self, news: News, now: float) -> None:
        meta = news.object.metadata
        if news.type == "DELETED":
            self.pods.pop(meta.name, None)
            return
        notes = meta.annotations or {}
        self.pods[meta.name] = notes.get(_ADDRESS, "")
        if notes.get(_ROUTED) == "true" and notes.get(_ADDRESS):
            self._complete.hit(meta.name, now)


@dataclass(frozen=True)
class Request:
    """One request of the load, and the name by which its effect is seen."""

    seen_as: str
    method: str
    path: str
    body: Any


def creations(kind: str, names: Iterable[str]) -> list[Request]:
    if kind == "reservations":
        return [Request(bodies.port(n), "POST", IPS, bodies.reservation(n)) for n in names]
    return [Request(n, "POST", bodies.PODS, bodies.pod(n)) for n in names]


def deletions(kind: str, names: Iterable[str]) -> list[Request]:
    """An IP, or a pod, by its user; both are over when the IP object is gone."""
    if kind == "reservations":
        return [Request(bodies.port(n), "DELETE", f"{IPS}/{bodies.port(n)}", None) for n in names]
    now = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    return [Request(bodies.port(n), "DELETE", f"{bodies.PODS}/{n}", now) for n in names]


async def play(api: Api, requests: list[Request], goal: Goal, rate: float | None = None) -> Times:
    """Send them all, 32 at once or so many a second, and wait for what they bring about."""
    sent: dict[str, float] = {}

    async def send(one: Request) -> None:
        sent[one.seen_as] = time.perf_counter()
        await api.send(one.method, one.path, one.body)

    begin = time.perf_counter()
    if rate is None:
        await at_once(requests, send)
    else:
        async with asyncio.TaskGroup() as group:
            for number, one in enumerate(requests):
                await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
                group.create_task(send(one))
    await goal.wait()
    waits = sorted(goal.done[name] - at for name, at in sent.items())
    return Times(max(goal.done.values()) - begin, _part(waits, 0.5), _part(waits, 0.99))


async def at_once(
    items: Iterable[Any], send: Callable[[Any], Coroutine[Any, Any, object]], flight: int = FLIGHT
) -> None:
    """With so many under way."""
    rest = iter(items)

    async def work() -> None:
        for one in rest:
            await send(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(flight):
            group.create_task(work())


def _part(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


async def fill(api: Api, northbound: Any, count: int) -> None:
    """A cluster that has been at work: so many reservations, and pods with their ports and IPs, written directly."""

    async def load(number: int) -> None:
        await api.send("POST", IPS, bodies.granted(f"held-{number:05}", 16 * 256 + number))
        name = f"base-{number:05}"
        whole = bodies.pod(name)
        whole["metadata"]["annotations"] = bodies.notes(48 * 256 + number)
        made = await api.send("POST", bodies.PODS, whole)
        uid = _uid(made)
        await api.send("POST", IPS, bodies.pod_ip(name, 48 * 256 + number))
        await northbound.insert(bodies.row(name, uid, 48 * 256 + number))

    await at_once(range(count), load, flight=64)


def _uid(body: bytes) -> str:
    import msgspec  # noqa: PLC0415 - only here

    return msgspec.json.decode(body, type=Seen).metadata.uid
