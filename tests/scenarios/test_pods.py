"""Plain pods: port, IP, annotations; what they may ask for; when their address is free again (contract §4, §5)."""

from __future__ import annotations

import pytest

from tests.scenarios.stage import (
    FINALIZER,
    OVN,
    RESERVED,
    Object,
    Stage,
    eventually,
    notes,
    pod,
    ports,
    switch_of,
    without,
)


@pytest.mark.parametrize("dual", [False, True], ids=["ipv4", "dual"])
def test_a_plain_pod_gets_port_ip_and_annotations_field_by_field(stage: Stage, dual: bool) -> None:  # noqa: FBT001
    """kube-ovn-behaviour sections 4.5, 5.1 and 7.7, for the default network."""
    cidr = stage.cidr() + (f",{stage.cidr6()}" if dual else "")
    net, name = stage.net(cidr), f"{stage.tag}-a"
    one = stage.running(name, subnet=net)
    has, subnet = notes(one), stage.api.get("subnet", net)["spec"]
    address, mac = has["ip_address"], has["mac_address"]
    assert has == {
        "allocated": "true",
        "routed": "true",
        "ip_address": address,
        "mac_address": mac,
        "cidr": subnet["cidrBlock"],
        "gateway": subnet["gateway"],
        "logical_switch": net,
        "logical_router": "ovn-cluster",
        "pod_nic_type": "veth-pair",
    }
    v4, _, v6 = address.partition(",")
    assert v4 == stage.inside_of(cidr.split(",")[0], 2)
    assert bool(v6) == dual
    assert [ip["ip"] for ip in one["status"]["podIPs"]] == address.split(",")
    row = ports(stage.cluster)[f"{name}.default"]
    uid = one["metadata"]["uid"]
    assert row == {
        "name": f"{name}.default",
        "type": "",
        "addresses": f"{mac} {address.replace(',', ' ')}",
        "port_security": [],
        "options": {},
        "external_ids": {"vendor": "kube-ovn", "ls": net, "pod": f"default/{name}", "pod-uid": uid},
    }
    assert switch_of(stage.cluster, f"{name}.default") == net
    ip = stage.api.get("ip", f"{name}.default")
    node = one["spec"]["nodeName"]
    changing = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
    assert without(ip, *(f"metadata.{key}" for key in changing)) == {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {
            "name": f"{name}.default",
            "finalizers": [FINALIZER],
            "labels": {RESERVED: "false", OVN + "subnet": net, OVN + "node-name": node, net: ""},
        },
        "spec": {
            "podName": name,
            "namespace": "default",
            "subnet": net,
            "podType": "",
            "nodeName": node,
            "ipAddress": address,
            "v4IpAddress": v4,
            "v6IpAddress": v6,
            "macAddress": mac,
            "attachIps": [],
            "attachMacs": [],
            "attachSubnets": [],
            "containerID": "",
        },
    }
    told = stage.api.told("Pod", name, "PodNetworkAllocated")
    assert told == f"provider=ovn subnet={net} ip={address} mac={mac} logicalSwitchPort={name}.default"
    stage.drop(name)
    stage.api.gone("ip", f"{name}.default")
    stage.no_port(f"{name}.default")
    stage.numbers(net, 0, 253)


def test_a_pod_costs_one_ip_one_patch_and_one_row(stage: Stage) -> None:
    """Ten pods: ten IPs created, ten pod patches, ten ports."""
    net = stage.net()
    before = stage.keeper.quiet()
    for i in range(10):
        stage.pod(f"{stage.tag}-{i}", subnet=net)
    for i in range(10):
        stage.runs(f"{stage.tag}-{i}")
    after = stage.keeper.quiet()
    spent = {key: value - before.writes.get(key, 0) for key, value in after.writes.items()}
    assert {k: v for k, v in spent.items() if v and "Subnet" not in k and "Event" not in k} == {
        "create IP": 10,
        "patch Pod": 10,
    }
    assert after.total("keepip_northbound_effects_total") - before.total("keepip_northbound_effects_total") == 10


