"""FLOOR 2. What the reconcilers need from the world, and the errors it may answer with.

PortError
├── Conflict      our copy was stale or the name was taken: look again
├── NotFound      the object of a patch is not there: look again
├── Gone          the watch's window has moved past our version: list again
├── Fenced        somebody else's term has begun in Northbound, or nobody's: are we the leader?
├── Rejected      the server will never take this body (400, 422): say so on the object
├── Denied        we may not do that (401, 403): say so in log, metric and readiness
└── Unavailable   no answer or a refusal to serve; `unknown` tells whether the write may have happened

The laws below hold for every implementation; tests/contract runs one suite against the real servers and the
simulation's world.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from controller.core.effects import Body, NbEffect
    from controller.core.objects import Kind, Object, Seconds
    from controller.core.rows import AddressSetRow, PortRow, SwitchRow


class PortError(Exception):
    """The world said no, or said nothing."""


class Conflict(PortError):
    """A precondition failed (resourceVersion, uid, unique name): nothing was written."""


class NotFound(PortError):
    """There is no such object: nothing was written."""


class Gone(PortError):
    """The version asked for is too old to be watched from (410)."""


class Fenced(PortError):
    """Northbound's fence does not say what this client made it say: nothing was written."""


class Rejected(PortError):
    """The server refuses this content for good: nothing was written."""


class Denied(PortError):
    """We lack the right, or our token is not accepted: nothing was written."""


class Unavailable(PortError):
    """The server did not serve the request.

    `unknown` is False only if it is certain that nothing was written (connection refused, 429, 503 before
    processing); `retry_after` is the server's own wish in seconds, if it gave one.
    """

    def __init__(self, text: str, *, unknown: bool = True, retry_after: Seconds | None = None) -> None:
        super().__init__(text)
        self.unknown = unknown
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `token` is "" on the last one, `version` the list's resourceVersion."""

    objects: tuple[Object, ...]
    version: int
    token: str


@dataclass(frozen=True, slots=True)
class Change:
    """One watch event: the object as it is (or was, when `deleted`). None: a bookmark, only the version is news."""

    version: int
    object: Object | None = None
    deleted: bool = False


class Kube(Protocol):
    """The API server."""

    async def list(self, kind: Kind, token: str = "") -> Page:
        """A consistent list in pages; never older than any write that was answered before the first page was asked.

        Raises Gone when `token` has expired, NotFound if the server does not serve the kind (any more).
        """
        ...

    async def latest(self, kind: Kind) -> int:
        """A version of the kind's that is not before any write that was answered before this was asked.

        Raises NotFound as list does.
        """
        ...

    def watch(self, kind: Kind, version: int, *, brief: bool = False) -> AsyncIterator[tuple[Change, ...]]:
        """Every change of the kind after `version`, in order, none twice, in non-empty batches as they arrive.

        Ends when the server ends it (resume from the last version), a brief one within seconds: it tells how far it
        has come before it ends, by a bookmark if by nothing else, as far as the server can. Raises Gone, Unavailable,
        or NotFound as list does; never hangs on a half-open connection for much longer than a server that is well
        keeps silent.
        """
        ...

    async def read(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object as it is now, by a consistent read; None only if the server says that there is none."""
        ...

    async def create(self, kind: Kind, namespace: str, name: str, body: Body) -> int:
        """Create it and answer its version. Raises Conflict if the name is taken."""
        ...

    async def patch(self, kind: Kind, namespace: str, name: str, body: Body, subresource: str = "") -> int:
        """Merge-patch it and answer its version. A patch that removes the last finalizer of a deleted object is fine.

        Raises Conflict when metadata.resourceVersion or metadata.uid in the body does not match, NotFound, Rejected.
        """
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, seen: str = "") -> int:
        """Delete the object of that uid and answer the version to wait for (0: it was not there, which is fine).

        Raises Conflict if the name belongs to another uid by now, or if `seen` is given and not its resourceVersion.
        """
        ...

    async def report(self, body: Body) -> None:
        """Create a v1 Event in the namespace its metadata names. Raises Conflict if its name is taken."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """What is in Northbound. `ports`, `switches` and `sets` map names to rows, None for a row that is gone.

    With `whole` the maps are everything there is (after each connect); otherwise they are changes. `seq` grows with
    every Rows; `epoch` grows with every whole one.
    """

    seq: int
    epoch: int
    whole: bool
    ports: Mapping[str, PortRow | None]
    switches: Mapping[str, SwitchRow | None]
    sets: Mapping[str, AddressSetRow | None] = field(default_factory=dict)


Fence: TypeAlias = "tuple[tuple[str, str], ...]"
"""Whose term it is, as sorted pairs: one row of the database that says so to every transaction."""


class Northbound(Protocol):
    """OVN's Northbound database."""

    def rows(self) -> AsyncIterator[Rows]:
        """The content: first whole, then changes in order of commit; whole again after each reconnect. One reader."""
        ...

    async def commit(self, effects: tuple[NbEffect, ...]) -> int:
        """Apply the effects in one transaction, all or none, and answer the `seq` that shows them (or a later one).

        Transactions of many callers are grouped; a failing one does not fail the others. Raises Conflict (a name is
        taken, a row is gone or changed, the switch is not there), Fenced or Unavailable; after an Unavailable with
        `unknown`, a Rows of a later epoch shows what happened. Never hangs: every commit ends within its timeout.
        """
        ...

    async def fence(self) -> Fence | None:
        """What the fence says now; None if there is none. What was read may be old: raise_fence() finds out."""
        ...

    async def raise_fence(self, was: Fence | None, new: Fence) -> int:
        """Make the fence say `new`, and from the answer on tie each commit of this client to it: see Fenced.

        Answers the `seq` that shows all that was committed before. Raises Conflict if it does not say `was` (any more).
        """
        ...

    @property
    def connected(self) -> bool:
        """True while rows() follows the database: what it has shown is not old."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch that the next whole Rows must exceed to be later than everything sent until now."""
        ...


class Clock(Protocol):
    """Time and chance: the only sources of both."""

    def now(self) -> Seconds:
        """Monotonic seconds."""
        ...

    def wall(self) -> Seconds:
        """Seconds since the epoch, for timestamps in objects; may jump."""
        ...

    def jitter(self) -> float:
        """A factor between 0.8 and 1.2, so that many clients do not come back at once."""
        ...

    def dice(self) -> int:
        """46 random bits."""
        ...

    async def sleep(self, seconds: Seconds) -> None:
        """Return after that long."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """All of it, as one argument."""

    kube: Kube
    northbound: Northbound
    clock: Clock
