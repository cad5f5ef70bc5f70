"""Leader election on one Lease, with client-go's rules, as a machine over (what was read or answered, now).

    FOLLOWING --write answered--> LEADING --no renewal in time, or somebody else's record seen--> LOST
        ^                            |                                                              |
        +--------- released ---------+                        stood_down() <------------------------+

The driver asks act() what to do, does it, and reports back before it asks again: observed() after a Read, answered()
after a write, failed() when either brought nothing. Beside that it must stop leading at `until` even while a request
hangs; each request carries the time after which it is to be given up.

Guarantees, if clocks of different machines run at about the same speed:
* two never lead at once. A record of somebody else counts as alive until this process has seen it unchanged for its
  own duration on its own monotonic clock; texts of other clocks are never compared. A leader counts from when it
  *sent* its last successful renewal, for a shorter time (`renew_deadline` < `duration`), so it ends before others may
  begin, and what it has in flight has the difference left to end.
* each write is guarded by the version that the choice was made on; a creation by the name.
* after a loss nothing is acquired before stood_down() has said that the former term's writers are gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from controller.core.faults import Impossible

if TYPE_CHECKING:
    from controller.core.effects import Body
    from controller.core.objects import Lease, Seconds

_LOOK_S: Final = 1.0  # who waits looks at least this often: a Lease that was given back is taken within two seconds
_RELEASED: Final = 1  # leaseDurationSeconds of a released record, as client-go writes it: 0 is not valid


@dataclass(frozen=True, slots=True)
class Read:
    """Read the Lease, or give up after `within` seconds."""

    within: Seconds


@dataclass(frozen=True, slots=True)
class Acquire:
    """Write this body: by a create if `create`, else by a merge patch; give up after `within` seconds."""

    body: Body
    create: bool
    within: Seconds


@dataclass(frozen=True, slots=True)
class Renew:
    """Merge-patch this body; give up after `within` seconds."""

    body: Body
    within: Seconds


@dataclass(frozen=True, slots=True)
class Release:
    """Merge-patch this body, once; if it fails, the lease runs out by itself."""

    body: Body


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for that long."""

    seconds: Seconds


Action: TypeAlias = Read | Acquire | Renew | Wait


class Sighting:
    """Whether somebody holds a Lease, judged only by how long its record has not changed before our eyes."""

    def __init__(self) -> None:
        self._record: tuple[object, ...] | None = None
        self._lease: Lease | None = None
        self._changed = float("-inf")

    def see(self, lease: Lease | None, now: Seconds) -> None:
        """Take in what was read; None: there is no such Lease."""
        record = None if lease is None else (lease.spec, lease.fault and lease.metadata.resource_version)
        if record != self._record:
            self._record, self._changed = record, now
        self._lease = lease

    @property
    def holder(self) -> str:
        """Who holds it, or held it last; "?" for a record that cannot be read: "don't know" is never "gone"."""
        if self._lease is None:
            return ""
        return "?" if self._lease.fault else self._lease.spec.holder_identity

    def live(self, now: Seconds, default: Seconds) -> bool:
        """True until the record has been seen unchanged for its duration, or `default` if it names none."""
        return now < self.ends(default)

    def ends(self, default: Seconds) -> Seconds:
        """When the present record runs out; -inf if nobody holds it."""
        if self._lease is None or not self.holder:
            return float("-inf")
        return self._changed + (self._lease.spec.lease_duration_seconds or default)


class _Phase(Enum):
    FOLLOWING = "following"
    LEADING = "leading"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class _Term:
    """What we write about ourselves; equal in every renewal of one term but for the time."""

    acquired: str
    transitions: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """The request in flight; `term` is None for a Read."""

    at: Seconds
    term: _Term | None


