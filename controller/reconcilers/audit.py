"""Count what should not be: it writes nothing, and is 0 in every test of this project at rest (contract §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core import naming
from controller.reconcilers import neighbours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.core.rows import PortRow
    from controller.reconcilers.picture import Picture


def leaked(picture: Picture) -> Iterator[str]:
    """The subnet of each port of ours that holds an address for a pod that is not there, one at a time.

    A reservation's or retained address is not a leak; a port left beside it is.
    """
    for row in picture.ports.ports():
        if row.ours and row.switch and _ownerless(picture, row) and not neighbours.tenant(picture, row):
            yield row.switch
    for ip in picture.ips.values():
        ordinary = ip.metadata.labels.get(naming.RESERVED) == "false" and not naming.special(ip)
        owner = naming.Owner(ip.spec.namespace, ip.spec.pod_name)
        if ordinary and ip.metadata.ours and not ip.spec.pod_type and not picture.pods.count_by("owner", owner):
            yield ip.spec.subnet


def _ownerless(picture: Picture, row: PortRow) -> bool:
    namespace, slash, name = row.external("pod").partition("/")
    if not slash or picture.pods.count_by("owner", naming.Owner(namespace, name)):
        return False
    ip = picture.ips.get("", row.name)
    return ip is None or not ip.spec.pod_type
