"""The eight laws of decide() (house.md), over Views and worlds that nobody would ever write down.

Law 3 (level) holds by construction: no View has a field for the event that woke its key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from controller.core import naming
from controller.core.decisions import namespace, pod, pool, reservation, subnet
from controller.core.effects import (
    Create,
    Decision,
    Delete,
    DropAddressSet,
    DropPort,
    DropSwitch,
    Effect,
    Patch,
    Promise,
    PutAddressSet,
    PutPort,
)
from controller.core.objects import OUR_FINALIZERS, Ip, Kind, Pod
from controller.reconcilers import keys
from controller.reconcilers.keys import Key
from controller.reconcilers.nics import takes_part
from tests.core import strategies
from tests.core.worlds import NOTE, NOW, Tiny

ALL = {
    reservation.decide: strategies.reservation_views,
    pod.decide: strategies.pod_views(),
    subnet.decide: strategies.subnet_views(),
    pool.decide: strategies.pool_views(),
    namespace.decide: strategies.namespace_views,
}
views = st.sampled_from(list(ALL)).flatmap(lambda decide: st.tuples(st.just(decide), ALL[decide]))
MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}( |$)")
Case = tuple[Callable[[Any, float], Decision], Any]


# -- any View --------------------------------------------------------------------------------------


@given(views)
def test_every_view_has_a_decision_and_always_the_same(case: Case) -> None:
    """Laws 1 and 2: total and pure, malformed and impossible input included."""
    decide, view = case

    assert decide(view, NOW) == decide(view, NOW)


@given(views)
def test_every_write_carries_its_precondition(case: Case) -> None:
    """Law 6: a name that must be free, a version or uid that was seen, a row that was seen."""
    decide, view = case
    decision = decide(view, NOW)
    for effect in (*decision.effects, *((decision.status,) if decision.status else ())):
        assert guarded(effect), effect


def guarded(effect: Effect) -> bool:
    match effect:
        case Patch(body=body):
            return bool(body["metadata"].get("resourceVersion") or body["metadata"].get("uid"))
        case Delete(uid=uid, version=version):
            return bool(uid and version)
        case PutPort(row, was):
            return not row.uuid and (was is None or bool(was.uuid))
        case DropPort(row):
            return bool(row.uuid)
        case DropSwitch(uuid=uuid):
            return bool(uuid)
        case PutAddressSet(row, was):
            return not row.uuid and (was is None or (bool(was.uuid) and was.pool == row.pool))
        case DropAddressSet(row):
            return bool(row.uuid and row.pool)
        case Create(body=body, name=name):
            return bool(body["metadata"]["name"] == name)
        case _:
            return True


@given(views, st.floats(0, 1e9))
def test_time_leaves_only_as_requeue_after(case: Case, now: float) -> None:
    """Law 8: it is a number of seconds from now, and nothing is asked for in the past."""
    decide, view = case
    after = decide(view, now).requeue_after

    assert after is None or (math.isfinite(after) and after >= 0)


def _ips(view: pod.View) -> list[Ip | None]:
    return [held.ip for held in (*view.left, *(nic.held for nic in view.nics))]


@given(strategies.pod_views() | strategies.reservation_views)
def test_no_view_makes_us_touch_what_is_foreign(view: Any) -> None:
    """Bug rows 33, 54 and contract §7: other vendors' rows, other finalizers' addresses, nodes' and subnets' IPs."""
    decide: Callable[[Any, float], Decision] = pod.decide if isinstance(view, pod.View) else reservation.decide
    seen = [view.ip] if isinstance(view, reservation.View) else _ips(view)
    alien = {ip.metadata.name for ip in seen if ip is not None and (naming.special(ip) or naming.foreign(ip))}
    ours = {ip.metadata.name for ip in seen if ip is not None} - alien
    for effect in decide(view, NOW).effects:
        if isinstance(effect, DropPort):
            assert effect.row.ours
            assert effect.row.type == ""
        elif isinstance(effect, PutPort):
            assert effect.was is None or effect.was.ours
        elif isinstance(effect, Delete):
            assert effect.name not in alien - ours


@given(strategies.pool_views())
def test_no_view_makes_us_touch_a_foreign_address_set(view: pool.View) -> None:
    """Only the set that says it is this pool's, and that no other vendor made."""
    for effect in pool.decide(view, NOW).effects:
        if isinstance(effect, DropAddressSet) or (isinstance(effect, PutAddressSet) and effect.was is not None):
            assert view.row is not None
            assert view.row.is_of(view.name)


