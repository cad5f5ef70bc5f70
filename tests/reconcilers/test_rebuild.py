"""What a process knows after a restart is what it knew before, for every kind of owner (bug row 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.neighbours import (
    IptablesEip,
    IptablesEipSpec,
    IptablesEipStatus,
    OvnEip,
    OvnEipSpec,
    Vip,
    VipSpec,
    VipStatus,
)
from controller.core.objects import IpStatus, Kind, Meta, OwnerRef, SubnetStatus
from controller.core.rows import PortRow
from controller.reconcilers.picture import Picture
from tests.core.worlds import (
    MAC,
    NOW,
    ORDINARY,
    granted_ip,
    make_ip,
    make_pod,
    make_row,
    make_subnet,
    notes_of,
    recorded,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESSES = [f"10.0.0.{n}" for n in range(2, 7)]
NETS = ("net", "other")
QUERIER = "mcast-querier.net"

address = st.sampled_from(ADDRESSES)
net = st.sampled_from(NETS)


def _subnet(name: str, text: str) -> Any:
    cidr = "10.0.0.0/29" if name == "net" else "10.0.0.0/28"
    one = make_subnet(name, cidr, vpc=name)
    return msgspec.structs.replace(one, status=SubnetStatus(u2o_interconnection_ip=text, mcast_querier_ip=text))


def _ip(how: str, text: str, where: str) -> Any:
    has: dict[str, Any] = {"ip_address": text, "v4_ip_address": text, "subnet": where}
    match how:
        case "reserved":
            return granted_ip(text, status=IpStatus(recorded=recorded(text, subnet=where)), subnet=where)
        case "ordinary":
            return granted_ip(text, labels=ORDINARY, subnet=where)
        case "foreign":
            return make_ip(finalizers=("people.io/own",), **has)
        case _:
            owner = OwnerRef(kind="Subnet", name="net", uid="u", api_version="kubeovn.io/v1")
            return make_ip(QUERIER, owners=(owner,), pod_name=QUERIER, **has)


vips = st.builds(
    lambda text, where, kind, given: (
        Kind.VIP,
        Vip(
            metadata=Meta(name="web"),
            spec=VipSpec(subnet=where, namespace="default", type=kind, v4ip="" if given else text),
            status=VipStatus(v4ip=text if given else "", mac=MAC),
        ),
    ),
    address,
    net,
    st.sampled_from(["", "switch_lb_vip"]),
    st.booleans(),
)
eips = st.one_of(
    st.builds(
        lambda text, where: (
            Kind.OVN_EIP,
            OvnEip(metadata=Meta(name="eip"), spec=OvnEipSpec(external_subnet=where, v4_ip=text)),
        ),
        address,
        net,
    ),
    st.builds(
        lambda text, where: (
            Kind.IPTABLES_EIP,
            IptablesEip(
                metadata=Meta(name="nat"),
                spec=IptablesEipSpec(external_subnet=where),
                status=IptablesEipStatus(ip=text),
            ),
        ),
        address,
        net,
    ),
)
ips = st.builds(
    lambda how, text, where: (Kind.IP, _ip(how, text, where)),
    st.sampled_from(["reserved", "ordinary", "foreign", "special"]),
    address,
    net,
)
pods = st.builds(lambda text: (Kind.POD, make_pod(notes=notes_of(text))), address)
subnets = st.builds(lambda name, text: (Kind.SUBNET, _subnet(name, text)), net, address)
rows = st.one_of(
    st.builds(lambda text, where: make_row(text, ls=where), address, st.sampled_from(["", *NETS])),
    st.builds(lambda text, where: make_row(text, ls=where, pod_uid=""), address, net),
    st.builds(lambda text: PortRow("eip", (f"{MAC} {text}",), (("vendor", "kube-ovn"),)), address),
)
steps = st.lists(
    st.tuples(st.one_of(vips, eips, ips, pods, subnets, rows.map(lambda row: (None, row))), st.booleans()),
    max_size=25,
)


class Process:
    """One process: a Picture, told of one change after another."""

    def __init__(self) -> None:
        self.picture = Picture()

    def tell(self, kind: Kind, one: Any, *, gone: bool = False) -> None:
        """One watch event."""
        replica = self.picture.replica(kind)
        change = replica.apply(replica.version + 1, one, gone)
        if change is not None:
            list(self.picture.see(kind, change[1], change[2], NOW))

    def tell_row(self, name: str, row: PortRow | None) -> None:
        """One change of a port."""
        changes, _ = self.picture.ports.apply(self.picture.seq + 1, 1, False, {name: row}, {})
        for changed, old, new in changes:
            list(self.picture.see_port(changed, old, new, NOW))

    def knows(self) -> dict[str, Any]:
        """Who holds what, in every subnet, by every record."""
        ledger = self.picture.ledger
        users = {subnet: sorted(ledger.users(subnet)) for subnet in NETS}
        said = {port: sorted(ledger.records_of(port), key=repr) for names in users.values() for port in names}
        return {"users": users, "said": said, "usage": {subnet: ledger.usage(subnet) for subnet in NETS}}


KINDS = (Kind.VIP, Kind.OVN_EIP, Kind.IPTABLES_EIP, Kind.IP, Kind.POD, Kind.SUBNET)


def successor(before: Process, order: Iterable[Kind | None]) -> Process:
    """A new process that reads every source, in whatever order they answer."""
    fresh = Process()
    for kind in order:
        if kind is None:
            for row in before.picture.ports.ports():
                fresh.tell_row(row.name, row)
        else:
            for one in before.picture.replica(kind).values():
                fresh.tell(kind, one)
    return fresh


@settings(max_examples=300)
@given(steps, st.permutations([None, *KINDS]))
def test_a_successor_knows_what_its_predecessor_knew(told: list[Any], order: list[Kind | None]) -> None:
    """Whatever came and went before, and whatever is read first."""
    before = Process()
    for (kind, one), gone in told:
        if kind is None:
            before.tell_row(one.name, None if gone else one)
        else:
            before.tell(kind, one, gone=gone)

    after = successor(before, order)

    known, again = before.knows(), after.knows()
    assert again["users"] == known["users"]
    assert again["said"] == known["said"]
    for subnet, usage in known["usage"].items():
        rebuilt = again["usage"][subnet]
        assert (usage is None) == (rebuilt is None)
        for family, one in (usage or {}).items():
            assert rebuilt[family].counts == one.counts
            assert sorted(rebuilt[family].outside) == sorted(one.outside)
