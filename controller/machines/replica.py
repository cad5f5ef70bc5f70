"""What the servers hold, as far as we have been told: swapped whole after a list, patched by events, indexed.

All methods are synchronous, so a reader between two of them never sees half a list.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from controller.core.objects import Object

if TYPE_CHECKING:
    from collections.abc import Callable, ValuesView

    from controller.core.rows import AddressSetRow, PortRow, SwitchRow

V = TypeVar("V", bound=Object)
Item = TypeVar("Item", bound=Hashable)
Row = TypeVar("Row", "PortRow", "SwitchRow", "AddressSetRow")

ObjKey: TypeAlias = tuple[str, str]
Change: TypeAlias = tuple[ObjKey, V | None, V | None]
Values: TypeAlias = "Callable[[V], Iterable[Hashable]]"


class _Index(Generic[Item]):
    """From a value to the items that have it, in the order in which they got it; an empty value takes no room.

    Most values belong to one item, which then stands for itself: only where several share a value there is a dict.
    """

    __slots__ = ("_many", "_one")

    def __init__(self) -> None:
        self._one: dict[Hashable, Item] = {}
        self._many: dict[Hashable, dict[Item, None]] = {}

    def move(self, item: Item, old: Iterable[Hashable], new: Iterable[Hashable]) -> None:
        """Take the item from its old values to its new ones; where it stays, it keeps its place."""
        before, after = dict.fromkeys(old), dict.fromkeys(new)
        for value in before:
            if value not in after:
                self._remove(value, item)
        for value in after:
            if value not in before:
                self._add(value, item)

    def items(self, value: Hashable) -> Iterable[Item]:
        many = self._many.get(value)
        if many is not None:
            return many
        return (self._one[value],) if value in self._one else ()

    def count(self, value: Hashable) -> int:
        many = self._many.get(value)
        return int(value in self._one) if many is None else len(many)

    def __len__(self) -> int:
        return len(self._one) + len(self._many)

    def _add(self, value: Hashable, item: Item) -> None:
        if value in self._many:
            self._many[value][item] = None
        elif value in self._one:
            self._many[value] = {self._one.pop(value): None, item: None}
        else:
            self._one[value] = item

    def _remove(self, value: Hashable, item: Item) -> None:
        many = self._many.get(value)
        if many is None:
            del self._one[value]
            return
        del many[item]
        if len(many) == 1:
            self._one[value] = next(iter(many))
            del self._many[value]


class Replica(Generic[V]):
    """Never goes back: an event older than what is held changes nothing; only a whole list may replace it."""

    def __init__(
        self,
        indexes: Mapping[str, Values[V]] | None = None,
        tombstones: int = 20_000,
        known_as: Callable[[V], V] | None = None,
    ) -> None:
        """Keep an index per name, by the values that its function gives for an object; remember so many vanished.

        `known_as` says as what an object is kept, where that is not what was read.
        """
        self.version = 0  # everything up to this resourceVersion has been applied
        self.synced = False
        self._objects: dict[ObjKey, V] = {}
        self._indexes: dict[str, tuple[Values[V], _Index[ObjKey]]] = {
            name: (values, _Index()) for name, values in (indexes or {}).items()
        }
        self._gone: OrderedDict[ObjKey, str] = OrderedDict()
        self._tombstones = tombstones
        self._known_as = known_as

    def replace(self, objects: Iterable[V], version: int) -> list[Change[V]]:
        """Swap the whole content; return (key, old, new) for all that changed, appeared or vanished."""
        changes: list[Change[V]] = []
        fresh: set[ObjKey] = set()
        for new in objects:
            key = (new.metadata.namespace, new.metadata.name)
            fresh.add(key)
            old = self._objects.get(key)
            if old is None or old.metadata.resource_version != new.metadata.resource_version:
                changes.append(self._set(key, new))
        vanished = [key for key in self._objects if key not in fresh]  # not a set: its order would be chance
        changes += [self._set(key, None) for key in vanished]
        self.version, self.synced = version, True
        return changes

    def apply(self, version: int, obj: V | None, deleted: bool) -> Change[V] | None:  # noqa: FBT001 - mirrors a watch event
        """Patch one object; return (key, old, new), or None for a bookmark or for what is no news."""
        known, self.version = self.version, max(self.version, version)
        if obj is None or version <= known:
            return None
        key = (obj.metadata.namespace, obj.metadata.name)
        held = self._objects.get(key)
        if held is not None and version < held.metadata.version:
            return None
        change = self._set(key, None if deleted else obj)
        return None if held is None and deleted else change

    def get(self, namespace: str, name: str) -> V | None:
        """The object of that name, if there is one."""
        return self._objects.get((namespace, name))

    def values(self) -> ValuesView[V]:
        """All objects."""
        return self._objects.values()

    def by(self, index: str, value: Hashable) -> tuple[V, ...]:
        """The objects that have this value in that index, in the order in which they got it."""
        return tuple(self._objects[key] for key in self._indexes[index][1].items(value))

    def count_by(self, index: str, value: Hashable) -> int:
        """How many objects have this value in that index."""
        return self._indexes[index][1].count(value)

    def seen_gone(self, namespace: str, name: str) -> bool:
        """True if this process saw that the name existed and then vanished, and it is absent now.

        False is no proof of anything: only the last `tombstones` vanished names are remembered.
        """
        return (namespace, name) in self._gone

    def gone_uid(self, namespace: str, name: str) -> str:
        """The uid of the object of that name that this process saw vanish last, "" if it saw none or there is one.

        That very object will never be there again, whatever the replica does not show yet.
        """
        return self._gone.get((namespace, name), "")

    def __len__(self) -> int:
        return len(self._objects)

    def _set(self, key: ObjKey, new: V | None) -> Change[V]:
        old = self._objects.get(key)
        new = self._known_as(new) if new is not None and self._known_as is not None else new
        for values, index in self._indexes.values():
            index.move(key, () if old is None else values(old), () if new is None else values(new))
        if new is None:
            self._objects.pop(key, None)
            self._bury(key, old)
        else:
            self._objects[key] = new
            self._gone.pop(key, None)
        return key, old, new

    def _bury(self, key: ObjKey, old: V | None) -> None:
        self._gone[key] = old.metadata.uid if old is not None else ""
        self._gone.move_to_end(key)
        if len(self._gone) > self._tombstones:
            self._gone.popitem(last=False)


class PortReplica:
    """Northbound's ports, switches and address sets by name; ports by owner (external id `pod`, "namespace/name")."""

    def __init__(self) -> None:
        self._ports: dict[str, PortRow] = {}
        self._switches: dict[str, SwitchRow] = {}
        self._sets: dict[str, AddressSetRow] = {}
        self._owners: _Index[str] = _Index()
        self._seq = self._epoch = 0
        self._synced = False

    @property
    def seq(self) -> int:
        """The number of the last Rows applied."""
        return self._seq

    @property
    def epoch(self) -> int:
        """The epoch of the last Rows applied."""
        return self._epoch

    @property
    def synced(self) -> bool:
        """True from the first whole content on."""
        return self._synced

    def apply(
        self,
        seq: int,
        epoch: int,
        whole: bool,  # noqa: FBT001
        ports: Mapping[str, PortRow | None],
        switches: Mapping[str, SwitchRow | None],
    ) -> tuple[list[tuple[str, PortRow | None, PortRow | None]], list[tuple[str, SwitchRow | None, SwitchRow | None]]]:
        """Take in one Rows; return the ports and the switches that changed, each as (name, old, new)."""
        port_changes = _patch(self._ports, ports, whole=whole)
        for name, old, new in port_changes:
            self._owners.move(name, _owner(old), _owner(new))
        self._seq, self._epoch, self._synced = seq, epoch, self._synced or whole
        return port_changes, _patch(self._switches, switches, whole=whole)

    def nearer(
        self, ports: Mapping[str, PortRow | None], *, whole: bool, most: int
    ) -> Iterator[dict[str, PortRow | None]]:
        """What these rows would change, in parts of `most`, the last one left out; what goes comes first.

        Applied one after another, with pauses, they leave little to take in at once.
        """
        held = self._ports
        if whole:
            gone = [name for name in held if name not in ports]
        else:
            gone = [name for name, row in ports.items() if row is None and name in held]
        changes: dict[str, PortRow | None] = dict.fromkeys(gone)
        changes |= {name: row for name, row in ports.items() if row is not None and held.get(name) != row}
        names = list(changes)
        for at in range(0, len(names) - most, most):
            yield {name: changes[name] for name in names[at : at + most]}

    def apply_sets(
        self, sets: Mapping[str, AddressSetRow | None], *, whole: bool
    ) -> list[tuple[str, AddressSetRow | None, AddressSetRow | None]]:
        """Take in the address sets of the same Rows; return those that changed, each as (name, old, new)."""
        return _patch(self._sets, sets, whole=whole)

    def get_set(self, name: str) -> AddressSetRow | None:
        """The address set of that name, if there is one."""
        return self._sets.get(name)

    def sets(self) -> ValuesView[AddressSetRow]:
        """All address sets, other people's too."""
        return self._sets.values()

    def get_port(self, name: str) -> PortRow | None:
        """The port of that name, if there is one."""
        return self._ports.get(name)

    def get_switch(self, name: str) -> SwitchRow | None:
        """The switch of that name, if there is one."""
        return self._switches.get(name)

    def by_owner(self, owner: str) -> tuple[PortRow, ...]:
        """The ports of the owner "namespace/podName"."""
        return tuple(self._ports[name] for name in self._owners.items(owner))

    def ports(self) -> ValuesView[PortRow]:
        """All ports, other people's too."""
        return self._ports.values()

    def switches(self) -> ValuesView[SwitchRow]:
        """All switches, other people's too."""
        return self._switches.values()


def _owner(row: PortRow | None) -> tuple[str, ...]:
    owner = "" if row is None else row.external("pod")
    return (owner,) if owner else ()


def _patch(
    held: dict[str, Row], news: Mapping[str, Row | None], *, whole: bool
) -> list[tuple[str, Row | None, Row | None]]:
    """Bring `held` up to date in place and return what that changed, as (name, old, new)."""
    changes = [(name, held.get(name), new) for name, new in news.items() if held.get(name) != new]
    if whole:
        changes += [(name, old, None) for name, old in held.items() if name not in news]
    for name, _, new in changes:
        if new is None:
            del held[name]
        else:
            held[name] = new
    return changes
