"""The dashboards are those of tests/dashboards.py, as Grafana's own model has dashboards, of series that exist."""

from __future__ import annotations

import importlib
import json
import re
import sys
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from controller.core.objects import Kind, Meta, Subnet, SubnetSpec
from controller.process import metrics
from controller.reconcilers.controller import Controller
from controller.wire.northbound import NorthboundWire
from tests import dashboards
from tests.cluster import binaries
from tests.scenarios import rules
from tests.sim.loop import run
from tests.sim.world import SimWorld

MODEL = "grafana_foundation_sdk"
OURS = re.compile(r"\b(?:keepip|workqueue|rest_client|leader_election|controller_runtime|process)_[a-z0-9_]+")
GROUPING = re.compile(r"\b(?:by|on|without)\s*\([^)]*\)")
FILES = sorted(dashboards.FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def grafana() -> Any:
    """Grafana's model of a dashboard, with the options of all kinds of panels."""
    sys.path.append(str(binaries.grafana_model()))
    importlib.import_module(f"{MODEL}.cog.plugins").register_default_plugins()
    return importlib.import_module(f"{MODEL}.models.dashboard").Dashboard


def lost(told: Any, kept: Any, path: str = "") -> Iterator[str]:
    """What Grafana's model does not know, or knows as something else."""
    if isinstance(told, dict) and isinstance(kept, dict):
        for key, value in told.items():
            yield from lost(value, kept.get(key, "nothing"), f"{path}.{key}")
    elif isinstance(told, list) and isinstance(kept, list) and len(told) == len(kept):
        for number, (one, other) in enumerate(zip(told, kept, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")
    elif told != kept:
        yield f"{path}: {told!r} became {kept!r}"


def wrong(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Values that are not of the type which the model has for them; its from_json alone does not look."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in {Union, types.UnionType}:
        if all(next(wrong(value, part, path), None) for part in parts):
            yield f"{path}: {value!r} is none of {hint}"
    elif kind is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        if value not in (parts or [one.value for one in hint]):
            yield f"{path}: {value!r} is not in {hint}"
    elif kind is list and isinstance(value, list):
        for number, one in enumerate(value):
            yield from wrong(one, parts[0], f"{path}[{number}]")
    elif type(value).__module__.startswith(MODEL):
        for name, inner in get_type_hints(type(value)).items():
            yield from wrong(getattr(value, name), inner, f"{path}.{name}")
    elif hint is float and type(value) in {int, float}:
        return
    elif isinstance(hint, type) and hint is not object and type(value) is not hint:
        yield f"{path}: {value!r} is no {hint}"


def faults(model: Any, told: Any) -> list[str]:
    """Everything that Grafana would not take, or would not take as it is meant."""
    encoder = importlib.import_module(f"{MODEL}.cog.encoder").JSONEncoder
    read = model.from_json(told)
    return [*wrong(read, model, ""), *lost(told, json.loads(json.dumps(read, cls=encoder)))]


def test_the_files_are_those_of_the_script() -> None:
    """`python -m tests.dashboards` writes them anew."""
    kept = {path.name: path.read_text() for path in FILES}

    assert kept == {name: dashboards.rendered(one) for name, one in dashboards.dashboards().items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafana_takes_every_field_as_it_is_meant(grafana: Any, path: Path) -> None:
    """Nothing unknown, nothing of another type; every panel has a place of its own and a number of its own."""
    told = json.loads(path.read_text())
    assert faults(grafana, told) == []

    panels = told["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (one["gridPos"] for one in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < dashboards.WIDTH


@pytest.mark.parametrize(
    ("field", "value"),
    [("nonsense", 1), ("type", 7), ("gridPos", {"h": "tall", "w": 1, "x": 0, "y": 0}), ("options", {"nonsense": True})],
)
def test_a_fault_is_noticed(grafana: Any, field: str, value: object) -> None:
    """The model itself would let each of these pass, or drop it silently."""
    told = dashboards.dashboards()["operators.json"]
    told["panels"][1][field] = value
    try:
        noticed = faults(grafana, told) != []
    except (KeyError, TypeError, AttributeError):  # it could not even be read
        noticed = True

    assert noticed


def page() -> str:
    """What a process with one subnet shows."""

    async def render() -> str:
        controller, wires = Controller(SimWorld(1).world), metrics.Wires()
        subnet = Subnet(metadata=Meta(name="net", resource_version="1"), spec=SubnetSpec(cidr_block="10.0.0.0/24"))
        controller.picture.subnets.replace([subnet], 1)
        list(controller.picture.see(Kind.SUBNET, None, subnet, 0.0))
        return await metrics.Page(controller, wires, NorthboundWire("unix:/nowhere")).text()

    return run(render())


def test_every_metric_that_is_asked_for_exists() -> None:
    """A renamed metric breaks a panel or an alert silently: it is noticed here."""
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", page()))
    shown = {
        f"{name}{end}" for name, kind in kinds.items() if kind == "histogram" for end in ("_bucket", "_count", "_sum")
    }
    shown |= kinds.keys()
    panels = (one for board in dashboards.dashboards().values() for one in board["panels"])
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    queries += [rule["expr"] for rule in rules.rules()]
    asked = {name for query in queries for name in OURS.findall(GROUPING.sub("", query))}

    assert len(asked) > 40
    assert asked - shown == set()
