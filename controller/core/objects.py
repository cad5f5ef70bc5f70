"""Frozen views of the Kubernetes objects we read, with only the fields we use.

`parse` is total over whatever an API server may hold: an object with a name always yields a view, one that breaks
its schema yields a view with `fault` set (contract §8: bad input is an error on that object, nothing else waits).
Absent and null strings are "" (kube-ovn-behaviour §23.9).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NewType, TypeAlias

import msgspec

from controller.core.faults import Malformed
from controller.core.meta import FINALIZER, OLD_FINALIZER, OUR_FINALIZERS, Base, Condition, Meta, OwnerRef
from controller.core.neighbours import (
    IptablesEip,
    Migration,
    Nad,
    OvnEip,
    Pool,
    StatefulSet,
    Vip,
    VirtualMachine,
    VirtualMachineInstance,
)
from controller.core.sharing import share_fields, share_meta, share_with

__all__ = ["FINALIZER", "OLD_FINALIZER", "OUR_FINALIZERS", "Condition", "Meta", "OwnerRef"]

Seconds: TypeAlias = float
Uid = NewType("Uid", str)


class Kind(StrEnum):
    """The kinds that are watched, and Lease, which is only read and written by name."""

    IP = "IP"
    POD = "Pod"
    SUBNET = "Subnet"
    NAMESPACE = "Namespace"
    NODE = "Node"
    STATEFUL_SET = "StatefulSet"
    POOL = "IPPool"
    NAD = "NetworkAttachmentDefinition"
    VM = "VirtualMachine"
    VMI = "VirtualMachineInstance"
    MIGRATION = "VirtualMachineInstanceMigration"
    VIP = "Vip"
    IPTABLES_EIP = "IptablesEIP"
    OVN_EIP = "OvnEip"
    LEASE = "Lease"


class IpSpec(Base, frozen=True, gc=False):
    """Kube-OVN's IP spec (kube-ovn-behaviour §3.1) without the legacy attach lists."""

    subnet: str = ""
    pod_name: str = ""
    namespace: str = ""
    pod_type: str = ""
    node_name: str = ""
    ip_address: str = ""
    v4_ip_address: str = ""
    v6_ip_address: str = ""
    mac_address: str = ""


class Recorded(Base, frozen=True, gc=False):
    """What was granted, kept in status so that an edit of the spec can be undone after a restart (contract §3)."""

    subnet: str = ""
    pod_name: str = ""
    namespace: str = ""
    pod_type: str = ""
    v4_ip_address: str = ""
    v6_ip_address: str = ""
    mac_address: str = ""
    reserved: str = ""


class IpStatus(Base, frozen=True):
    """Our addition to Kube-OVN's IP (contract §8)."""

    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    recorded: Recorded | None = None
    used_by: str = ""


class Ip(Base, frozen=True):
    """A kubeovn.io/v1 IP."""

    metadata: Meta
    spec: IpSpec = IpSpec()
    status: IpStatus = IpStatus()
    fault: str = ""


class PodSpec(Base, frozen=True, gc=False):
    """The part of a pod's spec that decides about its network."""

    node_name: str = ""
    host_network: bool = False
    restart_policy: str = "Always"


class PodStatus(Base, frozen=True, gc=False):
    """The part of a pod's status that says whether it is finished."""

    phase: str = ""
    reason: str = ""


class Pod(Base, frozen=True):
    """A v1 Pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
    fault: str = ""

    @property
    def alive(self) -> bool:
        """True until the pod is Succeeded or Failed for good (kube-ovn-behaviour §7.1, without its double grace).

        A terminating pod is alive: its port stays until it is gone from the API (contract §4, bug row 30).
        """
        phase, policy = self.status.phase, self.spec.restart_policy
        if phase == "Succeeded":
            return policy == "Always"
        if phase == "Failed":
            return policy != "Never" and self.status.reason != "Evicted"
        return True


class LabelExpression(Base, frozen=True, gc=False):
    """One matchExpressions item."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


class LabelSelector(Base, frozen=True):
    """metav1.LabelSelector."""

    match_labels: dict[str, str] = msgspec.field(default_factory=dict)
    match_expressions: tuple[LabelExpression, ...] = ()


class SubnetSpec(Base, frozen=True):
    """The part of Kube-OVN's Subnet spec that decides about addresses (kube-ovn-behaviour §3.2)."""

    provider: str = ""
    vpc: str = ""
    vlan: str = ""
    protocol: str = ""
    cidr_block: str = ""
    gateway: str = ""
    gateway_type: str = ""
    exclude_ips: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    namespace_selectors: tuple[LabelSelector, ...] = ()
    default: bool = False
    private: bool = False
    enable_lb: bool | None = None
    logical_gateway: bool = False
    u2o_interconnection: bool = False
    nat_outgoing: bool = False


