"""decide() for one owner of pods: its port gets an address, or its ports are let go (contract §4, §5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions.nic import GRACE
from controller.core.decisions.placement import Ask, Entry, Home, Place
from controller.core.decisions.pod import decide, together
from controller.core.effects import ConfirmGone, Decision, Delete, DropPort, Patch, Promise, PutPort, Withdraw
from controller.core.ipam import Source
from controller.core.objects import IpStatus, Kind, Pod
from controller.machines.pools import Pools
from tests.core.test_placement import MISSING
from tests.core.worlds import (
    GRANTED,
    MAC,
    MAC2,
    NOTE,
    NOW,
    ORDINARY,
    OURS,
    RESERVED,
    STS,
    VM,
    asks,
    bidder_of,
    book_of,
    granted_ip,
    held_by,
    hold,
    layout,
    make_ip,
    make_pod,
    make_pool,
    make_row,
    make_subnet,
    names,
    notes_of,
    num,
    patch_of,
    place_of,
    pod_view,
    recorded,
    told,
)

NET = make_subnet()
ALLOCATED = ["Promise", "PutPort", "CreateIP", "PatchPod"]
OWN = granted_ip(labels={**GRANTED, **ORDINARY})  # the pod's own IP
ELSEWHERE = (("subnet", "net"), ("namespace", "default"), ("default",))  # what may send a pod to another subnet


def decided(*pods: Pod, **view: Any) -> Decision:
    return decide(pod_view(*pods, **view), NOW)


def with_ask(ask: Ask | None, pod: Pod | None = None, **view: Any) -> Decision:
    bidder = bidder_of(pod or make_pod(), ask=ask, unreadable=ask is None)
    return decided(bidders=(bidder,), **view)


def address(decision: Decision) -> str:
    """What the pod's annotations will say."""
    return str(patch_of(decision, Kind.POD)["metadata"]["annotations"][NOTE + "ip_address"])


def refused(decision: Decision) -> Reason:
    """Told on the pod under the exact reason and under Kube-OVN's name; nothing is written."""
    assert decision.refusal is not None
    assert told(decision) == [str(decision.refusal.reason), "AcquireAddressFailed"]
    assert [e for e in decision.effects if not isinstance(e, Withdraw)] == []
    return decision.refusal.reason


# -- pools and families ----------------------------------------------------------------------------

BLUE = Home("net", "blue", pools=(("pool", "blue"),), lines=(("space", "net", "red"),))


def pooled(*ips: str, **held: str) -> dict[str, Any]:
    """A View of net with pool blue in it."""
    pools = Pools()
    pools.put("blue", make_pool("blue", *ips))
    plan = pools.divide(layout(NET).plan)
    book = book_of(NET, **held)
    book.configure("net", plan)
    return {"place": replace(place_of(NET), plan=plan, shape=plan), "book": book}


def at_home(home: Home, pod: Pod | None = None, ask: Ask | None = None, **view: Any) -> Decision:
    return decided(bidders=(replace(bidder_of(pod or make_pod(), ask=ask), home=home),), **view)


def test_a_pod_gets_an_address_of_its_pool_and_one_without_a_pool_never() -> None:
    """Contract §6: a pool's addresses never leave by the default pool."""
    view = pooled("10.0.0.2..10.0.0.3", "10.0.0.5")

    assert address(at_home(BLUE, **view)) == "10.0.0.2"
    assert address(at_home(Home("net"), **view)) == "10.0.0.4"
    assert address(with_ask(asks("10.0.0.5"), **view)) == "10.0.0.5"


def test_a_full_pool_is_waited_for_in_every_line_that_would_do() -> None:
    """And in no other: who is refused for another reason does not stand in line."""
    decision = at_home(BLUE, **pooled("10.0.0.2", api="10.0.0.2"))

    assert refused(decision) is Reason.SUBNET_EXHAUSTED
    assert decision.waits == (("space", "net", "blue"), *BLUE.lines, *ELSEWHERE, *BLUE.pools)
    conflict = at_home(BLUE, ask=asks("10.0.0.2"), **pooled("10.0.0.2", api="10.0.0.2"))
    assert refused(conflict) is Reason.ADDRESS_CONFLICT
    assert not set(BLUE.lines) & set(conflict.waits)


def test_a_pool_that_cannot_be_used_is_said_but_to_who_runs_or_has_a_reservation() -> None:
    """IPPoolNotFound heals by itself; what a pod has already it keeps."""
    why = say(Reason.POOL_NOT_FOUND, "absent", pool="blue")
    lost = Home("net", "blue", why, (("pool", "blue"),))
    decision = at_home(lost)

    assert refused(decision) is Reason.POOL_NOT_FOUND
    assert decision.waits == (("pool", "blue"), *ELSEWHERE)
    runs = make_pod(notes=notes_of())
    everything: dict[str, Any] = {"held": (held_by(OWN, make_row()),), "book": book_of(NET, web__default="10.0.0.2")}
    assert at_home(lost, runs, **everything).refusal is None
    reserved: dict[str, Any] = {"held": (held_by(granted_ip()),), "book": book_of(NET, web__default="10.0.0.2")}
    assert address(at_home(lost, **reserved)) == "10.0.0.2"


