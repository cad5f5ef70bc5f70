"""Crashes of the controller and of its servers in the middle of it: nothing doubled, leaked or lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.scenarios.crowd import THREADS, Crowd, no_trouble, reached
from tests.scenarios.stage import Api, Object, Stage, eventually, ports


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_thousand_of_each_loses_and_doubles_nothing(
    stage: Stage, pool: ThreadPoolExecutor
) -> None:
    """Four crashes while 1,000 reservations and 1,000 pods come and go, a fifth while they are all deleted."""
    net, space = stage.net("10.130.0.0/19"), stage.namespace()
    crowd = Crowd(stage, net, space, 1000)
    work = crowd.start(pool)
    for steps in (300, 1100, 1700, 2300):
        reached(crowd, work, steps)
        stage.keeper.kill()
        crowd.remember()
        stage.keeper.start(wait=False)
    for one in work:
        one.result()
    eventually("all is as it should be", crowd.settled, seconds=60, pause=1.5)
    crowd.remember()
    crowd.unique()
    users = len(crowd.mine())
    no_trouble(stage, net, users)
    second = ThreadPoolExecutor(THREADS)
    clearing = pool.submit(crowd.clear, second)
    eventually("half is deleted", lambda: len(crowd.mine()) < users // 2, seconds=60, pause=1.0)
    stage.keeper.kill()
    clearing.result()
    second.shutdown()
    stage.keeper.start()
    eventually("nothing is left", crowd.empty, seconds=60, pause=0.5)
    no_trouble(stage, net, 0)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["northbound", "kube-apiserver"])
def test_a_server_that_restarts_in_the_middle_costs_nothing(
    stage: Stage, pool: ThreadPoolExecutor, server: str
) -> None:
    """150 of each while OVN Northbound, or the API server, is killed and comes back."""
    net, space = stage.net("10.130.0.0/19"), stage.namespace()
    crowd = Crowd(stage, net, space, 150)
    work = crowd.start(pool)
    reached(crowd, work, 150)
    stage.cluster.kill(server)
    stage.cluster.restart(server)
    for one in work:
        one.result()
    eventually("all is as it should be", crowd.settled, seconds=60, pause=1.5)
    crowd.unique()
    stage.keeper.ready()
    no_trouble(stage, net, len(crowd.mine()))
    crowd.clear(pool)
    eventually("nothing is left", crowd.empty, seconds=60, pause=0.5)
    if server == "kube-apiserver":  # while it starts it knows no roles yet, and says so: these refusals do not count
        stage.keeper.again()


def test_what_happens_while_it_is_down_is_found_at_start(stage: Stage) -> None:
    """Pods and IPs created and deleted, a row and a finalizer torn away: all of it is put right by the next start."""
    net = stage.net()
    kept = stage.reserved(f"{stage.tag}-kept", net)
    stage.reserved(f"{stage.tag}-gone", net)
    stage.running(f"{stage.tag}-pod", subnet=net)
    stage.running(f"{stage.tag}-left", subnet=net)
    stage.keeper.kill()
    stage.api.delete("ip", f"{stage.tag}-gone.default")
    stage.drop(f"{stage.tag}-left")
    stage.cluster.nbctl("lsp-del", f"{stage.tag}-pod.default")
    stage.cluster.nbctl("lsp-add", net, f"{stage.tag}-stray.default")
    ids = ("vendor=kube-ovn", f"ls={net}", f"pod=default/{stage.tag}-stray")
    stage.cluster.nbctl("set", "Logical_Switch_Port", f"{stage.tag}-stray.default", *(f"external_ids:{i}" for i in ids))
    stage.reserve(f"{stage.tag}-new", net, v4IpAddress=stage.inside(net, 90))
    stage.pod(f"{stage.tag}-kept")
    stage.keeper.start()
    stage.until("ip", f"{stage.tag}-new.default", "Ready", "True", "Reserved")
    assert stage.runs(f"{stage.tag}-kept")["status"]["podIP"] == kept["spec"]["v4IpAddress"]
    stage.api.gone("ip", f"{stage.tag}-gone.default")
    stage.api.gone("ip", f"{stage.tag}-left.default")
    stage.no_port(f"{stage.tag}-left.default")
    stage.no_port(f"{stage.tag}-stray.default")
    eventually("the port is back", lambda: ports(stage.cluster).get(f"{stage.tag}-pod.default"), pause=0.1)
    stage.numbers(net, 3, 250)


def test_a_term_ends_cleanly_on_sigterm(stage: Stage) -> None:
    """Exit code 0, the Lease given back, the next process leads at once."""
    path = "/apis/coordination.k8s.io/v1/namespaces/keepip-system/leases"
    assert stage.keeper.stop() == 0
    (lease,) = [one for one in _items(stage.api, path) if one["metadata"]["name"] == "keepip"]
    assert not lease["spec"].get("holderIdentity")
    began = time.monotonic()
    stage.keeper.start()
    assert time.monotonic() - began < 3.5  # a Lease that was not given back takes four


def _items(api: Api, path: str) -> list[Object]:
    items: list[Object] = api.ask("GET", path)["items"]
    return items
