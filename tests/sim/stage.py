"""The stage and the cast: subnets so small that they run out, workloads so few that names come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from controller.core.objects import Kind
from tests.sim.documents import Doc, labels, meta, notes, spec

if TYPE_CHECKING:
    from tests.sim.store import Store

NOTE: Final = "ovn.kubernetes.io/"
NODES: Final = ("node-a", "node-b")
OWN_ADDRESS: Final = "own-address"  # label of launcher pods in a universe without keep-vm-ip
FOREIGN_FINALIZER: Final = "example.com/keeper"


class Workload(NamedTuple):
    """Something that may have pods; `name` is the podName of its address."""

    namespace: str
    name: str
    kind: str

    def port(self, provider: str = "") -> str:
        """The name of its port, IP and Logical_Switch_Port."""
        base = f"{self.name}.{self.namespace}"
        return base if provider in ("", "ovn") else f"{base}.{provider}"


CAST: Final = (
    Workload("default", "p0", ""),
    Workload("default", "p1", ""),
    Workload("default", "p2", ""),
    Workload("default", "p3", ""),
    Workload("default", "web-0", "StatefulSet"),
    Workload("default", "web-1", "StatefulSet"),
    Workload("default", "vm-0", "VirtualMachine"),
    Workload("default", "vm-1", "VirtualMachine"),
    Workload("team", "p0", ""),
    Workload("team", "p1", ""),
    Workload("team", "web-0", "StatefulSet"),
    Workload("team", "vm-0", "VirtualMachine"),
)

SUBNETS: Final[dict[str, dict[str, Any]]] = {
    "ovn-default": {"cidrBlock": "10.16.0.0/24", "default": True},
    "tiny": {"cidrBlock": "10.1.0.0/29", "gateway": "10.1.0.1"},
    "small": {"cidrBlock": "10.2.0.0/28", "gateway": "10.2.0.14", "excludeIps": ["10.2.0.3..10.2.0.5", "10.2.0.9"]},
    "dual": {"cidrBlock": "10.3.0.0/29,fd00:3::/125", "gateway": "10.3.0.1,fd00:3::1"},
    "side": {"cidrBlock": "10.4.0.0/29", "provider": "net1.default.ovn"},
}
EDITS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "ovn-default": ({"excludeIps": ["10.16.0.1", "10.16.0.2..10.16.0.40"]},),
    "tiny": (
        {"cidrBlock": "10.1.0.0/28"},
        {"cidrBlock": "10.1.0.8/29", "gateway": "10.1.0.9"},
        {"gateway": "10.1.0.6"},
        {"excludeIps": ["10.1.0.2..10.1.0.4"]},
    ),
    "small": (
        {"excludeIps": []},
        {"excludeIps": ["10.2.0.1..10.2.0.10"]},
        {"excludeIps": ["10.2.0.9..10.2.0.3"]},
        {"cidrBlock": "10.2.0.0/29", "gateway": "10.2.0.6"},
    ),
    "dual": ({"cidrBlock": "nonsense"}, {"excludeIps": ["fd00:3::2..fd00:3::3"]}),
    "side": ({"cidrBlock": "10.4.0.0/32"}, {"cidrBlock": "10.4.0.0/28"}),
}
POOLS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "blue": (
        {"subnet": "small", "ips": ["10.2.0.6..10.2.0.8"], "enableAddressSet": True},
        {"subnet": "small", "ips": ["10.2.0.8", "10.2.0.10..10.2.0.12"], "namespaces": ["team"]},
        {"subnet": "small", "ips": ["10.2.0.6", "10.2.0.300"]},
        {"subnet": "dual", "ips": ["10.3.0.5"]},
    ),
    "green": (
        {"subnet": "small", "ips": ["10.2.0.8..10.2.0.10"]},
        {"subnet": "small", "ips": ["10.2.0.11", "10.9.9.9"]},
    ),
    "red": (
        {"subnet": "dual", "ips": ["10.3.0.4..10.3.0.5", "fd00:3::4..fd00:3::5"]},
        {"subnet": "dual", "ips": ["10.3.0.4"], "enableAddressSet": True},
    ),
}
ADDRESSES: Final[dict[str, tuple[str, ...]]] = {
    "ovn-default": ("10.16.0.2", "10.16.0.3", "10.16.0.77", "10.16.0.1", "10.16.0.255"),
    "tiny": ("10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.1", "10.1.0.7", "10.9.9.9"),
    "small": ("10.2.0.1", "10.2.0.2", "10.2.0.4", "10.2.0.9", "10.2.0.14", "10.2.0.0"),
    "dual": ("10.3.0.2", "10.3.0.3", "fd00:3::2", "fd00:3::3", "fd00:3::7", "fd00:3::", "10.3.0.1"),
    "side": ("10.4.0.2", "10.4.0.3", "10.4.0.1"),
    "ghost": ("10.5.0.2",),
}
SIDE: Final = "net1.default.ovn"
SIDE_NETWORK: Final = "default/net1"
SIDE_NAD: Final = {"spec": {"config": '{"type": "kube-ovn", "provider": "net1.default.ovn"}'}}
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
MACS: Final = ("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03")
BAD_MACS: Final = ("02:00:00:00:00:ZZ", "01:00:00:00:00:01", "0A:00:00:00:00:01")
BAD_ADDRESSES: Final = ("10.1.0.300", "FD00:3::2", "10.1.0.2/29", "::ffff:10.1.0.2", "x")


def set_up(store: Store, subnets: tuple[str, ...]) -> None:
    """The cluster before the first controller starts."""
    store.create(Kind.NAMESPACE, "", "team", {}, "installer")
    for number, node in enumerate(NODES):
        status = {"addresses": [{"type": "InternalIP", "address": f"192.168.0.{number + 10}"}]}
        store.create(Kind.NODE, "", node, {"status": status}, "installer")
    store.create(Kind.NAD, "default", "net1", SIDE_NAD, "installer")
    for name in subnets:
        store.create(Kind.SUBNET, "", name, {"spec": SUBNETS[name]}, "installer")
    for name in ("blue", "red"):
        store.create(Kind.POOL, "", name, {"spec": POOLS[name][0]}, "installer")


def port_of(pod: Doc) -> str:
    """The port name of a pod's default network, or of the NIC that it is seen by."""
    base = f"{owner_of(pod)}.{meta(pod)['namespace']}"
    return f"{base}.{seen_by(pod)}" if seen_by(pod) else base


