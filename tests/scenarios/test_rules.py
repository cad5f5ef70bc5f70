"""The shipped alerts, each shown by promtool to fire and to keep silent; each with its entry in the runbook."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.cluster import binaries
from tests.cluster.cluster import MANIFESTS, ROOT
from tests.scenarios import rules

NET = {"subnet": "net"}
V4 = {"subnet": "net", "family": "IPv4"}
ONE = {"instance": "a"}
LEADS = 'leader_election_master_status{job="keepip",name="keepip",instance="a"}'


@dataclass(frozen=True, slots=True)
class Case:
    """Series (a value a minute, as promtool writes them) under which the alert fires after so long."""

    alert: str
    severity: str
    labels: dict[str, str]
    series: dict[str, str]
    after: str = "40m"
    also: tuple[str, ...] = ()  # lower severities that fire beside it


def of(name: str, /, **labels: str) -> str:
    """A series of our job's first replica."""
    inner = {"job": "keepip", "instance": "a"} | labels
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in inner.items())}}}"


def room(used: str, free: str) -> dict[str, str]:
    """A subnet by two replicas, of which the other saw it later and less full."""
    return {
        of("keepip_subnet_used_addresses", **V4): used,
        of("keepip_subnet_available_addresses", **V4): free,
        of("keepip_subnet_used_addresses", **V4, instance="b"): "10x600",
        of("keepip_subnet_available_addresses", **V4, instance="b"): "1000x600",
    }


def per_subnet(name: str, value: str) -> dict[str, str]:
    """A gauge of one subnet, which only the leader knows."""
    return {of(name, **NET): value, of(name, **NET, instance="b"): "0x600"}


CASES = [
    Case("KeepipSubnetExhausted", "critical", V4, room("100x600", "0x600")),
    Case("KeepipSubnetFillingUp", "info", V4, room("80x600", "20x600")),
    Case("KeepipSubnetFillingUp", "warning", V4, room("90x600", "10x600"), also=("info",)),
    Case("KeepipSubnetFillingUp", "critical", V4, room("96x600", "4x600"), also=("warning", "info")),
    Case("KeepipSubnetExhaustionPredicted", "warning", V4, room("0+1x600", "1200-1x600"), "7h"),
    Case("KeepipSubnetExhaustionPredicted", "critical", V4, room("0+1x600", "600-1x600"), "7h", also=("warning",)),
    Case("KeepipWaitingTooLong", "warning", NET, per_subnet("keepip_subnet_oldest_wait_seconds", "0+60x600"), "5m"),
    Case("KeepipWaitingTooLong", "critical", NET, per_subnet("keepip_subnet_oldest_wait_seconds", "0+60x600"),
         also=("warning",)),
    Case("KeepipRefused", "info", {"kind": "IP", "reason": "NameMismatch"},
         {of("keepip_refused", kind="IP", reason="NameMismatch"): "2x600"}),
    Case("KeepipDuplicateAddresses", "critical", NET, per_subnet("keepip_subnet_duplicate_addresses", "1x600")),
    Case("KeepipLeakedPorts", "warning", NET, per_subnet("keepip_subnet_leaked", "3x600")),
    Case("KeepipOrphanedIPs", "warning", NET, per_subnet("keepip_subnet_orphaned", "3x600")),
    Case("KeepipDrift", "warning", NET, per_subnet("keepip_subnet_drifting", "1x600")),
    Case("KeepipSweepStopped", "warning", NET, per_subnet("keepip_subnet_sweep_stopped", "200x600")),
    Case("KeepipSweepMissing", "warning", ONE, {of("keepip_sweep_timestamp_seconds"): "60x600", LEADS: "1x600"}),
    Case("KeepipNoLeader", "critical", {}, {LEADS: "0x600", of("keepip_mode", mode="observe"): "0x600"}),
    Case("KeepipNoLeader", "critical", {}, {"up": "0x600"}),
    Case("KeepipTwoLeaders", "critical", {}, {LEADS: "1x600", LEADS.replace('"a"', '"b"'): "1x600"}),
    Case("KeepipInstanceDown", "warning", {"job": "keepip", "instance": "a"}, {of("up"): "0x600"}),
    Case("KeepipReplicaStale", "warning", {**ONE, "source": "Pod"},
         {of("keepip_replica_age_seconds", source="Pod"): "0+60x600"}),
    Case("KeepipNorthboundAway", "critical", ONE, {of("keepip_northbound_connected"): "1x10 0x600"}),
    Case("KeepipApiServerAway", "critical", ONE, {of("keepip_apiserver_up"): "1x10 0x600"}),
    Case("KeepipWriteErrors", "warning", {"controller": "pod"},
         {of("controller_runtime_reconcile_errors_total", controller="pod"): "0+10x600",
          of("controller_runtime_reconcile_total", controller="pod", result="error"): "0+10x600",
          of("controller_runtime_reconcile_total", controller="pod", result="success"): "0+50x600"}),
    Case("KeepipRightMissing", "warning", {"method": "patch", "kind": "IP"},
         {of("rest_client_requests_total", code="403", method="patch", kind="IP"): "0+1x600"}),
    Case("KeepipBug", "warning", {"controller": "pod"},
         {of("controller_runtime_reconcile_panics_total", controller="pod"): "0x30 1x600"}),
    Case("KeepipQueueStuck", "critical", ONE,
         {of("workqueue_longest_running_processor_seconds", name="keepip"): "0+60x600", LEADS: "1x600"}),
    Case("KeepipQueueStuck", "critical", ONE,
         {of("workqueue_depth", name="low"): "5x600", of("workqueue_depth", name="urgent"): "0x600",
          of("controller_runtime_reconcile_total", controller="pod", result="success"): "7x600", LEADS: "1x600"}),
    Case("KeepipQueueSlow", "warning", {},
         {of("workqueue_queue_duration_seconds_bucket", name="pod", le="5"): "0+1x600",
          of("workqueue_queue_duration_seconds_bucket", name="pod", le="30"): "0+9x600",
          of("workqueue_queue_duration_seconds_bucket", name="pod", le="+Inf"): "0+9x600"}),
    Case("KeepipEventLoopBlocked", "warning", ONE,
         {of("keepip_event_loop_lag_seconds_bucket", le="0.5"): "0+1x600",
          of("keepip_event_loop_lag_seconds_bucket", le="1.0"): "0+9x600",
          of("keepip_event_loop_lag_seconds_bucket", le="+Inf"): "0+9x600"}),
    Case("KeepipEventsLost", "info", {"outcome": "dropped"},
         {of("keepip_events_total", outcome="dropped"): "0x30 1x600"}),
]  # fmt: skip