# -- any wreckage ----------------------------------------------------------------------------------


def running(one: Pod, provider: str) -> bool:
    """True if that NIC has its address, as the pod's annotations tell."""
    return one.metadata.annotations.get(naming.annotation(provider, "allocated")) == "true"


def portless(name: str, body: Mapping[str, Any]) -> bool:
    """True for the IP of a NIC of another network."""
    owner = naming.Owner(body["spec"]["namespace"], body["spec"]["podName"])
    return not naming.is_ovn(naming.bound_of(naming.provider_of(name, owner)))


@dataclass
class Judge:
    """Looks at the world after every single effect: after any prefix it must be legal."""

    tiny: Tiny
    duplicates: set[object] = field(init=False)
    foreign: dict[str, object] = field(init=False)
    granted: dict[str, tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        """Remember what was there before us: it is not our doing."""
        picture = self.tiny.picture
        self.duplicates = set(picture.ledger.duplicates())
        self.foreign = {row.name: row for row in picture.ports.ports() if not row.ours}
        alien = [ip for ip in picture.ips.values() if naming.foreign(ip) and picture.granted(ip) is None]
        self.foreign |= {ip.metadata.name: ip for ip in alien}
        self.granted = {}
        for ip in picture.ips.values():
            grant = picture.granted(ip)
            if grant is not None and ip.metadata.labels.get(naming.RESERVED) == "true" and not ip.metadata.deleting:
                self.granted[ip.metadata.name] = (grant.v4_ip_address, grant.subnet)

    def __call__(self, key: Key, effect: Effect) -> None:
        """Judge one effect that has just happened."""
        del key
        picture = self.tiny.picture
        new = set(picture.ledger.duplicates()) - self.duplicates
        assert not new, f"two owners of one address: {new} after {effect}"
        match effect:
            case Create(kind=Kind.IP, name=name, body=body):
                assert self._port(name) or portless(name, body), f"an IP of the pod flow without its port: {name}"
            case Patch(kind=Kind.POD, body=body) if body["metadata"]["annotations"].get(NOTE + "allocated") == "true":
                assert self._port(naming.port_name(self._owner(effect))), "an allocated pod without its port"
            case Patch(kind=Kind.IP, name=name, body=body, subresource=""):
                after = body["metadata"].get("finalizers")
                if after is not None and OUR_FINALIZERS.isdisjoint(after):
                    assert not self._port(name), f"the finalizer of {name} went before its port"
            case PutPort(row, was) if was is None or was.addresses != row.addresses:
                assert all(MAC.match(line) for line in row.addresses), f"{row.name} without a MAC: {row.addresses}"
            case DropPort(row):
                assert not self._users(row.name, row.external("pod")), f"{row.name} is in use"
            case Delete(kind=Kind.IP, name=name):
                assert name not in self.granted, f"the reservation {name} was deleted"
            case _:
                pass

    def _port(self, name: str) -> bool:
        row = self.tiny.database.tables.ports.get(name)
        return row is not None and row.ours and row.type == ""

    def _owner(self, patch: Patch) -> naming.Owner:
        found = self.tiny.picture.pods.get(patch.namespace, patch.name)  # as it is read: by whose name it runs
        assert isinstance(found, Pod)
        return naming.owner_of(found)

    def _users(self, port: str, owner: str) -> list[Pod]:
        """The live pods that run with that very port, on whatever NIC."""
        who = naming.Owner(*owner.partition("/")[::2])
        found = [one for one in self.tiny.picture.pods.by("owner", who) if takes_part(one)]
        return [
            one
            for one in found
            for nic in self.tiny.picture.nics.networks(one).nics
            if nic.has_port and naming.port_name(who, nic.provider) == port and running(one, nic.provider)
        ]

    def at_the_end(self) -> None:
        """What may never have happened, whatever else did."""
        picture = self.tiny.picture
        for name, before in self.foreign.items():
            after = picture.ports.get_port(name) if not isinstance(before, Ip) else picture.ips.get("", name)
            assert after == before, f"{name} is not ours"
        for name, (address, home) in self.granted.items():
            ip = picture.ips.get("", name)
            assert ip is not None, f"the reservation {name} is gone"
            if ip.metadata.deleting:
                continue
            assert ip.metadata.labels.get(naming.RESERVED) == "true"
            assert (ip.spec.v4_ip_address, ip.spec.subnet) == (address, home), f"the reservation {name} has moved"
        for one in picture.pods.values():
            self._is_served_or_knows_why(one)

    def _is_served_or_knows_why(self, one: Pod) -> None:
        nics = self.tiny.picture.nics.networks(one).nics if takes_part(one) else ()
        notes = one.metadata.annotations
        if all(running(one, nic.provider) or naming.cut_off(nic.provider) in notes for nic in nics):
            return
        owner = naming.owner_of(one)
        decision = self.tiny.look(keys.pod(*owner))
        assert decision.refusal is not None or decision.waits, f"{owner} has no address and is told nothing"


def judged(tiny: Tiny) -> Judge:
    judge = Judge(tiny)
    tiny.witness.append(judge)
    return judge


@given(strategies.wrecks(), st.randoms(use_true_random=False))
def test_any_wreckage_converges_and_every_prefix_is_legal(tiny: Tiny, rng: Any) -> None:
    """Laws 4, 5 and 7: in whatever order the keys are taken, a dozen rounds end in a world that needs nothing."""
    judge = judged(tiny)

    tiny.settle(order=lambda found: rng.sample(found, len(found)))

    judge.at_the_end()
    assert not list(tiny.unsettled())


@given(strategies.wrecks(), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=8))
def test_a_crash_anywhere_is_resumed(tiny: Tiny, crashes: list[tuple[int, int]]) -> None:
    """Rule 3: each multi-step write is resumable from any prefix, by a process that remembers nothing."""
    judge = judged(tiny)
    for number, limit in crashes:
        found = tiny.everything()
        tiny.run(found[number % len(found)], limit)
        tiny.restart()

    tiny.settle()

    judge.at_the_end()


@given(strategies.wrecks())
def test_a_restart_at_rest_writes_nothing(tiny: Tiny) -> None:
    """Rule 4 for a process that reads everything anew: what it finds is what it wants."""
    tiny.settle()
    # What was ours and ends under somebody else's finalizer looks like theirs to a new process: occupied (Rule 2).
    assume(not any(ip.metadata.deleting and not ip.metadata.ours for ip in tiny.picture.ips.values()))
    tiny.restart()

    assert tiny.settle() == 0


def test_a_promise_is_the_first_effect_of_a_grant() -> None:
    """It is made in the step that decides, before the first await."""
    tiny = Tiny()
    tiny.store.create(Kind.SUBNET, "", "net", {"spec": {"cidrBlock": "10.0.0.0/29"}}, "user")
    tiny.settle()
    spec = {"subnet": "net", "podName": "web", "namespace": "default"}
    tiny.store.create(Kind.IP, "", "web.default", {"spec": spec}, "user")

    assert isinstance(tiny.look(keys.reservation("web.default")).effects[0], Promise)
