"""decide() for one IP object: granted, kept, defended, let go (contract §3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.core import naming
from controller.core.addresses import format_mac, parse_mac
from controller.core.catalogue import Reason
from controller.core.decisions.placement import Place
from controller.core.decisions.reservation import View, decide
from controller.core.effects import Decision, DropPort, Patch, Promise, Remember, Withdraw
from controller.core.ipam import Source
from controller.core.objects import FINALIZER, OLD_FINALIZER, Condition, Ip, IpStatus, Kind
from tests.core.test_placement import MISSING
from tests.core.worlds import (
    GRANTED,
    MAC,
    MAC2,
    NOW,
    ORDINARY,
    OURS,
    RESERVED,
    bidder_of,
    book_of,
    granted_ip,
    hold,
    make_ip,
    make_pod,
    make_row,
    make_subnet,
    names,
    notes_of,
    num,
    patch_of,
    place_of,
    recorded,
    reservation_view,
    shown,
    told,
)

NET = make_subnet()
NOWHERE = Place("gone", None, None, switch=False, problem=MISSING)
RUNNING = bidder_of(make_pod(notes=notes_of()))
WAITING = bidder_of(make_pod())


def decided(ip: Ip | None, **view: Any) -> Decision:
    return decide(reservation_view(ip, **view), NOW)


def refused(decision: Decision) -> Reason:
    """The one reason, the same in refusal, condition and Event."""
    assert decision.refusal is not None
    assert shown(decision) == {"Ready": ("False", str(decision.refusal.reason))}
    assert told(decision) == [str(decision.refusal.reason)]
    assert decision.effects == ()
    return decision.refusal.reason


def settled(ip: Ip, **view: Any) -> Ip:
    """The IP with the status that its Decision asks for."""
    decision = decided(ip, **view)
    assert decision.effects == ()
    assert decision.status is not None
    status = decision.status.body["status"]
    conditions = tuple(
        Condition(
            type=c["type"],
            status=c["status"],
            reason=c["reason"],
            message=c["message"],
            observed_generation=c["observedGeneration"],
            last_transition_time=c["lastTransitionTime"],
        )
        for c in status["conditions"]
    )
    grant = reservation_view(ip, **view).recorded
    kept = IpStatus(conditions=conditions, observed_generation=1, recorded=grant, used_by=status["usedBy"])
    return Ip(metadata=ip.metadata, spec=ip.spec, status=kept)


# -- asking ----------------------------------------------------------------------------------------


def test_a_request_is_granted_in_one_patch_as_the_user_document_shows() -> None:
    """Addresses, empty attach lists, labels and finalizer; generation goes from 1 to 2; no port (contract §3)."""
    decision = decided(make_ip(labels={"app": "x"}), dice=5)

    assert names(decision) == ["Promise", "PatchIP", "Remember"]
    body = patch_of(decision)
    assert body["metadata"] == {"resourceVersion": "7", "labels": GRANTED, "finalizers": [FINALIZER]}
    mac = body["spec"].pop("macAddress")
    assert body["spec"] == {
        "v4IpAddress": "10.0.0.2",
        "v6IpAddress": "",
        "ipAddress": "10.0.0.2",
        "attachIps": [],
        "attachMacs": [],
        "attachSubnets": [],
        "containerID": "",
        "nodeName": "",
    }
    assert decision.effects[0] == Promise("web.default", "net", num("10.0.0.2"), None, parse_mac(mac))
    assert decision.effects[2] == Remember("web.default", "ip-uid", recorded(mac=mac))
    assert decision.status is None


def test_a_dual_stack_subnet_gives_the_other_family_too() -> None:
    """The one that was given is taken, the other one is dynamic."""
    dual = make_subnet(cidr="10.0.0.0/29,fd00::/125")
    spec = patch_of(decided(make_ip(v6_ip_address="fd00::5"), subnet=dual))["spec"]

    assert spec["ipAddress"] == "10.0.0.2,fd00::5"


def test_a_named_address_and_mac_are_taken_exactly() -> None:
    """Also an address inside excludeIps."""
    subnet = make_subnet(exclude_ips=("10.0.0.1", "10.0.0.5"))
    ip = make_ip(v4_ip_address="10.0.0.5", mac_address=MAC)
    spec = patch_of(decided(ip, subnet=subnet))["spec"]

    assert (spec["v4IpAddress"], spec["macAddress"]) == ("10.0.0.5", MAC)


def test_a_node_name_that_is_set_already_stays() -> None:
    """The node agent is a second writer."""
    body = patch_of(decided(make_ip(node_name="a")))

    assert "nodeName" not in body["spec"]
    assert body["metadata"]["labels"][naming.NODE_LABEL] == "a"


def test_other_peoples_finalizers_stay() -> None:
    """Without an explicit address the object is a request like any other; the old finalizer makes way."""
    assert patch_of(decided(make_ip(finalizers=("x.io/y",))))["metadata"]["finalizers"] == ["x.io/y", FINALIZER]
    again = patch_of(decided(make_ip(finalizers=(OLD_FINALIZER,), labels=RESERVED)))
    assert again["metadata"]["finalizers"] == [FINALIZER]


@pytest.mark.parametrize(("asked", "gets"), [("", ""), (MAC, MAC)])
def test_a_network_that_is_not_ovn_has_a_mac_only_if_asked_for(asked: str, gets: str) -> None:
    """Nobody manages MACs there, but what a user wrote is never wiped out."""
    subnet = make_subnet(provider="n.default", vpc="")
    decision = decided(make_ip("web.default.n.default", mac_address=asked), subnet=subnet)

    assert patch_of(decision)["spec"]["macAddress"] == gets


def test_a_finalizer_without_an_address_is_a_request_that_was_cut_off() -> None:
    """It is granted anew."""
    assert names(decided(make_ip(labels=RESERVED, finalizers=OURS))) == ["Promise", "PatchIP", "Remember"]


def test_a_promise_holds_the_address_until_it_is_recorded() -> None:
    """The second look gives the same one."""
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.4", Source.PROMISE, MAC)
    spec = patch_of(decided(make_ip(), book=book, promised=True))["spec"]

    assert (spec["v4IpAddress"], spec["macAddress"]) == ("10.0.0.4", MAC)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        ({"subnet": ""}, Reason.INVALID_SPEC, "spec.subnet is empty"),
        ({"pod_name": ""}, Reason.INVALID_SPEC, "spec.podName is empty"),
        ({"namespace": ""}, Reason.INVALID_SPEC, "spec.namespace is empty"),
        ({"pod_type": "Deployment"}, Reason.INVALID_SPEC, '"StatefulSet" or "VirtualMachine"'),
        ({"v4_ip_address": "10.0.0.300"}, Reason.INVALID_SPEC, "spec.v4IpAddress"),
        ({"v4_ip_address": "fd00::2"}, Reason.INVALID_SPEC, "IPv6 address"),
        ({"v6_ip_address": "10.0.0.2"}, Reason.INVALID_SPEC, "IPv4 address"),
        ({"v6_ip_address": "FD00::2"}, Reason.INVALID_SPEC, "write it in lower case: fd00::2"),
        ({"mac_address": "0A:00:00:00:00:01"}, Reason.INVALID_SPEC, "spec.macAddress"),
        ({"fault": "spec: expected object"}, Reason.INVALID_SPEC, "expected object"),
        ({"pod_name": "api"}, Reason.NAME_MISMATCH, "api.default"),
        ({"name": "web.default.x.y.ovn"}, Reason.NAME_MISMATCH, "must be web.default"),
        ({"v4_ip_address": "10.9.0.2"}, Reason.ADDRESS_OUT_OF_RANGE, "10.0.0.0/29"),
        ({"v6_ip_address": "fd00::2"}, Reason.ADDRESS_OUT_OF_RANGE, "IPv6"),
        ({"v4_ip_address": "10.0.0.1"}, Reason.ADDRESS_NOT_USABLE, "gateway"),
        ({"v4_ip_address": "10.0.0.0"}, Reason.ADDRESS_NOT_USABLE, "network"),
        ({"v4_ip_address": "10.0.0.7"}, Reason.ADDRESS_NOT_USABLE, "broadcast"),
    ],
)
def test_what_cannot_be_granted_says_why_and_what_to_write(spec: dict[str, Any], reason: Reason, says: str) -> None:
    """Contract §8, the same reason as condition and Event; no address is held."""
    decision = decided(make_ip(**spec))

    assert refused(decision) is reason
    assert decision.refusal is not None
    assert says in decision.refusal.text


def test_a_conflict_names_the_present_owner_and_waits_for_it() -> None:
    """Address and MAC (bug row 36: it changes nothing)."""
    book = book_of(NET)
    hold(book, "api.default", "10.0.0.3", mac=MAC)
    address = decided(make_ip(v4_ip_address="10.0.0.3"), book=book)
    mac = decided(make_ip(mac_address=MAC), book=book)

    assert refused(address) is Reason.ADDRESS_CONFLICT
    assert refused(mac) is Reason.MAC_CONFLICT
    for decision in (address, mac):
        assert decision.refusal is not None
        assert "api.default" in decision.refusal.text
        assert decision.waits


def test_a_cooling_address_is_asked_for_again_when_it_has_cooled() -> None:
    """Time is left as `requeue_after` (law 8)."""
    book = book_of(NET)
    hold(book, "api.default", "10.0.0.3")
    book.put(Source.IP, f"{Source.IP}/api.default", (), NOW - 10)
    decision = decided(make_ip(v4_ip_address="10.0.0.3"), book=book)

    assert refused(decision) is Reason.ADDRESS_CONFLICT
    assert decision.requeue_after == 20.0


def test_a_full_subnet_is_waited_for() -> None:
    """Woken by the first address that comes free, in order (contract §8), or when the subnet itself goes (1134)."""
    book = book_of(NET, a="10.0.0.2", b="10.0.0.3", c="10.0.0.4", d="10.0.0.5", e="10.0.0.6")
    decision = decided(make_ip(), book=book)

    assert refused(decision) is Reason.SUBNET_EXHAUSTED
    assert decision.waits == (("space", "net"), ("subnet", "net"))
    assert refused(decided(make_ip(), queued=frozenset({("space", "net")}))) is Reason.SUBNET_EXHAUSTED


def test_a_subnet_that_is_missing_is_waited_for() -> None:
    """It heals by itself when it appears; a name that cannot be right is said before that."""
    decision = decided(make_ip(), place=NOWHERE)

    assert refused(decision) is Reason.SUBNET_NOT_FOUND
    assert decision.waits == (("subnet", "gone"),)
    assert refused(decided(make_ip("wrong"), place=NOWHERE)) is Reason.NAME_MISMATCH
    assert refused(decided(make_ip("web.default.n.d.ovn"), place=NOWHERE)) is Reason.SUBNET_NOT_FOUND


def test_a_promise_that_nothing_comes_of_is_withdrawn() -> None:
    """The request became another one, or is gone."""
    assert decided(make_ip(v4_ip_address="x"), promised=True).effects == (Withdraw("web.default"),)
    assert decided(None, promised=True) == Decision((Withdraw("web.default"),))
    assert decided(None) == Decision()


# -- other people's objects ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ip",
    [
        make_ip(finalizers=("x.io/y",), v4_ip_address="10.0.0.2"),
        make_ip(finalizers=("x.io/y",), ip_address="10.0.0.2"),
        make_ip("node-a", finalizers=OURS, namespace="", pod_name="a"),
        make_ip(finalizers=("x.io/y",), deleting=True),
        make_ip(deleting=True),
        make_ip(labels=ORDINARY),
    ],
)
def test_what_is_not_ours_is_never_written(ip: Ip) -> None:
    """Bug row 33 and contract §7; also while it is being deleted and a pod of its name runs."""
    assert decided(ip) == Decision()
    assert decided(ip, bidders=(RUNNING,)) == Decision()


def test_a_finalizer_that_was_torn_off_comes_back() -> None:
    """The port says just what the IP says: it is its record (the user's pod is gone, its address is kept)."""
    ip = granted_ip(labels=ORDINARY, finalizers=("x.io/y",), ip_address="")
    torn = granted_ip(labels=ORDINARY, finalizers=())

    assert patch_of(decided(torn, row=make_row())) == {"metadata": {"resourceVersion": "7", "finalizers": [FINALIZER]}}
    for row in (make_row("10.0.0.9"), make_row(ls="other"), make_row(vendor="x"), None):
        assert decided(torn, row=row) == Decision()
    assert decided(torn, row=make_row(), bidders=(RUNNING,)) == Decision()
    assert decided(ip, row=make_row()) == Decision()


# -- a pod that came first -------------------------------------------------------------------------


def test_a_request_for_what_its_pod_has_is_left_to_the_pod_flow() -> None:
    """Scenario 4: it is adopted there, with the pod's address."""
    assert decided(make_ip(), bidders=(RUNNING,), row=make_row()) == Decision()
    assert decided(make_ip(), bidders=(WAITING,), under_way=True) == Decision()
    assert decided(make_ip(), row=make_row()) == Decision()


def test_a_request_for_something_else_than_its_pod_has_is_refused() -> None:
    """The pod keeps its own, the reservation holds nothing (contract §3)."""
    decision = decided(make_ip(v4_ip_address="10.0.0.5"), bidders=(RUNNING,), row=make_row())

    assert refused(decision) is Reason.RESERVATION_MISMATCH


def test_a_pod_that_has_nothing_yet_is_served_by_the_reservation() -> None:
    """Who only waits did not come first; a row of another system is nobody's."""
    assert names(decided(make_ip(), bidders=(WAITING,))) == ["Promise", "PatchIP", "Remember"]
    assert names(decided(make_ip(), row=make_row(vendor="x"))) == ["Promise", "PatchIP", "Remember"]


# -- keeping ---------------------------------------------------------------------------------------


def test_a_granted_reservation_shows_how_it_stands() -> None:
    """`kubectl wait --for=condition=Ready` works (contract §8)."""
    decision = decided(granted_ip())

    assert decision.effects == ()
    assert shown(decision) == {"Ready": ("True", "Reserved"), "InUse": ("False", "NotInUse")}
    assert decision.status is not None
    assert decision.status.body["status"]["recorded"]["v4IpAddress"] == "10.0.0.2"


def test_at_rest_nothing_is_written() -> None:
    """Rule 4: neither object nor status."""
    assert decided(settled(granted_ip())) == Decision()
    assert decided(settled(granted_ip(), bidders=(RUNNING,)), bidders=(RUNNING,)) == Decision()


def test_a_pod_in_use_is_named() -> None:
    """By its own name."""
    decision = decided(granted_ip(), bidders=(RUNNING,), row=make_row())

    assert shown(decision)["InUse"] == ("True", "InUse")
    assert decision.status is not None
    assert decision.status.body["status"]["usedBy"] == "default/web"


@pytest.mark.parametrize(
    ("field", "slot"),
    [
        ("subnet", "subnet"),
        ("podName", "pod_name"),
        ("namespace", "namespace"),
        ("podType", "pod_type"),
        ("v4IpAddress", "v4_ip_address"),
        ("v6IpAddress", "v6_ip_address"),
        ("macAddress", "mac_address"),
    ],
)
def test_an_edit_of_an_immutable_field_is_undone_and_said(field: str, slot: str) -> None:
    """From what was recorded; the status waits until it is (contract §3)."""
    decision = decided(granted_ip(status=IpStatus(recorded=recorded()), **{slot: "edited"}))

    assert list(patch_of(decision)["spec"]) == [field]
    assert told(decision) == ["AttributeChangeRefused"]
    assert field in decision.tells[0].message.text
    assert decision.status is None


def test_an_address_field_that_follows_from_others_is_put_right_in_silence() -> None:
    """`ipAddress` is no attribute of its own."""
    decision = decided(granted_ip(ip_address=""))

    assert patch_of(decision)["spec"] == {"ipAddress": "10.0.0.2"}
    assert decision.tells == ()


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        ({k: v for k, v in GRANTED.items() if k != naming.RESERVED}, {naming.RESERVED: "true"}),
        ({**GRANTED, naming.RESERVED: "yes"}, {naming.RESERVED: "true"}),
        ({**GRANTED, naming.SUBNET_LABEL: "x"}, {naming.SUBNET_LABEL: "net"}),
        (RESERVED, {k: v for k, v in GRANTED.items() if k != naming.RESERVED}),
    ],
)
def test_labels_that_vanished_are_put_back(labels: dict[str, str], missing: dict[str, str]) -> None:
    """A careless replace is no decision (contract §3); the node label is the node agent's."""
    ip = granted_ip(labels=labels, status=IpStatus(recorded=recorded()))

    assert patch_of(decided(ip))["metadata"] == {"resourceVersion": "7", "labels": missing}
    assert decided(settled(granted_ip(labels={**GRANTED, naming.NODE_LABEL: "b"}))) == Decision()


