"""decide() for one owner of pods: its NICs get addresses, each by itself, or its ports are let go (contract §4, §5).

Key: the owner (namespace, podName), so that all launcher pods of a VM are one key and every port of a vanished pod
is found by who owned it. On the way up: all ports, all IPs, then one patch per pod; on the way down: port, then IP
(Rule 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from controller.core import naming
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions import binding, nic
from controller.core.decisions.reservation import tells_of
from controller.core.effects import (
    ConfirmGone,
    Create,
    Decision,
    Delete,
    DropPort,
    Effect,
    Patch,
    Promise,
    PutPort,
    Tell,
    Withdraw,
)
from controller.core.objects import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.core.decisions.realise import Held
    from controller.core.objects import Ip, Pod, Seconds

RETAINED: Final = ("StatefulSet", "VirtualMachine")


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one owner. Possibly stale, never torn."""

    owner: naming.Owner
    nics: tuple[nic.View, ...]  # what its live pods have
    left: tuple[Held, ...]  # every other port of this owner that anything names
    gone_proved: bool  # this process has seen the pod and seen it go
    bystanders: bool = False  # live pods of this owner that may have NICs which are not judged here
    finished: Pod | None = None  # a pod of this owner that has ended and is still to be seen


def decide(view: View, now: Seconds) -> Decision:
    """What this owner needs now; empty when it is as it should be."""
    released = [] if view.bystanders else [effect for held in view.left for effect in _release(view, held)]
    farewell = _farewell(view) if released and not view.nics else ()
    return together([*(nic.decide(one, now) for one in view.nics), Decision(tuple(released), tells=farewell)])


def together(parts: Iterable[Decision]) -> Decision:
    """One Decision of many: all ports in one transaction, then all IPs, then one patch per pod; what goes, last."""
    every = list(parts)
    effects = _each_once(effect for part in every for effect in part.effects)
    waits = dict.fromkeys(topic for part in every for topic in part.waits)
    later = [part.requeue_after for part in every if part.requeue_after is not None]
    return Decision(
        tuple(_one_patch_per_pod(sorted(effects, key=_rank))),
        requeue_after=min(later, default=None),
        waits=tuple(waits),
        refusal=next((part.refusal for part in every if part.refusal is not None), None),
        tells=_one_event_per_reason(tell for part in every for tell in part.tells),
    )


def _rank(effect: Effect) -> int:
    """The order in which the effects of several NICs become durable (Rule 3)."""
    match effect:
        case Withdraw() | Promise():
            return 0
        case PutPort():
            return 1
        case Create(kind=Kind.IP) | Patch(kind=Kind.IP):
            return 2
        case Patch():
            return 3
        case ConfirmGone():
            return 4
        case DropPort():
            return 5
        case _:
            return 6


def _each_once(effects: Iterable[Effect]) -> list[Effect]:
    """One live read serves all ports of a pod."""
    found: list[Effect] = []
    for effect in effects:
        if not isinstance(effect, ConfirmGone) or effect not in found:
            found.append(effect)
    return found


def _one_patch_per_pod(effects: Iterable[Effect]) -> list[Effect]:
    found: list[Effect] = []
    pods: dict[str, tuple[int, Patch]] = {}
    for effect in effects:
        if isinstance(effect, Patch) and effect.kind is Kind.POD:
            at, before = pods.get(effect.name, (len(found), effect))
            if at == len(found):
                found.append(effect)
            found[at] = merged = _merged(before, effect)
            pods[effect.name] = (at, merged)
        else:
            found.append(effect)
    return found


def _merged(one: Patch, other: Patch) -> Patch:
    notes: dict[str, Any] = {**one.body["metadata"]["annotations"], **other.body["metadata"]["annotations"]}
    return replace(one, body={"metadata": {**one.body["metadata"], "annotations": notes}})


def _one_event_per_reason(tells: Iterable[Tell]) -> tuple[Tell, ...]:
    """An object is told once a minute for each reason: what several NICs have to say is one sentence, as Kube-OVN's."""
    found: dict[tuple[str, Reason], Tell] = {}
    for tell in tells:
        key = (tell.uid, tell.message.reason)
        said = found.get(key)
        text = tell.message.text if said is None else f"{said.message.text}; {tell.message.text}"
        found[key] = replace(tell, message=Message(tell.message.reason, text))
    return tuple(found.values())


# -- on the way down ------------------------------------------------------------------------------


def _release(view: View, held: Held) -> list[Effect]:
    """Port first, then the IP object; its finalizer is taken off when the IP's own key sees the deletion."""
    effects: list[Effect] = []
    if held.promised and held.row is None:
        effects.append(Withdraw(held.port))
    if _kept(held):
        return effects
    row, owner = held.row, view.owner
    if row is not None and row.ours and row.type == "" and row.external("pod") == str(owner):
        effects.append(DropPort(row))
    # By name, which nobody can edit: an IP whose spec was edited to name us is still another's.
    if held.ip is not None and naming.is_port_of(held.port, owner) and _ends_with_its_pod(held, held.ip):
        meta = held.ip.metadata
        effects.append(Delete(Kind.IP, "", held.port, meta.uid, meta.resource_version))
    if any(not isinstance(e, Withdraw) for e in effects) and not view.gone_proved:
        effects.insert(0, ConfirmGone(view.owner.namespace, view.owner.name))
    return effects


def _farewell(view: View) -> tuple[Tell, ...]:
    """A finished pod is told that its address is free again; one that is gone cannot be told."""
    if view.finished is None:
        return ()
    meta = view.finished.metadata
    notes = [(h.port, h.recorded) for h in view.left if h.recorded is not None]
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


def _kept(held: Held) -> bool:
    """A StatefulSet's or VM's address and port outlive its pods, reserved or not, until its own end (contract §5)."""
    ip = held.ip
    if ip is None or ip.metadata.deleting or ip.spec.pod_type not in RETAINED:
        return False
    made_by_us = ip.metadata.ours or ip.metadata.labels.get(naming.RESERVED) == "false"
    return made_by_us or (held.row is not None and tells_of(ip, held.row))


def _ends_with_its_pod(held: Held, ip: Ip) -> bool:
    """Only an IP that the pod flow made, carrying our finalizer, and not yet on its way out."""
    ordinary = ip.metadata.labels.get(naming.RESERVED) == "false" and not naming.special(ip)
    return ordinary and not held.reserved and ip.metadata.ours and not ip.metadata.deleting
