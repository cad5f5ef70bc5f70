"""The OVSDB engine: ovs.db.idl.Idl driven by the event loop, its copy of the rows replaced by ours.

Idl keeps what it is good at: finding the leader, monitoring since the last transaction, reconnecting, matching the
replies. What it costs most for is left out: its rows of typed atoms (120-150 us a row against 6 here) and its JSON.

This is the one place that touches private parts of `ovs`; tests/wire/test_ovsdb.py fails if an upgrade changes one:
    Idl._session, _last_seqno          the session has no other way in, and its sequence number tells connections apart
    Idl.__do_parse_update, __clear     where rows enter and leave Idl's copy
    Transaction._process_reply         the only place that sees why a transaction failed
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ovs import jsonrpc, timeval
from ovs.db import idl
from ovs.stream import Stream

from controller.wire.framing import FastConnection

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_POLLIN: Final = 0x001
_POLLOUT: Final = 0x004
_BACKOFF_MS: Final = 1000  # constant: the default doubles to 8 s, and a raft election needs two tries (tech.md 1)

Operation: TypeAlias = dict[str, Any]
Columns: TypeAlias = "Mapping[str, Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one transaction; `results` is None when the connection was lost before it came."""

    tag: int
    results: list[Any] | None
    error: str = ""


class Copy(Protocol):
    """Where the rows go. Called from inside Idl.run(): must not raise, must not call back."""

    def clear(self) -> None:
        """Forget all: what follows is everything there is."""

    def change(self, table: str, rows: Mapping[str, Any]) -> None:
        """Row updates by uuid, as the server wrote them."""

    def step(self, replies: list[Reply], *, ready: bool) -> None:
        """A batch of messages is over; `ready` while the connection has delivered everything."""


class _Transaction(idl.Transaction):  # type: ignore[misc]
    """A transaction of raw operations that keeps the server's answer."""

    reply: Any = None

    def _process_reply(self, msg: Any) -> None:
        self.reply = msg
        super()._process_reply(msg)


class _Session(jsonrpc.Session):  # type: ignore[misc]
    """A session whose connections are fast ones."""

    rpc: Any

    def run(self) -> None:
        super().run()
        if type(self.rpc) is jsonrpc.Connection:  # just made by super().run(): nothing is in it yet
            self.rpc = FastConnection(self.rpc.stream)


class _Idl(idl.Idl):  # type: ignore[misc]
    """Idl with our copy instead of its own."""

    def __init__(self, remote: str, columns: Columns, copy: Copy, probe_ms: int) -> None:
        self._copy = copy
        self._fence = f"keepip_{uuid.uuid4().hex}"
        super().__init__(remote, _schema(columns))
        self._session.__class__ = _Session
        self._session.reconnect.set_backoff(_BACKOFF_MS, _BACKOFF_MS)
        self._session.reconnect.set_probe_interval(probe_ms)  # on unix sockets too: a stopped server is silent there

    def restart_fsm(self) -> None:
        """A new connection takes the fence over before it reads the rows.

        A transaction that is still on its way on an older connection then fails its `assert`, so the rows that we are
        about to read are later than everything sent before.
        """
        self._session.send(jsonrpc.Message.create_request("steal", [self._fence]))
        super().restart_fsm()

    def _Idl__do_parse_update(self, updates: Any, version: str, tables: Any) -> None:  # noqa: N802
        if tables is not self.tables:  # the server's own table about itself
            super()._Idl__do_parse_update(updates, version, tables)
            return
        for table, rows in updates.items():
            self._copy.change(table, rows)
        self.change_seqno += 1

    def _Idl__clear(self) -> None:  # noqa: N802
        self._copy.clear()
        super()._Idl__clear()

    @property
    def connection(self) -> int | None:
        """A number for the present connection, None while there is none."""
        return int(self._session.get_seqno()) if self._session.is_connected() else None

    @property
    def silence(self) -> float:
        """Seconds since the server said anything, on whatever connection; probes are answered every few seconds."""
        return float(timeval.msec() - self._session.reconnect.last_activity) / 1000.0

    @property
    def ready(self) -> bool:
        """True while the present connection has delivered everything."""
        return bool(self.state == self.IDL_S_MONITORING and self.connection == self._last_seqno)

    def begin(self, operations: list[Operation]) -> _Transaction | None:
        """Send a transaction; None if it certainly was not sent."""
        transaction = _Transaction(self)
        transaction.add_op({"op": "assert", "lock": self._fence})
        for operation in operations:
            transaction.add_op(operation)
        sent = transaction.commit() == transaction.INCOMPLETE
        return transaction if sent else None

    def disconnect(self) -> None:
        """Close the sockets for good."""
        self._session.close()


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for ssl: remotes: our key and certificate, and who may have signed the server's."""

    key: Path
    certificate: Path
    authority: Path

    def use(self) -> None:
        """Take them for every connection of this process made from now on: ovs knows no other way."""
        Stream.ssl_set_private_key_file(str(self.key))
        Stream.ssl_set_certificate_file(str(self.certificate))
        Stream.ssl_set_ca_cert_file(str(self.authority))


class _Wishes:
    """The poller that Idl.wait() fills: it only records."""

    def __init__(self) -> None:
        self.sockets: dict[Any, int] = {}
        self.delay_ms: float | None = None

    def fd_wait(self, fd: Any, events: int) -> None:
        self.sockets[fd] = self.sockets.get(fd, 0) | events

    def timer_wait(self, msec: float) -> None:
        if msec >= 0:
            self.delay_ms = msec if self.delay_ms is None else min(self.delay_ms, msec)

    def timer_wait_until(self, msec: float) -> None:
        self.timer_wait(max(0.0, msec - asyncio.get_running_loop().time() * 1000.0))

    def immediate_wake(self) -> None:
        self.timer_wait(0)


