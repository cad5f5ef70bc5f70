"""Other owners' addresses: occupied while their object is there, and their ports are left alone (contract §7)."""

from __future__ import annotations

import msgspec
import pytest

from controller.core import ipam
from controller.core.addresses import Address
from controller.core.catalogue import Reason
from controller.core.decisions import pod as of_pod
from controller.core.decisions import reservation as of_reservation
from controller.core.decisions import subnet as of_subnet
from controller.core.decisions.sweep import suspects
from controller.core.effects import Decision, DropPort
from controller.core.ipam import Refusal, Want
from controller.core.neighbours import OvnEip, OvnEipSpec, Vip, VipSpec
from controller.core.objects import Kind, Meta, OwnerRef, SubnetStatus
from controller.core.rows import PortRow
from controller.reconcilers import keys
from controller.reconcilers.picture import Picture
from tests.core.worlds import MAC, NOW, OURS, granted_ip, make_ip, make_row, make_subnet, num, shown
from tests.reconcilers.test_picture import show, show_row, views_of

TWO = Address(4, num("10.0.0.2"))


def vip(fault: str = "", **spec: str) -> Vip:
    """Vip web of namespace default in subnet net, with TWO."""
    wanted = {"subnet": "net", "namespace": "default", "v4ip": "10.0.0.2"} | spec
    return Vip(metadata=Meta(name="web", uid="vip"), spec=VipSpec(**wanted), fault=fault)


@pytest.fixture
def picture() -> Picture:
    """A picture that knows subnet net."""
    found = Picture()
    show(found, Kind.SUBNET, None, make_subnet())
    return found


def test_the_address_of_a_vip_is_refused_with_its_name(picture: Picture) -> None:
    """Until the Vip goes; then who waits for it is woken."""
    show(picture, Kind.VIP, None, vip())
    plan = picture.ledger.plan("net")
    assert plan is not None
    refusal = ipam.choose(picture.ledger, plan, Want("api.default", v4=TWO.value), NOW)

    assert isinstance(refusal, Refusal)
    assert (refusal.message.reason, refusal.message.text) == (
        Reason.ADDRESS_CONFLICT,
        "10.0.0.2 in subnet net belongs to Vip web",
    )
    assert picture.ledger.next_free("net", 4, NOW) == num("10.0.0.3")
    picture.drain_topics()
    show(picture, Kind.VIP, vip(), None)
    assert set(refusal.waits) & set(picture.drain_topics())
    assert picture.ledger.holders("net", TWO) == ()


def test_a_vip_that_cannot_be_read_any_more_keeps_what_it_had(picture: Picture) -> None:
    """Missing data is no evidence (Rule 2)."""
    show(picture, Kind.VIP, None, vip())
    show(picture, Kind.VIP, vip(), Vip(metadata=Meta(name="web"), fault="spec.v4ip is a list"))

    assert picture.ledger.holders("net", TWO) == ("Vip web",)


@pytest.mark.parametrize("first", ["port", "vip"])
def test_the_port_of_a_vip_is_its_own_and_is_never_dropped(picture: Picture, first: str) -> None:
    """Kube-OVN gives it a pod's external ids, and no such pod is ever seen: whichever of both is seen first."""
    typed, row = vip(type="switch_lb_vip"), make_row(pod_uid="")
    if first == "port":
        show_row(picture, row)
        assert any(isinstance(e, DropPort) for e in of_pod.decide(views_of(picture).pod("default", "web"), NOW).effects)
        assert keys.pod("default", "web") in show(picture, Kind.VIP, None, typed)
    else:
        show(picture, Kind.VIP, None, typed)
        show_row(picture, row)

    assert of_pod.decide(views_of(picture).pod("default", "web"), NOW).effects == ()
    assert picture.ledger.holders("net", TWO) == ("Vip web",)
    assert picture.ledger.duplicates() == ()
    assert keys.pod("default", "web") in show(picture, Kind.VIP, typed, None)
    assert picture.ledger.holders("net", TWO) == ("web.default",)


def test_the_port_of_a_vip_is_no_leak(picture: Picture) -> None:
    """The audit knows whose it is; as soon as its Vip is gone it is nobody's."""
    show_row(picture, make_row(pod_uid=""))
    assert [one.leaked for one in suspects(views_of(picture).pod("default", "web"))] == [True]
    show(picture, Kind.VIP, None, vip(type="switch_lb_vip"))
    assert suspects(views_of(picture).pod("default", "web")) == ()


