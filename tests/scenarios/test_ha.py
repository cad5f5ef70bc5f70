"""Two processes and one Lease: what a hand-over takes, and what a late one may still do, which is nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import pytest

from tests.scenarios.crowd import THREADS, Crowd
from tests.scenarios.stage import Answered, Keeper, Object, Stage, eventually, ports

KILLS: Final = int(os.environ.get("KEEPIP_HA_KILLS", "3"))
EACH: Final = 40  # reservations and pods of the churn for each kill
STEPS: Final = EACH * 5 // 2  # what users do with them
PACE_S: Final = 0.3  # a user's pause between two steps: the churn lasts as long as a take-over
USUAL: Final = ("--lease-duration-s=15", "--renew-deadline-s=10", "--retry-period-s=2", "--request-limit-s=10")
LEASE_S: Final = 4.0  # what SHORT_LEASE says
MORE_S: Final = 20.0  # for slow machines; what was measured is printed
KINDS: Final = ("ip", "subnet", "pod", "event")  # what a controller writes to
RIVALS: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
FENCE: Final = ("--columns=external_ids", "list", "HA_Chassis_Group", "keepip")

Say = Callable[[str], None]


class Pair:
    """The stage's controller and a second one, and a subnet in which take-overs are tried."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.first, self.second = stage, stage.keeper, Keeper(stage.cluster, "standby")
        self.net = stage.net()

    def leader(self) -> tuple[Keeper, Keeper]:
        """Who leads, and the other one."""

        def look() -> tuple[Keeper, Keeper] | None:
            both = (self.first, self.second)
            return next(((one, both[one is self.first]) for one in both if one.runs and one.leads), None)

        return eventually("one leads", look, seconds=MORE_S)

    def takes_over(self, one: Keeper, began: float) -> tuple[float, float]:
        """How long since `began` until it leads, and until it has given an address."""
        name = f"{self.stage.tag}-{time.monotonic_ns()}"
        self.stage.reserve(name, self.net)
        eventually(f"{one.name} leads", lambda: one.leads, seconds=LEASE_S + MORE_S)
        leads = time.monotonic() - began
        self.stage.until("ip", f"{name}.default", "Ready", "True", "Reserved", seconds=MORE_S)
        return leads, time.monotonic() - began

    def send(self, one: Keeper, what: signal.Signals) -> None:
        """Send a signal."""
        self.stage.cluster.kill(one.name, what)

    def part(self) -> None:
        """Leave the stage's own controller as the only one, leading."""
        for one in (self.first, self.second):
            self.send(one, signal.SIGCONT)
        if self.second.runs:
            assert self.second.stop() == 0, self.second.tail()
        if not self.first.runs:
            self.first.start(wait=False)
        self.first.ready()


@pytest.fixture
def pair(stage: Stage) -> Iterator[Pair]:
    """A leader and a warm standby."""
    made = Pair(stage)
    made.second.start(wait=False)
    made.second.warm()
    yield made
    made.part()
    bugs = [line for line in made.second.log() if line["msg"] == "bug"]
    assert not bugs, bugs


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print it, captured or not: what was measured is for people."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="", flush=True)

    return tell


def test_sigterm_hands_over_without_waiting_for_the_lease(pair: Pair, say: Say) -> None:
    """With the usual Lease of 15 s, there and back; who leaves ends with 0."""
    for one in (pair.second, pair.first):
        one.again(*USUAL, wait=False)
        one.warm()
    for _ in range(2):
        leaving, coming = pair.leader()
        began = time.monotonic()
        pair.send(leaving, signal.SIGTERM)
        leads, serves = pair.takes_over(coming, began)
        assert leaving.stop() == 0, leaving.tail()
        say(f"SIGTERM: the other one leads after {leads:.2f} s, its first address after {serves:.2f} s")
        assert leads < 15, "it waited for the Lease to run out"
        leaving.start(*USUAL, wait=False)
        leaving.warm()
    pair.first.again(wait=False)


