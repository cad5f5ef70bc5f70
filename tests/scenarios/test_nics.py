"""Several NICs per pod on a real cluster: Multus' annotations and definitions (contract §4, bug rows 18-22, 39)."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from tests.cluster.cluster import Cluster
from tests.scenarios.stage import RESERVED, Keeper, Object, Stage, eventually, notes, pod, ports, reservation

NETWORKS = "k8s.v1.cni.cncf.io/networks"
DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
ORDERS = tuple(permutations(("pod", "ip", "subnet", "nad")))


@pytest.fixture(scope="module", autouse=True)
def multus(cluster: Cluster, keeper: Keeper) -> None:
    """The definitions' CRD, which comes after the controller has started: it is asked for again and again."""
    cluster.serve("multus")
    keeper.reads("NetworkAttachmentDefinition")


def define(stage: Stage, name: str, *, ipam: bool = False, subnet: bool = True) -> tuple[str, str]:
    """A network of Kube-OVN's CNI, or of another's with our IPAM, and a subnet of it; the provider, the subnet."""
    provider = f"{name}.default" if ipam else f"{name}.default.ovn"
    config: Object = {"type": "kube-ovn", "provider": provider}
    if ipam:
        config = {"plugins": [{"type": "macvlan", "ipam": {"type": "kube-ovn", "provider": provider}}]}
    stage.add(
        "nad",
        {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"config": json.dumps(config)},
        },
    )
    return provider, bind(stage, provider) if subnet else ""


def bind(stage: Stage, provider: str) -> str:
    """A subnet of that provider; its name."""
    if provider.endswith(".ovn"):
        return stage.net(provider=provider)
    name = f"{stage.tag}-third"
    made = {"metadata": {"name": name, "annotations": {"keepip.io/cooldown": "0"}}}
    made |= {"apiVersion": "kubeovn.io/v1", "kind": "Subnet"}  # type: ignore[dict-item]
    stage.add("subnet", made | {"spec": {"cidrBlock": stage.cidr(), "provider": provider}})
    stage.until("subnet", name, "Ready", "True", "SetNonOvnSubnetSuccess")
    return name


def plugged(stage: Stage, name: str, networks: str, *, subnet: str, **more: str) -> Object:
    """A pod with these networks; `more` are annotations by their whole keys."""
    body = pod(name, subnet=subnet)
    body["metadata"]["annotations"] |= {NETWORKS: networks} | more
    return stage.add("pod", body)


def nic(one: Object, provider: str) -> dict[str, str]:
    """What a pod's annotations say of one NIC."""
    prefix = f"{provider}.kubernetes.io/"
    found = one["metadata"].get("annotations") or {}
    return {key.removeprefix(prefix): text for key, text in found.items() if key.startswith(prefix)}


def served(stage: Stage, name: str, *providers: str) -> Object:
    """Wait until each of these NICs has its address and its route; the pod."""

    def look() -> Object:
        one = stage.api.get("pod", name)
        for provider in providers:
            assert nic(one, provider).get("routed") == "true", (provider, one["metadata"]["annotations"])
        return one

    return eventually(f"NICs of {name}", look)


def test_a_pod_with_two_nics(stage: Stage) -> None:
    """Both ports, both IPs, and one patch of the pod with all annotations of both."""
    net, name = stage.net(), f"{stage.tag}-a"
    provider, more = define(stage, f"{stage.tag}-n")
    before = stage.keeper.metrics().total("rest_client_requests_total", method="patch", kind="Pod")
    plugged(stage, name, f"{stage.tag}-n", subnet=net)
    stage.runs(name)
    one = served(stage, name, "ovn", provider)
    port = f"{name}.default.{provider}"

    ip = stage.api.get("ip", port)
    has = nic(one, provider)
    assert (ip["spec"]["podName"], ip["spec"]["namespace"], ip["spec"]["subnet"]) == (name, "default", more)
    assert (ip["spec"]["ipAddress"], ip["spec"]["macAddress"]) == (has["ip_address"], has["mac_address"])
    assert ip["spec"]["nodeName"] == one["spec"]["nodeName"]
    assert (ip["spec"]["podType"], ip["metadata"]["labels"][RESERVED]) == ("", "false")
    assert ports(stage.cluster)[port]["addresses"] == f"{has['mac_address']} {has['ip_address']}"
    assert ports(stage.cluster)[port]["external_ids"]["ls"] == more
    assert has["logical_switch"] == more
    assert f"provider={provider} subnet={more}" in stage.api.told("Pod", name, "PodNetworkAllocated")
    after = stage.keeper.quiet()
    assert after.total("rest_client_requests_total", method="patch", kind="Pod") - before <= 2  # the node may come late
    stage.drop(name)
    stage.api.gone("ip", port)
    stage.no_port(port)