class SubnetStatus(Base, frozen=True):
    """Kube-OVN's address numbers, mind the letter case, and conditions (kube-ovn-behaviour §3.2)."""

    conditions: tuple[Condition, ...] = ()
    v4_available: float = msgspec.field(name="v4availableIPs", default=-1)
    v4_available_range: str = msgspec.field(name="v4availableIPrange", default="?")
    v4_using: float = msgspec.field(name="v4usingIPs", default=-1)
    v4_using_range: str = msgspec.field(name="v4usingIPrange", default="?")
    v6_available: float = msgspec.field(name="v6availableIPs", default=-1)
    v6_available_range: str = msgspec.field(name="v6availableIPrange", default="?")
    v6_using: float = msgspec.field(name="v6usingIPs", default=-1)
    v6_using_range: str = msgspec.field(name="v6usingIPrange", default="?")
    u2o_interconnection_ip: str = msgspec.field(name="u2oInterconnectionIP", default="")
    u2o_interconnection_mac: str = msgspec.field(name="u2oInterconnectionMAC", default="")
    mcast_querier_ip: str = msgspec.field(name="mcastQuerierIP", default="")
    mcast_querier_mac: str = msgspec.field(name="mcastQuerierMAC", default="")


class Subnet(Base, frozen=True):
    """A kubeovn.io/v1 Subnet."""

    metadata: Meta
    spec: SubnetSpec = SubnetSpec()
    status: SubnetStatus = SubnetStatus()
    fault: str = ""


class Namespace(Base, frozen=True):
    """A v1 Namespace; only its metadata matters here."""

    metadata: Meta
    fault: str = ""


class NodeAddress(Base, frozen=True, gc=False):
    """One address of a node."""

    type: str = ""
    address: str = ""


class NodeStatus(Base, frozen=True, gc=False):
    """The part of a node's status that names its addresses."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(Base, frozen=True):
    """A v1 Node."""

    metadata: Meta
    status: NodeStatus = NodeStatus()
    fault: str = ""

    @property
    def internal_ips(self) -> tuple[str, ...]:
        """The InternalIP texts, as the node reports them."""
        return tuple(a.address for a in self.status.addresses if a.type == "InternalIP")


class LeaseSpec(Base, frozen=True, gc=False):
    """coordination.k8s.io/v1 LeaseSpec."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Base, frozen=True):
    """A coordination.k8s.io/v1 Lease."""

    metadata: Meta
    spec: LeaseSpec = LeaseSpec()
    fault: str = ""


# Their CRDs may come later, or never, or go: nothing waits for them, and nothing is concluded from their absence.
OPTIONAL: Final = frozenset(
    {Kind.POOL, Kind.NAD, Kind.VM, Kind.VMI, Kind.MIGRATION, Kind.VIP, Kind.IPTABLES_EIP, Kind.OVN_EIP}
)

Object: TypeAlias = (
    Ip
    | Pod
    | Subnet
    | Namespace
    | Node
    | StatefulSet
    | Pool
    | Nad
    | VirtualMachine
    | VirtualMachineInstance
    | Migration
    | Vip
    | IptablesEip
    | OvnEip
    | Lease
)

VIEWS: Final[dict[Kind, type[Object]]] = {
    Kind.IP: Ip,
    Kind.POD: Pod,
    Kind.SUBNET: Subnet,
    Kind.NAMESPACE: Namespace,
    Kind.NODE: Node,
    Kind.STATEFUL_SET: StatefulSet,
    Kind.POOL: Pool,
    Kind.NAD: Nad,
    Kind.VM: VirtualMachine,
    Kind.VMI: VirtualMachineInstance,
    Kind.MIGRATION: Migration,
    Kind.VIP: Vip,
    Kind.IPTABLES_EIP: IptablesEip,
    Kind.OVN_EIP: OvnEip,
    Kind.LEASE: Lease,
}
_DECODERS: Final = {kind: msgspec.json.Decoder(view) for kind, view in VIEWS.items()}


# A text may break off, nest endlessly or hold a number too large for any type behind what the first reading refused.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Bare(Base, frozen=True):
    metadata: Meta


def parse(kind: Kind, raw: bytes | msgspec.Raw) -> Object:
    """The view of one object as the API server wrote it; `fault` says what of it could not be read.

    Raises Malformed only for a text that is no object with a name at all.
    """
    try:
        view = _DECODERS[kind].decode(raw)
    except msgspec.ValidationError:
        return _salvage(kind, raw)
    except _UNREADABLE as broken:
        raise Malformed(str(broken)) from None
    if isinstance(view, Ip):  # of all others but pods there are few
        _share_ip(view)
    elif isinstance(view, Pod):
        share_meta(view.metadata)
        share_fields(view.spec, ("node_name",))
    return view


def _share_ip(view: Ip) -> None:
    share_meta(view.metadata)
    share_fields(view.spec, ("subnet", "namespace", "pod_type", "node_name"))
    for condition in view.status.conditions:
        share_fields(condition, ("type", "status", "reason"))
    if view.status.recorded is not None:
        share_fields(view.status.recorded, ("subnet", "namespace", "pod_type", "reserved"))
        share_with(view.status.recorded, view.spec, ("pod_name", "v4_ip_address", "v6_ip_address", "mac_address"))


def _salvage(kind: Kind, raw: bytes | msgspec.Raw) -> Object:
    """Read again without nulls and with lax types; failing that, keep the name and the fault."""
    try:
        whole = _without_nulls(msgspec.json.decode(raw))
    except _UNREADABLE as broken:
        raise Malformed(str(broken)) from None
    try:
        return msgspec.convert(whole, VIEWS[kind], strict=False)
    except msgspec.ValidationError as broken:
        fault = str(broken)
    try:
        bare = msgspec.convert(whole, _Bare, strict=False)
    except msgspec.ValidationError as nameless:
        raise Malformed(str(nameless)) from None
    return VIEWS[kind](metadata=bare.metadata, fault=fault)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value if v is not None]
    return value