class Steady(Crowd):
    """Users who take their time, and whose churn is not over before the last kill."""

    def __init__(self, stage: Stage, net: str, space: str, size: int) -> None:
        super().__init__(stage, net, space, size)
        self.allowed, self.pace = threading.Semaphore(0), PACE_S

    def hurry(self) -> None:
        """No rests from now on."""
        self.pace = 0.0
        self.allowed.release(10**6)

    def insist(self, step: Callable[[], object]) -> None:
        """Do it when it is allowed, and rest."""
        assert self.allowed.acquire(timeout=300), "the kills have ended"
        super().insist(step)
        time.sleep(self.pace)


@pytest.mark.slow
@pytest.mark.timeout(240 + 60 * KILLS)
def test_a_leader_killed_again_and_again_in_the_middle_of_churn(pair: Pair, say: Say) -> None:
    """Whoever leads is killed with -9: nothing is given twice, no reservation is lost or moved."""
    net, space = pair.stage.net("10.130.0.0/19"), pair.stage.namespace()
    crowd = Steady(pair.stage, net, space, EACH * KILLS)
    took = []
    with ThreadPoolExecutor(THREADS) as threads:
        work = crowd.start(threads)
        for number in range(KILLS):
            dying, heir = pair.leader()
            heir.warm()
            crowd.allowed.release(STEPS)
            eventually("users are busy", lambda begun=crowd.done: crowd.done > begun)  # type: ignore[misc]
            dying.kill()
            began, busy = time.monotonic(), crowd.done
            leads, serves = pair.takes_over(heir, began)
            took.append(leads)
            busy = crowd.done - busy
            crowd.remember()
            say(f"kill -9 {number + 1}: led after {leads:.2f} s, {busy} steps of churn, what came then {serves:.2f} s")
            dying.start(wait=False)
            dying.warm()
        crowd.hurry()
        for one in work:
            one.result()
        eventually("all is as it should be", crowd.settled, seconds=60, pause=1.5)
        crowd.remember()
        crowd.unique()
        assert max(took) < LEASE_S + MORE_S
        crowd.clear(threads)
    eventually("nothing is left", crowd.empty, seconds=60, pause=0.5)
    pair.part()
    for metric in ("keepip_subnet_duplicate_addresses", "keepip_subnet_leaked"):
        eventually(f"no {metric}", lambda metric=metric: pair.first.metrics().total(metric, subnet=net) == 0)  # type: ignore[misc]
    say(f"{KILLS} kills of a leader with a Lease of {LEASE_S:g} s: {min(took):.2f} to {max(took):.2f} s")


def world(stage: Stage) -> tuple[dict[str, str], dict[str, Object], str]:
    """All that a controller may write to: the objects' versions, the ports, the fence."""
    found = [one["metadata"] for kind in KINDS for one in stage.api.all(kind)]
    versions = {f"{meta['uid']} {meta['name']}": meta["resourceVersion"] for meta in found}
    return versions, ports(stage.cluster), stage.cluster.nbctl(*FENCE)