def test_of_a_dual_stack_subnet_one_family_may_be_asked_for() -> None:
    """The other one is not taken at all; a subnet that has it not refuses (kube-ovn-behaviour §8.1)."""
    dual = make_subnet(cidr="10.0.0.0/29,fd00::/125")
    six = Ask(families=(6,))

    assert address(with_ask(six, place=place_of(dual), book=book_of(dual))) == "fd00::2"
    assert address(with_ask(Ask(), place=place_of(dual), book=book_of(dual))) == "10.0.0.2,fd00::2"
    decision = with_ask(six)
    assert refused(decision) is Reason.ADDRESS_OUT_OF_RANGE
    assert decision.refusal is not None
    assert "subnet net has no IPv6 addresses" in decision.refusal.text


# -- on the way up ---------------------------------------------------------------------------------


def test_a_pod_gets_port_then_ip_then_annotations() -> None:
    """Rule 3: so that any prefix can be resumed; the promise comes before everything."""
    decision = decided(make_pod())

    assert names(decision) == ALLOCATED
    assert isinstance(decision.effects[0], Promise)
    assert address(decision) == "10.0.0.2"
    assert told(decision) == ["PodNetworkAllocated"]


def test_a_pod_without_a_node_waits_a_moment_for_one() -> None:
    """One patch then carries `routed` too; after the grace it is served without."""
    young = decided(make_pod(node=""), age=0.5)

    assert young == Decision(requeue_after=GRACE - 0.5)
    assert decided(make_pod(node=""), age=-5.0).requeue_after == GRACE
    assert decided(make_pod(), age=0.5, owner_unseen=True) == young, "whose the address is to be is not shown yet"
    assert names(decided(make_pod(), age=GRACE, owner_unseen=True)) == ALLOCATED
    late = decided(make_pod(node=""), age=GRACE)
    assert NOTE + "routed" not in patch_of(late, Kind.POD)["metadata"]["annotations"]


def test_a_pod_that_was_cut_off_gets_nothing_any_more() -> None:
    """Until it is made anew (--protect-in-use=false)."""
    assert decided(make_pod(notes={naming.CUT_OFF: "true"})) == Decision()


@pytest.mark.parametrize(
    ("place", "topic"),
    [
        (Place("net", None, None, switch=False, problem=MISSING), ("subnet", "net")),
        (place_of(NET, switch=False), ("switch", "net")),
        (place_of(make_subnet(provider="n.d.ovn")), ("subnet", "net")),
        (place_of(make_subnet(provider="n.d", vpc="")), ("subnet", "net")),
    ],
)
def test_a_subnet_that_cannot_be_used_is_waited_for(place: Place, topic: tuple[str, ...]) -> None:
    """Missing, without its switch, or of a provider whose ports have other names."""
    decision = decided(make_pod(), place=place)

    assert refused(decision) is Reason.SUBNET_NOT_FOUND
    assert decision.waits[0] == topic


def test_a_pod_without_a_subnet_is_looked_at_again_when_its_namespace_changes() -> None:
    """The namespace, or another default subnet, may send it elsewhere."""
    decision = decided(make_pod(), place=Place("net", None, None, switch=False, problem=MISSING))

    assert set(decision.waits) == {*ELSEWHERE}


def test_a_running_pod_goes_on_without_its_subnet() -> None:
    """What is wrong with the Subnet is said there; nobody's network is taken."""
    place = Place("net", None, None, switch=False, problem=MISSING)
    decision = decided(make_pod(notes=notes_of()), place=place)

    assert decision == Decision(waits=(("subnet", "net"),))


def test_a_running_pod_that_only_says_its_address_waits_for_its_subnet() -> None:
    """No record of ours has it, and nobody can check it: told, and not touched (Rule 2)."""
    place = Place("net", None, None, switch=False, problem=MISSING)
    wrong = Place("net", NET, None, switch=True, problem=say(Reason.SUBNET_NOT_FOUND, "deleting", subnet="net"))
    unsaid = Place("net", NET, None, switch=True, problem=None)

    assert decided(make_pod(notes=notes_of()), place=place).effects == ()
    assert refused(decided(make_pod(notes=notes_of()), place=wrong)) is Reason.SUBNET_NOT_FOUND
    assert refused(decided(make_pod(notes=notes_of()), place=unsaid)) is Reason.SUBNET_NOT_FOUND


def test_a_deprecated_vip_is_said_with_the_way_out() -> None:
    """The message names the IP to make (contract §8)."""
    decision = decided(make_pod(notes={"vip": "v"}))

    assert refused(decision) is Reason.VIP_DEPRECATED
    assert decision.refusal is not None
    assert "web.default" in decision.refusal.text


def test_a_name_that_no_ip_can_have_is_said() -> None:
    """`<pod>.<namespace>` may be longer than what the API takes."""
    long = make_pod("w" * 253)

    assert refused(decided(long)) is Reason.INVALID_SPEC


def test_a_foreign_port_of_that_name_is_in_the_way() -> None:
    """Bug row 54: it is never changed; its end wakes the pod."""
    decision = decided(make_pod(), held=(held_by(row=make_row(vendor="x")),))

    assert refused(decision) is Reason.INVALID_SPEC
    assert decision.waits == (("port", "web.default"), *ELSEWHERE)


def test_annotations_that_cannot_be_read_are_said_once() -> None:
    """Kube-OVN's reason for it is the exact one already."""
    message = say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key="ip_address", why="x")
    decision = with_ask(None, unreadable=message)

    assert told(decision) == ["ValidatePodNetworkFailed"]
    assert decision.refusal == message
    assert names(with_ask(None)) == ALLOCATED


# -- which address ---------------------------------------------------------------------------------


