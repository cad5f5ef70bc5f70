"""Our copy of Northbound: three tables by uuid and by name, changed by the row updates that the server sends."""

from __future__ import annotations

from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from controller.core.rows import VENDOR, AddressSetRow, PortRow, SwitchRow

if TYPE_CHECKING:
    from collections.abc import Mapping

PORTS: Final = "Logical_Switch_Port"
SWITCHES: Final = "Logical_Switch"
SETS: Final = "Address_Set"
_COMMON: Final = frozenset({"ls", "vendor"})  # external ids that many rows have with the same value

_STRING: Final = {"type": "string"}
_STRINGS: Final = {"type": {"key": "string", "min": 0, "max": "unlimited"}}
_PAIRS: Final = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}

# The same since OVN 2.12 (schema 5.17) until today. A switch's `ports` is left out: its 10k uuids would be copied at
# each change (tech.md 2).
COLUMNS: Final[dict[str, dict[str, Any]]] = {
    PORTS: {
        "name": _STRING,
        "type": _STRING,
        "addresses": _STRINGS,
        "port_security": _STRINGS,
        "external_ids": _PAIRS,
        "options": _PAIRS,
    },
    SWITCHES: {"name": _STRING, "external_ids": _PAIRS},
    SETS: {"name": _STRING, "addresses": _STRINGS, "external_ids": _PAIRS},
}

Update: TypeAlias = "Mapping[str, Any]"


class Tables:
    """What the server last told us, and which names have changed since they were last taken."""

    def __init__(self) -> None:
        self.ports: dict[str, PortRow] = {}
        self.port_names: dict[str, PortRow] = {}
        self.switches: dict[str, SwitchRow] = {}
        self.switch_names: dict[str, SwitchRow] = {}
        self._twins: dict[str, set[str]] = {}
        self.changed_ports: dict[str, PortRow | None] = {}
        self.changed_switches: dict[str, SwitchRow | None] = {}
        self.sets: dict[str, AddressSetRow] = {}
        self.set_names: dict[str, AddressSetRow] = {}
        self.changed_sets: dict[str, AddressSetRow | None] = {}

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]

    def forget_changes(self) -> None:
        """The changes so far are told, or of no interest."""
        self.changed_ports, self.changed_switches, self.changed_sets = {}, {}, {}

    @property
    def changed(self) -> bool:
        """True if there is something to tell."""
        return bool(self.changed_ports or self.changed_switches or self.changed_sets)

    def apply(self, table: str, uuid: str, update: Update) -> None:
        """Apply one row update of monitor_cond (ovsdb-server(7)): initial, insert, modify, delete."""
        if table == PORTS:
            self._port(uuid, update)
        elif table == SWITCHES:
            self._switch(uuid, update)
        elif table == SETS:
            self._set(uuid, update)

    def _port(self, uuid: str, update: Update) -> None:
        old = self.ports.get(uuid)
        fresh = _fresh(update)
        if fresh is not None:
            row = _port(uuid, fresh)
        elif old is not None and (diff := update.get("modify")) is not None:
            row = _modified_port(old, diff)
        else:
            if self.ports.pop(uuid, None) is not None and old is not None:
                self._port_left(old)
            return
        if old is not None and old.name != row.name:
            self._port_left(old)
        self.ports[uuid] = self.port_names[row.name] = self.changed_ports[row.name] = row

    def _port_left(self, old: PortRow) -> None:
        # The same transaction may have given the name to another row, whose update came first.
        if self.port_names[old.name].uuid == old.uuid:
            del self.port_names[old.name]
            self.changed_ports[old.name] = None

    def _switch(self, uuid: str, update: Update) -> None:
        old = self.switches.pop(uuid, None)
        fresh = _fresh(update)
        if fresh is not None:
            self.switches[uuid] = SwitchRow(fresh.get("name", ""), pairs_of(fresh.get("external_ids")), uuid)
        elif old is not None and (diff := update.get("modify")) is not None:
            self.switches[uuid] = old._replace(
                name=diff.get("name", old.name),
                external_ids=_patched(old.external_ids, pairs_of(diff.get("external_ids"))),
            )
        for row in (old, self.switches.get(uuid)):
            if row is not None:
                self._elect(row.name, uuid, present=row is not old)

    def _set(self, uuid: str, update: Update) -> None:
        old = self.sets.pop(uuid, None)
        fresh = _fresh(update)
        row = None
        if fresh is not None:
            texts, ids = _strings(fresh.get("addresses")), pairs_of(fresh.get("external_ids"))
            row = AddressSetRow(fresh.get("name", ""), texts, ids, uuid)
        elif old is not None and (diff := update.get("modify")) is not None:
            texts = _toggled(old.addresses, _strings(diff.get("addresses")))
            ids = _patched(old.external_ids, pairs_of(diff.get("external_ids")))
            row = AddressSetRow(diff.get("name", old.name), texts, ids, uuid)
        # The same transaction may have given the name to another row, whose update came first.
        if old is not None and self.set_names[old.name].uuid == uuid:
            del self.set_names[old.name]
            self.changed_sets[old.name] = None
        if row is not None:
            self.sets[uuid] = self.set_names[row.name] = self.changed_sets[row.name] = row

    def _elect(self, name: str, uuid: str, *, present: bool) -> None:
        """Logical_Switch.name is not unique: of twins, the one that Kube-OVN made stands for the name."""
        twins = self._twins.setdefault(name, set())
        twins.discard(uuid)
        if present:
            twins.add(uuid)
        if twins:
            chosen = min((self.switches[u] for u in twins), key=_rank)
            self.switch_names[name] = self.changed_switches[name] = chosen
        else:
            del self._twins[name]
            self.switch_names.pop(name, None)
            self.changed_switches[name] = None