def test_static_annotations_are_given_as_asked(stage: Stage) -> None:
    """`ip_address`, with and without `mac_address`, and a MAC alone."""
    net = stage.net()
    asked = stage.inside(net, 77)
    one = notes(stage.running(f"{stage.tag}-a", subnet=net, ip_address=asked, mac_address="02:00:00:00:77:01"))
    assert (one["ip_address"], one["mac_address"]) == (asked, "02:00:00:00:77:01")
    two = notes(stage.running(f"{stage.tag}-b", subnet=net, mac_address="02:00:00:00:77:02"))
    assert (two["ip_address"], two["mac_address"]) == (stage.inside(net, 2), "02:00:00:00:77:02")
    assert ports(stage.cluster)[f"{stage.tag}-a.default"]["addresses"] == f"02:00:00:00:77:01 {asked}"


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_list_of_addresses_gives_each_pod_the_first_free_one(stage: Stage, separator: str) -> None:
    """`ip_pool` with either separator; one pod too many waits and is served when one goes."""
    net = stage.net()
    pool = [stage.inside(net, 30), stage.inside(net, 31)]
    text = separator.join(pool) + separator
    got = [notes(stage.running(f"{stage.tag}-{i}", subnet=net, ip_pool=text))["ip_address"] for i in range(2)]
    assert got == pool
    stage.pod(f"{stage.tag}-2", subnet=net, ip_pool=text)
    stage.waits(f"{stage.tag}-2", "AddressConflict", "no address of the list")
    stage.drop(f"{stage.tag}-0")
    assert notes(stage.runs(f"{stage.tag}-2"))["ip_address"] == pool[0]


def test_port_security_is_written_when_it_is_asked_for(stage: Stage) -> None:
    """The annotation `port_security: "true"` repeats the address in that column."""
    one = notes(stage.running(f"{stage.tag}-a", subnet=stage.net(), port_security="true"))
    row = ports(stage.cluster)[f"{stage.tag}-a.default"]
    assert row["port_security"] == f"{one['mac_address']} {one['ip_address']}"


@pytest.mark.parametrize("end", ["true", "failed"])
def test_a_finished_pod_gives_its_address_back(stage: Stage, end: str) -> None:
    """Succeeded or Failed for good: port and IP go while the pod is still there to be seen."""
    net, name = stage.net(), f"{stage.tag}-a"
    body = pod(name, subnet=net)
    body["spec"]["restartPolicy"] = "Never"
    body["metadata"]["annotations"]["keepip.test/complete"] = end
    stage.add("pod", body)
    stage.api.told("Pod", name, "PodNetworkReleased")
    stage.api.gone("ip", f"{name}.default")
    stage.no_port(f"{name}.default")
    assert stage.api.get("pod", name)["status"]["phase"] == ("Succeeded" if end == "true" else "Failed")
    stage.numbers(net, 0, 253)


def test_a_terminating_pod_keeps_its_port_until_it_is_gone(stage: Stage) -> None:
    """Its processes still talk; nobody else gets its address meanwhile."""
    net, name = stage.net("10.210.1.0/30", gateway="10.210.1.1"), f"{stage.tag}-a"
    body = pod(name, subnet=net)
    body["metadata"]["annotations"]["keepip.test/linger"] = "true"
    body["spec"]["terminationGracePeriodSeconds"] = 60
    stage.add("pod", body)
    stage.runs(name)
    stage.api.delete("pod", name)
    assert stage.api.get("pod", name)["metadata"]["deletionTimestamp"]
    stage.pod(f"{stage.tag}-b", subnet=net)
    stage.waits(f"{stage.tag}-b", "SubnetExhausted")
    assert f"{name}.default" in ports(stage.cluster)
    assert stage.api.get("ip", f"{name}.default")["metadata"].get("deletionTimestamp") is None
    stage.api.patch("pod", name, {"metadata": {"annotations": {"keepip.test/linger": None}}})
    stage.api.gone("pod", name)
    assert stage.runs(f"{stage.tag}-b")["status"]["podIP"] == "10.210.1.2"


