"""Grafana's dashboards, made from the questions that people ask: `python -m tests.dashboards` writes them anew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "grafana"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
WIDTH: Final = 24  # columns of Grafana's grid
NET: Final = 'subnet=~"$subnet"'
ME: Final = 'job="keepip",instance=~"$instance"'
RATE: Final = "[$__rate_interval]"

FREE: Final = f"min by (subnet, family) (keepip_subnet_available_addresses{{{NET}}})"
USED: Final = f"max by (subnet, family) (keepip_subnet_used_addresses{{{NET}}})"
HOURS: Final = f"{FREE} / (max by (subnet, family) (-deriv(keepip_subnet_available_addresses{{{NET}}}[6h])) > 0) / 3600"


@dataclass(frozen=True, slots=True)
class Panel:
    """A question, and the queries that answer it: legend -> query."""

    title: str
    text: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    bad_from: float | None = None  # where it turns red
    bad_below: float | None = None


def per_subnet(name: str) -> str:
    """A gauge per subnet that only the leader knows: on a standby it is 0."""
    return f"max by (subnet) ({name}{{{NET}}})"


def quantiles(name: str, by: str, labels: str = ME) -> dict[str, str]:
    """Median and 99th percentile of a histogram."""
    buckets = f"sum by (le, {by}) (rate({name}_bucket{{{labels}}}{RATE}))"
    return {f"p{part} {{{{{by}}}}}": f"histogram_quantile(0.{part}, {buckets})" for part in ("50", "99")}


def rate(name: str, by: str, labels: str = ME) -> dict[str, str]:
    """So many a second."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return {legend: f"sum by ({by}) (rate({name}{{{labels}}}{RATE}))"}


def number(title: str, text: str, query: str, **more: Any) -> Panel:
    """One number, large."""
    return Panel(title, text, {"": query}, kind="stat", **({"width": 4} | more))


GRANTED: Final = f'max by (subnet) (keepip_subnet_reservations{{{NET},state="granted"}})'
SHARE: Final = f"{USED} / ({USED} + {FREE})"

