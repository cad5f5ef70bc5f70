"""Dirty, processing, waiting."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.faults import Impossible
from controller.machines.backoff import Backoff
from controller.machines.workqueue import Lane, QueueStats, Taken, WorkQueue

if TYPE_CHECKING:
    from types import FrameType


def queue(low_share: int = 8) -> WorkQueue[str]:
    return WorkQueue(Backoff(base=1.0, cap=8.0), low_share=low_share)


def drain(work: WorkQueue[str], now: float = 0.0) -> list[str]:
    """Take and finish keys one by one until there are none."""
    order = []
    while (taken := work.take(now)) is not None:
        order.append(taken.key)
        work.done(taken.key, now)
    return order


def test_keys_come_out_in_order_and_once() -> None:
    """Adding a waiting key again changes nothing."""
    work = queue()
    for key in "abacab":
        work.add(key, 0.0)

    assert len(work) == 3
    assert drain(work) == ["a", "b", "c"]


def test_a_key_under_way_is_not_handed_out_and_comes_back_once() -> None:
    """However often it was added meanwhile."""
    work = queue()
    work.add("a", 0.0)
    work.take(1.0)
    work.add("a", 2.0)
    work.add("a", 3.0)

    assert work.take(4.0) is None
    work.done("a", 5.0)
    assert work.take(6.0) == Taken("a", Lane.NORMAL, waited=4.0, failures=0)
    work.done("a", 7.0)
    assert work.take(8.0) is None


def test_better_lane_goes_first_and_promotes_a_waiting_key() -> None:
    """A key in a worse lane moves; a key in a better one stays."""
    work = queue()
    work.add("low", 0.0, Lane.LOW)
    work.add("normal", 0.0)
    work.add("promoted", 0.0, Lane.LOW)
    work.add("promoted", 5.0, Lane.URGENT)
    work.add("promoted", 5.0, Lane.LOW)

    assert work.take(6.0) == Taken("promoted", Lane.URGENT, waited=6.0, failures=0)
    assert drain(work) == ["normal", "low"]


def test_a_lane_that_is_too_bad_for_now_is_left_for_later() -> None:
    """Not even where its turn would be due; what it holds is handed out as soon as anything may run."""
    work = queue(low_share=1)
    work.add("low", 0.0, Lane.LOW)
    work.add("normal", 0.0)

    assert work.take(1.0, Lane.NORMAL) == Taken("normal", Lane.NORMAL, waited=1.0, failures=0)
    assert work.take(2.0, Lane.NORMAL) is None
    assert work.take(3.0) == Taken("low", Lane.LOW, waited=3.0, failures=0)


def test_a_key_under_way_keeps_the_best_lane_it_was_added_to() -> None:
    """done() puts it there."""
    work = queue()
    work.add("a", 0.0)
    work.take(0.0)
    work.add("a", 1.0, Lane.LOW)
    work.add("a", 2.0, Lane.URGENT, "flow")
    work.done("a", 3.0)

    assert work.take(4.0) == Taken("a", Lane.URGENT, waited=3.0, failures=0)


def test_flows_of_a_lane_take_turns() -> None:
    """A subnet with many keys does not hold up one with few."""
    work = queue()
    for n in range(4):
        work.add(f"big{n}", 0.0, flow="big")
    work.add("small0", 0.0, flow="small")
    work.add("small1", 0.0, flow="small")

    assert drain(work) == ["big0", "small0", "big1", "small1", "big2", "big3"]


def test_a_promoted_key_leaves_no_empty_flow_behind() -> None:
    """Its old flow goes when it was the last one in it, and stays when it was not."""
    work = queue()
    work.add("a", 0.0, flow="x")
    work.add("b", 0.0, flow="x")
    work.add("a", 0.0, Lane.URGENT, "x")
    work.add("b", 0.0, Lane.URGENT, "x")

    assert work.stats(0.0).depth == (2, 0, 0)
    assert drain(work) == ["a", "b"]


def test_every_eighth_take_serves_a_worse_lane() -> None:
    """An endless stream of urgent keys does not starve the others."""
    work = queue(low_share=4)
    for n in range(12):
        work.add(f"u{n}", 0.0, Lane.URGENT)
    for n in range(2):
        work.add(f"n{n}", 0.0, Lane.NORMAL)
        work.add(f"l{n}", 0.0, Lane.LOW)

    order = drain(work)

    assert [key[0] for key in order] == list("uuuluuunuuuluuun")


def test_earlier_deadline_wins() -> None:
    """A later one is dropped, an earlier one takes its place."""
    work = queue()
    work.add_at("a", 5.0)
    work.add_at("a", 9.0)
    assert work.next_deadline() == 5.0
    work.add_at("a", 3.0)
    assert work.next_deadline() == 3.0

    assert work.take(2.9) is None
    assert work.take(3.0) == Taken("a", Lane.NORMAL, waited=0.0, failures=0)
    work.done("a", 3.0)
    assert work.next_deadline() is None
    assert work.take(10.0) is None


def test_of_two_deadlines_the_better_lane_wins_too() -> None:
    """Whichever of the two was booked first."""
    work = queue()
    work.add_at("a", 5.0, Lane.LOW)
    work.add_at("a", 9.0, Lane.URGENT)
    work.add_at("b", 5.0, Lane.NORMAL)
    work.add_at("b", 4.0, Lane.LOW)

    assert [work.take(5.0), work.take(5.0)] == [
        Taken("a", Lane.URGENT, 0.0, 0),
        Taken("b", Lane.NORMAL, 1.0, 0),
    ]


def test_add_leaves_a_pending_deadline_alone() -> None:
    """The key runs now, and again when it is due."""
    work = queue()
    work.add_at("a", 5.0)
    work.add("a", 0.0)

    assert drain(work) == ["a"]
    assert work.next_deadline() == 5.0
    assert drain(work, 5.0) == ["a"]


def test_a_deadline_of_a_key_under_way_is_kept() -> None:
    """It only marks the key dirty, for done()."""
    work = queue()
    work.add("a", 0.0)
    work.take(0.0)
    work.add_at("a", 1.0)

    assert work.take(2.0) is None
    work.done("a", 3.0)
    assert work.take(3.0) == Taken("a", Lane.NORMAL, waited=2.0, failures=0)


def test_a_key_runs_from_take_to_done() -> None:
    """Others can see that somebody has it."""
    work = WorkQueue[str](Backoff())
    work.add("a", 0.0)

    assert not work.runs("a")
    work.take(0.0)
    assert work.runs("a")
    work.done("a", 1.0)
    assert not work.runs("a")


def test_retry_backs_off_per_key_until_forgotten() -> None:
    """Twice as long each time, counted in what take() hands out."""
    work = queue()

    assert work.retry("a", 0.0, 1.0) == 1.0
    taken = work.take(1.0)
    assert taken is not None
    assert taken.failures == 1
    assert work.retry("a", 1.0, 1.0) == 3.0
    assert work.retry("b", 1.0, 0.5) == 1.5
    work.forget("a")
    work.done("a", 1.0)
    work.forget("never failed")
    assert work.take(3.0) is not None
    assert work.take(3.0) is not None
    assert work.retry("a", 3.0, 1.0) == 4.0


def test_retry_obeys_the_servers_wish_and_an_earlier_deadline() -> None:
    """`at_least` lengthens the backoff; a look that was booked earlier still comes earlier."""
    work = queue()
    work.add_at("booked", 2.0)

    assert work.retry("told", 0.0, 1.0, at_least=7.0) == 7.0
    assert work.retry("booked", 0.0, 1.0, at_least=7.0) == 2.0


def test_done_without_take_is_a_bug() -> None:
    """Nobody may finish what nobody began."""
    work = queue()
    work.add("a", 0.0)

    with pytest.raises(Impossible):
        work.done("a", 0.0)


def test_stats_count_what_stands_where() -> None:
    """By lane, delayed, under way, and since when."""
    work = queue()
    for key, lane in (("a", Lane.URGENT), ("b", Lane.URGENT), ("c", Lane.LOW), ("c", Lane.LOW)):
        work.add(key, 0.0, lane)
    work.retry("d", 0.0, 1.0)
    work.take(0.0)
    work.take(0.5)

    assert work.stats(0.75) == QueueStats(
        depth=(0, 0, 1),
        delayed=1,
        processing=2,
        adds=3,
        retries=1,
        done=0,
        worked_seconds=0.0,
        unfinished_seconds=1.0,
        longest_running_seconds=0.75,
    )
    work.done("a", 1.0)
    work.done("b", 1.0)
    assert work.stats(1.0).worked_seconds == 1.5
    assert work.stats(1.0).done == 2
    assert work.stats(1.0).longest_running_seconds == 0.0


def test_overtaken_deadlines_take_no_room() -> None:
    """A key whose deadline moves forward a thousand times leaves no thousand entries."""
    work = queue()
    work.add_at("other", 1e6)
    for n in range(10_000):
        work.add_at("a", 1e5 - n)

    assert len(work._heap) < 100
    assert work.next_deadline() == 1e5 - 9_999
    assert drain(work, 1e6) == ["a", "other"]


def test_overtaken_deadlines_are_not_announced() -> None:
    """next_deadline() is when a key really comes, or None."""
    work = queue()
    work.add_at("a", 5.0)
    work.add_at("a", 3.0)
    work.take(4.0)

    assert work.next_deadline() is None
    assert work.take(6.0) is None


def test_an_overtaken_deadline_does_not_bring_a_later_one_forward() -> None:
    """What is left of it in the heap belongs to nobody."""
    work = queue()
    work.add_at("a", 5.0)
    work.add_at("a", 3.0)
    assert drain(work, 3.0) == ["a"]
    work.add_at("a", 9.0)

    assert work.take(5.0) is None
    assert drain(work, 9.0) == ["a"]


class Counted:
    """A key that counts how often it is hashed and compared."""

    touched = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        Counted.touched += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        Counted.touched += 1
        return isinstance(other, Counted) and self.number == other.number


def _live(size: int, *, retried: bool) -> None:
    """Let `size` keys be added, promoted, retried, taken and finished."""
    work: WorkQueue[Counted] = WorkQueue(Backoff())
    for n in range(size):
        key = Counted(n)
        work.add(key, 0.0, Lane(1 + n % 2), f"flow{n % 50}")
        if n % 4 == 0:
            work.add(key, 0.0, Lane.URGENT, "promoted")
        if retried:
            work.retry(key, 0.0, 1.0)
    while (taken := work.take(0.0) or work.take(10.0)) is not None:
        work.done(taken.key, 10.0)


def _touched(size: int) -> float:
    Counted.touched = 0
    _live(size, retried=False)
    return Counted.touched / size


def _called(size: int) -> float:
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        _live(size, retried=True)
    finally:
        sys.setprofile(None)
    return calls / size


def test_a_key_costs_the_same_among_a_hundred_thousand() -> None:
    """Keys hashed and compared and functions called are counted, not seconds: a key's life costs O(1)."""
    assert _touched(100_000) < _touched(1_000) * 1.1
    assert _called(10_000) < _called(500) * 1.1


