"""Events at their pace, effects with their consequences, one leader: the asynchronous half, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from controller.core.catalogue import Message, Reason, say
from controller.core.effects import (
    ConfirmGone,
    Create,
    Delete,
    DropPort,
    Patch,
    Promise,
    PutPort,
    PutSwitch,
    Tell,
    Withdraw,
)
from controller.core.objects import Kind
from controller.core.rows import PortRow
from controller.machines import watch
from controller.machines.barrier import Barrier
from controller.ports import Conflict, PortError, Rows, Unavailable, World
from controller.reconcilers import events, keys
from controller.reconcilers.apply import Applier, steps
from controller.reconcilers.controller import Controller
from controller.reconcilers.events import Recorder
from controller.reconcilers.keys import Key
from controller.reconcilers.leader import Deposed, Leader
from controller.reconcilers.rival import Rival
from controller.reconcilers.settings import Tuning
from controller.reconcilers.telemetry import Telemetry
from tests.core.worlds import granted_ip, make_ip, make_pod, make_row, make_subnet, notes_of
from tests.sim.apiserver import Request
from tests.sim.loop import run
from tests.sim.world import API, NB, SYSTEM_NAMESPACE, SimWorld

BAD = say(Reason.SUBNET_EXHAUSTED, "queued", subnet="net")
GOOD = say(Reason.POD_NETWORK_RELEASED, "nic", port="p", subnet="net", address="a")
WISH_S = 7.0
KEY = keys.reservation("web.default")


def live(story: Callable[[SimWorld], Awaitable[None]]) -> None:
    """One universe without faults."""

    async def main() -> None:
        await story(SimWorld(1))

    run(main())


# -- events ----------------------------------------------------------------------------------------


def tell(message: Message, uid: str = "u", text: str = "") -> Tell:
    return Tell(Kind.POD, "default", "web", uid, Message(message.reason, text or message.text))


async def told(universe: SimWorld, script: Callable[[Recorder], Awaitable[None]], seconds: float) -> list[Request]:
    """Every Event that was sent while the script ran and for that long afterwards."""
    sent: list[Request] = []
    universe.traffic.witness.append(lambda one: sent.append(one) if one.verb == "report" else None)
    recorder = Recorder(universe.world.kube, universe.world.clock, Telemetry(), "me")
    task = asyncio.create_task(recorder.run())
    await script(recorder)
    await asyncio.sleep(seconds)
    task.cancel()
    return sent


def test_an_object_that_waits_is_told_once() -> None:
    """However often it is looked at; another object and another reason are other news (contract §8)."""

    async def story(universe: SimWorld) -> None:
        async def script(recorder: Recorder) -> None:
            for _ in range(100):
                recorder.tell(tell(BAD))
                await asyncio.sleep(5)
            recorder.tell(tell(BAD, "another"))
            recorder.tell(tell(GOOD))

        sent = await told(universe, script, 5)
        assert [one.body["reason"] for one in sent] == ["SubnetExhausted", "SubnetExhausted", "PodNetworkReleased"]
        assert {one.body["involvedObject"]["uid"] for one in sent} == {"u", "another"}

    live(story)


def test_news_within_the_minute_comes_at_its_end() -> None:
    """One Event per object and reason at most once a minute, and the last word is not lost."""

    async def story(universe: SimWorld) -> None:
        async def script(recorder: Recorder) -> None:
            for number in range(10):
                recorder.tell(tell(BAD, text=f"word {number}"))
                await asyncio.sleep(1)

        sent = await told(universe, script, 200)
        assert [one.body["message"] for one in sent] == ["word 0", "word 9"]
        assert sent[1].at - sent[0].at >= events.REPEAT_S

    live(story)


def test_a_reason_that_came_back_while_it_waited_for_its_turn_is_told_once() -> None:
    """Seed 984: the server was away for more than a minute, and the same words stood in line twice."""

    async def story(universe: SimWorld) -> None:
        async def script(recorder: Recorder) -> None:
            universe.network.away_until[API] = universe.now() + 70.0
            recorder.tell(tell(BAD))
            await asyncio.sleep(62)
            recorder.forget("u", (str(BAD.reason),))
            recorder.tell(tell(BAD))

        sent = await told(universe, script, 90)
        names = {one.body["metadata"]["name"]: one.at for one in sent}
        assert len(names) == 2
        first, second = sorted(names.values())
        assert second - first >= events.REPEAT_S

    live(story)


def test_a_thousand_of_one_kind_delay_nobody_elses_news() -> None:
    """Kinds and namespaces take turns, and what is dropped is good news of the longest line."""
    turns, bad = events.Turns(), [tell(BAD, f"u{n}") for n in range(1000)]
    turns.push(tell(GOOD, "good"), 0.0)
    for one in bad:
        turns.push(one, 1.0)
    turns.push(replace(tell(BAD, "other"), namespace="team"), 2.0)

    turns.shed()
    assert [turns.pop()[0].uid for _ in range(3)] == ["u0", "other", "u1"]
    turns.shed()
    assert (turns.pop()[0].uid, len(turns)) == ("u3", 996)


def test_an_object_that_was_well_again_is_told_anew() -> None:
    """But still at most once a minute."""

    async def story(universe: SimWorld) -> None:
        async def script(recorder: Recorder) -> None:
            recorder.tell(tell(BAD))
            await asyncio.sleep(70)
            recorder.forget("u", (str(BAD.reason), "Unknown"))
            recorder.tell(tell(BAD))

        assert len(await told(universe, script, 5)) == 2

    live(story)


def test_many_events_are_sent_at_a_pace() -> None:
    """They are never in the way of an address."""

    async def story(universe: SimWorld) -> None:
        async def script(recorder: Recorder) -> None:
            for number in range(500):
                recorder.tell(tell(BAD, str(number)))

        sent = await told(universe, script, 2)
        assert events.BURST <= len(sent) <= events.BURST + 2 * events.RATE + 1

    live(story)


def test_too_many_events_lose_the_oldest_good_news_first() -> None:
    """What went wrong is what a person looks for."""

    async def story(universe: SimWorld) -> None:
        recorder = Recorder(universe.world.kube, universe.world.clock, Telemetry(), "me")
        recorder.tell(tell(GOOD, "good"))
        for number in range(events.WAITING_MAX):
            recorder.tell(tell(BAD, str(number)))
        recorder.tell(tell(BAD, "last"))
        waiting = [recorder._waiting.pop()[0] for _ in range(events.WAITING_MAX)]
        assert {one.message.reason for one in waiting} == {BAD.reason}
        assert (waiting[0].uid, waiting[-1].uid, len(recorder._waiting)) == ("1", "last", 0)

    live(story)


class Busy:
    """An API server that refuses whatever it is asked, and says for how long it wants to be left alone."""

    def __init__(self, universe: SimWorld) -> None:
        self._now = universe.now
        self.asked: list[float] = []

    async def refuse(self, *_request: object, **_more: object) -> Any:
        """Answer 429."""
        self.asked.append(self._now())
        raise Unavailable("429", unknown=False, retry_after=WISH_S)

    read = create = patch = report = refuse


@pytest.mark.parametrize("who", ["recorder", "leader", "rival"])
def test_what_the_server_wishes_is_the_least_that_is_waited(who: str) -> None:
    """Jitter lengthens it or does nothing."""

    async def story(universe: SimWorld) -> None:
        busy: Any = Busy(universe)
        world = replace(universe.world, kube=busy)
        if who == "recorder":
            recorder = Recorder(busy, world.clock, Telemetry(), "me")
            recorder.tell(tell(BAD))
            work: Any = recorder.run()
        else:
            work = leader(world, "a").acquire() if who == "leader" else Rival(world, Tuning()).run()
        task = asyncio.create_task(work)
        await asyncio.sleep(20 * WISH_S)
        task.cancel()
        pauses = [after - before for before, after in pairwise(busy.asked)]
        assert len(pauses) > 3
        assert min(pauses) >= WISH_S

    live(story)


# -- apply -----------------------------------------------------------------------------------------


def test_neighbours_in_northbound_are_one_transaction() -> None:
    """Promises never leave the process; everything else keeps its order."""
    put, drop = PutPort(make_row()), DropPort(make_row())
    patch, gone = Patch(Kind.IP, "", "web.default", {}), ConfirmGone("default", "web")
    effects = (Promise("p", "net", None, None, None), gone, put, drop, patch, put, Withdraw("p"))

    assert list(steps(effects)) == [gone, (put, drop), patch, (put,)]


class _Seen:
    """A replica that shows nothing newer than what it is told to show."""

    seq = epoch = 0

    def version(self, _kind: Kind, /) -> int:
        return 0

    def has(self, _kind: Kind, _namespace: str, _name: str, /) -> bool:
        return False


async def applied(universe: SimWorld, effect: Any, expect: type[BaseException] | None) -> Barrier[Key]:
    barrier: Barrier[Key] = Barrier()
    applier = Applier(universe.world, barrier, Telemetry())
    if expect is None:
        await applier.apply(KEY, effect)
    else:
        with pytest.raises(expect):
            await applier.apply(KEY, effect)
    return barrier


CREATE = Create(Kind.IP, "", "web.default", {"metadata": {"name": "web.default"}, "spec": {}})


def test_an_answered_write_is_waited_for() -> None:
    """No key is decided on before the replicas show what it has written."""

    async def story(universe: SimWorld) -> None:
        barrier = await applied(universe, CREATE, None)
        assert barrier.behind(KEY, _Seen())
        assert not barrier.doubts(KEY)
        await anext(universe.world.northbound.rows())  # the reader is what connects
        barrier = await applied(universe, (PutSwitch("net"),), None)
        assert barrier.behind(KEY, _Seen())

    live(story)


def test_silence_is_a_doubt_and_a_refusal_is_none() -> None:
    """Nobody knows whether an unanswered write happened: one consistent read has to tell."""

    async def story(universe: SimWorld) -> None:
        universe.faults.lost_reply = 1.0
        barrier = await applied(universe, CREATE, Unavailable)
        assert barrier.doubts(KEY) == ((Kind.IP, "", "web.default"),)
        universe.faults.lost_reply = 0.0
        barrier = await applied(universe, CREATE, Conflict)
        assert not barrier.behind(KEY, _Seen())
        universe.network.away_until = {API: 1e9, NB: 1e9}
        barrier = await applied(universe, CREATE, Unavailable)
        assert not barrier.doubts(KEY)

    live(story)


@pytest.mark.parametrize("effect", [CREATE, (PutSwitch("net"),)])
def test_a_write_that_was_cancelled_under_way_is_a_doubt(effect: Any) -> None:
    """It may land after its sender is gone."""

    async def story(universe: SimWorld) -> None:
        await asyncio.sleep(5)
        barrier: Barrier[Key] = Barrier()
        task = asyncio.create_task(Applier(universe.world, barrier, Telemetry()).apply(KEY, effect))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert barrier.behind(KEY, _Seen())

    live(story)


def test_a_pod_that_lives_stops_its_release() -> None:
    """Absence from a replica is no proof: a live read is (contract §7)."""

    async def story(universe: SimWorld) -> None:
        await applied(universe, ConfirmGone("default", "web"), None)
        universe.store.create(Kind.POD, "default", "web", {"spec": {}}, "user")
        await applied(universe, ConfirmGone("default", "web"), Conflict)
        on_host = {"spec": {"hostNetwork": True}}  # has no address of ours, whatever its namesake had: seed 778
        universe.store.create(Kind.POD, "default", "agent", on_host, "user")
        await applied(universe, ConfirmGone("default", "agent"), None)
        await applied(universe, ConfirmGone("default", "web", Kind.STATEFUL_SET), None)
        universe.store.create(Kind.STATEFUL_SET, "default", "web", {"spec": {}}, "user")
        await applied(universe, ConfirmGone("default", "web", Kind.STATEFUL_SET), Conflict)
        await applied(universe, ConfirmGone("default", "web", Kind.STATEFUL_SET, uid="another"), None)
        await applied(universe, ConfirmGone("default", "web", Kind.STATEFUL_SET, generation=1), None)  # as it was seen
        await applied(universe, ConfirmGone("default", "web", Kind.STATEFUL_SET, generation=2), Conflict)
        await applied(universe, ConfirmGone("default", "web", Kind.VM), PortError)  # not served: nobody can tell
        universe.network.away_until[API] = 1e9
        await applied(universe, ConfirmGone("default", "web"), PortError)

    live(story)


def test_a_port_that_proves_to_be_a_vips_is_not_dropped() -> None:
    """The Vip's watch may be late; a Vip of that name which has no port like it stops nobody."""

    async def story(universe: SimWorld) -> None:
        proof = ConfirmGone("", "web", Kind.VIP, make_row(pod_uid=""))
        await applied(universe, proof, None)
        spec = {"subnet": "net", "namespace": "default", "v4ip": "10.0.0.2"}
        universe.store.create(Kind.VIP, "", "web", {"spec": spec}, "user")
        await applied(universe, proof, None)
        universe.store.patch(Kind.VIP, "", "web", {"spec": {"type": "switch_lb_vip"}}, "user")
        await applied(universe, proof, Conflict)

    live(story)


