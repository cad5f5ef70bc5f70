"""Effects as OVSDB operations, each with the guard that makes it safe to send from a stale copy.

A guard is a `wait` with timeout 0 (RFC 7047 §5.2.6): if it does not hold, the whole transaction is refused and
nothing is applied. Rows are addressed by _uuid, the only index that `where` uses (tech.md 2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final, assert_never

from controller.core.effects import DropAddressSet, DropPort, DropSwitch, PutAddressSet, PutPort, PutSwitch
from controller.core.rows import IP_POOL, POD_UID, VENDOR, AddressSetRow, PortRow
from controller.ports import Conflict, Rejected
from controller.wire.tables import PORTS, SETS, SWITCHES, pairs_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from controller.core.effects import NbEffect
    from controller.ports import Fence
    from controller.wire.tables import Tables

Operation = dict[str, Any]
# The fence is a row of our own, for a guard compares whole columns and NB_Global's are shared. Of the tables whose rows
# have a name and stay without a reference, this one is there since OVN 2.12 and costs nothing: northd (23.03) writes
# nothing to Southbound for a group that no router port names. It would copy an Address_Set to every node.
_FENCES: Final = "HA_Chassis_Group"
_FENCE: Final[list[Any]] = [["name", "==", "keepip"]]
Ref = tuple[str, str]  # ("uuid", ...) of a row that exists, ("named-uuid", ...) of one inserted in this transaction


@dataclass(slots=True)
class _Part:
    """What one caller's effects add to a transaction."""

    operations: list[Operation] = field(default_factory=list)
    homes: dict[int, str] = field(default_factory=dict)
    joins: list[tuple[Ref, Ref]] = field(default_factory=list)
    switches: dict[str, Ref] = field(default_factory=dict)