def test_the_reservations_address_comes_first() -> None:
    """With its MAC; only the node is written into the IP (contract §3, Use)."""
    decision = decided(make_pod(), held=(held_by(granted_ip("10.0.0.5")),))

    assert names(decision) == ["Promise", "PutPort", "PatchIP", "PatchPod"]
    assert address(decision) == "10.0.0.5"
    assert patch_of(decision)["spec"] == {"nodeName": "node-a"}


def test_a_reservation_of_kube_ovns_with_an_upper_case_mac_is_used() -> None:
    """The user document shows such an IP."""
    decision = decided(make_pod(), held=(held_by(granted_ip(mac="00:00:00:86:C6:36")),))

    assert patch_of(decision, Kind.POD)["metadata"]["annotations"][NOTE + "mac_address"] == "00:00:00:86:c6:36"


def test_a_grant_that_cannot_be_read_ends_nothing() -> None:
    """Law 1: whatever a View says, there is a Decision."""
    broken = held_by(granted_ip(), promised=False)
    broken = type(broken)(broken.port, broken.ip, None, recorded("nonsense"))

    assert refused(decided(make_pod(), held=(broken,))) is Reason.RESERVATION_MISMATCH


@pytest.mark.parametrize(
    ("pod", "ip"),
    [
        (make_pod(), granted_ip(pod_type="StatefulSet")),
        (make_pod("virt-launcher-web-x", owner=VM), granted_ip()),
        (make_pod(), granted_ip(namespace="team")),
        (make_pod(), granted_ip(subnet="other", labels={**GRANTED, "ovn.kubernetes.io/subnet": "other"})),
    ],
)
def test_a_pod_that_does_not_agree_gets_no_address(pod: Pod, ip: Any) -> None:
    """It is told which attribute differs, and retried as soon as either side changes (contract §3, Use)."""
    decision = decided(pod, held=(held_by(ip),))

    assert refused(decision) is Reason.RESERVATION_MISMATCH
    assert decision.waits == (("ip", "web.default"), *ELSEWHERE)


def test_a_port_of_a_former_pod_makes_way_for_a_request() -> None:
    """No record tells of it any more, and the reservation cannot be granted while it is there."""
    asked = held_by(make_ip(v4_ip_address="10.0.0.5"), make_row(pod_uid="former"))

    assert names(decided(make_pod(owner=STS), held=(asked,))) == ["DropPort"]
    assert "DropPort" not in names(decided(make_pod(), held=(held_by(make_ip(), make_row()),)))


def test_a_reserved_address_that_two_records_claim_is_not_used_again() -> None:
    """Rule 5: who lives goes on, nobody else starts on it; its end wakes the pod. Both families count."""
    book = book_of(NET, api__default="10.0.0.2")
    decision = decided(make_pod(), book=book, held=(held_by(granted_ip()),))

    assert refused(decision) is Reason.ADDRESS_CONFLICT
    assert decision.waits == (("address", "net", "10.0.0.2"), ("plan", "net"), *ELSEWHERE)


def test_a_terminating_ip_of_that_name_is_waited_for() -> None:
    """Bug row 42: it is never taken up again."""
    decision = decided(make_pod(), held=(held_by(granted_ip(deleting=True)),))

    assert refused(decision) is Reason.RESERVATION_MISMATCH


def test_a_request_of_that_name_is_served_first() -> None:
    """The pod waits in silence until the reservation is granted, or says why it is not."""
    held = (held_by(make_ip()),)
    why = say(Reason.SUBNET_EXHAUSTED, "queued", subnet="net")

    assert decided(make_pod(), held=held) == Decision(waits=(("ip", "web.default"), *ELSEWHERE))
    decision = decided(make_pod(), held=held, reservation_refusal=why)
    assert refused(decision) is Reason.RESERVATION_MISMATCH
    assert decision.refusal is not None
    assert why.text in decision.refusal.text


def test_somebody_elses_object_of_that_name_is_said() -> None:
    """Bug rows 33 and 66: it occupies its address, nobody will grant it, so the pod must not wait in silence."""
    foreign = make_ip(finalizers=("x.io/y",), v4_ip_address="10.0.0.2")
    decision = decided(make_pod(), held=(held_by(foreign),))

    assert refused(decision) is Reason.RESERVATION_MISMATCH
    assert decision.refusal is not None
    assert "x.io/y" in decision.refusal.text


@pytest.mark.parametrize("more", [{"row": make_row("10.0.0.4")}, {"promised": True}])
def test_a_request_that_came_while_the_allocation_was_under_way_is_adopted(more: dict[str, Any]) -> None:
    """It ends as scenario 4 with the pod's address (contract §3)."""
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.4", Source.PORT, MAC)
    ip = make_ip(labels=RESERVED)
    decision = decided(make_pod(), book=book, held=(held_by(ip, **more),))

    body = patch_of(decision)
    assert body["spec"]["v4IpAddress"] == "10.0.0.4"
    assert body["metadata"]["finalizers"] == list(OURS)


def dated(one: Any, created: str, version: str) -> Any:
    """The object, made then, at this version now."""
    meta = structs.replace(one.metadata, creation_timestamp=created, resource_version=version)
    return structs.replace(one, metadata=meta)


EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
BEGUN: list[dict[str, Any]] = [{"row": make_row("10.0.0.4")}, {"promised": True}]


