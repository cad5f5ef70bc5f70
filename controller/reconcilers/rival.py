"""Kube-OVN's own controller: while its Lease is live, this one manages nothing (contract §9).

Live by Sighting's rule: until its record was seen unchanged for its own duration. Only a record that is much older by
its own time is dead at first sight, so that what a removed controller left behind delays no start; "much" is more than
clocks of one cluster differ. A Lease that could not be read says nothing, and nothing is begun on nothing.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final

import structlog

from controller.core.objects import Kind, Lease
from controller.machines.lease import Sighting
from controller.ports import PortError, Unavailable
from controller.reconcilers.leader import Deposed

if TYPE_CHECKING:
    from controller.core.objects import Seconds
    from controller.ports import World
    from controller.reconcilers.settings import Tuning

log = structlog.get_logger()
_LOOK_S: Final = 1.0
_DURATION_S: Final = 30.0  # of a record that names none: Kube-OVN's own
_SKEW_S: Final = 300.0


class Displaced(Deposed):
    """Kube-OVN's controller manages this cluster."""


class Rival:
    """Looks at its Lease once a second."""

    def __init__(self, world: World, tuning: Tuning) -> None:
        self._world = world
        self._lease = tuning.kube_ovn_lease
        self._sighting = Sighting()
        self._news = asyncio.Event()
        self._wish = 0.0  # of the server, for how long not to ask again
        self.live: bool | None = None if self._lease else False  # None: not read yet
        self.trouble = "" if not self._lease else f"Lease {self._lease} not read yet"

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._lease:
            await self.look()
            await self._rest()

    async def look(self) -> bool:
        """Read the Lease and judge; False if it could not be read."""
        if not self._lease:
            return True
        namespace, _, name = self._lease.partition("/")
        clock = self._world.clock
        try:
            found = await self._world.kube.read(Kind.LEASE, namespace, name)
        except PortError as why:
            self._wish = (why.retry_after if isinstance(why, Unavailable) else None) or 0.0
            if not self.live:
                self.trouble = f"Lease {self._lease} cannot be read: {why}"
            return False
        self._wish = 0.0
        lease = found if isinstance(found, Lease) else None
        self._sighting.see(lease, clock.now())
        self._judge(live=self._sighting.live(clock.now(), _DURATION_S) and not _ancient(lease, clock.wall()))
        return True

    async def gone(self) -> None:
        """Return when it manages no more, or never did."""
        while self.live is not False:
            self._news.clear()
            await self._news.wait()

    async def surely_gone(self) -> None:
        """Return when a read from now on says so."""
        while not await self.look() or self.live:
            await self._rest()

    async def comes(self) -> None:
        """Raise Displaced when it manages."""
        while not self.live:
            self._news.clear()
            await self._news.wait()
        raise Displaced

    async def _rest(self) -> None:
        await self._world.clock.sleep(max(_LOOK_S * self._world.clock.jitter(), self._wish))

    def _judge(self, *, live: bool) -> None:
        holder = self._sighting.holder
        self.trouble = (
            f"Kube-OVN's controller {holder} manages this cluster: Lease {self._lease} is live" if live else ""
        )
        if live != self.live:
            if live:
                log.warning("Kube-OVN's controller is live: nothing is managed", lease=self._lease, holder=holder)
            elif self.live:
                log.info("Kube-OVN's controller is live no more", lease=self._lease, holder=holder)
            self.live = live
            self._news.set()


def _ancient(lease: Lease | None, wall: Seconds) -> bool:
    try:
        renewed = datetime.fromisoformat((lease and lease.spec.renew_time) or "")
    except ValueError:
        return False
    duration = (lease.spec.lease_duration_seconds if lease is not None else 0) or _DURATION_S
    return renewed.tzinfo is not None and renewed.timestamp() + duration + _SKEW_S < wall