def test_host_network_and_other_cnis_are_left_alone(stage: Stage) -> None:
    """No port, no IP, no annotation, no Event of ours."""
    net = stage.net()
    host = pod(f"{stage.tag}-host", subnet=net)
    host["spec"]["hostNetwork"] = True
    other = pod(f"{stage.tag}-other", subnet=net)
    other["metadata"]["annotations"]["v1.multus-cni.io/default-network"] = "kube-system/other"
    stage.add("pod", host)
    stage.add("pod", other)
    stage.runs(f"{stage.tag}-host")
    stage.keeper.quiet()
    for name in (f"{stage.tag}-host", f"{stage.tag}-other"):
        assert notes(stage.api.get("pod", name)) == {"logical_switch": net}
        assert stage.api.find("ip", f"{name}.default") is None
        assert f"{name}.default" not in ports(stage.cluster)
        assert {reason for reason, _ in stage.api.events("Pod", name)} <= {"Scheduled"}


def test_a_namesake_created_at_once_is_a_new_pod(stage: Stage) -> None:
    """Deleted and created again under one name: one port, one IP, all records agree.

    On a node without a kubelet: kwok deletes pods by name, and would now and then take the namesake for the old one.
    """
    net, name = stage.net(), f"{stage.tag}-a"
    body = pod(name, subnet=net)
    body["spec"]["nodeName"] = "elsewhere"

    def routed() -> Object | None:
        has = notes(stage.api.get("pod", name))
        return has if has.get("routed") == "true" else None

    for _ in range(5):
        stage.add("pod", body)
        eventually(f"pod {name} is routed", routed)
        stage.drop(name)
    stage.add("pod", body)
    one = eventually(f"pod {name} is routed", routed)
    stage.keeper.quiet()
    ip = stage.api.get("ip", f"{name}.default")
    assert (ip["spec"]["ipAddress"], ip["spec"]["macAddress"]) == (one["ip_address"], one["mac_address"])
    assert ports(stage.cluster)[f"{name}.default"]["addresses"] == f"{one['mac_address']} {one['ip_address']}"
    stage.numbers(net, 1, 252)


def test_routed_is_said_only_when_the_node_is_known(stage: Stage) -> None:
    """A pod that no node takes gets its address, and `routed` as soon as a node is chosen."""
    net, name = stage.net(), f"{stage.tag}-a"
    body = pod(name, subnet=net)
    body["spec"]["schedulingGates"] = [{"name": "example.com/wait"}]
    stage.add("pod", body)
    eventually("it is allocated", lambda: notes(stage.api.get("pod", name)).get("allocated") == "true")
    has = notes(stage.api.get("pod", name))
    assert "routed" not in has
    assert stage.api.get("ip", f"{name}.default")["spec"]["nodeName"] == ""
    stage.api.patch("pod", name, {"spec": {"schedulingGates": None}})
    one = stage.runs(name)
    assert notes(one) == has | {"routed": "true"}
    eventually(
        "the IP names the node",
        lambda: stage.api.get("ip", f"{name}.default")["spec"]["nodeName"] == one["spec"]["nodeName"],
    )
    assert stage.api.get("ip", f"{name}.default")["metadata"]["labels"][OVN + "node-name"] == one["spec"]["nodeName"]


def test_a_pods_ip_that_a_user_deleted_comes_back(stage: Stage) -> None:
    """The running pod keeps its network; its IP terminates until it goes."""
    net, name = stage.net(), f"{stage.tag}-a"
    one = stage.running(name, subnet=net)
    stage.api.delete("ip", f"{name}.default")
    stage.until("ip", f"{name}.default", "InUse", "True", "InUse")
    assert ports(stage.cluster)[f"{name}.default"]
    assert notes(stage.api.get("pod", name)) == notes(one)
    stage.drop(name)
    stage.api.gone("ip", f"{name}.default")


def test_a_port_torn_out_of_ovn_is_put_back(stage: Stage) -> None:
    """Somebody deletes a live pod's row: it comes back as it was."""
    net, name = stage.net(), f"{stage.tag}-a"
    stage.running(name, subnet=net)
    before = ports(stage.cluster)[f"{name}.default"]
    stage.cluster.nbctl("lsp-del", f"{name}.default")
    after = eventually("the port is back", lambda: ports(stage.cluster).get(f"{name}.default"), pause=0.1)
    assert after == before
    assert switch_of(stage.cluster, f"{name}.default") == net