OPERATORS: Final[dict[str, list[Panel]]] = {
    "Am I running out?": [
        number("Full subnets", "Subnets without a free address", f"count({FREE} == 0) or vector(0)", bad_from=1),
        number("Fullest", "Share in use of the fullest subnet", f"max({SHARE})", unit="percentunit", bad_from=0.85),
        number(
            "Hours left",
            "Until the first subnet is full, at the pace of six hours; 999: none is filling up",
            f"min({HOURS}) or vector(999)",
            unit="h",
            bad_below=24,
        ),
        number("Reservations", "Granted, on all subnets", f"sum({GRANTED})"),
        number(
            "Unused reservations",
            "Of these, how many no pod uses",
            f"sum({per_subnet('keepip_subnet_reservations_unused')})",
        ),
        number("Addresses left", "On all subnets", f"sum({FREE})"),
        Panel("Addresses left", "That can be given out", {"{{subnet}} {{family}}": FREE}, width=12),
        Panel(
            "Share in use",
            "The ten fullest subnets",
            {"{{subnet}} {{family}}": f"topk(10, {SHARE})"},
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Hours left",
            "At the pace of the last six hours; only subnets that are filling up",
            {"{{subnet}} {{family}}": HOURS},
            unit="h",
        ),
        Panel("Granted reservations", "By subnet", {"{{subnet}}": GRANTED}),
        Panel(
            "Excluded addresses",
            "Of excludeIps: given only by name",
            {"{{subnet}} {{family}}": f"max by (subnet, family) (keepip_subnet_excluded_addresses{{{NET}}})"},
        ),
    ],
    "Who waits, and why?": [
        Panel("Waiting for an address", "Pods and IPs, by subnet", {"{{subnet}}": per_subnet("keepip_subnet_waiting")}),
        Panel("Longest wait", "By subnet", {"{{subnet}}": per_subnet("keepip_subnet_oldest_wait_seconds")}, unit="s"),
        Panel(
            "Reservations without an address",
            "Waiting for one, or refused",
            {"{{subnet}} {{state}}": f'max by (subnet, state) (keepip_subnet_reservations{{{NET},state!="granted"}})'},
        ),
        Panel(
            "Refused now",
            "Objects by kind and reason; the README says what each means",
            {"{{kind}} {{reason}}": "max by (kind, reason) (keepip_refused) > 0"},
            width=12,
        ),
        Panel(
            "Refusals told",
            "A second, by reason",
            {"{{reason}}": f"sum by (reason) (rate(keepip_refusals_total{RATE})) > 0"},
            width=12,
        ),
    ],
    "Is it keeping up?": [
        Panel(
            "Until it is looked at",
            "Time of a pod or reservation in the queue",
            quantiles("workqueue_queue_duration_seconds", "name", 'job="keepip",name=~"pod|reservation"'),
            unit="s",
        ),
        Panel(
            "Until it is done",
            "Time of one reconcile, its writes included",
            quantiles(
                "controller_runtime_reconcile_time_seconds", "controller", 'job="keepip",controller=~"pod|reservation"'
            ),
            unit="s",
        ),
        Panel(
            "Keys that wait",
            "On the leader",
            {
                "{{name}}": 'sum by (name) (workqueue_depth{job="keepip"} and on (instance)'
                ' leader_election_master_status{name="keepip"} == 1)'
            },
        ),
        Panel(
            "Writes", "A second, by effect", rate("keepip_writes_total", "effect", 'job="keepip"'), unit="ops", width=12
        ),
        Panel(
            "Let go of",
            "Addresses a second, by cause",
            rate("keepip_releases_total", "cause", 'job="keepip"'),
            unit="ops",
            width=12,
        ),
    ],
    "Is anything wrong?": [
        number("Leaders", "1 is right", 'sum(leader_election_master_status{name="keepip"})', bad_below=1),
        number("API server", "1 while it serves every replica", "min(keepip_apiserver_up)", bad_below=1),
        number("Northbound", "1 while every replica is connected", "min(keepip_northbound_connected)", bad_below=1),
        number(
            "Duplicates",
            "Addresses with two claimants",
            f"sum({per_subnet('keepip_subnet_duplicate_addresses')})",
            bad_from=1,
        ),
        number(
            "Leaks",
            "Ports and IPs of nobody",
            f"sum({per_subnet('keepip_subnet_leaked')}) + sum({per_subnet('keepip_subnet_orphaned')})",
            bad_from=1,
        ),
        number("Drift", "IPs whose records disagree", f"sum({per_subnet('keepip_subnet_drifting')})", bad_from=1),
        Panel(
            "Alerts",
            "Pending and firing",
            {
                "{{alertname}} {{severity}} {{alertstate}}": "count by (alertname, severity, alertstate)"
                ' (ALERTS{alertname=~"Keepip.*"})'
            },
        ),
        Panel(
            "Failed writes",
            "A second; they are tried again",
            rate("controller_runtime_reconcile_errors_total", "controller", 'job="keepip"'),
            unit="ops",
        ),
        Panel("Sweeps", "A second, by result", rate("keepip_sweeps_total", "result", 'job="keepip"'), unit="ops"),
        Panel(
            "Sweeps that have stopped",
            "What they would free",
            {"{{subnet}}": per_subnet("keepip_subnet_sweep_stopped")},
        ),
        Panel(
            "Oldest news",
            "Since a source was last heard, by replica",
            {"{{instance}}": "max by (instance) (keepip_replica_age_seconds)"},
            unit="s",
        ),
        Panel(
            "Replicas",
            "Up, and what they do",
            {"up {{instance}}": 'up{job="keepip"}', "{{mode}} {{instance}}": "keepip_mode == 1"},
        ),
    ],
}

