"""Fold what other owners of addresses hold into the Picture, and tell their ports in OVN from those of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core import occupants
from controller.core.ipam import Source
from controller.core.neighbours import OvnEip, Vip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.core.objects import Seconds
    from controller.core.occupants import Neighbour
    from controller.core.rows import PortRow
    from controller.reconcilers.keys import Key
    from controller.reconcilers.picture import Picture


def see(picture: Picture, old: Neighbour | None, new: Neighbour | None, now: Seconds) -> Iterator[Key]:
    """Hold what it names now; one that cannot be read any more holds what it held (Rule 2)."""
    one = new or old
    assert one is not None  # noqa: S101 - a change has at least one side
    if new is None or not new.fault:
        said = occupants.of_neighbour(new) if new is not None else ()
        picture.put(Source.OTHER, occupants.title(one), said, now)
    rows = {row.name: row for side in (old, new) if side is not None for row in _rows(picture, side)}
    for row in rows.values():
        yield from picture.see_port(row.name, row, row, now)  # it may be another's than it was


def _rows(picture: Picture, one: Neighbour) -> Iterator[PortRow]:
    """The ports in OVN that may be its."""
    if isinstance(one, Vip):
        yield from picture.ports.by_owner(f"{one.spec.namespace}/{one.metadata.name}")
    elif isinstance(one, OvnEip) and (row := picture.ports.get_port(one.metadata.name)) is not None:
        yield row


def tenant(picture: Picture, row: PortRow) -> str:
    """Whose port it is, if it is one of another owner's; "" for all others."""
    name = row.external("pod").partition("/")[2]
    return occupants.tenant(row, picture.vips.get("", name), picture.ovn_eips.get("", row.name))
