"""Every derived name, label and annotation key; one function makes each, the same one that finds it again.

Bug rows 19, 41 and 56 are names derived in two ways: so there is one way (contract §1, kube-ovn-behaviour §4).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.core.neighbours import VirtualMachineInstance
    from controller.core.objects import Ip, OwnerRef, Pod

OVN: Final = "ovn"
PREFIX: Final = "ovn.kubernetes.io/"
RESERVED: Final = PREFIX + "ip_reserved"
SUBNET_LABEL: Final = PREFIX + "subnet"
NODE_LABEL: Final = PREFIX + "node-name"
VIP_ANNOTATION: Final = PREFIX + "vip"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK: Final = "v1.multus-cni.io/default-network"
COOLDOWN: Final = "keepip.io/cooldown"
BOUND: Final = "keepip.io/bound"  # on a namespace: what of its annotations we wrote, `subnet/x,ippool/y`
SWEEP: Final = "keepip.io/sweep"  # on a Subnet: "allow" lets a sweep go on that has stopped itself
CUT_OFF: Final = "keepip.io/cut-off"
OWNER_UID: Final = "keepip.io/owner-uid"  # on an IP: for which StatefulSet or VM of that name it was made
DEFAULT_VPC: Final = "ovn-cluster"
DEFAULT_SUBNET: Final = "ovn-default"
NAME_MAX: Final = 253
_INSTANCE: Final = "VirtualMachineInstance"
_KUBEVIRT: Final = "kubevirt.io/"
_OF_A_VM: Final = ".kubernetes.io/virtualmachine"
_GIVEN: Final = ".kubernetes.io/allocated"
_ORDINAL_DIGITS: Final = 10  # an int32, as StatefulSets count
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Owner(NamedTuple):
    """The IPAM owner: a pod by its own name, or a VM's pods by the VM's name (contract §1)."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def port_name(owner: Owner, provider: str = OVN) -> str:
    """The name of port, IP and Logical_Switch_Port: `<podName>.<namespace>[.<provider>]`."""
    base = f"{owner.name}.{owner.namespace}"
    return base if provider in {OVN, ""} else f"{base}.{provider}"


def annotation(provider: str, key: str) -> str:
    """The annotation of that key for a provider's NIC: `<provider>.kubernetes.io/<key>` (kube-ovn-behaviour §4.5)."""
    return f"{provider or OVN}.kubernetes.io/{key}"


def cut_off(provider: str) -> str:
    """The annotation that says that this NIC of a pod gets no network again."""
    return CUT_OFF if provider in {OVN, ""} else f"{provider}.{CUT_OFF}"


def bound_of(provider: str) -> str:
    """What `spec.provider` of its subnets says: the provider without the interface (kube-ovn-behaviour §1)."""
    parts = provider.split(".")
    return ".".join(parts[:3] if parts[2:3] == [OVN] else parts[:2])


def provider_of(port: str, owner: Owner) -> str:
    """The provider of one of the owner's ports."""
    return port.removeprefix(port_name(owner)).removeprefix(".") or OVN


def is_nic_of(port: str, owner: Owner, bound: str) -> bool:
    """True if the port is that of the owner's NIC in a subnet of that provider, be it one of several (contract §1)."""
    base = port_name(owner, bound)
    interface = port.removeprefix(f"{base}.")
    return port == base or (bound not in {OVN, ""} and interface != port and bool(_LABEL.fullmatch(interface)))


def owners_by_name(port: str) -> Iterator[Owner]:
    """Every owner whose port may have this name: a namespace has no dots, a pod's name and a provider may."""
    parts = port.split(".")
    for at in range(1, len(parts)):
        yield Owner(parts[at], ".".join(parts[:at]))


def is_port_of(port: str, owner: Owner) -> bool:
    """True if the port is one of the owner's, on whatever provider."""
    base = port_name(owner)
    return port == base or port.startswith(f"{base}.")


def owner_of(pod: Pod) -> Owner:
    """Who holds the pod's addresses: successive launcher pods of a VM are one owner (bug row 38)."""
    vm = _controller_of(pod, _INSTANCE, _KUBEVIRT)
    return Owner(pod.metadata.namespace, vm.name if vm else pod.metadata.name)


def settled(pod: Pod, *, keep_vm_ip: bool) -> Pod:
    """A launcher pod that has, or is to have, an address of its own is a plain pod: its owner is left out.

    What it is given while keep-vm-ip is on carries the VM's name in the annotation `virtualmachine`, and stays the
    VM's however the setting is changed meanwhile: a running pod's port is never renamed (bug row 58).
    """
    if not _controller_of(pod, _INSTANCE, _KUBEVIRT):
        return pod
    notes = pod.metadata.annotations
    named = any(key.endswith(_OF_A_VM) for key in notes)
    given = any(key.endswith(_GIVEN) and value == "true" for key, value in notes.items())
    if named or (keep_vm_ip and not given):
        return pod
    others = tuple(ref for ref in pod.metadata.owner_references if ref.kind != _INSTANCE)
    return replace(pod, metadata=replace(pod.metadata, owner_references=others))