@pytest.mark.parametrize("finalizers", [(), (OLD_FINALIZER,), (OLD_FINALIZER, FINALIZER)])
def test_our_finalizer_is_kept_under_its_present_name(finalizers: tuple[str, ...]) -> None:
    """The old one goes (contract §1)."""
    decision = decided(granted_ip(finalizers=finalizers, status=IpStatus(recorded=recorded())))

    if finalizers and FINALIZER in finalizers:
        assert decision.effects == ()
    else:
        assert patch_of(decision)["metadata"]["finalizers"] == [FINALIZER]


def test_a_reservation_outlives_its_subnet() -> None:
    """Nothing automatic frees it; that the subnet is missing is shown."""
    decision = decided(granted_ip(), place=NOWHERE)

    assert decision.effects == ()
    assert shown(decision)["Ready"] == ("False", "SubnetNotFound")


def test_two_claimants_are_marked_and_the_live_pod_goes_on() -> None:
    """Rule 5; it looks again when the address moves."""
    alone = decided(granted_ip(), others=("api.default",))
    in_use = decided(granted_ip(), others=("api.default",), bidders=(RUNNING,))

    assert shown(alone)["Ready"] == ("False", "DuplicateAddress")
    assert shown(in_use)["Ready"] == ("True", "Reserved")
    assert ("address", "net", "10.0.0.2") in alone.waits


