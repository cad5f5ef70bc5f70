"""Every minute: count what should not be, and let go of what nobody owns, as decisions/sweep.py says (contract §7).

It writes nothing itself: what it clears is the pod flow's to let go of, which reads the owner live just before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions import sweep
from controller.core.decisions.sweep import Limits, Stop, Suspect
from controller.core.effects import Tell
from controller.core.objects import Kind
from controller.reconcilers import keys
from controller.reconcilers.audit import Audit, without_pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.core.objects import Seconds
    from controller.ports import Clock
    from controller.reconcilers.events import Recorder
    from controller.reconcilers.keys import Key
    from controller.reconcilers.picture import Picture
    from controller.reconcilers.settings import Tuning
    from controller.reconcilers.telemetry import Telemetry
    from controller.reconcilers.views import Views

log = structlog.get_logger()
_SLICE_S = 0.02  # synchronous work between two turns of the loop


class Sweeper:
    """Remembers from one pass to the next what it saw, and what it has stopped at."""

    def __init__(
        self,
        clock: Clock,
        tuning: Tuning,
        picture: Picture,
        views: Views,
        recorder: Recorder,
        telemetry: Telemetry,
        look_at: Callable[[Key], None],
    ) -> None:
        self._clock, self._picture, self._views, self._recorder = clock, picture, views, recorder
        self._telemetry = telemetry
        self._every, self._limits, self._look_at = tuning.sweep_s, Limits(tuning.sweep_share), look_at
        self._before: dict[str, Suspect] = {}
        self.audit = Audit()
        self.stopped: dict[str, Stop] = {}

    async def run(self) -> None:
        """One pass at once, then one each interval, until cancelled."""
        self._before = {}  # what an earlier term saw may have been freed by another process meanwhile
        try:
            while True:
                await self.pass_once()
                await self._clock.sleep(self._every * self._clock.jitter())
        finally:  # who does not lead counts nothing, and its numbers would be old ones
            self.audit, self.stopped = Audit(), {}

    async def pass_once(self) -> None:
        """Look at all that has no pod, count it, and clear what a sweep may free."""
        picture, began = self._picture, self._clock.now()
        knows, gone = picture.acquaintance.knows, picture.pods.seen_gone
        every = await self.count()
        strangers = {one.port: one for one in every if not gone(*one.owner) and not knows(one.port, one.ids)}
        allowed = {one.metadata.name for one in picture.subnets.values() if sweep.allows(one.metadata.annotations)}
        found = sweep.decide(
            self._before, strangers.values(), lambda name: len(picture.ledger.users(name)), allowed, self._limits
        )
        self._before = strangers
        picture.acquaintance.clear({one.port: one.ids for one in found.cleared})
        for one in found.cleared:
            log.info("nobody's", port=one.port, subnet=one.subnet, cause=one.cause)
            self._look_at(keys.pod(*one.owner))
        self._tell({one.subnet: one for one in found.stopped})
        result = "stopped" if found.stopped else "freed" if found.cleared else "clean"
        self._telemetry.swept(result, self._clock.now() - began, self._clock.wall())

    async def count(self) -> list[Suspect]:
        """What nobody seems to own, counted in `audit`; a pass over many takes more than one turn of the loop."""
        picture, audit, found = self._picture, Audit(), list[Suspect]()
        turn = self._clock.now()
        for owner in without_pods(picture):
            for one in sweep.suspects(self._views.pod(*owner)) if owner is not None else ():
                audit.count(one)
                found.append(one)
            turn = await self.breathe(turn)
        for ip in tuple(picture.ips.values()):
            if picture.has(Kind.IP, "", ip.metadata.name):  # it may have gone while others had their turn
                audit.look_at(picture, ip)
            turn = await self.breathe(turn)
        picture.acquaintance.forget(lambda port: picture.ports.get_port(port) or picture.ips.get("", port))
        self.audit = audit
        return found

    async def breathe(self, turn: Seconds) -> Seconds:
        """Let others have a turn if this one, which began then, has been long; answers when the present one began."""
        if self._clock.now() - turn <= _SLICE_S:
            return turn
        await asyncio.sleep(0)
        return self._clock.now()

    def _tell(self, stopped: dict[str, Stop]) -> None:
        """Raise the alarm where a sweep has stopped itself, and end it where it goes on."""
        for name in stopped.keys() | self.stopped.keys():
            subnet, stop = self._picture.subnets.get("", name), stopped.get(name)
            if stop is not None and stop != self.stopped.get(name):
                log.warning("sweep stopped", subnet=name, count=stop.much, users=stop.users, limit=stop.limit)
            if subnet is None:
                continue
            if stop is None:
                self._recorder.forget(subnet.metadata.uid, (str(Reason.SWEEP_STOPPED),))
                continue
            facts = {"count": stop.much, "users": stop.users, "limit": stop.limit, "annotation": naming.SWEEP}
            message = say(Reason.SWEEP_STOPPED, "limit", **facts)
            self._recorder.tell(Tell(Kind.SUBNET, "", name, subnet.metadata.uid, message))
        self.stopped = stopped
