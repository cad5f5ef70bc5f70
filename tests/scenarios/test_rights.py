"""The shipped roles are exactly what the controller needs: it begins with no right and is given what it fails for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple, Self

import pytest
import yaml

from controller.wire.kube import _PLACES
from tests.cluster.cluster import ACCOUNT, MANIFESTS, NAMESPACE, Cluster
from tests.scenarios.proxy import Deaf, Proxy
from tests.scenarios.stage import KUBEOVN, Api, Keeper, Object, Stage, eventually
from tests.scenarios.test_neighbours import neighbour
from tests.scenarios.test_statefulsets import Web
from tests.scenarios.test_sweep import orphan, rows
from tests.scenarios.test_vms import Machine

KINDS = {place.plural: str(kind) for kind, place in _PLACES.items()} | {"events": "Event"}
METHODS = {"get": "read"}
THEIRS = "kube-system"  # where the Lease of Kube-OVN's own controller is, the only one that is named


class Right(NamedTuple):
    """One verb on one resource; `space` is the namespace of a Role, "" for a ClusterRole; an empty `name` is any."""

    space: str
    group: str
    resource: str
    verb: str
    name: str = ""

    @property
    def rule(self) -> Object:
        """As a role has it."""
        made: Object = {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]}
        return made | ({"resourceNames": [self.name]} if self.name else {})

    @property
    def attributes(self) -> dict[str, str]:
        """As the API server is asked about it."""
        resource, _, sub = self.resource.partition("/")
        made = {"group": self.group, "resource": resource, "subresource": sub, "verb": self.verb}
        return made | {"namespace": self.space, "name": self.name}


def shipped() -> set[Right]:
    """What the manifests grant."""
    found = set()
    for name in ("clusterrole", "role"):
        for one in yaml.safe_load_all((MANIFESTS / "rbac" / f"{name}.yaml").read_text()):
            for rule in one.get("rules", ()):
                assert rule.keys() <= {"apiGroups", "resources", "verbs", "resourceNames"}
                found |= {
                    Right(one["metadata"].get("namespace", ""), group, resource, verb, name)
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                    for name in rule.get("resourceNames", [""])
                }
    return found


def wanted(line: Object) -> tuple[Right, bool] | None:
    """The right that one line of the audit log is about, and whether it was there."""
    about = line.get("objectRef")
    if about is None or not about.get("resource"):
        return None  # discovery, which everybody may read
    resource = "/".join(part for part in (about["resource"], about.get("subresource")) if part)
    space = about["namespace"] if about["resource"] == "leases" else ""
    name = about["name"] if space == THEIRS else ""
    allowed = line["annotations"]["authorization.k8s.io/decision"] == "allow"
    return Right(space, about.get("apiGroup", ""), resource, line["verb"], name), allowed


class Granter:
    """Watches what is forbidden, and grants just that as soon as the controller's metrics have shown the failure."""

    def __init__(self, cluster: Cluster, api: Api, keeper: Keeper) -> None:
        self._cluster, self._api, self._keeper = cluster, api, keeper
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.granted: list[Right] = []
        self.failures: list[BaseException] = []

    def __enter__(self) -> Self:
        for space in ("", NAMESPACE, THEIRS):
            self._tell(space)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self, space: str, *more: Right) -> None:
        """Make the role there hold just what was granted, and these."""
        inside = f"/namespaces/{space}/roles" if space else "/clusterroles"
        rules = [right.rule for right in (*self.granted, *more) if right.space == space]
        path = f"/apis/rbac.authorization.k8s.io/v1{inside}/keepip"
        self._api.ask("PATCH", path, {"rules": rules}, "application/merge-patch+json")

    def _work(self) -> None:
        try:
            while not self._over.wait(0.1):
                for line in self._cluster.audited():
                    found = wanted(line)
                    if found is not None and not found[1] and found[0] not in self.granted:
                        self._grant(found[0])
        except BaseException as error:  # noqa: BLE001 - the story's thread raises it
            self.failures.append(error)

    def _grant(self, right: Right) -> None:
        resource = right.resource.partition("/")[0]
        method = "report" if resource == "events" else METHODS.get(right.verb, right.verb)
        labels = {"code": "403", "method": method, "kind": KINDS[resource]}
        eventually(f"403 for {right}", lambda: self._keeper.metrics().total("rest_client_requests_total", **labels))
        self._tell(right.space, right)
        asked = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}", "resourceAttributes": right.attributes},
        }
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        eventually(f"{right} is in force", lambda: self._api.ask("POST", path, asked)["status"]["allowed"])
        self.granted.append(right)