def test_one_network_twice_with_interfaces(stage: Stage) -> None:
    net, name, nad = stage.net(), f"{stage.tag}-a", f"{stage.tag}-n"
    provider, more = define(stage, nad)
    plugged(stage, name, json.dumps([{"name": nad, "interface": one} for one in ("eth1", "eth2")]), subnet=net)
    one = served(stage, name, "ovn", f"{provider}.eth1", f"{provider}.eth2")
    both = [nic(one, f"{provider}.{each}") for each in ("eth1", "eth2")]

    assert len({has["ip_address"] for has in both}) == 2
    assert len({has["mac_address"] for has in (*both, nic(one, "ovn"))}) == 3
    assert {f"{name}.default.{provider}.eth1", f"{name}.default.{provider}.eth2"} <= ports(stage.cluster).keys()
    stage.numbers(more, using=2, available=251)


def test_the_ipam_of_another_cni(stage: Stage) -> None:
    """An IP and an address, no port, no MAC; given back like any other (bug row 20)."""
    net, name = stage.net(), f"{stage.tag}-a"
    provider, third = define(stage, f"{stage.tag}-m", ipam=True)
    plugged(stage, name, f"{stage.tag}-m", subnet=net)
    one = served(stage, name, "ovn", provider)
    port = f"{name}.default.{provider}"

    assert nic(one, provider).keys() == {"ip_address", "cidr", "gateway", "allocated", "routed"}
    assert stage.api.get("ip", port)["spec"]["macAddress"] == ""
    assert port not in ports(stage.cluster)
    stage.numbers(third, using=1, available=252)
    stage.drop(name)
    stage.api.gone("ip", port)
    stage.numbers(third, using=0, available=253)


def test_with_another_default_network(stage: Stage) -> None:
    """The default network is none of ours, the further NIC is."""
    name = f"{stage.tag}-a"
    provider, _ = define(stage, f"{stage.tag}-n")
    plugged(stage, name, f"{stage.tag}-n", subnet="", **{DEFAULT_NETWORK: "kube-system/other"})
    one = served(stage, name, provider)

    assert notes(one) == {}
    assert stage.api.find("ip", f"{name}.default") is None
    assert f"{name}.default" not in ports(stage.cluster)
    stage.drop(name)
    stage.api.gone("ip", f"{name}.default.{provider}")


def test_one_nic_that_cannot_be_served_holds_up_nobody(stage: Stage) -> None:
    """Told what to make; served as soon as it is there, without anybody touching the pod."""
    net, name, nad = stage.net(), f"{stage.tag}-a", f"{stage.tag}-n"
    plugged(stage, name, nad, subnet=net)
    stage.runs(name)
    assert f"default/{nad} does not exist" in stage.api.told("Pod", name, "PodNetworkUpdateFailed")
    provider, _ = define(stage, nad, subnet=False)
    assert provider in stage.api.told("Pod", name, "SubnetNotFound")
    bind(stage, provider)
    served(stage, name, provider)


