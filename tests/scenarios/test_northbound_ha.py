"""Northbound as a cluster of three, which loses members, is cut in two and is restored: no update lost, none twice."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.raft import MEMBERS, Raft
from tests.scenarios.crowd import Crowd, no_trouble, reached
from tests.scenarios.stage import Keeper, Stage, eventually, notes, ports

CIDR = "10.130.0.0/19"


@pytest.fixture(scope="module")
def raft(cluster: Cluster, keeper: Keeper) -> Iterator[Raft]:
    """The cluster's Northbound is this one while these stories are told."""
    assert keeper.stop() == 0, keeper.tail()
    with tempfile.TemporaryDirectory(prefix="keepip-raft-") as folder, pytest.MonkeyPatch.context() as patch:
        made = Raft(Path(folder))
        patch.setattr(cluster, "_northbound", made)
        patch.setattr(cluster, "nb", made.remote)
        keeper.start()
        yield made
        keeper.stop()
        made.stop()
    keeper.start()


def leader_of(raft: Raft) -> int:
    (found,) = eventually("a leader", lambda: [n for n in MEMBERS if raft.leads(n)] or None)
    return found


def followed(stage: Stage, raft: Raft, than: int, connections: float) -> float:
    """Wait until the controller follows the successor of that leader; how long that took since there was one."""
    eventually("a new leader", lambda: any(map(raft.leads, raft.others(than))), seconds=30)
    began = time.monotonic()

    def look() -> bool:
        seen = stage.keeper.metrics()
        assert seen.total("keepip_northbound_connections_total") > connections
        return seen.total("keepip_northbound_connected") == 1

    eventually("the controller follows the new leader", look, seconds=30)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "halt", "cut_off"])
def test_the_leader_is_lost_in_the_middle(raft: Raft, stage: Stage, pool: ThreadPoolExecutor, fault: str) -> None:
    """Killed, stopped, or left in a minority while reservations and pods come and go; then it comes back."""
    net, space = stage.net(CIDR), stage.namespace()
    crowd = Crowd(stage, net, space, 60)
    work = crowd.start(pool)
    reached(crowd, work, 50)
    leader, before = leader_of(raft), stage.keeper.metrics().total("keepip_northbound_connections_total")
    getattr(raft, fault)(leader)
    print(f"\n{fault}: followed {followed(stage, raft, leader, before):.2f} s after there was a new leader")
    {"kill": raft.restart, "halt": raft.go_on, "cut_off": raft.join}[fault](leader)
    for one in work:
        one.result()
    eventually("all is as it should be", crowd.settled, seconds=60, pause=1.0)
    crowd.unique()
    stage.keeper.ready()
    no_trouble(stage, net, len(crowd.mine()))
    crowd.clear(pool)
    eventually("nothing is left", crowd.empty, seconds=60, pause=0.5)
    raft.await_members()


def test_a_follower_that_lags_is_not_listened_to(raft: Raft, stage: Stage, pool: ThreadPoolExecutor) -> None:
    """One that hears nothing any more shows old rows: a controller that starts then must not read them."""
    net, space = stage.net(CIDR), stage.namespace()
    stale = raft.others(leader_of(raft))[0]
    raft.cut_off(stale)
    crowd = Crowd(stage, net, space, 30)
    for one in crowd.start(pool):
        one.result()
    eventually("all is as it should be", crowd.settled, seconds=60, pause=1.0)
    before = ports(stage.cluster)
    stage.keeper.kill()
    stage.keeper.start()
    no_trouble(stage, net, len(crowd.mine()))
    assert crowd.settled()
    assert ports(stage.cluster) == before
    raft.join(stale)
    raft.await_members()
    crowd.clear(pool)
    eventually("nothing is left", crowd.empty, seconds=60, pause=0.5)


def test_all_members_are_away_for_a_while(raft: Raft, stage: Stage) -> None:
    """Reservations go on, pods wait, readiness says why; then everything is made up for."""
    net = stage.net()
    kept = stage.running(f"{stage.tag}-kept", subnet=net)
    stage.running(f"{stage.tag}-gone", subnet=net)
    for n in MEMBERS:
        raft.kill(n)
    stage.reserved(f"{stage.tag}-res", net)
    for name in ("res", "new"):
        stage.pod(f"{stage.tag}-{name}", subnet=net)
    stage.api.delete("pod", f"{stage.tag}-gone")
    eventually("it says so", lambda: "northbound not connected: tcp:" in (stage.keeper.page("/readyz") or ""))
    assert all(stage.api.get("pod", f"{stage.tag}-{one}")["status"]["phase"] == "Pending" for one in ("res", "new"))
    for n in MEMBERS:
        raft.restart(n)
    for name in ("kept", "res", "new"):
        stage.runs(f"{stage.tag}-{name}", seconds=30)
    assert notes(stage.api.get("pod", f"{stage.tag}-kept")) == notes(kept)
    stage.api.gone("ip", f"{stage.tag}-gone.default")
    stage.no_port(f"{stage.tag}-gone.default")
    stage.numbers(net, 3, 250)
    stage.keeper.ready()
    raft.await_members()


def test_a_database_from_an_older_backup_is_brought_up_to_date(raft: Raft, stage: Stage) -> None:
    """Ports made since come back as they were; those of pods that are gone go, though others have their addresses."""
    net = stage.net(stage.cidr(28))  # 13 addresses: those of the pods that go are given to those that come
    names = {part: [f"{stage.tag}-{part}{n}" for n in range(4)] for part in ("kept", "gone", "new", "last")}
    for part in ("kept", "gone"):
        for name in names[part]:
            stage.pod(name, subnet=net)
        for name in names[part]:
            stage.runs(name)
    held = stage.reserved(f"{stage.tag}-res", net)
    backup = raft.backup()
    taken = {notes(stage.api.get("pod", name))["ip_address"] for name in names["gone"]}
    for name in names["gone"]:
        stage.drop(name)
    for name in (*names["new"], *names["last"]):
        stage.pod(name, subnet=net)
    for name in (*names["new"], *names["last"]):
        stage.runs(name)
    live = [name for part in ("kept", "new", "last") for name in names[part]]
    before = {name: notes(stage.api.get("pod", name)) for name in live}
    assert taken & {has["ip_address"] for has in before.values()}, "nobody has an address of the gone: no test"
    rows = {name: row for name, row in ports(stage.cluster).items() if row["external_ids"].get("ls") == net}
    raft.restore(backup)

    def as_before() -> bool:
        found = {name: row for name, row in ports(stage.cluster).items() if row["external_ids"].get("ls") == net}
        assert found == rows
        return True

    eventually("every port is as it was", as_before, seconds=40, pause=0.3)
    assert {name: notes(stage.api.get("pod", name)) for name in live} == before
    assert stage.api.get("ip", f"{stage.tag}-res.default")["spec"] == held["spec"]
    seen = stage.keeper.quiet(30)
    stage.numbers(net, 13, 0)

    def audited() -> bool:
        now = stage.keeper.metrics()
        for name in ("duplicate_addresses", "leaked", "orphaned", "drifting"):
            assert now.total(f"keepip_subnet_{name}", subnet=net) == 0, name
        return True

    eventually("an audit of nothing", audited)
    assert seen.total("keepip_subnet_used_addresses", subnet=net) == 13
    stage.running(f"{stage.tag}-extra", subnet=stage.net())
