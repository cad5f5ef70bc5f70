"""Who may use a reservation: every attribute, both sides of the same answer (contract §3, Use)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import naming
from controller.core.addresses import parse_mac
from controller.core.catalogue import Reason
from controller.core.decisions import binding
from controller.core.decisions.binding import Bidder, clash, clash_of_request
from controller.core.decisions.placement import Ask, Entry
from controller.core.ipam import Want
from controller.core.objects import Kind, Recorded
from tests.core.worlds import (
    MAC,
    MAC2,
    STS,
    VM,
    asks,
    bidder_of,
    make_ip,
    make_pod,
    notes_of,
    num,
    recorded,
)

PLAIN = bidder_of(make_pod())
LAUNCHER = bidder_of(make_pod("virt-launcher-web-x", owner=VM))
RUNNING = bidder_of(make_pod(notes=notes_of()))
DUAL = Recorded(
    subnet="net",
    pod_name="web",
    namespace="default",
    v4_ip_address="10.0.0.2",
    v6_ip_address="fd00::2",
    mac_address=MAC,
)


def why(bidder: Bidder, grant: Recorded) -> str:
    message = clash(bidder, "web.default", grant)
    assert message is not None
    assert message.reason is Reason.RESERVATION_MISMATCH
    return message.text


def test_a_pod_that_agrees_in_everything_may_use_it() -> None:
    """Namespace, name, subnet and kind (contract §3)."""
    assert clash(PLAIN, "web.default", recorded()) is None
    assert clash(LAUNCHER, "web.default", recorded(pod_type="VirtualMachine")) is None


@pytest.mark.parametrize(
    ("bidder", "grant", "attribute"),
    [
        (PLAIN, recorded(namespace="team"), "namespace"),
        (PLAIN, recorded(pod_name="api"), "podName"),
        (PLAIN, recorded(pod_type="StatefulSet"), "podType"),
        (LAUNCHER, recorded(), "podType"),
        (bidder_of(make_pod("web-0", owner=STS)), recorded(pod_name="web-0"), "podType"),
        (bidder_of(make_pod(), "other"), recorded(), "subnet"),
        (bidder_of(make_pod(), ask=asks(mac=MAC2)), recorded(), "macAddress"),
        (bidder_of(make_pod(), ask=asks("10.0.0.3")), recorded(), "address"),
        (bidder_of(make_pod(), ask=asks(v6="fd00::2")), recorded(), "address"),
        (bidder_of(make_pod(), ask=asks(pool=("10.0.0.3", "10.0.0.4"))), recorded(), "address"),
    ],
)
def test_the_first_attribute_that_differs_is_named(bidder: Bidder, grant: Recorded, attribute: str) -> None:
    """With both values and what to do."""
    text = why(bidder, grant)

    assert f"has {attribute} " in text
    assert "make them equal" in text


@pytest.mark.parametrize(
    "ask",
    [
        asks("10.0.0.2"),
        asks("10.0.0.2", "fd00::2", MAC),
        asks(v6="fd00::2"),
        asks(pool=("10.0.0.9", "10.0.0.2")),
        Ask(pool=(Entry(None, num("fd00::2")),)),
    ],
)
def test_asking_for_what_is_reserved_is_no_difference(ask: Ask) -> None:
    """Also for one family of it, or by a list that has it."""
    assert clash(bidder_of(make_pod(), ask=ask), "web.default", DUAL) is None


def test_letter_case_of_a_recorded_mac_is_no_difference() -> None:
    """Kube-OVN wrote them in upper case once: the user document shows one."""
    bidder = bidder_of(make_pod(), ask=asks(mac="00:00:00:86:c6:36"))

    assert clash(bidder, "web.default", recorded(mac="00:00:00:86:C6:36")) is None


def test_unreadable_annotations_are_not_the_reservations_matter() -> None:
    """The pod is told about them by its own flow."""
    assert clash(bidder_of(make_pod(), unreadable=True), "web.default", recorded()) is None


def test_a_running_pod_is_judged_by_what_it_has() -> None:
    """It keeps its network; a reservation of another address says who is in its way."""
    assert clash(RUNNING, "web.default", recorded(pod_type="StatefulSet")) is None
    assert "already runs with 10.0.0.2" in why(RUNNING, recorded("10.0.0.3"))
    assert "10.0.0.3" in why(RUNNING, recorded("10.0.0.3"))
    assert "another network" in why(bidder_of(make_pod(notes=notes_of(""))), recorded())
    assert "already runs" in why(bidder_of(make_pod(notes=notes_of()), "other"), recorded())


def test_a_bidder_reads_as_its_pod_not_as_its_vm() -> None:
    """A person looks for the pod."""
    assert LAUNCHER.pod == "default/virt-launcher-web-x"
    assert LAUNCHER.owner == naming.Owner("default", "web")


# -- a request that came after the pod's own address ----------------------------------------------


def asked(address: str = "", mac: str = "", v6: str = "") -> Want:
    return Want(
        "web.default",
        v4=num(address) if address else None,
        v6=num(v6) if v6 else None,
        mac=parse_mac(mac) if mac else None,
    )


@pytest.mark.parametrize("want", [asked(), asked("10.0.0.2"), asked(mac=MAC), asked("10.0.0.2", MAC)])
def test_a_request_for_what_the_pod_has_becomes_its_reservation(want: Want) -> None:
    """Scenario 4 ends with the pod's address."""
    assert clash_of_request(RUNNING, make_ip(), want) is None


