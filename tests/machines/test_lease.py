"""Leader election as a table over (what was read or answered, now)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.faults import Impossible
from controller.core.objects import Lease, LeaseSpec, Meta
from controller.machines.lease import Acquire, LeaseMachine, Read, Release, Renew, Sighting, Wait

NOW = "2026-01-01T00:00:00.000000Z"
LATER = "2026-01-01T00:00:02.000000Z"


def lease(holder: str, version: int = 7, renewed: str = "t1", *, transitions: int = 3, fault: str = "") -> Lease:
    spec = LeaseSpec(
        holder_identity=holder,
        lease_duration_seconds=15,
        acquire_time="t0",
        renew_time=renewed,
        lease_transitions=transitions,
    )
    return Lease(metadata=Meta(name="keepip", resource_version=str(version)), spec=spec, fault=fault)


def record(holder: str, acquired: str, renewed: str, transitions: int) -> dict[str, Any]:
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": 15,
        "acquireTime": acquired,
        "renewTime": renewed,
        "leaseTransitions": transitions,
    }


def machine() -> LeaseMachine:
    return LeaseMachine("me", namespace="kube-system")


def leader(now: float = 100.0) -> LeaseMachine:
    """Leads since `now`, by version 8."""
    one = machine()
    one.act(now, NOW)
    one.observed(None, now)
    one.act(now, NOW)
    one.answered(8, now)
    return one


def after_read(found: Lease | None, now: float = 100.0) -> LeaseMachine:
    one = machine()
    assert one.act(now, NOW) == Read(within=5.0)
    one.observed(found, now)
    return one


def test_it_begins_by_reading() -> None:
    """Nobody leads who has not looked."""
    one = machine()

    assert one.act(100.0, NOW) == Read(within=5.0)
    assert not one.leading(100.0)
    assert not one.lost(100.0)
    assert one.holder == ""


def test_a_lease_that_is_not_there_is_created() -> None:
    """The name is the guard."""
    one = after_read(None)

    assert one.act(100.0, NOW) == Acquire(
        {"metadata": {"name": "keepip", "namespace": "kube-system"}, "spec": record("me", NOW, NOW, 0)},
        create=True,
        within=5.0,
    )
    one.answered(8, 100.5)
    assert one.leading(100.5)
    assert one.until == 110.0


def test_an_empty_holder_is_taken_at_once() -> None:
    """The former leader has released it; that makes a transition."""
    one = after_read(lease(""))

    assert one.act(100.0, NOW) == Acquire(
        {"metadata": {"resourceVersion": "7"}, "spec": record("me", NOW, NOW, 4)}, create=False, within=5.0
    )


def test_the_own_identity_is_taken_at_once() -> None:
    """The answer of an acquisition was lost: the same term goes on."""
    one = after_read(lease("me"))

    assert one.act(100.0, NOW) == Acquire(
        {"metadata": {"resourceVersion": "7"}, "spec": record("me", "t0", NOW, 3)}, create=False, within=5.0
    )


def test_another_holder_is_looked_at_every_second() -> None:
    """Its record may change at any time, and what was released shall be taken within two (issue 5)."""
    one = after_read(lease("you"))

    assert one.act(100.0, NOW) == Wait(1.0)
    assert one.act(100.5, NOW) == Wait(0.5)
    assert one.act(101.0, NOW) == Read(within=5.0)
    assert one.holder == "you"


def test_another_holder_is_taken_over_when_its_record_has_not_changed_for_its_duration() -> None:
    """By our clock, from when we saw the change: texts are not compared."""
    one = after_read(lease("you", 7, "1999-01-01T00:00:00.000000Z"), 100.0)
    one.observed(lease("you", 9, "1999-01-01T00:00:02.000000Z"), 110.0)
    one.observed(lease("you", 10, "1999-01-01T00:00:02.000000Z"), 124.0)  # a label changed, not the record

    assert one.act(124.0, NOW) == Wait(1.0)
    assert one.act(125.0, NOW) == Read(within=5.0)
    one.observed(lease("you", 10, "1999-01-01T00:00:02.000000Z"), 125.0)
    assert isinstance(one.act(125.0, NOW), Acquire)


def test_jitter_lengthens_the_pause_between_looks() -> None:
    """So that two candidates do not look in step."""
    one = machine()
    one.act(100.0, NOW)
    one.observed(lease("you"), 100.0, jitter=1.25)

    assert one.act(100.0, NOW) == Wait(1.25)


def test_a_record_that_cannot_be_read_is_somebodys() -> None:
    """Until it has been the same for our own duration, since it names none."""
    broken = Lease(metadata=Meta(name="keepip", resource_version="7"), fault="spec.renewTime: Expected str")
    one = after_read(broken, 100.0)

    assert one.holder == "?"
    assert one.act(100.0, NOW) == Wait(1.0)
    one.observed(broken, 115.0)
    assert one.act(115.0, NOW) == Acquire(
        {"metadata": {"resourceVersion": "7"}, "spec": record("me", NOW, NOW, 1)}, create=False, within=5.0
    )


def test_a_leader_renews_every_two_seconds() -> None:
    """By the version of its last write, without a read."""
    one = leader(100.0)

    assert one.act(100.0, NOW) == Wait(2.0)
    assert one.act(102.0, LATER) == Renew(
        {"metadata": {"resourceVersion": "8"}, "spec": record("me", NOW, LATER, 0)}, within=5.0
    )
    one.answered(9, 102.5)
    assert one.until == 112.0
    assert one.act(104.0, LATER) == Renew(
        {"metadata": {"resourceVersion": "9"}, "spec": record("me", NOW, LATER, 0)}, within=5.0
    )


def test_leading_ends_by_itself_ten_seconds_after_the_last_renewal_was_sent() -> None:
    """No answer is needed for that, and no answer brings it back."""
    one = leader(100.0)
    one.act(102.0, NOW)

    assert one.leading(109.9)
    assert not one.leading(110.0)
    assert one.lost(110.0)
    one.answered(9, 110.0)
    assert not one.leading(110.0)
    assert one.act(110.0, NOW) == Wait(2.0)
    assert one.act(200.0, NOW) == Wait(2.0)


def test_a_leader_in_a_hurry_renews_at_once() -> None:
    """Whoever must know that it leads asks the server, not the clock; it stays one term."""
    one = leader(100.0)
    assert one.term == (0, NOW)
    one.hurry(100.5)

    assert isinstance(one.act(100.5, LATER), Renew)
    one.answered(9, 100.6)
    one.hurry(103.0)
    assert isinstance(one.act(103.0, LATER), Renew), "it was due before"
    assert one.term == (0, NOW)
    follower = after_read(lease("you"))
    follower.hurry(100.0)
    assert follower.act(100.0, NOW) == Wait(1.0)


def test_requests_of_a_leader_die_with_its_term() -> None:
    """What is left of the term is all the time they get."""
    one = leader(100.0)
    one.act(107.0, NOW)
    one.failed(107.0)

    assert one.act(109.0, NOW) == Read(within=1.0)


def test_a_failed_renewal_is_followed_by_a_read_and_another() -> None:
    """The version may have moved: a label, or our own write whose answer was lost."""
    one = leader(100.0)
    one.act(102.0, NOW)
    one.failed(102.5)

    assert one.act(102.5, NOW) == Wait(1.5)
    assert one.act(104.0, NOW) == Read(within=5.0)
    one.observed(lease("me", 12, transitions=0), 104.5)
    renewal = one.act(104.5, LATER)
    assert renewal == Renew({"metadata": {"resourceVersion": "12"}, "spec": record("me", NOW, LATER, 0)}, within=5.0)
    assert one.leading(104.5)
    assert one.until == 110.0


def test_a_request_that_hung_is_followed_by_the_next_at_once() -> None:
    """The pause counts from when it was sent."""
    one = leader(100.0)
    one.act(102.0, NOW)
    one.failed(107.0)

    assert one.act(107.0, NOW) == Read(within=3.0)


@pytest.mark.parametrize(
    "found",
    [None, lease("you"), lease(""), lease("me", transitions=1), lease("me", transitions=0, fault="broken")],
    ids=["gone", "another's", "released", "ours of another term", "unreadable"],
)
def test_a_leader_that_sees_another_record_has_lost(found: Lease | None) -> None:
    """Somebody may have led meanwhile, or may do so from now on."""
    one = leader(100.0)
    one.observed(found, 101.0)

    assert one.lost(101.0)
    assert not one.leading(101.0)


def test_a_leader_that_sees_its_own_record_goes_on() -> None:
    """A watch may tell it at any time."""
    one = leader(100.0)
    one.observed(lease("me", 9, transitions=0), 101.0)

    assert one.leading(101.0)
    assert one.act(101.0, NOW) == Wait(1.0)


def test_after_a_loss_nothing_is_acquired_before_the_writers_are_gone() -> None:
    """stood_down() says so; then it is a candidate like any other."""
    one = leader(100.0)
    one.observed(lease(""), 101.0)

    assert one.act(101.0, NOW) == Wait(2.0)
    one.observed(lease(""), 103.0)
    assert one.act(103.0, NOW) == Wait(2.0)
    one.stood_down()
    assert not one.lost(103.0)
    assert one.act(103.0, NOW) == Read(within=5.0)
    one.observed(lease("", 20), 103.0)
    assert isinstance(one.act(103.0, NOW), Acquire)
    one.answered(21, 103.0)
    assert one.leading(103.0)


def test_an_acquisition_that_failed_is_read_again() -> None:
    """Somebody else was faster, or the answer was lost."""
    one = after_read(None)
    one.act(100.0, NOW)
    one.failed(100.5)

    assert one.act(102.0, NOW) == Read(within=5.0)
    one.observed(lease("you"), 102.0)
    assert one.act(102.0, NOW) == Wait(1.0)


def test_an_acquisition_answered_too_late_is_none() -> None:
    """Counted from when it was sent the term is over already: it is read again, and taken by our own identity."""
    one = after_read(None)
    one.act(100.0, NOW)
    one.answered(8, 110.0)

    assert not one.leading(110.0)
    assert not one.lost(110.0)
    assert one.act(110.0, NOW) == Read(within=5.0)


def test_a_failed_read_is_repeated() -> None:
    """After the pause."""
    one = machine()
    one.act(100.0, NOW)
    one.failed(100.0, jitter=1.25)

    assert one.act(100.0, NOW) == Wait(2.5)
    assert one.act(102.5, NOW) == Read(within=5.0)


def test_a_failure_without_a_request_is_none() -> None:
    """A driver that is interrupted in a pause may say so: the version is still known, and can be released."""
    one = leader(100.0)
    one.failed(101.0)

    assert one.act(101.0, NOW) == Wait(1.0)
    assert one.release(101.0, NOW) is not None


def test_a_request_of_the_former_term_is_forgotten() -> None:
    """Whoever has stood down has nothing in flight."""
    one = leader(100.0)
    one.act(102.0, NOW)
    one.stood_down()

    assert one.act(102.0, NOW) == Read(within=5.0)


def test_release_leaves_an_empty_holder_for_a_second() -> None:
    """The next leader need not wait; this one leads no more from that moment."""
    one = leader(100.0)

    assert one.release(101.0, LATER) == Release(
        {
            "metadata": {"resourceVersion": "8"},
            "spec": record("", LATER, LATER, 0) | {"leaseDurationSeconds": 1},
        }
    )
    assert not one.leading(101.0)
    assert not one.lost(101.0)
    assert one.until == 101.0


@pytest.mark.parametrize("one", [machine(), after_read(lease("you"))], ids=["nothing read", "another leads"])
def test_there_is_nothing_to_release_for_who_does_not_lead(one: LeaseMachine) -> None:
    """Another's record is never touched."""
    assert one.release(101.0, LATER) is None