@pytest.mark.parametrize("more", BEGUN)
@pytest.mark.parametrize(("made", "version"), [(EARLY, "9"), (LATE, "7")])
def test_a_request_that_was_there_before_the_pod_is_never_passed_over(
    more: dict[str, Any], made: str, version: str
) -> None:
    """Heard of late, it gets what it asked for: what was begun for the pod is undone, and the pod waits for it."""
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.4", Source.PORT, MAC)
    ip, pod = dated(make_ip(v4_ip_address="10.0.0.6"), made, version), dated(make_pod(), LATE, "8")
    decision = decided(pod, book=book, held=(held_by(ip, **more),))

    assert names(decision) == (["DropPort"] if "row" in more else ["Withdraw"])
    assert ("ip", "web.default") in decision.waits
    assert decision.refusal is None
    alike = dated(make_ip(), made, version)
    assert address(decided(pod, book=book, held=(held_by(alike, **more),))) == "10.0.0.4"
    tried = say(Reason.INVALID_SPEC, "missing", field="namespace")
    decision = decided(pod, book=book, held=(held_by(ip, **more),), reservation_refusal=tried)
    assert decision.refusal is None if "row" in more else refused(decision) is Reason.RESERVATION_MISMATCH, "seed 1893"


@pytest.mark.parametrize("more", BEGUN)
@pytest.mark.parametrize(
    "ip",
    [
        dated(make_ip(v4_ip_address="10.0.0.6"), LATE, "9"),
        dated(make_ip(v4_ip_address="10.0.0.6"), "2026-01-01T00:00:02Z", "7"),
        dated(make_ip(v4_ip_address="10.0.0.6", finalizers=OURS), EARLY, "7"),
        dated(make_ip(v4_ip_address="10.0.0.6", labels=ORDINARY), EARLY, "7"),
    ],
)
def test_what_came_after_the_pod_or_is_no_request_does_not_stop_it(ip: Any, more: dict[str, Any]) -> None:
    """The pod keeps its own address (contract §3): the request is refused by its own key."""
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.4", Source.PORT, MAC)

    assert address(decided(dated(make_pod(), LATE, "8"), book=book, held=(held_by(ip, **more),))) == "10.0.0.4"


def test_an_ordinary_ip_is_taken_up_again() -> None:
    """Its own former record: same address, no second one."""
    book = book_of(NET, web__default="10.0.0.4")
    own = granted_ip("10.0.0.4", labels={**GRANTED, **ORDINARY})

    assert address(decided(make_pod(), book=book, held=(held_by(own),))) == "10.0.0.4"
    torn = make_ip(labels=ORDINARY)
    assert names(decided(make_pod(), held=(held_by(torn),)))[2] == "PatchIP"


def test_an_address_and_a_mac_are_asked_for_by_annotation() -> None:
    """Taken exactly, or refused with the owner's name."""
    decision = with_ask(asks("10.0.0.6", mac=MAC2))

    assert address(decision) == "10.0.0.6"
    book = book_of(NET, api__default="10.0.0.6")
    assert refused(with_ask(asks("10.0.0.6"), book=book)) is Reason.ADDRESS_CONFLICT


def test_a_list_gives_the_first_free_entry() -> None:
    """What it has already comes first; if none is free, any of them coming free wakes it."""
    pool = asks(pool=("10.0.0.4", "10.0.0.5"))
    taken = book_of(NET, api__default="10.0.0.4")
    full = book_of(NET, api__default="10.0.0.4", two__default="10.0.0.5")
    mine = book_of(NET, web__default="10.0.0.5")

    assert address(with_ask(pool)) == "10.0.0.4"
    assert address(with_ask(pool, book=taken)) == "10.0.0.5"
    assert address(with_ask(pool, book=mine)) == "10.0.0.5"
    decision = with_ask(pool, book=full)
    assert refused(decision) is Reason.ADDRESS_CONFLICT
    assert {("address", "net", "10.0.0.4"), ("address", "net", "10.0.0.5"), ("plan", "net")} <= set(decision.waits)


@pytest.mark.parametrize(("ordinal", "gets"), [(0, "10.0.0.4"), (1, "10.0.0.5"), (2, None)])
def test_a_stateful_sets_pod_has_the_entry_of_its_ordinal(ordinal: int, gets: str | None) -> None:
    """kube-ovn-behaviour §8.8."""
    decision = with_ask(asks(pool=("10.0.0.4", "10.0.0.5")), make_pod(f"web-{ordinal}", owner=STS))

    if gets is None:
        assert refused(decision) is Reason.ADDRESS_CONFLICT
    else:
        assert address(decision) == gets


@pytest.mark.parametrize(("first", "gets"), [(1, None), (2, "10.0.0.4"), (0, None)])
def test_a_set_that_begins_elsewhere_begins_with_the_first_entry(first: int, gets: str | None) -> None:
    """`ordinals.start` is taken off (W30: Kube-OVN does not)."""
    listed = asks(pool=("10.0.0.4",))
    bidder = replace(bidder_of(make_pod("web-2", owner=STS), ask=listed), first=first)
    decision = decided(bidders=(bidder,))

    if gets is None:
        assert refused(decision) is Reason.ADDRESS_CONFLICT
        assert ("statefulset", "default", "web") in decision.waits
    else:
        assert address(decision) == gets


def test_an_entry_is_not_guessed() -> None:
    """As long as nobody knows where the set begins to count; who needs no list does not wait for that."""
    bidder = replace(bidder_of(make_pod("web-0", owner=STS), ask=asks(pool=("10.0.0.4",))), first=None)
    decision = decided(bidders=(bidder,))

    assert (decision.effects, decision.refusal) == ((), None)
    assert decision.waits == (("statefulset", "default", "web"), *ELSEWHERE)
    assert address(decided(bidders=(replace(bidder, ask=asks("10.0.0.4")),))) == "10.0.0.4"
    mine = replace(bidder, object=make_pod("web-0", notes={"ip_pool": "10.0.0.4"}))
    assert address(decided(bidders=(mine,))) == "10.0.0.4"


