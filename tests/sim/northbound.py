"""OVN's Northbound database in memory, and one process's client of it: `ports.Northbound`."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, assert_never

from controller.core.effects import DropAddressSet, DropPort, DropSwitch, PutAddressSet, PutPort, PutSwitch
from controller.core.rows import POD_UID, VENDOR, AddressSetRow, PortRow, SwitchRow
from controller.ports import Conflict, Fenced, Northbound, PortError, Rows, Unavailable
from tests.sim.network import REQUEST_LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from controller.core.effects import NbEffect
    from controller.ports import Fence
    from tests.sim.apiserver import Traffic
    from tests.sim.network import Network, Process

SERVER: Final = "the Northbound database"


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction changed, by name: (before, after)."""

    seq: int
    by: str
    ports: dict[str, tuple[PortRow | None, PortRow | None]]
    switches: dict[str, tuple[SwitchRow | None, SwitchRow | None]]
    sets: dict[str, tuple[AddressSetRow | None, AddressSetRow | None]] = field(default_factory=dict)


@dataclass
class Tables:
    """The content: ports and address sets by name, switches by uuid, and which port is in which switch."""

    ports: dict[str, PortRow] = field(default_factory=dict)
    switches: dict[str, SwitchRow] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    sets: dict[str, AddressSetRow] = field(default_factory=dict)

    def copy(self) -> Tables:
        """A copy to try a transaction on."""
        return Tables(dict(self.ports), dict(self.switches), dict(self.parent), dict(self.sets))

    def switch(self, name: str) -> str:
        """The uuid of a switch of that name, or ""."""
        return next((row.uuid for row in self.switches.values() if row.name == name), "")

    def port(self, uuid: str) -> PortRow | None:
        """The port of that uuid."""
        return next((row for row in self.ports.values() if row.uuid == uuid), None) if uuid else None


