"""Drive the lease machine: one writer at a time, and nothing of a former term still under way (contract §9)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from controller.core.objects import Kind, Lease
from controller.machines import lease
from controller.ports import PortError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from controller.core.effects import Body
    from controller.ports import Fence, World
    from controller.reconcilers.settings import Tuning


_LAST_WORD_S: Final = 1.0  # a renewal under way may end before the Lease is given back


class Deposed(Exception):
    """The lease could not be renewed in time, or somebody else has it."""


class Leader:
    """Holds the Lease, or waits for it."""

    def __init__(self, world: World, tuning: Tuning) -> None:
        self._world, self._tuning = world, tuning
        self._machine = lease.LeaseMachine(
            tuning.identity,
            duration=tuning.lease_duration_s,
            renew_deadline=tuning.renew_deadline_s,
            retry=tuning.retry_period_s,
            name=tuning.lease_name,
            namespace=tuning.lease_namespace,
        )
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._renewed = asyncio.Event()
        self.waited = True
        self._asking = False
        self.trouble = ""  # why the last request for the Lease failed: the API server's health as we see it

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last read."""
        return self._machine.holder

    async def in_term(self) -> None:
        """Return at once if we lead. If not, never: who asks is about to be cancelled, when everybody has noticed."""
        if not self.leads():
            await asyncio.Event().wait()

    def leads(self) -> bool:
        """True while our time has not run out."""
        return self._machine.leading(self._world.clock.now())

    def stop(self) -> None:
        """Let acquire() end without the Lease."""
        self._stopping.set()

    async def try_now(self) -> None:
        """Take the Lease if it is free; two requests at most."""
        for _ in range(2):
            if not self.leads():
                await self._turn(rest=False)

    async def stopped(self) -> None:
        """Return when stop() was called."""
        await self._stopping.wait()

    async def acquire(self) -> bool:
        """Wait until we lead; False if stopped before. Afterwards `waited` tells whether it took any time."""
        self.waited = not self.leads()
        if self.waited:
            self._machine.stood_down()
        while not self.leads():
            if self._stopping.is_set():
                return False
            await self._turn()
        return True

    async def hold(self, work: asyncio.Task[None]) -> None:
        """Renew until the work is done; raises Deposed when the term ends first, also while a request hangs."""
        while not work.done():
            now = self._world.clock.now()
            turn = asyncio.ensure_future(self._turn())
            try:
                await asyncio.wait(
                    {turn, work}, timeout=max(0.0, self._machine.until - now), return_when="FIRST_COMPLETED"
                )
                if self._asking and self.leads():
                    await asyncio.wait({turn}, timeout=_LAST_WORD_S)  # so that the Lease can be given back
            finally:
                if not turn.done():
                    turn.cancel()
                    self._machine.failed(self._world.clock.now())
            if turn.done() and not turn.cancelled():
                turn.result()
            if not self.leads():
                raise Deposed

    async def confirmed(self) -> None:
        """Return when a renewal was answered that was sent after this call: so we led at that moment, by any clock."""
        asked = self._world.clock.now()
        while self._machine.until < asked + self._tuning.renew_deadline_s:
            self._machine.hurry(self._world.clock.now())
            self._hurry.set()
            self._renewed.clear()
            await self._renewed.wait()

    @property
    def term(self) -> Fence:
        """What Northbound's fence shall say in this term, and in no other of whoever."""
        number, began = self._machine.term
        return ("acquired", began), ("holder", self._tuning.identity), ("term", str(number))

    async def release(self) -> None:
        """Give the Lease back, so that the next one need not wait for it to run out."""
        body = self._machine.release(self._world.clock.now(), self._wall())
        if body is None:
            return
        try:
            await self._patch(body.body)
        except PortError:
            return  # then it runs out by itself

    def _wall(self) -> str:
        return datetime.fromtimestamp(self._world.clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def _turn(self, *, rest: bool = True) -> None:
        """Do what the machine asks for, once."""
        clock, machine = self._world.clock, self._machine
        action = machine.act(clock.now(), self._wall())
        match action:
            case lease.Wait(seconds):
                await self._nap(seconds if rest else 0.0)
            case lease.Read(within):
                await self._try(self._read(), within)
            case lease.Acquire(body, create, within):
                await self._try(self._write(body, create=create), within)
            case lease.Renew(body, within):
                await self._try(self._write(body, create=False), within)

    async def _nap(self, seconds: float) -> None:
        """Wait, but not once stop() was called; a leader waits all the same: its work is being drained."""
        event = self._hurry if self.leads() else self._stopping
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        self._hurry.clear()

    async def _try(self, request: Coroutine[Any, Any, None], within: float) -> None:
        self._asking = True
        try:
            async with asyncio.timeout(within):
                await request
            self.trouble = ""
        except (PortError, TimeoutError) as error:
            self.trouble = str(error) or "no answer"
            wish = (error.retry_after if isinstance(error, Unavailable) else None) or 0.0
            self._machine.failed(self._world.clock.now(), self._world.clock.jitter(), wish)
        finally:
            self._asking = False

    async def _read(self) -> None:
        tuning, clock = self._tuning, self._world.clock
        found = await self._world.kube.read(Kind.LEASE, tuning.lease_namespace, tuning.lease_name)
        self._machine.observed(found if isinstance(found, Lease) else None, clock.now(), clock.jitter())

    async def _write(self, body: Body, *, create: bool) -> None:
        tuning = self._tuning
        if create:
            whole = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **body}
            version = await self._world.kube.create(Kind.LEASE, tuning.lease_namespace, tuning.lease_name, whole)
        else:
            version = await self._patch(body)
        self._machine.answered(version, self._world.clock.now())
        self._renewed.set()

    async def _patch(self, body: Body) -> int:
        tuning = self._tuning
        return await self._world.kube.patch(Kind.LEASE, tuning.lease_namespace, tuning.lease_name, body)
