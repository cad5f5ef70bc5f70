"""What is let go of when nobody is left to have it: port first, then the IP object (contract §4, §5; Rule 3).

retention.py says whether; here is how. The IP's finalizer is taken off when the IP's own key sees its deletion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions import binding, migration, retention
from controller.core.decisions.reservation import contradicts, tells_of
from controller.core.decisions.retention import Cause, Pods, Tenure
from controller.core.effects import ConfirmGone, Delete, DropPort, Effect, PutPort, Tell, Withdraw
from controller.core.objects import Kind
from controller.core.rows import POD_UID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.core.decisions.realise import Held
    from controller.core.decisions.retention import Workload
    from controller.core.objects import Ip, Pod
    from controller.core.rows import PortRow


@dataclass(frozen=True, slots=True)
class Grounds:
    """What is known of an owner beside its ports: on these grounds they are kept or let go."""

    gone_proved: bool  # this process has seen the pod and seen it go
    pods: Pods = Pods.NONE
    workloads: Mapping[str, Workload] = field(default_factory=dict)  # by podType
    gone: frozenset[str] = frozenset()  # uids of owners of that name which this process has seen go
    listed: tuple[str, ...] = ()  # the subnets that its namespace chooses
    migrates: bool = False  # the options of a migration are ours to write
    vips: bool = False  # the cluster has Vips
    unproven: frozenset[str] = frozenset()  # ports whose owner nobody here has known; a sweep has to clear them first


def release(owner: naming.Owner, held: Held, grounds: Grounds) -> list[Effect]:
    """The effects that let go of one port of that owner; none of it if the owner keeps it."""
    effects: list[Effect] = []
    if held.unborn:  # an IP that lands behind its port's end would be one without a port
        return effects
    if held.promised:  # also for a move: what its port has is recorded, and no promise any more
        effects.append(Withdraw(held.port))
    tenure = tenure_of(owner, held)
    cause = cause_of(tenure, grounds)
    if cause.kept:
        return effects + _settled(owner, held, grounds)
    if held.port in grounds.unproven:
        return effects
    row = held.row
    if row is not None and row.ours and row.type == "" and row.external("pod") == str(owner):
        effects.append(DropPort(row))
    # By name, which nobody can edit: an IP whose spec was edited to name us is still another's.
    if held.ip is not None and naming.is_port_of(held.port, owner) and _ends(held, held.ip):
        meta = held.ip.metadata
        effects += _others_gone(owner, held.ip)
        effects.append(Delete(Kind.IP, "", held.port, meta.uid, meta.resource_version, why=cause))
    if any(not isinstance(e, Withdraw) for e in effects):
        whose = [_not_of_a_vip(owner, e.row) for e in effects if isinstance(e, DropPort) and grounds.vips]
        return [*_proofs(tenure, cause, grounds), *(proof for one in whose for proof in one), *effects]
    return effects


def _others_gone(owner: naming.Owner, ip: Ip) -> list[ConfirmGone]:
    """Whose an IP is whose fields were edited, its name tells, but not where a pod's name ends: see naming.py."""
    if (ip.spec.namespace, ip.spec.pod_name) == owner:
        return []
    return [ConfirmGone(*other) for other in naming.owners_by_name(ip.metadata.name) if other != owner]


def _not_of_a_vip(owner: naming.Owner, row: PortRow) -> list[ConfirmGone]:
    """Kube-OVN's port of a Vip looks like one that a pod has left: where ours does not say for whom, a read tells."""
    return [] if row.external(POD_UID) else [ConfirmGone("", owner.name, Kind.VIP, row)]


def _proofs(tenure: Tenure, cause: Cause, grounds: Grounds) -> list[ConfirmGone]:
    """The live reads without which absence is only what a replica, which may be late, says (contract §7).

    No pod is called like a VM: its instance is there for as long as any launcher pod is.
    """
    space, name = tenure.owner
    found = naming.set_and_ordinal(name)
    replaced = tenure.made_for if cause is Cause.OWNER_REPLACED else ""  # or the one shown was there before
    unproved = (replaced or cause is Cause.OWNER_GONE) and tenure.made_for not in grounds.gone
    judged = _judged(tenure, cause, grounds)
    if tenure.pod_type == "VirtualMachine":
        if cause is Cause.POD_GONE or grounds.pods is not Pods.NONE:
            return []
        of_owner = [ConfirmGone(space, name, Kind.VM, uid=replaced)] if unproved else []
        return [*of_owner, *judged, ConfirmGone(space, name, Kind.VMI)]
    kept_for_the_next = tenure.pod_type != "" and grounds.pods is Pods.NONE  # and that one may not be shown yet
    proofs = [] if grounds.gone_proved and not kept_for_the_next else [ConfirmGone(space, name)]
    if unproved and found is not None:
        proofs.append(ConfirmGone(space, found[0], Kind.STATEFUL_SET, uid=replaced))
    return proofs + judged


