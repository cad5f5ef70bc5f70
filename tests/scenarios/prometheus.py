"""A real Prometheus that reads the controller's page twice a second and knows the shipped rules, hurried up."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster import binaries
from tests.cluster.children import free_port
from tests.cluster.cluster import Cluster
from tests.scenarios import rules
from tests.scenarios.stage import Keeper, eventually

PACE = "500ms"
WINDOW = "60s"  # every range of a query: long enough for what a test did a moment ago

Labels = dict[str, str]


class Prometheus:
    """The server as a child of the cluster; `follow` tells it where the controller is now."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._targets = folder / "targets.json"
        self._targets.write_text("[]")
        rules.write(folder / "rules.yml", window=WINDOW, hold="1s")
        # Whatever port it has, it is the same instance to whoever asks.
        one = {"target_label": "instance", "replacement": "keepip"}
        job = {"job_name": "keepip", "file_sd_configs": [{"files": [str(self._targets)]}], "relabel_configs": [one]}
        config = {
            "global": {"scrape_interval": PACE, "scrape_timeout": PACE, "evaluation_interval": PACE},
            "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [job],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        cluster.spawn(
            "prometheus",
            [
                str(binaries.prometheus().server),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
        )
        eventually("Prometheus is ready", self._ready, seconds=30)

    def stop(self) -> None:
        """End it; its data goes with its folder."""
        self._cluster.kill("prometheus")

    def follow(self, keeper: Keeper) -> None:
        """Read that process's page from now on; returns when it did."""
        self._targets.write_text(json.dumps([{"targets": [keeper.address]}]))
        url = f"http://{keeper.address}/metrics"

        def read() -> bool:
            active = self.ask("targets")["activeTargets"]
            return [(one["scrapeUrl"], one["health"]) for one in active] == [(url, "up")]

        eventually("Prometheus reads the page", read, seconds=30)

    def ask(self, what: str, **query: str) -> Any:
        """Ask its API; an AssertionError with its complaint if it refuses."""
        try:
            with urllib.request.urlopen(
                f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(query)}", timeout=10
            ) as got:
                return json.load(got)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise AssertionError(f"{query}: {refusal.read().decode()}") from None

    def query(self, text: str) -> list[tuple[Labels, float]]:
        """What a query returns now, without what is no number."""
        found = [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=text)["result"]]
        return [(labels, value) for labels, value in found if math.isfinite(value)]

    def firing(self, alert: str, **labels: str) -> list[Any]:
        """The firing alerts of that name with these labels."""
        wanted = {"alertname": alert, **labels}.items()
        found = self.ask("alerts")["alerts"]
        return [one for one in found if one["state"] == "firing" and wanted <= one["labels"].items()]

    def fires(self, alert: str, **labels: str) -> None:
        """Wait until the alert fires, and see that what it says to people is whole."""
        (one, *_) = eventually(f"{alert} fires", lambda: self.firing(alert, **labels) or None, seconds=45, pause=0.2)
        for text in one["annotations"].values():
            assert "error" not in text, text
            assert "no value" not in text, text

    def rests(self, alert: str, **labels: str) -> None:
        """Wait until the alert does not fire any more."""
        eventually(f"{alert} has ended", lambda: not self.firing(alert, **labels), seconds=45, pause=0.2)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except urllib.error.HTTPError as early:
            early.close()
            return False
        except OSError:
            return False
