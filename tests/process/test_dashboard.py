"""The dashboard asks only for series that the process has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from controller.core.objects import Kind, Meta, Subnet, SubnetSpec
from controller.process import metrics
from controller.reconcilers.controller import Controller
from controller.wire.northbound import NorthboundWire
from tests.sim.loop import run
from tests.sim.world import SimWorld

PANELS = json.loads((Path(__file__).parents[2] / "grafana" / "keepip.json").read_text())["panels"]
NAMES = re.compile(r"\b(?:keepip|workqueue|rest_client|leader_election)_[a-z0-9_]+")


def page() -> str:
    """What a process with one subnet shows."""

    async def render() -> str:
        controller, wires = Controller(SimWorld(1).world), metrics.Wires()
        wires.request("get", "IP", "500", 0.1)
        controller.telemetry.writes.labels("PutPort").inc()
        subnet = Subnet(metadata=Meta(name="net", resource_version="1"), spec=SubnetSpec(cidr_block="10.0.0.0/24"))
        controller.picture.subnets.replace([subnet], 1)
        list(controller.picture.see(Kind.SUBNET, None, subnet, 0.0))
        return await metrics.Page(controller, wires, NorthboundWire("unix:/nowhere")).text()

    return run(render())


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_asks_for_series_that_exist(panel: dict[str, list[dict[str, str]]]) -> None:
    """A renamed metric breaks a panel silently: it is noticed here."""
    shown = page()
    asked = {name for target in panel["targets"] for name in NAMES.findall(target["expr"])}

    assert asked
    assert {name for name in asked if f"# HELP {name}" not in shown and name not in shown} == set()
