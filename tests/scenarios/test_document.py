"""The user document, step by step, as written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import MANIFESTS, Refused
from tests.scenarios.stage import (
    FINALIZER,
    RESERVED,
    Object,
    Stage,
    condition,
    eventually,
    machine,
    notes,
    ports,
    without,
)

SAMPLES = MANIFESTS / "samples"


@pytest.fixture
def document(stage: Stage) -> Stage:
    """The ground of the document: the subnet that Kube-OVN makes at installation."""
    stage.add("subnet", yaml.safe_load((SAMPLES / "ovn-default.yaml").read_text()))
    stage.cluster.kubectl("wait", "--for=condition=Ready", "subnet/ovn-default", "--timeout=20s")
    return stage


def apply(stage: Stage, sample: str) -> Object:
    """Apply a sample and wait for it as a user does."""
    stage.cluster.kubectl("apply", "-f", str(SAMPLES / sample))
    name = yaml.safe_load((SAMPLES / sample).read_text())["metadata"]["name"]
    stage._made["ip", "", name] = None
    stage.cluster.kubectl("wait", "--for=condition=Ready", f"ip/{name}", "--timeout=20s")
    shown: Object = json.loads(stage.cluster.kubectl("get", "ip", name, "-o", "json"))
    return shown


def expected(name: str, kind: str, address: str, mac: str) -> Object:
    """The document's output, with the present finalizer (contract §1)."""
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {
            "finalizers": [FINALIZER],
            "generation": 2,
            "labels": {
                RESERVED: "true",
                "ovn.kubernetes.io/node-name": "",
                "ovn.kubernetes.io/subnet": "ovn-default",
                "ovn-default": "",
            },
            "name": f"{name}.default",
        },
        "spec": {
            "attachIps": [],
            "attachMacs": [],
            "attachSubnets": [],
            "containerID": "",
            "ipAddress": address,
            "macAddress": mac,
            "namespace": "default",
            "nodeName": "",
            "podName": name,
            "podType": kind,
            "subnet": "ovn-default",
            "v4IpAddress": address,
            "v6IpAddress": "",
        },
    }


def shape(ip: Object) -> Object:
    """All of it that does not change from run to run."""
    changing = ("annotations", "creationTimestamp", "resourceVersion", "uid", "managedFields")
    return without(ip, "status", *(f"metadata.{key}" for key in changing))


def table(stage: Stage, *args: str) -> list[dict[str, str]]:
    """What kubectl prints, as rows by column."""
    text = stage.cluster.kubectl("get", *args)
    head, *lines = text.splitlines()
    starts = [i for i, c in enumerate(head) if c != " " and (i == 0 or head[i - 2 : i] == "  ")]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    return [{head[a:b].strip(): line[a:b].strip() for a, b in spans} for line in lines]


def mac_of(ip: Object) -> str:
    mac: str = ip["spec"]["macAddress"]
    assert int(mac[:2], 16) & 3 == 2, f"{mac} is not a locally administered unicast address"
    return mac