def test_nothing_is_released_by_an_unknown_version() -> None:
    """The lease runs out by itself."""
    one = leader(100.0)
    one.act(102.0, NOW)
    one.failed(102.0)

    assert one.release(103.0, LATER) is None
    assert not one.leading(103.0)


def test_one_request_at_a_time() -> None:
    """Two guesses at the same version would fight each other."""
    one = machine()
    one.act(100.0, NOW)

    with pytest.raises(Impossible, match="in flight"):
        one.act(100.0, NOW)


def test_an_answer_needs_a_write() -> None:
    """A read is observed, not answered."""
    one = machine()
    with pytest.raises(Impossible, match="without a write"):
        one.answered(8, 100.0)
    one.act(100.0, NOW)
    with pytest.raises(Impossible, match="without a write"):
        one.answered(8, 100.0)


@pytest.mark.parametrize("times", [(10.0, 10.0, 2.0), (15.0, 2.0, 2.0), (15.0, 10.0, 0.0)])
def test_times_that_cannot_be_safe_are_refused(times: tuple[float, float, float]) -> None:
    """A leader must end before others may begin, and must be able to renew before it ends."""
    with pytest.raises(Impossible):
        LeaseMachine("me", *times)


def test_nobody_takes_part_without_an_identity() -> None:
    """An empty holder means nobody."""
    with pytest.raises(Impossible):
        LeaseMachine("")


