"""What a sweep may free: proven ownerless, seen so twice, and never much of a subnet at once (contract §7).

What goes while this process watches is freed by the pod flow at once. Here is the rest: ports and IPs of which this
process has never known an owner, because it ended while nobody watched, or because there never was one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from controller.core.decisions.release import cause_of, release, tenure_of
from controller.core.decisions.retention import Cause
from controller.core.effects import Delete, DropPort
from controller.core.naming import SWEEP, Owner, is_port_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from controller.core.decisions.pod import View
    from controller.core.decisions.realise import Held

Ids = frozenset[str]
ALLOW: Final = "allow"  # the value of a Subnet's annotation keepip.io/sweep that lets a stopped sweep go on


class Suspect(NamedTuple):
    """What nobody seems to own: equal ones seen twice are the same objects in the same state."""

    port: str
    owner: Owner
    subnet: str
    ids: Ids  # of the IP object and of the port
    cause: str
    leaked: bool  # a port in OVN
    orphaned: bool  # an IP object


class Stop(NamedTuple):
    """So many of a subnet's users would go that it is more likely a mistake: none of them does."""

    subnet: str
    much: int
    users: int
    limit: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a sweep may free of one subnet: a share of its users, in small subnets so many all the same."""

    share: float = 0.25
    floor: int = 10

    def of(self, users: int) -> int:
        """The most that may go at once."""
        return max(self.floor, int(self.share * users))


class Sweep(NamedTuple):
    """What a sweep decides: these are freed, after one more live read each; of these subnets nothing is."""

    cleared: tuple[Suspect, ...]
    stopped: tuple[Stop, ...]


def allows(annotations: Mapping[str, str]) -> bool:
    """True for a Subnet whose operator lets a stopped sweep go on."""
    return annotations.get(SWEEP) == ALLOW


def ids_of(held: Held) -> Ids:
    """What tells the objects under a port's name from others of that name."""
    ids = (held.ip.metadata.uid if held.ip is not None else "", held.row.uuid if held.row is not None else "")
    return frozenset(filter(None, ids))


def suspects(view: View) -> tuple[Suspect, ...]:
    """What the pod flow would let go of, were all doubts removed."""
    if view.bystanders or not view.left:
        return ()
    sure = replace(view.grounds, unproven=frozenset())
    found = (_suspect(view.owner, held, release(view.owner, held, sure)) for held in view.left)
    return tuple(one for one in found if one.leaked or one.orphaned)


def _suspect(owner: Owner, held: Held, effects: Iterable[object]) -> Suspect:
    leaked = orphaned = False
    cause: str = Cause.POD_GONE
    for effect in effects:
        leaked |= isinstance(effect, DropPort)
        if isinstance(effect, Delete):
            orphaned, cause = True, effect.why
    return Suspect(held.port, owner, subnet_of(held), ids_of(held), str(cause), leaked, orphaned)


def subnet_of(held: Held) -> str:
    """Where its address lies, as far as anything says it."""
    told = held.recorded.subnet if held.recorded is not None else held.ip.spec.subnet if held.ip is not None else ""
    return told or (held.row.switch if held.row is not None else "")


def owned(view: View) -> tuple[Held, ...]:
    """The ports of which it is known that somebody has them now."""
    gone = {one.port for one in suspects(view)}
    return (*(nic.held for nic in view.nics), *(held for held in view.left if held.port not in gone))


def met(view: View) -> tuple[Held, ...]:
    """Those of them that somebody is known to have: where nobody can tell, nobody was seen (Rule 2).

    Were it otherwise, a kind that is served at last would show its absent owners as seen to go.
    """
    left = {held.port for held in view.left} if not view.bystanders else set[str]()
    return tuple(held for held in owned(view) if held.port not in left or _tells(view, held))


def _tells(view: View, held: Held) -> bool:
    """Not of what an edited IP object says only: whose it was, its name and its port tell."""
    its_own = is_port_of(held.port, view.owner)
    its_own = its_own or (held.row is not None and held.row.external("pod") == str(view.owner))
    return its_own and cause_of(tenure_of(view.owner, held), view.grounds) is not Cause.UNKNOWN


def decide(
    before: Mapping[str, Suspect],
    seen: Iterable[Suspect],
    users: Callable[[str], int],
    allowed: Collection[str],
    limits: Limits,
) -> Sweep:
    """Free what was seen before, just so; in a subnet where too much would go at once, nothing.

    Also what is seen for the first time counts for that: a mass of orphans is stopped before the first of it goes.
    """
    places: dict[str, list[Suspect]] = {}
    for one in seen:
        places.setdefault(one.subnet, []).append(one)
    cleared: list[Suspect] = []
    stopped: list[Stop] = []
    for subnet, mine in sorted(places.items()):
        limit = limits.of(users(subnet))
        if len(mine) > limit and subnet not in allowed:
            stopped.append(Stop(subnet, len(mine), users(subnet), limit))
        else:
            cleared += [one for one in mine if before.get(one.port) == one]
    return Sweep(tuple(cleared), tuple(stopped))