class LeaseMachine:
    """Leads only while its own renewal, counted from when it was sent, is younger than `renew_deadline`."""

    def __init__(
        self,
        identity: str,
        duration: Seconds = 15.0,
        renew_deadline: Seconds = 10.0,
        retry: Seconds = 2.0,
        *,
        name: str = "keepip",
        namespace: str = "",
    ) -> None:
        """Take part as `identity`, which must be another one for each process that is ever started."""
        if not (identity and duration > renew_deadline > retry > 0):
            raise Impossible(f"lease of {identity!r}: {duration=} > {renew_deadline=} > {retry=} > 0 must hold")
        self._identity, self._duration, self._deadline, self._retry = identity, duration, renew_deadline, retry
        self._meta = {"name": name, "namespace": namespace}
        self._sighting = Sighting()
        self._phase = _Phase.FOLLOWING
        self._term = _Term("", 0)
        self._until = self._next = self._barred = float("-inf")
        self._version: str | None = None  # what the next write is guarded by; "": a create; None: a Read comes first
        self._sent: _Sent | None = None

    def leading(self, now: Seconds) -> bool:
        """True while this process may write."""
        return self._phase is _Phase.LEADING and now < self._until

    def lost(self, now: Seconds) -> bool:
        """True from the end of a term that was not released until stood_down()."""
        return self._phase is _Phase.LOST or (self._phase is _Phase.LEADING and now >= self._until)

    @property
    def until(self) -> Seconds:
        """When leading ends, if nothing more is answered; -inf if never led."""
        return self._until

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last read."""
        return self._sighting.holder

    @property
    def term(self) -> tuple[int, str]:
        """Which term of the Lease ours is, and when it began; no two terms have both in common."""
        return self._term.transitions, self._term.acquired

    def hurry(self, now: Seconds) -> None:
        """Renew at the next act(), without waiting for when it would be due."""
        if self._phase is _Phase.LEADING:
            self._next = max(min(self._next, now), self._barred)

    def act(self, now: Seconds, wall: str) -> Action:
        """Say what to do now; `wall` is the time of day as a MicroTime."""
        if self._sent is not None:
            raise Impossible("act() while a request is in flight")
        if self.lost(now):
            self._phase = _Phase.LOST
            return Wait(self._retry)
        if now < self._next:
            return Wait(self._next - now)
        if self._version is None:
            self._sent = _Sent(now, None)
            return Read(self._within(now))
        return self._renew(now, wall) if self._phase is _Phase.LEADING else self._acquire(now, wall)

    def observed(self, lease: Lease | None, now: Seconds, jitter: float = 1.0) -> None:
        """Take in the Lease as it was read (also if nobody asked); None: there is none."""
        self._sent = None
        self._sighting.see(lease, now)
        if self._phase is _Phase.LEADING:
            self._confirm(lease, now)
        elif self._takeable(now):
            self._version, self._next = "" if lease is None else lease.metadata.resource_version, now
            self._term = self._next_term(lease)
        else:
            self._version = None
            pause = min(self._retry, _LOOK_S) * jitter
            self._next = min(now + pause, self._sighting.ends(self._duration))

    def answered(self, version: int, now: Seconds) -> None:
        """Take in that the write was done, and gave the Lease this version.

        An answer that comes after the term has ended brings nothing back.
        """
        sent, self._sent = self._sent, None
        if sent is None or sent.term is None:
            raise Impossible("answered() without a write in flight")
        if self.lost(now):
            return
        if now < sent.at + self._deadline:
            self._phase, self._term = _Phase.LEADING, sent.term
            self._until, self._next, self._version = sent.at + self._deadline, sent.at + self._retry, str(version)
        else:
            self._version = None

    def failed(self, now: Seconds, jitter: float = 1.0, at_least: Seconds = 0.0) -> None:
        """Take in that the request was refused or not answered: the next one is a Read, whatever it was.

        It is not asked before `at_least`, the server's own wish, has passed, also if the term ends meanwhile.
        Without a request in flight nothing has failed: what is known stays known.
        """
        sent, self._sent = self._sent, None
        if sent is not None:
            self._version = None
            self._barred = now + at_least
            self._next = max(self._barred, sent.at + self._retry * jitter)

    def stood_down(self) -> None:
        """Take part again after a loss: nothing of the former term can write any more."""
        self._phase, self._version, self._sent = _Phase.FOLLOWING, None, None

    def release(self, now: Seconds, wall: str) -> Release | None:
        """End the term in good order, after its writers have ended, so that the next one need not wait.

        None if there is nothing to release, or if nobody knows which version to release. Needs no report.
        """
        version, leading = self._version, self.leading(now)
        self._phase, self._version, self._sent = _Phase.FOLLOWING, None, None
        self._until = min(self._until, now)
        if not (leading and version):
            return None
        term = _Term(wall, self._term.transitions)
        return Release({"metadata": {"resourceVersion": version}, "spec": _spec("", _RELEASED, term, wall)})

    def _within(self, now: Seconds) -> Seconds:
        """Half the deadline, so that a request that hangs can be tried once more; a leader's dies with its term."""
        half = self._deadline / 2
        return min(half, self._until - now) if self._phase is _Phase.LEADING else half

    def _takeable(self, now: Seconds) -> bool:
        return self.holder == self._identity or not self._sighting.live(now, self._duration)

    def _next_term(self, lease: Lease | None) -> _Term:
        """Our own record goes on; another's, also an empty one, makes a transition."""
        if lease is None:
            return _Term("", 0)
        if self.holder == self._identity:
            return _Term(lease.spec.acquire_time or "", lease.spec.lease_transitions)
        return _Term("", lease.spec.lease_transitions + 1)

    def _confirm(self, lease: Lease | None, now: Seconds) -> None:
        """Go on only if the record is this term's: after any other, somebody else may have led or may do so soon."""
        if lease is None or self.holder != self._identity or lease.spec.lease_transitions != self._term.transitions:
            self._phase = _Phase.LOST
        elif self._version is None:
            self._version, self._next = lease.metadata.resource_version, now

    def _acquire(self, now: Seconds, wall: str) -> Acquire:
        version = self._version
        term = _Term(self._term.acquired or wall, self._term.transitions)
        self._sent = _Sent(now, term)
        spec = _spec(self._identity, math.ceil(self._duration), term, wall)
        meta = {"resourceVersion": version} if version else self._meta
        return Acquire({"metadata": meta, "spec": spec}, not version, self._within(now))

    def _renew(self, now: Seconds, wall: str) -> Renew:
        self._sent = _Sent(now, self._term)
        spec = _spec(self._identity, math.ceil(self._duration), self._term, wall)
        return Renew({"metadata": {"resourceVersion": self._version}, "spec": spec}, self._within(now))


def _spec(holder: str, duration: int, term: _Term, wall: str) -> Body:
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": duration,
        "acquireTime": term.acquired,
        "renewTime": wall,
        "leaseTransitions": term.transitions,
    }
