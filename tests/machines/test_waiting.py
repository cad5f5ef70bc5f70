"""Who waits for what, and who gets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.machines.waiting import Waiting, _Ration

SPACE = ("space", "net")
PLAN = ("subnet", "net")


def line(*keys: str) -> Waiting[str]:
    """Keys that wait for room in `net`, since 0, 1, 2, ..."""
    waiting: Waiting[str] = Waiting()
    for now, key in enumerate(keys):
        waiting.wait(key, (SPACE,), now)
    return waiting


def test_a_topic_wakes_all_who_wait_for_it_oldest_first() -> None:
    """And only them; waking does not end the waiting."""
    waiting: Waiting[str] = Waiting()
    waiting.wait("b", (PLAN,), 0.0)
    waiting.wait("a", (PLAN, SPACE), 1.0)
    waiting.wait("c", (("subnet", "other"),), 2.0)

    assert waiting.fire(PLAN) == ["b", "a"]
    assert waiting.fire(PLAN) == ["b", "a"]
    assert waiting.fire(PLAN, 1) == ["b"]
    assert waiting.fire(("subnet", "unheard of")) == []


def test_waiting_for_something_else_ends_the_former_waiting() -> None:
    """A key waits for exactly the topics of its last wait."""
    waiting: Waiting[str] = Waiting()
    waiting.wait("a", (PLAN,), 0.0)
    waiting.wait("a", (SPACE, SPACE), 0.0)

    assert waiting.fire(PLAN) == []
    assert waiting.fire(SPACE) == ["a"]
    waiting.wait("a", (), 0.0)
    assert waiting.fire(SPACE) == []
    assert len(waiting) == 0


def test_waiting_again_keeps_place_and_time() -> None:
    """Looking in vain costs nothing."""
    waiting = line("a", "b")
    waiting.wait("a", (PLAN, SPACE), 9.0)

    assert waiting.stats(10.0) == {"net": (2, 10.0)}
    assert waiting.fire(SPACE, 1) == ["a"]


def test_stats_count_by_subnet_and_only_those_who_wait_for_room() -> None:
    """How many, and how long the oldest."""
    waiting = line("a", "b")
    waiting.wait("c", (("space", "other"), PLAN), 5.0)
    waiting.clear("a")

    assert waiting.stats(11.0) == {"net": (1, 10.0), "other": (1, 6.0)}
    assert len(waiting) == 2


def test_a_budget_grants_to_the_oldest_and_never_more_than_there_is() -> None:
    """Grants that are out count against it."""
    waiting = line("a", "b", "c", "d")

    assert waiting.fire(SPACE, 2) == ["a", "b"]
    assert waiting.fire(SPACE, 2) == []
    assert waiting.fire(SPACE, 3) == ["c"]
    assert waiting.fire(SPACE, 1) == []
    assert waiting.fire(SPACE) == ["d"]
    assert waiting.fire(SPACE) == []


def test_who_is_first_or_granted_need_not_be_patient() -> None:
    """Everybody else must, newcomers too."""
    waiting = line("a", "b", "c")
    assert [waiting.patient(key, SPACE) for key in ("a", "b", "c", "new")] == [False, True, True, True]

    waiting.fire(SPACE, 2)

    assert [waiting.patient(key, SPACE) for key in ("a", "b", "c", "new")] == [False, False, True, True]
    assert not waiting.patient("new", ("space", "other"))


def test_nobody_is_patient_where_there_is_one_for_each() -> None:
    """The others in line are counted, not those ahead: that is O(1), and grants make up for it."""
    waiting = line("a", "b", "c")

    assert [waiting.patient("new", SPACE, free) for free in (3, 4)] == [True, False]
    assert [waiting.patient("b", SPACE, free) for free in (2, 3)] == [True, False]


def test_a_used_grant_is_not_passed_on() -> None:
    """took() and then clear(): what was granted is gone; the new first is told once."""
    waiting = line("a", "b", "c")
    waiting.fire(SPACE, 2)

    waiting.took("b", SPACE)
    assert waiting.clear("b") == []
    waiting.took("a", SPACE)
    assert waiting.clear("a") == ["c"]


@pytest.mark.parametrize("leave", [lambda w: w.clear("a"), lambda w: w.wait("a", (PLAN,), 5.0)])
def test_a_grant_that_is_not_used_goes_to_the_next(leave: object) -> None:
    """Deleted or decided otherwise: no address lies idle while somebody waits."""
    waiting = line("a", "b", "c")
    waiting.fire(SPACE, 2)

    assert callable(leave)
    assert leave(waiting) == ["c"]
    assert not waiting.patient("c", SPACE)


def test_a_grant_ends_when_its_key_looked_and_found_no_room() -> None:
    """It is not passed on: there is nothing to pass on. The next room goes to the same key."""
    waiting = line("a", "b")
    waiting.fire(SPACE, 1)

    assert waiting.wait("a", (SPACE,), 5.0) == []
    assert waiting.patient("b", SPACE)
    assert waiting.fire(SPACE, 1) == ["a"]


def test_a_failing_key_hands_its_grant_on_and_holds_up_nobody() -> None:
    """It is parked until it looks again."""
    waiting = line("a", "b", "c")
    waiting.fire(SPACE, 1)

    assert waiting.revoke("a") == ["b"]
    assert waiting.revoke("a") == []
    assert [waiting.patient(key, SPACE) for key in ("a", "b", "c")] == [False, False, True]
    assert waiting.fire(SPACE, 2) == ["c"]


def test_failing_keys_do_not_hand_a_grant_to_and_fro() -> None:
    """Each is woken once: then only the queue's backoff brings it back."""
    waiting = line("a", "b")
    waiting.fire(SPACE, 1)

    assert waiting.revoke("a") == ["b"]
    assert waiting.revoke("b") == []
    assert waiting.fire(SPACE, 1) == []
    assert not waiting.patient("new", SPACE)


