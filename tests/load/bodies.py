"""The objects of the load, and the writes of the floor: field by field what keepip itself writes."""

from typing import Any

from controller.core import naming
from controller.core.addresses import Address, format_address, format_mac, parse_address
from controller.core.objects import FINALIZER
from controller.core.rows import VENDOR

NAMESPACE = "load"
SUBNET = "ovn-default"
NODE = "kube-ovn-worker"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_FIRST = parse_address("10.16.0.0").value
_MAC = 0x0A_00_00_00_00_00
_EMPTY: dict[str, Any] = {"attachIps": [], "attachMacs": [], "attachSubnets": [], "containerID": ""}

Json = dict[str, Any]


def subnet() -> Json:
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "Subnet",
        "metadata": {"name": SUBNET},
        "spec": {
            "default": True,
            "cidrBlock": "10.16.0.0/16",
            "gateway": "10.16.0.1",
            "excludeIps": ["10.16.0.1"],
            "gatewayType": "distributed",
            "natOutgoing": True,
            "private": False,
            "protocol": "IPv4",
            "provider": "ovn",
            "vpc": "ovn-cluster",
        },
    }


def port(name: str) -> str:
    return f"{name}.{NAMESPACE}"


def reservation(name: str) -> Json:
    """What a user writes."""
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": port(name)},
        "spec": {"subnet": SUBNET, "podType": "", "namespace": NAMESPACE, "podName": name},
    }


def pod(name: str) -> Json:
    """What a user writes, with a node: no scheduler is waited for."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "load", "version": "1"}},
        "spec": {
            "nodeName": NODE,
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


def fields(number: int) -> dict[str, str]:
    """The address fields of the number-th address of the subnet."""
    text = format_address(Address(4, _FIRST + number))
    return {"v4IpAddress": text, "v6IpAddress": "", "ipAddress": text, "macAddress": format_mac(_MAC + number)}


def grant(version: str, number: int) -> Json:
    """The one merge patch of a reservation."""
    return {
        "metadata": {
            "resourceVersion": version,
            "labels": naming.labels(SUBNET, "", reserved=True),
            "finalizers": [FINALIZER],
        },
        "spec": {**_EMPTY, **fields(number), "nodeName": ""},
    }


def granted(name: str, number: int) -> Json:
    """A reservation as it is after its grant."""
    whole, patch = reservation(name), grant("", number)
    whole["metadata"] |= {key: patch["metadata"][key] for key in ("labels", "finalizers")}
    whole["spec"] |= patch["spec"]
    return whole


def pod_ip(name: str, number: int) -> Json:
    """The IP object of a pod."""
    whole = reservation(name)
    whole["metadata"] |= {"labels": naming.labels(SUBNET, NODE, reserved=False), "finalizers": [FINALIZER]}
    whole["spec"] |= {**_EMPTY, **fields(number), "nodeName": NODE}
    return whole


def notes(number: int) -> dict[str, str]:
    """A pod's annotations."""
    has = fields(number)
    wanted = {
        "ip_address": has["ipAddress"],
        "mac_address": has["macAddress"],
        "cidr": "10.16.0.0/16",
        "gateway": "10.16.0.1",
        "logical_switch": SUBNET,
        "allocated": "true",
        "pod_nic_type": "veth-pair",
        "logical_router": "ovn-cluster",
        "routed": "true",
    }
    return {naming.PREFIX + key: value for key, value in wanted.items()}


def row(name: str, uid: str, number: int) -> Json:
    """The Logical_Switch_Port of a pod."""
    has = fields(number)
    ids = {"vendor": VENDOR, "ls": SUBNET, "pod": f"{NAMESPACE}/{name}", "pod-uid": uid}
    return {
        "name": port(name),
        "addresses": f"{has['macAddress']} {has['v4IpAddress']}",
        "external_ids": ["map", sorted([key, value] for key, value in ids.items())],
    }