def test_a_full_subnet_is_waited_for_in_order() -> None:
    """As a reservation does; time is left as `requeue_after` when time alone will do."""
    full = book_of(NET, a="10.0.0.2", b="10.0.0.3", c="10.0.0.4", d="10.0.0.5", e="10.0.0.6")
    cooling = book_of(NET, a="10.0.0.2")
    cooling.put(Source.IP, f"{Source.IP}/a", (), NOW - 10)

    assert refused(decided(make_pod(), book=full)) is Reason.SUBNET_EXHAUSTED
    assert decided(make_pod(), queued=frozenset({("space", "net")})).waits == (("space", "net"), *ELSEWHERE)
    assert with_ask(asks("10.0.0.2"), book=cooling).requeue_after == 20.0
    assert with_ask(asks(pool=("10.0.0.9", "10.0.0.2")), book=cooling).requeue_after == 20.0, "of a list, too"


def test_a_new_pod_of_an_old_name_gets_a_fresh_address() -> None:
    """Its row was made for another pod (bug row 52); StatefulSets' and VMs' keep theirs."""
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.2", Source.PORT, MAC)
    former = held_by(row=make_row(pod_uid="former"))
    vm = make_pod("virt-launcher-web-x", owner=VM)

    assert address(decided(make_pod(), book=book, held=(former,))) == "10.0.0.3"
    assert address(decided(vm, book=book, held=(former,))) == "10.0.0.2"
    assert address(decided(make_pod(), book=book, held=(held_by(row=make_row()),))) == "10.0.0.2"


@pytest.mark.parametrize(
    ("made_for", "now", "gets"),
    [("u1", "u1", "10.0.0.2"), ("u0", "u1", "10.0.0.3"), ("", "u1", "10.0.0.2"), ("u0", "", "10.0.0.2")],
)
def test_a_pod_of_another_stateful_set_of_that_name_gets_a_fresh_address(made_for: str, now: str, gets: str) -> None:
    """The former one's address ends with it (contract §5); what nobody knows is no evidence (bug row 29)."""
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.2", Source.IP, MAC)
    notes = {naming.OWNER_UID: made_for} if made_for else {}
    ip = granted_ip(labels={**GRANTED, **ORDINARY}, pod_type="VirtualMachine", annotations=notes)
    launcher = make_pod("virt-launcher-web-x", owner=VM)
    view = {"book": book, "owner_uid": now}

    assert address(decided(launcher, held=(held_by(ip, make_row(pod_uid="former")),), **view)) == gets
    mine = held_by(ip, make_row(pod_uid="pod-uid"))
    assert address(decided(launcher, held=(mine,), **view)) == "10.0.0.2", "its own allocation goes on"


def test_a_new_pod_takes_its_former_address_when_nothing_else_is_left() -> None:
    """Nobody else would ever let go of it: waiting for space would never end (bug row 67)."""
    book = book_of(NET, a="10.0.0.3", b="10.0.0.4", c="10.0.0.5", d="10.0.0.6")
    hold(book, "web.default", "10.0.0.2", Source.PORT, MAC)

    assert address(decided(make_pod(), book=book, held=(held_by(row=make_row(pod_uid="former")),))) == "10.0.0.2"


def test_a_promise_that_nothing_comes_of_is_withdrawn() -> None:
    """However often it fails, it holds nothing in the end (bug row 22)."""
    held = (held_by(promised=True),)
    decision = with_ask(asks("10.9.0.1"), held=held)

    assert decision.effects == (Withdraw("web.default"),)


# -- several decisions in one ----------------------------------------------------------------------


def test_all_ports_come_first_then_all_ips_then_one_patch() -> None:
    """Rule 3 for several NICs: neighbours in Northbound are one transaction, a pod is patched once."""
    one, other = decided(make_pod()), decided(make_pod())
    gone = decided(held=(held_by(OWN, make_row()),), gone_proved=False)
    (pods,) = (e for e in other.effects if isinstance(e, Patch) and e.kind is Kind.POD)
    more = {"metadata": {"uid": "pod-uid", "annotations": {"x": "y"}}}
    other = replace(other, effects=(*other.effects[:3], replace(pods, body=more)))
    decision = together([one, other, gone, gone])

    assert names(decision)[:7] == ["Promise", "Promise", "PutPort", "PutPort", "CreateIP", "CreateIP", "PatchPod"]
    assert names(decision)[7:] == ["ConfirmGone", "DropPort", "DropPort", "DeleteIP", "DeleteIP"]
    notes = patch_of(decision, Kind.POD)["metadata"]["annotations"]
    assert notes["x"] == "y"
    assert notes[NOTE + "ip_address"] == "10.0.0.2"


def test_what_several_have_to_say_is_one_event_for_each_reason() -> None:
    """An object is told once a minute for each reason; who waits is woken by any, and looked at when the first is."""
    parts = [
        Decision((), waits=(("a",), ("b",)), requeue_after=3.0, tells=decided(make_pod()).tells),
        Decision((), waits=(("b",), ("c",)), requeue_after=2.0, tells=decided(make_pod()).tells),
        decided(make_pod(notes={"vip": "v"})),
    ]
    decision = together(parts)

    assert decision.waits[:3] == (("a",), ("b",), ("c",))
    assert decision.requeue_after == 2.0
    assert told(decision) == ["PodNetworkAllocated", "VipDeprecated", "AcquireAddressFailed"]
    assert decision.tells[0].message.text.count("logicalSwitchPort=web.default") == 2
    assert decision.refusal is not None


