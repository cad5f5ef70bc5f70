"""Whether an address outlives its pods: one total function of its recorded owner and the workload as known (§5).

Only what was seen frees: data that is missing, unreadable or not served keeps (contract §2, Rule 2; bug rows 4, 29).
A live or terminating pod keeps its ports whatever else is true (bug row 30), and a reservation is never freed here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from controller.core import naming
from controller.core.decisions.entitlement import Declared, entitlement
from controller.core.faults import Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.core.naming import Owner


class Cause(StrEnum):
    """Why an address is kept, or freed: for logs, for the metric of releases, for tests."""

    POD_LIVES = "pod_lives"
    RESERVED = "reserved"
    OWNER_LIVES = "owner_lives"
    UNKNOWN = "unknown"  # nobody can tell whether the owner exists
    UNREADABLE = "unreadable"  # what the owner declares, or the pod's ordinal, cannot be read
    POD_GONE = "pod_gone"  # of a pod whose address is its own
    OWNER_GONE = "owner_gone"
    OWNER_DELETING = "owner_deleting"
    OWNER_REPLACED = "owner_replaced"  # another one of the same name
    SCALED_DOWN = "scaled_down"
    SUBNET_MOVED = "subnet_moved"
    NIC_REMOVED = "nic_removed"

    @property
    def kept(self) -> bool:
        """True if the address stays."""
        return self not in FREED


FREED: Final = (
    Cause.POD_GONE,
    Cause.OWNER_GONE,
    Cause.OWNER_DELETING,
    Cause.OWNER_REPLACED,
    Cause.SCALED_DOWN,
    Cause.SUBNET_MOVED,
    Cause.NIC_REMOVED,
)


class Pods(Enum):
    """What is known of an owner's pods, as far as one port is concerned."""

    NONE = "none lives or terminates"
    LIVE = "one lives, or terminates"
    WITHOUT = "one lives, and this port is none of its NICs'"


@dataclass(frozen=True, slots=True)
class Tenure:
    """A recorded address: whose it is, where it lies, and for which owner object it was made ("" if not known)."""

    owner: Owner
    port: str
    pod_type: str
    subnet: str
    reserved: bool = False
    made_for: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """What pods of a workload will be made of, as far as it decides about their networks."""

    annotations: Mapping[str, str]
    networks: tuple[Declared, ...] = ()


@dataclass(frozen=True, slots=True)
class SetState:
    """A StatefulSet."""

    uid: str
    deleting: bool
    start: int
    replicas: int
    template: Template
    generation: int = 0


@dataclass(frozen=True, slots=True)
class MachineState:
    """A VirtualMachine."""

    uid: str
    deleting: bool
    template: Template
    generation: int = 0


@dataclass(frozen=True, slots=True)
class SetOwner:
    """The StatefulSet of a pod's name as far as it is known; `served` is False while nobody can tell."""

    served: bool
    state: SetState | None = None


@dataclass(frozen=True, slots=True)
class MachineOwner:
    """The VM of that name, and whether a VMI of that name exists; `served` is False while nobody can tell.

    Without `keep` (keep-vm-ip is off) each launcher pod has an address of its own, and the VM has none.
    """

    served: bool
    state: MachineState | None = None
    instance: bool = False
    keep: bool = True


Workload: TypeAlias = SetOwner | MachineOwner | None


def verdict(tenure: Tenure, workload: Workload, listed: tuple[str, ...], pods: Pods) -> Cause:
    """Whether the address stays, and why; `listed` are the subnets that its namespace chooses, if it does."""
    cause = standing(tenure, workload, listed, pods)
    return Cause.RESERVED if tenure.reserved and not cause.kept else cause


def standing(tenure: Tenure, workload: Workload, listed: tuple[str, ...], pods: Pods) -> Cause:
    """The same whoever reserved it: as long as this keeps, the port stays in OVN (contract §3, Use)."""
    if pods is Pods.LIVE:
        return Cause.POD_LIVES
    match tenure.pod_type:
        case "StatefulSet" if pods is Pods.NONE:
            return _by_set(tenure, workload, listed) if isinstance(workload, SetOwner) else Cause.UNKNOWN
        case "VirtualMachine" if pods is Pods.NONE:
            return _by_machine(tenure, workload, listed) if isinstance(workload, MachineOwner) else Cause.UNKNOWN
        case "VirtualMachine":
            return _unplugged(tenure, workload)
        case "" | "StatefulSet":
            return Cause.POD_GONE if pods is Pods.NONE else Cause.NIC_REMOVED
        case _:
            return Cause.UNKNOWN


def _by_set(tenure: Tenure, owner: SetOwner, listed: tuple[str, ...]) -> Cause:
    state = owner.state
    parsed = naming.set_and_ordinal(tenure.owner.name)
    if not owner.served:
        return Cause.UNKNOWN
    if parsed is None:
        return Cause.UNREADABLE
    if state is None:
        return Cause.OWNER_GONE
    if state.deleting:
        return Cause.OWNER_DELETING
    if _another(tenure, state.uid):
        return Cause.OWNER_REPLACED
    if not state.start <= parsed[1] < state.start + state.replicas:
        return Cause.SCALED_DOWN
    return Cause.SUBNET_MOVED if _moved(tenure, state.template, listed) else Cause.OWNER_LIVES


def _by_machine(tenure: Tenure, owner: MachineOwner, listed: tuple[str, ...]) -> Cause:
    """A VMI without a VM is an owner, too; one on its way out is waited for (kube-ovn-behaviour §11)."""
    state = owner.state
    if not owner.keep:
        return Cause.POD_GONE
    if not owner.served:
        return Cause.UNKNOWN
    if owner.instance:
        return Cause.OWNER_LIVES
    if state is None:
        return Cause.OWNER_GONE
    if state.deleting:
        return Cause.OWNER_DELETING
    if _another(tenure, state.uid):
        return Cause.OWNER_REPLACED
    try:
        entitled = entitlement(tenure.owner, state.template.annotations, state.template.networks)
    except Malformed:
        return Cause.UNREADABLE
    if not entitled.covers(tenure.port):
        return Cause.NIC_REMOVED
    return Cause.SUBNET_MOVED if _moved(tenure, state.template, listed) else Cause.OWNER_LIVES


def _unplugged(tenure: Tenure, workload: Workload) -> Cause:
    """Of a running VM: what it declares and its pod does not have, it gets with its next pod."""
    if not isinstance(workload, MachineOwner):
        return Cause.POD_LIVES
    cause = _by_machine(tenure, replace(workload, instance=False), ())
    return cause if cause is Cause.NIC_REMOVED else Cause.POD_LIVES


def _another(tenure: Tenure, uid: str) -> bool:
    """True if the address was made for another object of that name; an unknown one is no evidence."""
    return bool(tenure.made_for and uid) and tenure.made_for != uid


def _moved(tenure: Tenure, template: Template, listed: tuple[str, ...]) -> bool:
    """True if the next pod would belong to another subnet (kube-ovn-behaviour §10.2).

    The CIDR is not asked: an address that a Subnet's edit left outside stays (contract §6).
    """
    provider = naming.provider_of(tenure.port, tenure.owner)
    pinned = template.annotations.get(naming.annotation(provider, "logical_switch"), "")
    if not tenure.subnet:
        return False
    if pinned:
        return pinned != tenure.subnet
    pooled = naming.annotation(provider, "ip_pool") in template.annotations  # the pool's subnet is the pods'
    return provider == naming.OVN and not pooled and bool(listed) and tenure.subnet not in listed
