"""ports.Northbound: a copy of three tables, told to one reader, and everybody's commits.

`seq` and order. ovsdb-server flushes a client's updates before it sends it any reply, so when the reply to a commit
is here its rows are too (tests/contract holds it to that). Rows that the reader has not taken are merged: one `seq` a
take.

Silence. A commit without an answer in time breaks the connection; the engine's fence makes what is still on its way
fail, so the next whole Rows, of a later epoch, shows what happened.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.ports import Rows, Unavailable
from controller.wire.commits import Commits, Counters
from controller.wire.dial import Dial, Tls, resolve
from controller.wire.operations import fence_of, move_fence, read_fence
from controller.wire.ovsdb import Engine, Reply
from controller.wire.tables import COLUMNS, Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from controller.core.effects import NbEffect
    from controller.ports import Fence
    from controller.wire.dial import Resolve, Tell

_DIGEST: Final = 2000  # rows of a dump or of one transaction that are read before others get a turn: about 20 ms


class NorthboundWire:
    """OVN Northbound at `remote` (unix:, tcp:, ssl:, or several with commas), for as long as it takes to appear.

    `timeout` bounds every commit; `probe` is the silence after which the server is asked whether it lives, and after as
    much again given up. `recheck`: how often the files of `tls` are looked at. `writes`: without it nothing but reads
    is ever sent. `observe` hears of each transaction: seconds, effects, outcome; `tell` of what is wrong with a remote,
    and with "" that it is followed.
    """

    def __init__(
        self,
        remote: str,
        *,
        timeout: float = 5.0,
        probe: float | None = None,
        tls: Tls | None = None,
        recheck: float = 10.0,
        writes: bool = True,
        resolver: Resolve = resolve,
        observe: Callable[[float, int, str], None] | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._timeout = timeout
        self._observe = observe or (lambda _seconds, _effects, _outcome: None)
        self._dial = Dial(remote, tls, tell, resolver)
        self._engine = Engine(self._dial, COLUMNS, self, probe=probe, recheck=recheck, writes=writes)
        self._tables = Tables()
        self._dump: deque[tuple[str, Iterator[tuple[str, Any]]]] = deque()
        self._commits: Commits | None = None
        self._collecting = False
        self._replies: list[Reply] = []  # not told yet: their rows come first
        self._seq = self._epoch = 0
        self._whole = False
        self._news = asyncio.Event()
        self._closed = self._read = False

    async def start(self) -> None:
        """Begin to connect; returns at once, rows() yields when the server is there."""
        self._commits = Commits(self._engine, self._tables, self._showing, timeout=self._timeout, observe=self._observe)
        self._engine.start()

    async def close(self) -> None:
        """Hang up. Waiting commits end as Unavailable, rows() ends."""
        self._closed = True
        self._engine.close()
        self._collect(on=True)
        if self._commits is not None:
            self._commits.close("closed")
        self._news.set()

    @property
    def connected(self) -> bool:
        """True while the rows are whole and commits are taken."""
        return self._commits is not None and self._commits.open

    @property
    def troubles(self) -> str:
        """What keeps us from each remote; empty while nothing does."""
        return self._dial.troubles

    @property
    def counters(self) -> Counters:
        """What was committed until now."""
        return self._commits.counters if self._commits is not None else Counters()

    @property
    def reconnects(self) -> int:
        """How many connections there were."""
        return self._engine.reconnects

    @property
    def silence(self) -> float:
        """Seconds since the server said anything, if only that it lives."""
        return self._engine.silence

    # ---- ports.Northbound

    @property
    def epoch(self) -> int:
        """See ports.Northbound.epoch: everything until now was sent on the connection of this epoch, or on none."""
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
        return await self._line.commit(effects)

    async def fence(self) -> Fence | None:
        """See ports.Northbound.fence."""
        return fence_of(await self._line.ask(read_fence()))

    async def raise_fence(self, was: Fence | None, new: Fence) -> int:
        """See ports.Northbound.raise_fence."""
        line = self._line
        await line.ask(move_fence(was, new))
        line.fence = new
        return self._showing()

    @property
    def _line(self) -> Commits:
        if self._commits is None:
            raise Unavailable("northbound: not started", unknown=False)
        return self._commits

    # ---- the copy, as the engine fills it (ovsdb.Copy)

    def clear(self) -> None:
        """Everything is about to be told anew."""
        self._dump.clear()
        self._tables.clear()
        self._collect(on=False)

    def change(self, table: str, rows: Mapping[str, Any]) -> None:
        """Row updates, in order; those of a big dump are not even parsed yet."""
        self._dump.append((table, iter(rows.items())))

    def step(self, replies: list[Reply], *, ready: bool) -> None:
        """Bring the copy up to date, then answer: a caller never hears of a commit before rows() can show it."""
        if self._commits is None or self._closed:
            return
        self._replies += replies
        if self._commits.open:
            if not self._digest(_DIGEST if ready else None):
                self._engine.again()
                return
            self._announce()
        answered, self._replies = self._replies, []
        for reply in answered:
            self._commits.settle(reply)
        if not ready:
            self._commits.close("connection lost")
            self._collect(on=True)
        elif not self._commits.open:
            self._load(self._commits)
        self._commits.pump()

    def _load(self, commits: Commits) -> None:
        """Read the first dump of a connection in pieces: 50k rows in one would hold everybody up for 0.4 s."""
        if not self._digest(_DIGEST):
            self._engine.again()
            return
        self._collect(on=True)
        self._epoch += 1
        self._whole = commits.open = True
        self._news.set()

    def _digest(self, limit: int | None) -> bool:
        """Apply so many row updates; True when none is left."""
        while self._dump:
            table, rows = self._dump[0]
            done = 0
            for uuid, update in islice(rows, limit):
                parsed = msgspec.json.decode(update) if isinstance(update, msgspec.Raw) else update
                self._tables.apply(table, uuid, parsed)
                done += 1
            if limit is not None:
                limit -= done
                if not limit:
                    return False
            self._dump.popleft()
        return True

    def _collect(self, *, on: bool) -> None:
        """Keep the garbage collector away from the growing copy, and from the grown one: it has no cycles."""
        if on and self._collecting:
            gc.freeze()
            gc.enable()
            self._collecting = False
        elif not on and gc.isenabled():
            gc.disable()
            self._collecting = True

    # ---- what the reader gets

    def _announce(self) -> None:
        if self._whole or self._tables.changed:
            self._news.set()

    def _take(self) -> Rows | None:
        tables = self._tables
        if self.connected and self._dump:
            return None  # half of a transaction is no news: step() announces the whole
        if self._whole:
            ports: Mapping[str, Any] = dict(tables.port_names)
            switches: Mapping[str, Any] = dict(tables.switch_names)
            sets: Mapping[str, Any] = dict(tables.set_names)
        elif self.connected and tables.changed:
            ports, switches, sets = tables.changed_ports, tables.changed_switches, tables.changed_sets
        else:
            return None
        whole, self._whole = self._whole, False
        tables.forget_changes()
        self._seq += 1
        return Rows(self._seq, self._epoch, whole, ports, switches, sets)

    def _showing(self) -> int:
        """Tell the seq of the Rows that shows everything applied until now: the next one, unless all is taken."""
        return self._seq + 1 if self._whole or self._tables.changed else self._seq
