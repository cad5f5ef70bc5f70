"""The texts about further networks, each reached by bad input."""

from __future__ import annotations

import json
import re

from controller.core.catalogue import Reason
from tests.scenarios.reasons import pattern, story
from tests.scenarios.stage import Stage, eventually, pod

NETWORKS = "k8s.v1.cni.cncf.io/networks"
UNREACHED: dict[tuple[Reason, str, str], str] = {}


def define(stage: Stage, name: str, config: str) -> str:
    """A NetworkAttachmentDefinition that the controller has seen; the CRD comes with the first one."""
    stage.cluster.serve("multus")
    kind = "NetworkAttachmentDefinition"
    body = {"apiVersion": "k8s.cni.cncf.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}
    stage.add("nad", body | {"spec": {"config": config}})

    def seen() -> bool:
        return stage.keeper.metrics().total("keepip_replica_objects", kind=kind) == len(stage.api.all("nad"))

    eventually(f"{name} is seen", seen, seconds=30)
    return name


def ours(name: str) -> str:
    """The configuration of a network of Kube-OVN's CNI."""
    return json.dumps({"type": "kube-ovn", "provider": f"{name}.default.ovn"})


def plug(stage: Stage, name: str, net: str, networks: str, **notes: str) -> None:
    """A pod with further networks; `notes` are annotations by their whole keys."""
    body = pod(name, subnet=net)
    body["metadata"]["annotations"] |= {NETWORKS: networks} | notes
    stage.add("pod", body)


def told(stage: Stage, name: str, reason: Reason, text: str) -> None:
    """Wait until the pod hears just that of one of its networks, which is named first."""
    wanted = re.compile(r"(provider=\S+: )?" + pattern(reason, text).pattern, re.DOTALL)

    def look() -> bool:
        found = stage.api.events("Pod", name)
        assert any(why == reason and wanted.fullmatch(said) for why, said in found), found
        return True

    eventually(f"pod {name} hears {reason} {text}", look)


@story(Reason.POD_NETWORK_UPDATE_FAILED, "absent", "Pod")
def _absent(stage: Stage, net: str, name: str) -> None:
    define(stage, f"{name}-there", ours(f"{name}-there"))  # definitions are served
    plug(stage, name, net, f"{name}-nowhere")
    told(stage, name, Reason.POD_NETWORK_UPDATE_FAILED, "absent")


@story(Reason.POD_NETWORK_UPDATE_FAILED, "config", "Pod")
def _unreadable(stage: Stage, net: str, name: str) -> None:
    plug(stage, name, net, define(stage, f"{name}-bad", "{"))
    told(stage, name, Reason.POD_NETWORK_UPDATE_FAILED, "config")


@story(Reason.POD_NETWORK_UPDATE_FAILED, "twice", "Pod")
def _twice(stage: Stage, net: str, name: str) -> None:
    nad = define(stage, f"{name}-n", ours(f"{name}-n"))
    plug(stage, name, net, f"{nad},{nad}")
    told(stage, name, Reason.POD_NETWORK_UPDATE_FAILED, "twice")


@story(Reason.SUBNET_NOT_FOUND, "unbound", "Pod")
def _unbound(stage: Stage, net: str, name: str) -> None:
    plug(stage, name, net, define(stage, f"{name}-n", ours(f"{name}-n")))
    told(stage, name, Reason.SUBNET_NOT_FOUND, "unbound")


@story(Reason.SUBNET_NOT_FOUND, "other", "Pod")
def _of_another_provider(stage: Stage, net: str, name: str) -> None:
    """A network that only takes addresses of ours cannot have them from a subnet that OVN makes ports in."""
    nad = f"{name}-n"
    define(stage, nad, json.dumps({"type": "macvlan", "ipam": {"type": "kube-ovn", "provider": f"{nad}.default"}}))
    plug(stage, name, net, nad, **{f"{nad}.default.kubernetes.io/logical_switch": net})
    told(stage, name, Reason.SUBNET_NOT_FOUND, "other")
