"""A proxy in front of the API server that does what networks and servers do to requests, answers and watches."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.cluster.cluster import Cluster

_HOP = frozenset({"connection", "content-length", "transfer-encoding", "host"})
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Asked:
    """One request as it came, and what the client was told: 0 for nothing."""

    method: str
    path: str
    watch: bool
    what: str  # whom it is about: the same for each try
    at: float = field(default_factory=time.monotonic)
    code: int = 0
    told_at: float = 0.0

    @property
    def writes(self) -> bool:
        """True if it may change something."""
        return self.method != "GET"


class Fault:
    """What goes wrong: nothing, unless one of these says otherwise. It may be used by many threads at once."""

    def ask(self, line: Line) -> None:
        """A request has come."""
        line.tell(line.forward())

    def event(self, line: Line, event: bytes) -> None:
        """A line of a watch has come, also of one that began before this fault."""
        line.send(event)


class Deaf(Fault):
    """Loses the answers to requests of your choice: done, and nobody knows."""

    def __init__(self) -> None:
        self.wanted: list[tuple[str, str]] = []

    def lose(self, method: str, path: str) -> None:
        """Lose the answer to the next request of that method below that path; a refusal is told."""
        self.wanted.append((method, path))

    def ask(self, line: Line) -> None:
        """See Fault."""
        answer = line.forward()
        hit = [one for one in self.wanted if line.asked.method == one[0] and line.asked.path.startswith(one[1])]
        if hit and answer.status < 300:
            self.wanted.remove(hit[0])
            line.reset()
        line.tell(answer)


class Loses(Fault):
    """Every write is done, and its answer lost."""

    def ask(self, line: Line) -> None:
        """See Fault."""
        answer = line.forward()
        if line.asked.writes and answer.status < 300:
            line.reset()
        line.tell(answer)


class Drops(Fault):
    """No request reaches the server: the connection is reset."""

    def ask(self, line: Line) -> None:
        """See Fault."""
        line.reset()


class Swallows(Fault):
    """Whatever comes is acknowledged by TCP, and nothing is ever answered."""

    def ask(self, line: Line) -> None:
        """See Fault."""
        line.silent()


class Answers(Fault):
    """Something else than the server answers, with these codes in turn; 0 lets one through."""

    def __init__(self, *codes: int, retry_after: int = 0) -> None:
        self._codes, self._retry_after = cycle(codes), retry_after

    def ask(self, line: Line) -> None:
        """See Fault."""
        code = next(self._codes)
        if code:
            line.refuse(code, self._retry_after)
        else:
            super().ask(line)


class Expires(Fault):
    """No version can be watched from: told in the answer's code and in the stream, in turn."""

    def __init__(self) -> None:
        self._ways = cycle((True, False))

    def ask(self, line: Line) -> None:
        """See Fault."""
        if not line.asked.watch:
            super().ask(line)
        elif next(self._ways):
            line.refuse(410)
        else:
            line.begin()
            self.event(line, b"")

    def event(self, line: Line, event: bytes) -> None:  # noqa: ARG002 - whatever it was, it is not told
        """See Fault."""
        line.send(json.dumps({"type": "ERROR", "object": _status(410, 0)}).encode() + b"\n")
        line.end()


