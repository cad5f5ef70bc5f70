"""What one pool of a shelf has to give: never-used addresses first, the lowest first, then the longest-released one.

A stock knows no holders: the shelf tells it what is held and what came free; every move is O(log n) in the number of
intervals of its region, whatever the number of addresses.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from controller.core.ipam import Release
    from controller.core.ranges import RangeSet


class Stock:
    """The open addresses of one pool, `region`; `used` counts those of them that somebody holds."""

    __slots__ = ("_cursor", "region", "released", "used")

    def __init__(self, region: RangeSet) -> None:
        self.region = region
        self.used = 0
        # OrderedDict, because the first key of a plain dict that is eaten from the front costs O(n).
        self.released: OrderedDict[int, Release] = OrderedDict()
        self._cursor: int | None = region.next_from(0)

    @property
    def free(self) -> int:
        """How many dynamic addresses are left."""
        return self.region.size - self.used

    def next_free(
        self, held: Container[int], now: float, cooldown: float, remembered: int, skip: Container[int] = ()
    ) -> int | None:
        """The address whose turn it is, those of `skip` left out; None when there is none.

        Where addresses hardly ever run out (IPv6), releases would pile up for as long as the process lives: beyond
        `remembered` of them the longest-released one goes first, as soon as it has cooled down.
        """
        oldest = next((value for value in self.released if value not in skip), None)
        if oldest is not None and len(self.released) > remembered and self.released[oldest].at + cooldown <= now:
            return oldest
        self._advance(held)
        value = self._cursor
        while value is not None and (value in skip or value in held or value in self.released):
            value = self.region.next_from(value + 1)
        return oldest if value is None else value

    def _advance(self, held: Container[int]) -> None:
        """Move the cursor to the lowest never-used address. It passes every address once per plan: O(1) for each."""
        while self._cursor is not None and (self._cursor in held or self._cursor in self.released):
            self._cursor = self.region.next_from(self._cursor + 1)