def pod_type(pod: Pod) -> str:
    """`""`, `StatefulSet` or `VirtualMachine`, as an IP's spec.podType says it."""
    if _controller_of(pod, _INSTANCE, _KUBEVIRT):
        return "VirtualMachine"
    sts = _controller_of(pod, "StatefulSet", "apps/")
    return "StatefulSet" if sts and ordinal(pod.metadata.name, sts.name) is not None else ""


def ordinal(pod: str, stateful_set: str) -> int | None:
    """The number behind `<statefulset>-`; None if the name does not have that form (W30: no guess)."""
    head, dash, tail = pod.rpartition("-")
    number = tail.isascii() and tail.isdigit() and len(tail) <= _ORDINAL_DIGITS
    return int(tail) if dash and head == stateful_set and number else None


def set_and_ordinal(pod: str) -> tuple[str, int] | None:
    """The StatefulSet that a pod of that name belongs to, if any, and its ordinal: what is behind the last dash."""
    head = pod.rpartition("-")[0]
    number = ordinal(pod, head) if head else None
    return (head, number) if number is not None else None


def set_uid(pod: Pod) -> str:
    """The uid of the StatefulSet that made the pod, "" for any other pod."""
    sts = _controller_of(pod, "StatefulSet", "apps/") if pod_type(pod) == "StatefulSet" else None
    return sts.uid if sts else ""


def machine_uid(instance: VirtualMachineInstance) -> str:
    """The uid of the VM that made the instance, "" for one that somebody made by hand."""
    vm = _controller_of(instance, "VirtualMachine", _KUBEVIRT)
    return vm.uid if vm else ""


def set_name(pod: Pod) -> str:
    """The name of the StatefulSet that made the pod, "" for any other pod."""
    sts = _controller_of(pod, "StatefulSet", "apps/") if pod_type(pod) == "StatefulSet" else None
    return sts.name if sts else ""


def pod_ordinal(pod: Pod) -> int | None:
    """The ordinal of a StatefulSet's pod, None for any other."""
    sts = _controller_of(pod, "StatefulSet", "apps/")
    return ordinal(pod.metadata.name, sts.name) if sts else None


def _controller_of(one: Pod | VirtualMachineInstance, kind: str, group: str) -> OwnerRef | None:
    for ref in one.metadata.owner_references:
        if ref.kind == kind and ref.api_version.startswith(group) and ref.name:
            return ref
    return None


def special(ip: Ip) -> bool:
    """True for IPs of nodes and subnets: they occupy their addresses and are never ours to judge (contract §7).

    Judged by shape and maker together, because a user's pod may well be called `node-1` or `mcast-querier`
    (kube-ovn-behaviour §1, name ambiguity): only a controller's own object has a finalizer of ours or an owner.
    """
    if not (ip.metadata.ours or ip.metadata.owner_references):
        return False
    name = ip.metadata.name
    if name.startswith("node-"):
        return ip.spec.namespace == ""
    return name.startswith(("u2o-interconnection.", "mcast-querier.")) and ip.spec.pod_name == name


def foreign(ip: Ip) -> bool:
    """True for an explicit address under somebody else's finalizer: occupied, and never ours to change (bug row 33)."""
    explicit = ip.spec.v4_ip_address or ip.spec.v6_ip_address or ip.spec.ip_address
    return bool(ip.metadata.finalizers and not ip.metadata.ours and explicit)


def labels(subnet: str, node: str, *, reserved: bool) -> dict[str, str]:
    """The four labels of an IP; one that Kubernetes would not accept is left out (W42): spec has the same facts."""
    wanted = {RESERVED: "true" if reserved else "false", SUBNET_LABEL: subnet, NODE_LABEL: node}
    fitting = {key: value for key, value in wanted.items() if _fits(value)}
    return fitting | ({subnet: ""} if subnet and _fits(subnet) else {})


@lru_cache(maxsize=1024)
def _fits(value: str) -> bool:
    return _LABEL_VALUE.fullmatch(value) is not None


def name_problem(name: str) -> str:
    """Why an IP of that name cannot exist, or ""."""
    if len(name) > NAME_MAX:
        return f"an IP's name may have {NAME_MAX} characters, this one has {len(name)}"
    return ""


def is_ovn(provider: str) -> bool:
    """True for a provider whose ports are Logical_Switch_Ports (kube-ovn-behaviour §1, OVN subnet)."""
    parts = provider.split(".")
    return provider in {"", OVN} or (len(parts) == 3 and parts[2] == OVN)
