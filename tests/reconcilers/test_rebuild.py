"""Memory is a fold over the records: what was folded change by change is what a new process reads (bug row 8).

A random history of every kind that owns addresses is folded as it happens, then the last state of the world is read
by a new Picture, source by source in any order. Both must know the same holders, users, numbers and ranges.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core import naming
from controller.core.addresses import parse_address, parse_mac
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
from controller.core.objects import (
    Condition,
    Ip,
    IpSpec,
    IpStatus,
    Kind,
    Meta,
    Node,
    NodeAddress,
    NodeStatus,
    Object,
    Recorded,
    SubnetStatus,
)
from controller.core.rows import PortRow
from controller.reconcilers.picture import Picture
from tests.core.worlds import MAC, NOW, make_pod, make_row, make_subnet, notes_of

SUBNETS = ("net", "dual", "external")
CIDRS = {
    "net": ("10.0.0.0/29", "10.0.0.0/28", "10.0.0.8/29", "nonsense"),
    "dual": ("10.1.0.0/29,fd00::/125", "10.1.0.0/29"),
    "external": ("10.2.0.0/29", "10.0.0.0/29"),  # the second one overlaps
}
V4 = (*(f"10.{net}.0.{host}" for net in range(3) for host in (2, 3, 4, 9)), "", "x")
V6 = ("fd00::2", "FD00::3", "", "")
ADDRESSES = tuple(parse_address(text.lower()) for text in (*V4, *V6) if text not in {"", "x"})
MACS = (MAC, "0a:00:00:00:00:02")
NAMES = ("web", "api")
OUR, THEIRS = ("kubeovn.io/kube-ovn-controller",), ("example.com/keeper",)

IPS = ("web.default", "api.default", "node-a", "u2o-interconnection.ovn-cluster.net", "mark")
GRANTS = (  # few, so that one object is seen in many states
    ("10.0.0.2", "", MAC, "net"),
    ("10.0.0.3", "", "", "net"),
    ("10.1.0.2", "fd00::2", MACS[1].upper(), "dual"),
    ("10.2.0.2", "", "x", "external"),
)
v4s, v6s, subnets, names = st.sampled_from(V4), st.sampled_from(V6), st.sampled_from(SUBNETS), st.sampled_from(NAMES)
macs = st.sampled_from((MACS[0], MACS[1].upper(), "", "x"))
labels = st.sampled_from(
    (
        {},
        {naming.RESERVED: "true"},
        {naming.RESERVED: "false"},
        {naming.RESERVED: "web.default", naming.SUBNET_LABEL: "net"},
        {naming.RESERVED: "true", naming.SUBNET_LABEL: "dual"},
    )
)


@st.composite
def metas(draw: st.DrawFn, name: str = "", namespace: str = "") -> Meta:
    return Meta(
        name=name or draw(names),
        namespace=namespace,
        labels=dict(draw(labels)),
        finalizers=draw(st.sampled_from(((), OUR, THEIRS, (*OUR, *THEIRS)))),
        deletion_timestamp=draw(st.sampled_from((None, None, "2026-01-01T00:00:00Z"))),
    )


@st.composite
def ips(draw: st.DrawFn, names: tuple[str, ...] = IPS, grants: tuple[tuple[str, ...], ...] = GRANTS) -> Ip:
    """An IP whose grant, if it is one, can be told from the object: memory is no record (views.granted)."""
    name = draw(st.sampled_from(names))
    special = name.startswith(("node", "u2o"))
    four, six, mac, subnet = draw(st.sampled_from(grants))
    spec = IpSpec(
        subnet=subnet,
        pod_name=name if special else name.partition(".")[0],
        namespace="" if special else "default",
        v4_ip_address=four,
        v6_ip_address=six,
        ip_address=",".join(filter(None, (four, six))),
        mac_address=mac,
    )
    told = Recorded(
        subnet=subnet, pod_name="web", namespace="default", v4_ip_address=four, v6_ip_address=six.lower(),
        mac_address=mac, reserved="true",
    )  # fmt: skip
    uid = repr((name, spec))  # another grant is another object
    meta = draw(metas(name))
    if name != "mark" and not meta.deleting:  # our finalizer, taken off by hand, is put back: that is not at rest
        meta = msgspec.structs.replace(meta, finalizers=tuple({*meta.finalizers, *OUR}))
    if naming.SUBNET_LABEL in meta.labels:
        meta.labels[naming.SUBNET_LABEL] = subnet
    if name == "mark":
        meta = msgspec.structs.replace(meta, finalizers=tuple({*meta.finalizers} - {*OUR}))
    return Ip(
        metadata=msgspec.structs.replace(meta, uid=uid),
        spec=spec,
        status=IpStatus(recorded=told) if name != "mark" and draw(st.booleans()) else IpStatus(),
    )


@st.composite
def pods(draw: st.DrawFn) -> Any:
    notes = notes_of(",".join(filter(None, (draw(v4s), draw(v6s)))), draw(macs), logical_switch=draw(subnets))
    name = draw(names)
    return make_pod(
        name,
        notes=draw(st.sampled_from((notes, notes, {}))),
        host_network=draw(st.sampled_from((False, False, True))),
        phase=draw(st.sampled_from(("Running", "Succeeded"))),
        restart_policy="Never",
        owner=None,
    )


@st.composite
def some_subnets(draw: st.DrawFn) -> Any:
    name = draw(subnets)
    excludes = draw(st.sampled_from(((), ("10.0.0.3..10.0.0.4",), ("10.9.9.9",))))
    deleting = draw(st.sampled_from((False, False, True)))
    subnet = make_subnet(name, draw(st.sampled_from(CIDRS[name])), exclude_ips=excludes, deleting=deleting)
    status = SubnetStatus(
        conditions=(Condition(type="Validated", status="True"),),  # in use: a node that comes does not stop it
        u2o_interconnection_ip=",".join((draw(v4s), draw(v6s))),
        u2o_interconnection_mac=draw(macs),
        mcast_querier_ip=draw(v4s),
    )
    return msgspec.structs.replace(subnet, status=status)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    addresses = tuple(NodeAddress(type="InternalIP", address=text) for text in (draw(v4s), draw(v6s)))
    return Node(metadata=Meta(name=draw(names)), status=NodeStatus(addresses=addresses))


@st.composite
def vips(draw: st.DrawFn) -> Vip:
    where, kind = draw(st.sampled_from((*SUBNETS, ""))), draw(st.sampled_from(("", "switch_lb_vip")))
    return Vip(
        metadata=draw(metas()),
        spec=VipSpec(subnet=where, namespace="default", type=kind, v4ip=draw(v4s), v6ip=draw(v6s)),
        status=VipStatus(v4ip=draw(v4s), v6ip=draw(v6s), mac=draw(macs)),
    )


@st.composite
def iptables_eips(draw: st.DrawFn) -> IptablesEip:
    spec = IptablesEipSpec(
        external_subnet=draw(st.sampled_from((*SUBNETS, ""))), v4ip=draw(v4s), mac_address=draw(macs)
    )
    return IptablesEip(metadata=draw(metas()), spec=spec, status=IptablesEipStatus(ip=draw(v4s)))


@st.composite
def ovn_eips(draw: st.DrawFn) -> OvnEip:
    spec = OvnEipSpec(external_subnet=draw(st.sampled_from((*SUBNETS, ""))), v4_ip=draw(v4s), v6_ip=draw(v6s))
    return OvnEip(metadata=draw(metas()), spec=spec, status=OvnEipStatus(v4_ip=draw(v4s), mac_address=draw(macs)))


@st.composite
def rows(draw: st.DrawFn) -> PortRow:
    """A pod's port, a Vip's, which looks like one, an EIP's, or a stranger's; some do not say where they are."""
    where, line = draw(st.sampled_from((*SUBNETS, ""))), " ".join((MAC, draw(v4s), draw(v6s)))
    made_for = draw(st.sampled_from(("pod", "vip", "eip", "stranger")))
    if made_for in {"eip", "stranger"}:
        vendor = ("vendor", "kube-ovn" if made_for == "eip" else "other")
        return PortRow("web", (line,), tuple(sorted({("ls", where), vendor} if where else {vendor})))
    ids = {"pod_uid": ""} if made_for == "vip" else {}
    return make_row(ls=where, **ids)._replace(addresses=(line,))


KINDS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.IP: ips(),
    Kind.POD: pods(),
    Kind.SUBNET: some_subnets(),
    Kind.NODE: nodes(),
    Kind.VIP: vips(),
    Kind.IPTABLES_EIP: iptables_eips(),
    Kind.OVN_EIP: ovn_eips(),
}
Change = tuple[Kind | None, Any, bool]
gone = st.sampled_from((False, False, False, True))
changes: st.SearchStrategy[Change] = st.one_of(
    *(st.tuples(st.just(kind), one, gone) for kind, one in KINDS.items()), st.tuples(st.none(), rows(), gone)
)
one_ips_life: st.SearchStrategy[Change] = st.tuples(
    st.just(Kind.IP), ips(names=("web.default",), grants=GRANTS[:1]), gone
)
histories = st.one_of(st.lists(changes, max_size=25), st.lists(one_ips_life, max_size=6))


def change(picture: Picture, version: int, kind: Kind | None, one: Any, *, gone: bool) -> None:
    """Show one change to the picture as the controller does."""
    if kind is None:
        seen, _ = picture.ports.apply(version, 1, version == 0, {one.name: None if gone else one}, {})
        for name, old, new in seen:
            list(picture.see_port(name, old, new, NOW))
        return
    shown = msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, resource_version=str(version)))
    found = picture.replica(kind).apply(version, shown, gone)
    if found is not None:
        list(picture.see(kind, found[1], found[2], NOW))


def read(order: list[Kind | None], world: dict[Kind, dict[str, Object]], ports: dict[str, PortRow]) -> Picture:
    """What a new process makes of the world, reading its sources in that order."""
    picture = Picture()
    for kind in order:
        if kind is None:
            for name, old, new in picture.ports.apply(1, 1, True, dict(ports), {})[0]:
                list(picture.see_port(name, old, new, NOW))
            continue
        for _, old_, new_ in picture.replica(kind).replace(tuple(world[kind].values()), 1):
            list(picture.see(kind, old_, new_, NOW))
    return picture


def knowledge(picture: Picture) -> dict[str, Any]:
    """All that the ledger answers, but for what only time teaches: who let go of what, and who came first."""
    book = picture.ledger
    found: dict[str, Any] = {
        subnet: {
            "holders": {address: set(book.holders(subnet, address)) for address in ADDRESSES},
            "barred": {address for address in ADDRESSES if book.barred(address)},
            "users": set(book.users(subnet)),
            "usage": {
                family: (one.using, one.available, one.counts, sorted(one.outside))
                for family, one in (book.usage(subnet) or {}).items()
            },
            "counts": book.counts(subnet),
            "plan": book.plan(subnet),
            "duplicates": set(book.duplicates(subnet)),
        }
        for subnet in SUBNETS
    }
    return found | {mac: set(book.mac_holders(parse_mac(mac))) for mac in MACS}


@settings(max_examples=400)
@given(histories, st.permutations([*KINDS, None]))
def test_the_ledger_after_a_restart_is_the_ledger_before_it(history: list[Change], order: list[Kind | None]) -> None:
    """For every kind of owner, and in whatever order the sources come (bug rows 8 and 43)."""
    before = Picture()
    world: dict[Kind, dict[str, Object]] = {kind: {} for kind in KINDS}
    ports: dict[str, PortRow] = {}
    before.ports.apply(0, 1, True, {}, {})
    for version, (kind, one, gone) in enumerate(history, 1):
        change(before, version, kind, one, gone=gone)
        content: dict[str, Any] = ports if kind is None else world[kind]
        name = one.name if kind is None else one.metadata.name
        if gone:
            content.pop(name, None)
        else:
            content[name] = one

    assert knowledge(before) == knowledge(read(order, world, ports))
