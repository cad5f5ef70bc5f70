"""`--mode=observe` beside a controller that manages: with the right to read alone, it tells what disagrees."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.cluster import binaries
from tests.cluster.cluster import MANIFESTS, NAMESPACE, Cluster
from tests.scenarios.stage import FINALIZER, OVN, RESERVED, Api, Keeper, Object, Stage, eventually, ports
from tests.scenarios.test_ha import RIVALS, Kubeovn
from tests.scenarios.test_sweep import mac_of, orphan, rows

READS = {"echo", "get_schema", "list_dbs", "monitor", "monitor_cond", "monitor_cond_since", "set_db_change_aware"}
SILENCE = "--watch-silence-s=5"  # a server says nothing of a kind of which nothing has happened since its start
READER = "keepip-observe"  # the account here; the session's own has the rights of who manages


class Tap:
    """A relay to Northbound that keeps what clients have sent, and can cut them off."""

    def __init__(self, target: str) -> None:
        _, host, port = target.split(":")
        self._target, self._pairs = (host, int(port)), list[socket.socket]()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.remote = f"tcp:127.0.0.1:{self._door.getsockname()[1]}"
        self.sent = bytearray()
        self.connections = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self.connections += 1
            self._pairs += [near, far]
            for one, other, note in ((near, far, self.sent.extend), (far, near, lambda _data: None)):
                self._threads.append(threading.Thread(target=self._carry, args=(one, other, note)))
                self._threads[-1].start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket, note: Callable[[bytes], None]) -> None:
        try:
            with one:
                while data := one.recv(65536):
                    note(data)
                    other.sendall(data)
                other.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # cut

    @property
    def methods(self) -> set[str]:
        """The methods of all requests so far."""
        return set(re.findall(r'"method":\s*"(\w+)"', self.sent.decode()))

    def cut(self) -> None:
        """End every connection."""
        for one in self._pairs:
            with contextlib.suppress(OSError):  # the other end was faster
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        """End it all."""
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.cut()
        for one in self._threads:
            one.join()


@functools.cache
def role() -> list[Object]:
    """The account and the role of the overlay, by a name of their own: the session's controller goes on managing."""
    command = (binaries.control_plane()["kubectl"], "kustomize", MANIFESTS / "observe")
    text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
    found = [one for one in yaml.safe_load_all(text) if one["kind"] in kinds]
    assert len(found) == len(kinds), found
    assert not [one for one in yaml.safe_load_all(text) if one["kind"] in {"Role", "RoleBinding"}]
    for one in found:
        one["metadata"]["name"] = READER
        if one["kind"] == "ClusterRoleBinding":
            one["roleRef"]["name"] = one["subjects"][0]["name"] = READER
    return found


@pytest.fixture
def tap(cluster: Cluster) -> Iterator[Tap]:
    """Between the observer and Northbound."""
    made = Tap(cluster.nb_tcp)
    yield made
    made.close()


@pytest.fixture
def observer(cluster: Cluster, tap: Tap) -> Iterator[Keeper]:
    """The process as the overlay starts it, a pass each second."""
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(role()))
    process = Keeper(cluster, "observer")
    kubeconfig = cluster.controller_kubeconfig(READER)
    process.start(
        "--mode=observe", f"--kubeconfig={kubeconfig}", f"--nb={tap.remote}", "--sweep-s=1", SILENCE, wait=False
    )
    process.warm()
    yield process
    assert process.stop() == 0, process.tail()
    assert not [line for line in process.log() if line["level"] == "error"]
    cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(role()))


def passes(observer: Keeper) -> float:
    """How often it has compared everything."""
    return observer.metrics().total("keepip_sweeps_total")


def test_it_writes_nothing_whatever_happens(stage: Stage, observer: Keeper, tap: Tap) -> None:
    """The API server would refuse it, and no request to Northbound but reads is ever sent (contract §9)."""
    net = stage.net(stage.cidr())
    stage.reserved(f"{stage.tag}-kept", net)
    running = [stage.running(f"{stage.tag}-{n}", subnet=net)["metadata"]["name"] for n in range(3)]
    stage.drop(running[0])
    tap.cut()
    eventually("it is connected again", lambda: tap.connections > 1 and observer.page("/readyz") == "ok\n")
    orphan(stage, net, 50)
    rows(stage, net, range(51, 52))
    stage.reserve(f"{stage.tag}-late", net)
    before = passes(observer)
    eventually("it has looked twice", lambda: passes(observer) >= before + 2)

    seen = observer.metrics()
    assert seen.total("keepip_mode", mode="observe") == 1
    assert not list(seen.each("keepip_kube_ovn_live")), "it cannot tell"
    assert seen.total("leader_election_master_status") == 0
    assert seen.writes == {}
    assert seen.total("workqueue_depth") == 0
    assert {labels["method"] for labels, _ in seen.each("rest_client_requests_total")} <= {"discover", "list", "watch"}
    assert seen.denied == 0
    assert seen.bugs == 0
    assert tap.methods <= READS, tap.methods
    stage.cluster.nbctl("--if-exists", "lsp-del", f"{stage.tag}-o51.default")
    assert observer.stop() == 0
    assert tap.methods <= READS, tap.methods