def test_an_address_that_is_let_go_of_is_counted_with_its_cause() -> None:
    """Once it is done, not when it is tried."""

    async def story(universe: SimWorld) -> None:
        telemetry = Telemetry()
        applier = Applier(universe.world, Barrier(), telemetry)
        universe.store.create(Kind.IP, "", "web.default", {"spec": {}}, "user")
        with pytest.raises(Conflict):
            await applier.apply(KEY, Delete(Kind.IP, "", "web.default", "another", "1", "pod_gone"))
        uid = universe.store.docs[Kind.IP]["", "web.default"]["metadata"]["uid"]
        await applier.apply(KEY, Delete(Kind.IP, "", "web.default", uid, "", "pod_gone"))
        counted = telemetry.registry.get_sample_value("keepip_releases_total", {"cause": "pod_gone"})
        assert counted == 1
        assert telemetry.registry.get_sample_value("keepip_releases_total", {"cause": "scaled_down"}) == 0

    live(story)


# -- the first look at everything ------------------------------------------------------------------


@pytest.mark.parametrize("last", [Kind.IP, Kind.POD, Kind.SUBNET, None])
def test_after_the_first_read_who_needs_an_address_goes_before_all_who_have_one(last: Kind | None) -> None:
    """In whatever order the sources are read: 50,000 keys in front of it cost a new pod half a minute (W50)."""

    async def story(universe: SimWorld) -> None:
        found = Controller(universe.world)
        has = {f"old-{n}": (f"10.0.{n // 250}.{n % 250 + 2}", f"0a:00:00:00:00:{n:02x}") for n in range(200)}
        ips = [granted_ip(*one, name=f"{name}.default", pod_name=name) for name, one in has.items()]
        pods = [make_pod(name, notes=notes_of(*one)) for name, one in has.items()]
        told: dict[Kind | None, tuple[Any, ...]] = {
            Kind.IP: (*ips, make_ip("asks.default", pod_name="asks", v4_ip_address="10.0.9.9")),
            None: tuple(make_row(*one, name=f"{name}.default", pod=f"default/{name}") for name, one in has.items()),
            Kind.POD: (*pods, make_pod("new", phase="Pending")),
            Kind.SUBNET: (make_subnet(cidr="10.0.0.0/16"),),
        }
        for kind in (*(one for one in told if one is not last), last):
            if kind is None:
                rows: dict[str, PortRow | None] = {row.name: row for row in told[None]}
                found._see_rows(Rows(seq=1, epoch=1, whole=True, ports=rows, switches={}))
            else:
                found._see_objects(kind, watch.Swap(told[kind], 9))
        found._look_at_everything()
        found._put_first_who_waits()
        order = []
        while taken := found.queue.take(universe.now() + 1):
            order.append(taken.key)

        assert len(order) > 400
        assert order.index(keys.reservation("asks.default")) < 4
        assert order.index(keys.pod("default", "new")) < 8

    live(story)


