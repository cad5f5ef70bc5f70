"""Minutes of scaling in a subnet that is too small for all, under crashes: nothing doubled, nothing left."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.scenarios.stage import OVN, Api, Object, Stage, eventually, notes, ports

SECONDS: Final = float(os.environ.get("KEEPIP_CHAOS_SECONDS", "60"))
KILL_EVERY_S: Final = 20.0
_SETS: Final = "/apis/apps/v1/namespaces/{}/statefulsets"


class Tide:
    """StatefulSets in one tight subnet, scaled up and down at random."""

    def __init__(self, stage: Stage, net: str, space: str, names: tuple[str, ...]) -> None:
        self.stage, self.api, self.net, self.space = stage, stage.api, net, space
        self.want = dict.fromkeys(names, 0)
        for name in names:
            self.api.ask("POST", _SETS.format(space), _stateful_set(name, space, net))

    def scale(self, name: str, replicas: int) -> None:
        """Ask for that many pods."""
        self.want[name] = replicas
        body = {"spec": {"replicas": replicas}}
        self.api.ask("PATCH", f"{_SETS.format(self.space)}/{name}", body, "application/merge-patch+json")

    def ips(self) -> dict[str, Object]:
        """The IPs of the subnet by name."""
        return {ip["metadata"]["name"]: ip for ip in self.api.all("ip") if ip["spec"].get("subnet") == self.net}

    def rows(self) -> dict[str, str]:
        """The address lines of the subnet's ports by name."""
        found = ports(self.stage.cluster)
        return {name: str(row["addresses"]) for name, row in found.items() if row["external_ids"].get("ls") == self.net}

    def unique(self) -> None:
        """Assert that no address or MAC has two owners in OVN, among the IPs or among the pods that run."""
        lines = [line.split() for line in self.rows().values()]
        specs = [ip["spec"] for ip in self.ips().values()]
        live = [notes(one) for one in self.api.all("pod", self.space) if "deletionTimestamp" not in one["metadata"]]
        for what, texts in (
            ("an address in OVN", [line[1] for line in lines]),
            ("a MAC in OVN", [line[0] for line in lines]),
            ("an IP's address", [spec["v4IpAddress"] for spec in specs if spec.get("v4IpAddress")]),
            ("a pod's address", [note["ip_address"] for note in live if note.get("ip_address")]),
        ):
            twice = [text for text, count in Counter(texts).items() if count > 1]
            assert not twice, f"{what} was given twice: {twice}"

    def settled(self) -> bool:
        """Assert that just the wanted pods run, each with its own address in all three records, and nothing else."""
        wanted = {f"{name}-{number}" for name, count in self.want.items() for number in range(count)}
        pods = {one["metadata"]["name"]: one for one in self.api.all("pod", self.space)}
        assert pods.keys() == wanted, sorted(pods.keys() ^ wanted)
        late = [name for name, one in pods.items() if one["status"]["phase"] != "Running"]
        assert not late, f"these do not run: {late}"
        owned = {f"{name}.{self.space}" for name in wanted}
        ips, rows = self.ips(), self.rows()
        assert ips.keys() == owned, sorted(ips.keys() ^ owned)
        assert rows.keys() == owned, sorted(rows.keys() ^ owned)
        for name, one in pods.items():
            has, port = notes(one), f"{name}.{self.space}"
            assert has["ip_address"] == ips[port]["spec"]["ipAddress"], port
            assert rows[port] == f"{has['mac_address']} {has['ip_address']}", port
        return True


def _stateful_set(name: str, space: str, net: str) -> Object:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels, "annotations": {OVN + "logical_switch": net}},
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0},
    }
    spec = {
        "replicas": 0,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": template,
    }
    meta = {"name": name, "namespace": space}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta, "spec": spec}


@contextmanager
def _watched(tide: Tide) -> Iterator[list[AssertionError]]:
    """Look for doubles all the while; what was found is in the list at the end."""
    found: list[AssertionError] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            try:
                tide.unique()
            except AssertionError as double:
                found.append(double)

    watcher = threading.Thread(target=look, name="watcher")
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_two_statefulsets_in_one_tight_subnet_under_kill_9_every_20_seconds(stage: Stage, api: Api) -> None:
    """13 addresses, two sets of up to 9 pods, the controller killed every 20 s: 0 duplicates, 0 leaks at rest."""
    net, space = stage.net(stage.cidr(28)), stage.namespace()
    tide, dice = Tide(stage, net, space, ("ebb", "flow")), random.Random(7)
    crashes, ends = 0, time.monotonic() + SECONDS
    with _watched(tide) as doubles:
        while time.monotonic() < ends:
            until = min(ends, time.monotonic() + KILL_EVERY_S)
            while time.monotonic() < until:
                tide.scale(dice.choice(("ebb", "flow")), dice.randrange(10))
                time.sleep(dice.uniform(0.5, 3.0))  # the rhythm of the users, nothing is awaited
            stage.keeper.kill()
            stage.keeper.start(wait=False)
            crashes += 1
        stage.keeper.ready()
        for name, count in (("ebb", 6), ("flow", 7)):
            tide.scale(name, count)
        eventually("13 pods of 13 addresses run", tide.settled, seconds=90)
    assert not doubles, doubles[:3]
    assert crashes >= SECONDS // KILL_EVERY_S
    stage.keeper.quiet(30)

    def audited() -> bool:
        """What is counted is what the last sweep saw: it may be from before."""
        seen = stage.keeper.metrics()
        for name in ("duplicate_addresses", "leaked", "orphaned", "drifting"):
            assert seen.total(f"keepip_subnet_{name}", subnet=net) == 0, name
        return True

    eventually("an audit of nothing", audited, seconds=90)
    for name in tide.want:
        tide.scale(name, 0)
    eventually("nothing is left", tide.settled, seconds=60)
    stage.numbers(net, 0, 13)
    for name in tide.want:
        api.ask("DELETE", f"{_SETS.format(space)}/{name}", {"propagationPolicy": "Background"})
