"""Read everything once, and say of each address what a sweep would do about it and why; nothing is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from controller.core import naming
from controller.core.addresses import format_address
from controller.core.decisions import sweep
from controller.core.decisions.release import cause_of, tenure_of
from controller.core.decisions.retention import Cause
from controller.core.objects import OPTIONAL
from controller.machines.waiting import Waiting
from controller.ports import Gone, NotFound
from controller.reconcilers import neighbours
from controller.reconcilers.mirrors import WATCHED
from controller.reconcilers.picture import Picture
from controller.reconcilers.relations import owner_of_row, owners_of_ip
from controller.reconcilers.views import Views

if TYPE_CHECKING:
    from controller.core.decisions.realise import Held
    from controller.core.decisions.sweep import Limits, Stop, Suspect
    from controller.core.objects import Ip, Kind, Object
    from controller.ports import Clock, Kube, Northbound, World

_WHY: Final = {
    Cause.POD_LIVES: "its pod lives",
    Cause.RESERVED: "it is a reservation",
    Cause.OWNER_LIVES: "its StatefulSet or VM lives",
    Cause.UNKNOWN: "nobody can tell whether its owner lives",
    Cause.UNREADABLE: "what its owner declares cannot be read",
    Cause.POD_GONE: "its pod is gone",
    Cause.OWNER_GONE: "its StatefulSet or VM is gone",
    Cause.OWNER_DELETING: "its StatefulSet or VM is being deleted",
    Cause.OWNER_REPLACED: "its StatefulSet or VM is another one of the same name",
    Cause.SCALED_DOWN: "its StatefulSet was scaled down",
    Cause.SUBNET_MOVED: "its owner's next pod belongs to another subnet",
    Cause.NIC_REMOVED: "its owner does not declare this network any more",
}
_TRIES: Final = 5  # a list that expires between two pages is begun anew


class Line(NamedTuple):
    """One port name and what becomes of it."""

    subnet: str
    port: str
    addresses: str
    frees: bool
    why: str


class Report(NamedTuple):
    """What a sweep would do now, were all of it seen a second time."""

    lines: tuple[Line, ...]
    stopped: tuple[Stop, ...]


async def survey(world: World) -> Picture:
    """Everything as it is now; raises PortError if something cannot be read."""
    picture = Picture()
    kinds = WATCHED
    lists = await asyncio.gather(*(_everything(world.kube, kind) for kind in kinds))
    now = world.clock.now()
    for kind, found in zip(kinds, lists, strict=True):
        picture.heard(kind, served=found is not None)
        if found is not None:
            for _, old, new in picture.replica(kind).replace(*found):
                list(picture.see(kind, old, new, now))
    await _rows(world.northbound, picture, world.clock)
    return picture


async def _everything(kube: Kube, kind: Kind) -> tuple[list[Object], int] | None:
    """All of a kind, None if it is not served."""
    for _ in range(_TRIES):
        objects: list[Object] = []
        token, version = "", 0
        try:
            while True:
                page = await kube.list(kind, token)
                objects += page.objects
                token, version = page.token, version or page.version
                if not token:
                    return objects, version
        except Gone:
            continue
        except NotFound:
            if kind in OPTIONAL:
                return None
            raise
    raise Gone(f"the list of {kind} expires before it is read")


async def _rows(northbound: Northbound, picture: Picture, clock: Clock) -> None:
    async for rows in northbound.rows():
        ports, switches = picture.ports.apply(rows.seq, rows.epoch, rows.whole, rows.ports, rows.switches)
        for name, old, new in ports:
            list(picture.see_port(name, old, new, clock.now()))
        for name, _, row in switches:
            list(picture.see_switch(name, row))
        if rows.whole:
            return


def report(picture: Picture, clock: Clock, limits: Limits) -> Report:
    """Every address that something of ours, or of another owner, names: by subnet and port."""
    views: Views = Views(picture, Waiting(), {}, clock, lambda _key: False)
    found: dict[str, Line] = {}
    seen: list[Suspect] = []
    for owner in _owners(picture):
        view = views.pod(*owner)
        suspects = {one.port: one for one in sweep.suspects(view)}
        seen += suspects.values()
        for held in sweep.owned(view):
            lives = view.bystanders or held not in view.left
            why = _WHY[Cause.POD_LIVES] if lives else _kept(held, cause_of(tenure_of(owner, held), view.grounds))
            found[held.port] = _line(picture, sweep.subnet_of(held), held.port, frees=False, why=why)
        for one in suspects.values():
            found[one.port] = _line(picture, one.subnet, one.port, frees=True, why=_WHY[Cause(one.cause)])
    for subnet in picture.subnets.values():
        name = subnet.metadata.name
        for port in picture.ledger.users(name):
            if (other := _left_alone(picture, port)) is not None:
                found[port] = _line(picture, name, port, frees=False, why=other)
    allowed = {one.metadata.name for one in picture.subnets.values() if sweep.allows(one.metadata.annotations)}
    decided = sweep.decide({}, seen, lambda name: len(picture.ledger.users(name)), allowed, limits)
    lines = sorted(line for line in found.values() if line.addresses or line.frees)
    return Report(tuple(lines), decided.stopped)


def _kept(held: Held, cause: Cause) -> str:
    """Why it stays although, perhaps, nobody is left to use it."""
    if held.reserved and not cause.kept:
        return _WHY[Cause.RESERVED]
    return _WHY[cause] if cause.kept else "a sweep does not end what its user ends, or has never granted"


def _owners(picture: Picture) -> dict[naming.Owner, None]:
    owners = {owner: None for ip in picture.ips.values() for owner in owners_of_ip(ip)}
    owners |= {owner: None for owner in map(owner_of_row, picture.ports.ports()) if owner is not None}
    return {owner: None for owner in owners if all(owner)}


def _left_alone(picture: Picture, port: str) -> str | None:
    """Why a sweep does not even look at it; None if it does."""
    ip, row = picture.ips.get("", port), picture.ports.get_port(port)
    if row is not None and neighbours.tenant(picture, row):
        return f"it is the port of {neighbours.tenant(picture, row)}"
    if row is not None and not row.ours:
        return "its port is of another system"
    if ip is not None:
        return _of_ip(ip)
    return None if row is not None else "it is another owner's"


def _of_ip(ip: Ip) -> str | None:
    if naming.special(ip):
        return "it is of a node or of a subnet"
    if naming.foreign(ip):
        return f"it carries the finalizer {ip.metadata.finalizers[0]} of another system"
    return None if ip.metadata.ours else "it carries no finalizer of ours"


def _line(picture: Picture, subnet: str, port: str, *, frees: bool, why: str) -> Line:
    addresses = {a: None for _, _, record in picture.ledger.records_of(port) for a in record.addresses}
    return Line(subnet, port, ",".join(map(format_address, addresses)), frees, why)