def test_a_vip_that_comes_late_is_a_rival_of_a_reservation_and_takes_nothing(picture: Picture) -> None:
    """Both keep the address blocked, the reservation says so (Rule 5); the Vip's name as a key finds nothing to do."""
    show(picture, Kind.IP, None, granted_ip("10.0.0.2", name="api.default", pod_name="api"))
    show(picture, Kind.VIP, None, vip())
    views = views_of(picture)

    assert set(picture.shared) == {"api.default", "Vip web"}
    assert of_reservation.decide(views.reservation("Vip web"), NOW) == Decision()
    decision = of_reservation.decide(views.reservation("api.default"), NOW)
    assert shown(decision)["Ready"] == ("False", "DuplicateAddress")
    assert ("address", "net", "10.0.0.2") in decision.waits
    assert picture.ledger.duplicates() == (("net", TWO),)
    picture.drain_topics()
    show(picture, Kind.VIP, vip(), None)
    assert ("address", "net", "10.0.0.2") in picture.drain_topics()
    assert shown(of_reservation.decide(views.reservation("api.default"), NOW))["Ready"] == ("True", "Reserved")


def test_the_first_list_of_a_crd_that_comes_late_occupies_all_of_them(picture: Picture) -> None:
    """And one that goes keeps what was known (Rule 2)."""
    other = msgspec.structs.replace(vip(v4ip="10.0.0.3"), metadata=Meta(name="api"))
    picture.heard(Kind.VIP, served=False)
    picture.heard(Kind.VIP, served=True)
    for _, old, new in picture.vips.replace((vip(), other), 1):
        list(picture.see(Kind.VIP, old, new, NOW))
    assert picture.ledger.next_free("net", 4, NOW) == num("10.0.0.4")

    picture.heard(Kind.VIP, served=False)
    assert picture.ledger.holders("net", TWO) == ("Vip web",)
    picture.heard(Kind.VIP, served=True)
    for _, old, new in picture.vips.replace((other,), 2):
        list(picture.see(Kind.VIP, old, new, NOW))
    assert picture.ledger.holders("net", TWO) == ()


def test_the_port_of_an_ovn_eip_is_no_second_claimant(picture: Picture) -> None:
    """Its port has its name and its address, and may not even say where it is."""
    eip = OvnEip(metadata=Meta(name="lsp"), spec=OvnEipSpec(external_subnet="net", v4_ip="10.0.0.2"))
    show_row(picture, PortRow("lsp", (f"{MAC} 10.0.0.2",), (("vendor", "kube-ovn"),)), "lsp")
    show(picture, Kind.OVN_EIP, None, eip)

    assert picture.ledger.holders("net", TWO) == ("OvnEip lsp",)
    show(picture, Kind.OVN_EIP, eip, None)
    assert picture.ledger.holders("net", TWO) == ("lsp",)
    show(picture, Kind.OVN_EIP, None, OvnEip(metadata=Meta(name="other"), spec=eip.spec))
    assert picture.ledger.duplicates() == (("net", TWO),)


def test_a_subnets_own_addresses_are_occupied_and_do_not_keep_it(picture: Picture) -> None:
    """They go with it (kube-ovn-behaviour §13.3); everybody else's keep it (contract §6)."""
    status = SubnetStatus(u2o_interconnection_ip="10.0.0.2", mcast_querier_ip="10.0.0.3")
    going = msgspec.structs.replace(make_subnet(deleting=True), status=status)
    owner = OwnerRef(kind="Subnet", name="net", uid="subnet-uid", api_version="kubeovn.io/v1")
    name = "u2o-interconnection.ovn-cluster.net"
    show(picture, Kind.SUBNET, make_subnet(), going)
    show(picture, Kind.IP, None, make_ip(name, finalizers=OURS, owners=(owner,), pod_name=name,
                                         ip_address="10.0.0.2", v4_ip_address="10.0.0.2"))  # fmt: skip

    assert picture.ledger.holders("net", TWO) == (name,)
    assert picture.ledger.duplicates() == ()
    assert of_subnet.decide(views_of(picture).subnet("net", counted=False), NOW).refusal is None
    show(picture, Kind.VIP, None, vip(v4ip="10.0.0.4"))
    refusal = of_subnet.decide(views_of(picture).subnet("net", counted=False), NOW).refusal
    assert refusal is not None
    assert refusal.text == "deletion waits for 1 users: Vip web"
    show(picture, Kind.SUBNET, going, None)
    assert picture.ledger.users("net") == {name, "Vip web"}


def test_other_owners_count_as_used(picture: Picture) -> None:
    """Used + available + excluded = total (bug row 43)."""
    show(picture, Kind.VIP, None, vip())
    usage = picture.ledger.usage("net")

    assert usage is not None
    counts = usage[4].counts
    assert (counts.used, counts.available, counts.excluded) == (1, 4, 1)
    assert counts.used + counts.available + counts.excluded == counts.total