def test_a_pod_that_may_not_use_it_is_shown_on_the_ip_too() -> None:
    """The same words as on the pod (contract §3, Use)."""
    decision = decided(granted_ip(pod_type="StatefulSet"), bidders=(WAITING,))

    assert shown(decision)["InUse"] == ("False", "ReservationMismatch")
    assert told(decision) == ["ReservationMismatch"]


# -- ending ----------------------------------------------------------------------------------------


def test_the_label_false_ends_a_reservation() -> None:
    """It is an ordinary IP from then on: no conditions, nothing recorded."""
    ended = replace_labels(settled(granted_ip()), {**GRANTED, **ORDINARY})
    decision = decided(ended)

    assert decision.effects == ()
    assert decision.status is not None
    assert decision.status.body["status"]["conditions"] is None
    assert decided(granted_ip(labels=ORDINARY)) == Decision()


def replace_labels(ip: Ip, labels: dict[str, str]) -> Ip:
    fresh = granted_ip(labels=labels)
    return Ip(metadata=fresh.metadata, spec=ip.spec, status=ip.status)


def test_an_ordinary_ip_whose_label_vanished_stays_one() -> None:
    """By what this process remembers, else by whose port is there: no pod-made IP becomes a reservation (row 34)."""
    bare = granted_ip(labels={})

    for decision in (
        decided(bare, recorded=recorded(reserved="false")),
        decided(bare, row=make_row()),
        decided(bare, bidders=(RUNNING,)),
    ):
        assert patch_of(decision)["metadata"]["labels"] == ORDINARY


