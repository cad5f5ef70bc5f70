"""What nobody owns: found without any event, freed when it was seen twice, and never a mass of it (contract §7)."""

from __future__ import annotations

import re
import subprocess

from tests.cluster.cluster import ROOT, controller_command
from tests.scenarios.stage import FINALIZER, OVN, RESERVED, Object, Stage, eventually, ports


def orphan(stage: Stage, net: str, number: int) -> str:
    """The IP and the port of a pod that nobody will ever see; their name."""
    name, address = f"{stage.tag}-o{number}", stage.inside(net, number + 2)
    body: Object = {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {
            "name": f"{name}.default",
            "finalizers": [FINALIZER],
            "labels": {RESERVED: "false", OVN + "subnet": net, OVN + "node-name": "", net: ""},
        },
        "spec": {
            "subnet": net, "podName": name, "namespace": "default", "podType": "", "nodeName": "",
            "ipAddress": address, "v4IpAddress": address, "v6IpAddress": "", "macAddress": mac_of(number),
        },
    }  # fmt: skip
    stage.add("ip", body)
    return f"{name}.default"


def mac_of(number: int) -> str:
    """A MAC for each."""
    return f"0a:00:00:01:{number >> 8:02x}:{number & 255:02x}"


def rows(stage: Stage, net: str, numbers: range, vendor: str = "kube-ovn", stem: str = "o") -> None:
    """The ports of all of them, in one transaction."""
    words: list[str] = []
    for number in numbers:
        port = f"{stage.tag}-{stem}{number}.default"
        ids = (f"vendor={vendor}", f"ls={net}", f"pod=default/{stage.tag}-{stem}{number}")
        words += ["--", "lsp-add", net, port]
        words += ["--", "lsp-set-addresses", port, f"{mac_of(number)} {stage.inside(net, number + 2)}"]
        words += ["--", "set", "Logical_Switch_Port", port, *(f"external_ids:{one}" for one in ids)]
    stage.cluster.nbctl(*words[1:])


def dry_run(stage: Stage) -> str:
    """What `keepip sweep --dry-run` prints."""
    command = controller_command(stage.cluster)
    at = command.index("controller") + 1
    told = [*command[:at], "sweep", "--dry-run", *command[at:]]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def line_of(text: str, port: str) -> list[str]:
    """The columns of one port's line."""
    (line,) = [line for line in text.splitlines() if re.search(rf"\s{re.escape(port)}\s", line)]
    return re.split(r"\s{2,}", line)


def test_a_mass_of_orphans_stops_the_sweep_until_the_operator_allows_it(stage: Stage) -> None:
    """Two hundred left while it was down: an alarm, nothing freed; then all of it, and nothing else."""
    net = stage.net(stage.cidr(22))
    kept = stage.reserved(f"{stage.tag}-kept", net, v4IpAddress=stage.inside(net, 600))["metadata"]["name"]
    stage.running(f"{stage.tag}-pod", subnet=net, ip_address=stage.inside(net, 601))
    stage.keeper.kill()
    names = [orphan(stage, net, number) for number in range(200)]
    rows(stage, net, range(200))
    rows(stage, net, range(700, 701), vendor="someone-else", stem="theirs")
    before = dry_run(stage)
    stage.keeper.start()
    text = stage.api.told("Subnet", net, "SweepStopped", seconds=30)
    assert "200 of 203 users" in text, text

    seen = stage.keeper.metrics()
    assert seen.total("keepip_subnet_sweep_stopped", subnet=net) == 200
    assert seen.total("keepip_subnet_leaked", subnet=net) == 200
    assert seen.total("keepip_subnet_orphaned", subnet=net) == 200
    stage.keeper.quiet(30)
    now = {one["metadata"]["name"] for one in stage.api.all("ip")}
    assert set(names) <= now & ports(stage.cluster).keys()
    assert dry_run(stage) == before
    for name in names:
        assert line_of(before, name)[3:] == ["free", "its pod is gone"]
    assert line_of(before, kept)[3:] == ["keep", "it is a reservation"]
    assert line_of(before, f"{stage.tag}-pod.default")[3:] == ["keep", "its pod lives"]
    assert line_of(before, f"{stage.tag}-theirs700.default")[3:] == ["keep", "its port is of another system"]
    assert f"subnet {net}: 200 of 203 users, more than the 50" in before

    stage.api.patch("subnet", net, {"metadata": {"annotations": {"keepip.io/sweep": "allow"}}})
    for name in names:
        stage.api.gone("ip", name)
    left = ports(stage.cluster)
    assert not left.keys() & set(names)
    assert {f"{stage.tag}-pod.default", f"{stage.tag}-theirs700.default"} <= left.keys()
    stage.api.get("ip", kept)
    stage.numbers(net, 3, 1022 - 4)

    def clean() -> bool:
        series = ("sweep_stopped", "leaked", "orphaned", "drifting", "duplicate_addresses")
        found = {one: stage.keeper.metrics().total(f"keepip_subnet_{one}", subnet=net) for one in series}
        assert not any(found.values()), found
        return True

    eventually("the audit counts nothing", clean)
    stage.cluster.nbctl("lsp-del", f"{stage.tag}-theirs700.default")


def test_a_few_orphans_go_by_themselves_with_their_second_sight(stage: Stage) -> None:
    """Nobody asks; the IPs of nodes and subnets, and those without our finalizer, stay as they are."""
    net = stage.net()
    stage.keeper.kill()
    names = [orphan(stage, net, number) for number in range(5)]
    rows(stage, net, range(5))
    name, address = f"mcast-querier.{net}", stage.inside(net, 99)
    uid = stage.api.get("subnet", net)["metadata"]["uid"]
    owner = {"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "name": net, "uid": uid}
    labels = {RESERVED: "false", OVN + "subnet": net}
    special: Object = {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": name, "ownerReferences": [owner], "labels": labels, "finalizers": [FINALIZER]},
        "spec": {"subnet": net, "podName": name, "namespace": "default", "podType": "",
                 "ipAddress": address, "v4IpAddress": address},
    }  # fmt: skip
    made = stage.add("ip", special)
    stage.keeper.start()
    for one in names:
        stage.api.gone("ip", one, seconds=15)
        stage.no_port(one)
    stage.numbers(net, 1, 252)
    assert stage.api.get("ip", name)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert line_of(dry_run(stage), name)[3:] == ["keep", "it is of a node or of a subnet"]
    stage.api.patch("ip", name, {"metadata": {"finalizers": None}})


def test_a_sweep_by_hand_is_a_dry_run_only(stage: Stage) -> None:
    """Whoever forgets the flag is told; whoever cannot read is told, too."""
    command = controller_command(stage.cluster)
    at = command.index("controller") + 1
    for extra, says in (
        ([], "keepip sweep --dry-run"),
        (["--dry-run", "--workers=x"], "--workers"),
        (["--dry-run", "--kubeconfig=/nowhere"], "there is no such file"),
    ):
        told = [*command[:at], "sweep", *extra]
        done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
