"""StatefulSets, VMs and their migrations: whom a change of one concerns, and what a verdict may know of it.

A change costs in proportion to what its workload owns: the IPs that name it are found through an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from controller.core import naming
from controller.core.decisions import migration
from controller.core.decisions.entitlement import Declared
from controller.core.decisions.migration import Launcher
from controller.core.decisions.retention import MachineOwner, MachineState, SetOwner, SetState, Template
from controller.core.neighbours import Migration, StatefulSet, VirtualMachine, VirtualMachineInstance
from controller.core.objects import Kind
from controller.reconcilers import keys

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from controller.core.decisions.retention import Workload
    from controller.core.naming import Owner
    from controller.core.objects import Ip, Pod
    from controller.reconcilers.keys import Key
    from controller.reconcilers.picture import Picture

SETS: Final = "StatefulSet"
MACHINES: Final = "VirtualMachine"
_JOB: Final = "kubevirt.io/migrationJobName"


# -- whom it concerns ------------------------------------------------------------------------------


def of_ip(ip: Ip) -> Iterator[Hashable]:
    """Under what an IP that outlives its pods is found: its StatefulSet, its namespace, its kind of owner."""
    spec = ip.spec
    if spec.pod_type in {SETS, MACHINES} and spec.namespace:
        yield spec.namespace
        yield ("", spec.pod_type)
        found = naming.set_and_ordinal(spec.pod_name) if spec.pod_type == SETS else None
        if found is not None:
            yield (spec.namespace, found[0])


def concerned(picture: Picture, old: object, new: object) -> Iterator[Key]:
    """The owners whose verdict, or whose port, a change of a workload may change: never all of a rollout's echoes."""
    one = new or old
    if _matter(old) == _matter(new):
        return
    match one:
        case StatefulSet():
            yield from retained(picture, (one.metadata.namespace, one.metadata.name))
        case VirtualMachine() | VirtualMachineInstance():
            yield keys.pod(one.metadata.namespace, one.metadata.name)
        case Migration():
            for side in (old, new):
                if isinstance(side, Migration) and side.spec.vmi_name:
                    yield keys.pod(side.metadata.namespace, side.spec.vmi_name)
        case _:
            return


def _matter(one: object) -> Hashable:
    """The part of a workload that decides about addresses; its status changes all the time."""
    match one:
        case StatefulSet():
            counts = (one.spec.replicas, one.spec.ordinals.start)
            return one.metadata.uid, one.metadata.deleting, counts, _notes(one.spec.template.metadata.annotations)
        case VirtualMachine():
            template = one.spec.template
            return one.metadata.uid, one.metadata.deleting, template.spec, _notes(template.metadata.annotations)
        case Migration():
            return one.metadata.uid, one.status.phase, one.spec
        case VirtualMachineInstance():
            return True
        case _:
            return None


def _notes(annotations: dict[str, str]) -> Hashable:
    return tuple(sorted(annotations.items()))


def retained(picture: Picture, value: Hashable) -> Iterator[Key]:
    """The owners of the IPs that are found under that value (see of_ip), each once."""
    owners = {(ip.spec.namespace, ip.spec.pod_name): None for ip in picture.ips.by("workload", value)}
    yield from (keys.pod(*owner) for owner in owners)


def come_to_light(picture: Picture, kind: Kind) -> Iterator[Key]:
    """The owners of which more can be told now that the kind is served."""
    return retained(picture, ("", MACHINES)) if kind in {Kind.VM, Kind.VMI} else iter(())


# -- what is known ---------------------------------------------------------------------------------


def known(picture: Picture, pod_type: str, owner: Owner) -> Workload:
    """The StatefulSet or VM of that owner as far as it is known; one that cannot be read is not known."""
    match pod_type:
        case "StatefulSet":
            return _set_of(picture, owner)
        case "VirtualMachine":
            return _machine_of(picture, owner)
        case _:
            return None


def _set_of(picture: Picture, owner: Owner) -> SetOwner:
    found = naming.set_and_ordinal(owner.name)
    one = picture.stateful_sets.get(owner.namespace, found[0]) if found is not None else None
    served = picture.served(Kind.STATEFUL_SET)
    if one is None:
        return SetOwner(served)
    spec = one.spec
    template = Template(spec.template.metadata.annotations)
    meta = one.metadata
    state = SetState(meta.uid, meta.deleting, spec.ordinals.start, spec.replicas, template, meta.generation)
    return SetOwner(served and not one.fault, state)


def _machine_of(picture: Picture, owner: Owner) -> MachineOwner:
    served = picture.served(Kind.VM) and picture.served(Kind.VMI)
    instance = picture.vmis.get(*owner) is not None
    one = picture.vms.get(*owner)
    if one is None:
        return MachineOwner(served, None, instance, picture.keep_vm_ip)
    spec = one.spec.template
    networks = tuple(
        Declared(n.multus.network_name, n.multus.default) if n.multus else Declared() for n in spec.spec.networks
    )
    meta, template = one.metadata, Template(spec.metadata.annotations, networks)
    state = MachineState(meta.uid, meta.deleting, template, meta.generation)
    return MachineOwner(served and not one.fault, state, instance, picture.keep_vm_ip)


def uid_for(picture: Picture, pod: Pod) -> str:
    """The uid of the pod's StatefulSet or VM, "" where nobody knows."""
    if naming.pod_type(pod) != MACHINES:
        return naming.set_uid(pod)
    owner = naming.owner_of(pod)
    vm, instance = picture.vms.get(*owner), picture.vmis.get(*owner)
    if vm is not None:
        return vm.metadata.uid
    return naming.machine_uid(instance) if instance is not None else ""


def unseen(picture: Picture, pod: Pod) -> bool:
    """True for a launcher pod that is shown before its VM's instance, which was there first."""
    if naming.pod_type(pod) != MACHINES or not picture.served(Kind.VMI):
        return False
    return picture.vmis.get(*naming.owner_of(pod)) is None


def gone(picture: Picture, owner: Owner) -> frozenset[str]:
    """The uids of the StatefulSet and the VM of that owner that this process saw go last."""
    found = naming.set_and_ordinal(owner.name)
    of_set = picture.stateful_sets.gone_uid(owner.namespace, found[0]) if found is not None else ""
    return frozenset({of_set, picture.vms.gone_uid(*owner)} - {""})


def options_for(picture: Picture, pods: Iterable[Pod]) -> dict[str, str] | None:
    """What a VM's port says of a migration between its live launcher pods; None if it is not ours to say."""
    launchers = sorted(pods, key=_age)
    if not launchers or naming.pod_type(launchers[0]) != MACHINES or not picture.served(Kind.MIGRATION):
        return None
    vm = naming.owner_of(launchers[0])
    phases = {one.metadata.name: one.status.phase for one in picture.migrations.by("vm", tuple(vm))}
    jobs = (Launcher(pod.spec.node_name, pod.metadata.annotations.get(_JOB, "")) for pod in launchers)
    return migration.wanted(tuple(jobs), phases)


def _age(pod: Pod) -> tuple[str, bool, str]:
    """From the oldest on; of two of one second the target of a migration is the younger."""
    return pod.metadata.creation_timestamp, _JOB in pod.metadata.annotations, pod.metadata.uid