def _judged(tenure: Tenure, cause: Cause, grounds: Grounds) -> list[ConfirmGone]:
    """Who lets go by what it declares must declare it still: the replica may be late by a scale-up."""
    owner = grounds.workloads.get(tenure.pod_type) if grounds.pods is Pods.NONE else None
    if cause not in {Cause.SCALED_DOWN, Cause.SUBNET_MOVED, Cause.NIC_REMOVED} or owner is None or owner.state is None:
        return []
    space, name = tenure.owner
    kind, found = Kind.VM, naming.set_and_ordinal(name)
    if tenure.pod_type == "StatefulSet" and found is not None:
        kind, name = Kind.STATEFUL_SET, found[0]
    return [ConfirmGone(space, name, kind, uid=owner.state.uid, generation=owner.state.generation)]


def cause_of(tenure: Tenure, grounds: Grounds) -> Cause:
    """Why the port stays, or goes."""
    return retention.standing(tenure, grounds.workloads.get(tenure.pod_type), grounds.listed, grounds.pods)


def tenure_of(owner: naming.Owner, held: Held) -> Tenure:
    """What the IP object says of its owner; a port without one, or with a stranger's, is nobody's but its pod's."""
    ip = held.ip
    tenure = Tenure(owner, held.port, "", "")
    if ip is None or ip.metadata.deleting:
        return tenure
    made_by_us = ip.metadata.ours or ip.metadata.labels.get(naming.RESERVED) == "false"
    if not made_by_us and not (held.row is not None and tells_of(ip, held.row)):
        return tenure
    told = held.recorded
    return Tenure(
        owner,
        held.port,
        told.pod_type if told is not None else ip.spec.pod_type,
        told.subnet if told is not None else ip.spec.subnet,
        held.reserved,
        ip.metadata.annotations.get(naming.OWNER_UID, ""),
    )


def _ends(held: Held, ip: Ip) -> bool:
    """Only an IP that the pod flow made, carrying our finalizer, and not yet on its way out: no reservation ever."""
    ordinary = ip.metadata.labels.get(naming.RESERVED) == "false" and not naming.special(ip)
    return ordinary and not held.reserved and ip.metadata.ours and not ip.metadata.deleting


def _settled(owner: naming.Owner, held: Held, grounds: Grounds) -> list[Effect]:
    """A port that is kept without pods is nowhere: what a migration left in its options goes (bug row 59).

    One that says otherwise than the IP goes itself: an address that nobody was granted would not be free.
    """
    row, machine = held.row, held.ip is not None and held.ip.spec.pod_type == "VirtualMachine"
    if row is None or not row.ours or row.type != "" or grounds.pods is not Pods.NONE:
        return []
    mine = row.external("pod") == str(owner)
    if mine and held.recorded is not None and contradicts(row, held.recorded):
        return [*([] if machine else [ConfirmGone(*owner)]), DropPort(row)]
    if not machine or not grounds.migrates:
        return []
    plain = row._replace(options=migration.merged(row.options, migration.wanted((), {})))
    return [PutPort(plain._replace(uuid=""), row)] if plain != row else []


def farewell(pod: Pod | None, gone: Iterable[Held]) -> tuple[Tell, ...]:
    """A finished pod is told that its address is free again; one that is gone cannot be told."""
    if pod is None:
        return ()
    meta = pod.metadata
    notes = [(h.port, h.recorded) for h in gone if h.recorded is not None]
    return tuple(
        Tell(
            Kind.POD,
            meta.namespace,
            meta.name,
            meta.uid,
            say(Reason.POD_NETWORK_RELEASED, "nic", port=port, subnet=r.subnet, address=binding.addresses(r)),
        )
        for port, r in notes
    )