def test_an_ip_that_alone_holds_its_address_is_kept() -> None:
    """Nothing recorded, nobody alive, no port: don't know is never gone (Rule 2)."""
    assert patch_of(decided(granted_ip(labels={})))["metadata"]["labels"] == GRANTED


def gone(**more: Any) -> Ip:
    return granted_ip(deleting=True, **more)


def test_a_deleted_reservation_goes_port_first() -> None:
    """Then the finalizers, old and new; the address is free when the object is gone (Rule 3)."""
    decision = decided(gone(finalizers=("x.io/y", OLD_FINALIZER, FINALIZER)), row=make_row())

    assert decision.effects[0] == DropPort(make_row())
    assert patch_of(decision) == {"metadata": {"resourceVersion": "7", "finalizers": ["x.io/y"]}}
    assert names(decided(gone())) == ["PatchIP"]
    assert names(decided(gone(), place=NOWHERE)) == ["PatchIP"]


@pytest.mark.parametrize("row", [make_row(vendor="other"), make_row()._replace(type="router")])
def test_a_port_of_another_system_stays(row: Any) -> None:
    """Bug row 54."""
    assert names(decided(gone(), row=row)) == ["PatchIP"]


@pytest.mark.parametrize(
    "view",
    [
        {"bidders": (RUNNING,)},
        {"bidders": (WAITING,), "under_way": True},
    ],
)
def test_an_ip_in_use_outlives_its_deletion(view: dict[str, Any]) -> None:
    """As PersistentVolumeClaims do; InUse says by whom (contract §3, Delete)."""
    decision = decided(gone(), **view)

    assert decision.effects == ()
    assert shown(decision) == {"InUse": ("True", "InUse")}
    assert told(decision) == ["InUse"]
    again = decided(settled(gone(), **view), **view)
    assert again == Decision()