# A leader that works and has room, and a standby whose queue only grows. "0+60x600": a clock, for what must be recent.
HEALTHY = {
    of("up"): "1x600",
    of("up", instance="b"): "1x600",
    LEADS: "1x600",
    LEADS.replace('"a"', '"b"'): "0x600",
    of("keepip_mode", mode="observe"): "0x600",
    of("keepip_subnet_used_addresses", **V4): "70x600",
    of("keepip_subnet_available_addresses", **V4): "3000+1x300 3300-1x300",
    of("keepip_subnet_oldest_wait_seconds", **NET): "0+20x2 0x600",
    of("keepip_refused", kind="Pod", reason="SubnetExhausted"): "9x600",
    of("keepip_refused", kind="IP", reason="NameMismatch"): "0x600",
    **{
        of(f"keepip_subnet_{name}", **NET): "0x600"
        for name in ("duplicate_addresses", "leaked", "orphaned", "drifting", "sweep_stopped")
    },
    of("keepip_sweep_timestamp_seconds"): "0+60x600",
    of("keepip_sweep_timestamp_seconds", instance="b"): "0x600",
    of("keepip_replica_age_seconds", source="Pod"): "55x600",
    of("keepip_northbound_connected"): "1x600",
    of("keepip_apiserver_up"): "1x600",
    of("controller_runtime_reconcile_errors_total", controller="pod"): "0+1x600",
    of("controller_runtime_reconcile_total", controller="pod", result="success"): "0+100x600",
    of("controller_runtime_reconcile_panics_total", controller="pod"): "1x600",
    of("rest_client_requests_total", code="403", method="patch", kind="IP"): "0x36 9x600",
    of("workqueue_longest_running_processor_seconds", name="keepip"): "2x600",
    of("workqueue_depth", name="low"): "5x600",
    of("workqueue_depth", name="low", instance="b"): "5+5x600",
    of("workqueue_queue_duration_seconds_bucket", name="pod", le="5"): "0+9x600",
    of("workqueue_queue_duration_seconds_bucket", name="pod", le="+Inf"): "0+9x600",
    of("keepip_event_loop_lag_seconds_bucket", le="0.5"): "0+9x600",
    of("keepip_event_loop_lag_seconds_bucket", le="+Inf"): "0+9x600",
    of("keepip_events_total", outcome="dropped"): "1x600",
}
NAMES = sorted({alert["alert"] for alert in rules.alerts()})


