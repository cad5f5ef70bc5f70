"""The objects of the load, and the writes of the floor: field by field what keepip itself writes."""

from typing import Any

from controller.core import naming
from controller.core.addresses import Address, format_address, format_mac, parse_address
from controller.core.objects import FINALIZER
from controller.core.rows import VENDOR
from controller.load import objects
from controller.load.objects import Json, Place

NAMESPACE = "load"
SUBNET = "ovn-default"
NODE = "kube-ovn-worker"
PLACE = Place(NAMESPACE, SUBNET, node=NODE)
CIDR = "10.16.0.0/14"
# The number of the first address of what was there before, away from what is given out meanwhile.
RESERVED, RUNNING = 2**16, 2**17
_FIRST = parse_address("10.16.0.0").value
_MAC = 0x0A_00_00_00_00_00
_EMPTY: dict[str, Any] = {"attachIps": [], "attachMacs": [], "attachSubnets": [], "containerID": ""}


def subnet() -> Json:
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "Subnet",
        "metadata": {"name": SUBNET},
        "spec": {
            "default": True,
            "cidrBlock": CIDR,
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


def reservation(name: str) -> Json:
    """What a user writes."""
    return objects.reservation(PLACE, name)


def pod(name: str) -> Json:
    """What a user writes, with a node: no scheduler is waited for."""
    return objects.pod(PLACE, name)


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
        "cidr": CIDR,
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
        "name": PLACE.ip(name),
        "addresses": f"{has['macAddress']} {has['v4IpAddress']}",
        "external_ids": ["map", sorted([key, value] for key, value in ids.items())],
    }
