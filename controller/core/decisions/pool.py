"""decide() for one IPPool: say whether it is in use, count it, keep its Address_Set, let it go (contract §6).

Key: the IPPool's name. What it gives out is part of its subnet's plan (machines/pools.py) from the moment it is seen;
nothing here is needed for that. Its users keep their addresses when it goes: these are the subnet's own again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.core.catalogue import Message, Reason, say
from controller.core.decisions import numbers
from controller.core.decisions.conditions import Standing, listed, status_patch
from controller.core.effects import Decision, DropAddressSet, Effect, Patch, PutAddressSet, Tell
from controller.core.faults import Malformed
from controller.core.objects import FINALIZER, OUR_FINALIZERS, Kind
from controller.core.pools import Items, address_set
from controller.core.rows import IP_POOL, VENDOR, AddressSetRow

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.effects import Topic
    from controller.core.ipam import Usage
    from controller.core.neighbours import Pool
    from controller.core.objects import Seconds

SET_NAME: Final = re.compile(r"[a-zA-Z_.][a-zA-Z_.0-9]*")  # what OVN's match language can name


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one IPPool name. Possibly stale, never torn."""

    name: str
    pool: Pool | None
    items: Items
    complaint: Message | None  # what is wrong with it, with a part of it, or with its subnet
    usage: dict[Family, Usage] | None  # None: not counted now
    row: AddressSetRow | None  # the Address_Set of the pool's set name, whosever it is
    stamp: str


def set_name(pool: str) -> str:
    """The Address_Set's name: OVN's match language knows no `-` in names."""
    return pool.replace("-", ".")


def set_topic(name: str) -> Topic:
    """Fires when the Address_Set of that name changes, whosever it is."""
    return ("address-set", name)


def decide(view: View, _now: Seconds) -> Decision:
    """What this IPPool needs now; empty when it is as it should be."""
    pool = view.pool
    left = [DropAddressSet(view.row)] if view.row is not None and view.row.is_of(view.name) else []
    if pool is None:
        return Decision(tuple(left))
    if pool.metadata.deleting:
        return Decision((*left, *_let_go(pool)))
    effects: list[Effect] = list(_finalize(pool))
    problem = view.complaint
    waits: tuple[Topic, ...] = ()
    if not pool.spec.enable_address_set:
        effects += left
    elif not view.items.faults and not pool.fault:
        wanted = _wanted_set(view)
        if isinstance(wanted, Message):
            problem, waits = problem or wanted, (set_topic(set_name(view.name)),)
        elif view.row is None or view.row._replace(uuid="") != wanted:
            effects.append(PutAddressSet(wanted, view.row))
    status = None if effects else _status(view, pool, _standings(pool, problem))
    tells = (_tell(pool, problem),) if problem is not None else ()
    return Decision(tuple(effects), status=status, waits=waits, refusal=problem, tells=tells)


def _tell(pool: Pool, message: Message) -> Tell:
    return Tell(Kind.POOL, "", pool.metadata.name, pool.metadata.uid, message)


def _finalize(pool: Pool) -> tuple[Effect, ...]:
    if FINALIZER in pool.metadata.finalizers:
        return ()
    return (_finalizers(pool, [*(f for f in pool.metadata.finalizers if f not in OUR_FINALIZERS), FINALIZER]),)


def _let_go(pool: Pool) -> tuple[Effect, ...]:
    """Nobody is waited for: the users' addresses stay theirs, in the default pool."""
    if not pool.metadata.ours:
        return ()
    return (_finalizers(pool, [f for f in pool.metadata.finalizers if f not in OUR_FINALIZERS]),)


def _finalizers(pool: Pool, finalizers: list[str]) -> Patch:
    body = {"metadata": {"resourceVersion": pool.metadata.resource_version, "finalizers": finalizers}}
    return Patch(Kind.POOL, "", pool.metadata.name, body)


def _wanted_set(view: View) -> AddressSetRow | Message:
    """The Address_Set as Kube-OVN writes it, or why there is none."""
    name = set_name(view.name)
    if not SET_NAME.fullmatch(name):
        return say(Reason.ADDRESS_SET_FAILED, "name", name=name)
    if view.row is not None and not view.row.is_of(view.name):
        return say(Reason.ADDRESS_SET_FAILED, "taken", name=name)
    try:
        addresses = address_set(view.items)
    except Malformed as why:
        return say(Reason.ADDRESS_SET_FAILED, "mixed", why=why)
    others = dict(view.row.external_ids) if view.row is not None else {}
    ids = others | {IP_POOL: view.name, "vendor": VENDOR}
    return AddressSetRow(name, addresses, tuple(sorted(ids.items())))


def _standings(pool: Pool, problem: Message | None) -> tuple[Standing, ...]:
    if problem is not None:
        return Standing("Ready", "False", problem), Standing("Error", "True", problem)
    ready = Standing("Ready", "True", say(Reason.POOL_READY, "ok"))
    if any(c.type == "Error" for c in pool.status.conditions):  # shown until now, so its end is shown too
        return ready, Standing("Error", "False", say(Reason.NO_ERROR, "ok"))
    return (ready,)


def _status(view: View, pool: Pool, standings: tuple[Standing, ...]) -> Patch | None:
    status: dict[str, Any] = {}
    conditions = listed(standings, pool.status.conditions, pool.metadata.generation, view.stamp)
    if conditions is not None:
        status["conditions"] = [c | {"lastUpdateTime": view.stamp} for c in conditions]
    if view.usage is not None:
        status |= numbers.changed(view.usage, pool.status)
    return status_patch(Kind.POOL, pool.metadata, status) if status else None