def _rank(row: SwitchRow) -> tuple[bool, str]:
    return ("vendor", VENDOR) not in row.external_ids, row.uuid


def _fresh(update: Update) -> Mapping[str, Any] | None:
    """The whole row if the update carries one: columns that have their default are left out."""
    for word in ("initial", "insert", "new"):
        if (row := update.get(word)) is not None:
            return row  # type: ignore[no-any-return]
    return None


def _port(uuid: str, row: Mapping[str, Any]) -> PortRow:
    return PortRow(
        row.get("name", ""),
        _strings(row.get("addresses")),
        pairs_of(row.get("external_ids")),
        _strings(row.get("port_security")),
        row.get("type", ""),
        pairs_of(row.get("options")),
        uuid,
    )


def _modified_port(old: PortRow, diff: Mapping[str, Any]) -> PortRow:
    return PortRow(
        diff.get("name", old.name),
        _toggled(old.addresses, _strings(diff.get("addresses"))),
        _patched(old.external_ids, pairs_of(diff.get("external_ids"))),
        _toggled(old.port_security, _strings(diff.get("port_security"))),
        diff.get("type", old.type),
        _patched(old.options, pairs_of(diff.get("options"))),
        old.uuid,
    )


def _strings(json: Any) -> tuple[str, ...]:
    """A set of strings: `["set", [...]]`, or a bare string when it has one."""
    if json is None:
        return ()
    if isinstance(json, str):
        return (json,)
    return tuple(sorted(json[1]))


def pairs_of(json: Any) -> tuple[tuple[str, str], ...]:
    """A map of strings: `["map", [[key, value], ...]]`. The keys are few, and so are some keys' values: kept once."""
    if json is None:
        return ()
    return tuple(sorted(_common(k, v) if k in _COMMON else (intern(k), v) for k, v in json[1]))


@lru_cache(maxsize=4096)
def _common(key: str, value: str) -> tuple[str, str]:
    return intern(key), intern(value)


def _toggled(old: tuple[str, ...], diff: tuple[str, ...]) -> tuple[str, ...]:
    """A set's diff holds what was added and what was removed."""
    return tuple(sorted(set(old).symmetric_difference(diff))) if diff else old


def _patched(old: tuple[tuple[str, str], ...], diff: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """A map's diff holds removed pairs as they were, added and changed pairs as they are."""
    if not diff:
        return old
    new = dict(old)
    for key, value in diff:
        if new.get(key) == value:
            del new[key]
        else:
            new[key] = value
    return tuple(sorted(new.items()))
