"""What lies between a process and its servers: late, lost, repeated by nobody, and never in a hurry to say so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

from controller.ports import Denied, PortError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

T = TypeVar("T")

REQUEST_LIMIT: Final = 10.0
"""Seconds after which a request that was sent is either served or never will be: the server's deadline."""

USUAL_LATENCY: Final = 0.004
SLOW: Final = 1000.0


@dataclass
class Faults:
    """Probabilities per message; `off()` begins the calm."""

    refused: float = 0.03
    throttled: float = 0.02
    denied: float = 0.003
    lost_request: float = 0.02
    lost_reply: float = 0.03
    slow: float = 0.04
    cut_watch: float = 0.02
    half_open: float = 0.004
    old_bookmark: float = 0.2
    compact: float = 0.01
    cut_northbound: float = 0.01
    orphaned: float = 0.3  # a transaction whose sender is dead arrives much later
    api_away_every: float = 150.0
    northbound_away_every: float = 150.0

    def off(self) -> None:
        """From now on every message arrives, once, soon."""
        for knob in fields(self):
            setattr(self, knob.name, 0.0)


@dataclass
class Process:
    """One run of a program that talks to the servers; a dead one sends nothing more, but what is sent is sent."""

    name: str
    dead: bool = False
    held_until: float = 0.0
    sent: int = 0
    holder: str = ""
    asking: asyncio.Event = field(default_factory=asyncio.Event)  # a transaction was sent to Northbound
    heard: dict[tuple[str, ...], float] = field(default_factory=dict)


class Network:
    """Carries requests: chooses from the seed when they arrive, whether, and when the answer does."""

    def __init__(self, rng: Random, faults: Faults) -> None:
        self.rng = rng
        self.faults = faults
        self.away_until: dict[str, float] = {}

    def chance(self, probability: float) -> bool:
        """True that often; costs no random number when it never is."""
        return probability > 0 and self.rng.random() < probability

    def delay(self) -> float:
        """Seconds one message takes."""
        slow = SLOW if self.chance(self.faults.slow) else 1.0
        return self.rng.expovariate(1 / USUAL_LATENCY) * slow

    def away(self, server: str) -> bool:
        """True while nobody reaches that server."""
        return asyncio.get_running_loop().time() < self.away_until.get(server, 0.0)

    async def pause(self, process: Process, seconds: float) -> None:
        """Sleep that long, and as long as the process is cut off from everybody."""
        await asyncio.sleep(seconds)
        await self.held(process)

    async def held(self, process: Process) -> None:
        """Wait until the process is no longer cut off from everybody."""
        loop = asyncio.get_running_loop()
        if process.held_until > loop.time():
            await asyncio.sleep(process.held_until - loop.time())

    async def call(self, process: Process, server: str, act: Callable[[], T]) -> T:
        """Send a request and wait for its answer, but never longer than the limit."""
        process.sent += 1
        if process.dead:
            await asyncio.sleep(1.0)
            raise Unavailable(f"{process.name} is dead and sends nothing", unknown=False)
        answer: T = await _Call(self, process, server, act).answer
        return answer


class _Call:
    """One request on its way. Timers carry it, no task does: so it arrives even if its sender is gone."""

    def __init__(self, network: Network, process: Process, server: str, act: Callable[[], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._network = network
        self._process = process
        self._server = server
        self._act = act
        self._deadline = self._loop.time() + REQUEST_LIMIT
        self.answer: asyncio.Future[Any] = self._loop.create_future()
        self._timeout = self._loop.call_at(self._deadline, self._give_up)
        self._later(self._arrive)

    def _later(self, then: Callable[[], None]) -> None:
        now, delay = self._loop.time(), self._network.delay()
        if self._process.held_until > now:  # the cable is out: what was sent waits in it
            delay += self._process.held_until - now
        self._loop.call_later(delay, then)

    def _arrive(self) -> None:
        network, faults = self._network, self._network.faults
        if self._loop.time() > self._deadline or network.chance(faults.lost_request):
            return
        if network.away(self._server):
            self._settle(Unavailable(f"{self._server} is away", unknown=False))
        elif network.chance(faults.refused):
            self._settle(Unavailable("503 before processing", unknown=False))
        elif network.chance(faults.throttled):
            wish = float(network.rng.randint(1, 3))
            self._settle(Unavailable("429 too many requests", unknown=False, retry_after=wish))
        elif network.chance(faults.denied):
            self._settle(Denied("401 the token is not accepted"))
        else:
            self._serve()

    def _serve(self) -> None:
        try:
            result: Any = self._act()
        except PortError as no:
            result = no
        if self._network.chance(self._network.faults.lost_reply):
            if self._network.chance(0.5):
                self._settle(Unavailable("the connection was reset"))
            return
        self._later(lambda: self._settle(result))

    def _give_up(self) -> None:
        self._settle(Unavailable(f"no answer from {self._server} in {REQUEST_LIMIT:.0f} s"))

    def _settle(self, result: Any) -> None:
        self._timeout.cancel()
        if self.answer.done():
            return
        if isinstance(result, PortError):
            self.answer.set_exception(result)
            self.answer.exception()  # its sender may be gone: then nobody else looks at it
        else:
            self.answer.set_result(result)