def test_a_failing_first_makes_the_next_one_first() -> None:
    """Granted or not, whoever is now the first is told."""
    waiting = line("a", "b", "c")

    assert waiting.revoke("a") == ["b"]
    assert not waiting.patient("b", SPACE)


def test_a_parked_key_comes_back_to_its_old_place() -> None:
    """Failing costs a turn, not the place in line."""
    waiting = line("a", "b", "c")
    waiting.revoke("a")
    waiting.revoke("b")
    waiting.wait("b", (SPACE,), 9.0)
    waiting.wait("a", (SPACE,), 9.0)

    assert waiting.fire(SPACE, 3) == ["a", "b", "c"]
    assert waiting.stats(10.0) == {"net": (3, 10.0)}


def test_a_parked_key_behind_others_is_patient_when_it_looks() -> None:
    """It holds nothing, so those ahead of it go first."""
    waiting = line("a", "b")
    waiting.revoke("b")

    assert waiting.patient("b", SPACE)
    assert [waiting.patient("b", SPACE, free) for free in (1, 2)] == [True, False]


def test_a_parked_key_may_leave() -> None:
    """Nobody has to be told."""
    waiting = line("a", "b")
    waiting.revoke("b")

    assert waiting.clear("b") == []
    assert waiting.fire(SPACE, 5) == ["a"]


def test_the_first_that_leaves_tells_its_successor() -> None:
    """Unless that one is under way with a grant of its own; who was not first has no successor."""
    waiting = line("a", "b", "c", "d")

    assert waiting.clear("c") == []
    assert waiting.clear("a") == ["b"]
    waiting.fire(SPACE, 2)
    waiting.took("b", SPACE)
    assert waiting.clear("b") == []
    waiting.took("d", SPACE)
    assert waiting.clear("d") == []


def test_who_leaves_and_comes_back_stands_at_the_end() -> None:
    """The former place is forgotten."""
    waiting = line("a", "b")
    waiting.clear("a")
    waiting.wait("a", (SPACE,), 5.0)

    assert not waiting.patient("b", SPACE)
    assert waiting.patient("a", SPACE)
    assert waiting.fire(SPACE, 1) == ["b"]


def test_strangers_take_part_in_nothing() -> None:
    """Keys and subnets nobody waits for."""
    waiting = line("a")
    waiting.took("a", ("space", "other"))
    waiting.took("b", SPACE)

    assert waiting.clear("b") == []
    assert waiting.revoke("b") == []
    assert waiting.fire(("space", "other"), 3) == []


def test_failing_where_nothing_is_rationed_changes_nothing() -> None:
    """Whoever waits for a Subnet to appear is told when it does."""
    waiting: Waiting[str] = Waiting()
    waiting.wait("a", (PLAN,), 0.0)

    assert waiting.revoke("a") == []
    waiting.wait("a", (PLAN,), 0.0)
    assert waiting.fire(PLAN) == ["a"]


def test_granting_and_looking_in_vain_for_ever_takes_no_room() -> None:
    """Entries of the past are dropped."""
    waiting = line("a", "b")
    for now in range(5_000):
        waiting.fire(SPACE, 2)
        waiting.wait("b", (SPACE,), now)
        waiting.revoke("a")
        waiting.wait("a", (SPACE,), now)
    ration = waiting._lines[SPACE]

    assert isinstance(ration, _Ration)
    assert len(ration._active._entries) < 100
    assert len(ration._eligible._entries) < 100
    assert waiting.fire(SPACE, 2) == ["a"]  # "b" got what "a" gave back