def seen_by(pod: Doc) -> str:
    """The provider of the NIC that a pod is seen by, "" for its default network."""
    return str(meta(pod).get("nic", ""))


def by_side(pod: Doc) -> Doc:
    """The pod as its second NIC sees it: what is said of that NIC stands where the default network's would."""
    own, common = f"{SIDE}.kubernetes.io/", (NETWORKS, "keepip.test/")
    said = {NOTE + k.removeprefix(own): v for k, v in notes(pod).items() if k.startswith(own)}
    kept = {k: v for k, v in notes(pod).items() if k.startswith(common)}
    return {**pod, "metadata": {**meta(pod), "annotations": kept | said, "nic": SIDE}}


def lists_side(pod: Doc) -> bool:
    """True if the pod has, or is to have, the second NIC."""
    return notes(pod).get(NETWORKS) == SIDE_NETWORK and not spec(pod).get("hostNetwork")


def nics_of(pod: Doc) -> tuple[Doc, ...]:
    """The pod once for each NIC, as that NIC sees it."""
    return (pod, by_side(pod)) if lists_side(pod) else (pod,)


def owner_of(pod: Doc) -> str:
    """The podName under which a pod's address is held: its own, or that of its VM."""
    return str(controller_of(pod)["name"]) if kind_of(pod) == "VirtualMachine" else str(meta(pod)["name"])


def kind_of(pod: Doc) -> str:
    """The podType of a pod; without keep-vm-ip a VM's pod is a plain one."""
    kinds = {"VirtualMachineInstance": "VirtualMachine", "StatefulSet": "StatefulSet"}
    kind = kinds.get(controller_of(pod).get("kind", ""), "")
    return "" if kind == "VirtualMachine" and OWN_ADDRESS in labels(pod) else kind


def controller_of(pod: Doc) -> Doc:
    """The owner reference of a pod, empty if it has none."""
    refs: list[Doc] = meta(pod).get("ownerReferences") or [{}]
    return refs[0]


def alive(pod: Doc) -> bool:
    """True until a pod has ended for good; a terminating one is alive (contract §4)."""
    status = pod.get("status") or {}
    policy = spec(pod).get("restartPolicy", "Always")
    if status.get("phase") == "Succeeded":
        return bool(policy == "Always")
    if status.get("phase") == "Failed":
        return policy != "Never" and status.get("reason") != "Evicted"
    return True
