"""The API server as one process sees it through the network: `ports.Kube` over a Store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from controller.core.objects import Kind
from controller.ports import Change, Kube, Page, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from controller.core.effects import Body
    from controller.core.objects import Object
    from tests.sim.network import Network, Process
    from tests.sim.store import Store

T = TypeVar("T")

SERVER: Final = "the API server"
BOOKMARK_EVERY: Final = 60.0
BRIEF: Final = 3.0
BRIEF_MARGIN: Final = 2.0
LAST_BOOKMARK: Final = 2.0  # seconds before the end of a watch
HALF_OPEN_UNTIL: Final = 40.0


@dataclass(frozen=True, slots=True)
class Request:
    """A write that was sent, answered or not: what the checkers count."""

    at: float
    by: str
    verb: str
    kind: str
    name: tuple[str, str]
    body: Any = None


@dataclass
class Traffic:
    """Everything that was asked of a server, told to `witness` at the moment of sending."""

    witness: list[Callable[[Request], None]] = field(default_factory=list)

    def sent(self, verb: str, process: Process, kind: str, name: tuple[str, str], body: Any = None) -> None:
        """Note one request."""
        request = Request(asyncio.get_running_loop().time(), process.name, verb, kind, name, body)
        for look in self.witness:
            look(request)


class SimKube(Kube):
    """One process's client of the API server."""

    def __init__(self, store: Store, network: Network, process: Process, traffic: Traffic, page: int) -> None:
        self._store, self._network, self._process, self._traffic = store, network, process, traffic
        self._page = page

    async def _call(self, act: Callable[[], T]) -> T:
        return await self._network.call(self._process, SERVER, act)

    async def list(self, kind: Kind, token: str = "") -> Page:
        """A consistent list in pages."""
        self._traffic.sent("list", self._process, kind, ("", ""))

        def act() -> Page:
            self._store.must_serve(kind)
            if token:
                objects, version = self._store.rest(token)
            else:
                objects, version = self._store.snapshot(kind), self._store.version
            rest = objects[self._page :]
            if not rest:
                return Page(objects, version, "")
            more = self._store.keep(rest)  # the token carries the version of the first page
            return Page(objects[: self._page], version, f"{version}/{more.partition('/')[2]}")

        return await self._call(act)

    async def latest(self, kind: Kind) -> int:
        """The version of the kind at some moment between question and answer."""
        self._traffic.sent("latest", self._process, kind, ("", ""))

        def act() -> int:
            self._store.must_serve(kind)
            return self._store.version

        return await self._call(act)

    async def watch(self, kind: Kind, version: int, *, brief: bool = False) -> AsyncIterator[tuple[Change, ...]]:
        """Every change after that version, in batches, until the server or the network ends it."""
        self._traffic.sent("watch", self._process, kind, ("", ""))

        def begin() -> None:
            self._store.must_serve(kind)
            self._store.since(kind, version)

        await self._call(begin)
        stream = _Stream(self._store, self._network, self._process, kind, version, brief=brief)
        async for batch in stream.batches():
            yield batch

    async def read(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object as it is at some moment between question and answer."""
        self._traffic.sent("read", self._process, kind, (namespace, name))

        def act() -> Object | None:
            if kind not in self._store.served:
                raise Unavailable(f"the server does not know the kind {kind}", unknown=False)
            return self._store.views[kind].get((namespace, name))

        return await self._call(act)

    async def create(self, kind: Kind, namespace: str, name: str, body: Body) -> int:
        """Create it unless the name is taken."""
        self._traffic.sent("create", self._process, kind, (namespace, name), body)
        by = self._process.name
        return await self._call(lambda: self._store.create(kind, namespace, name, body, by))

    async def patch(self, kind: Kind, namespace: str, name: str, body: Body, subresource: str = "") -> int:
        """Merge-patch it if the preconditions in the body hold."""
        verb = "patch " + subresource if subresource else "patch"
        self._traffic.sent(verb, self._process, kind, (namespace, name), body)
        by = self._process.name
        return await self._call(lambda: self._store.patch(kind, namespace, name, body, by, subresource))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, seen: str = "") -> int:
        """Delete it if it still has that uid, and that version if one is given."""
        self._traffic.sent("delete", self._process, kind, (namespace, name), uid)
        by = self._process.name
        return await self._call(lambda: self._store.delete(kind, namespace, name, uid, by, seen=seen))

    async def report(self, body: Body) -> None:
        """Create an Event; it is not kept."""
        about = body.get("involvedObject") or {}
        name = (about.get("namespace", ""), about.get("name", ""))
        self._traffic.sent("report", self._process, "Event", name, body)
        await self._call(lambda: None)


class _Stream:
    """One watch that is open."""

    def __init__(
        self, store: Store, network: Network, process: Process, kind: Kind, version: int, *, brief: bool
    ) -> None:
        self._store, self._network, self._process = store, network, process
        self._kind, self._version = kind, version
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + (BRIEF if brief else network.rng.uniform(300, 600))
        self._half_open = BRIEF + BRIEF_MARGIN if brief else HALF_OPEN_UNTIL
        self._old = brief and network.chance(network.faults.old_bookmark)

    async def batches(self) -> AsyncIterator[tuple[Change, ...]]:
        """Changes as they arrive, a bookmark a minute and before the end, at the server's time limit."""
        faults, network = self._network.faults, self._network
        while self._loop.time() < self._ends:
            if not self._store.since(self._kind, self._version):
                await self._growth()
            await network.pause(self._process, network.delay())
            if network.away(SERVER) or network.chance(faults.cut_watch):
                raise Unavailable("the watch was cut")
            if network.chance(faults.half_open):
                await asyncio.sleep(network.rng.uniform(1, self._half_open))
                raise Unavailable("the watch was silent for too long")
            batch = self._take()
            self._version = batch[-1].version
            yield batch

    def _take(self) -> tuple[Change, ...]:
        news = self._store.since(self._kind, self._version)
        if not news:
            return (Change(self._version if self._old else self._store.version),)
        some = news[: self._network.rng.randint(1, len(news))] if len(news) > 1 else news
        return tuple(Change(c.version, c.view, deleted=c.new is None) for c in some)

    async def _growth(self) -> None:
        left = self._ends - self._loop.time()
        wait = min(BOOKMARK_EVERY, max(0.0, left - LAST_BOOKMARK if left > LAST_BOOKMARK else left))
        try:
            async with asyncio.timeout(wait):
                await self._store.grew(self._kind).wait()
        except TimeoutError:
            return
