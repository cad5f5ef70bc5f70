"""What is asked of the servers: by whom it may be asked, and how often. Events are kept as the evidence they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from controller.core.objects import Kind
from tests.sim.checkers import Violation
from tests.sim.documents import spec
from tests.sim.world import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from tests.sim.apiserver import Request
    from tests.sim.world import SimWorld

WINDOW: Final = 60.0
PER_OBJECT: Final = 120  # requests about one object within the window; faults make more of them than there need be
WRITES: Final = frozenset({"create", "patch", "patch status", "delete", "transact"})
LEASE: Final = "keepip"


@dataclass(frozen=True, slots=True)
class Told:
    """An Event that was sent."""

    at: float
    uid: str
    reason: str
    message: str


@dataclass
class Watchman:
    """Looks at every request at the moment of sending."""

    universe: SimWorld
    told: dict[tuple[str, str, str], list[Told]] = field(default_factory=dict)
    reads: int = 0
    writes: int = 0
    nuisance: str = ""
    last: Request | None = None
    _recent: dict[tuple[str, tuple[str, str]], deque[float]] = field(default_factory=dict)
    _said: dict[tuple[str, str, str], float] = field(default_factory=dict)
    _events: set[str] = field(default_factory=set)
    _holders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.universe.traffic.witness.append(lambda request: self.universe.judge(lambda: self.look(request)))

    def look(self, request: Request) -> None:
        """Judge one request."""
        if request.kind == Kind.LEASE:
            holder = (request.body or {}).get("spec", {}).get("holderIdentity") if request.verb != "read" else None
            if holder:
                self._holders[request.by] = holder
            return
        if request.verb == "report":
            self._event(request)
        elif request.verb in WRITES:
            self.writes += 1
            self.last = request
            self._only_the_leader(request)
            self._not_too_often(request)
        elif request.verb == "read":
            self.reads += 1
            self._not_too_often(request)

    def _only_the_leader(self, request: Request) -> None:
        """A deposed leader writes nothing after its lease (contract §9)."""
        lease = self.universe.store.get(Kind.LEASE, SYSTEM_NAMESPACE, LEASE)
        holder = spec(lease).get("holderIdentity") if lease is not None else ""
        if holder and self._holders.get(request.by) != holder:
            raise Violation(
                f"t={request.at:.3f} {request.by} sent {request.verb} {request.kind} {request.name} "
                f"while {holder} holds the lease"
            )

    def _not_too_often(self, request: Request) -> None:
        recent = self._recent.setdefault((request.kind, request.name), deque())
        recent.append(request.at)
        while recent[0] < request.at - WINDOW:
            recent.popleft()
        if len(recent) > PER_OBJECT:
            raise Violation(
                f"t={request.at:.3f} {len(recent)} requests about {request.kind} {request.name} in {WINDOW:.0f} s"
            )

    def _event(self, request: Request) -> None:
        """One Event per object and reason at most once a minute, per life of a process."""
        body: dict[str, Any] = request.body
        about = body["involvedObject"]
        key = (about["kind"], about.get("namespace", ""), about["name"])
        told = Told(request.at, about.get("uid", ""), body["reason"], body["message"])
        self.told.setdefault(key, []).append(told)
        mark = (request.by, told.uid, told.reason)
        if body["metadata"]["name"] in self._events:
            return  # the same Event, sent again
        self._events.add(body["metadata"]["name"])
        last = self._said.get(mark, float("-inf"))
        self._said[mark] = request.at
        if request.at - last < WINDOW - 20:  # an Event may wait for its turn
            again = f"t={request.at:.3f} {told.reason} was told to {key} after {request.at - last:.1f} s again"
            self.nuisance = self.nuisance or again

    def reasons(self, kind: Kind, namespace: str, name: str, uid: str) -> set[str]:
        """The reasons of all Events about that very object."""
        return {t.reason for t in self.told.get((str(kind), namespace, name), ()) if t.uid in ("", uid)}
