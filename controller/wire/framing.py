"""JSON-RPC over an ovs stream at C speed: frames cut by one regular expression, bodies read and written by orjson.

ovs 4.0.0 as pip installs it parses JSON in Python: 20 s for 50k ports, in which a server drops the client for not
answering its probe, for ever (tech.md 3, pitfall 11). Its `Connection.run` also cuts text by the number of bytes
sent, which corrupts non-ASCII output (pitfall 8): here the output is bytes.
"""

from __future__ import annotations

import contextlib
import errno
import re
from typing import Any, Final, Literal

import msgspec
import orjson
from ovs import jsonrpc

_READ: Final = 256 * 1024
_WRITE: Final = 256 * 1024
_PIECE: Final = 1024 * 1024  # how much is read before others on the loop get a turn
_BIG: Final = 256 * 1024

# Atomic groups, not `(?:...)*+`: before Python 3.11.5 (Debian 12 has 3.11.2) that ends in wrong places (gh-106052).
_STRING: Final = rb'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"'
_TEXT: Final = rb'[^"{}]*+(?>(?:' + _STRING + rb'[^"{}]*+)*)'
# Everything up to the next brace that matters: text, whole strings and whole objects without objects inside.
_SKIP: Final = re.compile(_TEXT + rb"(?>(?:\{" + _TEXT + rb"\}" + _TEXT + rb")*)", re.DOTALL)
_OPEN, _CLOSE = b"{}"


class _Dump(msgspec.Struct, frozen=True):
    """The reply to monitor_cond_since, its rows unread: 19 MB of them would hold the loop up for half a second."""

    id: Any
    result: tuple[bool, str, dict[str, dict[str, msgspec.Raw]]]


class _Update(msgspec.Struct, frozen=True):
    """A notice of a transaction, its rows unread: one that restores a database has all of them."""

    method: Literal["update3"]
    params: tuple[Any, str, dict[str, dict[str, msgspec.Raw]]]


_DUMP: Final = msgspec.json.Decoder(_Dump)
_UPDATE: Final = msgspec.json.Decoder(_Update)


class Framer:
    """Cuts a stream of JSON objects into its objects, whatever the strings in them hold; each byte is read once."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._depth = 0

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._buffer += data

    def next(self) -> bytearray | None:
        """The next whole object, or None until more is fed."""
        buffer, end = self._buffer, len(self._buffer)
        while self._at < end:
            if self._depth:
                # At depth 0 the outer object must not be swallowed whole: its end is what we look for.
                self._at = self._skip(self._at)
                if self._at == end:
                    return None
            byte = buffer[self._at]
            if byte == _OPEN:
                self._depth += 1
            elif byte == _CLOSE:
                self._depth -= 1
            elif self._depth:
                return None  # an unfinished string
            self._at += 1
            if byte == _CLOSE and self._depth <= 0:
                return self._cut()
        return None

    def _skip(self, at: int) -> int:
        found = _SKIP.match(self._buffer, at)
        return found.end() if found else at

    def _cut(self) -> bytearray:
        frame = self._buffer[: self._at]
        del self._buffer[: self._at]
        self._at = self._depth = 0
        return frame


class FastConnection(jsonrpc.Connection):  # type: ignore[misc]
    """ovs.jsonrpc.Connection with the same behaviour towards Session, and none of its costs."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.output = bytearray()
        self._framer = Framer()
        self._drained = True

    def run(self) -> None:
        """Send what is waiting, as far as the socket takes it."""
        while self.output and not self.status:
            sent = self.stream.send(bytes(self.output[:_WRITE]))
            if sent < 0:
                if sent != -errno.EAGAIN:
                    self.error(-sent)
                return
            del self.output[:sent]

    def send(self, msg: Any) -> int:
        """Queue a message and send what the socket takes now."""
        if not self.status:
            self.output += orjson.dumps(msg.to_json())
            self.run()
        return int(self.status)

    def recv(self) -> tuple[int, Any]:
        """The next message as (0, message), or (EAGAIN, None), or (error, None)."""
        end = self.received_bytes + _PIECE
        while not self.status:
            frame = self._framer.next()
            if frame is not None:
                return self._message(frame)
            if self.received_bytes >= end:
                return errno.EAGAIN, None
            error, data = self.stream.recv(_READ)
            self._drained = error == errno.EAGAIN
            if self._drained:
                return errno.EAGAIN, None
            if error or not data:
                self.error(error or jsonrpc.EOF)
                break
            self.received_bytes += len(data)
            self._framer.feed(data)
        return int(self.status), None

    def recv_wait(self, poller: Any) -> None:
        """Wake at once while there may be more to read than the selector knows of (buffered by us or by TLS)."""
        if self.status or not self._drained:
            poller.immediate_wake()
        else:
            self.stream.recv_wait(poller)

    def _message(self, frame: bytearray) -> tuple[int, Any]:
        try:
            message = (_dump(frame) if len(frame) > _BIG else None) or jsonrpc.Message.from_json(orjson.loads(frame))
        except orjson.JSONDecodeError:
            message = None
        if isinstance(message, jsonrpc.Message):
            return 0, message
        self.error(errno.EPROTO)
        return int(self.status), None


def _dump(frame: bytearray) -> Any:
    """Read a big message if it is all rows; None for any other."""
    with contextlib.suppress(msgspec.DecodeError):
        dump = _DUMP.decode(frame)
        return jsonrpc.Message.create_reply(list(dump.result), dump.id)
    with contextlib.suppress(msgspec.DecodeError):
        update = _UPDATE.decode(frame)
        return jsonrpc.Message.create_notify(update.method, list(update.params))
    return None
