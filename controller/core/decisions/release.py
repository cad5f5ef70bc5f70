"""What is let go of when nobody is left to have it: port first, then the IP object (contract §4, §5; Rule 3).

retention.py says whether; here is how. The IP's finalizer is taken off when the IP's own key sees its deletion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions import binding, migration, retention
from controller.core.decisions.reservation import tells_of
from controller.core.decisions.retention import Pods, Tenure
from controller.core.effects import ConfirmGone, Delete, DropPort, Effect, PutPort, Tell, Withdraw
from controller.core.objects import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.core.decisions.realise import Held
    from controller.core.decisions.retention import Workload
    from controller.core.objects import Ip, Pod


@dataclass(frozen=True, slots=True)
class Grounds:
    """What is known of an owner beside its ports: on these grounds they are kept or let go."""

    gone_proved: bool  # this process has seen the pod and seen it go
    pods: Pods = Pods.NONE
    workload: Workload = None
    listed: tuple[str, ...] = ()  # the subnets that its namespace chooses
    migrates: bool = False  # the options of a migration are ours to write


def release(owner: naming.Owner, held: Held, grounds: Grounds) -> list[Effect]:
    """The effects that let go of one port of that owner; none of it if the owner keeps it."""
    effects: list[Effect] = []
    if held.promised and held.row is None:
        effects.append(Withdraw(held.port))
    cause = retention.standing(_tenure(owner, held), grounds.workload, grounds.listed, grounds.pods)
    if cause.kept:
        return effects + _settled(held, grounds)
    row = held.row
    if row is not None and row.ours and row.type == "" and row.external("pod") == str(owner):
        effects.append(DropPort(row))
    # By name, which nobody can edit: an IP whose spec was edited to name us is still another's.
    if held.ip is not None and naming.is_port_of(held.port, owner) and _ends(held, held.ip):
        meta = held.ip.metadata
        effects.append(Delete(Kind.IP, "", held.port, meta.uid, meta.resource_version, why=cause))
    if any(not isinstance(e, Withdraw) for e in effects) and not grounds.gone_proved:
        effects.insert(0, ConfirmGone(owner.namespace, owner.name))
    return effects


def _tenure(owner: naming.Owner, held: Held) -> Tenure:
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


def _settled(held: Held, grounds: Grounds) -> list[Effect]:
    """A port that is kept without pods is nowhere: what a migration left in its options goes (bug row 59)."""
    row, machine = held.row, held.ip is not None and held.ip.spec.pod_type == "VirtualMachine"
    if row is None or not row.ours or not machine or not grounds.migrates or grounds.pods is not Pods.NONE:
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