def test_both_samples_are_granted_in_one_write_each_and_no_port_is_made(document: Stage) -> None:
    """Samples 1.1 and 1.2, the subnet's table, the empty nbctl output."""
    before = document.keeper.quiet()
    dynamic = apply(document, "01-dynamic.yaml")
    static = apply(document, "02-static.yaml")
    assert shape(dynamic) == expected("vm-dynamic-01", "VirtualMachine", "10.16.0.2", mac_of(dynamic))
    assert shape(static) == expected("pod-static-01", "", "10.16.0.3", mac_of(static))
    for ip, sample in ((dynamic, "01-dynamic.yaml"), (static, "02-static.yaml")):
        said = json.loads(ip["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
        assert said["spec"] == yaml.safe_load((SAMPLES / sample).read_text())["spec"]
        assert ip["status"]["observedGeneration"] == 2
        assert ip["status"]["usedBy"] == ""
        assert ip["status"]["recorded"] == {
            key: ip["spec"][key]
            for key in ("subnet", "podName", "namespace", "podType", "v4IpAddress", "v6IpAddress", "macAddress")
        } | {"reserved": "true"}
        assert condition(ip, "Ready")["message"].endswith(f"is reserved for default/{ip['spec']['podName']}")
        assert condition(ip, "InUse")["status"] == "False"
    document.numbers("ovn-default", 2, 65531)
    assert table(document, "subnet", "ovn-default") == [
        {
            "NAME": "ovn-default",
            "PROVIDER": "ovn",
            "VPC": "ovn-cluster",
            "VLAN": "",
            "PROTOCOL": "IPv4",
            "CIDR": "10.16.0.0/16",
            "PRIVATE": "false",
            "NAT": "true",
            "DEFAULT": "true",
            "GATEWAYTYPE": "distributed",
            "V4USED": "2",
            "V4AVAILABLE": "65531",
            "V6USED": "0",
            "V6AVAILABLE": "0",
            "EXCLUDEIPS": '["10.16.0.1"]',
            "U2OINTERCONNECTIONIP": "",
        }
    ]
    assert "port" not in document.cluster.nbctl("show", "ovn-default")
    after = document.keeper.quiet()
    spent = {k: v - before.writes.get(k, 0) for k, v in after.writes.items() if v != before.writes.get(k, 0)}
    assert {k: v for k, v in spent.items() if "Subnet" not in k} == {"patch IP": 4}, spent  # a spec and a status each
    assert after.transactions == before.transactions
    shown = json.loads(document.cluster.kubectl("get", "ip", "-o", "json"))["items"]
    assert {ip["metadata"]["name"]: ip["metadata"]["generation"] for ip in shown} == {
        "vm-dynamic-01.default": 2,
        "pod-static-01.default": 2,
    }


def test_kubectl_shows_reservations_in_its_columns(document: Stage) -> None:
    """Printer columns as Kube-OVN has them, then Reserved, Ready and, wide, Reason."""
    static = apply(document, "02-static.yaml")
    (row,) = table(document, "ip", "pod-static-01.default", "-o", "wide")
    row.pop("AGE")
    assert row == {
        "NAME": "pod-static-01.default",
        "V4IP": "10.16.0.3",
        "V6IP": "",
        "MAC": mac_of(static),
        "NODE": "",
        "SUBNET": "ovn-default",
        "RESERVED": "true",
        "READY": "True",
        "REASON": "Reserved",
    }


def test_the_pod_uses_its_address_and_the_address_outlives_the_pod(document: Stage) -> None:
    """Use, deletion of the pod, the same address and MAC again, as kubectl shows them."""
    kubectl, mac = document.cluster.kubectl, mac_of(apply(document, "02-static.yaml"))
    for _ in range(3):
        kubectl("run", "pod-static-01", "--image=nginx")
        document._made["pod", "default", "pod-static-01"] = None
        kubectl("wait", "--for=condition=Ready", "pod/pod-static-01", "--timeout=20s")
        (row,) = table(document, "pod", "-n", "default", "-o", "wide")
        assert (row["NAME"], row["READY"], row["STATUS"], row["IP"]) == ("pod-static-01", "1/1", "Running", "10.16.0.3")
        assert notes(document.api.get("pod", "pod-static-01"))["mac_address"] == mac
        port = ports(document.cluster)["pod-static-01.default"]
        assert port["addresses"] == f"{mac} 10.16.0.3"
        in_use = document.until("ip", "pod-static-01.default", "InUse", "True", "InUse")
        assert in_use["status"]["usedBy"] == "default/pod-static-01"
        assert in_use["spec"]["nodeName"] == row["NODE"]
        kubectl("delete", "pod", "pod-static-01", "--now")
        kept = document.until("ip", "pod-static-01.default", "InUse", "False", "NotInUse")
        assert (kept["spec"]["v4IpAddress"], kept["spec"]["macAddress"]) == ("10.16.0.3", mac)
        document.no_port("pod-static-01.default")
    document.numbers("ovn-default", 1, 65532)


def test_deleting_the_ip_frees_the_address_and_strips_the_finalizer(document: Stage) -> None:
    """Section 2: delete the IP resource, and nothing else is needed."""
    apply(document, "02-static.yaml")
    document.cluster.kubectl("delete", "ip", "pod-static-01.default", "--timeout=20s")
    with pytest.raises(Refused, match="not found"):
        document.cluster.kubectl("get", "ip", "pod-static-01.default")
    document.numbers("ovn-default", 0, 65533)
    assert "port" not in document.cluster.nbctl("show", "ovn-default")


def test_an_old_finalizer_is_taken_off_as_well(document: Stage) -> None:
    """The document shows `kube-ovn-controller`; an IP that carries it goes like any other."""
    body: dict[str, Any] = yaml.safe_load((SAMPLES / "01-dynamic.yaml").read_text())
    body["metadata"]["finalizers"] = ["kube-ovn-controller"]
    document.add("ip", body)
    document.until("ip", "vm-dynamic-01.default", "Ready", "True", "Reserved")
    document.forget("ip", "vm-dynamic-01.default")


def test_the_vm_uses_its_address_whatever_its_pod_is_called(document: Stage) -> None:
    """A reservation of type VirtualMachine is used by the launcher pod of that VM."""
    held = apply(document, "01-dynamic.yaml")
    mac, address = mac_of(held), held["spec"]["v4IpAddress"]
    for life in ("aaaaa", "bbbbb"):
        name = f"virt-launcher-vm-dynamic-01-{life}"
        pod = document.running(name, owner=machine("vm-dynamic-01"))
        assert pod["status"]["podIP"] == address
        assert notes(pod)["mac_address"] == mac
        assert notes(pod)["virtualmachine"] == "vm-dynamic-01"
        port = ports(document.cluster)["vm-dynamic-01.default"]
        assert port["external_ids"]["pod"] == "default/vm-dynamic-01"
        document.drop(name)
        eventually("not in use", lambda: document.api.get("ip", "vm-dynamic-01.default")["status"]["usedBy"] == "")