def test_each_disagreement_is_told_once_and_counted_until_it_is_mended(
    stage: Stage, observer: Keeper, api: Api, cluster: Cluster
) -> None:
    """With nobody who would mend it meanwhile; then the controller comes back, and all is well again."""
    net = stage.net(stage.cidr())
    names = [f"{stage.tag}-{n}" for n in range(3)]
    address = {name: stage.running(name, subnet=net)["metadata"]["annotations"][OVN + "ip_address"] for name in names}
    moved, bare, lost = (f"{name}.default" for name in names)
    stage.keeper.kill()
    orphaned, leaked = orphan(stage, net, 50), f"{stage.tag}-o51.default"
    rows(stage, net, range(51, 52))
    cluster.nbctl("lsp-set-addresses", moved, f"{mac_of(7)} {stage.inside(net, 77)}")
    cluster.nbctl("lsp-del", bare)
    api.delete("ip", lost)
    api.patch("ip", lost, {"metadata": {"finalizers": []}})
    api.gone("ip", lost)
    twin = f"{stage.tag}-twin.default"
    spec = api.get("ip", bare)["spec"] | {"podName": f"{stage.tag}-twin", "macAddress": mac_of(9)}
    marks = {"finalizers": [FINALIZER], "labels": {RESERVED: "true", OVN + "subnet": net}}
    stage.add("ip", {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": twin, **marks}, "spec": spec})
    wanted = {
        ("orphaned_ip", orphaned): "",
        ("leaked_port", leaked): "",
        ("records_differ", moved): stage.inside(net, 77),
        ("port_missing", bare): address[names[1]],
        ("ip_missing", lost): address[names[2]],
        ("duplicate_address", address[names[1]]): twin,
    }

    def told(what: str = "disagreement") -> list[tuple[str, str]]:
        return [(one["kind"], one["object"]) for one in observer.log() if one["msg"] == what and one["subnet"] == net]

    eventually("all of it is told", lambda: wanted.keys() <= set(told()), seconds=60)
    before = passes(observer)
    eventually("it has looked thrice again", lambda: passes(observer) >= before + 3)
    assert sorted(told()) == sorted(wanted), "each once, and nothing else"
    for line in observer.log():
        if line["msg"] == "disagreement" and line["subnet"] == net:
            assert wanted[line["kind"], line["object"]] in line["says"], line
    seen = observer.metrics()
    assert {kind: seen.total("keepip_disagreements", kind=kind) for kind, _ in wanted} == {
        kind: 1 for kind, _ in wanted
    }
    assert seen.total("keepip_subnet_duplicate_addresses", subnet=net) == 1

    for name in (twin, orphaned):
        api.delete("ip", name)
    cluster.nbctl("lsp-del", leaked)
    stage.keeper.start()
    eventually("all is mended", lambda: sorted(told("agreed")) == sorted(wanted), seconds=30)
    assert observer.metrics().total("keepip_disagreements") == 0
    assert {moved, bare, lost} <= ports(cluster).keys()


def test_it_looks_on_beside_kube_ovn(stage: Stage, observer: Keeper) -> None:
    """Where a live Lease of Kube-OVN's keeps the one who manages from it, and without ever asking for that Lease."""
    kubeovn = Kubeovn(stage)
    try:
        with kubeovn.lives():
            eventually("the controller has stopped", kubeovn.managed)
            before = passes(observer)
            eventually("the observer looks on", lambda: passes(observer) >= before + 2)
            assert observer.page("/readyz") == "ok\n"
        kubeovn.write("")
        stage.keeper.ready()
    finally:
        stage.api.ask("DELETE", f"{RIVALS}/kube-ovn-controller")
    assert observer.metrics().denied == 0
    verbs = {(rule["resources"][0], verb) for one in role() for rule in one.get("rules", ()) for verb in rule["verbs"]}
    assert {verb for _, verb in verbs} == {"list", "watch"}
    answer = stage.api.ask(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{NAMESPACE}:{READER}",
                "resourceAttributes": {
                    "group": "coordination.k8s.io",
                    "resource": "leases",
                    "verb": "get",
                    "namespace": "kube-system",
                },
            },
        },
    )
    assert answer["status"]["allowed"] is False
