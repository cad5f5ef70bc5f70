"""Who waits for what, in order of waiting, so that what comes free goes to those who have waited longest.

A topic is what a key waits for; one that begins with "space" is room (in a subnet, in a pool of it, for one family),
and only that is rationed:

* fire(topic, budget) says that `budget` addresses are free. It gives the oldest keys a *grant* each, the right to take
  one address now, until as many grants are out as there are addresses, and wakes those who got one.
* A key with an older one in line and without a grant must be patient(): else a newcomer that happens to run before
  those who were woken would take what was freed for them.
* took() uses a grant up. A grant that is not used goes on to the next in line as soon as that is certain: when the
  key leaves the line (clear(), wait() for something else) or when its run failed (revoke()). A key that looked and
  has to wait() again for the same has found no room, so its grant simply ends.
* When the first of a line leaves, its successor is woken, because it need not be patient any more.
* A key whose run failed is *parked*: it keeps its place, but holds nothing and holds up nobody until it looks again.
  The queue's backoff wakes it, not we: else two failing keys would hand one grant to and fro without a pause.

So as long as there is room, the first of the line that is not parked has been woken since there is: no wake-up is
lost, whatever the budgets were. Whoever waits in one line must be content with the same thing; other wishes need
other topics.

The caller must call wait() or clear() in the same synchronous step as the decision, and took() with the promise: a
fire() between the look and the wait() would go unheard. Lists returned are keys to be run soon, none twice.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.core.effects import Topic
    from controller.core.objects import Seconds

K = TypeVar("K", bound=Hashable)

SPACE: Final = "space"
_STALE: Final = 64  # entries that say nothing any more may make up half of a heap plus this many


@dataclass(slots=True)
class _Place:
    """A key's place in one line."""

    number: int
    since: Seconds
    granted: bool = False
    parked: bool = False


class _Heap(Generic[K]):
    """The oldest key of a line for which a condition holds; entries for which it no longer does are dropped late."""

    __slots__ = ("_entries", "_places", "_tick", "_with_granted")

    def __init__(self, places: OrderedDict[K, _Place], *, with_granted: bool) -> None:
        self._places = places
        self._with_granted = with_granted
        self._entries: list[tuple[int, int, K]] = []  # the tick in the middle keeps keys from being compared
        self._tick = 0

    def push(self, key: K) -> None:
        if len(self._entries) > 2 * len(self._places) + _STALE:
            self._entries = list(self._rebuilt())
        self._tick += 1
        heapq.heappush(self._entries, (self._places[key].number, self._tick, key))

    def first(self) -> K | None:
        while self._entries:
            number, _, key = self._entries[0]
            if self._counts(key, number):
                return key
            heapq.heappop(self._entries)
        return None

    def _counts(self, key: K, number: int) -> bool:
        place = self._places.get(key)
        return place is not None and place.number == number and self._fits(place)

    def _fits(self, place: _Place) -> bool:
        return not place.parked and (self._with_granted or not place.granted)

    def _rebuilt(self) -> Iterator[tuple[int, int, K]]:
        """Yield one entry for each key that fits: in order of their numbers, so the list is a heap."""
        return ((place.number, 0, key) for key, place in self._places.items() if self._fits(place))


class _Line(Generic[K]):
    """All who wait for one topic, in order of waiting; what happens to one of them is no matter for the others."""

    __slots__ = ("_next", "places")

    def __init__(self) -> None:
        self.places: OrderedDict[K, _Place] = OrderedDict()
        self._next = 0

    def join(self, key: K, now: Seconds) -> None:
        self._next += 1
        self.places[key] = _Place(self._next, now)

    def leave(self, key: K) -> list[K]:
        """Take the key out; return who is to run because of that."""
        del self.places[key]
        return []

    def park(self, key: K) -> list[K]:  # noqa: ARG002 - a line without grants
        """Let the key hold nothing and hold up nobody; return who is to run because of that."""
        return []

    def look_again(self, key: K) -> None:
        """End the key's grant and its being parked, in its old place."""

    def fire(self, budget: int | None) -> list[K]:
        """Return the oldest `budget` keys (None: all)."""
        return list(islice(self.places, budget))