def test_a_sighting_tells_whether_somebody_elses_lease_is_live() -> None:
    """Kube-OVN's controller is alive while its Lease keeps changing."""
    seen = Sighting()
    assert not seen.live(0.0, 15.0)
    seen.see(lease("kube-ovn", 1, "t1"), 0.0)
    seen.see(lease("kube-ovn", 2, "t2"), 10.0)

    assert seen.live(24.9, 15.0)
    assert not seen.live(25.0, 15.0)
    seen.see(None, 26.0)
    assert seen.holder == ""
    assert not seen.live(26.0, 15.0)


def test_the_servers_wish_is_obeyed_whatever_hurries() -> None:
    """Also by who leads and is asked to confirm it, and beyond the end of the term."""
    one = LeaseMachine("a")
    one.act(0.0, "w")
    one.observed(None, 0.0)
    one.act(0.0, "w")
    one.answered(1, 0.0)
    assert isinstance(one.act(2.0, "w"), Renew)
    one.failed(2.1, 1.0, at_least=5.0)
    one.hurry(3.0)
    assert one.act(3.0, "w") == Wait(7.1 - 3.0)
    assert isinstance(one.act(7.1, "w"), Read)
    one.failed(7.1, 1.0, at_least=20.0)
    assert one.lost(11.0)
    one.stood_down()
    assert one.act(11.0, "w") == Wait(27.1 - 11.0)
    assert isinstance(one.act(27.1, "w"), Read)