def test_a_leader_that_was_stopped_changes_nothing_when_it_goes_on(pair: Pair, say: Say) -> None:
    """It has work before it that nobody does, its successor is stopped, too: and it leaves that work alone."""
    stage, net = pair.stage, pair.net
    late, heir = pair.leader()
    gone = [stage.reserved(f"{stage.tag}-gone{n}", net)["metadata"]["name"] for n in range(10)]
    pair.send(late, signal.SIGSTOP)
    began = time.monotonic()
    for name in gone:
        stage.api.delete("ip", name)
    for n in range(10):
        stage.pod(f"{stage.tag}-pod{n}", subnet=net)
    leads, _ = pair.takes_over(heir, began)
    for n in range(10):
        stage.runs(f"{stage.tag}-pod{n}")
    for name in gone:
        stage.api.gone("ip", name)
    heir.quiet()
    pair.send(heir, signal.SIGSTOP)
    for n in range(10):
        stage.reserve(f"{stage.tag}-new{n}", net)
        stage.pod(f"{stage.tag}-late{n}", subnet=net)
    scheduled = [f"{stage.tag}-late{n}" for n in range(10)]
    eventually("they are scheduled", lambda: all(stage.api.get("pod", p)["spec"].get("nodeName") for p in scheduled))
    before, lines = world(stage), len(late.log())
    pair.send(late, signal.SIGCONT)

    def deposed() -> bool:
        return any(line["msg"] == "not leading" for line in late.log()[lines:])

    eventually("it knows that it leads no more", deposed)
    written = [line for line in late.log()[lines:] if line["msg"] == "reconciled"]
    assert not written, written
    assert world(stage) == before
    pair.send(heir, signal.SIGCONT)
    for n in range(10):
        stage.until("ip", f"{stage.tag}-new{n}.default", "Ready", "True", "Reserved")
        stage.runs(scheduled[n])
    say(f"SIGSTOP: the other one led after {leads:.2f} s, the late one changed nothing")
    leaving, coming = pair.leader()
    pair.send(leaving, signal.SIGTERM)
    pair.takes_over(coming, time.monotonic())


class Kubeovn:
    """Kube-OVN's controller, as far as its Lease shows it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.api = stage, stage.api
        meta = {"name": "kube-ovn-controller"}
        self.api.ask("POST", RIVALS, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta})

    def write(self, holder: str) -> None:
        """Renew it, or give it back."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 3, "renewTime": now}
        self.api.ask("PATCH", f"{RIVALS}/kube-ovn-controller", {"spec": spec}, "application/merge-patch+json")

    @contextmanager
    def lives(self) -> Iterator[None]:
        """While inside it renews; afterwards it is silent."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(0.5):
                self.write("kube-ovn-a")

        self.write("kube-ovn-a")
        renewing = threading.Thread(target=renew)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()

    def managed(self) -> bool:
        """True if our controller says, in all three places, that this one manages the cluster."""
        keeper = self.stage.keeper
        assert keeper.page("/readyz") == (
            "Kube-OVN's controller kube-ovn-a manages this cluster: Lease kube-system/kube-ovn-controller is live\n"
        )
        assert keeper.metrics().total("keepip_kube_ovn_live") == 1
        assert not keeper.leads
        return any("nothing is managed" in line["msg"] for line in keeper.log())


@pytest.fixture
def kubeovn(stage: Stage) -> Iterator[Kubeovn]:
    """Its Lease, which nobody holds."""
    yield Kubeovn(stage)
    with suppress(Answered):
        stage.api.ask("DELETE", f"{RIVALS}/kube-ovn-controller")


def test_beside_a_live_controller_of_kube_ovn_nothing_is_managed(stage: Stage, kubeovn: Kubeovn) -> None:
    """It stops when that one comes alive, begins nothing beside it, and goes on when it is dead or has given up."""
    net = stage.net()
    with kubeovn.lives():
        eventually("it has stopped", kubeovn.managed)
        name = stage.reserve(f"{stage.tag}-wait", net)["metadata"]["name"]
        stage.keeper.again(wait=False)
        eventually("it has not begun", kubeovn.managed)
        untouched = stage.api.get("ip", name)
        assert untouched["metadata"]["generation"] == 1
        assert "status" not in untouched
    stage.until("ip", name, "Ready", "True", "Reserved")
    with kubeovn.lives():
        eventually("it has stopped again", kubeovn.managed)
        name = stage.reserve(f"{stage.tag}-soon", net)["metadata"]["name"]
        assert stage.api.get("ip", name)["metadata"]["generation"] == 1
    kubeovn.write("")
    stage.until("ip", name, "Ready", "True", "Reserved")
    stage.keeper.ready()
