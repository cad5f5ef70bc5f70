"""Which ports this process has known to have an owner, and which a sweep has cleared.

Whoever of these loses its owner is let go of at once; a stranger only when a sweep says so (contract §7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Ids = frozenset[str]
_NONE: Ids = frozenset()


class Acquaintance:
    """By port name and by the ids of the objects that had it: another object of that name is another one's."""

    def __init__(self) -> None:
        self._known: dict[str, Ids] = {}
        self._cleared: Mapping[str, Ids] = {}

    def meet(self, port: str, ids: Ids) -> None:
        """These objects have an owner now."""
        if ids and self._known.get(port) != ids:
            self._known[port] = ids

    def clear(self, ports: Mapping[str, Ids]) -> None:
        """These, as they are and no others, may be let go of."""
        self._cleared = ports

    def stranger(self, port: str, ids: Ids) -> bool:
        """True for objects of which no owner was ever known and that no sweep has cleared."""
        return bool(ids) and not self.knows(port, ids) and not ids <= self._cleared.get(port, _NONE)

    def knows(self, port: str, ids: Ids) -> bool:
        """True if any of these objects was known to have an owner."""
        return bool(ids & self._known.get(port, _NONE))

    def forget(self, exists: Callable[[str], object]) -> None:
        """Names come and go for as long as the process lives: keep those that exist."""
        for port in [port for port in self._known if not exists(port)]:
            del self._known[port]

    def __len__(self) -> int:
        return len(self._known)