DEVELOPERS: Final[dict[str, list[Panel]]] = {
    "Queue": [
        Panel("Depth", "By lane; on a standby it only grows", {"{{name}}": f"sum by (name) (workqueue_depth{{{ME}}})"}),
        Panel(
            "Added and put back",
            "Keys a second",
            {
                "added": f"sum(rate(workqueue_adds_total{{{ME}}}{RATE}))",
                "put back": f"sum(rate(workqueue_retries_total{{{ME}}}{RATE}))",
            },
            unit="ops",
        ),
        Panel(
            "Under way and booked",
            "Keys",
            {
                "under way": f"sum(workqueue_processing{{{ME}}})",
                "booked for later": f"sum(workqueue_delayed{{{ME}}})",
                "not shown yet": f"sum(keepip_writes_unseen{{{ME}}})",
            },
        ),
        Panel("Time in the queue", "By kind of key", quantiles("workqueue_queue_duration_seconds", "name"), unit="s"),
        Panel("Time of work", "By kind of key", quantiles("workqueue_work_duration_seconds", "name"), unit="s"),
        Panel(
            "Longest under way",
            "And all together",
            {
                "longest": f"max(workqueue_longest_running_processor_seconds{{{ME}}})",
                "all": f"sum(workqueue_unfinished_work_seconds{{{ME}}})",
            },
            unit="s",
        ),
    ],
    "Reconciles": [
        Panel("By result", "A second", rate("controller_runtime_reconcile_total", "controller, result"), unit="ops"),
        Panel(
            "Time", "Writes included", quantiles("controller_runtime_reconcile_time_seconds", "controller"), unit="s"
        ),
        Panel(
            "Errors and bugs",
            "A second",
            {
                f"{what} {{{{controller}}}}": "sum by (controller)"
                f" (rate(controller_runtime_reconcile_{what}_total{{{ME}}}{RATE}))"
                for what in ("errors", "panics")
            },
            unit="ops",
        ),
        Panel(
            "Workers",
            "Writes under way, and how many may be",
            {
                "under way": f"sum(controller_runtime_active_workers{{{ME}}})",
                "at most": f"sum(controller_runtime_max_concurrent_reconciles{{{ME}}})",
            },
        ),
        Panel("Effects", "A second", rate("keepip_writes_total", "effect"), unit="ops"),
        Panel(
            "Sweeps",
            "Time of one",
            {
                "p99": f"histogram_quantile(0.99, sum by (le)"
                f" (rate(keepip_sweep_duration_seconds_bucket{{{ME}}}{RATE})))",
                "since the last": f"time() - max(keepip_sweep_timestamp_seconds{{{ME}}} > 0)",
            },
            unit="s",
        ),
    ],
    "API server": [
        Panel(
            "Requests",
            "A second, by answer",
            rate("rest_client_requests_total", "method, kind, code"),
            unit="reqps",
            width=12,
        ),
        Panel(
            "Time of a request",
            "By verb",
            quantiles("rest_client_request_duration_seconds", "verb"),
            unit="s",
            width=12,
        ),
        Panel("Events", "A second, by outcome", rate("keepip_events_total", "outcome"), unit="ops", width=12),
        Panel(
            "Events not sent yet",
            "Waiting for their turn",
            {"waiting": f"sum(keepip_events_waiting{{{ME}}})"},
            width=12,
        ),
    ],
    "Northbound": [
        Panel(
            "Transactions", "A second, by outcome", rate("keepip_northbound_transactions_total", "outcome"), unit="ops"
        ),
        Panel(
            "Time of a transaction",
            "On the wire and in the server",
            {
                f"p{part}": f"histogram_quantile(0.{part}, sum by (le)"
                f" (rate(keepip_northbound_transaction_duration_seconds_bucket{{{ME}}}{RATE})))"
                for part in ("50", "99")
            },
            unit="s",
        ),
        Panel(
            "Rows in a transaction",
            "Many callers share one",
            {
                "rows": f"sum(rate(keepip_northbound_effects_total{{{ME}}}{RATE}))"
                f" / (sum(rate(keepip_northbound_transactions_total{{{ME}}}{RATE})) > 0)"
            },
        ),
        Panel(
            "Connections",
            "Made since the start",
            {
                "{{instance}}": f"keepip_northbound_connections_total{{{ME}}}",
                "connected {{instance}}": f"keepip_northbound_connected{{{ME}}}",
            },
        ),
    ],
    "Loop and process": [
        Panel(
            "Event loop",
            "How late it runs what is due",
            quantiles("keepip_event_loop_lag_seconds", "instance"),
            unit="s",
        ),
        Panel("CPU", "Seconds a second", {"{{instance}}": f"rate(process_cpu_seconds_total{{{ME}}}{RATE})"}),
        Panel("Memory", "Resident", {"{{instance}}": f"process_resident_memory_bytes{{{ME}}}"}, unit="bytes"),
        Panel("Files", "Open, sockets included", {"{{instance}}": f"process_open_fds{{{ME}}}"}),
        Panel(
            "Leadership",
            "Terms begun, and who leads",
            {
                "terms {{instance}}": f"keepip_leader_terms_total{{{ME}}}",
                "leads {{instance}}": f"leader_election_master_status{{{ME}}}",
            },
        ),
        Panel("Versions", "Of the replicas", {"{{version}} {{instance}}": f"keepip_build_info{{{ME}}}"}),
    ],
    "Replicas": [
        Panel("Objects", "By kind", {"{{kind}}": f"max by (kind) (keepip_replica_objects{{{ME}}})"}),
        Panel(
            "Age",
            "Since the source was last heard",
            {"{{source}}": f"max by (source) (keepip_replica_age_seconds{{{ME}}})"},
            unit="s",
        ),
        Panel(
            "Lists read whole",
            "Since the start; and the sources that were",
            {
                "{{kind}}": f"sum by (kind) (keepip_relists_total{{{ME}}})",
                "sources read": f"sum(keepip_replica_synced{{{ME}}})",
            },
        ),
    ],
}


