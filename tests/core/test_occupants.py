"""What Vips, EIPs and Subnets hold (bug rows 8, 15, 43)."""

from __future__ import annotations

import msgspec
import pytest

from controller.core import naming, occupants
from controller.core.addresses import parse_mac
from controller.core.ipam import Record
from controller.core.neighbours import (
    IptablesEip,
    IptablesEipSpec,
    IptablesEipStatus,
    OvnEip,
    OvnEipSpec,
    OvnEipStatus,
    Vip,
    VipSpec,
    VipStatus,
)
from controller.core.objects import Meta, SubnetStatus
from controller.core.rows import PortRow
from tests.core.worlds import MAC, MAC2, make_row, make_subnet, num

ONE, TWO = parse_mac(MAC), parse_mac(MAC2)


def vip(**spec: str) -> Vip:
    return Vip(metadata=Meta(name="web"), spec=VipSpec(**{"subnet": "net", "namespace": "default"} | spec))


def test_a_vip_holds_what_it_asks_for_and_what_it_was_given() -> None:
    """From the moment it is written, not only from Kube-OVN's answer on."""
    asked = vip(v4ip="10.0.0.2", mac_address=MAC)
    given = msgspec.structs.replace(vip(), status=VipStatus(v4ip="10.0.0.2", v6ip="fd00::2", mac=MAC2))

    assert occupants.of_neighbour(vip()) == ()
    assert occupants.of_neighbour(asked) == (Record("Vip web", "net", num("10.0.0.2"), None, ONE),)
    assert occupants.of_neighbour(given) == (Record("Vip web", "net", num("10.0.0.2"), num("fd00::2"), TWO),)


def test_a_vip_with_two_macs_has_both() -> None:
    """Nobody can tell which of them is in use."""
    both = msgspec.structs.replace(vip(v4ip="10.0.0.2", mac_address=MAC), status=VipStatus(mac=MAC2))

    assert occupants.of_neighbour(both) == (
        Record("Vip web", "net", num("10.0.0.2"), None, ONE),
        Record("Vip web", "net", None, None, TWO),
    )


def test_eips_hold_their_addresses_in_the_external_subnet() -> None:
    """Which has a name of Kube-OVN's own where they do not say."""
    iptables = IptablesEip(
        metadata=Meta(name="nat"),
        spec=IptablesEipSpec(v4ip="10.0.0.2", mac_address=MAC),
        status=IptablesEipStatus(ip="10.0.0.3"),
    )
    ovn = OvnEip(
        metadata=Meta(name="lrp"),
        spec=OvnEipSpec(external_subnet="net"),
        status=OvnEipStatus(v4_ip="10.0.0.4", v6_ip="fd00::4", mac_address=MAC),
    )

    assert occupants.of_neighbour(iptables) == (
        Record("IptablesEIP nat", occupants.IPTABLES_SUBNET, num("10.0.0.2"), None, ONE),
        Record("IptablesEIP nat", occupants.IPTABLES_SUBNET, num("10.0.0.3"), None, ONE),
    )
    assert occupants.of_neighbour(ovn) == (Record("OvnEip lrp", "net", num("10.0.0.4"), num("fd00::4"), ONE),)
    assert occupants.of_neighbour(OvnEip(metadata=Meta(name="x"), spec=OvnEipSpec(v4_ip="10.0.0.5"))) == (
        Record("OvnEip x", occupants.OVN_SUBNET, num("10.0.0.5"), None, None),
    )


@pytest.mark.parametrize("one", [Vip, IptablesEip, OvnEip])
def test_one_that_names_no_subnet_is_where_kube_ovn_counts_it(one: type[Vip | IptablesEip | OvnEip]) -> None:
    """By its label: an installation may have its EIPs in a subnet of another name."""
    spec = {Vip: VipSpec(v4ip="10.0.0.2"), IptablesEip: IptablesEipSpec(v4ip="10.0.0.2")}.get(one)
    found = one(
        metadata=Meta(name="x", labels={naming.SUBNET_LABEL: "net"}),
        spec=spec or OvnEipSpec(v4_ip="10.0.0.2"),  # type: ignore[arg-type]
    )

    assert [(r.subnet, r.v4) for r in occupants.of_neighbour(found)] == [("net", num("10.0.0.2"))]


def test_a_subnet_holds_its_own_addresses_under_the_names_of_their_ips() -> None:
    """The IP that Kube-OVN makes for them is no second claimant; a list of two families is one text."""
    status = SubnetStatus(
        u2o_interconnection_ip="10.0.0.5,fd00::5", u2o_interconnection_mac=MAC, mcast_querier_ip="10.0.0.6"
    )
    subnet = msgspec.structs.replace(make_subnet(), status=status)

    assert occupants.of_subnet(make_subnet()) == ()
    assert occupants.of_subnet(subnet) == (
        Record("u2o-interconnection.ovn-cluster.net", "net", num("10.0.0.5"), num("fd00::5"), ONE),
        Record("mcast-querier.net", "net", num("10.0.0.6"), None, None),
    )
    assert occupants.own_ports(make_subnet("one", vpc="mine")) == ("u2o-interconnection.mine.one", "mcast-querier.one")


@pytest.mark.parametrize(
    ("row", "whose"),
    [
        (make_row(pod_uid=""), "Vip web"),
        (make_row(pod_uid="", ls=""), "Vip web"),
        (make_row(), ""),  # it says for which pod it was made
        (make_row(pod_uid="", ls="other"), ""),
        (make_row(pod_uid="", pod="other/web"), ""),
    ],
)
def test_the_port_of_a_vip_looks_like_a_pods_and_is_none(row: PortRow, whose: str) -> None:
    """Kube-OVN makes it for those with a type, with a pod's external ids (kube-ovn-behaviour §15.3)."""
    assert occupants.tenant(row, vip(type="switch_lb_vip"), None) == whose
    assert occupants.tenant(row, vip(), None) == ""
    assert occupants.tenant(row, None, None) == ""


def test_the_port_of_an_ovn_eip_has_its_name() -> None:
    """It names no pod."""
    eip = OvnEip(metadata=Meta(name="node-a"), spec=OvnEipSpec(external_subnet="net"))
    row = PortRow("node-a", external_ids=(("ls", "net"), ("vendor", "kube-ovn")))

    assert occupants.tenant(row, None, eip) == "OvnEip node-a"
    assert occupants.tenant(row._replace(external_ids=(("ls", "x"),)), None, eip) == ""
    assert occupants.tenant(make_row("node-a"), None, eip) == ""
    assert row.ours
    assert not row.anothers.ours
    assert row.anothers.switch == "net"