class Tears(Fault):
    """Every third line of a watch ends in its middle, and so does the connection."""

    def __init__(self) -> None:
        self._whole = cycle((True, True, False))

    def event(self, line: Line, event: bytes) -> None:
        """See Fault."""
        if next(self._whole):
            line.send(event)
            return
        line.send(event[: len(event) // 2])
        line.reset()


class Delays(Fault):
    """What a watch tells comes up to so many seconds late, and then all at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def event(self, line: Line, event: bytes) -> None:
        """See Fault."""
        if time.monotonic() > line.rested_at + 0.1:
            time.sleep(self._seconds)
            line.rested_at = time.monotonic()
        line.send(event)


class Withholds(Fault):
    """Of one path, what watches tell that began before this never arrives, and that of others a second late."""

    def __init__(self, path: str) -> None:
        self._path, self._began = path, time.monotonic()

    def event(self, line: Line, event: bytes) -> None:
        """See Fault."""
        if line.asked.path == self._path:
            if line.asked.at < self._began:
                return
            if line.rested_at < self._began:
                time.sleep(1.0)
                line.rested_at = time.monotonic()
        line.send(event)


class Proxy(ThreadingHTTPServer):
    """Listens without TLS on a port of 127.0.0.1; used in a `with` block. `asked` has all requests since cleared."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, cluster: Cluster, token: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Line)
        self.target = urlsplit(cluster.server).netloc
        self.tls = ssl.create_default_context(cafile=str(cluster.ca))
        self.fault = Fault()
        self.asked: list[Asked] = []
        self.lines: set[Line] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._ours = json.loads(cluster.controller_kubeconfig().read_text())
        self._ours["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.server_port}"}
        self.kubeconfig: Path = cluster.folder / "proxied.kubeconfig"
        self.present(token or self._ours["users"][0]["user"]["token"])

    def present(self, token: str) -> None:
        """Have this token in the kubeconfig from now on."""
        self._ours["users"][0]["user"]["token"] = token
        fresh = self.kubeconfig.with_suffix(".fresh")
        fresh.write_text(json.dumps(self._ours))
        fresh.replace(self.kubeconfig)

    @contextlib.contextmanager
    def under(self, fault: Fault) -> Iterator[None]:
        """While inside, this goes wrong; running watches go on until something comes for them."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = Fault()

    def cut(self) -> None:
        """End every connection there is."""
        for line in tuple(self.lines):
            line.end_far()
            _hang_up(line.connection)

    def freeze(self) -> None:
        """No byte flows any more on the connections there are, and neither end hears that."""
        for line in tuple(self.lines):
            line.dead = True
            line.end_far()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.cut()


class _Over(Exception):
    """Nothing more is said on this connection."""


class Line(BaseHTTPRequestHandler):
    """One connection of the client's, with one of its own to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy
    asked: Asked

    def setup(self) -> None:
        """Make ready; the far end is dialled when there is something to say."""
        super().setup()
        self.dead = False
        self.rested_at = 0.0
        self._far = http.client.HTTPSConnection(self.server.target, context=self.server.tls)
        self._body = b""
        self.server.lines.add(self)

    def handle(self) -> None:
        """Carry requests until either side has gone."""
        with contextlib.suppress(OSError, _Over):
            super().handle()

    def finish(self) -> None:
        """Let both ends go."""
        self.server.lines.discard(self)
        self._far.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Say nothing: `asked` has it."""

    # -- what faults do ------------------------------------------------------------------------------

    def forward(self) -> http.client.HTTPResponse:
        """Send the request on, and wait for the answer."""
        kept = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
        self._far.request(self.command, self.path, self._body or None, kept)
        return self._far.getresponse()

    def tell(self, answer: http.client.HTTPResponse) -> None:
        """Pass the answer on, a watch as long as it lasts."""
        self._told(answer.status)
        if self.asked.watch and answer.status == 200:
            self.begin()
            rest = b""
            while some := answer.read1(65536):
                *events, rest = (rest + some).split(b"\n")
                for event in events:
                    if event.startswith(b'{"type":"ERROR"'):
                        self.asked.code = json.loads(event)["object"]["code"]
                    self.server.fault.event(self, event + b"\n")
            self.end()
        body = answer.read()
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in _HOP:
                self.send_header(key, value)
        self._finish(body)

    def refuse(self, code: int, retry_after: int = 0) -> None:
        """Answer this, as the API server does, or for 502 as others do."""
        self._told(code)
        self.send_response_only(code)
        if retry_after:
            self.send_header("Retry-After", str(retry_after))
        page = b"<html><body>Bad Gateway</body></html>"
        self._finish(page if code == 502 else json.dumps(_status(code, retry_after)).encode())

    def begin(self) -> None:
        """Begin to answer a watch."""
        self._told(200)
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, event: bytes) -> None:
        """Tell a line of a watch, or a part of one; not on a connection on which no byte flows."""
        if self.dead:
            self.silent()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end(self) -> None:
        """End a watch, and its connection: that to the server may still be in the middle of it."""
        self.wfile.write(b"0\r\n\r\n")
        raise _Over

    def reset(self) -> None:
        """End the connection without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        raise _Over

    def silent(self) -> None:
        """Take in what comes, and say nothing, until the client has gone."""
        while self.connection.recv(65536):
            pass
        raise _Over

    def end_far(self) -> None:
        """Let the server go."""
        if self._far.sock is not None:
            _hang_up(self._far.sock)

    # -- HTTP ----------------------------------------------------------------------------------------

    def _carry(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        where = urlsplit(self.path)
        self.asked = Asked(self.command, where.path, "watch=1" in where.query, self._what(where.path))
        self.server.asked.append(self.asked)
        if self.dead:
            self.silent()
        try:
            self.server.fault.ask(self)
        except (OSError, http.client.HTTPException):  # one side has gone: so does the other
            self.asked.code = 0
            if self.dead:
                self.silent()
            self.reset()

    def _what(self, path: str) -> str:
        if self.command != "POST":
            return f"{self.command} {path}" + (" watch" if "watch=1" in self.path else "")
        return f"POST {path}/{json.loads(self._body)['metadata']['name']}"

    def _told(self, code: int) -> None:
        self.asked.code, self.asked.told_at = code, time.monotonic()

    def _finish(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _carry  # noqa: N815 - the library's names


def _status(code: int, retry_after: int) -> dict[str, Any]:
    made = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "a fault of the test"}
    return made | ({"details": {"retryAfterSeconds": retry_after}} if retry_after else {})


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


__all__ = [
    "Answers",
    "Asked",
    "Deaf",
    "Delays",
    "Drops",
    "Expires",
    "Fault",
    "Line",
    "Loses",
    "Proxy",
    "Swallows",
    "Tears",
    "Withholds",
]