# -- a pod that runs -------------------------------------------------------------------------------


def running(address: str = "10.0.0.2", mac: str = MAC, **notes: str) -> Pod:
    return make_pod(notes=notes_of(address, mac, **notes))


def at_rest() -> dict[str, Any]:
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.2", Source.PORT, MAC)
    ip = granted_ip(labels={**GRANTED, **ORDINARY, naming.NODE_LABEL: "node-a"}, node_name="node-a")
    return {"book": book, "held": (held_by(ip, make_row()),)}


def test_a_running_pod_at_rest_needs_nothing() -> None:
    """Rule 4."""
    assert decided(running(), **at_rest()) == Decision()


def test_a_running_pod_keeps_its_address_wherever_the_cidr_goes() -> None:
    """Users outside the new range are kept (contract §6)."""
    moved = make_subnet(cidr="10.7.0.0/29")

    assert decided(running(), **at_rest(), place=place_of(moved)) == Decision()


def test_a_running_pod_whose_records_are_gone_gets_them_back() -> None:
    """Port and IP are made again from what the pod says, if nobody else has it."""
    decision = decided(running())
    book = book_of(NET, api__default="10.0.0.2")

    assert names(decision) == ["Promise", "PutPort", "CreateIP"]
    assert decision.tells == ()
    assert refused(decided(running(), book=book)) is Reason.ADDRESS_CONFLICT


@pytest.mark.parametrize(("address", "mac"), [("", MAC), ("10.0.0.2", ""), ("", "")])
def test_what_a_running_pods_annotations_lost_is_put_back(address: str, mac: str) -> None:
    """Missing data is no evidence (bug row 29): its port is not touched."""
    decision = decided(running(address, mac), **at_rest())

    assert names(decision) == ["PatchPod"]
    notes = patch_of(decision, Kind.POD)["metadata"]["annotations"]
    assert notes.get(NOTE + "ip_address", "10.0.0.2") == "10.0.0.2"
    assert notes.get(NOTE + "mac_address", MAC) == MAC


@pytest.mark.parametrize(("address", "mac"), [("", MAC), ("10.0.0.2", ""), ("nonsense", MAC), ("10.0.0.2", "x")])
def test_a_running_pod_that_nobody_can_tell_the_address_of_is_left_alone(address: str, mac: str) -> None:
    """And told; a guess would cut its network."""
    decision = decided(running(address, mac))

    assert decision.effects == ()
    assert told(decision) == ["ValidatePodNetworkFailed"]


def test_a_running_pod_keeps_the_mac_of_its_ip_though_its_port_was_bent_and_another_claims_it() -> None:
    """Seed 728: a tired hand gave the port another MAC, while some other record named the pod's own."""
    view = at_rest()
    hold(view["book"], "web.default", "10.0.0.2", Source.PORT, "0a:ff:ff:ff:ff:ff")
    hold(view["book"], "api.default", "10.0.0.5", Source.OTHER, MAC)
    bent = make_row()._replace(addresses=("0a:ff:ff:ff:ff:ff 10.0.0.2",))
    view["held"] = (held_by(view["held"][0].ip, bent),)

    decision = decided(running(), **view)
    assert names(decision) == ["Promise", "PutPort"]
    (put,) = (effect for effect in decision.effects if isinstance(effect, PutPort))
    assert put.row.addresses == (f"{MAC} 10.0.0.2",)


def test_a_mac_that_belongs_to_another_is_not_taken_from_an_annotation() -> None:
    """Anybody may write annotations; the records of the pod's own port go on."""
    view = at_rest()
    hold(view["book"], "api.default", "10.0.0.3", mac=MAC2)
    decision = decided(running(mac=MAC2), **view)

    assert patch_of(decision, Kind.POD)["metadata"]["annotations"] == {NOTE + "mac_address": MAC}


def test_a_running_pod_goes_on_beside_a_reservation_of_another_address() -> None:
    """Both are marked, neither moves (contract §3)."""
    view = at_rest() | {"held": (held_by(granted_ip("10.0.0.5"), make_row()),)}

    assert decided(running(), **view) == Decision()


# -- several pods of one VM ------------------------------------------------------------------------


def vm_pod(name: str, notes: dict[str, str] | None = None) -> Pod:
    return make_pod(name, owner=VM, uid=name, notes=notes)


def test_source_and_target_of_a_migration_share_port_and_address() -> None:
    """Each is told by its own annotations (contract §5)."""
    source = vm_pod("source", notes_of(virtualmachine="web"))
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.2", Source.PORT, MAC)
    decision = decided(
        vm_pod("target"), source, book=book, held=(held_by(row=make_row(pod_uid="source")),)
    )  # the one that runs leads

    assert names(decision) == ["CreateIP", "PatchPod"]
    assert address(decision) == "10.0.0.2"
    assert [t.name for t in decision.tells] == ["target"]


def test_a_sibling_that_wants_something_else_waits_and_is_told() -> None:
    """INV-1 also during migration (bug row 58)."""
    stray = bidder_of(vm_pod("target"), subnet="other")
    leader = bidder_of(vm_pod("source"))
    decision = decided(bidders=(stray, leader))

    assert names(decision) == ALLOCATED
    assert told(decision) == ["PodNetworkAllocated", "ReservationMismatch", "AcquireAddressFailed"]
    assert decision.refusal is not None
    assert "default/source" in decision.refusal.text