def test_while_many_ask_for_addresses_what_only_tells_of_them_has_little_of_the_server() -> None:
    """A status behind each grant would make a burst take half as long again: they come after it (contract §3)."""
    many, apart, latency = 400, 0.002, 0.02

    async def story(universe: SimWorld) -> None:
        universe.network.delay = lambda: latency  # type: ignore[method-assign]
        grants, statuses = list[float](), list[float]()

        def note(one: Request) -> None:
            if one.kind is Kind.IP and one.verb == "patch":
                grants.append(one.at)
            elif one.kind is Kind.IP and one.verb == "patch status":
                statuses.append(one.at)

        universe.traffic.witness.append(note)
        found = Controller(universe.world, Tuning(identity="me", lease_namespace=SYSTEM_NAMESPACE))
        task = asyncio.create_task(found.run())
        universe.store.create(Kind.SUBNET, "", "net", {"spec": {"cidrBlock": "10.0.0.0/16"}}, "user")
        await asyncio.sleep(60)
        for number in range(many):
            spec = {"subnet": "net", "podName": f"p{number}", "namespace": "default"}
            universe.store.create(Kind.IP, "", f"p{number}.default", {"spec": spec}, "user")
            await asyncio.sleep(apart)
        await asyncio.sleep(3)

        assert (len(grants), len(statuses)) == (many, many)
        at_once = 2 * (max(grants) - min(grants)) / (2 * latency)
        assert len([at for at in statuses if at < max(grants)]) < 2 * at_once < many / 2
        assert max(statuses) < max(grants) + 1.5
        found.stop()
        await task

    live(story)


