"""Events for people: told once, repeated at most once a minute, never in the way of an address (contract §8).

An Event is not state: when more come than may be sent, the oldest good news is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from controller.core.objects import Kind
from controller.machines.backoff import TokenBucket
from controller.ports import Conflict, PortError, Unavailable

if TYPE_CHECKING:
    from controller.core.effects import Tell
    from controller.core.objects import Seconds
    from controller.ports import Clock, Kube
    from controller.reconcilers.apply import InTerm
    from controller.reconcilers.telemetry import Telemetry

REPEAT_S: Final = 60.0
WAITING_MAX: Final = 2_000
REMEMBERED: Final = 20_000
_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # then the server is away for longer than the news is worth
_TICK_S: Final = 0.01  # no shorter rest: rounding must not make a loop of it
RATE: Final = 50.0  # a second; the API server has more important things to do
BURST: Final = 100
_API: Final = dict.fromkeys((Kind.IP, Kind.SUBNET, Kind.POOL), "kubeovn.io/v1")
_TEXT_MAX: Final = 1024  # the API's limit of an Event's message
_NAME_MAX: Final = 236  # leaves room for the suffix within 253


class Turns:
    """What is to be told, in turns: a thousand objects of one kind and namespace delay nobody else's news."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[Kind, str], deque[tuple[Tell, Seconds]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """How many are waiting."""
        return self._size

    def push(self, tell: Tell, now: Seconds) -> None:
        """Let it wait behind its like."""
        self._lines.setdefault((tell.kind, tell.namespace), deque()).append((tell, now))
        self._size += 1

    def pop(self) -> tuple[Tell, Seconds]:
        """The one whose turn it is, and since when it has waited."""
        mark, line = next(iter(self._lines.items()))
        found = line.popleft()
        self._size -= 1
        if line:
            self._lines.move_to_end(mark)
        else:
            del self._lines[mark]
        return found

    def shed(self) -> None:
        """Make room: good news first, oldest first, in the longest line."""
        line = max(self._lines.values(), key=len)
        good = next((one for one in line if one[0].message.severity == "Normal"), line[0])
        line.remove(good)
        self._size -= 1


class Recorder:
    """Sends Events at its own pace; remembers what it told whom, so that a waiting object is told once."""

    def __init__(
        self, kube: Kube, clock: Clock, telemetry: Telemetry, identity: str, in_term: InTerm | None = None
    ) -> None:
        """`in_term` returns while we may write."""
        self._in_term = in_term
        self._kube, self._clock, self._telemetry, self._identity = kube, clock, telemetry, identity
        self._told: OrderedDict[tuple[str, str], tuple[str, Seconds]] = OrderedDict()
        self._later: dict[tuple[str, str], tuple[Seconds, Tell]] = {}  # what changed within the minute
        self._waiting = Turns()
        self._bucket = TokenBucket(RATE, BURST)
        self._wake = asyncio.Event()

    def tell(self, tell: Tell) -> None:
        """Queue the Event unless the object was told just that; for the same reason it is told once a minute."""
        now, mark = self._clock.now(), (tell.uid, str(tell.message.reason))
        text, at = self._told.get(mark, ("", -REPEAT_S))
        if text == tell.message.text:
            self._later.pop(mark, None)
            self._telemetry.events.labels("repeated").inc()
            return
        if now - at < REPEAT_S:
            self._later[mark] = (at + REPEAT_S, tell)
            self._wake.set()
            return
        self._admit(mark, tell, now)

    def _admit(self, mark: tuple[str, str], tell: Tell, now: Seconds) -> None:
        self._later.pop(mark, None)
        self._told[mark] = (tell.message.text, now)
        self._told.move_to_end(mark)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        if tell.message.severity == "Warning":
            self._telemetry.refusals.labels(str(tell.message.reason)).inc()
        if len(self._waiting) >= WAITING_MAX:
            self._telemetry.events.labels("dropped").inc()
            self._waiting.shed()
        self._waiting.push(tell, now)
        self._wake.set()

    def forget(self, uid: str, reasons: tuple[str, ...]) -> None:
        """The object is well again: the same refusal later is news, but still at most once a minute."""
        for reason in reasons:
            mark = (uid, reason)
            self._later.pop(mark, None)
            if mark in self._told:
                self._told[mark] = ("", self._told[mark][1])

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            now = self._clock.now()
            for mark in [m for m, (due, _) in self._later.items() if due <= now]:
                tell, due = self._later[mark][1], self._told.get(mark, ("", -REPEAT_S))[1] + REPEAT_S
                if due <= now:
                    self._admit(mark, tell, now)
                else:  # the one before was sent later than it was told
                    self._later[mark] = (due, tell)
            if not self._waiting:
                await self._rest(now)
                continue
            if not self._bucket.take(now):
                await self._clock.sleep(self._bucket.wait(now))
                continue
            tell, since = self._waiting.pop()
            self._telemetry.events_waiting.set(len(self._waiting))
            if not self._was_told_since(tell, since, now):
                await self._send(tell)

    def _was_told_since(self, tell: Tell, since: Seconds, now: Seconds) -> bool:
        """True if an earlier one of the same reason went out while this one waited: it comes a minute after that."""
        mark = (tell.uid, str(tell.message.reason))
        at = self._told.get(mark, ("", since))[1]
        if at > since and now - at < REPEAT_S:
            self._later.setdefault(mark, (at + REPEAT_S, tell))
            return True
        return False

    async def _send(self, tell: Tell) -> None:
        """Send it, again while the server is away: a refusal that nobody hears of is a silent failure.

        The name stays the same, so an answer that got lost makes no second Event.
        """
        if self._told.get((tell.uid, str(tell.message.reason)), ("",))[0] not in {"", tell.message.text}:
            return  # while it waited something newer was told for the same reason
        body = self._body(tell)
        for pause in _PAUSES_S:
            if self._in_term is not None:
                await self._in_term()
            self._sent(tell)  # it may be told although no answer comes
            try:
                await self._kube.report(body)
            except Unavailable as silence:
                await self._clock.sleep(max(pause * self._clock.jitter(), silence.retry_after or 0.0))
                continue
            except Conflict:
                break  # it is there already
            except PortError:
                self._telemetry.events.labels("failed").inc()
                return
            break
        else:
            self._telemetry.events.labels("failed").inc()
            return
        self._telemetry.events.labels("sent").inc()
        self._sent(tell)

    def _sent(self, tell: Tell) -> None:
        """The minute counts from the last moment at which it may have been told."""
        mark = (tell.uid, str(tell.message.reason))
        if mark in self._told:
            self._told[mark] = (self._told[mark][0], self._clock.now())

    async def _rest(self, now: Seconds) -> None:
        """Until something is told, or something told too early is due."""
        self._wake.clear()
        due = min((due for due, _ in self._later.values()), default=None)
        try:
            async with asyncio.timeout(None if due is None else max(due - now, _TICK_S)):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _body(self, tell: Tell) -> dict[str, Any]:
        stamp = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = tell.namespace or "default"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{tell.name[:_NAME_MAX]}.{self._clock.dice():016x}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": _API.get(tell.kind, "v1"),
                "kind": str(tell.kind),
                "name": tell.name,
                "namespace": tell.namespace,
                "uid": tell.uid,
            },
            "reason": str(tell.message.reason),
            "message": tell.message.text[:_TEXT_MAX],
            "type": tell.message.severity,
            "source": {"component": "keepip", "host": self._identity},
            "reportingComponent": "keepip",
            "reportingInstance": self._identity,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
