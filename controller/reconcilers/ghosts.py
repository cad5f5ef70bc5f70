"""Writes without answer may still land: what their ports had stays claimed for as long as such a write may live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core.ipam import Source

if TYPE_CHECKING:
    from controller.core.ipam import Record
    from controller.core.objects import Seconds
    from controller.machines.ledger import Ledger


class Ghosts:
    """Ports that a write without answer is about, each until the last such write is over."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._until: dict[str, Seconds] = {}
        self.unborn: set[str] = set()  # ports whose IP may still come

    def raise_for(self, port: str, now: Seconds, until: Seconds, *, unborn: bool) -> bool:
        """What the port has now stays claimed until then, whoever lets go of it; False if it has nothing.

        `unborn`: the creation of its IP had no answer.
        """
        said = tuple(dict.fromkeys(record for _, _, record in self._ledger.records_of(port)))
        if said:
            self._put(port, said, now)
            self._until[port] = until
            if unborn:
                self.unborn.add(port)
        return bool(said)

    def lay(self, port: str, now: Seconds) -> None:
        """By now all such writes have landed, or never will; nothing while a later one is out."""
        if self._until.get(port, now) <= now:
            self._until.pop(port, None)
            self.unborn.discard(port)
            self._put(port, (), now)

    def _put(self, port: str, records: tuple[Record, ...], now: Seconds) -> None:
        self._ledger.put(Source.OTHER, f"ghost of {port}", records, now)
