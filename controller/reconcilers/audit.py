"""Count what should not be: it writes nothing, and is 0 in every test of this project at rest (contract §7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.ipam import Source
from controller.reconcilers.relations import owner_of_row, owners_of_ip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.core.decisions.sweep import Suspect
    from controller.core.naming import Owner
    from controller.core.objects import Ip
    from controller.reconcilers.picture import Picture

_RECORDS = frozenset({Source.PORT, Source.IP, Source.POD})


@dataclass(slots=True)
class Audit:
    """Per subnet: ports of nobody, IP objects of nobody, IPs whose records disagree, and reservations without a pod."""

    leaked: dict[str, int] = field(default_factory=dict)
    orphaned: dict[str, int] = field(default_factory=dict)
    drifting: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)  # these are as they should be

    def count(self, one: Suspect) -> None:
        """Something that nobody owns."""
        for counts, is_one in ((self.leaked, one.leaked), (self.orphaned, one.orphaned)):
            counts[one.subnet] = counts.get(one.subnet, 0) + is_one

    def look_at(self, picture: Picture, ip: Ip) -> None:
        """Count the IP if its records do not agree, and if it is a granted reservation whose workload has no pod."""
        if disagree(picture, ip.metadata.name):
            self.drifting[ip.spec.subnet] = self.drifting.get(ip.spec.subnet, 0) + 1
        if ip.metadata.ours and ip.metadata.labels.get(naming.RESERVED) == "true":
            owner = naming.Owner(ip.spec.namespace, ip.spec.pod_name)
            idle = not picture.pods.count_by("owner", owner)
            self.unused[ip.spec.subnet] = self.unused.get(ip.spec.subnet, 0) + idle

    @property
    def clean(self) -> bool:
        """True if there is nothing to count."""
        return not any(any(counts.values()) for counts in (self.leaked, self.orphaned, self.drifting))


def without_pods(picture: Picture) -> Iterator[Owner | None]:
    """Whoever has a port or an ordinary IP of ours, and no pod: the only ones that a sweep has to look at, each once.

    None for each record that names nobody of these: who walks over many of them can pause between any two.
    """
    seen: set[Owner] = set()
    for owner in _owners(picture):
        if owner is None or owner in seen or picture.pods.count_by("owner", owner):
            yield None
            continue
        seen.add(owner)
        yield owner


def _owners(picture: Picture) -> Iterator[Owner | None]:
    """Whose each IP and each port is, None for those that no sweep looks at; as they are when it comes to them."""
    for ip in tuple(picture.ips.values()):
        ordinary = ip.metadata.labels.get(naming.RESERVED) == "false" and ip.metadata.ours and not naming.special(ip)
        yield from owners_of_ip(ip) if ordinary else (None,)
    for row in tuple(picture.ports.ports()):
        yield owner_of_row(row) if row.type == "" else None


def disagree(picture: Picture, port: str) -> bool:
    """Whether two records of ours name different addresses for the port; one that names none does not say otherwise."""
    row = picture.port(port)
    kinds = _RECORDS if row is None or row.ours else _RECORDS - {Source.PORT}
    ip = picture.ips.get("", port)
    if ip is not None and not ip.metadata.ours:  # a stranger's object may name whatever it likes
        kinds -= {Source.IP}
    said: dict[Source, set[object]] = {}
    for source, _, record in picture.ledger.records_of(port):
        if source in kinds:
            said.setdefault(source, set()).update((record.subnet, address) for address in record.addresses)
    every = [addresses for addresses in said.values() if addresses]
    return any(one != every[0] for one in every[1:])