class Draft:
    """One transaction being written, for many callers."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._names = count()
        self._switches: dict[str, Ref] = {}  # name -> row that is guarded or made in this transaction
        self._joins: dict[Ref, list[Ref]] = {}
        self._operations: list[Operation] = []
        self.homes: dict[int, str] = {}  # place of the guard "this port is in its switch" -> uuid of the port

    def add(self, effects: Iterable[NbEffect], strays: AbstractSet[str] = frozenset()) -> bool:
        """Write one caller's effects; False if there is nothing to do. Raises Conflict or Rejected and adds nothing.

        `strays` are ports known not to be in the switch that they name.
        """
        part = _Part()
        for effect in effects:
            _check(effect)
            match effect:
                case PutPort(row, None):
                    self._create_port(part, row)
                case PutPort(row, was) if was is not None:
                    self._update_port(part, row, was, stray=was.uuid in strays)
                case DropPort(row):
                    self._drop_unchanged(part, row)
                case PutSwitch(name):
                    self._create_switch(part, name)
                case DropSwitch(_, uuid):
                    if uuid in self._tables.switches:
                        part.operations.append(_wait(SWITCHES, _where(uuid), ["ports"], [{"ports": ["set", []]}]))
                        part.operations.append({"op": "delete", "table": SWITCHES, "where": _where(uuid)})
                case PutAddressSet(row, was):
                    self._put_set(part, row, was)
                case DropAddressSet(row):
                    self._drop_set(part, row)
                case _:
                    assert_never(effect)  # type: ignore[arg-type]
        self._take(part)
        return bool(part.operations)

    def operations(self) -> list[Operation]:
        """The whole transaction: one mutate per switch, for each one costs the server a copy of its ports."""
        joins = [
            _mutate(SWITCHES, [["_uuid", "==", list(switch)]], "insert", [list(port) for port in ports])
            for switch, ports in self._joins.items()
        ]
        return self._operations + joins

    def _take(self, part: _Part) -> None:
        base = len(self._operations)
        self.homes.update({base + at: uuid for at, uuid in part.homes.items()})
        self._operations += part.operations
        self._switches |= part.switches
        for switch, port in part.joins:
            self._joins.setdefault(switch, []).append(port)

    def _create_port(self, part: _Part, row: PortRow) -> None:
        switch = self._switch(part, row.switch)
        name = self._name("port")
        part.operations.append({"op": "insert", "table": PORTS, "uuid-name": name, "row": _columns(row)})
        part.joins.append((switch, ("named-uuid", name)))

    def _update_port(self, part: _Part, row: PortRow, was: PortRow, *, stray: bool) -> None:
        if was.uuid not in self._tables.ports:
            raise Conflict(f"port {was.name} is gone")
        part.operations.append(_wait(PORTS, _where(was.uuid), list(_ALL), [_columns(was, _ALL)]))
        if stray or row.switch != was.switch:
            self._drop_port(part, was.uuid)
            self._create_port(part, row)
            return
        part.homes[len(part.operations)] = was.uuid
        part.operations.append(_wait(SWITCHES, _holding(was.uuid), ["name"], [{"name": row.switch}]))
        changed = [column for column in _ALL if getattr(row, column) != getattr(was, column)]
        if changed:
            columns = _columns(row, changed)
            part.operations.append({"op": "update", "table": PORTS, "where": _where(was.uuid), "row": columns})

    def _drop_unchanged(self, part: _Part, row: PortRow) -> None:
        """Drop the port as it was seen: one that is another pod's by now, or has other addresses, is a Conflict.

        The guards say "there is no such row that differs", so that an absent one is fine.
        """
        changed: list[list[Any]] = [["addresses", "!=", ["set", row.addresses]]]
        if made_for := row.external(POD_UID):
            changed.append(["external_ids", "excludes", ["map", [[POD_UID, made_for]]]])
        if row.uuid in self._tables.ports:
            for clause in changed:
                part.operations.append(_wait(PORTS, [*_where(row.uuid), clause], ["name"], []))
        self._drop_port(part, row.uuid)

    def _drop_port(self, part: _Part, uuid: str) -> None:
        """Take the port out of whatever switch really holds it: the row, referenced by none, is collected then.

        The external id `ls` may lie (bug row 53), so the server looks through the switches: 25 us per 500 switches.
        """
        if uuid in self._tables.ports:
            part.operations.append(_mutate(SWITCHES, _holding(uuid), "delete", [["uuid", uuid]]))

    def _create_switch(self, part: _Part, name: str) -> None:
        if name in self._tables.switch_names or name in self._switches or name in part.switches:
            return
        ref = "named-uuid", self._name("switch")
        row = {"name": name, "external_ids": ["map", [["vendor", VENDOR]]]}
        part.operations.append(_wait(SWITCHES, [["name", "==", name]], ["name"], []))
        part.operations.append({"op": "insert", "table": SWITCHES, "uuid-name": ref[1], "row": row})
        part.switches[name] = ref

    def _put_set(self, part: _Part, row: AddressSetRow, was: AddressSetRow | None) -> None:
        if was is None:
            part.operations.append({"op": "insert", "table": SETS, "row": _set_columns(row)})
            return
        if was.uuid not in self._tables.sets:
            raise Conflict(f"address set {was.name} is gone")
        old, new = _set_columns(was), _set_columns(row)
        part.operations.append(_wait(SETS, _where(was.uuid), [*old], [old]))
        part.operations.append({"op": "update", "table": SETS, "where": _where(was.uuid), "row": new})

    def _drop_set(self, part: _Part, row: AddressSetRow) -> None:
        """Drop it if it is still that pool's: the guard says "there is no such row of something else"."""
        if row.uuid in self._tables.sets:
            others = ["external_ids", "excludes", ["map", [[IP_POOL, row.pool]]]]
            part.operations.append(_wait(SETS, [*_where(row.uuid), others], ["name"], []))
            part.operations.append({"op": "delete", "table": SETS, "where": _where(row.uuid)})

    def _switch(self, part: _Part, name: str) -> Ref:
        """The switch to put a port in, guarded once: a mutate of a row that is gone would silently do nothing."""
        ref = self._switches.get(name) or part.switches.get(name)
        if ref is None:
            row = self._tables.switch_names.get(name)
            if row is None:
                raise Conflict(f"there is no logical switch {name!r}")
            part.operations.append(_wait(SWITCHES, _where(row.uuid), ["name"], [{"name": name}]))
            part.switches[name] = ref = ("uuid", row.uuid)
        return ref

    def _name(self, kind: str) -> str:
        return f"{kind}{next(self._names)}"


