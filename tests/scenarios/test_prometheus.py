"""A real Prometheus reads the real process: every panel shows something, and a live fault raises its alert."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import dashboards
from tests.cluster.cluster import Cluster
from tests.scenarios import rules
from tests.scenarios.prometheus import WINDOW, Prometheus
from tests.scenarios.stage import RESERVED, Stage, eventually, reservation
from tests.scenarios.test_sweep import orphan, rows

VARIABLES = {"$subnet": ".*", "$instance": ".*", "$__rate_interval": WINDOW}


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Prometheus]:
    """One server for all stories of this file."""
    folder = Path(tempfile.mkdtemp(prefix="prometheus-", dir=cluster.folder))
    started = Prometheus(cluster, folder)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture
def prometheus(stage: Stage, server: Prometheus) -> Prometheus:
    """It reads the page of the process that runs now."""
    server.follow(stage.keeper)
    return server


def queries() -> dict[str, str]:
    """Every query of every panel, of every choice, and of every recording rule, as it is asked of the test's server."""
    found = {rule["record"]: rule["expr"] for rule in rules.rules() if "record" in rule}
    for board in dashboards.dashboards().values():
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                found[f"{board['title']}: {panel['title']} {target['refId']}"] = target["expr"]
        for choice in board["templating"]["list"][1:]:
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", choice["query"]["query"]).groups()  # type: ignore[union-attr]
            found[f"{board['title']}: ${label}"] = f"count by ({label}) ({metric})"
    for name, value in VARIABLES.items():
        found = {title: query.replace(name, value) for title, query in found.items()}
    return {title: rules.hurried(query, WINDOW) for title, query in found.items()}


def test_every_panel_and_every_rule_shows_something(
    stage: Stage, prometheus: Prometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    """A subnet that fills up and then is full, somebody who waits, somebody who is refused, pods that come and go."""
    net = stage.net(stage.cidr(29))
    stage.running(f"{stage.tag}-pod", subnet=net)
    stage.running(f"{stage.tag}-gone", subnet=net)
    for number in range(2):
        stage.reserved(f"{stage.tag}-r{number}", net)
    stage.drop(f"{stage.tag}-gone")
    for number in range(2, 5):
        stage.reserve(f"{stage.tag}-r{number}", net)
    stage.reserve(f"{stage.tag}-nowhere", f"{stage.tag}-none")
    left = queries()
    assert len(left) > 80

    def all_answered() -> bool:
        for title, query in tuple(left.items()):
            if prometheus.query(query):
                del left[title]
        assert not left, left
        return True

    eventually("every query returns data", all_answered, seconds=60, pause=0.5)
    for alert in rules.alerts():
        prometheus.query(alert["expr"])  # an error of evaluation would be raised
    ((_, samples),) = prometheus.query("scrape_samples_scraped")
    ((_, slowest),) = prometheus.query(f"max_over_time(scrape_duration_seconds[{WINDOW}])")
    with capsys.disabled():
        print(f"\na page of {samples:.0f} samples, the slowest scrape took {slowest * 1e3:.0f} ms")


def test_a_full_subnet_raises_its_alert_and_ends_it(stage: Stage, prometheus: Prometheus) -> None:
    """Exhausted, and nearly so before: both are about that subnet alone."""
    net = stage.net(stage.cidr(29))
    names = [stage.reserved(f"{stage.tag}-r{number}", net)["metadata"]["name"] for number in range(5)]
    prometheus.fires("KeepipSubnetExhausted", subnet=net, family="IPv4", severity="critical")
    prometheus.fires("KeepipSubnetFillingUp", subnet=net, severity="critical")
    for name in names[:3]:
        stage.forget("ip", name)
    prometheus.rests("KeepipSubnetExhausted", subnet=net)
    prometheus.rests("KeepipSubnetFillingUp", subnet=net)


def test_a_dead_leader_two_claimants_and_ports_of_nobody_raise_their_alerts(
    stage: Stage, prometheus: Prometheus
) -> None:
    """What a restored backup leaves behind while nobody watches; all of it ends when it is put right."""
    net = stage.net()
    held = stage.reserved(f"{stage.tag}-a", net)
    twin = reservation(f"{stage.tag}-b", net, v4IpAddress=held["spec"]["v4IpAddress"], macAddress="02:00:00:00:0d:0c")
    twin["metadata"] |= {"labels": {RESERVED: "true"}, "finalizers": held["metadata"]["finalizers"]}
    twin["spec"]["ipAddress"] = held["spec"]["v4IpAddress"]
    stage.keeper.kill()
    prometheus.fires("KeepipNoLeader", severity="critical")
    prometheus.fires("KeepipInstanceDown")
    stage.add("ip", twin)
    orphans = [orphan(stage, net, number) for number in range(50, 62)]
    rows(stage, net, range(50, 62))
    stage.keeper.start()
    prometheus.follow(stage.keeper)
    prometheus.rests("KeepipNoLeader")
    prometheus.fires("KeepipDuplicateAddresses", subnet=net, severity="critical")
    prometheus.fires("KeepipLeakedPorts", subnet=net)
    prometheus.fires("KeepipOrphanedIPs", subnet=net)
    prometheus.fires("KeepipSweepStopped", subnet=net)

    stage.forget("ip", f"{stage.tag}-b.default")
    stage.api.patch("subnet", net, {"metadata": {"annotations": {"keepip.io/sweep": "allow"}}})
    for name in orphans:
        stage.api.gone("ip", name)
    for alert in ("DuplicateAddresses", "LeakedPorts", "OrphanedIPs", "SweepStopped"):
        prometheus.rests(f"Keepip{alert}", subnet=net)


@pytest.mark.parametrize(
    ("child", "alert"), [("northbound", "KeepipNorthboundAway"), ("kube-apiserver", "KeepipApiServerAway")]
)
def test_a_server_that_is_away_raises_its_alert(stage: Stage, prometheus: Prometheus, child: str, alert: str) -> None:
    """Until it is back; the page itself is served all the while."""
    stage.cluster.kill(child)
    try:
        prometheus.fires(alert, severity="critical")
    finally:
        stage.cluster.restart(child)
    prometheus.rests(alert)
    stage.keeper.ready()
    if child == "kube-apiserver":  # while it starts it knows no roles yet, and says so: these refusals do not count
        stage.keeper.again()