# -- on the way down -------------------------------------------------------------------------------


def test_a_pod_that_is_gone_leaves_port_first() -> None:
    """Then its IP object, of the version that was seen; the finalizer is its own key's (Rule 3)."""
    decision = decided(held=(held_by(OWN, make_row()),))

    assert decision == Decision((DropPort(make_row()), Delete(Kind.IP, "", "web.default", "ip-uid", "7", "pod_gone")))


def test_absence_from_a_replica_is_no_proof() -> None:
    """A live read comes before everything, unless this process saw the pod go (contract §7)."""
    decision = decided(held=(held_by(OWN, make_row()),), gone_proved=False)

    assert decision.effects[0] == ConfirmGone("default", "web")
    assert names(decision) == ["ConfirmGone", "DropPort", "DeleteIP"]
    assert decided(held=(held_by(promised=True),), gone_proved=False).effects == (Withdraw("web.default"),)


def test_a_finished_pod_is_told_that_its_address_is_free() -> None:
    """Kube-OVN's reason; nobody is told twice."""
    finished = make_pod(phase="Succeeded", restart_policy="Never")

    assert told(decided(held=(held_by(OWN),), finished=finished)) == ["PodNetworkReleased"]
    assert told(decided(held=(), finished=finished)) == []


def test_a_live_pod_of_another_network_keeps_everything() -> None:
    """It may still have NICs of ours."""
    assert decided(held=(held_by(OWN, make_row()),), bystanders=True) == Decision()


@pytest.mark.parametrize(
    "ip",
    [
        granted_ip(),
        make_ip(labels=ORDINARY),
        make_ip(finalizers=("x.io/y",), v4_ip_address="10.0.0.2"),
        granted_ip(labels=ORDINARY, deleting=True),
        granted_ip(labels={}),
        granted_ip(name="other.default", labels=ORDINARY),
        make_ip("node-a", finalizers=OURS, labels=ORDINARY, namespace="", pod_name="a"),
    ],
)
def test_only_a_pods_own_ip_ends_with_it(ip: Any) -> None:
    """Never a reservation, a foreign or terminating object, or one that only says it is ours (contract §7)."""
    assert decided(held=(held_by(ip, port=ip.metadata.name),)) == Decision()


def test_a_reservations_port_goes_and_its_ip_stays() -> None:
    """Deleting the pod keeps the IP object, the address and the MAC (contract §3)."""
    assert names(decided(held=(held_by(granted_ip(), make_row()),))) == ["DropPort"]


@pytest.mark.parametrize(
    "row", [make_row(vendor="x"), make_row(pod="default/other"), make_row()._replace(type="router")]
)
def test_a_port_of_somebody_else_stays(row: Any) -> None:
    """A record is only ever released by its owner's identity (Rule 1)."""
    assert decided(held=(held_by(row=row),)) == Decision()


@pytest.mark.parametrize("kind", ["StatefulSet", "VirtualMachine"])
def test_a_retained_address_outlives_its_pod(kind: str) -> None:
    """IP object, address, MAC and port (contract §5), also when its finalizer was torn off."""
    kept = granted_ip(labels=ORDINARY, pod_type=kind)
    torn = granted_ip(labels=ORDINARY, pod_type=kind, finalizers=())
    bare = granted_ip(labels={}, pod_type=kind, finalizers=())

    for ip in (kept, torn, bare):
        assert decided(held=(held_by(ip, make_row()),)) == Decision()
    assert names(decided(held=(held_by(bare, make_row("10.0.0.9")),))) == ["DropPort"]
    going = granted_ip(labels=ORDINARY, pod_type=kind, deleting=True)
    assert names(decided(held=(held_by(going, make_row()),))) == ["DropPort"]
    assert decided(held=(held_by(bare),)) == Decision()


def test_a_port_of_a_former_network_goes_while_the_pod_lives() -> None:
    """Bug row 51: after convergence there is one port, that of its own name; unless it has further NICs."""
    old = held_by(row=make_row(name="old.default"), port="old.default")
    view = at_rest()
    view["held"] = (*view["held"], old)

    assert names(decided(running(), **view)) == ["DropPort"]
    assert decided(running(), bystanders=True, **view) == Decision()


def test_an_entry_of_both_families_is_one_ask() -> None:
    """A list may pair them."""
    dual = make_subnet(cidr="10.0.0.0/29,fd00::/125")
    decision = with_ask(Ask(pool=(Entry(num("10.0.0.4"), num("fd00::4")),)), subnet=dual)

    assert address(decision) == "10.0.0.4,fd00::4"


def test_a_port_that_may_be_gone_with_its_ip_is_waited_for() -> None:
    """Seed 247: the IP's key had dropped the port with its IP, and the replica still showed it."""
    row = make_row(pod_uid="pod-uid")
    left = held_by(None, row)

    anew = held_by(make_ip(), row)  # and a user asks for it again at once: seed 24
    for held in (left, anew):
        writing = decided(make_pod(), held=(held,), port_in_doubt=True)
        assert (writing.effects, writing.requeue_after) == ((), 0.1)
    assert "CreateIP" in names(decided(make_pod(), held=(left,)))
    assert "PatchIP" in names(decided(make_pod(), held=(anew,)))


