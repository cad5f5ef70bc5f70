"""What `kubectl apply -k` installs: it renders, a real API server takes it, its pods are let in."""

import copy
import functools
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from controller.process import settings
from tests.cluster import binaries
from tests.cluster.cluster import MANIFESTS, NAMESPACE, Cluster, Refused
from tests.scenarios.stage import eventually

Object = dict[str, Any]
# Each with its replicas and with the level of Pod Security that its namespace enforces.
OVERLAYS = {
    "observe": (1, "restricted"),
    "manage": (1, "restricted"),
    "ha": (2, "restricted"),
    "host-network": (2, "privileged"),
}
STORED = {
    "apiVersion": "kubeovn.io/v1",
    "kind": "IP",
    "metadata": {"name": "pod-a.space"},
    "spec": {"podName": "pod-a", "namespace": "space"},
}
KINDS = ("ips", "subnets", "ippools", "vips")


def _kubeovn() -> str:
    """Kube-OVN's own kinds as far as they matter here: the same fields, and an IP without a status."""
    found = [yaml.safe_load((MANIFESTS / "crd" / f"{name}.yaml").read_text()) for name in KINDS]
    version = found[0]["spec"]["versions"][0]
    del version["subresources"], version["schema"]["openAPIV3Schema"]["properties"]["status"]
    version["additionalPrinterColumns"] = [
        one for one in version["additionalPrinterColumns"] if not one["jsonPath"].startswith(".status")
    ]
    return yaml.safe_dump_all(found)


@pytest.fixture(scope="module", params=["empty", "with Kube-OVN's kinds"])
def ground(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster on which nothing of ours is installed."""
    with Cluster.start(manifests=False) as running:
        if request.param != "empty":
            # As its installer does: kubectl's client-side apply owns every field from then on.
            running.kubectl("apply", "-f", "-", input=_kubeovn())
            running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
            running.kubectl("create", "-f", "-", input=json.dumps(STORED))
        yield running


@functools.cache
def _rendered(overlay: str) -> list[Object]:
    command = (binaries.control_plane()["kubectl"], "kustomize", MANIFESTS / overlay)
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, check=True).stdout))


def _install(cluster: Cluster, objects: list[Object], *more: str) -> None:
    """As the README says."""
    text = yaml.safe_dump_all(objects)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", *more, "-f", "-", input=text)


def _one(objects: list[Object], kind: str) -> Object:
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


def test_each_overlay_is_taken_by_the_server_and_its_pods_are_let_in(ground: Cluster) -> None:
    """One after the other, as somebody does who changes their mind."""
    stored = 1 if "ips.kubeovn.io" in ground.kubectl("get", "crd", "-o", "name") else 0
    for overlay, (replicas, level) in OVERLAYS.items():
        objects = _rendered(overlay)
        # The server tries objects one by one: what lives in a namespace can only be tried where that is.
        _install(ground, [_one(objects, "Namespace")])
        _install(ground, objects, "--dry-run=server")
        _install(ground, objects)

        space = json.loads(ground.kubectl("get", "namespace", NAMESPACE, "-o", "json"))
        assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == level
        template = _one(objects, "Deployment")["spec"]["template"]
        look = functools.partial(_pods, ground, replicas, template)
        pods = eventually(f"the pods of {overlay}", look, seconds=60, pause=0.3)
        assert {one["spec"]["serviceAccountName"] for one in pods} == {"keepip"}
        if overlay == "observe":  # who has looked long enough takes it away again
            ground.kubectl("delete", "deployment/keepip", "-n", NAMESPACE, "--cascade=foreground")
    # An IP has its status, whoever made the kind, and what was stored stays.
    kind = json.loads(ground.kubectl("get", "crd", "ips.kubeovn.io", "-o", "json"))
    assert "status" in kind["spec"]["versions"][0]["subresources"]
    assert len(json.loads(ground.kubectl("get", "ips.kubeovn.io", "-o", "json"))["items"]) == stored
    _bold(ground)


def _pods(cluster: Cluster, count: int, template: Object) -> list[Object]:
    """The pods that kube-controller-manager has made from it, once there are so many; else why not."""
    items = json.loads(cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "json"))["items"]
    host = template["spec"].get("hostNetwork", False)
    found = [one for one in items if one["spec"].get("hostNetwork", False) == host]
    why = cluster.kubectl("get", "events", "-n", NAMESPACE, "--field-selector=type=Warning")
    assert len(found) == count, (len(found), why)
    return found


def _bold(ground: Cluster) -> None:
    """What the story relies on: the level is enforced here, and these pods are at its edge."""
    objects = _rendered("manage")
    _install(ground, [_one(objects, "Namespace")])
    pod = copy.deepcopy(_one(objects, "Deployment")["spec"]["template"]) | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "bold", "namespace": NAMESPACE}
    pod["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
    with pytest.raises(Refused, match='violates PodSecurity "restricted:latest"'):
        ground.kubectl("create", "-f", "-", input=json.dumps(pod))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_process_understands_what_its_deployment_tells_it(overlay: str) -> None:
    objects = _rendered(overlay)
    (container,) = _one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    config = _one(objects, "ConfigMap")
    assert container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
    told = config["data"] | {one["name"]: one.get("value", one["name"]) for one in container["env"]}

    assert told.keys() <= {"POD_NAME", *(option.variable for option in settings.OPTIONS)}
    understood = settings.load(container.get("args", []), told)

    assert understood.nb == (config["data"]["KEEPIP_NB"],)
    assert understood.tuning.identity.startswith("POD_NAME_")
    assert [port["containerPort"] for port in container["ports"]] == [understood.http_port]
    probes = {container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {"/livez", "/readyz"}
    grace = _one(objects, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert understood.tuning.drain_s < grace


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_selects_the_pods_finds_them(overlay: str) -> None:
    objects = _rendered(overlay)
    labels = _one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]

    assert _one(objects, "Service")["spec"]["selector"].items() <= labels.items()
    assert _one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    for budget in (one for one in objects if one["kind"] == "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        terms = _one(objects, "Deployment")["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
        (term,) = terms["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"].items() <= labels.items()
