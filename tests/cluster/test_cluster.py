"""The cluster keeps what it promises to the other tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT, Cluster, Refused
from tests.cluster.fixtures import cluster

__all__ = ["cluster"]

IP = {"apiVersion": "kubeovn.io/v1", "kind": "IP"}


FINALIZER = "kubeovn.io/kube-ovn-controller"


def ip(name: str, **spec: str | None) -> str:
    return json.dumps({**IP, "metadata": {"name": name}, "spec": spec})


@pytest.fixture
def held(cluster: Cluster) -> Iterator[str]:
    """An IP as it is once its address was granted."""
    name = "pod-a.space"
    cluster.kubectl(
        "create", "-f", "-", input=ip(name, subnet="s", podName="pod-a", namespace="space", v4IpAddress="10.1.0.5")
    )
    cluster.kubectl("patch", "ip", name, "--type=merge", "-p", json.dumps({"metadata": {"finalizers": [FINALIZER]}}))
    yield name
    cluster.kubectl("patch", "ip", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    cluster.kubectl("delete", "ip", name)


def test_a_request_can_be_corrected_until_it_is_granted(cluster: Cluster) -> None:
    cluster.kubectl(
        "create", "-f", "-", input=ip("pod-c.space", subnet="s", podName="pod-c", namespace="space", v4IpAddress="no")
    )
    try:
        cluster.kubectl("patch", "ip", "pod-c.space", "--type=merge", "-p", '{"spec": {"v4IpAddress": "10.1.0.7"}}')
    finally:
        cluster.kubectl("delete", "ip", "pod-c.space")


@pytest.mark.parametrize(
    "edit",
    [
        {"subnet": "t"},
        {"podName": "pod-b"},
        {"namespace": "elsewhere"},
        {"v4IpAddress": "10.1.0.6"},
        {"v4IpAddress": ""},
        {"v4IpAddress": None},
    ],
)
def test_what_is_set_cannot_be_edited(cluster: Cluster, held: str, edit: dict[str, str | None]) -> None:
    with pytest.raises(Refused, match="cannot be changed: to have another"):
        cluster.kubectl("patch", "ip", held, "--type=merge", "-p", json.dumps({"spec": edit}))


def test_what_is_empty_can_be_filled_in(cluster: Cluster, held: str) -> None:
    cluster.kubectl("patch", "ip", held, "--type=merge", "-p", '{"spec": {"macAddress": "00:00:00:00:00:01"}}')


def test_whole_spec_cannot_be_dropped(cluster: Cluster, held: str) -> None:
    with pytest.raises(Refused, match="cannot be changed"):
        cluster.kubectl("patch", "ip", held, "--type=merge", "-p", '{"spec": null}')


def test_labels_can_be_edited(cluster: Cluster, held: str) -> None:
    cluster.kubectl("label", "ip", held, "ovn.kubernetes.io/ip_reserved=true")


@pytest.mark.parametrize("user", ["keepip-system:keepip", "kube-system:ovn"])
def test_controllers_may_edit(cluster: Cluster, held: str, user: str) -> None:
    cluster.kubectl("create", "clusterrolebinding", "edits", "--clusterrole=cluster-admin", f"--serviceaccount={user}")
    try:
        edit = '{"spec": {"v4IpAddress": "10.1.0.7"}}'
        as_user = f"--as=system:serviceaccount:{user}"
        cluster.kubectl("patch", "ip", held, "--type=merge", "-p", edit, as_user, "--dry-run=server")
    finally:
        cluster.kubectl("delete", "clusterrolebinding", "edits")


@pytest.mark.parametrize("name", ["pod-b.space", "pod-a", "pod-a.space2", "xpod-a.space"])
def test_wrong_name_is_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(Refused, match=r"name this one pod-a\.space"):
        cluster.kubectl("create", "-f", "-", input=ip(name, subnet="s", podName="pod-a", namespace="space"))


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("pod-a.space.net1.space.ovn", {"podName": "pod-a", "namespace": "space"}),
        (
            "malformed.space",
            {"podName": "malformed", "namespace": "space", "podType": "Deployment", "v4IpAddress": "10.1"},
        ),
        ("nothing-said", {}),
        ("nulls.space", {"podName": None, "namespace": None, "subnet": None}),
        ("node-worker", {"podName": "worker", "namespace": "", "subnet": "join"}),
        ("u2o-interconnection.vpc.s", {"podName": "u2o-interconnection.vpc.s", "namespace": "default"}),
        ("mcast-querier.s", {"podName": "mcast-querier.s", "namespace": "default"}),
    ],
)
def test_what_the_controller_judges_is_let_in(cluster: Cluster, name: str, spec: dict[str, str | None]) -> None:
    cluster.kubectl("create", "--dry-run=server", "-f", "-", input=ip(name, **spec))


def test_controller_may_do_its_work_and_no_more(cluster: Cluster) -> None:
    kubeconfig = str(cluster.controller_kubeconfig())

    def may(*asked: str) -> bool:
        try:
            cluster.kubectl("auth", "can-i", *asked, "--as=system:serviceaccount:keepip-system:keepip")
        except Refused:
            return False
        return True

    assert Path(kubeconfig).is_file()
    assert may("patch", "ips", "--subresource=status")
    assert may("patch", "leases", "-n", "keepip-system")
    assert not may("patch", "leases", "-n", "kube-system")
    assert not may("get", "secrets", "-n", "keepip-system")
    assert not may("delete", "pods")
    assert not may("update", "ips")
    assert not may("create", "subnets")


def test_pod_runs_once_it_is_routed(cluster: Cluster) -> None:
    cluster.kubectl("run", "routed", "--image=none")
    cluster.kubectl("wait", "--for=condition=PodScheduled", "pod/routed", "--timeout=20s")
    assert cluster.kubectl("get", "pod", "routed", "-o", "jsonpath={.status.phase}") == "Pending"
    cluster.kubectl("annotate", "pod", "routed", "ovn.kubernetes.io/ip_address=10.1.0.8,fd00::8")
    cluster.kubectl("annotate", "pod", "routed", "ovn.kubernetes.io/routed=true")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/routed", "--timeout=20s")
    assert cluster.kubectl("get", "pod", "routed", "-o", "jsonpath={.status.podIPs[*].ip}") == "10.1.0.8 fd00::8"
    cluster.kubectl("annotate", "pod", "routed", "keepip.test/complete=failed")
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/routed", "--timeout=20s")
    cluster.kubectl("delete", "pod", "routed", "--timeout=20s")


def test_nothing_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from tests.cluster.cluster import Cluster; import signal, json\n"
        f"c = Cluster.start(controllers=False, kwok_nodes=1, manifests=False, folder=Path({str(tmp_path)!r}))\n"
        "print(json.dumps([p.pid for p in c.processes.values()]), flush=True); signal.pause()"
    )
    with subprocess.Popen((sys.executable, "-c", script), cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = json.loads(parent.stdout.readline())
        assert len(children) == 4
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in children):
        assert time.monotonic() < deadline, "children are still there"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
