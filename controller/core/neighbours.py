"""Frozen views of what lives beside pods and addresses: workloads, pools, networks and other owners of addresses."""

from __future__ import annotations

import msgspec

from controller.core.meta import Base, Condition, Meta


class TemplateMeta(Base, frozen=True):
    """The metadata that a workload gives to its pods."""

    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class PodTemplate(Base, frozen=True):
    """A StatefulSet's template."""

    metadata: TemplateMeta = TemplateMeta()


class Ordinals(Base, frozen=True, gc=False):
    """Where a StatefulSet begins to count."""

    start: int = 0


class StatefulSetSpec(Base, frozen=True):
    """The part of a StatefulSet's spec that decides whose addresses stay (contract §5)."""

    replicas: int = 1
    ordinals: Ordinals = Ordinals()
    template: PodTemplate = PodTemplate()


class StatefulSet(Base, frozen=True):
    """An apps/v1 StatefulSet."""

    metadata: Meta
    spec: StatefulSetSpec = StatefulSetSpec()
    fault: str = ""


class PoolSpec(Base, frozen=True):
    """Kube-OVN's IPPool spec (kube-ovn-behaviour §3.3)."""

    subnet: str = ""
    ips: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    enable_address_set: bool = False


class PoolStatus(Base, frozen=True):
    """An IPPool's numbers and ranges: other letter case than a Subnet's (kube-ovn-behaviour §3.3)."""

    conditions: tuple[Condition, ...] = ()
    v4_available: float = msgspec.field(name="v4AvailableIPs", default=-1)
    v4_available_range: str = msgspec.field(name="v4AvailableIPRange", default="?")
    v4_using: float = msgspec.field(name="v4UsingIPs", default=-1)
    v4_using_range: str = msgspec.field(name="v4UsingIPRange", default="?")
    v6_available: float = msgspec.field(name="v6AvailableIPs", default=-1)
    v6_available_range: str = msgspec.field(name="v6AvailableIPRange", default="?")
    v6_using: float = msgspec.field(name="v6UsingIPs", default=-1)
    v6_using_range: str = msgspec.field(name="v6UsingIPRange", default="?")


class Pool(Base, frozen=True):
    """A kubeovn.io/v1 IPPool."""

    metadata: Meta
    spec: PoolSpec = PoolSpec()
    status: PoolStatus = PoolStatus()
    fault: str = ""


class NadSpec(Base, frozen=True, gc=False):
    """A CNI configuration as text."""

    config: str = ""


class Nad(Base, frozen=True):
    """A k8s.cni.cncf.io/v1 NetworkAttachmentDefinition."""

    metadata: Meta
    spec: NadSpec = NadSpec()
    fault: str = ""


class Multus(Base, frozen=True, gc=False):
    """A VM's network that Multus makes."""

    network_name: str = ""
    default: bool = False


class VmNetwork(Base, frozen=True):
    """One network of a VM; without `multus` it is the pod network."""

    name: str = ""
    multus: Multus | None = None


class VmPodSpec(Base, frozen=True):
    """The part of a VM's template that decides about its networks."""

    networks: tuple[VmNetwork, ...] = ()


class VmTemplate(Base, frozen=True):
    """A VM's template."""

    metadata: TemplateMeta = TemplateMeta()
    spec: VmPodSpec = VmPodSpec()


class VmSpec(Base, frozen=True):
    """A VM's spec."""

    template: VmTemplate = VmTemplate()


class VirtualMachine(Base, frozen=True):
    """A kubevirt.io/v1 VirtualMachine."""

    metadata: Meta
    spec: VmSpec = VmSpec()
    fault: str = ""


class VmiStatus(Base, frozen=True, gc=False):
    """Where a VM runs."""

    node_name: str = ""


class VirtualMachineInstance(Base, frozen=True):
    """A kubevirt.io/v1 VirtualMachineInstance."""

    metadata: Meta
    spec: VmPodSpec = VmPodSpec()
    status: VmiStatus = VmiStatus()
    fault: str = ""


class MigrationSpec(Base, frozen=True, gc=False):
    """Who moves."""

    vmi_name: str = ""


class MigrationState(Base, frozen=True, gc=False):
    """From where to where."""

    source_node: str = ""
    target_node: str = ""
    source_pod: str = ""
    target_pod: str = ""
    completed: bool = False
    failed: bool = False


class MigrationStatus(Base, frozen=True):
    """How far it is."""

    phase: str = ""
    migration_state: MigrationState = MigrationState()


class Migration(Base, frozen=True):
    """A kubevirt.io/v1 VirtualMachineInstanceMigration."""

    metadata: Meta
    spec: MigrationSpec = MigrationSpec()
    status: MigrationStatus = MigrationStatus()
    fault: str = ""


class VipSpec(Base, frozen=True, gc=False):
    """What a Vip asks for (kube-ovn-behaviour §3.4)."""

    namespace: str = ""
    subnet: str = ""
    type: str = ""
    v4ip: str = ""
    v6ip: str = ""
    mac_address: str = ""


class VipStatus(Base, frozen=True, gc=False):
    """What a Vip has."""

    v4ip: str = ""
    v6ip: str = ""
    mac: str = ""
    type: str = ""


class Vip(Base, frozen=True):
    """A kubeovn.io/v1 Vip."""

    metadata: Meta
    spec: VipSpec = VipSpec()
    status: VipStatus = VipStatus()
    fault: str = ""


class IptablesEipSpec(Base, frozen=True, gc=False):
    """What an IptablesEIP asks for, and is given, in its external subnet."""

    v4ip: str = ""
    v6ip: str = ""
    mac_address: str = ""
    external_subnet: str = ""


class IptablesEipStatus(Base, frozen=True, gc=False):
    """The address it has."""

    ip: str = ""


class IptablesEip(Base, frozen=True):
    """A kubeovn.io/v1 IptablesEIP."""

    metadata: Meta
    spec: IptablesEipSpec = IptablesEipSpec()
    status: IptablesEipStatus = IptablesEipStatus()
    fault: str = ""


class OvnEipSpec(Base, frozen=True, gc=False):
    """What an OvnEip asks for, and is given, in its external subnet."""

    v4_ip: str = ""
    v6_ip: str = ""
    mac_address: str = ""
    external_subnet: str = ""
    type: str = ""


class OvnEipStatus(Base, frozen=True, gc=False):
    """The addresses it has."""

    v4_ip: str = ""
    v6_ip: str = ""
    mac_address: str = ""


class OvnEip(Base, frozen=True):
    """A kubeovn.io/v1 OvnEip."""

    metadata: Meta
    spec: OvnEipSpec = OvnEipSpec()
    status: OvnEipStatus = OvnEipStatus()
    fault: str = ""
