"""ports.Northbound: a copy of two tables, and many callers' effects in few transactions.

Group commit. A mutate of a switch's `ports` costs the server O(ports) per transaction, so what waits while
transactions are on their way goes together in the next one, up to GROUP effects. A group that the server refuses is
halved and tried again until the culprit stands alone: a refusal applies nothing, so that is safe.

`seq` and order. ovsdb-server flushes a client's updates before it sends it any reply, so when the reply to a commit
is here its rows are too. Rows not yet taken by the reader are merged: one `seq` per take.

Silence. A commit without an answer in time breaks the connection; the engine's fence makes what is still on its way
fail, so the next whole Rows, of a later epoch, shows what happened.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

from controller.ports import Conflict, Denied, PortError, Rejected, Rows, Unavailable
from controller.wire.operations import Draft
from controller.wire.ovsdb import Engine, Reply
from controller.wire.tables import COLUMNS, Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from controller.core.effects import NbEffect

GROUP: Final = 100
OUTSTANDING: Final = 2
_DIGEST: Final = 2000  # rows of the first dump that are built before others get a turn: about 10 ms


@dataclass(slots=True, eq=False)
class _Job:
    """One caller's effects: applied together or not at all."""

    effects: tuple[NbEffect, ...]
    answer: asyncio.Future[int]
    timer: asyncio.TimerHandle | None = None
    sent: bool = False
    strays: set[str] = field(default_factory=set)

    def fail(self, error: PortError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class _Group:
    """The jobs of one transaction on its way."""

    jobs: list[_Job]
    homes: dict[int, str]
    started: float

    @property
    def size(self) -> int:
        return sum(len(job.effects) for job in self.jobs)


@dataclass(slots=True)
class Counters:
    """For metrics."""

    transactions: int = 0
    effects: int = 0
    refused: int = 0
    reconnects: int = 0


class NorthboundWire:
    """OVN Northbound at `remote` (unix:, tcp:, ssl:, or several with commas), for as long as it takes to appear."""

    def __init__(
        self,
        remote: str,
        *,
        timeout: float = 5.0,
        probe: float = 5.0,
        observe: Callable[[float, int, str], None] | None = None,
    ) -> None:
        self._timeout = timeout
        self._observe = observe or (lambda _seconds, _effects, _outcome: None)
        self._engine = Engine(remote, COLUMNS, self, probe=probe)
        self._tables = Tables()
        self._dump: deque[tuple[str, Iterator[tuple[str, Mapping[str, Any]]]]] = deque()
        self._gc = False
        self.connected = False
        self._seq = self._epoch = 0
        self._whole = False
        self._news = asyncio.Event()
        self._closed = self._read = False
        self._waiting: deque[_Job] = deque()
        self._retries: deque[list[_Job]] = deque()
        self._groups: dict[int, _Group] = {}
        self._tags = count(1)
        self._pump_soon: asyncio.Handle | None = None
        self.counters = Counters()

    async def start(self) -> None:
        """Begin to connect; returns at once, rows() yields when the server is there."""
        self._loop = asyncio.get_running_loop()
        self._engine.start()

    async def close(self) -> None:
        """Hang up. Waiting commits end as Unavailable, rows() ends."""
        self._closed = True
        self._engine.close()
        self._collect(on=True)
        self._hang_up("northbound: closed")
        self._news.set()

    # ---- ports.Northbound

    @property
    def epoch(self) -> int:
        """The epoch of the connection on which everything until now was sent; a later one is later than all of it."""
        return self._epoch

    async def rows(self) -> AsyncIterator[Rows]:
        """See ports.Northbound.rows. A second reader starts with a connection of its own, for its whole Rows."""
        if self._read:
            self._engine.reconnect()
        self._read = True
        while not self._closed:
            await self._news.wait()
            self._news.clear()
            rows = self._take()
            if rows is not None:
                yield rows

    async def commit(self, effects: tuple[NbEffect, ...]) -> int:
        """See ports.Northbound.commit."""
        if not self.connected:
            raise _absent("northbound: not connected")
        job = _Job(effects, self._loop.create_future())
        job.timer = self._loop.call_later(self._timeout, self._expire, job)
        self._waiting.append(job)
        self._pump_later()
        try:
            return await job.answer
        finally:
            job.timer.cancel()

    # ---- the copy, as the engine fills it (ovsdb.Copy)

    def clear(self) -> None:
        """Everything is about to be told anew."""
        self._dump.clear()
        self._tables.clear()
        self._collect(on=False)

    def change(self, table: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Row updates, in order."""
        self._dump.append((table, iter(rows.items())))

    def step(self, replies: list[Reply], *, ready: bool) -> None:
        """Bring the copy up to date, then answer: a caller never hears of a commit before rows() can show it."""
        self.counters.reconnects = self._engine.reconnects
        if self.connected:
            self._digest(None)
            self._announce()
        for reply in replies:
            self._settle(self._groups.pop(reply.tag), reply)
        if not ready:
            self._hang_up("northbound: connection lost")
        elif not self.connected:
            self._load()
        self._pump()

    def _load(self) -> None:
        """The first dump of a connection, in pieces: 50k rows in one would hold everybody up for 0.4 s."""
        if self._closed or not self._engine.ready or self.connected:
            return
        if not self._digest(_DIGEST):
            self._loop.call_soon(self._load)
            return
        self._collect(on=True)
        self._tables.forget_changes()
        self.connected = self._whole = True
        self._epoch += 1
        self._news.set()

    def _digest(self, limit: int | None) -> bool:
        """Apply so many row updates; True when none is left."""
        while self._dump:
            table, rows = self._dump[0]
            done = 0
            for uuid, update in islice(rows, limit):
                self._tables.apply(table, uuid, update)
                done += 1
            if limit is not None:
                limit -= done
                if not limit:
                    return False
            self._dump.popleft()
        return True

    def _collect(self, *, on: bool) -> None:
        """The garbage collector would walk the growing copy again and again: off while it is loaded."""
        if on and self._gc:
            gc.enable()
            self._gc = False
        elif not on and gc.isenabled():
            gc.disable()
            self._gc = True

    # ---- what the reader gets

    def _announce(self) -> None:
        if self._tables.changed_ports or self._tables.changed_switches:
            self._news.set()

    def _take(self) -> Rows | None:
        tables = self._tables
        if self._whole:
            ports: Mapping[str, Any] = dict(tables.port_names)
            switches: Mapping[str, Any] = dict(tables.switch_names)
        elif tables.changed_ports or tables.changed_switches:
            ports, switches = tables.changed_ports, tables.changed_switches
        else:
            return None
        whole, self._whole = self._whole, False
        tables.forget_changes()
        self._seq += 1
        return Rows(self._seq, self._epoch, whole, ports, switches)

    @property
    def _showing(self) -> int:
        """The seq of the Rows that shows everything applied until now: the next one, unless all is taken."""
        untold = self._whole or self._tables.changed_ports or self._tables.changed_switches
        return self._seq + 1 if untold else self._seq

    # ---- group commit

    def _pump_later(self) -> None:
        """At the end of this turn of the loop, so that callers of the same turn share a transaction."""
        if self._pump_soon is None:
            self._pump_soon = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        if self._pump_soon:
            self._pump_soon.cancel()
            self._pump_soon = None
        while self.connected and len(self._groups) < OUTSTANDING and (jobs := self._next_jobs()):
            self._send(jobs)

    def _next_jobs(self) -> list[_Job]:
        while self._retries:
            if jobs := [job for job in self._retries.popleft() if not job.answer.done()]:
                return jobs
        jobs, size = [], 0
        while self._waiting and (not jobs or size + len(self._waiting[0].effects) <= GROUP):
            job = self._waiting.popleft()
            if not job.answer.done():
                jobs.append(job)
                size += len(job.effects)
        return jobs

    def _send(self, jobs: list[_Job]) -> None:
        draft = Draft(self._tables)
        group = _Group([job for job in jobs if self._write(draft, job)], draft.homes, self._loop.time())
        if not group.jobs:
            return
        tag = next(self._tags)
        if not self._engine.send(tag, draft.operations()):
            for job in group.jobs:
                job.fail(_absent("northbound: could not be sent"))
            return
        self._groups[tag] = group
        for job in group.jobs:
            job.sent = True

    def _write(self, draft: Draft, job: _Job) -> bool:
        """Add the job to the transaction; one that has nothing to do, or cannot be done, is answered here."""
        try:
            if draft.add(job.effects, job.strays):
                return True
        except Conflict as conflict:
            job.fail(conflict)
        else:
            job.answer.set_result(self._showing)
        return False

    def _settle(self, group: _Group, reply: Reply) -> None:
        at, verdict = _verdict(reply)
        outcome = "ok" if verdict is None else type(verdict).__name__.lower()
        self._observe(self._loop.time() - group.started, group.size, outcome)
        self.counters.transactions += 1
        if verdict is None:
            self.counters.effects += group.size
            for job in group.jobs:
                if not job.answer.done():
                    job.answer.set_result(self._showing)
            return
        self.counters.refused += 1
        if isinstance(verdict, Unavailable):
            for job in group.jobs:
                job.fail(verdict)
        else:
            self._retry(group, at, verdict)

    def _retry(self, group: _Group, at: int, verdict: PortError) -> None:
        """Nothing of the group was applied: halve it, until one stands alone and the verdict is its own."""
        for job in group.jobs:
            job.sent = False
        if len(group.jobs) > 1:
            half = len(group.jobs) // 2
            self._retries.extend((group.jobs[:half], group.jobs[half:]))
            return
        (job,) = group.jobs
        stray = group.homes.get(at)
        if stray is None or stray in job.strays:
            job.fail(verdict)
        else:  # the port is not in the switch that its row names: move it there
            job.strays.add(stray)
            self._retries.append([job])

    def _expire(self, job: _Job) -> None:
        """Time is up. If it was sent, only a new connection can tell what became of it."""
        if job.sent:
            job.fail(Unavailable("northbound: no answer in time", unknown=True))
            self._engine.reconnect()
        else:
            job.fail(_absent("northbound: busy for too long"))

    def _hang_up(self, why: str) -> None:
        """The connection is gone: what was sent is in doubt, what was not sent certainly did not happen."""
        self.connected = False
        for group in self._groups.values():
            for job in group.jobs:
                job.fail(Unavailable(why, unknown=True))
        self._groups.clear()
        for job in (*self._waiting, *(job for jobs in self._retries for job in jobs)):
            job.fail(_absent(why))
        self._waiting.clear()
        self._retries.clear()


def _absent(text: str) -> Unavailable:
    return Unavailable(text, unknown=False)


# Errors of the server itself after which the transaction may yet be found applied (a raft leader that lost office).
_DOUBTFUL: Final = frozenset({"cluster error", "I/O error", "canceled"})
_STALE: Final = frozenset({"timed out", "constraint violation", "referential integrity violation", "duplicate uuid"})


def _verdict(reply: Reply) -> tuple[int, PortError | None]:
    """Which operation (without the engine's own first one) was refused, and what that means."""
    if reply.results is None:
        return 0, Unavailable("northbound: connection lost before the answer", unknown=True)
    if reply.error:
        return 0, Denied(f"northbound: {reply.error}")
    for at, result in enumerate(reply.results):
        error = result.get("error") if isinstance(result, dict) else None
        if error is not None:
            return at - 1, _refusal(error, str(result.get("details", "")))
    return 0, None


def _refusal(error: str, details: str) -> PortError:
    text = f"northbound: {error}: {details}"
    if error in _STALE:
        return Conflict(text)
    if error == "not owner":  # our own fence: this connection has been replaced
        return _absent(text)
    if error in _DOUBTFUL:
        return Unavailable(text, unknown=True)
    return Rejected(text)
