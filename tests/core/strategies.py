"""Arbitrary, also impossible, Views; and wreckage: states of a cluster that no controller would ever leave behind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from controller.core import naming
from controller.core.addresses import parse_mac
from controller.core.catalogue import Message, Reason
from controller.core.decisions import namespace as of_namespace
from controller.core.decisions import nic as of_nic
from controller.core.decisions import pod as of_pod
from controller.core.decisions import pool as of_pool
from controller.core.decisions import reservation as of_reservation
from controller.core.decisions import subnet as of_subnet
from controller.core.decisions.binding import Bidder
from controller.core.decisions.entitlement import Declared
from controller.core.decisions.placement import Ask, Entry, Home, Place
from controller.core.decisions.realise import Held
from controller.core.decisions.release import Grounds
from controller.core.decisions.retention import MachineOwner, MachineState, Pods, SetOwner, SetState, Template
from controller.core.effects import PutAddressSet, PutPort, PutSwitch
from controller.core.ipam import Source
from controller.core.neighbours import Pool, PoolSpec, PoolStatus
from controller.core.objects import (
    FINALIZER,
    OLD_FINALIZER,
    Condition,
    Ip,
    IpSpec,
    IpStatus,
    Kind,
    LabelExpression,
    LabelSelector,
    Meta,
    Namespace,
    OwnerRef,
    Pod,
    PodSpec,
    PodStatus,
    Recorded,
    Subnet,
    SubnetSpec,
)
from controller.core.pools import Items, read_items
from controller.core.rows import AddressSetRow, PortRow, SwitchRow
from controller.machines.ledger import Ledger
from tests.core.worlds import MAC, MAC2, NOTE, SLASH_29, STAMP, STS, VM, Tiny, hold, layout, make_subnet, place_of

HOSTILE = (
    "",
    "x" * 253,
    "x" * 70_000,
    "näme-名前",
    "\x00\ud800",
    "a.b.c.d",
    "{braces} %s",
    ",;,",
    "-",
    naming.RESERVED,
    "10.0.0.300",
    "FD00::2",
    "::ffff:10.0.0.2",
    "00:00:00:86:C6:36",
    "9" * 5000,
)
KNOWN = ("net", "other", "web", "default", "web-0", "web.default", "true", "false")
FRIENDLY = ("10.0.0.2", "10.0.0.3", "fd00::2", "10.0.0.2,fd00::2", MAC, MAC2, "StatefulSet", "VirtualMachine")
texts = st.sampled_from(KNOWN + FRIENDLY + HOSTILE) | st.text(max_size=6)
stamps = st.none() | st.just(STAMP)
keys = st.sampled_from(
    [naming.RESERVED, naming.SUBNET_LABEL, naming.NODE_LABEL, naming.CUT_OFF, naming.NETWORKS, naming.OWNER_UID]
)
notes = st.sampled_from(
    [NOTE + k for k in ("ip_address", "mac_address", "logical_switch", "allocated", "routed", "ip_pool", "vip")]
)
finalizers = st.lists(st.sampled_from([FINALIZER, OLD_FINALIZER, "x.io/y"]), max_size=3).map(tuple)
owners = st.sampled_from([VM, STS, OwnerRef(kind="Node", name="a"), OwnerRef()])
metas = st.builds(
    Meta,
    name=texts,
    namespace=texts,
    uid=st.sampled_from(["u1", "u2"]),
    resource_version=st.just("7"),
    generation=st.integers(0, 3),
    deletion_timestamp=stamps,
    labels=st.dictionaries(keys | texts, texts, max_size=3),
    annotations=st.dictionaries(notes | keys, texts, max_size=6),
    finalizers=finalizers,
    owner_references=st.lists(owners, max_size=1).map(tuple),
)
grants = st.builds(Recorded, *(), **dict.fromkeys(Recorded.__struct_fields__, texts))
conditions = st.lists(st.builds(Condition, type=texts, status=texts, reason=texts, message=texts), max_size=3).map(
    tuple
)
ips = st.builds(
    Ip,
    metadata=metas,
    spec=st.builds(IpSpec, **dict.fromkeys(IpSpec.__struct_fields__, texts)),
    status=st.builds(IpStatus, conditions=conditions, recorded=st.none() | grants, used_by=texts),
    fault=st.sampled_from(["", "", "broken"]),
)
pods = st.builds(
    Pod,
    metadata=metas,
    spec=st.builds(PodSpec, node_name=st.sampled_from(["", "node-a"]), restart_policy=texts),
    status=st.builds(PodStatus, phase=st.sampled_from(["", "Running", "Failed", "Succeeded"])),
)
lines = st.sampled_from([f"{MAC} 10.0.0.2", f"{MAC2} 10.0.0.3 fd00::3", MAC, "unknown", "10.0.0.4"]) | texts
rows = st.builds(
    PortRow,
    name=texts,
    addresses=st.lists(lines, max_size=2).map(tuple),
    external_ids=st.dictionaries(
        st.sampled_from(["vendor", "ls", "pod", "pod-uid"]), st.just("kube-ovn") | texts, max_size=4
    ).map(lambda ids: tuple(sorted(ids.items()))),
    type=st.sampled_from(["", "", "router"]),
    options=st.sampled_from([(), (("arp_proxy", "x"),), (("requested-chassis", "a,b"),)]),
    uuid=st.just("row-uuid"),
)
messages = st.builds(Message, st.sampled_from(Reason), texts)
NET = make_subnet()
DUAL = make_subnet(cidr="10.0.0.0/29,fd00::/125")
AWAY = make_subnet(provider="n.d", vpc="")
BARE = make_subnet(cidr="", vlan="v100", exclude_ips=())


@st.composite
def places(draw: st.DrawFn) -> Place:
    """As the atlas makes them: usable with a plan, or not with a reason."""
    subnet = draw(st.sampled_from([NET, DUAL, AWAY, BARE]))
    if draw(st.integers(0, 3)):
        return place_of(subnet, switch=draw(st.booleans()))
    return Place(draw(texts), draw(st.none() | st.just(subnet)), None, switch=False, problem=draw(messages))


@st.composite
def books(draw: st.DrawFn) -> Ledger:
    """A ledger with anything in it."""
    ledger = Ledger()
    ledger.configure("net", layout(draw(st.sampled_from([NET, DUAL]))).plan)
    for port in draw(st.lists(st.sampled_from(["web.default", "api.default", "x"]), max_size=3)):
        address = draw(st.sampled_from(["10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::2"]))
        hold(ledger, port, address, draw(st.sampled_from(Source)), draw(st.sampled_from(["", MAC, MAC2])))
    return ledger


entries = st.builds(Entry, st.none() | st.integers(0x0A000000, 0x0A000008), st.none() | st.integers(2**120, 2**128 - 1))
asks = st.builds(
    Ask,
    st.none() | entries,
    st.none() | st.sampled_from([parse_mac(MAC), parse_mac(MAC2)]),
    st.lists(entries, max_size=2).map(tuple),
)


topics = st.lists(st.tuples(st.just("space"), texts, st.just("blue")), max_size=2).map(tuple)
homes = st.builds(Home, texts, st.sampled_from(["", "", "blue"]), st.none() | messages, topics, topics)


@st.composite
def bidders(draw: st.DrawFn) -> Bidder:
    """Claimants whose fields need not fit together."""
    one = draw(pods)
    owner = naming.owner_of(one) if draw(st.booleans()) else naming.Owner("default", "web")
    port = draw(st.just("web.default") | texts)
    running = draw(st.booleans())
    return Bidder(
        one, port, owner, naming.pod_type(one), draw(homes), draw(st.none() | asks), running, draw(texts), draw(texts)
    )


helds = st.builds(
    Held, st.just("web.default") | texts, st.none() | ips, st.none() | rows, st.none() | grants, st.booleans()
)

templates = st.builds(
    Template,
    st.dictionaries(st.sampled_from([naming.NETWORKS, NOTE + "logical_switch", NOTE + "ip_pool"]), texts, max_size=2),
    st.lists(st.builds(Declared, texts, st.booleans()), max_size=2).map(tuple),
)
uids = st.sampled_from(["", "sts", "vm", "another"])
set_states = st.builds(SetState, uids, st.booleans(), st.integers(-2, 3), st.integers(-1, 4), templates)
machine_states = st.builds(MachineState, uids, st.booleans(), templates)


queues = st.sets(
    st.sampled_from([("space", "net"), ("space", "net", "", "IPv4"), ("space", "net", "", "IPv6"), ("space", "x")])
).map(frozenset)


@st.composite
def nic_views(draw: st.DrawFn) -> of_nic.View:
    """Any View of one NIC: somebody always bids for it."""
    return of_nic.View(
        bidders=tuple(draw(st.lists(bidders(), min_size=1, max_size=2))),
        place=draw(places()),
        held=draw(helds),
        book=draw(books()),
        unreadable=draw(st.none() | messages),
        reservation_refusal=draw(st.none() | messages),
        queued=draw(queues),
        dice=draw(st.integers(0, 2**46)),
        age=draw(st.sampled_from([-5.0, 0.0, 1.0, 100.0])),
        port_in_doubt=draw(st.booleans()),
        owner_uid=draw(uids),
        options=draw(st.none() | st.just({}) | st.just({"requested-chassis": "a,b"})),
    )


workloads = (
    st.none()
    | st.builds(SetOwner, st.booleans(), st.none() | set_states)
    | st.builds(MachineOwner, st.booleans(), st.none() | machine_states, st.booleans(), st.booleans())
)
grounds = st.builds(
    Grounds,
    gone_proved=st.booleans(),
    pods=st.sampled_from(Pods),
    workloads=st.dictionaries(st.sampled_from(["StatefulSet", "VirtualMachine"]), workloads, max_size=2),
    gone=st.sets(uids).map(frozenset),
    listed=st.lists(texts, max_size=2).map(tuple),
    migrates=st.booleans(),
)


@st.composite
def pod_views(draw: st.DrawFn) -> of_pod.View:
    """Any View of one owner."""
    return of_pod.View(
        owner=naming.Owner("default", draw(st.just("web") | texts)),
        nics=tuple(draw(st.lists(nic_views(), max_size=2))),
        left=tuple(draw(st.lists(helds, max_size=3))),
        grounds=draw(grounds),
        bystanders=draw(st.booleans()),
        finished=draw(st.none() | pods),
    )


reservation_views = st.builds(
    of_reservation.View,
    name=st.just("web.default") | texts,
    ip=st.none() | ips,
    row=st.none() | rows,
    place=places(),
    book=books(),
    bidders=st.lists(bidders(), max_size=2).map(tuple),
    recorded=st.none() | grants,
    under_way=st.booleans(),
    promised=st.booleans(),
    queued=queues,
    dice=st.integers(0, 2**46),
    stamp=st.just(STAMP),
    protect_in_use=st.booleans(),
    port_in_doubt=st.booleans(),
    others=st.lists(texts, max_size=2).map(tuple),
)
selectors = st.builds(
    LabelSelector,
    match_labels=st.dictionaries(texts, texts, max_size=2),
    match_expressions=st.lists(
        st.builds(LabelExpression, key=texts, operator=st.sampled_from(["In", "NotIn", "Exists", "?"])), max_size=2
    ).map(tuple),
)
subnets = st.builds(
    Subnet,
    metadata=metas,
    spec=st.builds(
        SubnetSpec,
        cidr_block=st.sampled_from([SLASH_29, "10.0.0.0/29,fd00::/125", "fd00::/127"]) | texts,
        gateway=texts,
        exclude_ips=st.lists(texts | st.just("10.0.0.2..10.0.0.4"), max_size=2).map(tuple),
        provider=st.sampled_from(["", "ovn", "n.d", "n.d.ovn"]) | texts,
        namespaces=st.lists(texts, max_size=2).map(tuple),
        namespace_selectors=st.lists(selectors, max_size=2).map(tuple),
    ),
    fault=st.sampled_from(["", "", "", "broken"]),
)


@st.composite
def subnet_views(draw: st.DrawFn) -> of_subnet.View:
    """Any Subnet with the layout that it really has."""
    subnet = draw(st.none() | subnets)
    ids = draw(st.sampled_from([(("vendor", "kube-ovn"),), (("vendor", "x"),), ()]))
    return of_subnet.View(
        name=subnet.metadata.name if subnet else "net",
        subnet=subnet,
        layout=of_subnet.layout_of(subnet) if subnet else of_subnet.UNKNOWN,
        overlap=draw(st.none() | messages),
        switch=draw(st.none() | st.just(SwitchRow("net", ids, "switch-uuid"))),
        usage=draw(st.none() | books().map(lambda book: book.usage("net"))),
        users=tuple(draw(st.lists(texts, max_size=2))),
        user_count=draw(st.integers(0, 2)),
        stamp=STAMP,
    )


pools = st.builds(
    Pool,
    metadata=metas,
    spec=st.builds(
        PoolSpec,
        subnet=texts,
        ips=st.lists(st.sampled_from(["10.0.0.2..10.0.0.4", "10.0.0.4/30", "fd00::2"]) | texts, max_size=3).map(tuple),
        namespaces=st.lists(texts, max_size=2).map(tuple),
        enable_address_set=st.booleans(),
    ),
    status=st.builds(PoolStatus, conditions=conditions),
    fault=st.sampled_from(["", "", "", "broken"]),
)
pool_ids = st.dictionaries(st.sampled_from(["ippool", "vendor", "x"]), st.sampled_from(["blue", "kube-ovn", "y"]))


@st.composite
def pool_views(draw: st.DrawFn) -> of_pool.View:
    """Any IPPool with what its items really say, and any Address_Set of its name."""
    pool = draw(st.none() | pools)
    ids = tuple(sorted(draw(pool_ids).items()))
    row = st.builds(AddressSetRow, texts, st.just(("10.0.0.2",)), st.just(ids), st.just("set-uuid"))
    return of_pool.View(
        name=(pool.metadata.name if pool and draw(st.booleans()) else "") or "blue",  # no object's name is empty
        pool=pool,
        items=read_items(pool.spec.ips) if pool else Items(),
        complaint=draw(st.none() | messages),
        usage=draw(st.none() | books().map(lambda book: book.pool_usage("net", "blue"))),
        row=draw(st.none() | row),
        stamp=STAMP,
    )


namespace_views = st.builds(
    of_namespace.View,
    st.none() | st.builds(Namespace, metadata=metas),
    st.lists(subnets, max_size=2).map(tuple),
    st.lists(subnets, max_size=2).map(tuple),
    st.lists(st.just("blue") | texts, max_size=2, unique=True).map(tuple),
    st.lists(pools, max_size=2).map(tuple),
)


# -- wreckage --------------------------------------------------------------------------------------

ADDRESSES = ("10.0.0.2", "10.0.0.3", "10.0.0.4")


def _ip_doc(draw: st.DrawFn, name: str, pod: str) -> dict[str, Any]:
    address = draw(st.sampled_from([*ADDRESSES, "", "10.9.9.9", "nonsense"]))
    spec = {
        "subnet": draw(st.sampled_from(["net", "net", "net", "gone"])),
        "podName": draw(st.sampled_from([pod, pod, pod, "else"])),
        "namespace": "default",
        "podType": draw(st.sampled_from(["", "", "VirtualMachine", "StatefulSet", "StatefulSet"])),
        "v4IpAddress": address,
        "ipAddress": draw(st.sampled_from([address, ""])),
        "macAddress": draw(st.sampled_from([MAC, "", "00:00:00:86:C6:36"])),
    }
    label = draw(
        st.sampled_from([{}, {naming.RESERVED: "true"}, {naming.RESERVED: "false"}, {naming.RESERVED: "maybe"}])
    )
    held = draw(st.sampled_from([[], [FINALIZER], [OLD_FINALIZER], ["x.io/y"], [FINALIZER, "x.io/y"]]))
    notes = draw(st.sampled_from([{}, {}, {naming.OWNER_UID: "another"}]))
    return {"metadata": {"name": name, "labels": label, "finalizers": held, "annotations": notes}, "spec": spec}


def _add_ip(draw: st.DrawFn, tiny: Tiny, name: str, pod: str) -> None:
    doc = _ip_doc(draw, name, pod)
    tiny.store.create(Kind.IP, "", name, doc, "user")
    if draw(st.integers(0, 2)) == 0:
        status = {"recorded": {**doc["spec"], "reserved": "true", "v4IpAddress": draw(st.sampled_from(ADDRESSES))}}
        tiny.store.patch(Kind.IP, "", name, {"status": status}, "user", "status")
    if draw(st.integers(0, 3)) == 0:
        tiny.store.delete(Kind.IP, "", name, "", "user")


def _add_row(draw: st.DrawFn, tiny: Tiny, name: str, pod: str) -> None:
    address = draw(st.sampled_from(ADDRESSES))
    ids = {
        "vendor": draw(st.sampled_from(["kube-ovn", "kube-ovn", "kube-ovn", "x"])),
        "pod": draw(st.sampled_from([f"default/{pod}", f"default/{pod}", "default/else", ""])),
        "pod-uid": draw(st.sampled_from(["", "former"])),
        "ls": "net",
    }
    kept = tuple(sorted((k, v) for k, v in ids.items() if v))
    tiny.database.commit((PutPort(PortRow(name, (f"{draw(st.sampled_from([MAC, MAC2]))} {address}",), kept)),), "user")


OF_OVN, OF_MAC = "n.default.ovn", "m.default"
LISTS = ("", "n", "n,m", "m", "n@a,n@b", "n,gone", "[", "n,n")


def _nic_notes(draw: st.DrawFn) -> dict[str, str]:
    """What a pod lists, and what its annotations say of NICs that it may have, or have had."""
    listed = draw(st.sampled_from(LISTS))
    found = {naming.NETWORKS: listed} if listed else {}
    if draw(st.integers(0, 5)) == 0:
        found[naming.DEFAULT_NETWORK] = draw(st.sampled_from(["gone", "n", "default/other"]))
    for provider, prefix in ((OF_OVN, "10.1.0."), (f"{OF_OVN}.a", "10.1.0."), (OF_MAC, "10.2.0.")):
        if draw(st.integers(0, 2)) == 0:
            found[naming.annotation(provider, "ip_address")] = prefix + draw(st.sampled_from("234"))
            found[naming.annotation(provider, "allocated")] = draw(st.sampled_from(["true", "true", ""]))
            if provider != OF_MAC:
                found[naming.annotation(provider, "logical_switch")] = draw(st.sampled_from(["more", "more", "gone"]))
                found[naming.annotation(provider, "mac_address")] = draw(st.sampled_from([MAC, MAC2, ""]))
    return found


def _add_networks(draw: st.DrawFn, tiny: Tiny) -> None:
    """Two further networks: their subnets and definitions may be missing, or be another thing by now."""
    for name, cidr, provider in (("more", "10.1.0.0/29", OF_OVN), ("third", "10.2.0.0/29", OF_MAC)):
        if draw(st.integers(0, 5)):
            spec = {"cidrBlock": cidr, "provider": provider}
            tiny.store.create(Kind.SUBNET, "", name, {"metadata": {"finalizers": [FINALIZER]}, "spec": spec}, "user")
    tiny.database.commit((PutSwitch("more"),), "user")
    ours = {"n": '{"type": "kube-ovn"}', "m": '{"type": "x", "ipam": {"type": "kube-ovn"}}'}
    for name, config in ours.items():
        if draw(st.integers(0, 4)):
            text = draw(st.sampled_from([config, config, config, "{", '{"type": "x"}', ""]))
            tiny.store.create(Kind.NAD, "default", name, {"spec": {"config": text}}, "user")


def _add_nic(draw: st.DrawFn, tiny: Tiny, pod: str, provider: str) -> None:
    """What one NIC may have left behind."""
    name, home = f"{pod}.default.{provider}", "third" if provider == OF_MAC else "more"
    address = ("10.2.0." if provider == OF_MAC else "10.1.0.") + draw(st.sampled_from("234"))
    if draw(st.booleans()):
        spec = {"subnet": home, "podName": pod, "namespace": "default", "v4IpAddress": address, "ipAddress": address}
        label = draw(st.sampled_from([{}, {naming.RESERVED: "true"}, {naming.RESERVED: "false"}]))
        held = draw(st.sampled_from([[], [FINALIZER], [FINALIZER], ["x.io/y"]]))
        meta = {"name": name, "labels": label, "finalizers": held}
        tiny.store.create(Kind.IP, "", name, {"metadata": meta, "spec": spec}, "user")
        if draw(st.integers(0, 4)) == 0:
            tiny.store.delete(Kind.IP, "", name, "", "user")
    if provider != OF_MAC and draw(st.booleans()):
        ids = (
            ("ls", "more"),
            ("pod", f"default/{pod}"),
            ("vendor", draw(st.sampled_from(["kube-ovn", "kube-ovn", "x"]))),
        )
        tiny.database.commit(
            (PutPort(PortRow(name, (f"{draw(st.sampled_from([MAC, MAC2]))} {address}",), ids)),), "user"
        )


def _add_pod(draw: st.DrawFn, tiny: Tiny, name: str, owner: OwnerRef | None) -> None:
    has = draw(st.booleans())
    annotations = {NOTE + "ip_address": draw(st.sampled_from([*ADDRESSES, "nonsense", ""]))}
    if has:
        annotations |= {NOTE + "allocated": "true", NOTE + "logical_switch": "net"}
        annotations[NOTE + "mac_address"] = draw(st.sampled_from([MAC, MAC2, ""]))
        if draw(st.booleans()):
            annotations[NOTE + "virtualmachine"] = "web"
    elif draw(st.booleans()):
        annotations = draw(st.sampled_from([{}, {}, {NOTE + "ip_pool": "blue"}, {NOTE + "ip_family": "ipv4"}]))
    annotations |= _nic_notes(draw) if tiny.store.views[Kind.NAD] else {}
    metadata: dict[str, Any] = {"name": name, "annotations": annotations}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"kind": owner.kind, "name": owner.name, "apiVersion": owner.api_version, "uid": owner.uid}
        ]
    policy = draw(st.sampled_from(["Always", "Never"]))
    spec = {"nodeName": draw(st.sampled_from(["", "node-a"])), "restartPolicy": policy}
    status = {"phase": draw(st.sampled_from(["Running", "Running", "Running", "Succeeded"]))}
    tiny.store.create(Kind.POD, "default", name, {"metadata": metadata, "spec": spec, "status": status}, "user")
    if draw(st.integers(0, 3)) == 0:
        tiny.store.delete(Kind.POD, "default", name, "", "user", grace=30)


def _add_pools(draw: st.DrawFn, tiny: Tiny) -> None:
    """Pools that may overlap, be broken or going, and sets of theirs and others'."""
    for name in draw(st.sampled_from([(), (), ("blue",), ("blue", "red")])):
        ips = draw(st.lists(st.sampled_from(["10.0.0.3", "10.0.0.4..10.0.0.6", "10.9.9.9", "bad"]), max_size=2))
        spec = {
            "subnet": draw(st.sampled_from(["net", "net", "gone"])),
            "ips": ips,
            "namespaces": draw(st.sampled_from([[], ["default"]])),
            "enableAddressSet": draw(st.booleans()),
        }
        held = draw(st.sampled_from([[], [FINALIZER], [OLD_FINALIZER], ["x.io/y"]]))
        tiny.store.create(Kind.POOL, "", name, {"metadata": {"finalizers": held}, "spec": spec}, "user")
        if draw(st.integers(0, 3)) == 0:
            tiny.store.delete(Kind.POOL, "", name, "", "user")
    for name in draw(st.sampled_from([(), ("blue",), ("left",)])):
        ids = (("ippool", draw(st.sampled_from([name, "other"]))), ("vendor", draw(st.sampled_from(["kube-ovn", "x"]))))
        tiny.database.commit((PutAddressSet(AddressSetRow(name, ("10.0.0.9",), ids)),), "user")


