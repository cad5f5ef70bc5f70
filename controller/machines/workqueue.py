"""client-go's work queue as a value machine: dirty, processing, waiting; no locks, no clock.

A key is *dirty* from the moment someone adds it until a worker takes it, *processing* from then until done(). Every
key that is dirty and not processing stands in exactly one lane; a key that is dirty while processing comes back at
done(). Deadlines stand beside this in a heap and turn into adds when they are due.

Guarantees: a key is never handed to two workers at once, never lost, and runs once more if it was added meanwhile.
Every operation costs O(1), those on deadlines O(log n).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from controller.core.faults import Impossible

if TYPE_CHECKING:
    from controller.core.objects import Seconds
    from controller.machines.backoff import Backoff

K = TypeVar("K", bound=Hashable)

_STALE: Final = 64  # deadlines that were overtaken may make up half of the heap plus this many before it is rebuilt


class Lane(IntEnum):
    """How urgent a key is; a lower number goes first."""

    URGENT = 0
    NORMAL = 1
    LOW = 2


_LANES: Final = tuple(Lane)


@dataclass(frozen=True, slots=True)
class Taken(Generic[K]):
    """A key in the hands of one worker, with how long it waited and how often it failed in a row."""

    key: K
    lane: Lane
    waited: Seconds
    failures: int


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue in numbers; `depth` is indexed by Lane."""

    depth: tuple[int, ...]
    delayed: int
    processing: int
    adds: int
    retries: int
    done: int
    worked_seconds: Seconds
    unfinished_seconds: Seconds
    longest_running_seconds: Seconds


class _Mark(NamedTuple):
    lane: Lane
    flow: str
    since: Seconds


class _Deadline(NamedTuple):
    due: Seconds
    tick: int
    lane: Lane
    flow: str


class _Line(Generic[K]):
    """One lane: flows take turns, first in first out within a flow.

    OrderedDict and not dict: finding the first key of a dict walks over all that were deleted in front of it.
    """

    __slots__ = ("_flows", "size")

    def __init__(self) -> None:
        self._flows: OrderedDict[str, OrderedDict[K, None]] = OrderedDict()
        self.size = 0

    def push(self, key: K, flow: str) -> None:
        keys = self._flows.get(flow)
        if keys is None:
            keys = self._flows[flow] = OrderedDict()
        keys[key] = None
        self.size += 1

    def drop(self, key: K, flow: str) -> None:
        keys = self._flows[flow]
        del keys[key]
        if not keys:
            del self._flows[flow]
        self.size -= 1

    def pop(self) -> K:
        flow, keys = next(iter(self._flows.items()))
        key, _ = keys.popitem(last=False)
        if keys:
            self._flows.move_to_end(flow)
        else:
            del self._flows[flow]
        self.size -= 1
        return key


