"""decide() for one owner of pods: its NICs get addresses, each by itself, or its ports are let go (contract §4, §5).

Key: the owner (namespace, podName), so that all launcher pods of a VM are one key and every port of a vanished pod
is found by who owned it. On the way up: all ports, all IPs, then one patch per pod; on the way down: port, then IP
(Rule 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from controller.core.catalogue import Message, Reason
from controller.core.decisions import nic
from controller.core.decisions.release import Grounds, farewell, release
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
    Remember,
    Tell,
    Withdraw,
)
from controller.core.objects import Kind
from controller.core.overlay import Overlay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from controller.core import naming
    from controller.core.decisions.multus import Unserved
    from controller.core.decisions.realise import Held
    from controller.core.objects import Pod, Seconds


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one owner. Possibly stale, never torn."""

    owner: naming.Owner
    nics: tuple[nic.View, ...]  # what its live pods have
    left: tuple[Held, ...]  # every other port of this owner that anything names
    grounds: Grounds  # on which what is left over is kept, or let go
    bystanders: bool = False  # live pods of this owner that cannot be read
    finished: Pod | None = None  # a pod of this owner that has ended and is still to be seen
    unserved: tuple[tuple[Pod, Unserved], ...] = ()  # what live pods list and nobody can serve now
    unplugged: tuple[tuple[Pod, Mapping[str, None]], ...] = ()  # annotations of NICs that live pods have no more


def decide(view: View, now: Seconds) -> Decision:
    """What this owner needs now; empty when it is as it should be."""
    return together([*_nics(view, now), _waiting(view), _let_go(view)])


def _nics(view: View, now: Seconds) -> Iterator[Decision]:
    """Each NIC by itself; what one is given is nobody else's, also in this very decision."""
    if len(view.nics) < 2:
        yield from (nic.decide(one, now) for one in view.nics)
        return
    book = Overlay(view.nics[0].book)
    for one in view.nics:
        decision = nic.decide(replace(one, book=book), now)
        for effect in decision.effects:
            if isinstance(effect, Promise):
                book.give(effect)
        yield decision


def _waiting(view: View) -> Decision:
    """Networks that cannot be served as they are listed: said once, and looked at again when that may have changed."""
    waits = tuple(topic for _, one in view.unserved for topic in one.waits)
    told = [(pod.metadata, one.message) for pod, one in view.unserved if one.message is not None]
    tells = tuple(Tell(Kind.POD, meta.namespace, meta.name, meta.uid, message) for meta, message in told)
    return Decision(waits=waits, refusal=told[0][1] if told else None, tells=tells)


def _let_go(view: View) -> Decision:
    """What nobody has any more; a live pod that is not judged here may have it all."""
    left = () if view.bystanders else view.left
    effects = [(held, release(view.owner, held, view.grounds)) for held in left]
    gone = [held for held, found in effects if any(isinstance(effect, DropPort | Delete) for effect in found)]
    tells = farewell(view.finished, gone) if not view.nics else ()
    notes = (_taken_off(pod, keys) for pod, keys in view.unplugged)
    return Decision((*notes, *(effect for _, found in effects for effect in found)), tells=tells)


def _taken_off(pod: Pod, keys: Mapping[str, None]) -> Patch:
    """Guarded by the version: the network may be listed again by now, and then the NIC keeps what it has."""
    meta = pod.metadata
    body = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "annotations": dict(keys)}}
    return Patch(Kind.POD, pod.metadata.namespace, pod.metadata.name, body)


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
        case Create(kind=Kind.IP) | Patch(kind=Kind.IP) | Remember():
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
    return replace(one, body={"metadata": one.body["metadata"] | other.body["metadata"] | {"annotations": notes}})


def _one_event_per_reason(tells: Iterable[Tell]) -> tuple[Tell, ...]:
    """An object is told once a minute for each reason: what several NICs have to say is one sentence, as Kube-OVN's."""
    found: dict[tuple[str, Reason], Tell] = {}
    for tell in tells:
        key = (tell.uid, tell.message.reason)
        said = found.get(key)
        text = tell.message.text if said is None else f"{said.message.text}; {tell.message.text}"
        found[key] = replace(tell, message=Message(tell.message.reason, text))
    return tuple(found.values())