def test_a_port_is_not_put_back_while_its_ip_is_being_let_go() -> None:
    """Seed 196: a pod that had finished lived again while the IP's finalizer was being taken off."""
    going = held_by(granted_ip(labels={**GRANTED, **ORDINARY}, deleting=True), None)

    writing = decided(running(), held=(going,), port_in_doubt=True)
    assert (writing.effects, writing.requeue_after) == ((), 0.1)
    assert "PutPort" in names(decided(running(), held=(going,)))


def test_a_port_made_for_a_pod_that_a_reservation_then_refuses_is_dropped() -> None:
    """Seed 74: the port said where the next pod of a VM went, and its former IP became a reservation meanwhile."""
    elsewhere = make_row("10.0.0.4")
    refusing = granted_ip(pod_type="VirtualMachine")
    decision = decided(make_pod(), held=(held_by(refusing, elsewhere),))

    assert told(decision)[0] == "ReservationMismatch"
    assert decision.effects == (DropPort(elsewhere),)
    former, mine = (make_row("10.0.0.4", pod_uid=uid) for uid in ("another", "pod-uid"))
    ordinary = granted_ip(labels={**GRANTED, **ORDINARY}, pod_type="StatefulSet")
    edited = held_by(ordinary, make_row(mac=MAC2))
    outside = Ask(entry=Entry(num("192.0.2.9")))
    proof = ConfirmGone("default", "web", uid="another")
    assert with_ask(outside, held=(held_by(ordinary, former),)).effects == (proof, DropPort(former)), "seed 1391"
    assert with_ask(outside, held=(held_by(ordinary, make_row("10.0.0.4", pod_uid="")),)).effects == (), (
        "whose it was is not known"
    )
    launched = held_by(granted_ip(labels={**GRANTED, **ORDINARY}, pod_type="VirtualMachine"), former)
    launcher = make_pod("virt-launcher-web-x", owner=VM)
    assert with_ask(outside, launcher, held=(launched,)).effects == (), "a read by name tells nothing of a VM's pod"
    assert with_ask(outside, held=(held_by(ordinary, mine),)).effects == (DropPort(mine),), "seed 280"
    assert with_ask(outside, held=(edited,)).effects == (), "only its MAC was edited by hand: seed 1057"
    request = make_ip(subnet="gone")  # of a user, which cannot be granted while the port is there: seed 209
    assert with_ask(outside, held=(held_by(request, mine),)).effects == (DropPort(mine),)
    assert with_ask(outside, held=(held_by(None, mine),)).effects == (DropPort(mine),)
    assert with_ask(outside, held=(held_by(make_ip(ip_address="10.0.0.4"), mine),)).effects == ()
    kept = [make_row(), make_row("10.0.0.4", vendor="other")]
    assert [decided(make_pod(), held=(held_by(refusing, row),)).effects for row in kept] == [(), ()]


def test_what_a_status_tells_of_a_former_reservation_goes_first() -> None:
    """Seed 1533: the label went to "false" and back while the process crashed in between: the old MAC was put back."""
    was = structs.replace(granted_ip(labels={**GRANTED, **ORDINARY}), status=IpStatus(recorded=recorded()))

    decision = decided(make_pod(), held=(held_by(was),))
    assert patch_of(decision)["status"]["recorded"] is None
    assert (len(decision.effects), decision.waits[0]) == (1, ("ip", "web.default"))
    theirs = held_by(structs.replace(was, metadata=structs.replace(was.metadata, finalizers=("x.io/backup",))))
    assert names(decided(running(), held=(theirs,))) == ["Promise", "PutPort"], "foreign IPs are not ours to write"
    plain = structs.replace(was, status=IpStatus())
    assert "PatchPod" in names(decided(make_pod(), held=(held_by(plain),)))


def test_a_port_whose_ip_may_still_come_is_not_let_go_of() -> None:
    """Seed 1437: its creation had no answer, the port was dropped, and the IP landed behind it."""
    row = make_row(pod_uid="pod-uid")
    unborn = held_by(None, row, unborn=True)

    assert decided(held=(unborn,)).effects == ()
    assert names(decided(held=(held_by(None, row),))) == ["DropPort"]
    outside = Ask(entry=Entry(num("192.0.2.9")))
    assert with_ask(outside, held=(unborn,)).effects == ()
    assert with_ask(outside, held=(held_by(None, row),)).effects == (DropPort(row),)


def test_a_reservation_without_a_mac_is_waited_for() -> None:
    """Its own key gives it one: a port without would be a NIC without (seed 118)."""
    decision = decided(make_pod(), held=(held_by(granted_ip(mac_address="")),))

    assert (decision.effects, decision.waits[0]) == ((), ("ip", "web.default"))


def test_a_refused_pod_of_a_vm_leaves_no_options_of_a_migration() -> None:
    """Seed 577: the port was kept, its migration over, and the next pod could not be served."""
    moving = make_row(pod_uid="former")._replace(
        options=(("activation-strategy", "rarp"), ("requested-chassis", "a,b"))
    )
    outside = Ask(entry=Entry(num("192.0.2.9")))
    waiting: dict[str, Any] = {"held": (held_by(None, moving),), "options": {}}

    decision = with_ask(outside, **waiting)
    assert told(decision)[0] == "AddressOutOfRange"
    assert decision.effects == (PutPort(moving._replace(options=(), uuid=""), moving),)
    assert with_ask(outside, **(waiting | {"options": None})).effects == ()
    assert with_ask(outside, held=(held_by(None, make_row(pod_uid="former")),), options={}).effects == ()
    stranger = make_row(vendor="other")._replace(options=moving.options)
    assert with_ask(outside, held=(held_by(None, stranger),), options={}).effects == ()