def _add_owner(draw: st.DrawFn, tiny: Tiny, kind: str, name: str) -> None:
    """The StatefulSet or the VM, or what is left of it."""
    template = {"metadata": {"annotations": draw(st.sampled_from([{}, {NOTE + "logical_switch": "gone"}]))}}
    held = draw(st.sampled_from([[], [], ["x.io/y"]]))
    for one in {"StatefulSet": (Kind.STATEFUL_SET,), "VirtualMachine": (Kind.VM, Kind.VMI)}.get(kind, ()):
        if draw(st.integers(0, 2)) == 0:
            continue
        spec = {"template": template} | ({"replicas": draw(st.integers(0, 3))} if kind == "StatefulSet" else {})
        tiny.store.create(one, "default", name, {"metadata": {"finalizers": held}, "spec": spec}, "user")
        if draw(st.integers(0, 3)) == 0:
            tiny.store.delete(one, "default", name, "", "user")


@st.composite
def wrecks(draw: st.DrawFn) -> Tiny:
    """One port's three records and a rival's, each in any state, in a subnet that may not be there."""
    tiny = Tiny()
    if draw(st.integers(0, 5)):
        shape = draw(st.sampled_from([{"cidrBlock": SLASH_29}, {"cidrBlock": SLASH_29}, {"vlan": "v100"}]))
        spec = {"default": True, **shape}
        tiny.store.create(Kind.SUBNET, "", "net", {"metadata": {"finalizers": [FINALIZER]}, "spec": spec}, "user")
    tiny.database.commit((PutSwitch("net"),), "user")
    _add_pools(draw, tiny)
    kind = draw(st.sampled_from(["", "", "VirtualMachine", "StatefulSet"]))
    tail = "-1" if kind == "StatefulSet" else ""
    if draw(st.booleans()):
        _add_networks(draw, tiny)
    for pod in (f"web{tail}", *draw(st.sampled_from([(), (f"api{tail}",)]))):
        name = f"{pod}.default"
        if draw(st.booleans()):
            _add_ip(draw, tiny, name, pod)
        if draw(st.booleans()):
            _add_row(draw, tiny, name, pod)
        for provider in (OF_OVN, f"{OF_OVN}.a", OF_MAC) if tiny.store.views[Kind.NAD] else ():
            _add_nic(draw, tiny, pod, provider)
        vmi = OwnerRef(kind="VirtualMachineInstance", name=pod, uid="vm", api_version="kubevirt.io/v1")
        sts = OwnerRef(kind="StatefulSet", name=pod.removesuffix(tail), uid="sts", api_version="apps/v1")
        launchers = (f"virt-{pod}-1", f"virt-{pod}-2") if kind == "VirtualMachine" else (pod,)
        for one in launchers:
            if draw(st.booleans()):
                _add_pod(draw, tiny, one, {"": None, "VirtualMachine": vmi, "StatefulSet": sts}[kind])
        _add_owner(draw, tiny, kind, pod.removesuffix(tail))
    tiny.restart()
    return tiny
