"""What a law is, what it may do to a world besides using its ports, and the followers that laws look through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeAlias, TypeVar

from controller.core.effects import Body
from controller.core.objects import Kind
from controller.core.rows import AddressSetRow, PortRow, SwitchRow
from controller.ports import Change, Fence, Kube, Northbound, PortError, World

T = TypeVar("T")
PATIENCE = 30.0


class Poke(Protocol):
    """The hand of somebody else: other clients, the network, the passing of time."""

    def name(self, stem: str) -> str:
        """A name that no other law uses."""
        ...

    def kube_gap(self) -> AbstractAsyncContextManager[None]:
        """While inside, nobody who uses the world's ports reaches the API server, and open watches are cut."""
        ...

    def northbound_gap(self) -> AbstractAsyncContextManager[None]:
        """While inside, nobody who uses the world's ports reaches Northbound, and the connection is cut."""
        ...

    async def create(self, kind: Kind, namespace: str, name: str, body: Body) -> None:
        """Create an object as somebody else, in a gap too."""
        ...

    async def serve_nads(self) -> None:
        """Install the CRD of NetworkAttachmentDefinition."""
        ...

    async def drop_port(self, name: str) -> None:
        """Remove a port as somebody else, in a gap too."""
        ...

    async def relabel_port(self, name: str, external_ids: Mapping[str, str]) -> None:
        """Overwrite a port's external ids as somebody else, leaving it where it is."""
        ...

    async def put_fence(self, fence: Fence | None) -> None:
        """Make Northbound's fence say that as somebody else; None takes it away."""
        ...

    async def forgotten(self) -> int:
        """A version so old that no watch can start from it any more."""
        ...


Law: TypeAlias = Callable[[World, Poke], Awaitable[None]]


class Laws(list[Law]):
    """The laws of one port: a decorator that collects."""

    def __call__(self, law: Law) -> Law:
        self.append(law)
        return law


async def within(awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
    """Fail instead of hanging."""
    async with asyncio.timeout(seconds):
        return await awaitable


class Watched:
    """Every change of a kind since a version, as one watch tells it."""

    def __init__(self, kube: Kube, kind: Kind, version: int) -> None:
        self._batches = kube.watch(kind, version)
        self._news = asyncio.Event()
        self.changes: list[Change] = []
        self.end: PortError | None = None
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            async for batch in self._batches:
                assert batch, "a batch is never empty"
                self.changes += batch
                self._news.set()
        except PortError as error:
            self.end = error
        finally:
            self._news.set()

    @property
    def version(self) -> int:
        return self.changes[-1].version if self.changes else 0

    def of(self, name: str) -> list[Change]:
        """The changes of the object of that name."""
        return [c for c in self.changes if c.object is not None and c.object.metadata.name == name]

    async def until(self, seen: Callable[[Watched], bool]) -> None:
        """Wait until the changes so far satisfy this."""

        async def look() -> None:
            while not seen(self):
                assert not self._task.done(), f"the watch ended: {self.end!r}"
                self._news.clear()
                await self._news.wait()

        await within(look())

    async def ended(self) -> PortError | None:
        """Wait for its end, and say how."""
        await within(asyncio.wait({self._task}))
        return self.end

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


@contextlib.asynccontextmanager
async def watching(kube: Kube, kind: Kind, version: int) -> AsyncIterator[Watched]:
    """A watch that ends with its block."""
    watched = Watched(kube, kind, version)
    try:
        yield watched
    finally:
        await watched.stop()


class Mirror:
    """Northbound as its reader sees it; breaks when a Rows breaks a law."""

    def __init__(self, northbound: Northbound) -> None:
        self._rows = northbound.rows()
        self._news = asyncio.Event()
        self.ports: dict[str, PortRow] = {}
        self.switches: dict[str, SwitchRow] = {}
        self.sets: dict[str, AddressSetRow] = {}
        self.seq = self.epoch = 0
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            async for rows in self._rows:
                assert rows.seq > self.seq, "seq grows with every Rows"
                assert rows.whole == (rows.epoch > self.epoch), "epoch grows with every whole one, and with no other"
                if rows.whole:
                    self.ports.clear()
                    self.switches.clear()
                    self.sets.clear()
                    assert None not in rows.ports.values(), "a whole Rows tells only what there is"
                for name, port in rows.ports.items():
                    assert port is None or port.name == name
                    self.ports.pop(name, None)
                    self.ports |= {name: port} if port else {}
                for name, switch in rows.switches.items():
                    self.switches.pop(name, None)
                    self.switches |= {name: switch} if switch else {}
                for name, found in rows.sets.items():
                    assert found is None or found.name == name
                    self.sets.pop(name, None)
                    self.sets |= {name: found} if found else {}
                self.seq, self.epoch = rows.seq, rows.epoch
                self._news.set()
        finally:
            self._news.set()

    async def until(self, seen: Callable[[Mirror], bool]) -> None:
        """Wait until what is shown satisfies this."""

        async def look() -> None:
            while not seen(self):
                if self._task.done():
                    self._task.result()
                    raise AssertionError("rows() ended")
                self._news.clear()
                await self._news.wait()

        await within(look())

    async def shows(self, seq: int) -> Mirror:
        """Wait for a Rows that shows the commit of that answer."""
        await self.until(lambda mirror: mirror.seq >= seq)
        return self

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


@contextlib.asynccontextmanager
async def mirror(northbound: Northbound) -> AsyncIterator[Mirror]:
    """A reader that ends with its block, and has seen everything at its start."""
    reader = Mirror(northbound)
    try:
        await reader.until(lambda m: m.epoch > 0)
        yield reader
    finally:
        await reader.stop()
