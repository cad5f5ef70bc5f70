"""The TaskGroup that ties it together: reflectors always, everything that writes only while we lead.

One event loop, no threads, no locks. Between a View and its Decision there is no await, and a promise is in the ledger
before the first one: that is why no two keys can be given one address.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from controller.core.catalogue import Message, Reason
from controller.core.decisions import namespace, pod, reservation, subnet
from controller.core.effects import Decision, Patch, Promise, Tell, Withdraw
from controller.core.ipam import Source
from controller.core.objects import Kind
from controller.machines import watch
from controller.machines.backoff import Backoff
from controller.machines.barrier import Barrier
from controller.machines.waiting import Waiting
from controller.machines.workqueue import Lane, WorkQueue
from controller.ports import NotFound, PortError, Unavailable
from controller.reconcilers import keys
from controller.reconcilers.apply import Applier, steps
from controller.reconcilers.audit import leaked
from controller.reconcilers.events import Recorder
from controller.reconcilers.leader import Deposed, Leader
from controller.reconcilers.picture import Picture, running, takes_part
from controller.reconcilers.reflect import mirror, reflect
from controller.reconcilers.settings import Tuning
from controller.reconcilers.telemetry import Telemetry
from controller.reconcilers.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from controller.core.objects import Seconds
    from controller.machines.workqueue import Taken
    from controller.ports import Change, Rows, World
    from controller.reconcilers.keys import Key

log = structlog.get_logger()
WATCHED = (Kind.IP, Kind.POD, Kind.SUBNET, Kind.NAMESPACE, Kind.NODE)
_SLICE_S = 0.02  # synchronous work between two turns of the loop
_PATIENCE_S = 1.0  # a key whose writes are not shown yet is looked at again by then, were an event to be missed


class Controller:
    """Replicas stay warm for as long as it runs; keys are worked on only while it leads."""

    def __init__(self, world: World, tuning: Tuning | None = None) -> None:
        self.world, self.tuning = world, tuning or Tuning()
        self.telemetry = Telemetry()
        self.picture = Picture()
        self.queue: WorkQueue[Key] = WorkQueue(Backoff(base=0.05, cap=30.0))
        self.waiting: Waiting[Key] = Waiting()
        self.barrier: Barrier[Key] = Barrier()
        self.refusals: dict[Key, Message] = {}
        self.recorder = Recorder(world.kube, world.clock, self.telemetry, self.tuning.identity)
        self.applier = Applier(world, self.barrier, self.telemetry)
        self.views = Views(
            self.picture,
            self.waiting,
            self.refusals,
            world.clock,
            self.tuning.protect_in_use,
            self.tuning.pod_nic_type,
        )
        self.leader = Leader(world, self.tuning)
        self.leaks: dict[str, int] = {}  # subnet -> ports of nobody, at the last audit
        self.statusless = False  # this cluster's IPs have no status: Events carry the reasons (contract §8)
        self.unreachable: dict[str, str] = {}  # source -> why, for readiness
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._under_way = 0
        self._stopping = False
        self._status_due: dict[str, Seconds] = {}
        self._told: dict[Key, tuple[str, tuple[str, ...]]] = {}

    # -- life --------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """True once every source was read whole."""
        return self.picture.synced

    async def run(self) -> None:
        """Run until cancelled, or until stop() has drained what was under way."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._reflect(kind), name=f"reflect {kind}") for kind in WATCHED]
            tasks.append(group.create_task(mirror(self.world.northbound, self._see_rows), name="mirror"))
            await self._lead_for_ever()
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """Take no more keys; run() ends when those under way are done and the lease is given back."""
        self._stopping = True
        self.leader.stop()
        self._wake.set()

    async def _lead_for_ever(self) -> None:
        while not self._stopping:
            await self._synced()
            if not await self.leader.acquire():
                return
            self.telemetry.leading.labels("keepip").set(1)
            log.info("leading", identity=self.tuning.identity)
            try:
                await self._lead()
            except* Deposed:
                log.warning("lease lost", identity=self.tuning.identity)
            finally:
                self.telemetry.leading.labels("keepip").set(0)
            await self.leader.release()
            log.info("not leading", identity=self.tuning.identity)

    async def _lead(self) -> None:
        """Work until stopped; a lost lease cancels everything that could still write."""
        async with asyncio.TaskGroup() as group:
            sides = [
                group.create_task(self.recorder.run(), name="events"),
                group.create_task(self._resync(), name="resync"),
            ]
            dispatch = group.create_task(self._dispatch(group), name="dispatch")
            await self.leader.hold(dispatch)
            for task in sides:
                task.cancel()

    async def _synced(self) -> None:
        while not self.picture.synced and not self._stopping:
            self._wake.clear()
            await self._wake.wait()

    async def _reflect(self, kind: Kind) -> None:
        def tell(news: watch.Swap[Any] | watch.Apply[Change]) -> None:
            self._see_objects(kind, news)

        await reflect(self.world.kube, self.world.clock, kind, tell)

    async def _resync(self) -> None:
        """Look at everything again, events or not: what no event will ever tell is found here (contract §7)."""
        while True:
            await self.world.clock.sleep(self.tuning.resync_s * self.world.clock.jitter())
            now = self.world.clock.now()
            self.barrier.prune(self.picture)
            self._audit()
            for key in self._everything():
                self.queue.add(key, now, Lane.LOW)
            self._wake.set()

    def _audit(self) -> None:
        counts: dict[str, int] = {}
        for name in leaked(self.picture):
            counts[name] = counts.get(name, 0) + 1
        self.leaks = counts

    def _everything(self) -> Iterable[Key]:
        picture = self.picture
        yield from (keys.subnet(s.metadata.name) for s in picture.subnets.values())
        yield from (keys.namespace(n.metadata.name) for n in picture.namespaces.values())
        for ip in picture.ips.values():
            yield keys.reservation(ip.metadata.name)
            if ip.spec.pod_name and ip.spec.namespace:
                yield keys.pod(ip.spec.namespace, ip.spec.pod_name)
        for row in picture.ports.ports():
            space, slash, name = row.external("pod").partition("/")
            if slash and row.ours:
                yield keys.pod(space, name)
        for one in picture.pods.values():
            yield from (key for key in picture.see(Kind.POD, one, one, self.world.clock.now()))

    # -- what comes in -----------------------------------------------------------------------------

    def _see_objects(self, kind: Kind, news: watch.Swap[Any] | watch.Apply[Change]) -> None:
        replica: Any = self.picture.replica(kind)
        if isinstance(news, watch.Swap):
            self.telemetry.relists.labels(str(kind)).inc()
            changes = replica.replace(news.objects, news.version)
        else:
            found = (replica.apply(c.version, c.object, c.deleted) for c in news.changes)
            changes = [change for change in found if change is not None]
        now = self.world.clock.now()
        for _, old, new in changes:
            self._enqueue(self.picture.see(kind, old, new, now), now)
        self._after_news(now)

    def _see_rows(self, rows: Rows) -> None:
        picture, now = self.picture, self.world.clock.now()
        ports, switches = picture.ports.apply(rows.seq, rows.epoch, rows.whole, rows.ports, rows.switches)
        for name, old, new in ports:
            self._enqueue(picture.see_port(name, old, new, now), now)
        for name, _, row in switches:
            self._enqueue(picture.see_switch(name, row), now)
        self._after_news(now)

    def _enqueue(self, found: Iterable[Key], now: Seconds) -> None:
        for key in found:
            lane, flow = self._urgency(key)
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
            settled = live and all(running(p) for p in live)
            return (Lane.LOW if settled else Lane.NORMAL), key.namespace
        return (Lane.LOW if key.kind == keys.SUBNET_STATUS else Lane.URGENT), ""

    def _after_news(self, now: Seconds) -> None:
        """Wake who waited for what has happened, and count the subnets whose users have changed."""
        picture = self.picture
        for topic in picture.drain_topics():
            budget = None
            if topic[0] == "space":
                plan = picture.ledger.plan(topic[1])
                free = [picture.ledger.free_count(topic[1], f) for f in plan.families] if plan else []
                budget = min(free, default=0)
            for key in self.waiting.fire(topic, budget):
                self.queue.add(key, now)
        for name in sorted(picture.crowded):
            one = picture.atlas.subnet(name)
            if one is not None and one.metadata.deleting:
                self.queue.add(keys.subnet(name), now)
            self._book_status(name, now)
        picture.crowded.clear()
        self._wake.set()

    def _book_status(self, name: str, now: Seconds) -> None:
        if self.picture.atlas.subnet(name) is not None:
            self.queue.add_at(keys.subnet_status(name), max(now, self._status_due.get(name, now)), Lane.LOW)

    # -- work --------------------------------------------------------------------------------------

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        """Hand keys out, at most `workers` at once; what needs no I/O is done on the spot."""
        clock = self.world.clock
        turn = clock.now()
        while not (self._stopping and self._under_way == 0):
            taken = None
            if not self._stopping and self._under_way < self.tuning.workers:
                taken = self.queue.take(clock.now())
            if taken is None:
                await self._rest()
                turn = clock.now()
                continue
            job = self._begin(taken)
            if job is not None:
                self._under_way += 1
                group.create_task(self._finish(taken, job), name=str(taken.key))
            if clock.now() - turn > _SLICE_S:
                await asyncio.sleep(0)
                turn = clock.now()

    async def _rest(self) -> None:
        self._wake.clear()
        deadline = None if self._stopping else self.queue.next_deadline()
        full = self._under_way >= self.tuning.workers
        wait = None if deadline is None or full else max(0.0, deadline - self.world.clock.now())
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _begin(self, taken: Taken[Key]) -> Decision | tuple[()] | None:
        """The synchronous half: view, decide, promise. None if nothing is left to do; `()` if a doubt needs a read."""
        key, now = taken.key, self.world.clock.now()
        self.telemetry.queue_seconds.labels(key.kind).observe(taken.waited)
        decision: Decision | None = None
        try:
            if self.barrier.doubts(key):
                return ()
            if self.barrier.behind(key, self.picture):
                self._count(key, "behind")
                self.queue.add_at(key, now + _PATIENCE_S, Lane.LOW)
            else:
                decision = self._decide(key, now)
        except Exception:  # noqa: BLE001 - the one place where a bug becomes a metric and a backoff
            self._panic(key, now)
        if decision is not None and (decision.effects or decision.tells):
            outward = next(steps(decision.effects), None)
            if outward is not None:
                return decision
            self._tell(key, decision)
        if decision is not None:
            self._succeed(key, decision, now)
        self.queue.done(key, now)
        return None

    def _decide(self, key: Key, now: Seconds) -> Decision:
        decision = self._look(key, now)
        for effect in decision.effects:
            if isinstance(effect, Promise):
                self.picture.promise(key, effect, now)
                self.waiting.took(key, effect.subnet)
            elif isinstance(effect, Withdraw):
                self.picture.withdraw(effect.port, now)
        self._take_notice(key, decision, now)
        self._after_news(now)
        return decision

    def _look(self, key: Key, now: Seconds) -> Decision:
        views, name = self.views, key.name
        match key.kind:
            case keys.RESERVATION:
                return reservation.decide(views.reservation(name), now)
            case keys.RESERVATION_STATUS:
                return _status_only(reservation.decide(views.reservation(name), now))
            case keys.POD:
                return pod.decide(views.pod(key.namespace, name), now)
            case keys.SUBNET:
                return subnet.decide(views.subnet(name, counted=False), now)
            case keys.SUBNET_STATUS:
                self._status_due[name] = now + self.tuning.status_every_s
                return _status_only(subnet.decide(views.subnet(name, counted=True), now))
            case _:
                return namespace.decide(views.namespace(name), now)

    def _take_notice(self, key: Key, decision: Decision, now: Seconds) -> None:
        """Remember refusals and waits; book the status on its own lane."""
        if key.kind in {keys.RESERVATION_STATUS, keys.SUBNET_STATUS}:
            return
        woken = self.waiting.wait(key, decision.waits, now) if decision.waits else self.waiting.clear(key)
        for other in woken:
            self.queue.add(other, now)
        self._remember_refusal(key, decision)
        if key.kind == keys.RESERVATION and decision.status is not None:
            if self.statusless:
                self._tell_standing(decision.status)
            else:
                self.queue.add(keys.reservation_status(key.name), now, Lane.LOW)
        if key.kind == keys.SUBNET:
            self._book_status(key.name, now)

    def _tell_standing(self, status: Patch) -> None:
        """Where an IP has no status its Ready condition becomes an Event of the same reason (contract §8)."""
        uid = status.body["metadata"]["uid"]
        for shown in status.body["status"].get("conditions") or ():
            if shown["type"] == "Ready":
                message = Message(Reason(shown["reason"]), shown["message"])
                self.recorder.tell(Tell(Kind.IP, "", status.name, uid, message))

    def _remember_refusal(self, key: Key, decision: Decision) -> None:
        before = self.refusals.get(key)
        if decision.refusal is not None:
            self.refusals[key] = decision.refusal
        else:
            self.refusals.pop(key, None)
            uid, reasons = self._told.pop(key, ("", ()))
            if uid and not decision.tells:
                self.recorder.forget(uid, reasons)
        if key.kind == keys.RESERVATION and before != decision.refusal:
            self.picture.announce(("ip", key.name))

    async def _finish(self, taken: Taken[Key], decision: Decision | tuple[()]) -> None:
        """The asynchronous half: reads that end a doubt, or the effects in order."""
        key, clock = taken.key, self.world.clock
        started = clock.now()
        try:
            if isinstance(decision, tuple):
                await self._resolve(key)
            else:
                for step in steps(decision.effects):
                    await self.applier.apply(key, step)
                self._tell(key, decision)
                self._succeed(key, decision, clock.now())
        except NotFound:
            self._not_found(key)
        except PortError as error:
            self._fail(key, error)
        except asyncio.CancelledError:
            self._haunt(key)
            raise
        except Exception:  # noqa: BLE001 - a bug in one key must not end the others
            self._panic(key, clock.now())
        finally:
            now = clock.now()
            self.telemetry.work_seconds.labels(key.kind).observe(now - started)
            self.telemetry.reconcile_seconds.labels(key.kind).observe(now - started)
            self.queue.done(key, now)
            self._under_way -= 1
            self._wake.set()

    async def _resolve(self, key: Key) -> None:
        for kind, space, name in self.barrier.doubts(key):
            found = await self.world.kube.read(kind, space, name)
            self.barrier.resolved(key, kind, space, name, found.metadata.version if found is not None else None)
        self.queue.retry(key, self.world.clock.now(), self.world.clock.jitter())

    def _succeed(self, key: Key, decision: Decision, now: Seconds) -> None:
        self.queue.forget(key)
        if decision.requeue_after is not None:
            self.queue.add_at(key, now + decision.requeue_after)
        result = "refused" if decision.refusal else "requeue_after" if decision.requeue_after is not None else "success"
        self._count(key, result)
        if decision.effects:
            log.info("reconciled", key=str(key), effects=[type(e).__name__ for e in decision.effects])

    def _fail(self, key: Key, error: PortError) -> None:
        """The queue is the only retrier; a server's own wish for the pause is obeyed."""
        now, clock = self.world.clock.now(), self.world.clock
        at_least = (error.retry_after or 0.0) if isinstance(error, Unavailable) else 0.0
        if isinstance(error, Unavailable) and error.unknown:
            self._haunt(key)
        for other in self.waiting.revoke(key):
            self.queue.add(other, now)
        due = self.queue.retry(key, now, clock.jitter(), at_least=at_least)
        self._count(key, "error")
        log.warning(
            "write failed", key=str(key), error=f"{type(error).__name__}: {error}", retry_in=round(due - now, 3)
        )

    def _not_found(self, key: Key) -> None:
        now = self.world.clock.now()
        if key.kind == keys.RESERVATION_STATUS and self.picture.ips.get("", key.name) is not None:
            self.statusless = True
        self.queue.retry(key, now, self.world.clock.jitter())
        self._count(key, "error")

    def _panic(self, key: Key, now: Seconds) -> None:
        self.telemetry.panics.labels(key.kind).inc()
        log.exception("bug", key=str(key))  # noqa: LOG004 - called from the two handlers above
        for other in self.waiting.revoke(key):
            self.queue.add(other, now)
        self.queue.retry(key, now, self.world.clock.jitter())

    def _haunt(self, key: Key) -> None:
        """A write without answer may still land: what its ports claim now stays claimed for as long as it may live."""
        picture, clock = self.picture, self.world.clock
        name = key.name if key.kind in {keys.RESERVATION, keys.RESERVATION_STATUS} else f"{key.name}.{key.namespace}"
        said = tuple(dict.fromkeys(record for _, _, record in picture.ledger.records_of(name)))
        if not said:
            return
        picture.ledger.put(Source.OTHER, f"ghost of {name}", said, clock.now())

        def lay() -> None:
            now = clock.now()
            picture.crowded.update(record.subnet for record in said)
            picture.ledger.put(Source.OTHER, f"ghost of {name}", (), now)
            self._after_news(now)

        asyncio.get_running_loop().call_later(self.tuning.request_limit_s, lay)

    def _tell(self, key: Key, decision: Decision) -> None:
        for tell in decision.tells:
            self.recorder.tell(tell)
        if decision.tells:
            self._told[key] = (decision.tells[0].uid, tuple(str(t.message.reason) for t in decision.tells))

    def _count(self, key: Key, result: str) -> None:
        self.telemetry.reconciles.labels(key.kind, result).inc()


def _status_only(decision: Decision) -> Decision:
    """The status, once nothing else is to be written: it tells of what is, not of what will be."""
    if decision.status is None or any(steps(decision.effects)):
        return Decision()
    return Decision((decision.status,))


async def run(world: World, tuning: Tuning | None = None) -> None:
    """Run a controller on that world until cancelled."""
    await Controller(world, tuning).run()
