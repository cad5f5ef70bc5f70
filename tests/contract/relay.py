"""A TCP relay that can be cut: the only way to lose a connection to a server that is well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self


class _End(asyncio.Protocol):
    """One end of one relayed connection; what it hears goes to the other end."""

    def __init__(self, relay: Relay, other: _End | None = None) -> None:
        self._relay = relay
        self.other = other
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._relay.ends.add(self)
        if self.other is None:
            transport.pause_reading()
            self._relay.dial(self)
        else:
            self.other.other = self
            if self.other.transport is not None:
                self.other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        self._relay.ends.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


class Relay:
    """Listens on a port of 127.0.0.1 and carries bytes to a target: (host, port) or "tcp:host:port"."""

    def __init__(self, target: tuple[str, int] | str) -> None:
        if isinstance(target, str):
            _, host, port = target.split(":")
            target = host, int(port)
        self._target = target
        self._server: asyncio.Server | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self.ends: set[_End] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._silence()

    @contextlib.asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """While inside, every connection is closed and new ones are refused."""
        await self._silence()
        try:
            yield
        finally:
            await self._listen()

    def dial(self, near: _End) -> None:
        """Connect a new client to the target."""
        task = asyncio.create_task(self._dial(near))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, near: _End) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _End(self, near), *self._target)
        except OSError:
            if near.transport is not None:
                near.transport.abort()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _silence(self) -> None:
        # asyncio loses a connection that is between accept() and its transport when the server is closed.
        for _ in range(10):
            await asyncio.sleep(0)
        if self._server is not None:
            self._server.close()
        while self.ends or self._dials:
            for end in self.ends:
                if end.transport is not None:
                    end.transport.abort()
            await asyncio.sleep(0.001)