def test_a_restored_database_is_taken_in_by_parts_and_counts_only_as_a_whole() -> None:
    """20,000 ports in one go would hold everybody up; who waits for a new epoch waits for all of it."""

    async def story(universe: SimWorld) -> None:
        found = Controller(universe.world, rows_at_once=10)
        ports = found.picture.ports

        def rows(names: range) -> dict[str, PortRow | None]:
            made = (make_row("10.0.0.2", "0a:00:00:00:00:01", name=f"p{n}.default", pod=f"default/p{n}") for n in names)
            return {row.name: row for row in made}

        first, restored = (Rows(n, n, whole=True, ports=rows(range(20 * n)), switches={}) for n in (1, 2))
        assert not list(found._parts(first)), "nobody waits at a start"
        found._see_rows(first)
        sizes = []
        for part in found._parts(restored):
            found._see_rows(part)
            sizes.append(len(list(ports.ports())))
            assert (ports.seq, ports.epoch) == (1, 1)
        found._see_rows(restored)

        assert sizes == [30]
        assert (ports.seq, ports.epoch, len(list(ports.ports()))) == (2, 2, 40)
        assert not list(found._parts(Rows(3, 2, whole=False, ports=dict.fromkeys(rows(range(10))), switches={})))

    live(story)


# -- leader ----------------------------------------------------------------------------------------