class _Ration(_Line[K]):
    """A line for something that is given out one by one."""

    __slots__ = ("_active", "_eligible", "_granted", "_parked")

    def __init__(self) -> None:
        super().__init__()
        self._active: _Heap[K] = _Heap(self.places, with_granted=True)  # not parked
        self._eligible: _Heap[K] = _Heap(self.places, with_granted=False)  # not parked and without a grant
        self._granted = self._parked = 0

    def join(self, key: K, now: Seconds) -> None:
        super().join(key, now)
        self._active.push(key)
        self._eligible.push(key)

    def leave(self, key: K) -> list[K]:
        first = self._active.first() == key
        place = self.places.pop(key)
        self._granted -= place.granted
        self._parked -= place.parked
        return self._succeed(first=first, granted=place.granted)

    def park(self, key: K) -> list[K]:
        place = self.places[key]
        if place.parked:
            return []
        first, granted = self._active.first() == key, place.granted
        place.parked, place.granted = True, False
        self._granted -= granted
        self._parked += 1
        return self._succeed(first=first, granted=granted)

    def look_again(self, key: K) -> None:
        place = self.places[key]
        if place.parked:
            place.parked = False
            self._parked -= 1
            self._active.push(key)
            self._eligible.push(key)
        elif place.granted:
            place.granted = False
            self._granted -= 1
            self._eligible.push(key)

    def fire(self, budget: int | None) -> list[K]:
        """Give grants to the oldest that have none until `budget` are out (None: to all), and return those keys."""
        return self._grant(len(self.places) if budget is None else budget - self._granted)

    def others_first(self, key: K) -> bool:
        """True if somebody older than the key, granted or not, is in line, and the key has no grant."""
        first, place = self._active.first(), self.places.get(key)
        if first is None or place is None:
            return first is not None
        return not place.granted and self.places[first].number < place.number

    def others(self, key: K) -> int:
        """How many others are in line, without those that are parked."""
        place = self.places.get(key)
        return len(self.places) - self._parked - int(place is not None and not place.parked)

    def _grant(self, count: int) -> list[K]:
        woken: list[K] = []
        while len(woken) < count and (key := self._eligible.first()) is not None:
            self.places[key].granted = True
            woken.append(key)
        self._granted += len(woken)
        return woken

    def _succeed(self, *, first: bool, granted: bool) -> list[K]:
        """A grant goes to the next that has none; the new first is woken, if it is not under way already."""
        if granted:
            return self._grant(1)
        head = self._active.first() if first else None
        return [] if head is None or self.places[head].granted else [head]


class Waiting(Generic[K]):
    """What comes free goes to those who have waited longest; no wake-up is lost, no failing key in the way."""

    def __init__(self) -> None:
        self._lines: dict[Topic, _Line[K]] = {}
        self._topics: dict[K, tuple[Topic, ...]] = {}

    def wait(self, key: K, topics: tuple[Topic, ...], now: Seconds) -> list[K]:
        """Let the key, having just looked, wait for exactly these topics; return the keys to be run because of that.

        In a topic that it waits for already it keeps its place and its time.
        """
        woken = self._leave(key, [topic for topic in self._topics.pop(key, ()) if topic not in topics])
        if topics:
            self._topics[key] = tuple(dict.fromkeys(topics))
        for topic in topics:
            self._stand(key, topic, now)
        return woken

    def clear(self, key: K) -> list[K]:
        """Let the key wait for nothing; return the keys to be run because of that."""
        return self._leave(key, self._topics.pop(key, ()))

    def fire(self, topic: Topic, budget: int | None = None) -> list[K]:
        """Return the keys to be run because of this topic, oldest first, at most `budget`.

        For room `budget` is how much of it there is now. Grants that are out count against it, for those
        keys are under way; parked keys are passed over, for they come by themselves.
        """
        line = self._lines.get(topic)
        if line is None:
            return []
        return line.fire(budget)

    def took(self, key: K, room: Topic) -> None:
        """Use the key's grant up: it has been promised an address of that room."""
        line = self._lines.get(room)
        if line is not None and key in line.places:
            line.look_again(key)

    def revoke(self, key: K) -> list[K]:
        """Park the key, whose run failed before it could look; return the keys to be run because of that."""
        return _once(k for topic in self._topics.get(key, ()) for k in self._lines[topic].park(key))

    def patient(self, key: K, room: Topic, free: int | None = None) -> bool:
        """True if the key must not take a dynamic address now, because others have waited longer and not failed.

        Whoever knows how many addresses are `free` need not be patient where there is one for each of the others.
        """
        line = self._lines.get(room)
        if not isinstance(line, _Ration):
            return False
        return line.others_first(key) and (free is None or free <= line.others(key))

    def stats(self, now: Seconds) -> dict[str, tuple[int, Seconds]]:
        """By subnet: how many wait for room in it, in whatever line, and how long the oldest has."""
        keys: dict[str, set[K]] = {}
        longest: dict[str, Seconds] = {}
        for topic, line in self._lines.items():
            if isinstance(line, _Ration):
                keys.setdefault(topic[1], set()).update(line.places)
                waited = now - next(iter(line.places.values())).since
                longest[topic[1]] = max(waited, longest.get(topic[1], waited))
        return {subnet: (len(mine), longest[subnet]) for subnet, mine in keys.items()}

    def __len__(self) -> int:
        return len(self._topics)

    def _stand(self, key: K, topic: Topic, now: Seconds) -> None:
        line = self._lines.get(topic)
        if line is None:
            line = self._lines[topic] = _Ration() if topic[0] == SPACE else _Line()
        if key in line.places:
            line.look_again(key)
        else:
            line.join(key, now)

    def _leave(self, key: K, topics: Iterable[Topic]) -> list[K]:
        woken = _once(k for topic in topics for k in self._lines[topic].leave(key))
        for topic in topics:
            if not self._lines[topic].places:
                del self._lines[topic]
        return woken


def _once(keys: Iterator[K]) -> list[K]:
    return list(dict.fromkeys(keys))
