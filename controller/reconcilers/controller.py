"""The TaskGroup that ties it together: reflectors always, everything that writes only while we lead.

One event loop, no threads, no locks; the start order is: replicas, lease, then the worker and its helpers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from controller.core import naming
from controller.core.objects import Kind
from controller.machines import watch
from controller.machines.backoff import Backoff
from controller.machines.barrier import Barrier
from controller.machines.waiting import Waiting
from controller.machines.workqueue import Lane, WorkQueue
from controller.ports import Rows
from controller.reconcilers import keys, workloads
from controller.reconcilers.events import Recorder
from controller.reconcilers.fence import Guard
from controller.reconcilers.leader import Deposed, Leader
from controller.reconcilers.mirrors import WATCHED, Mirrors
from controller.reconcilers.nics import takes_part
from controller.reconcilers.observer import Observer
from controller.reconcilers.picture import Picture
from controller.reconcilers.relations import owner_of_row, owners_of_ip
from controller.reconcilers.rival import Displaced, Rival
from controller.reconcilers.settings import Tuning
from controller.reconcilers.sweeper import Sweeper
from controller.reconcilers.telemetry import Telemetry
from controller.reconcilers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from typing import Any

    from controller.core.objects import Seconds
    from controller.ports import Rows, World
    from controller.reconcilers.keys import Key
    from controller.reconcilers.reflect import News

log = structlog.get_logger()
# To catch up takes one to two seconds, however big the kind is. To list takes 0.1 s for 1,000 IPs, 0.9 s for 5,000 and
# 3.3 s for 20,000 (two busy cores, API server included): up to here nobody would notice the difference to nothing.
_SMALL: Final = 1000
_COUNTED = frozenset({keys.SUBNET_STATUS, keys.POOL_STATUS})


class Controller:
    """Replicas stay warm for as long as it runs; keys are worked on only while it leads."""

    def __init__(
        self, world: World, tuning: Tuning | None = None, *, rows_at_once: int = 2000, small: int = _SMALL
    ) -> None:
        """`rows_at_once`: how many changed ports are taken in before others get a turn: about 50 ms.

        A kind with fewer than `small` objects is listed at a take-over.
        """
        self.world, self.tuning, self._at_once = world, tuning or Tuning(), rows_at_once
        self.telemetry = Telemetry()
        self.picture = Picture(keep_vm_ip=self.tuning.keep_vm_ip)
        self.queue: WorkQueue[Key] = WorkQueue(Backoff(base=0.05, cap=30.0))
        self.waiting: Waiting[Key] = Waiting()
        self.barrier: Barrier[Key] = Barrier()
        self.leader = Leader(world, self.tuning)
        self.rival = Rival(world, self.tuning)
        in_term = self.leader.in_term
        self.recorder = Recorder(world.kube, world.clock, self.telemetry, self.tuning.identity, in_term)
        self._small = small
        self._wake = asyncio.Event()
        self._rows = asyncio.Event()
        self._stopping = self._all_read = False
        self._heard: dict[Kind, Seconds] = dict.fromkeys(WATCHED, world.clock.now())
        self.worker = Worker(
            world,
            self.tuning,
            self.picture,
            self.queue,
            self.waiting,
            self.barrier,
            self.recorder,
            self.telemetry,
            self._wake,
            self._after_news,
            in_term,
        )
        self.mirrors = Mirrors(world, self._see_objects, self._see_rows, self._parts, self._warm)
        self.guard = Guard(world, self.leader, self.worker.fenced)
        self.sweeper = Sweeper(
            world.clock, self.tuning, self.picture, self.worker.views, self.recorder, self.telemetry, self._look_at
        )
        self.observer = Observer(world, self.tuning, self.picture, self.sweeper, self.telemetry, self._heard)

    # -- life --------------------------------------------------------------------------------------

    def troubles(self) -> list[str]:
        """Why it cannot do its work now, a sentence each; empty when it can (contract §9, readiness)."""
        found = [f"{source} not read yet" for source, synced in self.picture.sources() if not synced]
        if self.tuning.observes:
            return found
        if self.rival.trouble:
            found.append(self.rival.trouble)
        if self.leader.trouble:
            found.append(f"API server: {self.leader.trouble}")
        if self.guard.trouble:
            found.append(f"the fence in Northbound could not be raised: {self.guard.trouble}")
        if self.worker.denied:
            found.append(f"a right is missing: {self.worker.denied}")
        return found

    def ages(self) -> Iterator[tuple[str, Seconds]]:
        """How long ago each kind was last heard of, if only by a bookmark; the API server sends one a minute."""
        now = self.world.clock.now()
        return ((str(kind), now - at) for kind, at in self._heard.items())

    async def run(self) -> None:
        """Run until cancelled, or until stop() has drained what was under way."""
        if self.tuning.observes:
            await self._observe()
            return
        async with asyncio.TaskGroup() as group:
            await self.rival.look()
            looking = group.create_task(self.rival.run(), name="rival")
            if self.rival.live is False:
                await self.leader.try_now()  # a free Lease is taken before anything is read: then one read is enough
            while not self._stopping:
                self.mirrors.start(group)
                await self._unless_stopped(self.rival.gone())
                if not await self.leader.acquire():
                    break
                await self._term(group)
            self.mirrors.stop()
            looking.cancel()

    async def _observe(self) -> None:
        """Read, compare and count until stopped: no Lease, no fence, no key is ever worked on (contract §9)."""
        async with asyncio.TaskGroup() as group:
            self.mirrors.start(group)
            await self._unless_stopped(self.mirrors.whole())
            log.info("observing", identity=self.tuning.identity)
            await self._unless_stopped(self.observer.run())
            self.mirrors.stop()

    def stop(self) -> None:
        """Take no more keys; run() ends when those under way are done and the lease is given back."""
        self._stopping = True
        self.leader.stop()
        self.worker.stop()

    async def _term(self, mirrors: asyncio.TaskGroup) -> None:
        """Lead once, from the Lease's acquisition to its end."""
        if self.leader.waited:  # the replicas may be late by what the predecessor did last
            self.mirrors.catch_up(mirrors)
        self.telemetry.led(leading=True)
        log.info("leading", identity=self.tuning.identity)
        try:
            async with asyncio.TaskGroup() as group:
                coming = group.create_task(self.rival.comes(), name="rival")
                await self.leader.hold(group.create_task(self._work(group), name="work"))
                coming.cancel()
        except* Displaced:
            log.warning("lease given back", identity=self.tuning.identity)
        except* Deposed:
            log.warning("lease lost", identity=self.tuning.identity)
        finally:
            self.picture.leads = False
            self.telemetry.led(leading=False)
        await self.leader.release()
        log.info("not leading", identity=self.tuning.identity)

    async def _work(self, group: asyncio.TaskGroup) -> None:
        """Work until stopped; a lost lease cancels this and everything else that could still write."""
        await self._unless_stopped(self._begin())
        if self._stopping:
            return
        self._look_at_everything()  # what an earlier term left half done has no event
        self._put_first_who_waits()
        sides = (self.recorder.run(), self._resync(), self.sweeper.run(), self.guard.mend())
        tasks = [group.create_task(side, name="side") for side in sides]
        await self.worker.run(group)
        for task in tasks:
            task.cancel()

    async def _unless_stopped(self, wanted: Coroutine[Any, Any, None]) -> None:
        """Wait for it, or until stop()."""
        one, stopped = asyncio.ensure_future(wanted), asyncio.ensure_future(self.leader.stopped())
        try:
            await asyncio.wait({one, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            one.cancel()
            stopped.cancel()
        if one.done():
            one.result()

    async def _begin(self) -> None:
        """Return when all was read, with all that an earlier term ever writes to Northbound."""
        await self.rival.surely_gone()
        await self.mirrors.whole()
        last = await self.guard.put_up()
        while self.picture.seq < last:
            self._rows.clear()
            await self._rows.wait()
        self.picture.leads = True

    async def _resync(self) -> None:
        """Look at everything again, events or not: what no event will ever tell is found here (contract §7)."""
        while True:
            await self.world.clock.sleep(self.tuning.resync_s * self.world.clock.jitter())
            self.barrier.prune(self.picture)
            self._look_at_everything()

    def _look_at_everything(self) -> None:
        now = self.world.clock.now()
        for key in self._everything():
            self.queue.add(key, now, Lane.LOW)
        self._wake.set()

    def _put_first_who_waits(self) -> None:
        """Who needs an address is not behind all those who have one: nobody could tell before all was read."""
        if self._all_read:
            return
        self._all_read = True
        now, picture = self.world.clock.now(), self.picture
        for key in self._everything():
            if key.kind != keys.POD or picture.pods.by("owner", (key.namespace, key.name)):
                self._enqueue((key,), now)
        self._wake.set()

    def _look_at(self, key: Key) -> None:
        self.queue.add(key, self.world.clock.now(), Lane.LOW)
        self._wake.set()

    def _everything(self) -> Iterable[Key]:
        picture = self.picture
        yield from (keys.subnet(s.metadata.name) for s in picture.subnets.values())
        yield from (keys.pool(name) for name in dict.fromkeys(picture.pool_names()))
        yield from (keys.namespace(n.metadata.name) for n in picture.namespaces.values())
        for ip in picture.ips.values():
            yield keys.reservation(ip.metadata.name)
            yield from (keys.pod(*owner) for owner in owners_of_ip(ip))
        for row in picture.ports.ports():
            owner = owner_of_row(row)
            if owner is not None:
                yield keys.pod(*owner)
        for one in picture.pods.values():
            yield keys.pod(*naming.owner_of(one))

    # -- what comes in -----------------------------------------------------------------------------

    def _see_objects(self, kind: Kind, news: News) -> None:
        replica: Any = self.picture.replica(kind)
        now = self._heard[kind] = self.world.clock.now()
        fresh = self.picture.heard(kind, served=not isinstance(news, watch.Absent))
        if isinstance(news, watch.Absent):
            return
        if isinstance(news, watch.Swap):
            self.telemetry.relists.labels(str(kind)).inc()
            changes = replica.replace(news.objects, news.version)
        else:
            found = (replica.apply(c.version, c.object, c.deleted) for c in news.changes)
            changes = [change for change in found if change is not None]
        for _, old, new in changes:
            self._enqueue(self.picture.see(kind, old, new, now), now)
        if fresh:
            self._enqueue(workloads.come_to_light(self.picture, kind), now)
        self._after_news(now)

    def _warm(self, kind: Kind) -> int:
        """From which version a new leader catches up with a kind; 0: it is listed."""
        replica = self.picture.replica(kind)
        return replica.version if self.picture.served(kind) and len(replica) >= self._small else 0

    def _parts(self, rows: Rows) -> Iterator[Rows]:
        """Most of what changes at once in a database that was restored, before all of it. At a start nobody waits."""
        held = self.picture.ports
        if held.synced and (rows.whole or len(rows.ports) > self._at_once):
            for part in held.nearer(rows.ports, whole=rows.whole, most=self._at_once):
                yield Rows(held.seq, held.epoch, whole=False, ports=part, switches={})

    def _see_rows(self, rows: Rows) -> None:
        picture, now = self.picture, self.world.clock.now()
        ports, switches = picture.ports.apply(rows.seq, rows.epoch, rows.whole, rows.ports, rows.switches)
        for name, old, new in ports:
            self._enqueue(picture.see_port(name, old, new, now), now)
        for name, _, row in switches:
            self._enqueue(picture.see_switch(name, row), now)
        for name, before, after in picture.ports.apply_sets(rows.sets, whole=rows.whole):
            self._enqueue(picture.see_set(name, before, after), now)
        self._rows.set()
        self._after_news(now)

    def _enqueue(self, found: Iterable[Key], now: Seconds) -> None:
        for key in found:
            if self.tuning.observes:
                continue  # what is seen goes into the picture, and nobody acts on it
            if key.kind in _COUNTED:  # the echo of its own write, too: never more often than it may be
                self.worker.book_status(key, now)
                continue
            lane, flow = self._urgency(key) if self._all_read else (Lane.LOW, "")
            self.queue.add(key, now, lane, flow)

    def _urgency(self, key: Key) -> tuple[Lane, str]:
        """Those who need an address first, named addresses before any (W50); echoes of our own writes last."""
        picture = self.picture
        if key.kind == keys.RESERVATION:
            ip = picture.ips.get("", key.name)
            if ip is None:
                return Lane.LOW, ""
            if ip.metadata.ours:
                return (Lane.NORMAL if ip.metadata.deleting else Lane.LOW), ip.spec.subnet
            named = ip.spec.v4_ip_address or ip.spec.v6_ip_address
            return (Lane.URGENT if named else Lane.NORMAL), ip.spec.subnet
        if key.kind == keys.POD:
            live = [p for p in picture.pods.by("owner", (key.namespace, key.name)) if takes_part(p)]
            settled = live and all(picture.nics.settled(p) for p in live)
            return (Lane.LOW if settled else Lane.NORMAL), key.namespace
        return (Lane.LOW if key.kind in _COUNTED else Lane.URGENT), ""

    def _after_news(self, now: Seconds) -> None:
        """Wake who waited for what has happened, and count the subnets whose users have changed."""
        picture = self.picture
        if self.tuning.observes:
            self._forget_news()
            return
        for topic in picture.drain_topics():
            for line, budget in picture.lines_of(topic):
                for key in self.waiting.fire(line, budget):
                    self.queue.add(key, now)
        for port in picture.shared:
            self.queue.add(keys.reservation(port), now, Lane.LOW)
        picture.shared.clear()
        for name in picture.drain_crowded():
            one = picture.atlas.subnet(name)
            if one is not None and one.metadata.deleting:
                self.queue.add(keys.subnet(name), now)
            self.worker.book_status(keys.subnet_status(name), now)
        for name in sorted(picture.ledger.drain_touched_pools()):
            self.worker.book_status(keys.pool_status(name), now)
        self._wake.set()

    def _forget_news(self) -> None:
        """Nobody waits and nobody is told: what has happened since the last news is of no use to who only looks."""
        self.picture.drain_topics()
        self.picture.shared.clear()
        self.picture.drain_crowded()
        self.picture.ledger.drain_touched_pools()


async def run(world: World, tuning: Tuning | None = None) -> None:
    """Run a controller on that world until cancelled."""
    await Controller(world, tuning).run()
