"""Status as a value: conditions are observations, written only when what they say has changed (contract §8, Rule 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.core.effects import Patch
from controller.core.objects import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.core.catalogue import Message
    from controller.core.objects import Condition, Ip, Meta, Recorded

_TEXT_MAX: Final = 32_768  # the API's own limit of a condition's message


@dataclass(frozen=True, slots=True)
class Standing:
    """One condition to be shown: type, `"True"`/`"False"`/`"Unknown"`, and why."""

    type: str
    status: str
    message: Message


def not_ready(message: Message) -> tuple[Standing, ...]:
    """The only condition of something that was refused."""
    return (Standing("Ready", "False", message),)


def listed(
    standings: Iterable[Standing], present: tuple[Condition, ...], generation: int, stamp: str
) -> list[dict[str, Any]] | None:
    """The conditions as the API wants them, None if they say so already; a transition time moves with `status`."""
    wanted = {s.type: s for s in standings}
    have = {c.type: c for c in present}
    if len(have) == len(wanted) and all(_says(have.get(t), s, generation) for t, s in wanted.items()):
        return None
    return [
        {
            "type": s.type,
            "status": s.status,
            "reason": str(s.message.reason),
            "message": s.message.text[:_TEXT_MAX],
            "observedGeneration": generation,
            "lastTransitionTime": _since(have.get(t), s, stamp),
        }
        for t, s in wanted.items()
    ]


def _says(have: Condition | None, wanted: Standing, generation: int) -> bool:
    if have is None:
        return False
    told = (have.status, have.reason, have.message, have.observed_generation)
    return told == (wanted.status, str(wanted.message.reason), wanted.message.text[:_TEXT_MAX], generation)


def _since(have: Condition | None, wanted: Standing, stamp: str) -> str:
    same = have is not None and have.status == wanted.status and have.last_transition_time
    return have.last_transition_time if have is not None and same else stamp


def of_ip(ip: Ip, standings: tuple[Standing, ...], recorded: Recorded | None, used_by: str, stamp: str) -> Patch | None:
    """The status patch of an IP, None if nothing of it would change."""
    generation = ip.metadata.generation
    conditions = listed(standings, ip.status.conditions, generation, stamp)
    same = (ip.status.recorded, ip.status.used_by, ip.status.observed_generation) == (recorded, used_by, generation)
    if conditions is None and same:
        return None
    status: dict[str, Any] = {"observedGeneration": generation, "usedBy": used_by}
    if conditions is not None:
        status["conditions"] = conditions
    if ip.status.recorded != recorded:
        status["recorded"] = None if recorded is None else msgspec.to_builtins(recorded)
    return status_patch(Kind.IP, ip.metadata, status)


def cleared(ip: Ip) -> Patch:
    """No reservation any more: nothing recorded, no conditions."""
    status = {"observedGeneration": ip.metadata.generation, "usedBy": "", "recorded": None, "conditions": None}
    return status_patch(Kind.IP, ip.metadata, status)


def status_patch(kind: Kind, meta: Meta, status: dict[str, Any]) -> Patch:
    """A merge patch of the status alone, refused if the object was replaced by another of its name."""
    return Patch(kind, "", meta.name, {"metadata": {"uid": meta.uid}, "status": status}, "status")