def asked(series: dict[str, str], after: str, expected: dict[str, list[dict[str, str]]]) -> dict[str, object]:
    """One test in promtool's words: by alert, the labels of those that fire."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": after, "alertname": alert, "exp_alerts": [{"exp_labels": one} for one in labels]}
            for alert, labels in expected.items()
        ],
    }


def promtool(folder: Path, *tests: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Run them against the shipped rules; what they say for people is not compared."""
    rules.write(folder / "rules.yml", annotations=False)
    file = folder / "tests.yml"
    file.write_text(json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}))
    command = (str(binaries.prometheus().tool), "test", "rules", str(file))
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_rule_file_is_valid(tmp_path: Path) -> None:
    """As Prometheus reads it, templates and all."""
    file = rules.write(tmp_path / "rules.yml")
    command = (str(binaries.prometheus().tool), "check", "rules", str(file))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(list(rules.rules()))} rules found" in done.stdout


def test_every_alert_fires_when_it_shall(tmp_path: Path) -> None:
    """One test a case: that alert, with just these labels and severities."""
    tests = [
        asked(
            case.series, case.after, {case.alert: [{**case.labels, "severity": s} for s in (case.severity, *case.also)]}
        )
        for case in CASES
    ]
    done = promtool(tmp_path, *tests)

    assert done.returncode == 0, done.stdout + done.stderr
    shown = {(case.alert, case.severity) for case in CASES}
    assert shown == {(alert["alert"], alert["labels"]["severity"]) for alert in rules.alerts()}


@pytest.mark.parametrize("after", ["3m", "40m", "3h", "9h"])
def test_no_alert_fires_while_all_is_well(tmp_path: Path, after: str) -> None:
    """Old errors, a standby's growing queue and an hour in which addresses are taken are no reason to wake anybody."""
    done = promtool(tmp_path, asked(HEALTHY, after, {name: [] for name in NAMES}))

    assert done.returncode == 0, done.stdout + done.stderr


def test_who_only_observes_needs_no_leader(tmp_path: Path) -> None:
    """Another controller leads there."""
    observing = {LEADS: "0x600", of("keepip_mode", mode="observe"): "1x600"}
    done = promtool(tmp_path, asked(observing, "40m", {"KeepipNoLeader": []}))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", rules.alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_it_means_and_what_to_do(alert: rules.Rule) -> None:
    """Summary, description, and an entry in the README's runbook that its link leads to."""
    told, name = alert["annotations"], alert["alert"]
    assert told.keys() == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in {"info", "warning", "critical"}
    assert told["runbook_url"] == f"README.md#{name.lower()}"
    entry = re.search(rf"(?ms)^#### {name}\n\n(.*?)(?=^#)", (ROOT / "README.md").read_text())
    assert entry is not None, f"the README has no section {name}"
    for word in ("Means:", "Look at:", "Do:"):
        assert word in entry[1], f"{name} lacks {word}"
    shown = {label for case in CASES if case.alert == name for label in case.labels}
    assert set(re.findall(r"\$labels\.(\w+)", json.dumps(told))) <= shown


def test_the_runbook_has_no_entry_without_an_alert() -> None:
    """What was renamed is renamed there, too."""
    assert sorted(re.findall(r"(?m)^#### (Keepip\w+)$", (ROOT / "README.md").read_text())) == NAMES


def test_kustomize_ships_the_same_rules_and_a_monitor_that_finds_the_service() -> None:
    """Its selector, namespace and port are the Service's; the job that the rules ask for is the Service's name."""
    kubectl = str(binaries.control_plane()["kubectl"])
    folder = str(rules.FILE.parent)
    done = subprocess.run((kubectl, "kustomize", folder), capture_output=True, text=True, timeout=60, check=True)
    monitor, shipped = sorted(yaml.safe_load_all(done.stdout), key=lambda one: len(one["spec"]))[::-1]
    service = yaml.safe_load((MANIFESTS / "base" / "service.yaml").read_text())

    assert (shipped["kind"], shipped["spec"]["groups"]) == ("PrometheusRule", rules.groups())
    assert monitor["kind"] == "ServiceMonitor"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    assert [one["port"] for one in monitor["spec"]["endpoints"]] == [one["name"] for one in service["spec"]["ports"]]
    assert set(re.findall(r'job="(\w+)"', json.dumps(rules.groups()).replace("\\", ""))) == {
        service["metadata"]["name"]
    }