def test_hot_unplug_and_plug(stage: Stage) -> None:
    net, name, nad, mac = stage.net(), f"{stage.tag}-a", f"{stage.tag}-n", f"{stage.tag}-m"
    provider, _ = define(stage, nad)
    third, _ = define(stage, mac, ipam=True)
    plugged(stage, name, f"{nad},{mac}", subnet=net)
    before = served(stage, name, "ovn", provider, third)
    stage.api.patch("pod", name, {"metadata": {"annotations": {NETWORKS: mac}}})
    stage.api.gone("ip", f"{name}.default.{provider}")
    stage.no_port(f"{name}.default.{provider}")
    after = stage.api.get("pod", name)

    assert nic(after, provider) == {}
    assert (nic(after, third), nic(after, "ovn")) == (nic(before, third), nic(before, "ovn"))
    stage.api.patch("pod", name, {"metadata": {"annotations": {NETWORKS: f"{nad},{mac}"}}})
    served(stage, name, provider)


def test_a_reservation_for_the_second_nic(stage: Stage) -> None:
    """Written before the pod exists, used by its second NIC, kept when it is gone."""
    net, name, nad = stage.net(), f"{stage.tag}-a", f"{stage.tag}-n"
    provider, more = define(stage, nad)
    port = f"{name}.default.{provider}"
    body = reservation(name, more, v4IpAddress=stage.inside(more, 77))
    body["metadata"]["name"] = port
    stage.add("ip", body)
    stage.until("ip", port, "Ready", "True", "Reserved")
    plugged(stage, name, nad, subnet=net)
    one = served(stage, name, "ovn", provider)

    assert nic(one, provider)["ip_address"] == stage.inside(more, 77)
    assert notes(one)["ip_address"] != stage.inside(more, 77)
    assert stage.until("ip", port, "InUse", "True", "InUse")["status"]["usedBy"] == f"default/{name}"
    stage.drop(name)
    stage.until("ip", port, "InUse", "False", "NotInUse")
    stage.no_port(port)
    assert stage.api.get("ip", port)["spec"]["v4IpAddress"] == stage.inside(more, 77)


def test_a_definition_that_goes_before_its_pod(stage: Stage) -> None:
    """Bug row 21: what was made is released by what was recorded; also when nobody was there to see it."""
    net, name, nad, mac = stage.net(), f"{stage.tag}-a", f"{stage.tag}-n", f"{stage.tag}-m"
    provider, more = define(stage, nad)
    third, away = define(stage, mac, ipam=True)
    plugged(stage, name, f"{nad},{mac}", subnet=net)
    served(stage, name, "ovn", provider, third)
    stage.keeper.kill()
    for one in (nad, mac):
        stage.api.delete("nad", one)
    stage.keeper.start()
    stage.keeper.quiet()
    assert f"{name}.default.{provider}" in ports(stage.cluster)
    assert stage.api.find("ip", f"{name}.default.{third}") is not None
    stage.drop(name)
    for left in (provider, third):
        stage.api.gone("ip", f"{name}.default.{left}")
    stage.numbers(more, using=0, available=253)
    stage.numbers(away, using=0, available=253)


@pytest.mark.parametrize("ipam", [False, True])
def test_everything_ends_in_whatever_order_it_is_deleted(stage: Stage, ipam: bool) -> None:  # noqa: FBT001
    """Bug row 39: pod, IP, subnet and definition of one NIC, in all 24 orders; no finalizer is left."""
    net = stage.net()
    made: list[tuple[tuple[str, ...], dict[str, str]]] = []
    for number, order in enumerate(ORDERS):
        tag = f"{stage.tag}-{number}"
        provider, subnet = define(stage, f"{tag}-n", ipam=ipam, subnet=False)[0], f"{tag}-net"
        body: Object = {"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": subnet}}
        stage.add("subnet", body | {"spec": {"cidrBlock": stage.cidr(), "provider": provider}})
        plugged(stage, tag, f"{tag}-n", subnet=net)
        names = {"pod": tag, "ip": f"{tag}.default.{provider}", "subnet": subnet, "nad": f"{tag}-n"}
        made.append((order, names))
    for _, names in made:
        served(stage, names["pod"], "ovn", names["ip"].removeprefix(f"{names['pod']}.default."))
    for order, names in made:
        for kind in order:
            stage.api.delete(kind, names[kind])
    for _, names in made:
        for kind, name in names.items():
            stage.api.gone(kind, name)
        stage.no_port(names["ip"])
