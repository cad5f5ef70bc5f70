"""Vips and EIPs: their addresses are occupied at any time, and nothing of theirs is ever changed (contract §7)."""

from __future__ import annotations

from typing import Any

from tests.scenarios.stage import OVN, Object, Stage, eventually, ports

_KINDS = {"vip": "Vip", "iptables-eip": "IptablesEIP", "ovn-eip": "OvnEip"}


def neighbour(kind: str, name: str, **spec: Any) -> Object:
    """A Vip or an EIP as its user writes it."""
    return {"apiVersion": "kubeovn.io/v1", "kind": _KINDS[kind], "metadata": {"name": name}, "spec": spec}


def test_the_address_of_a_vip_is_nobody_elses_also_after_a_restart(stage: Stage) -> None:
    """Refused by name, skipped by others, counted as used; free when the Vip is gone (bug rows 8 and 43)."""
    net, vip = stage.net(), f"{stage.tag}-vip"
    body = neighbour("vip", vip, subnet=net, namespace="default", type="switch_lb_vip", v4ip=stage.inside(net, 2))
    made = stage.add("vip", body)
    stage.numbers(net, 1, 252)
    stage.cluster.nbctl("lsp-add", net, f"{vip}.default")  # as Kube-OVN makes it: like a pod's
    row = ("vendor=kube-ovn", f"ls={net}", f"pod=default/{vip}")
    stage.cluster.nbctl("set", "Logical_Switch_Port", f"{vip}.default", *(f"external_ids:{i}" for i in row))
    stage.cluster.nbctl("lsp-set-addresses", f"{vip}.default", f"0a:00:00:00:00:99 {stage.inside(net, 2)}")
    asked = stage.reserve(f"{stage.tag}-a", net, v4IpAddress=stage.inside(net, 2))["metadata"]["name"]
    stage.refused(asked, "AddressConflict", f"Vip {vip}")
    assert stage.running(f"{stage.tag}-p", subnet=net)["status"]["podIP"] == stage.inside(net, 3)

    stage.keeper.kill()
    stage.keeper.start()
    assert stage.running(f"{stage.tag}-q", subnet=net)["status"]["podIP"] == stage.inside(net, 4)
    stage.refused(asked, "AddressConflict", f"Vip {vip}")
    stage.numbers(net, 3, 250)
    seen = stage.keeper.metrics()
    assert seen.total("keepip_subnet_duplicate_addresses", subnet=net) == 0
    assert f"{vip}.default" in ports(stage.cluster)
    assert stage.api.get("vip", vip)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    stage.cluster.nbctl("lsp-del", f"{vip}.default")
    stage.forget("vip", vip)
    stage.until("ip", asked, "Ready", "True", "Reserved", seconds=5)


def test_eips_count_from_the_moment_on_that_their_crd_is_there(stage: Stage) -> None:
    """Their CRDs come while the controller runs and leads; it asks for them every ten seconds."""
    net = stage.net()
    for kind in ("iptables-eip", "ovn-eip"):
        assert f"{_KINDS[kind]} not read yet" not in (stage.keeper.page("/readyz") or "")
    stage.cluster.serve("eips")
    first = neighbour("iptables-eip", f"{stage.tag}-nat", externalSubnet=net, v4ip=stage.inside(net, 2))
    stage.add("iptables-eip", first)
    second = neighbour("ovn-eip", f"{stage.tag}-lrp", externalSubnet=net, type="lrp")
    stage.add("ovn-eip", second)
    stage.api.patch("ovn-eip", f"{stage.tag}-lrp", {"status": {"v4Ip": stage.inside(net, 3)}}, sub="status")
    stage.numbers(net, 2, 251, seconds=30)
    for number, owner in ((2, f"IptablesEIP {stage.tag}-nat"), (3, f"OvnEip {stage.tag}-lrp")):
        ip = stage.reserve(f"{stage.tag}-{number}", net, v4IpAddress=stage.inside(net, number))
        stage.refused(ip["metadata"]["name"], "AddressConflict", owner)


def test_a_subnets_own_addresses_are_occupied_and_go_with_it(stage: Stage) -> None:
    """From the Subnet's status and from the IPs that Kube-OVN makes for them (bug row 15)."""
    net = stage.net()
    stage.api.patch("subnet", net, {"status": {"mcastQuerierIP": stage.inside(net, 2)}}, sub="status")
    uid = stage.api.get("subnet", net)["metadata"]["uid"]
    name = f"u2o-interconnection.ovn-cluster.{net}"
    owner = {"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "name": net, "uid": uid}
    body: Object = {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": name, "ownerReferences": [owner], "labels": {OVN + "subnet": net}},
        "spec": {"subnet": net, "podName": name, "namespace": "default", "podType": "",
                 "ipAddress": stage.inside(net, 3), "v4IpAddress": stage.inside(net, 3)},
    }  # fmt: skip
    made = stage.add("ip", body)
    stage.numbers(net, 2, 251)
    assert stage.running(f"{stage.tag}-p", subnet=net)["status"]["podIP"] == stage.inside(net, 4)
    stage.drop(f"{stage.tag}-p")
    eventually("its IP is gone", lambda: stage.api.find("ip", f"{stage.tag}-p.default") is None)
    assert stage.api.get("ip", name)["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    stage.forget("subnet", net)
    stage.api.gone("ip", name)
