"""Subnets that give MACs only: a VLAN without a CIDR (kube-ovn-behaviour §8, item 0)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import naming
from controller.core.catalogue import Reason
from controller.core.decisions.choice import choose
from controller.core.decisions.placement import Refused
from controller.core.decisions.reservation import tells_of
from controller.core.decisions.subnet import Layout, decide, layout_of
from controller.core.effects import DropPort
from controller.core.ipam import Grant, Refusal
from controller.core.objects import Ip, Kind, Pod, Subnet
from controller.reconcilers import keys
from tests.core.worlds import (
    MAC,
    MAC2,
    NOTE,
    NOW,
    Tiny,
    hold,
    make_ip,
    make_pod,
    make_row,
    make_subnet,
    nic_view,
    notes_of,
    place_of,
    subnet_view,
)

BARE = make_subnet("net", "", vlan="v100", protocol="Mac", gateway_type="distributed", exclude_ips=(), gateway="")
SPEC: dict[str, Any] = {"vlan": "v100", "default": True}
REQUEST = {"subnet": "net", "podName": "web", "namespace": "default"}


@pytest.fixture
def tiny() -> Tiny:
    """A cluster whose default subnet gives MACs only."""
    found = Tiny()
    found.store.create(Kind.SUBNET, "", "net", {"spec": SPEC}, "user")
    found.settle()
    return found


def pod(tiny: Tiny, name: str = "web", **notes: str) -> None:
    annotations = {NOTE + key: value for key, value in notes.items()}
    body = {"metadata": {"name": name, "annotations": annotations}, "spec": {"nodeName": "a"}}
    tiny.store.create(Kind.POD, "default", name, body, "user")


def the_pod(tiny: Tiny, name: str = "web") -> dict[str, str]:
    found = tiny.store.views[Kind.POD]["default", name]
    assert isinstance(found, Pod)
    return found.metadata.annotations


def the_ip(tiny: Tiny, name: str = "web.default") -> Ip:
    found = tiny.store.views[Kind.IP]["", name]
    assert isinstance(found, Ip)
    return found


# -- the subnet -------------------------------------------------------------------------------------


def test_a_vlan_without_a_cidr_is_well_formed() -> None:
    """Nothing else is: without a VLAN a CIDR is missing."""
    assert isinstance(layout_of(BARE), Layout)
    assert decide(subnet_view(BARE), NOW).effects == ()
    assert "cidrBlock" in str(layout_of(make_subnet("net", "")))


def test_its_sums_are_zero_and_hold(tiny: Tiny) -> None:
    pod(tiny)
    tiny.settle()
    one = tiny.store.views[Kind.SUBNET]["", "net"]

    assert isinstance(one, Subnet)
    assert one.spec.protocol == "Mac"
    assert (one.spec.gateway, one.spec.exclude_ips) == ("", ())
    assert (one.status.v4_using, one.status.v4_available, one.status.v6_using, one.status.v6_available) == (0, 0, 0, 0)
    assert {c.type: c.status for c in one.status.conditions} == {"Validated": "True", "Ready": "True"}


def test_it_goes_when_its_last_nic_has_gone(tiny: Tiny) -> None:
    pod(tiny)
    tiny.settle()
    tiny.store.delete(Kind.SUBNET, "", "net", "", "user")
    tiny.settle()
    assert ("", "net") in tiny.store.views[Kind.SUBNET]
    tiny.store.delete(Kind.POD, "default", "web", "", "user")
    tiny.settle()

    assert ("", "net") not in tiny.store.views[Kind.SUBNET]


# -- pods -------------------------------------------------------------------------------------------


def test_a_nic_there_gets_a_mac_and_no_address(tiny: Tiny) -> None:
    pod(tiny)
    tiny.settle()
    notes, mac = the_pod(tiny), the_ip(tiny).spec.mac_address

    assert notes[NOTE + "ip_address"] == ""
    assert notes[NOTE + "mac_address"] == mac != ""
    assert notes[NOTE + "allocated"] == "true"
    assert not {NOTE + "cidr", NOTE + "gateway"} & notes.keys()
    assert tiny.database.tables.ports["web.default"].addresses == (mac,)
    assert (the_ip(tiny).spec.ip_address, the_ip(tiny).spec.v4_ip_address) == ("", "")


def test_it_is_the_same_after_a_restart_and_nothing_is_written(tiny: Tiny) -> None:
    pod(tiny)
    tiny.settle()
    tiny.restart()

    assert tiny.settle() == 0


def test_what_is_lost_of_a_running_nic_is_made_again(tiny: Tiny) -> None:
    pod(tiny)
    tiny.settle()
    mac = the_pod(tiny)[NOTE + "mac_address"]
    tiny.database.commit((DropPort(tiny.database.tables.ports["web.default"]),), "user")
    tiny.store.patch(Kind.POD, "default", "web", {"metadata": {"annotations": {NOTE + "mac_address": None}}}, "user")
    tiny.settle()

    assert the_pod(tiny)[NOTE + "mac_address"] == mac
    assert tiny.database.tables.ports["web.default"].addresses == (mac,)


def test_an_address_cannot_be_asked_for_there(tiny: Tiny) -> None:
    pod(tiny, ip_address="10.0.0.2")
    decision = tiny.look(keys.pod("default", "web"))

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.ADDRESS_OUT_OF_RANGE


def test_a_mac_of_another_is_not_taken_from_an_annotation() -> None:
    """With no record of ours the pod's word is checked like a request; with one, the record goes on."""
    view = nic_view(make_pod(notes=notes_of("", MAC)), place=place_of(BARE), book=Tiny().picture.ledger)
    assert choose(view, NOW) == Grant(None, None, int(MAC.replace(":", ""), 16))
    hold(view.book, "api.default", "10.9.0.1", mac=MAC)  # type: ignore[arg-type]

    refused = choose(view, NOW)
    assert isinstance(refused, Refusal)
    assert refused.message.reason is Reason.MAC_CONFLICT