@pytest.mark.parametrize(
    ("want", "spec"),
    [
        (asked("10.0.0.3"), {}),
        (asked(v6="fd00::2"), {}),
        (asked(mac=MAC2), {}),
        (asked(), {"subnet": "other"}),
        (asked(), {"pod_type": "StatefulSet"}),
    ],
)
def test_a_request_for_anything_else_is_refused(want: Want, spec: dict[str, Any]) -> None:
    """The pod keeps its own, the reservation holds nothing (contract §3)."""
    message = clash_of_request(RUNNING, make_ip(**spec), want)

    assert message is not None
    assert message.reason is Reason.RESERVATION_MISMATCH
    assert "10.0.0.2 of subnet net" in message.text


def test_a_pod_that_has_nothing_yet_is_in_nobodys_way() -> None:
    """What it gets is decided once."""
    assert clash_of_request(PLAIN, make_ip(), asked("10.0.0.3")) is None


# -- siblings --------------------------------------------------------------------------------------


def launcher(name: str, subnet: str = "net", ask: Ask | None = None, notes: dict[str, str] | None = None) -> Bidder:
    return bidder_of(make_pod(name, owner=VM, uid=name, notes=notes), subnet, ask)


LEADER = launcher("source", notes=notes_of())


@pytest.mark.parametrize(
    ("ask", "yes"),
    [
        (asks(), True),
        (asks("10.0.0.2", mac=MAC), True),
        (asks(pool=("10.0.0.9", "10.0.0.2")), True),
        (asks("10.0.0.3"), False),
        (asks("10.0.0.2", "fd00::2"), False),
        (asks(mac=MAC2), False),
        (asks(pool=("10.0.0.9",)), False),
    ],
)
def test_a_migration_target_joins_if_it_wants_nothing_else(ask: Ask, *, yes: bool) -> None:
    """Source and target share port and address (contract §5)."""
    assert launcher("target", ask=ask).joins(LEADER) is yes


def test_a_family_that_is_not_asked_for_is_the_leaders() -> None:
    """Seed 62: a list named the IPv4 addresses only, and the target waited for the end of its own source."""
    both = launcher("source", notes=notes_of("10.0.0.2,fd00::2"))

    assert launcher("target", ask=asks(pool=("10.0.0.9", "10.0.0.2"))).joins(both)
    assert not launcher("target", ask=asks(pool=("10.0.0.9",))).joins(both)


def test_the_leader_and_those_who_run_belong_together() -> None:
    """Whatever their annotations say: nobody's network is taken."""
    assert LEADER.joins(LEADER)
    assert launcher("other", "elsewhere", notes=notes_of("10.0.0.9")).joins(LEADER)
    assert not launcher("target", "elsewhere").joins(LEADER)
    assert not bidder_of(make_pod("x", owner=VM), unreadable=True).joins(LEADER)


def test_a_pod_that_is_cut_off_is_told_for_good() -> None:
    """Its allocation is taken back, and the mark stays until the pod is made anew."""
    patch = binding.cut_off(RUNNING)

    assert (patch.kind, patch.namespace, patch.name) == (Kind.POD, "default", "web")
    assert patch.body["metadata"]["uid"] == "pod-uid"
    assert patch.body["metadata"]["annotations"] == {
        "keepip.io/cut-off": "true",
        "ovn.kubernetes.io/allocated": None,
        "ovn.kubernetes.io/routed": None,
    }