class Database:
    """The server: transactions are all or none, each one is handed to `witness` before anybody sees it."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.fence: Fence | None = None
        self.seq = 0
        self.log: list[Transaction] = []
        self.witness: list[Callable[[Transaction], None]] = []
        self.listeners: list[asyncio.Event] = []
        self._uuids = 0

    def tick(self) -> int:
        """A new sequence number, for a Rows that is no transaction."""
        self.seq += 1
        return self.seq

    def raise_fence(self, was: Fence | None, new: Fence) -> int:
        """Change the fence, which no Rows tells; answers the number of the last transaction."""
        if self.fence != was:
            raise Conflict(f"the fence says {self.fence}, not {was}")
        self.fence = new
        return self.log[-1].seq if self.log else 0

    def _guard(self, fence: Fence | None) -> None:
        if fence not in {None, self.fence}:
            raise Fenced(f"the fence says {self.fence}, not {fence}")

    def commit(self, effects: tuple[NbEffect, ...], by: str, fence: Fence | None = None) -> int:
        """Apply all the effects or raise Conflict or Fenced; answers the number of the transaction."""
        self._guard(fence)
        draft = self.tables.copy()
        for effect in effects:
            self._apply(draft, effect)
        before, self.tables = self.tables, draft
        ports = {
            name: (before.ports.get(name), draft.ports.get(name))
            for name in sorted(before.ports.keys() | draft.ports.keys())
            if before.ports.get(name) != draft.ports.get(name)
        }
        uuids = sorted(before.switches.keys() | draft.switches.keys())
        changes = [(before.switches.get(u), draft.switches.get(u)) for u in uuids]
        switches = {(old or new or SwitchRow("")).name: (old, new) for old, new in changes if old != new}
        names = sorted(before.sets.keys() | draft.sets.keys())
        pairs = {name: (before.sets.get(name), draft.sets.get(name)) for name in names}
        sets = {name: (old, new) for name, (old, new) in pairs.items() if old != new}
        if ports or switches or sets:
            change = Transaction(self.tick(), by, ports, switches, sets)
            self.log.append(change)
            for look in self.witness:
                look(change)
            for listener in self.listeners:
                listener.set()
        return self.seq

    def _uuid(self) -> str:
        self._uuids += 1
        return f"{self._uuids:08x}-0000-4000-9000-000000000000"

    def _apply(self, draft: Tables, effect: NbEffect) -> None:
        match effect:
            case PutPort(row, was):
                self._put_port(draft, row, was)
            case DropPort(row):
                if (found := draft.port(row.uuid)) is not None:
                    another = row.external(POD_UID) not in {"", found.external(POD_UID)}
                    if another or found.addresses != row.addresses:
                        raise Conflict(f"port {row.name} is {found}, not {row}")
                    del draft.ports[found.name], draft.parent[found.uuid]
            case PutSwitch(name):
                if not draft.switch(name):
                    uuid = self._uuid()
                    draft.switches[uuid] = SwitchRow(name, (("vendor", VENDOR),), uuid)
            case DropSwitch(_, uuid):
                if uuid in draft.parent.values():
                    raise Conflict(f"switch {uuid} has ports")
                draft.switches.pop(uuid, None)
            case PutAddressSet(row, was):
                self._put_set(draft, row, was)
            case DropAddressSet(row):
                self._drop_set(draft, row)
            case _:
                assert_never(effect)

    def _put_set(self, draft: Tables, row: AddressSetRow, was: AddressSetRow | None) -> None:
        found = draft.sets.get(row.name)
        if found != was:
            raise Conflict(f"address set {row.name} is {found}, not {was}")
        draft.sets[row.name] = row._replace(uuid=was.uuid if was is not None else self._uuid())

    @staticmethod
    def _drop_set(draft: Tables, row: AddressSetRow) -> None:
        found = draft.sets.get(row.name)
        if found is not None and found.uuid == row.uuid:
            if found.pool != row.pool:
                raise Conflict(f"address set {row.name} is {found.pool}'s by now")
            del draft.sets[row.name]

    def _put_port(self, draft: Tables, row: PortRow, was: PortRow | None) -> None:
        switch = draft.switch(row.switch)
        if not switch:
            raise Conflict(f"there is no switch {row.switch!r} for port {row.name}")
        if was is None:
            if row.name in draft.ports:
                raise Conflict(f"port {row.name} exists")
            uuid = self._uuid()
        else:
            found = draft.port(was.uuid)
            if found is None or found != was:
                raise Conflict(f"port {row.name} is {found}, not {was}")
            uuid = was.uuid
            del draft.ports[was.name]
        draft.ports[row.name] = normal(row)._replace(uuid=uuid)
        draft.parent[uuid] = switch


def normal(row: PortRow) -> PortRow:
    """The row as it reads back: sets and maps have no order of their own."""
    return row._replace(
        addresses=tuple(sorted(row.addresses)),
        external_ids=tuple(sorted(row.external_ids)),
        port_security=tuple(sorted(row.port_security)),
        options=tuple(sorted(row.options)),
    )


class SimNorthbound(Northbound):
    """One process's connection; it is cut whenever the fate of a transaction is unknown."""

    def __init__(self, database: Database, network: Network, process: Process, traffic: Traffic) -> None:
        self._database, self._network, self._process, self._traffic = database, network, process, traffic
        self._epoch = 0
        self._connected = False
        self._wake = asyncio.Event()
        self._flying: dict[asyncio.Future[Any], Callable[[], Any]] = {}
        self._fence: Fence | None = None

    @property
    def connected(self) -> bool:
        """True until a cut was noticed, which takes something to send or to hear."""
        return self._connected

    @property
    def epoch(self) -> int:
        """The epoch of the last snapshot that was taken."""
        return self._epoch

    async def rows(self) -> AsyncIterator[Rows]:
        """The content, whole after each connect, then the changes in order of commit; a second reader connects anew."""
        if self._connected:
            self._disconnect()
        while True:
            await self._connect()
            self._database.listeners.append(self._wake)
            try:
                async for rows in self._session():
                    yield rows
            finally:
                self._database.listeners.remove(self._wake)
            self._disconnect()

    async def _connect(self) -> None:
        network = self._network
        await network.pause(self._process, network.delay())
        while network.away(SERVER):
            await network.pause(self._process, network.rng.uniform(1, 2))
        self._connected = True

    async def _session(self) -> AsyncIterator[Rows]:
        database, network = self._database, self._network
        self._epoch += 1
        epoch = self._epoch
        seq = database.tick()
        at = len(database.log)
        tables = database.tables
        await network.pause(self._process, network.delay())
        yield Rows(seq, epoch, True, dict(tables.ports), _by_name(tables), dict(tables.sets))
        while self._connected:
            self._wake.clear()
            if at == len(database.log):
                await self._wake.wait()
            if network.away(SERVER) or network.chance(network.faults.cut_northbound):
                return
            await network.pause(self._process, network.delay())
            news, at = database.log[at:], len(database.log)
            if news and self._connected:
                yield _rows(news, epoch, database)

    def _disconnect(self) -> None:
        """Every transaction on the way is served now or never, and nobody knows which."""
        self._connected = False
        self._wake.set()
        flying, self._flying = self._flying, {}
        for answer, act in flying.items():
            if self._network.chance(0.5):
                with contextlib.suppress(PortError):
                    act()
            if not answer.done():
                answer.set_exception(Unavailable("the connection was lost"))
                answer.exception()

    async def commit(self, effects: tuple[NbEffect, ...]) -> int:
        """One transaction; an unknown outcome costs the connection, so that a later epoch tells it."""
        self._traffic.sent("transact", self._process, "Northbound", ("", _names(effects)), effects)
        by, fence = self._process.name, self._fence
        seq: int = await self._ask(lambda: self._database.commit(effects, by, fence))
        return seq

    async def fence(self) -> Fence | None:
        """What it says."""
        says: Fence | None = await self._ask(lambda: self._database.fence)
        return says

    async def raise_fence(self, was: Fence | None, new: Fence) -> int:
        """Compare and swap."""
        self._traffic.sent("transact", self._process, "Northbound", ("", "the fence"), ())
        seq: int = await self._ask(lambda: self._database.raise_fence(was, new))
        self._fence = new
        return seq

    async def _ask(self, act: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        if not self._connected or self._process.dead or self._network.away(SERVER):
            await asyncio.sleep(self._network.delay())
            raise Unavailable("not connected to the Northbound database", unknown=False)
        answer: asyncio.Future[Any] = loop.create_future()
        deadline = loop.time() + REQUEST_LIMIT

        def arrive() -> None:
            if self._process.dead and self._network.chance(self._network.faults.orphaned):
                loop.call_later(self._network.rng.uniform(1, 30), arrive)  # what the dead have sent, TCP sends again
            elif (self._process.dead or loop.time() <= deadline) and self._flying.pop(answer, None) is not None:
                self._serve(answer, act)

        self._flying[answer] = act
        self._process.asking.set()
        self._later(arrive)
        timeout = loop.call_at(deadline, self._lose, answer)
        try:
            return await answer
        finally:
            timeout.cancel()

    def _later(self, then: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        delay = self._network.delay() + max(0.0, self._process.held_until - loop.time())
        loop.call_later(delay, then)

    def _serve(self, answer: asyncio.Future[Any], act: Callable[[], Any]) -> None:
        faults, network = self._network.faults, self._network
        if network.chance(faults.lost_request):
            self._lose(answer)
            return
        try:
            result: Any = act()
        except PortError as no:
            result = no
        if network.chance(faults.lost_reply):
            self._lose(answer)
        else:
            self._later(lambda: _settle(answer, result))

    def _lose(self, answer: asyncio.Future[Any]) -> None:
        """The answer will not come: hang up, so that the next connection shows what happened."""
        self._flying.pop(answer, None)
        if not answer.done():
            _settle(answer, Unavailable("no answer from the Northbound database"))
        if self._connected:
            self._disconnect()


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, PortError):
        answer.set_exception(result)
        answer.exception()
    else:
        answer.set_result(result)


def _names(effects: tuple[NbEffect, ...]) -> str:
    return ",".join(e.name if isinstance(e, PutSwitch | DropSwitch) else e.row.name for e in effects)


def _by_name(tables: Tables) -> dict[str, SwitchRow | None]:
    return {row.name: row for row in reversed(list(tables.switches.values()))}


def _rows(news: list[Transaction], epoch: int, database: Database) -> Rows:
    ports: dict[str, PortRow | None] = {}
    switches: dict[str, SwitchRow | None] = {}
    sets: dict[str, AddressSetRow | None] = {}
    for change in news:
        ports |= {name: after for name, (_, after) in change.ports.items()}
        switches |= {name: after for name, (_, after) in change.switches.items()}
        sets |= {name: after for name, (_, after) in change.sets.items()}
    remaining = _by_name(database.tables)
    switches = {name: row or remaining.get(name) for name, row in switches.items()}
    return Rows(news[-1].seq, epoch, False, ports, switches, sets)