@given(st.data(), st.integers(1, 12), st.integers(0, 12))
def test_exactly_the_oldest_get_what_came_free(data: st.DataObject, waiters: int, freed: int) -> None:
    """Whatever the portions in which m addresses come free, newcomers and the order of runs: the m oldest get them."""
    names = [f"k{n}" for n in range(waiters)]
    waiting = line(*names)
    room, winners = 0, set[str]()
    runnable = ["new0", "new1"]
    for _ in range(freed):
        room += 1
        runnable += waiting.fire(SPACE, room)
    while runnable:
        key = runnable.pop(data.draw(st.integers(0, len(runnable) - 1)))
        if key in winners:
            continue
        if room and not waiting.patient(key, SPACE, room if data.draw(st.booleans()) else None):
            room -= 1
            winners.add(key)
            waiting.took(key, SPACE)
            runnable += waiting.clear(key)
        else:
            runnable += waiting.wait(key, (SPACE,), 99.0)

    expected = [*names, "new0", "new1"][:freed]
    assert winners.issuperset(expected[:waiters])
    assert len(winners) == min(freed, waiters + 2)


KEYS = st.sampled_from("abcdefg")


class WaitingModel(RuleBasedStateMachine):
    """A subnet, a queue that runs what it is told to in any order, and failures: no wake-up is ever lost."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: Waiting[str] = Waiting()
        self.room = 0
        self.held: set[str] = set()
        self.wants: set[str] = set()
        self.runnable: dict[str, None] = {}
        self.failing: set[str] = set()
        self.now = 0.0

    def _wake(self, keys: list[str]) -> None:
        assert len(keys) == len(set(keys))
        self.runnable |= dict.fromkeys(keys)

    @rule(key=KEYS)
    def arrive(self, key: str) -> None:
        self.wants.add(key)
        self._wake([key])

    @rule(key=KEYS)
    def depart(self, key: str) -> None:
        self.wants.discard(key)
        self._wake([key])

    @rule()
    def free(self) -> None:
        if self.held:
            gone = min(self.held)
            self.held.remove(gone)
            self.wants.discard(gone)
        self.room += 1
        self._wake(self.waiting.fire(SPACE, self.room))

    @rule()
    def somebody_takes_by_name(self) -> None:
        self.room = max(0, self.room - 1)

    @precondition(lambda self: self.runnable)
    @rule(data=st.data(), knows=st.booleans())
    def run(self, data: st.DataObject, knows: bool) -> None:  # noqa: FBT001 - drawn
        self._run(data.draw(st.sampled_from(sorted(self.runnable))), knows=knows)

    def _run(self, key: str, *, knows: bool) -> None:
        del self.runnable[key]
        self.now += 1.0
        if key not in self.wants or key in self.held:
            self._wake(self.waiting.clear(key))
        elif self.room and not self.waiting.patient(key, SPACE, self.room if knows else None):
            self.room -= 1
            self.held.add(key)
            self.waiting.took(key, SPACE)
            self._wake(self.waiting.clear(key))
        else:
            self._wake(self.waiting.wait(key, (SPACE,), self.now))

    @precondition(lambda self: self.runnable)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.runnable)))
        del self.runnable[key]
        self.failing.add(key)
        self._wake(self.waiting.revoke(key))

    @precondition(lambda self: self.failing)
    @rule()
    def retry(self) -> None:
        key = min(self.failing)
        self.failing.remove(key)
        self._wake([key])

    @rule()
    def calm(self) -> None:
        """When nothing fails any more and everything has run, nobody waits beside a free address."""
        self._wake(sorted(self.failing))
        self.failing.clear()
        turns = 0
        while self.runnable:
            self._run(next(iter(self.runnable)), knows=False)
            turns += 1
            assert turns < 100
        waits = self.wants - self.held
        assert not (waits and self.room)
        assert len(self.waiting) == len(waits)

    @invariant()
    def grants_are_counted(self) -> None:
        line = self.waiting._lines.get(SPACE)
        if isinstance(line, _Ration):
            places = line.places.values()
            assert line._granted == sum(place.granted for place in places)
            assert line._parked == sum(place.parked for place in places)
            assert not any(place.granted and place.parked for place in places)
            numbers = [place.number for place in places]
            assert numbers == sorted(numbers)


TestWaitingModel = WaitingModel.TestCase