# -- subnets of namespaces -----------------------------------------------------------------------------


def test_a_namespace_that_a_subnet_lists_carries_its_annotations(stage: Stage) -> None:
    """`spec.namespaces`: annotations of the namespace, and its pods land there without asking."""
    space = stage.namespace()
    net = stage.net(namespaces=[space])
    spec = stage.api.get("subnet", net)["spec"]

    def look() -> bool:
        assert notes(stage.api.get("namespace", space)) == {
            "logical_switch": net,
            "cidr": spec["cidrBlock"],
            "exclude_ips": spec["gateway"],
        }
        return True

    eventually("the namespace is annotated", look)
    assert notes(stage.running(f"{stage.tag}-a", space))["logical_switch"] == net
    stage.drop(f"{stage.tag}-a", space)
    stage.api.patch("subnet", net, {"spec": {"namespaces": ["kube-system"]}})
    eventually("the annotations go", lambda: notes(stage.api.get("namespace", space)) == {})
    eventually("they move", lambda: notes(stage.api.get("namespace", "kube-system")).get("logical_switch") == net)
    stage.forget("subnet", net)
    eventually("they go with the subnet", lambda: notes(stage.api.get("namespace", "kube-system")) == {})


def test_a_namespace_is_let_go_when_the_subnets_list_becomes_empty(stage: Stage) -> None:
    """The last namespace of the list is taken off it: its annotations are stale and must go."""
    space = stage.namespace()
    net = stage.net(namespaces=[space])
    eventually("it is bound", lambda: notes(stage.api.get("namespace", space)).get("logical_switch") == net)
    stage.api.patch("subnet", net, {"spec": {"namespaces": []}})
    eventually("the annotations go", lambda: notes(stage.api.get("namespace", space)) == {}, seconds=3)


def test_a_namespace_that_a_subnet_selects_by_labels_is_bound_too(stage: Stage) -> None:
    """`spec.namespaceSelectors`, also when the label comes later."""
    space = stage.namespace()
    net = stage.net(namespaceSelectors=[{"matchLabels": {"color": stage.tag}}])
    assert notes(stage.api.get("namespace", space)) == {}
    stage.api.patch("namespace", space, {"metadata": {"labels": {"color": stage.tag}}})
    eventually("it is bound", lambda: notes(stage.api.get("namespace", space)).get("logical_switch") == net)
    assert notes(stage.running(f"{stage.tag}-a", space))["logical_switch"] == net
    stage.api.patch("namespace", space, {"metadata": {"labels": {"color": None}}})
    eventually("it is not bound", lambda: notes(stage.api.get("namespace", space)) == {})


def test_of_a_namespaces_subnets_the_first_with_room_is_taken(stage: Stage) -> None:
    """The annotation's order counts, and live numbers, not those of the status."""
    small, big = stage.net("10.210.2.0/30", gateway="10.210.2.1"), stage.net("10.210.3.0/24")
    space = stage.namespace(logical_switch=f"{small},{big}")
    got = [notes(stage.running(f"{stage.tag}-{i}", space))["logical_switch"] for i in range(2)]
    assert got == [small, big]


def test_a_named_address_finds_its_subnet_among_the_namespaces(stage: Stage) -> None:
    """The subnet that contains the address asked for is the one."""
    one, two = stage.net("10.210.4.0/24"), stage.net("10.210.5.0/24")
    space = stage.namespace(logical_switch=f"{one},{two}")
    has = notes(stage.running(f"{stage.tag}-a", space, ip_address="10.210.5.9"))
    assert (has["logical_switch"], has["ip_address"]) == (two, "10.210.5.9")


def test_a_reservation_chooses_the_subnet_where_nothing_else_does(stage: Stage) -> None:
    """No annotation anywhere: the pod goes where its reservation is, not to the default subnet."""
    default, net = stage.net(default=True), stage.net()
    held = stage.reserved(f"{stage.tag}-a", net)
    assert stage.runs_with(f"{stage.tag}-a")[0] == held["spec"]["v4IpAddress"]
    assert notes(stage.running(f"{stage.tag}-b"))["logical_switch"] == default
