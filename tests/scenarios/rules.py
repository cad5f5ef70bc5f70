"""The shipped Prometheus rules: as they are, as a plain rule file, and hurried up for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import MANIFESTS

Rule = dict[str, Any]
FILE = MANIFESTS / "prometheus" / "rules.yaml"


def groups() -> list[dict[str, Any]]:
    """The groups, as a plain rule file of Prometheus has them."""
    found: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["spec"]["groups"]
    return found


def rules() -> Iterator[Rule]:
    """Every rule."""
    return (rule for group in groups() for rule in group["rules"])


def alerts() -> list[Rule]:
    """Every alert; one name may have several, of different severities."""
    return [rule for rule in rules() if "alert" in rule]


def write(path: Path, *, annotations: bool = True, window: str = "", hold: str = "") -> Path:
    """Write a plain rule file; `window` stands for every range of a query, and `hold` for every `for`, if given."""
    made = groups()
    for group in made:
        for rule in group["rules"]:
            if not annotations:
                rule.pop("annotations", None)
            if window:
                rule["expr"] = hurried(rule["expr"], window)
            if hold and "for" in rule:
                rule["for"] = hold
    path.write_text(json.dumps({"groups": made}))
    return path


def hurried(query: str, window: str) -> str:
    """The query with a range of seconds where it has one of minutes or hours."""
    return re.sub(r"\[\w+\]", f"[{window}]", query)
