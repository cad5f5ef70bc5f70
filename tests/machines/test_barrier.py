"""Read your own writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from controller.core.objects import Kind
from controller.machines.barrier import Barrier, Seen

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Replicas:
    """How far the replicas are, for a test to say."""

    versions: dict[Kind, int] = field(default_factory=dict)
    objects: set[tuple[Kind, str, str]] = field(default_factory=set)
    seq: int = 0
    epoch: int = 0

    def version(self, kind: Kind) -> int:
        return self.versions.get(kind, 0)

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        return (kind, namespace, name) in self.objects


IP = (Kind.IP, "", "web-0.shop")


def test_a_key_that_wrote_nothing_is_never_behind() -> None:
    """Nothing is waited for, nothing is kept."""
    barrier: Barrier[str] = Barrier()

    assert not barrier.behind("key", Replicas())
    assert barrier.doubts("key") == ()


def test_an_answered_write_waits_for_its_version() -> None:
    """The newest version of each kind counts; other keys do not wait."""
    barrier: Barrier[str] = Barrier()
    barrier.wrote("key", Kind.IP, 7)
    barrier.wrote("key", Kind.IP, 5)
    barrier.wrote("key", Kind.POD, 3)

    assert barrier.behind("key", Replicas({Kind.IP: 6, Kind.POD: 3}))
    assert not barrier.behind("other", Replicas())
    assert not barrier.behind("key", Replicas({Kind.IP: 7, Kind.POD: 3}))
    assert len(barrier) == 0


def test_what_was_shown_once_is_not_asked_for_again() -> None:
    """Each replica may catch up at another time."""
    barrier: Barrier[str] = Barrier()
    barrier.wrote("key", Kind.IP, 7)
    barrier.wrote("key", Kind.POD, 7)

    assert barrier.behind("key", Replicas({Kind.IP: 7}))
    assert not barrier.behind("key", Replicas({Kind.POD: 7}))


def test_a_delete_of_nothing_is_not_waited_for() -> None:
    """Version 0 leaves no trace."""
    barrier: Barrier[str] = Barrier()
    barrier.wrote("key", Kind.IP, 0)

    assert len(barrier) == 0


def test_an_answered_commit_waits_for_its_seq() -> None:
    """The newest one counts."""
    barrier: Barrier[str] = Barrier()
    barrier.wrote_rows("key", 4)
    barrier.wrote_rows("key", 2)

    assert barrier.behind("key", Replicas(seq=3))
    assert not barrier.behind("key", Replicas(seq=4))
    assert len(barrier) == 0


def test_a_silent_commit_waits_for_a_later_epoch() -> None:
    """The whole content of the same epoch may have been read before the commit landed."""
    barrier: Barrier[str] = Barrier()
    barrier.unknown_rows("key", 2)
    barrier.unknown_rows("key", 1)

    assert barrier.behind("key", Replicas(seq=100, epoch=2))
    assert not barrier.behind("key", Replicas(seq=101, epoch=3))


def test_a_silent_write_needs_one_consistent_read() -> None:
    """No replica, however new, can end the doubt."""
    barrier: Barrier[str] = Barrier()
    barrier.unknown("key", *IP)
    barrier.unknown("key", *IP)

    assert barrier.doubts("key") == (IP,)
    assert barrier.behind("key", Replicas({Kind.IP: 10**9}, {IP}))


def test_a_doubt_that_was_read_waits_for_the_version_read() -> None:
    """The replica must be as new as the read was."""
    barrier: Barrier[str] = Barrier()
    barrier.unknown("key", *IP)
    barrier.resolved("key", *IP, 12)

    assert barrier.doubts("key") == ()
    assert barrier.behind("key", Replicas({Kind.IP: 11}, {IP}))
    assert not barrier.behind("key", Replicas({Kind.IP: 12}, {IP}))
    assert len(barrier) == 0


def test_a_doubt_that_was_read_as_absent_is_over_where_the_replica_agrees() -> None:
    """The silent create never happened."""
    barrier: Barrier[str] = Barrier()
    barrier.unknown("key", *IP)
    barrier.resolved("key", *IP, None)

    assert not barrier.behind("key", Replicas())
    assert len(barrier) == 0


def test_a_replica_that_shows_what_was_read_as_absent_is_doubted_again() -> None:
    """It is late, or somebody made the object anew: waiting for its absence could take for ever."""
    barrier: Barrier[str] = Barrier()
    barrier.unknown("key", *IP)
    barrier.resolved("key", *IP, None)

    assert barrier.behind("key", Replicas({Kind.IP: 5}, {IP}))
    assert barrier.doubts("key") == (IP,)
    barrier.resolved("key", *IP, 8)
    assert barrier.behind("key", Replicas({Kind.IP: 5}, {IP}))
    assert not barrier.behind("key", Replicas({Kind.IP: 8}, {IP}))


def test_prune_forgets_the_keys_nobody_asks_about_any_more() -> None:
    """A key whose object is gone may never be worked on again."""
    barrier: Barrier[str] = Barrier()
    barrier.wrote("done", Kind.IP, 5)
    barrier.wrote("late", Kind.IP, 6)

    barrier.prune(Replicas({Kind.IP: 5}))

    assert len(barrier) == 1
    assert barrier.behind("late", Replicas({Kind.IP: 5}))


KINDS = st.sampled_from([Kind.IP, Kind.POD])
WRITES = st.one_of(
    st.builds(lambda kind, version: lambda b, key: b.wrote(key, kind, version), KINDS, st.integers(0, 9)),
    st.builds(lambda seq: lambda b, key: b.wrote_rows(key, seq), st.integers(0, 9)),
    st.builds(lambda epoch: lambda b, key: b.unknown_rows(key, epoch), st.integers(0, 3)),
    st.builds(lambda kind: lambda b, key: b.unknown(key, kind, "", "x"), KINDS),
    st.builds(
        lambda kind, version: lambda b, key: b.resolved(key, kind, "", "x", version),
        KINDS,
        st.none() | st.integers(1, 9),
    ),
)


@given(st.lists(st.tuples(st.sampled_from("xy"), WRITES), max_size=12))
def test_replicas_that_show_everything_leave_nothing_behind(
    writes: list[tuple[str, Callable[[Barrier[str], str], None]]],
) -> None:
    """Whatever was written and read, a world that has caught up ends every wait and frees all memory."""
    barrier: Barrier[str] = Barrier()
    for key, write in writes:
        write(barrier, key)
    for key in "xy":
        for doubt in barrier.doubts(key):
            barrier.resolved(key, *doubt, None)
    world: Seen = Replicas({Kind.IP: 9, Kind.POD: 9}, seq=9, epoch=4)

    assert not barrier.behind("x", world)
    assert not barrier.behind("y", world)
    assert len(barrier) == 0
