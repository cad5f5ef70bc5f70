"""Read your own writes: no key is decided on before the replicas show all that it has written.

Each write ends in one of two ways. It is answered: then the replica of its kind has to reach the answer's version.
Or there is silence: then nobody knows whether it happened, and the object stays in doubt until one consistent read
has told, after which the replica has to show what was read. In Northbound the answer is a `seq`, and doubt ends with
the first whole content of a later `epoch`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

from controller.core.objects import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K", bound=Hashable)
Ref: TypeAlias = tuple[Kind, str, str]


class Seen(Protocol):
    """How far the replicas are."""

    def version(self, kind: Kind) -> int:
        """Everything of this kind up to this resourceVersion is in the replica."""
        ...

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        """True if the replica holds such an object."""
        ...

    @property
    def seq(self) -> int:
        """Every Rows up to this one is in the replica."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch of the last Rows in the replica."""
        ...


@dataclass(slots=True)
class _Debt:
    """What the replicas still have to show to one key."""

    versions: dict[Kind, int] = field(default_factory=dict)
    doubts: dict[Ref, None] = field(default_factory=dict)  # an ordered set
    absent: dict[Ref, None] = field(default_factory=dict)
    seq: int = 0
    epoch: int = 0

    def settle(self, seen: Seen) -> bool:
        """Drop what the replicas show by now; True if nothing is left.

        An object that was read as absent and that the replica still holds is in doubt again: either the replica is
        late, or somebody has made it anew since, and only another read can tell which. Waiting for its absence
        without one could take for ever.
        """
        self.versions = {kind: version for kind, version in self.versions.items() if seen.version(kind) < version}
        self.doubts.update((ref, None) for ref in self.absent if seen.has(*ref))
        self.absent.clear()
        return not self.versions and not self.doubts and seen.seq >= self.seq and seen.epoch >= self.epoch


class Barrier(Generic[K]):
    """A key is behind until the replicas show every write of it, answered or not; then nothing is kept of it."""

    def __init__(self) -> None:
        self._debts: dict[K, _Debt] = {}

    def wrote(self, key: K, kind: Kind, version: int) -> None:
        """Wait until the replica of the kind has reached the version of an answered write.

        Version 0 means that nothing had to be written, so nothing is waited for.
        """
        if version > 0:
            versions = self._debt(key).versions
            versions[kind] = max(version, versions.get(kind, 0))

    def wrote_rows(self, key: K, seq: int) -> None:
        """Wait until the Northbound replica has reached the `seq` of an answered commit."""
        debt = self._debt(key)
        debt.seq = max(debt.seq, seq)

    def unknown(self, key: K, kind: Kind, namespace: str, name: str) -> None:
        """Wait until a consistent read has told whether a write without answer has happened."""
        self._debt(key).doubts[kind, namespace, name] = None

    def unknown_rows(self, key: K, epoch: int) -> None:
        """Wait until a whole Northbound content later than `epoch` shows whether a silent commit has happened."""
        debt = self._debt(key)
        debt.epoch = max(debt.epoch, epoch + 1)

    def doubts(self, key: K) -> tuple[Ref, ...]:
        """The objects that need one consistent read before this key can go on."""
        debt = self._debts.get(key)
        return () if debt is None else tuple(debt.doubts)

    def resolved(self, key: K, kind: Kind, namespace: str, name: str, version: int | None) -> None:
        """End a doubt by what was read: the replica has to reach that version, or (None) to show it absent too."""
        debt = self._debt(key)
        debt.doubts.pop((kind, namespace, name), None)
        if version is None:
            debt.absent[kind, namespace, name] = None
        else:
            self.wrote(key, kind, version)

    def behind(self, key: K, seen: Seen) -> bool:
        """True while the replicas do not yet show everything this key has written; what they show is forgotten."""
        debt = self._debts.get(key)
        if debt is None:
            return False
        if not debt.settle(seen):
            return True
        del self._debts[key]
        return False

    def prune(self, seen: Seen) -> None:
        """Forget the keys that are no longer behind, also those that nobody asks about any more."""
        for key in self._settled(seen):
            del self._debts[key]

    def __len__(self) -> int:
        return len(self._debts)

    def _settled(self, seen: Seen) -> Iterable[K]:
        return [key for key, debt in self._debts.items() if debt.settle(seen)]

    def _debt(self, key: K) -> _Debt:
        debt = self._debts.get(key)
        if debt is None:
            debt = self._debts[key] = _Debt()
        return debt
