"""The replicas' feeds: one task per source, begun anew with each term of leadership.

A standby's replicas are warm and may be late: what its predecessor granted in the last moment may not be shown yet.
So nothing is decided in a term before every source was read whole by a read that began within that term: by then no
write of a predecessor can still come, and all that came is in the read (contract §2, Rules 1 and 5).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from controller.core.objects import Kind
from controller.machines import watch
from controller.reconcilers.reflect import mirror, reflect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.ports import Rows, World
    from controller.reconcilers.reflect import News

WATCHED = tuple(kind for kind in Kind if kind is not Kind.LEASE)
NORTHBOUND = "Northbound"


class Mirrors:
    """Feeds what the servers tell to two callbacks, and knows which source was read whole since the last start."""

    def __init__(
        self,
        world: World,
        objects: Callable[[Kind, News], None],
        rows: Callable[[Rows], None],
        parts: Callable[[Rows], Iterable[Rows]],
    ) -> None:
        self._world, self._objects, self._rows, self._parts = world, objects, rows, parts
        self._tasks: list[asyncio.Task[None]] = []
        self._read: set[str] = set()
        self._whole = asyncio.Event()

    @property
    def started(self) -> bool:
        """True while the feeds run."""
        return bool(self._tasks)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin, or begin anew: every source is read whole from now on."""
        self.stop()
        self._read.clear()
        self._whole.clear()
        self._tasks = [group.create_task(self._reflect(kind), name=f"reflect {kind}") for kind in WATCHED]
        self._tasks.append(group.create_task(mirror(self._world, self._parts, self._see_rows), name="mirror"))

    def stop(self) -> None:
        """End the feeds; what they have told stays."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def whole(self) -> None:
        """Return when every source was read whole since the last start."""
        await self._whole.wait()

    async def _reflect(self, kind: Kind) -> None:
        def tell(news: News) -> None:
            self._objects(kind, news)
            if not isinstance(news, watch.Apply):  # also that the kind is not served is an answer
                self._was_read(str(kind))

        await reflect(self._world.kube, self._world.clock, kind, tell)

    def _see_rows(self, rows: Rows) -> None:
        self._rows(rows)
        if rows.whole:
            self._was_read(NORTHBOUND)

    def _was_read(self, source: str) -> None:
        self._read.add(source)
        if len(self._read) == len(WATCHED) + 1:
            self._whole.set()