def test_without_any_mac_nobody_knows_what_a_running_nic_has() -> None:
    view = nic_view(make_pod(notes=notes_of("", "")), place=place_of(BARE), book=Tiny().picture.ledger)

    with pytest.raises(Refused):
        choose(view, NOW)


# -- reservations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["", MAC2])
def test_a_reservation_there_is_of_a_mac(tiny: Tiny, asked: str) -> None:
    """Held before the pod exists, used by it, kept after it; also by a process that remembers nothing."""
    tiny.store.create(Kind.IP, "", "web.default", {"spec": REQUEST | {"macAddress": asked}}, "user")
    tiny.settle()
    mac = the_ip(tiny).spec.mac_address
    assert mac == (asked or mac) != ""
    assert {c.type: c.status for c in the_ip(tiny).status.conditions} == {"Ready": "True", "InUse": "False"}
    assert mac in the_ip(tiny).status.conditions[0].message
    tiny.restart()
    assert tiny.settle() == 0
    pod(tiny)
    tiny.settle()
    assert the_pod(tiny)[NOTE + "mac_address"] == mac
    tiny.store.delete(Kind.POD, "default", "web", "", "user")
    tiny.settle()

    assert the_ip(tiny).spec.mac_address == mac
    assert the_ip(tiny).metadata.labels[naming.RESERVED] == "true"
    assert "web.default" not in tiny.database.tables.ports
    pod(tiny, "api", mac_address=mac)
    refusal = tiny.look(keys.pod("default", "api")).refusal
    assert refusal is not None
    assert refusal.reason is Reason.MAC_CONFLICT


def test_another_networks_reservation_there_has_a_mac_too() -> None:
    """A grant of nothing would be no grant, and be asked for without end."""
    tiny = Tiny()
    tiny.store.create(Kind.SUBNET, "", "net", {"spec": SPEC | {"provider": "n.d", "default": False}}, "user")
    tiny.store.create(Kind.IP, "", "web.default.n.d", {"spec": REQUEST}, "user")
    tiny.settle()

    assert the_ip(tiny, "web.default.n.d").spec.mac_address != ""


def test_addresses_that_somebody_emptied_elsewhere_are_no_grant_of_a_mac() -> None:
    """After a restart, where IPs have no status: a new address is given, it does not end as a MAC without one."""
    tiny = Tiny()
    tiny.store.create(Kind.SUBNET, "", "net", {"spec": {"cidrBlock": "10.0.0.0/29"}}, "user")
    tiny.store.create(Kind.IP, "", "web.default", {"spec": REQUEST}, "user")
    tiny.settle()
    mac = the_ip(tiny).spec.mac_address
    tiny.store.patch(Kind.IP, "", "web.default", {"status": {"recorded": None}}, "user", "status")
    tiny.store.patch(Kind.IP, "", "web.default", {"spec": {"v4IpAddress": "", "ipAddress": ""}}, "user")
    tiny.restart()
    tiny.settle()

    assert the_ip(tiny).spec.v4_ip_address == "10.0.0.2"
    assert the_ip(tiny).spec.mac_address == mac


def test_an_ip_of_a_mac_tells_of_the_port_that_has_just_that() -> None:
    row = make_row()._replace(addresses=(MAC,))

    assert tells_of(make_ip(mac_address=MAC), row)
    assert not tells_of(make_ip(mac_address=MAC2), row)
    assert not tells_of(make_ip(), row)
    assert not tells_of(make_ip(mac_address=MAC), make_row())


def test_a_pods_own_mac_becomes_a_reservation_by_its_label(tiny: Tiny) -> None:
    """Scenario 4."""
    pod(tiny)
    tiny.settle()
    mac = the_ip(tiny).spec.mac_address
    tiny.store.patch(Kind.IP, "", "web.default", {"metadata": {"labels": {naming.RESERVED: "true"}}}, "user")
    tiny.settle()
    tiny.store.delete(Kind.POD, "default", "web", "", "user")
    tiny.settle()
    tiny.restart()

    assert tiny.settle() == 0
    assert the_ip(tiny).spec.mac_address == mac
    assert {c.type: c.status for c in the_ip(tiny).status.conditions} == {"Ready": "True", "InUse": "False"}