@pytest.fixture
def ground() -> Iterator[tuple[Cluster, Api]]:
    """A cluster of its own, with everything that can be served and with a log of each request."""
    with Cluster.start(audit=True) as cluster:
        for project in ("multus", "kubevirt", "eips"):
            cluster.serve(project)
        api = Api(cluster)
        yield cluster, api
        api.close()


def test_every_right_is_missed_when_it_is_not_there_and_no_other_is(ground: tuple[Cluster, Api]) -> None:
    """Each verb on each resource: its absence is seen in the metrics, with it the work goes on; used is granted."""
    cluster, api = ground
    keeper = Keeper(cluster)
    deaf = Deaf()
    with Proxy(cluster) as proxy, proxy.under(deaf), Granter(cluster, api, keeper) as granter:
        stage = Stage(cluster, api, keeper)
        flags = (f"--kubeconfig={proxy.kubeconfig}", "--sweep-s=1")
        keeper.start(*flags, wait=False)
        keeper.ready(120)
        _ordinary(stage, granter)
        _without_answers(stage, deaf)
        _while_down(stage, flags)
        stage.strike()
        assert not deaf.wanted
    assert not granter.failures
    assert keeper.stop() == 0, keeper.tail()
    assert not [line for line in keeper.log() if line["msg"] == "bug"]

    used = {found[0] for line in cluster.audited() if (found := wanted(line)) is not None and found[1]}
    assert set(granter.granted) == shipped()
    assert used == shipped()


def _ordinary(stage: Stage, granter: Granter) -> None:
    """One of everything, made and refused and deleted."""
    net = stage.net()
    stage.pool(net, stage.inside(net, 40))
    stage.reserved(f"{stage.tag}-a", net, v4IpAddress=stage.inside(net, 9))
    stage.reserve(f"{stage.tag}-b", net, v4IpAddress=stage.inside(net, 9))
    stage.refused(f"{stage.tag}-b.default", "AddressConflict")
    # An Event that is refused is counted and not tried again: what it says is in the condition, too.
    eventually("Events may be sent", lambda: any(one.resource == "events" for one in granter.granted))
    stage.reserve(f"{stage.tag}-d", net, v4IpAddress=stage.inside(net, 9))
    stage.api.told("IP", f"{stage.tag}-d.default", "AddressConflict")
    stage.running(f"{stage.tag}-p", subnet=net)
    stage.drop(f"{stage.tag}-p")
    stage.api.gone("ip", f"{stage.tag}-p.default")
    stage.net(namespaces=[stage.namespace()])


def _without_answers(stage: Stage, deaf: Deaf) -> None:
    """What is written and not answered is read: the reads that no other story needs."""
    space = stage.namespace()
    deaf.lose("PATCH", f"{KUBEOVN}/subnets/")
    net = stage.net(namespaces=[space])
    for path in (f"/api/v1/namespaces/{space}", f"{KUBEOVN}/ippools/", f"{KUBEOVN}/ips/"):
        deaf.lose("PATCH", path)
    stage.net(namespaces=[space])
    stage.pool(net, stage.inside(net, 40))
    stage.reserved(f"{stage.tag}-c", net)


def _while_down(stage: Stage, flags: tuple[str, ...]) -> None:
    """What ended while nobody watched is let go of after a live read of its owner."""
    web, machine, net = Web(stage, 1), Machine(stage), stage.net()
    web.has(0)
    machine.start()
    machine.stop()
    stage.add("vip", neighbour("vip", f"{stage.tag}-v", subnet=net, namespace="default", v4ip=stage.inside(net, 99)))
    stage.keeper.kill()
    stage.api.delete("statefulset", web.name)
    web.gone([0])
    stage.api.delete("vm", machine.name)
    stage.api.gone("vm", machine.name)
    left = orphan(stage, net, 0)
    rows(stage, net, range(1))
    stage.keeper.start(*flags)
    stage.api.gone("ip", f"{web.pod(0)}.default")
    machine.freed()
    stage.api.gone("ip", left)
    stage.no_port(left)