class WorkQueue(Generic[K]):
    """A key is with one worker at a time, is never lost, and runs once more if it was added meanwhile."""

    def __init__(self, backoff: Backoff, *, low_share: int = 8) -> None:
        """Let one take in `low_share` go to the lane that was served the longest ago, so that no lane starves."""
        self._backoff = backoff
        self._low_share = low_share
        self._lines: tuple[_Line[K], ...] = tuple(_Line() for _ in _LANES)
        self._served = [0] * len(_LANES)  # the number of the last take from each lane
        self._dirty: dict[K, _Mark] = {}
        self._processing: dict[K, Seconds] = {}
        self._failures: dict[K, int] = {}
        self._due: dict[K, _Deadline] = {}
        self._heap: list[tuple[Seconds, int, K]] = []  # may hold overtaken deadlines: those whose tick is not _due's
        self._tick = self._takes = self._adds = self._retries = self._done = 0
        self._worked = 0.0

    def add(self, key: K, now: Seconds, lane: Lane = Lane.NORMAL, flow: str = "") -> None:
        """Make the key run as soon as its turn comes; a key that waits in a worse lane moves to this one.

        A key that a worker has comes back when it is done. A pending deadline of the key is left alone.
        """
        mark = self._dirty.get(key)
        if mark is None:
            self._adds += 1
            self._mark(key, _Mark(lane, flow, now))
        elif lane < mark.lane:
            if key not in self._processing:
                self._lines[mark.lane].drop(key, mark.flow)
            self._mark(key, _Mark(lane, flow, mark.since))

    def add_at(self, key: K, due: Seconds, lane: Lane = Lane.NORMAL, flow: str = "") -> None:
        """Add the key at that time; of two deadlines the earlier wins, and the better lane."""
        held = self._due.get(key)
        if held is None:
            self._book(key, due, lane, flow)
        elif due < held.due:
            self._book(key, due, min(lane, held.lane), flow)
        elif lane < held.lane:
            self._due[key] = held._replace(lane=lane, flow=flow)

    def retry(
        self,
        key: K,
        now: Seconds,
        jitter: float,
        lane: Lane = Lane.NORMAL,
        flow: str = "",
        at_least: Seconds = 0.0,
    ) -> Seconds:
        """Add the key again after its backoff, but not before `at_least` seconds; return when it is due."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._retries += 1
        self.add_at(key, now + max(at_least, self._backoff.delay(failures, jitter)), lane, flow)
        return self._due[key].due

    def forget(self, key: K) -> None:
        """Start the key's backoff from the beginning the next time it fails."""
        self._failures.pop(key, None)

    def take(self, now: Seconds, worst: Lane = Lane.LOW) -> Taken[K] | None:
        """Hand out the next key, of no worse lane, or None if nothing may run now; the taker owes a done()."""
        self._ripen(now)
        lane = self._next_lane(worst)
        if lane is None:
            return None
        key = self._lines[lane].pop()
        self._takes += 1
        self._served[lane] = self._takes
        self._processing[key] = now
        return Taken(key, lane, max(0.0, now - self._dirty.pop(key).since), self._failures.get(key, 0))

    def done(self, key: K, now: Seconds) -> None:
        """End what take() began; the key goes back into its lane if it was added meanwhile."""
        started = self._processing.pop(key, None)
        if started is None:
            raise Impossible(f"done() without take(): {key!r}")
        self._done += 1
        self._worked += now - started
        mark = self._dirty.get(key)
        if mark is not None:
            self._lines[mark.lane].push(key, mark.flow)

    def next_deadline(self) -> Seconds | None:
        """When the earliest deadline is due; None if there is none."""
        while self._heap:
            due, tick, key = self._heap[0]
            if self._live(key, tick):
                return due
            heapq.heappop(self._heap)
        return None

    def runs(self, key: K) -> bool:
        """True while a worker has the key."""
        return key in self._processing

    def __len__(self) -> int:
        return sum(line.size for line in self._lines)

    def stats(self, now: Seconds) -> QueueStats:
        """Count what stands where."""
        running = [now - started for started in self._processing.values()]
        return QueueStats(
            depth=tuple(line.size for line in self._lines),
            delayed=len(self._due),
            processing=len(running),
            adds=self._adds,
            retries=self._retries,
            done=self._done,
            worked_seconds=self._worked,
            unfinished_seconds=sum(running),
            longest_running_seconds=max(running, default=0.0),
        )

    def _mark(self, key: K, mark: _Mark) -> None:
        self._dirty[key] = mark
        if key not in self._processing:
            self._lines[mark.lane].push(key, mark.flow)

    def _book(self, key: K, due: Seconds, lane: Lane, flow: str) -> None:
        self._tick += 1
        self._due[key] = _Deadline(due, self._tick, lane, flow)
        heapq.heappush(self._heap, (due, self._tick, key))
        if len(self._heap) > 2 * len(self._due) + _STALE:
            self._heap = [(d.due, d.tick, k) for k, d in self._due.items()]
            heapq.heapify(self._heap)

    def _live(self, key: K, tick: int) -> bool:
        deadline = self._due.get(key)
        return deadline is not None and deadline.tick == tick

    def _ripen(self, now: Seconds) -> None:
        """Turn deadlines that are due into adds; their waiting began when they were due."""
        while self._heap and self._heap[0][0] <= now:
            due, tick, key = heapq.heappop(self._heap)
            if self._live(key, tick):
                deadline = self._due.pop(key)
                self.add(key, due, deadline.lane, deadline.flow)

    def _next_lane(self, worst: Lane) -> Lane | None:
        filled = [lane for lane in _LANES if lane <= worst and self._lines[lane].size]
        if not filled:
            return None
        if (self._takes + 1) % self._low_share:
            return filled[0]
        return min(filled, key=lambda lane: (self._served[lane], -lane))
