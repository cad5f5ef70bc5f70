"""The replicas' feeds: one task per source, each brought up to date at the begin of a term of leadership.

A standby's replicas are warm and may be late: what its predecessor granted in the last moment may not be shown yet.
So nothing is decided in a term before every source has shown all that was written until a moment within that term: by
then no write of a predecessor can still come, and all that came is shown (contract §2, Rules 1 and 5). Objects: of a
big kind its watch is followed up to a version that was asked for within the term, a small one is listed. Northbound:
its reader goes on, and the fence, which is raised within the term, is shown after all that came before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from controller.core.objects import Kind
from controller.machines import watch
from controller.reconcilers.reflect import catch_up, mirror, reflect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.ports import Rows, World
    from controller.reconcilers.reflect import News

WATCHED = tuple(kind for kind in Kind if kind is not Kind.LEASE)
NORTHBOUND = "Northbound"


class Mirrors:
    """Feeds what the servers tell to two callbacks, and knows which source is whole, and as new as the term."""

    def __init__(
        self,
        world: World,
        objects: Callable[[Kind, News], None],
        rows: Callable[[Rows], None],
        parts: Callable[[Rows], Iterable[Rows]],
        since: Callable[[Kind], int],
    ) -> None:
        """`since`: up to which version everything of a kind has been taken in; 0: it is to be listed."""
        self._world, self._objects, self._rows, self._parts, self._since = world, objects, rows, parts, since
        self._tasks: list[asyncio.Task[None]] = []
        self._read: set[str] = set()
        self._whole = asyncio.Event()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin, or begin anew: every source is read whole from now on."""
        self.stop()
        self._read.clear()
        self._whole.clear()
        self._tasks = [group.create_task(mirror(self._world, self._parts, self._see_rows), name="mirror")]
        self._tasks += [group.create_task(self._reflect(kind), name=f"reflect {kind}") for kind in WATCHED]

    def catch_up(self, group: asyncio.TaskGroup) -> None:
        """Bring every kind up to date from where its replica is; Northbound's reader goes on."""
        mirror, *kinds = self._tasks
        for task in kinds:
            task.cancel()
        self._read &= {NORTHBOUND}
        self._whole.clear()
        self._tasks = [mirror]
        self._tasks += [group.create_task(self._reflect(k, self._since(k)), name=f"reflect {k}") for k in WATCHED]

    def stop(self) -> None:
        """End the feeds; what they have told stays."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def whole(self) -> None:
        """Return when every source was whole, and up to date, since the last start or catch_up."""
        await self._whole.wait()

    async def _reflect(self, kind: Kind, since: int = 0) -> None:
        kube, clock = self._world.kube, self._world.clock

        def tell(news: News) -> None:
            self._objects(kind, news)
            if not isinstance(news, watch.Apply):  # also that the kind is not served is an answer
                self._was_read(str(kind))

        def caught() -> None:
            self._was_read(str(kind))

        begin = await catch_up(kube, clock, kind, since, tell, caught) if since else watch.start()
        await reflect(kube, clock, kind, tell, begin)

    def _see_rows(self, rows: Rows) -> None:
        self._rows(rows)
        if rows.whole:
            self._was_read(NORTHBOUND)

    def _was_read(self, source: str) -> None:
        self._read.add(source)
        if len(self._read) == len(WATCHED) + 1:
            self._whole.set()
