"""`--mode=observe`: says once what the records of a cluster disagree about, and writes nothing (contract §9).

For a cluster that another controller manages, which is at work while we look: what is under way disagrees for a
moment, so only what was the same in two passes is reported. A watch that hangs would make objects of its kind missing:
so every watch has to have told since the first of them that nothing is new, or, where a server does not tell that of a
kind of which nothing has happened since its own start, so much time has passed that what hung was opened again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import structlog

from controller.core import naming, records
from controller.core.addresses import format_address
from controller.core.ipam import Source
from controller.reconcilers.audit import disagree
from controller.reconcilers.nics import takes_part
from controller.reconcilers.telemetry import DISAGREEMENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import TypeAlias

    from controller.core.objects import Kind, Seconds
    from controller.ports import World
    from controller.reconcilers.picture import Picture
    from controller.reconcilers.settings import Tuning
    from controller.reconcilers.sweeper import Sweeper
    from controller.reconcilers.telemetry import Telemetry

    _Same: TypeAlias = tuple[str, str, str]

log = structlog.get_logger()
_WHO = {Source.POD: "pod", Source.IP: "IP", Source.PORT: "logical switch port"}


class Disagreement(NamedTuple):
    """What is wrong about one port name, with the objects that say so."""

    kind: str  # one of telemetry.DISAGREEMENTS
    subnet: str
    name: str  # of the IP object and of the port, or the address that two have
    says: str

    @property
    def key(self) -> _Same:
        """What makes it the same one later, also when the objects have come to say something else."""
        return self.kind, self.subnet, self.name


class Observer:
    """Remembers from one pass to the next what it saw, and what it has reported."""

    def __init__(
        self,
        world: World,
        tuning: Tuning,
        picture: Picture,
        sweeper: Sweeper,
        telemetry: Telemetry,
        heard: Mapping[Kind, Seconds],
    ) -> None:
        """`heard`: when each watch brought something last."""
        self._clock, self._northbound, self._every = world.clock, world.northbound, tuning.sweep_s
        self._picture, self._sweeper, self._telemetry, self._heard = picture, sweeper, telemetry, heard
        self._silence = tuning.watch_silence_s
        self._before: dict[_Same, tuple[Disagreement, Seconds]] = {}  # and since when it is the same
        self.reported: dict[_Same, Disagreement] = {}

    async def run(self) -> None:
        """One pass at once, then one each interval, until cancelled."""
        while True:
            await self.pass_once()
            await self._clock.sleep(self._every * self._clock.jitter())

    async def pass_once(self) -> None:
        """Compare everything, report what is new, and what is mended.

        While Northbound is away nothing is: the ports of pods that were made meanwhile are not missing (Rule 2).
        """
        began, follows = self._clock.now(), self._northbound.connected
        known = min(self._heard.values())  # what had happened by then is shown
        found = {one.key: one async for one in self._everything()}
        if not (follows and self._northbound.connected):
            return
        since = {key: self._since(one, began) for key, one in found.items()}
        certain = max(known, began - 2 * self._silence)
        new = {key: one for key, one in found.items() if key not in self.reported and since[key] < certain}
        turn = self._clock.now()
        for one in sorted(new.values()):
            log.warning("disagreement", kind=one.kind, subnet=one.subnet, object=one.name, says=one.says)
            turn = await self._sweeper.breathe(turn)
        for one in sorted(one for key, one in self.reported.items() if key not in found):
            log.info("agreed", kind=one.kind, subnet=one.subnet, object=one.name)
            turn = await self._sweeper.breathe(turn)
        self.reported = {key: one for key, one in self.reported.items() if key in found} | new
        self._before = {key: (one, since[key]) for key, one in found.items()}
        counts = Counter(one.kind for one in self.reported.values())
        for kind in DISAGREEMENTS:
            self._telemetry.disagreements.labels(kind).set(counts[kind])
        self._telemetry.swept("clean", self._clock.now() - began, self._clock.wall())

    def _since(self, one: Disagreement, now: Seconds) -> Seconds:
        same, at = self._before.get(one.key, (None, now))
        return at if same == one else now

    async def _everything(self) -> AsyncIterator[Disagreement]:
        """A pass over many takes more than one turn of the loop."""
        picture, suspects = self._picture, await self._sweeper.count()
        turn = self._clock.now()
        for suspect in suspects:
            for kind, is_one in (("leaked_port", suspect.leaked), ("orphaned_ip", suspect.orphaned)):
                if is_one:
                    yield Disagreement(kind, suspect.subnet, suspect.port, f"{suspect.owner}: {suspect.cause}")
            turn = await self._sweeper.breathe(turn)
        for subnet, address in picture.ledger.duplicates():
            holders = ", ".join(sorted(picture.ledger.holders(subnet, address)))
            yield Disagreement("duplicate_address", subnet, format_address(address), holders)
        for name, runs in (await self._names()).items():
            for one in _of_name(picture, name, runs):
                yield one
            turn = await self._sweeper.breathe(turn)

    async def _names(self) -> dict[str, str]:
        """Every name that an IP, a port or a running pod's NIC has, and the pod that runs with it, "" without one."""
        picture, names, turn = self._picture, dict[str, str](), self._clock.now()
        for ip in tuple(picture.ips.values()):
            if not naming.special(ip):
                names[ip.metadata.name] = ""
            turn = await self._sweeper.breathe(turn)
        for row in tuple(picture.ports.ports()):
            if row.ours and row.type == "":
                names[row.name] = ""
            turn = await self._sweeper.breathe(turn)
        for pod in tuple(picture.pods.values()):
            if takes_part(pod):
                owner, who = naming.owner_of(pod), f"{pod.metadata.namespace}/{pod.metadata.name}"
                names |= {naming.port_name(owner, provider): who for provider in records.running(pod)}
            turn = await self._sweeper.breathe(turn)
        return names


def _of_name(picture: Picture, name: str, runs: str) -> Iterator[Disagreement]:
    """What its records disagree about; a pod that runs has both an IP and, in a subnet of OVN's, a port."""
    said = picture.ledger.records_of(name)
    subnet = next((record.subnet for _, _, record in said), "")
    if disagree(picture, name):
        yield Disagreement("records_differ", subnet, name, _says(picture, name, runs))
    if not runs or not subnet:
        return
    if picture.port(name) is None and naming.is_ovn(picture.atlas.place(subnet).provider):
        yield Disagreement("port_missing", subnet, name, _says(picture, name, runs))
    if picture.ips.get("", name) is None:
        yield Disagreement("ip_missing", subnet, name, _says(picture, name, runs))


def _says(picture: Picture, name: str, runs: str) -> str:
    """Who says what: `pod default/web: net 10.0.0.2; IP web.default: net 10.0.0.3`."""
    parts: dict[str, list[str]] = {}
    for source, _, record in picture.ledger.records_of(name):
        if source in _WHO:
            who = f"{_WHO[source]} {runs if source is Source.POD else name}"
            parts.setdefault(who, []).extend(f"{record.subnet} {format_address(one)}" for one in record.addresses)
    return "; ".join(f"{who}: {', '.join(dict.fromkeys(texts))}" for who, texts in sorted(parts.items()))
