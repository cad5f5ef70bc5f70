"""Northbound's fence: while it says our term, what anybody sent in another term fails as a whole (contract §9).

Raised over what was read, after the Lease was renewed in between. So whoever raises it led after he read: a leader who
came later has not raised it yet, and does so over this. Nobody ends a later term's fence, whatever the clocks say, and
no order of terms is needed: a fence that is gone, edited, from an older backup or of a Lease that was deleted is
raised over all the same, by who leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from controller.ports import PortError

if TYPE_CHECKING:
    import asyncio

    from controller.ports import World
    from controller.reconcilers.leader import Leader

log = structlog.get_logger()
_PAUSE_S: Final = 0.25


class Guard:
    """Keeps the fence ours for as long as we lead."""

    def __init__(self, world: World, leader: Leader, refused: asyncio.Event) -> None:
        """`refused` is set when a transaction was refused by the fence."""
        self._world, self._leader, self._refused = world, leader, refused
        self.trouble = ""  # why the fence could not be raised, while it cannot

    async def put_up(self) -> int:
        """Raise the fence, which whoever leads no more cannot; answers the seq that shows all that came before it."""
        northbound, clock = self._world.northbound, self._world.clock
        while True:
            self._refused.clear()
            try:
                was = await northbound.fence()
                await self._leader.confirmed()
                seq = await northbound.raise_fence(was, self._leader.term)
            except PortError as why:
                self.trouble = str(why)
                await clock.sleep(_PAUSE_S * clock.jitter())
            else:
                self.trouble = ""
                log.info("fence raised", term=dict(self._leader.term), over=None if was is None else dict(was))
                return seq

    async def mend(self) -> None:
        """Raise it again whenever a transaction was refused: either we do not lead, or it was not us who changed it."""
        while True:
            await self._refused.wait()
            log.warning("the fence in Northbound is not ours", term=dict(self._leader.term))
            await self.put_up()