def test_a_port_made_for_a_pod_that_has_no_address_yet_goes_with_its_ip() -> None:
    """Seeds 472 and 633: the pod waits for the IP to go, so the IP must not wait for the pod.

    While the pod's own key may still be writing, its port stays.
    """
    held: dict[str, Any] = {"bidders": (WAITING,), "row": make_row()}

    assert names(decided(gone(), **held)) == ["DropPort", "PatchIP"]
    writing = decided(gone(), port_in_doubt=True, **held)
    assert (writing.effects, writing.requeue_after) == ((), 0.1)


def test_a_pod_that_only_waits_holds_up_no_deletion() -> None:
    """A port of a former life of that name is left-over."""
    row = make_row(pod_uid="former")

    assert names(decided(gone(), bidders=(WAITING,), row=row)) == ["DropPort", "PatchIP"]


def test_a_port_that_may_be_there_is_waited_for() -> None:
    """The pod flow is writing: the finalizer goes after the port, not before it."""
    decision = decided(gone(), port_in_doubt=True)

    assert decision.effects == ()
    assert decision.requeue_after is not None


def test_without_protection_every_user_is_cut_off_first() -> None:
    """--protect-in-use=false; source and target of a migration both."""
    pods = [bidder_of(make_pod(name, notes=notes_of(), uid=name)) for name in ("web", "web2")]
    decision = decided(gone(), bidders=tuple(pods), row=make_row(), protect_in_use=False)

    assert names(decision) == ["PatchPod", "PatchPod", "DropPort", "PatchIP"]
    assert {e.body["metadata"]["uid"] for e in decision.effects if isinstance(e, Patch) and e.kind is Kind.POD} == {
        "web",
        "web2",
    }


