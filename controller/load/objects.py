"""What a user of the cluster writes: namespaces, subnets, reservations, pods; each with the label of its run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.load.client import IPS

if TYPE_CHECKING:
    from collections.abc import Iterable

LABEL: Final = "keepip.io/load"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens; without a node nobody runs its pods."""

    namespace: str
    subnet: str
    run: str = ""
    node: str = ""

    @property
    def pods(self) -> str:
        """The path of its pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def ip(self, name: str) -> str:
        """The name of an owner's IP."""
        return f"{name}.{self.namespace}"

    @property
    def labels(self) -> dict[str, str]:
        """By which everything is found again."""
        return {LABEL: self.run} if self.run else {}


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the load, and the name by which its effect is seen."""

    seen_as: str
    method: str
    path: str
    body: Any


def namespace(place: Place) -> Json:
    """The namespace of a run."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace, "labels": place.labels}}


def subnet(place: Place, cidr: str) -> Json:
    """The subnet of a run: nobody else draws from it."""
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "Subnet",
        "metadata": {"name": place.subnet, "labels": place.labels},
        "spec": {"cidrBlock": cidr, "gatewayType": "distributed", "natOutgoing": False, "provider": "ovn"},
    }


def reservation(place: Place, name: str) -> Json:
    """A reservation whose workload does not exist."""
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": place.ip(name)} | ({"labels": place.labels} if place.labels else {}),
        "spec": {"subnet": place.subnet, "podType": "", "namespace": place.namespace, "podName": name},
    }


def pod(place: Place, name: str) -> Json:
    """A pod with its node, so that no scheduler is waited for; without one it stays with a scheduler that is not."""
    annotated = {"annotations": {"ovn.kubernetes.io/logical_switch": place.subnet}} if place.run else {}
    where = {"nodeName": place.node} if place.node else {"schedulerName": "keepip-load"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": place.namespace,
            "labels": {"app": "load", "version": "1", **place.labels},
            **annotated,
        },
        "spec": {
            **where,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "main",
                    "image": "registry.example/team/app:1.2.3",
                    "env": [{"name": "PLACE", "value": "here"}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "ports": [{"containerPort": 8080}],
                }
            ],
        },
    }


def creations(place: Place, kind: str, names: Iterable[str]) -> list[Request]:
    """Reservations, or pods."""
    if kind == "reservations":
        return [Request(place.ip(n), "POST", IPS, reservation(place, n)) for n in names]
    return [Request(n, "POST", place.pods, pod(place, n)) for n in names]


def deletions(place: Place, kind: str, names: Iterable[str]) -> list[Request]:
    """An IP, or a pod, by its user; both are over when the IP object is gone."""
    if kind == "reservations":
        return [Request(place.ip(n), "DELETE", f"{IPS}/{place.ip(n)}", None) for n in names]
    return [Request(place.ip(n), "DELETE", f"{place.pods}/{n}", AT_ONCE) for n in names]


AT_ONCE: Final = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
