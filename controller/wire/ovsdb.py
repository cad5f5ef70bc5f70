"""The OVSDB engine: ovs.db.idl.Idl driven by the event loop, its copy of the rows replaced by ours.

Idl keeps what it is good at: finding the leader, monitoring since the last transaction, reconnecting, matching the
replies. What it costs most for is left out: its rows of typed atoms (120-150 us a row against 6 here) and its JSON.

This is the one place that touches private parts of `ovs`; tests/wire/test_ovsdb.py fails if an upgrade changes one:
    Idl._session, _last_seqno          the session has no other way in, and its sequence number tells connections apart
    Idl.__check_server_db, _min_index  where a server is taken or left, and what it must not be older than
    Idl.__do_parse_update, __clear     where rows enter and leave Idl's copy
    Session.__connect                  where a socket is opened
    Transaction._process_reply         the only place that sees why a transaction failed
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from ovs import jsonrpc, reconnect, timeval
from ovs.db import idl

from controller.wire.dial import NOT_LEADER
from controller.wire.framing import FastConnection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.wire.dial import Dial

log = logging.getLogger(__name__)

_POLLIN: Final = 0x001
_POLLOUT: Final = 0x004
_BACKOFF_MS: Final = 500  # constant: the default doubles to 8 s, and the new leader may be the third that is asked
_GREETING_MS: Final = 1000  # a member that says nothing for so long is left for the next one, at first
_GREETING_MOST_MS: Final = 8000
_PROBE_MS: Final = 5000  # silence until a probe, and as much again until the connection is given up
_PROBE_SEVERAL_MS: Final = 1500  # where there is somebody else to ask
_STALE_MS: Final = 10_000  # a leader whose data is older for so long is no leftover of an election: it was restored
_LOOK_S: Final = 1.0  # between two looks at names, while there is no connection
_NO_ID: Final = str(uuid.UUID(int=0))

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


class _Reconnect(reconnect.Reconnect):  # type: ignore[misc]
    """A state machine that says what each try ended with."""

    dial: Dial

    def disconnected(self, now: int, error: int) -> None:
        if self.state not in (self.Backoff, self.Void):
            self.dial.lost(self.name, error)
        super().disconnected(now, error)


class _Session(jsonrpc.Session):  # type: ignore[misc]
    """A session whose connections are fast ones, and that does not wait long for a server while it knows others."""

    rpc: Any
    remotes: list[str]
    dial: Dial
    patience_ms = _GREETING_MS
    probe_ms: int | None = None  # after so much silence; None: as fits the number of remotes

    def run(self) -> None:
        if self._unanswered_ms(timeval.msec()) == 0:
            # Twice as long the next time: a server that is only busy must be had in the end.
            self.patience_ms = min(2 * self.patience_ms, _GREETING_MOST_MS)
            self.force_reconnect()
        super().run()
        if type(self.rpc) is jsonrpc.Connection:  # just made by super().run(): nothing is in it yet
            self.rpc = FastConnection(self.rpc.stream)

    def wait(self, poller: Any) -> None:
        super().wait(poller)
        left = self._unanswered_ms(timeval.msec())
        if left is not None:
            poller.timer_wait(left)

    def take(self, remotes: list[str]) -> None:
        """Know these from now on, in an order of its own; the present connection stays."""
        if set(remotes) != set(self.remotes):
            self.remotes, self.next_remote = random.sample(remotes, len(remotes)), 0
            self.reset_backoff()
            if self.rpc is None and self.stream is None:
                self.pick_remote()
            self.probe()

    def probe(self) -> None:
        """Ask whether the server lives when it is silent, on unix sockets too: a stopped one is silent there."""
        self.reconnect.set_probe_interval(self.probe_ms or (_PROBE_SEVERAL_MS if len(self.remotes) > 1 else _PROBE_MS))

    def _unanswered_ms(self, now: int) -> int | None:
        """How much longer to wait for the first word of this connection; None if that is no question."""
        if self.rpc is None or self.rpc.get_received_bytes() or len(self.remotes) == 1:
            return None
        return max(0, int(self.reconnect.last_connected) + self.patience_ms - now)

    def _Session__connect(self) -> None:  # noqa: N802
        self._Session__disconnect()
        error, self.stream = self.dial.open(self.reconnect.get_name())
        if error:
            self.reconnect.connect_failed(timeval.msec(), error)
            self.pick_remote()
        else:
            self.reconnect.connecting(timeval.msec())
        self.seqno += 1


class _Idl(idl.Idl):  # type: ignore[misc]
    """Idl with our copy instead of its own."""

    _min_index: int

    def __init__(self, dial: Dial, columns: Columns, copy: Copy, probe_ms: int | None, *, writes: bool) -> None:
        self._copy, self._dial, self._writes = copy, dial, writes
        self._fence = f"keepip_{uuid.uuid4().hex}"
        self._cluster: Any = None
        self._stale_since: int | None = None
        super().__init__(",".join(dial.remotes), _schema(columns))
        session, fsm = self._session, self._session.reconnect
        session.__class__, fsm.__class__ = _Session, _Reconnect
        session.dial = fsm.dial = dial
        fsm.min_backoff = fsm.max_backoff = _BACKOFF_MS  # the setter makes a second of anything less
        session.probe_ms = probe_ms
        session.probe()

    def restart_fsm(self) -> None:
        """A new connection takes the fence over before it reads the rows.

        A transaction that is still on its way on an older connection then fails its `assert`, so the rows that we are
        about to read are later than everything sent before. Who writes nothing has nothing on its way.
        """
        if self._writes:
            self._session.send(jsonrpc.Message.create_request("steal", [self._fence]))
        super().restart_fsm()

    def _Idl__do_parse_update(self, updates: Any, version: str, tables: Any) -> None:  # noqa: N802
        if tables is not self.tables:  # the server's own table about itself
            super()._Idl__do_parse_update(updates, version, tables)
            return
        for table, rows in updates.items():
            self._copy.change(table, rows)
        self.change_seqno += 1

    def _Idl__check_server_db(self) -> bool:  # noqa: N802
        rows = self.server_tables[self._server_db_table].rows.values() if self.server_tables else ()
        row = next((row for row in rows if row.name == self._db.name), None)
        if row is not None and row.leader and row.connected:
            self._judge(row)
        good = bool(super()._Idl__check_server_db())
        if good:
            self._stale_since = None
        elif row is None or not row.connected:
            self._dial.detail = "does not serve the database now"
        else:
            self._dial.detail = NOT_LEADER if not row.leader else "has older data than was seen"
        return good

    def _judge(self, row: Any) -> None:
        """Follow a restored database: its clock of changes starts anew, and what we know of the old one is no help.

        A leader that was cut off has older data, too, but it steps down before long.
        """
        now, index = timeval.msec(), row.index[0] if row.index else 0
        restored = self._cluster not in (None, row.cid)
        if index < self._min_index:
            self._stale_since = self._stale_since or now
            restored = restored or now - self._stale_since >= _STALE_MS
        if restored:
            self._min_index, self.last_id = 0, _NO_ID
        self._cluster = row.cid

    def _Idl__clear(self) -> None:  # noqa: N802
        self._copy.clear()
        super()._Idl__clear()

    @property
    def session(self) -> _Session:
        """What keeps the connection."""
        found: _Session = self._session
        return found

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

    def __init__(
        self,
        dial: Dial,
        columns: Columns,
        copy: Copy,
        *,
        probe: float | None = None,
        recheck: float = 10.0,
        writes: bool = True,
    ) -> None:
        """`writes`: whether transactions will be sent; who only reads asks for no lock."""
        self._writes = writes
        self._dial, self._columns, self._copy, self._recheck = dial, columns, copy, recheck
        self._probe_ms = None if probe is None else int(probe * 1000)
        self._looking: asyncio.Task[None] | None = None
        self._checking: asyncio.TimerHandle | None = None
        self._idl: _Idl | None = None
        self._outstanding: dict[int, tuple[_Transaction, int | None]] = {}
        self._sockets: dict[Any, tuple[int, int]] = {}  # socket -> (its number when registered, events)
        self._timer: asyncio.TimerHandle | None = None
        self.reconnects = 0
        self._connection: int | None = None
        self._told: int | None = None

    def start(self) -> None:
        """Connect now, or whenever the server appears."""
        self._loop = asyncio.get_running_loop()
        self._idl = _Idl(self._dial, self._columns, self._copy, self._probe_ms, writes=self._writes)
        if self._dial.named:
            self._looking = self._loop.create_task(self._look_up(self._idl), name="names of Northbound")
        self._checking = self._loop.call_later(self._recheck, self._check_files)
        self._step()

    @property
    def silence(self) -> float:
        """Seconds since the server said anything, or since start()."""
        return self._idl.silence if self._idl is not None else 0.0

    def close(self) -> None:
        """Hang up; transactions on their way may or may not have happened."""
        self._listen({})
        for one in (self._timer, self._checking, self._looking):
            if one:
                one.cancel()
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
            self._tell(engine)
            self._copy.step(self._answers(engine), ready=engine.ready)
        except Exception:  # a server that breaks its own protocol must not end or occupy the loop
            log.debug("ovsdb: a message could not be handled", exc_info=True)
            engine.force_reconnect()
            engine.last_id = _NO_ID  # what is here may have holes: everything anew, also from a raft
            self._listen({})
            self._soon(_BACKOFF_MS)

    def again(self) -> None:
        """Take another step at the next turn of the loop."""
        self._soon(0)

    def _count(self, engine: _Idl) -> None:
        if engine.connection != self._connection:
            self._connection = engine.connection
            self.reconnects += self._connection is not None

    def _tell(self, engine: _Idl) -> None:
        """Say it once when a connection has delivered everything."""
        if engine.ready and self._told != engine.connection:
            self._told = engine.connection
            engine.session.patience_ms = _GREETING_MS
            self._dial.stands(engine.session_name())

    async def _look_up(self, engine: _Idl) -> None:
        """Look names up for as long as there is no connection: who is connected has no need of addresses."""
        while True:
            if not engine.ready:
                remotes = await self._dial.look_up()
                if remotes:
                    engine.session.take(remotes)
                    self._soon(0)
            await asyncio.sleep(_LOOK_S)

    def _check_files(self) -> None:
        """Take other certificates before the server would insist on them: at the next break it might be too late."""
        self._checking = self._loop.call_later(self._recheck, self._check_files)
        if self.ready and self._dial.renewed():
            self._dial.detail = "is asked anew, with other certificates"
            self.reconnect()

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