class Engine:
    """One connection to a database, kept for ever, whose rows and replies go to a Copy on the running loop."""

    def __init__(self, remote: str, columns: Columns, copy: Copy, *, probe: float = 5.0) -> None:
        self._remote, self._columns, self._copy = remote, columns, copy
        self._probe_ms = int(probe * 1000)
        self._idl: _Idl | None = None
        self._outstanding: dict[int, tuple[_Transaction, int | None]] = {}
        self._sockets: dict[Any, tuple[int, int]] = {}  # socket -> (its number when registered, events)
        self._timer: asyncio.TimerHandle | None = None
        self.reconnects = 0
        self._connection: int | None = None

    def start(self) -> None:
        """Connect now, or whenever the server appears."""
        self._loop = asyncio.get_running_loop()
        self._idl = _Idl(self._remote, self._columns, self._copy, self._probe_ms)
        self._step()

    @property
    def silence(self) -> float:
        """Seconds since the server said anything, or since start()."""
        return self._idl.silence if self._idl is not None else 0.0

    def close(self) -> None:
        """Hang up; transactions on their way may or may not have happened."""
        self._listen({})
        if self._timer:
            self._timer.cancel()
        if self._idl:
            self._idl.disconnect()
            self._idl = None

    @property
    def ready(self) -> bool:
        """True while everything is here and a transaction can be sent."""
        return self._idl is not None and self._idl.ready

    def send(self, tag: int, operations: list[Operation]) -> bool:
        """Send a transaction, to be answered by a Reply of that tag; False if it certainly was not sent."""
        if self._idl is None or not self._idl.ready:
            return False
        transaction = self._idl.begin(operations)
        # Also when it failed: that has closed the socket, whose number another part of the process may get next.
        self._arm(self._idl)
        if transaction is None:
            return False
        self._outstanding[tag] = transaction, self._idl.connection
        return True

    def reconnect(self) -> None:
        """Drop this connection, whose silence cannot be told from slowness, and read everything anew."""
        if self._idl is not None:
            self._idl.force_reconnect()
            self._soon(0)

    def _step(self) -> None:
        engine = self._idl
        if engine is None:
            return
        try:
            engine.run()
            self._arm(engine)
            self._count(engine)
            self._copy.step(self._answers(engine), ready=engine.ready)
        except Exception:  # a server that breaks its own protocol must not end or occupy the loop
            log.debug("ovsdb: a message could not be handled", exc_info=True)
            engine.force_reconnect()
            engine.last_id = str(uuid.UUID(int=0))  # what is here may have holes: everything anew, also from a raft
            self._listen({})
            self._soon(_BACKOFF_MS)

    def again(self) -> None:
        """Take another step at the next turn of the loop."""
        self._soon(0)

    def _count(self, engine: _Idl) -> None:
        if engine.connection != self._connection:
            self._connection = engine.connection
            self.reconnects += self._connection is not None

    def _answers(self, engine: _Idl) -> list[Reply]:
        answers = []
        for tag, (transaction, connection) in tuple(self._outstanding.items()):
            if transaction.reply is not None:
                answers.append(_reply(tag, transaction.reply))
            elif connection != engine.connection:
                # Idl itself would say so only after the next connect (pitfall 3).
                answers.append(Reply(tag, None))
            else:
                continue
            del self._outstanding[tag]
        return answers

    def _arm(self, engine: _Idl) -> None:
        wishes = _Wishes()
        engine.wait(wishes)
        self._listen(wishes.sockets)
        self._soon(wishes.delay_ms)

    def _listen(self, wanted: dict[Any, int]) -> None:
        """Watch these sockets. Told apart as objects: a new socket may have the number of a closed one."""
        for socket in [s for s in self._sockets if s not in wanted]:
            self._watch(*self._sockets.pop(socket), 0)
        for socket, events in wanted.items():
            number, old = self._sockets.get(socket, (socket.fileno(), 0))
            self._watch(number, old, events)
            self._sockets[socket] = number, events

    def _watch(self, number: int, old: int, new: int) -> None:
        gone, come = old & ~new, new & ~old
        if gone & _POLLIN:
            self._loop.remove_reader(number)
        if gone & _POLLOUT:
            self._loop.remove_writer(number)
        if come & _POLLIN:
            self._loop.add_reader(number, self._step)
        if come & _POLLOUT:
            self._loop.add_writer(number, self._step)

    def _soon(self, delay_ms: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None if delay_ms is None else self._loop.call_later(delay_ms / 1000.0, self._step)


def _reply(tag: int, message: Any) -> Reply:
    if isinstance(message.result, list):
        return Reply(tag, message.result)
    error = message.error.get("error") if isinstance(message.error, dict) else message.error
    return Reply(tag, [], str(error))


def _schema(columns: Columns) -> Any:
    """A schema of only what we read; Idl wants a new one each time, and no file of OVN's need be at hand."""
    tables = {table: {"columns": dict(fields)} for table, fields in columns.items()}
    helper = idl.SchemaHelper(schema_json={"name": "OVN_Northbound", "version": "7.0.0", "tables": tables})
    helper.register_all()
    return helper