KEYS = st.sampled_from("abcdef")
LANES = st.sampled_from(Lane)
FLOWS = st.sampled_from(["", "x", "y"])


class QueueModel(RuleBasedStateMachine):
    """The queue beside the plainest description of what it promises."""

    def __init__(self) -> None:
        super().__init__()
        self.work = queue(low_share=3)
        self.now = 0.0
        self.due: dict[str, float] = {}
        self.dirty: dict[str, Lane] = {}
        self.processing: set[str] = set()
        self.failures: dict[str, int] = {}
        self.passed = 0

    def _dirty(self, key: str, lane: Lane) -> None:
        self.dirty[key] = min(lane, self.dirty.get(key, lane))

    @rule(key=KEYS, lane=LANES, flow=FLOWS)
    def add(self, key: str, lane: Lane, flow: str) -> None:
        self.work.add(key, self.now, lane, flow)
        self._dirty(key, lane)

    @rule(key=KEYS, wait=st.floats(0, 5), lane=LANES, flow=FLOWS)
    def add_at(self, key: str, wait: float, lane: Lane, flow: str) -> None:
        self.work.add_at(key, self.now + wait, lane, flow)
        self.due[key] = min(self.now + wait, self.due.get(key, float("inf")))

    @rule(key=KEYS, flow=FLOWS, at_least=st.sampled_from([0.0, 3.0]))
    def retry(self, key: str, flow: str, at_least: float) -> None:
        due = self.now + max(at_least, min(8.0, 2.0 ** self.failures.get(key, 0)))
        self.failures[key] = self.failures.get(key, 0) + 1
        self.due[key] = min(due, self.due.get(key, float("inf")))

        assert self.work.retry(key, self.now, 1.0, flow=flow, at_least=at_least) == self.due[key]

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.work.forget(key)
        self.failures.pop(key, None)

    @rule(step=st.floats(0, 4))
    def wait(self, step: float) -> None:
        self.now += step

    @rule()
    def take(self) -> None:
        for key in [k for k, due in self.due.items() if due <= self.now]:
            del self.due[key]
            self._dirty(key, Lane.LOW)  # at worst: which lane a deadline has is tested by examples
        ready = self.dirty.keys() - self.processing
        taken = self.work.take(self.now)
        if taken is None:
            assert not ready
            return
        assert taken.key in ready
        assert taken.failures == self.failures.get(taken.key, 0)
        assert taken.waited >= 0.0
        del self.dirty[taken.key]
        self.processing.add(taken.key)
        self.passed = self.passed + 1 if any(lane < taken.lane for lane in self._lanes()) else 0
        assert self.passed <= 1

    def _lanes(self) -> list[Lane]:
        return [lane for lane, line in zip(Lane, self.work._lines, strict=True) if line.size]

    @precondition(lambda self: self.processing)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.processing)))
        self.work.done(key, self.now)
        self.processing.remove(key)

    @invariant()
    def nothing_is_lost(self) -> None:
        stats = self.work.stats(self.now)
        assert len(self.work) == sum(stats.depth) == len(self.dirty.keys() - self.processing)
        assert stats.processing == len(self.processing)
        assert stats.delayed == len(self.due)
        assert self.work.next_deadline() == min(self.due.values(), default=None)


TestQueueModel = QueueModel.TestCase