def target(number: int, legend: str, query: str) -> dict[str, Any]:
    """A query of a panel."""
    return {
        "refId": chr(ord("A") + number),
        "datasource": SOURCE,
        "expr": query,
        "legendFormat": legend or "__auto",
        "range": True,
    }


def thresholds(panel: Panel) -> dict[str, Any]:
    """Green, and red from where it is bad."""
    steps: list[dict[str, Any]] = [{"value": None, "color": "green"}]
    if panel.bad_from is not None:
        steps.append({"value": panel.bad_from, "color": "red"})
    if panel.bad_below is not None:
        steps = [{"value": None, "color": "red"}, {"value": panel.bad_below, "color": "green"}]
    return {"mode": "absolute", "steps": steps}


def drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana has it."""
    calm = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    legend = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
    lines = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"h": 4 if panel.kind == "stat" else 8, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": thresholds(panel)},
            "overrides": [],
        },
        "options": calm if panel.kind == "stat" else lines,
        "targets": [target(at, *query) for at, query in enumerate(panel.queries.items())],
    }


def laid_out(rows: dict[str, list[Panel]]) -> list[dict[str, Any]]:
    """Rows and panels from left to right and from top to bottom."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, panels in rows.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        found.append(
            {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            one = drawn(panel, len(found) + 1, x, y)
            found.append(one)
            x, height = x + panel.width, max(height, one["gridPos"]["h"])
        y += height
    return found


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice of label values, all by default."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all", "selected": True},
    }


def dashboard(uid: str, title: str, text: str, choice: dict[str, Any], rows: dict[str, list[Panel]]) -> dict[str, Any]:
    """The whole of it."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["keepip", "ovn"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, choice]},
        "panels": laid_out(rows),
    }


def dashboards() -> dict[str, dict[str, Any]]:
    """By file name."""
    nets = variable("subnet", "Subnet", "label_values(keepip_subnet_used_addresses, subnet)")
    mine = variable("instance", "Replica", "label_values(keepip_build_info, instance)")
    for_operators = "Am I running out, who waits and why, is it keeping up, is anything wrong"
    for_developers = "Queues, latencies, loop, replicas"
    return {
        "operators.json": dashboard("keepip-operators", "keepip: operators", for_operators, nets, OPERATORS),
        "developers.json": dashboard("keepip-developers", "keepip: developers", for_developers, mine, DEVELOPERS),
    }


def rendered(one: dict[str, Any]) -> str:
    """As it is kept."""
    return json.dumps(one, indent=1) + "\n"


if __name__ == "__main__":
    for name, one in dashboards().items():
        (FOLDER / name).write_text(rendered(one))
