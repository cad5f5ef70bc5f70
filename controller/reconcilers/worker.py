"""Take -> caught up? -> view -> decide -> promise -> apply -> tell -> requeue: the life of one key's run.

Between a View and its Decision there is no await, and a promise is in the ledger before the first one: that is why no
two keys can be given one address, and why no lock exists.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from controller.core.catalogue import Message, Reason
from controller.core.decisions import namespace, pod, pool, reservation, subnet, sweep
from controller.core.effects import Create, Decision, Delete, Patch, Promise, Remember, Tell, Withdraw
from controller.core.objects import Kind
from controller.machines.workqueue import Lane
from controller.ports import Denied, Fenced, NotFound, PortError, Unavailable
from controller.reconcilers import keys
from controller.reconcilers.apply import Applier, steps
from controller.reconcilers.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.core.objects import Seconds
    from controller.machines.barrier import Barrier
    from controller.machines.waiting import Waiting
    from controller.machines.workqueue import Taken, WorkQueue
    from controller.ports import World
    from controller.reconcilers.apply import InTerm
    from controller.reconcilers.events import Recorder
    from controller.reconcilers.keys import Key
    from controller.reconcilers.picture import Picture
    from controller.reconcilers.settings import Tuning
    from controller.reconcilers.telemetry import Telemetry

log = structlog.get_logger()
_SLICE_S = 0.02  # synchronous work between two turns of the loop
_HASTE_S = 0.1  # where an address was asked for, more may follow
_ASIDE = 2  # writes of the last lane under way at once meanwhile
_PATIENCE_S = 1.0  # a key whose writes are not shown yet is looked at again by then, were an event to be missed


class Worker:
    """Runs keys, at most `workers` of them at once."""

    def __init__(
        self,
        world: World,
        tuning: Tuning,
        picture: Picture,
        queue: WorkQueue[Key],
        waiting: Waiting[Key],
        barrier: Barrier[Key],
        recorder: Recorder,
        telemetry: Telemetry,
        wake: asyncio.Event,
        news: Callable[[Seconds], None],
        in_term: InTerm,
    ) -> None:
        self.world, self.tuning, self.picture, self.queue = world, tuning, picture, queue
        self.waiting, self.barrier, self.recorder, self.telemetry = waiting, barrier, recorder, telemetry
        self.refusals: dict[Key, Message] = {}
        self.statusless = False  # this cluster's IPs have no status: Events carry the reasons (contract §8)
        self.denied = ""  # the last refusal of a right that we need, for readiness
        self.views = Views(
            picture,
            waiting,
            self.refusals,
            world.clock,
            self._busy,
            protect_in_use=tuning.protect_in_use,
            pod_nic_type=tuning.pod_nic_type,
            migration_options=tuning.enable_live_migration_optimize,
            sweeps=True,
        )
        self.status_due: dict[Key, Seconds] = {}
        self._applier = Applier(world, barrier, telemetry, in_term)
        self._wake, self._after_news = wake, news
        self._under_way = self._aside = 0
        self._hurried = -math.inf  # when something of a better lane was begun last
        self._stopping = False
        self._told: dict[Key, tuple[str, tuple[str, ...]]] = {}
        self.fenced = asyncio.Event()  # a transaction was refused because the term in Northbound is not ours

    def _busy(self, key: Key) -> bool:
        return self.queue.runs(key) or self.barrier.behind(key, self.picture)

    @property
    def under_way(self) -> int:
        """How many keys have writes under way."""
        return self._under_way

    def stop(self) -> None:
        """Take no more keys; run() ends when those under way are done."""
        self._stopping = True
        self._wake.set()

    def book_status(self, key: Key, now: Seconds) -> None:
        """Have the numbers of a Subnet or IPPool written, but not more often than they may be."""
        kind = Kind.SUBNET if key.kind == keys.SUBNET_STATUS else Kind.POOL
        if self.picture.has(kind, "", key.name):
            self.queue.add_at(key, max(now, self.status_due.get(key, now)), Lane.LOW)

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Hand keys out, at most `workers` at once; what needs no I/O is done on the spot."""
        clock = self.world.clock
        turn = clock.now()
        while not (self._stopping and self._under_way == 0):
            taken = None
            if not self._stopping and self._under_way < self.tuning.workers:
                taken = self.queue.take(clock.now(), self._worst())
            if taken is None:
                await self._rest()
                turn = clock.now()
                continue
            job = self._begin(taken)
            if job is not None:
                self._start(group, taken, job)
            if clock.now() - turn > _SLICE_S:
                await asyncio.sleep(0)
                turn = clock.now()

    def _worst(self) -> Lane:
        """The servers are for who asks for an address: while many do, what only tells of it has little of them."""
        return Lane.NORMAL if self._aside >= _ASIDE and self.world.clock.now() < self._hurried + _HASTE_S else Lane.LOW

    def _start(self, group: asyncio.TaskGroup, taken: Taken[Key], job: Decision | tuple[()]) -> None:
        """Run the asynchronous half; its end is seen to even if it is cancelled before it began."""
        started = self.world.clock.now()
        self._under_way += 1
        if taken.lane is Lane.LOW:
            self._aside += 1
        else:
            self._hurried = started
        task = group.create_task(self._finish(taken.key, job), name=str(taken.key))
        task.add_done_callback(lambda _task: self._end(taken, started))

    def _end(self, taken: Taken[Key], started: Seconds) -> None:
        now = self.world.clock.now()
        self.telemetry.worked(taken.key.kind, now - started)
        self.queue.done(taken.key, now)
        self._under_way -= 1
        self._aside -= taken.lane is Lane.LOW
        self._wake.set()

    async def _rest(self) -> None:
        self._wake.clear()
        deadline = None if self._stopping else self.queue.next_deadline()
        full = self._under_way >= self.tuning.workers
        if self._worst() is not Lane.LOW and len(self.queue):
            calm = self._hurried + _HASTE_S
            deadline = calm if deadline is None else min(deadline, calm)
        wait = None if deadline is None or full else max(0.0, deadline - self.world.clock.now())
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _begin(self, taken: Taken[Key]) -> Decision | tuple[()] | None:
        """The synchronous half: view, decide, promise. None if nothing is left to do; `()` if a doubt needs a read."""
        key, now = taken.key, self.world.clock.now()
        self.telemetry.waited(key.kind, taken.waited)
        decision: Decision | None = None
        try:
            if self.barrier.doubts(key):
                return ()
            if self.barrier.behind(key, self.picture):
                self._count(key, "behind")
                self.queue.add_at(key, now + _PATIENCE_S, Lane.LOW)
            else:
                decision = self._decide(taken, now)
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

    def _decide(self, taken: Taken[Key], now: Seconds) -> Decision:
        key = taken.key
        decision = self._look(key, now)
        for effect in decision.effects:
            if isinstance(effect, Promise):
                self.picture.promise(key, effect, now)
                for room in self.picture.rooms_of(effect):
                    self.waiting.took(key, room)
            elif isinstance(effect, Withdraw):
                self.picture.withdraw(effect.port, now)
                if key.kind == keys.POD and self.picture.has(Kind.IP, "", effect.port):
                    self.queue.add(keys.reservation(effect.port), now)  # it has kept silent as long as that stood
        self._take_notice(key, decision, now)
        if key.kind == keys.RESERVATION and decision.status is not None:
            decision = self._see_to_status(taken, decision, now)
        self._after_news(now)
        return decision

    def _see_to_status(self, taken: Taken[Key], decision: Decision, now: Seconds) -> Decision:
        """The status goes behind every address (contract §3): in this run if it is of the last lane, else in its own.

        Where an IP has no status its Ready condition becomes an Event of the same reason (contract §8).
        """
        assert decision.status is not None  # noqa: S101 - asked by the caller
        if self.statusless:
            self._tell_standing(decision.status)
        elif taken.lane is Lane.LOW:
            return replace(decision, effects=(*decision.effects, decision.status))
        else:
            self.queue.add(keys.reservation_status(taken.key.name), now, Lane.LOW)
        return decision

    def _look(self, key: Key, now: Seconds) -> Decision:
        views, name = self.views, key.name
        match key.kind:
            case keys.RESERVATION:
                return reservation.decide(views.reservation(name), now)
            case keys.RESERVATION_STATUS:
                if self.statusless:
                    return Decision()
                return _status_only(reservation.decide(views.reservation(name), now))
            case keys.POD:
                view = views.pod(key.namespace, name)
                for held in sweep.met(view):
                    self.picture.acquaintance.meet(held.port, sweep.ids_of(held))
                return pod.decide(view, now)
            case keys.SUBNET:
                return subnet.decide(views.subnet(name, counted=False), now)
            case keys.POOL:
                return pool.decide(views.pool(name, counted=False), now)
            case keys.POOL_STATUS:
                self.status_due[key] = now + self.tuning.status_every_s
                return _status_only(pool.decide(views.pool(name, counted=True), now))
            case keys.SUBNET_STATUS:
                self.status_due[key] = now + self.tuning.status_every_s
                return _status_only(subnet.decide(views.subnet(name, counted=True), now))
            case _:
                return namespace.decide(views.namespace(name), now)

    def _take_notice(self, key: Key, decision: Decision, now: Seconds) -> None:
        """Remember refusals and waits; book the numbers of a Subnet or IPPool."""
        if key.kind in {keys.RESERVATION_STATUS, keys.SUBNET_STATUS, keys.POOL_STATUS}:
            return
        woken = self.waiting.wait(key, decision.waits, now) if decision.waits else self.waiting.clear(key)
        for other in woken:
            self.queue.add(other, now)
        self._remember_refusal(key, decision)
        if key.kind == keys.SUBNET:
            self.book_status(keys.subnet_status(key.name), now)
        elif key.kind == keys.POOL:
            self.book_status(keys.pool_status(key.name), now)

    def _tell_standing(self, status: Patch) -> None:
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

    async def _finish(self, key: Key, decision: Decision | tuple[()]) -> None:
        """The asynchronous half: reads that end a doubt, or the effects in order."""
        try:
            if isinstance(decision, tuple):
                await self._resolve(key)
                return
            for step in steps(decision.effects):
                if isinstance(step, Remember):
                    self.picture.remember(step, self.world.clock.now())
                else:
                    await self._applier.apply(key, step)
            self._tell(key, decision)
            self._succeed(key, decision, self.world.clock.now())
        except NotFound:
            await self._not_found(key, decision)
        except PortError as error:
            self._fail(key, error, decision)
        except asyncio.CancelledError:
            self._haunt(key, decision)
            raise
        except Exception:  # noqa: BLE001 - a bug in one key must not end the others
            self._panic(key, self.world.clock.now())

    async def _resolve(self, key: Key) -> None:
        for kind, space, name in self.barrier.doubts(key):
            found = await self.world.kube.read(kind, space, name)
            self.barrier.resolved(key, kind, space, name, found.metadata.version if found is not None else None)
        self.queue.retry(key, self.world.clock.now(), self.world.clock.jitter())

    def _succeed(self, key: Key, decision: Decision, now: Seconds) -> None:
        self.queue.forget(key)
        if decision.effects:
            self.denied = ""
        if decision.requeue_after is not None:
            self.queue.add_at(key, now + decision.requeue_after)
        result = "refused" if decision.refusal else "requeue_after" if decision.requeue_after is not None else "success"
        self._count(key, result)
        if decision.effects:
            why = [str(e.why) for e in decision.effects if isinstance(e, Delete) and e.why]
            also = {"why": why} if why else {}
            log.info("reconciled", key=str(key), effects=[type(e).__name__ for e in decision.effects], **also)

    def _fail(self, key: Key, error: PortError, decision: Decision | tuple[()] = ()) -> None:
        """The queue is the only retrier; a server's own wish for the pause is obeyed."""
        now, clock = self.world.clock.now(), self.world.clock
        at_least = (error.retry_after or 0.0) if isinstance(error, Unavailable) else 0.0
        if isinstance(error, Unavailable) and error.unknown:
            self._haunt(key, decision)
        if isinstance(error, Denied):
            self.denied = str(error)
        if isinstance(error, Fenced):
            self.fenced.set()
        for other in self.waiting.revoke(key):
            self.queue.add(other, now)
        due = self.queue.retry(key, now, clock.jitter(), at_least=at_least)
        self._count(key, "error")
        log.warning(
            "write failed", key=str(key), error=f"{type(error).__name__}: {error}", retry_in=round(due - now, 3)
        )

    async def _not_found(self, key: Key, decision: Decision | tuple[()]) -> None:
        """The object is gone, or it is an IP of a cluster whose CRD has no status: a read tells which."""
        uids = _with_status(decision)
        if uids:
            try:
                found = await self.world.kube.read(Kind.IP, "", key.name)
                if found is not None and found.metadata.uid in uids:
                    self.statusless = True  # the very object is there, and it has no status
            except PortError as error:
                self._fail(key, error)
                return
        self.queue.retry(key, self.world.clock.now(), self.world.clock.jitter())
        self._count(key, "error")

    def _panic(self, key: Key, now: Seconds) -> None:
        self.telemetry.panics.labels(key.kind).inc()
        log.exception("bug", key=str(key))  # noqa: LOG004 - called from the two handlers above
        for other in self.waiting.revoke(key):
            self.queue.add(other, now)
        self.queue.retry(key, now, self.world.clock.jitter())

    def _haunt(self, key: Key, decision: Decision | tuple[()]) -> None:
        """A write without answer may still land: what its ports claim now stays claimed for as long as it may live.

        A port whose IP may still come is not let go of meanwhile (release.py); afterwards it is looked at again.
        """
        picture, clock = self.picture, self.world.clock
        first = key.name if key.kind in {keys.RESERVATION, keys.RESERVATION_STATUS} else f"{key.name}.{key.namespace}"
        now, effects = clock.now(), decision.effects if isinstance(decision, Decision) else ()
        until = now + self.tuning.request_limit_s
        unborn = {one.name for one in effects if isinstance(one, Create) and one.kind is Kind.IP}
        every = dict.fromkeys((first, *picture.promised_to(key)))
        ports = [one for one in every if picture.ghosts.raise_for(one, now, until, unborn=one in unborn)]

        def lay() -> None:
            now = max(clock.now(), until)
            for port in ports:
                picture.ghosts.lay(port, now)
            self.queue.add(key, now, Lane.LOW)
            self._after_news(now)

        if ports:
            asyncio.get_running_loop().call_later(self.tuning.request_limit_s, lay)

    def _tell(self, key: Key, decision: Decision) -> None:
        for tell in decision.tells:
            self.recorder.tell(tell)
        if decision.tells:
            told = (decision.tells[0].uid, tuple(str(t.message.reason) for t in decision.tells))
            uid, reasons = self._told.get(key, told)
            self.recorder.forget(uid, tuple(r for r in reasons if r not in told[1]))  # were it so again, it is news
            self._told[key] = told

    def _count(self, key: Key, result: str) -> None:
        self.telemetry.reconciled(key.kind, result)


def _with_status(decision: Decision | tuple[()]) -> set[str]:
    """The IP, by its uid, whose status was to be written."""
    effects = decision.effects if isinstance(decision, Decision) else ()
    return {e.body["metadata"]["uid"] for e in effects if isinstance(e, Patch) and e.kind is Kind.IP and e.subresource}


def _status_only(decision: Decision) -> Decision:
    """The status, once nothing else is to be written: it tells of what is, not of what will be."""
    if decision.status is None or any(steps(decision.effects)):
        return Decision()
    return Decision((decision.status,))