def _check(effect: NbEffect) -> None:
    """Refuse text that OVSDB's JSON cannot hold: the server would hang up on everybody whose effects share the line."""
    match effect:
        case PutPort(row):
            pairs = chain.from_iterable((*row.external_ids, *row.options))
            texts = (row.name, row.type, *row.addresses, *row.port_security, *pairs)
        case PutSwitch(name):
            texts = (name,)
        case PutAddressSet(row):
            texts = (row.name, *row.addresses, *chain.from_iterable(row.external_ids))
        case _:
            return
    text = "".join(texts)
    if "\x00" in text or not _encodable(text):
        raise Rejected(f"northbound: {text!r} cannot be stored: it holds a NUL or half of a surrogate pair")


def _encodable(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


_ALL: Final = ("name", "addresses", "external_ids", "port_security", "type", "options")


def _columns(row: PortRow, wanted: Iterable[str] = ()) -> dict[str, Any]:
    """The row's columns as OVSDB writes them; without `wanted`, those that differ from the schema's defaults."""
    columns: dict[str, Any] = {
        "name": row.name,
        "addresses": ["set", row.addresses],
        "external_ids": ["map", row.external_ids],
        "port_security": ["set", row.port_security],
        "type": row.type,
        "options": ["map", row.options],
    }
    if wanted:
        return {column: columns[column] for column in wanted}
    return {column: value for column, value in columns.items() if getattr(row, column)}


def _set_columns(row: AddressSetRow) -> dict[str, Any]:
    return {"name": row.name, "addresses": ["set", row.addresses], "external_ids": ["map", row.external_ids]}


def _where(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def _holding(port: str) -> list[Any]:
    return [["ports", "includes", ["uuid", port]]]


def _wait(table: str, where: list[Any], columns: list[str], rows: list[Any]) -> Operation:
    return {
        "op": "wait",
        "timeout": 0,
        "table": table,
        "where": where,
        "columns": columns,
        "until": "==",
        "rows": rows,
    }


def _mutate(table: str, where: list[Any], mutator: str, ports: list[Any]) -> Operation:
    return {"op": "mutate", "table": table, "where": where, "mutations": [["ports", mutator, ["set", ports]]]}


def fence_says(fence: Fence) -> Operation:
    """A guard: the fence says just that."""
    return _wait(_FENCES, _FENCE, ["external_ids"], [_ids(fence)])


def read_fence() -> list[Operation]:
    """Ask what the fence says."""
    return [{"op": "select", "table": _FENCES, "where": _FENCE, "columns": ["external_ids"]}]


def fence_of(results: list[Any]) -> Fence | None:
    """The answer to read_fence()."""
    rows = results[0]["rows"]
    return pairs_of(rows[0]["external_ids"]) if rows else None


def move_fence(was: Fence | None, new: Fence) -> list[Operation]:
    """Make the fence say `new`, guarded by what it says now; its name is unique."""
    if was is None:
        return [{"op": "insert", "table": _FENCES, "row": {"name": _FENCE[0][2], **_ids(new)}}]
    return [fence_says(was), {"op": "update", "table": _FENCES, "where": _FENCE, "row": _ids(new)}]


def _ids(pairs: Fence) -> dict[str, Any]:
    return {"external_ids": ["map", pairs]}
