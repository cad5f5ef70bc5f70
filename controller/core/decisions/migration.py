"""What a port's options say while its VM moves: a function of phase and nodes, never of an event (bug row 59).

Source and target share port, address and MAC; the options tell OVN where the port may be bound meanwhile, and that
the target is switched on by its first RARP (kube-ovn-behaviour §11). Options of other parties are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from controller.core.rows import ACTIVATION, MANAGED_OPTIONS, REQUESTED_CHASSIS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Options: TypeAlias = tuple[tuple[str, str], ...]

SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
_BY_RARP: Final = "rarp"


@dataclass(frozen=True, slots=True)
class Launcher:
    """A live launcher pod: where it is ("" if nobody knows yet), and of which migration it is the target."""

    node: str
    job: str = ""


def wanted(launchers: tuple[Launcher, ...], phases: Mapping[str, str]) -> dict[str, str] | None:
    """The managed options of a VM's port, by its launchers from the oldest to the newest; None if nobody can tell.

    `phases` are those of the VM's migrations, by name. With one launcher, or none, no migration is under way.
    """
    if len(launchers) <= 1:
        return {}
    target = launchers[-1]
    phase = phases.get(target.job) if target.job else None
    if phase is None:
        return None
    # The target of a failed migration may still be on its way out: it is no source of the next one.
    source = next((one for one in reversed(launchers[:-1]) if phases.get(one.job) != FAILED), launchers[0])
    if phase == SUCCEEDED:
        return _at(target.node)
    if phase == FAILED:
        return _at(source.node)
    both = {REQUESTED_CHASSIS: f"{source.node},{target.node}", ACTIVATION: _BY_RARP}
    return both if source.node and target.node else {}


def _at(node: str) -> dict[str, str]:
    return {REQUESTED_CHASSIS: node} if node else {}


def merged(present: Iterable[tuple[str, str]], managed: Mapping[str, str] | None) -> Options:
    """A port's options with ours as they should be, and everybody else's as they are."""
    if managed is None:
        return tuple(present)
    others = {key: value for key, value in present if key not in MANAGED_OPTIONS}
    return tuple(sorted((others | dict(managed)).items()))