def leader(world: World, identity: str) -> Leader:
    return Leader(world, Tuning(identity=identity, lease_namespace=SYSTEM_NAMESPACE))


async def forever() -> None:
    await asyncio.sleep(1e9)


def test_one_leads_and_the_other_waits_for_its_release() -> None:
    """A standby takes over at once when the Lease is given back."""

    async def story(universe: SimWorld) -> None:
        first, second = leader(universe.world, "a"), leader(universe.connect("b")[0], "b")
        assert await first.acquire()
        work = asyncio.create_task(forever())
        term = asyncio.create_task(first.hold(work))
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(60)
        assert not waiting.done()
        assert second.holder == "a"
        work.cancel()
        await term
        await first.release()
        assert await asyncio.wait_for(waiting, 10)

    live(story)


def test_a_leader_that_cannot_renew_stops_before_another_begins() -> None:
    """Writers are cancelled by then (contract §9)."""

    async def story(universe: SimWorld) -> None:
        one = leader(universe.world, "a")
        assert await one.acquire()
        began = universe.now()
        universe.network.away_until[API] = 1e9
        with pytest.raises(Deposed):
            await one.hold(asyncio.create_task(forever()))
        assert universe.now() - began <= Tuning().renew_deadline_s + 1
        assert one.trouble

    live(story)


def test_who_wakes_up_after_its_term_writes_nothing() -> None:
    """A stopped process goes on in the middle, and finds out that its time was up only a moment later."""

    async def story(universe: SimWorld) -> None:
        one = leader(universe.world, "a")
        assert await one.acquire()
        await one.in_term()
        applier = Applier(universe.world, Barrier(), Telemetry(), one.in_term)
        await asyncio.sleep(Tuning().renew_deadline_s)
        writes = universe.writes
        late = asyncio.create_task(applier.apply(KEY, CREATE))
        await asyncio.sleep(60)
        assert not late.done()
        assert universe.writes == writes
        late.cancel()

    live(story)


def test_a_stopped_candidate_gives_up_waiting() -> None:
    """Nothing is left under way."""

    async def story(universe: SimWorld) -> None:
        first, second = leader(universe.world, "a"), leader(universe.connect("b")[0], "b")
        assert await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(5)
        second.stop()
        assert not await asyncio.wait_for(waiting, 5)

    live(story)