def test_a_view_is_a_value() -> None:
    """Two looks at one View are one Decision (law 2)."""
    view: View = reservation_view(make_ip(mac_address=MAC2))

    assert decide(view, NOW) == decide(replace(view), NOW)
    assert place_of(NET).plan is not None


def test_a_finalizer_that_was_taken_off_comes_back_with_what_was_edited_since() -> None:
    """Seed 189: one write, so that the edit is never seen under our finalizer and taken for a grant."""
    own: dict[str, Any] = {"labels": RESERVED, "finalizers": (), "v4_ip_address": "10.0.0.6", "ip_address": "10.0.0.2"}
    body = patch_of(decided(make_ip(**own), row=make_row()))
    assert body["metadata"]["finalizers"] == [FINALIZER]
    assert body["spec"] == {"v4IpAddress": "10.0.0.2", "v6IpAddress": ""}

    own |= {"v4_ip_address": "10.0.0.2"}
    assert "spec" not in patch_of(decided(make_ip(**own), row=make_row()))

    garbage = make_row()._replace(addresses=("0a:00:00:00:00:01 dynamic",))
    own |= {"ip_address": "dynamic", "v4_ip_address": ""}
    assert "spec" not in patch_of(decided(make_ip(**own), row=garbage))


@pytest.mark.parametrize("shown", [True, False])
def test_a_reservation_whose_mac_was_taken_out_gets_one_again(*, shown: bool) -> None:
    """Seed 118: where an IP has no status nobody remembers it after a restart, and no port can be made without."""
    lacks = recorded(mac="")
    status = IpStatus(recorded=lacks) if shown else IpStatus()
    ip = granted_ip(mac_address="", status=status)
    decision = decided(ip, recorded=lacks)

    body, promise = patch_of(decision), decision.effects[0]
    assert isinstance(promise, Promise)
    mac = format_mac(promise.mac or 0)
    assert names(decision) == (["Promise", "PatchIP"] if shown else ["Promise", "PatchIP", "Remember"])
    assert (body["status"]["recorded"] if shown else body["spec"])["macAddress"] == mac
    book = book_of(NET)
    hold(book, "web.default", "10.0.0.2", Source.PORT, MAC)
    (has, *_) = decided(ip, recorded=lacks, book=book).effects
    assert isinstance(has, Promise)
    assert format_mac(has.mac or 0) == MAC, "its pod runs with that one"
    elsewhere = make_subnet(provider="net1.default")
    assert decided(ip, recorded=lacks, place=place_of(elsewhere)).effects == (), "its MAC is another network's to give"
    assert not any(isinstance(e, Promise) for e in decided(ip, recorded=lacks, place=NOWHERE).effects)


def test_an_ip_that_was_let_go_has_nothing_recorded() -> None:
    """Seed 887: its label was edited later, and what its status still told was taken for a grant."""
    torn = granted_ip(labels=ORDINARY, finalizers=(), status=IpStatus(recorded=recorded()))

    decision = decided(torn)
    assert decision.effects == ()
    assert decision.status is not None
    assert decision.status.body["status"]["recorded"] is None
    assert decided(granted_ip(labels=ORDINARY, finalizers=())) == Decision()


def test_a_port_that_says_no_pod_is_in_the_way_and_that_is_said() -> None:
    """Nobody would ever drop it; the request is looked at again when it goes."""
    nobodys = make_row()._replace(external_ids=(("ls", "net"), ("vendor", "kube-ovn")))

    decision = decided(make_ip(), row=nobodys)
    assert shown(decision)["Ready"] == ("False", "InvalidSpec")
    assert decision.waits == (("port", "web.default"),)
