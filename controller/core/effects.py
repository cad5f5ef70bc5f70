"""Everything keepip can do to the world, as values; a Decision is what one look at the world asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from controller.core.objects import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.core.catalogue import Message
    from controller.core.objects import Recorded, Seconds
    from controller.core.rows import AddressSetRow, PortRow

Body: TypeAlias = "Mapping[str, Any]"
Topic: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """Hold an address for a port in memory, from this very step until its records are seen (house, data flow)."""

    port: str
    subnet: str
    v4: int | None
    v6: int | None
    mac: int | None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Give up what was promised to a port: its owner is gone and no write of ours is in doubt."""

    port: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Know what was granted to the IP of that uid, once all that stands before this is answered."""

    name: str
    uid: str
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class PutPort:
    """Make the port row exist in its switch (`row.switch`) with these columns.

    Guard: `was` is the row as it was seen, or None for create-only; the unique index on `name` arbitrates creation,
    and an update applies to the row of uuid `was.uuid` only, and moves it when `was.switch` differs.
    """

    row: PortRow
    was: PortRow | None = None


@dataclass(frozen=True, slots=True)
class DropPort:
    """Make the port row not exist. Absent is fine; one that is another pod's by now, or readdressed, is a Conflict."""

    row: PortRow


@dataclass(frozen=True, slots=True)
class PutSwitch:
    """Make a Logical_Switch of that name exist."""

    name: str


@dataclass(frozen=True, slots=True)
class DropSwitch:
    """Make the Logical_Switch of that uuid not exist. Absent is fine; one that has ports, whosever, is a Conflict."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class PutAddressSet:
    """Make the Address_Set of that name hold just this.

    Guard: `was` is the row as it was seen, or None for create-only; the unique index on `name` arbitrates creation.
    """

    row: AddressSetRow
    was: AddressSetRow | None = None


@dataclass(frozen=True, slots=True)
class DropAddressSet:
    """Make an IPPool's Address_Set not exist. Absent is fine; one that is not that pool's any more is a Conflict."""

    row: AddressSetRow


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object; the name is the guard: AlreadyExists is a Conflict."""

    kind: Kind
    namespace: str
    name: str
    body: Body


@dataclass(frozen=True, slots=True)
class Patch:
    """One merge patch. The guard (metadata.resourceVersion or metadata.uid) is in the body."""

    kind: Kind
    namespace: str
    name: str
    body: Body
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object of that uid, as it was seen: one that was changed since is a Conflict. Absent is fine.

    `why` is for people: logs and metrics.
    """

    kind: Kind
    namespace: str
    name: str
    uid: str
    version: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class ConfirmGone:
    """Go on only if a live read says that no such object exists: absence from a replica is no proof (contract §7).

    A pod that has ended for good is as good as gone, a Vip that has not got the port `row`, and, where the `uid` of
    the one in question is known, another one of that name. An owner that was judged by what it declares must still
    be of the `generation` that was seen: it may have been scaled up again.
    """

    namespace: str
    name: str
    kind: Kind = Kind.POD
    row: PortRow | None = None
    uid: str = ""
    generation: int | None = None


NbEffect: TypeAlias = PutPort | DropPort | PutSwitch | DropSwitch | PutAddressSet | DropAddressSet
KubeEffect: TypeAlias = Create | Patch | Delete
Effect: TypeAlias = Promise | Withdraw | Remember | ConfirmGone | NbEffect | KubeEffect


@dataclass(frozen=True, slots=True)
class Tell:
    """An Event to be shown on an object: not state, so losing one is no error."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    message: Message


@dataclass(frozen=True, slots=True)
class Decision:
    """Effects in the order they must become durable, and when to look again.

    `status` is the status patch that the present state calls for (None: it is as it should be); it runs on a lane of
    lower priority (contract §3). `waits` are the topics that shall wake this key; `refusal` says why an owner gets
    nothing now, for metrics and Events.
    """

    effects: tuple[Effect, ...] = ()
    requeue_after: Seconds | None = None
    status: Patch | None = None
    waits: tuple[Topic, ...] = ()
    refusal: Message | None = None
    tells: tuple[Tell, ...] = field(default=())
