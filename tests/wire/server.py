"""An HTTP server that misbehaves as told: raw streams, so that it can lie about lengths, fall silent and reset."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Listens on a free port of 127.0.0.1; `behaviour` may be changed at any time."""

    behaviour: Behaviour
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.sleep(0.01)  # asyncio loses a connection that is being accepted when the server is closed
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def kubeconfig(self, folder: Path, bearer: str = "secret") -> Path:
        """Write a kubeconfig that leads here."""
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "u", "user": {"token": bearer}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "c",
                }
            )
        )
        return path

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing() and (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                await self.behaviour(asked, writer)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    where = urlsplit(target)
    return Asked(method, where.path, dict(parse_qsl(where.query)), headers, body)


def head(code: int, *lines: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {code} Whatever", *lines, "", "")).encode()


def answer(code: int, body: bytes | dict[str, Any], *lines: str) -> Behaviour:
    """Always answer this."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def behave(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(code, f"Content-Length: {len(data)}", *lines) + data)

    return behave


def status(code: int, reason: str, message: str = "because", **details: Any) -> Behaviour:
    """Always answer this metav1.Status."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return answer(code, body | ({"details": details} if details else {}))


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def stream(*chunks: bytes, end: str = "proper") -> Behaviour:
    """Answer a watch with these chunks and then: end properly, cut, reset, or fall silent."""

    async def behave(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "Transfer-Encoding: chunked"))
        for data in chunks:
            writer.write(chunk(data))
            await writer.drain()
        if end == "proper":
            writer.write(b"0\r\n\r\n")
        elif end == "cut":
            writer.close()
        elif end == "reset":
            await asyncio.sleep(0.02)
            writer.transport.abort()
        else:
            await asyncio.Event().wait()

    return behave