class Election(RuleBasedStateMachine):
    """Three candidates whose requests may be lost before, or after, or may land late: at most one ever leads.

    Each candidate's own request ends for it by `within`; the write may land at the server up to then. Clocks of
    different candidates have nothing in common but their speed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.version = 1
        self.lease: Lease | None = None
        self.skew = {"a": 0.0, "b": 1e6, "c": -500.0}
        self.machines = {name: LeaseMachine(name) for name in self.skew}
        self.asked: dict[str, tuple[Acquire | Renew | Read, float]] = {}

    def clock(self, name: str) -> float:
        return self.now + self.skew[name]

    def _write(self, body: Any, *, create: bool) -> int | None:
        current = self.lease.metadata.resource_version if self.lease else None
        if (current is not None) if create else body["metadata"].get("resourceVersion") != current:
            return None
        self.version += 1
        spec = body["spec"]
        self.lease = Lease(
            metadata=Meta(name="keepip", resource_version=str(self.version)),
            spec=LeaseSpec(
                holder_identity=spec["holderIdentity"],
                lease_duration_seconds=spec["leaseDurationSeconds"],
                acquire_time=spec["acquireTime"],
                renew_time=spec["renewTime"],
                lease_transitions=spec["leaseTransitions"],
            ),
        )
        return self.version

    @rule(name=st.sampled_from("abc"))
    def act(self, name: str) -> None:
        one = self.machines[name]
        if name in self.asked:
            return
        if one.lost(self.clock(name)):
            one.stood_down()
        action = one.act(self.clock(name), f"wall {self.now}")
        if not isinstance(action, Wait):
            self.asked[name] = (action, self.now + action.within)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), fate=st.sampled_from(["well", "well", "well", "well", "never arrived", "never answered"]))
    def answer(self, data: st.DataObject, fate: str) -> None:
        self._answer(data.draw(st.sampled_from(sorted(self.asked))), fate)

    def _answer(self, name: str, fate: str) -> None:
        action, _ = self.asked.pop(name)
        one, now = self.machines[name], self.clock(name)
        if fate == "never arrived":
            one.failed(now)
            return
        if isinstance(action, Read):
            one.observed(self.lease, now) if fate == "well" else one.failed(now)
            return
        version = self._write(action.body, create=isinstance(action, Acquire) and action.create)
        if version is None or fate != "well":
            one.failed(now)
        else:
            one.answered(version, now)

    @rule(name=st.sampled_from("abc"))
    def release(self, name: str) -> None:
        body = self.machines[name].release(self.clock(name), f"wall {self.now}")
        self.asked.pop(name, None)
        if body is not None:
            self._write(body.body, create=False)

    @rule(step=st.sampled_from([0.1, 1.0, 2.0, 5.0, 14.0]))
    def wait(self, step: float) -> None:
        until = self.now + step
        while self.asked:
            name = min(self.asked, key=lambda n: (self.asked[n][1], n))
            if self.asked[name][1] > until:
                break
            self.now = max(self.now, self.asked[name][1])
            self._answer(name, "never arrived")
            self.at_most_one_leads()
        self.now = until

    @rule()
    def calm(self) -> None:
        """When nothing is lost any more, somebody leads within two durations."""
        for _ in range(40):
            for name in self.machines:
                self.act(name)
                if name in self.asked:
                    self._answer(name, "well")
                    self.act(name)
                if name in self.asked:
                    self._answer(name, "well")
                self.at_most_one_leads()
            self.now += 1.0
        assert len(self._leaders()) == 1

    def _leaders(self) -> list[str]:
        return [name for name, one in self.machines.items() if one.leading(self.clock(name))]

    @invariant()
    def at_most_one_leads(self) -> None:
        leaders = self._leaders()
        assert len(leaders) <= 1
        if leaders:
            assert self.lease is not None
            assert self.lease.spec.holder_identity == leaders[0]


TestElection = Election.TestCase
