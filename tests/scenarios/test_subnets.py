"""Subnets: normal form, numbers, changes, malformed ones, deletion (contract §6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.stage import FINALIZER, Stage, condition, eventually, network, notes, ports, says


def test_a_bare_subnet_is_put_into_normal_form(stage: Stage) -> None:
    """Kube-OVN-behaviour section 13.1: provider, vpc, gateway, excludes, protocol, network address."""
    net = f"{stage.tag}-net"
    stage.add("subnet", network(net, "10.220.1.7/24"))
    one = stage.until("subnet", net, "Ready", "True", "ResetLogicalSwitchAclSuccess")
    says(one, "Validated", "True", "ValidateLogicalSwitchSuccess")
    wanted = {
        "cidrBlock": "10.220.1.0/24",
        "gateway": "10.220.1.1",
        "excludeIps": ["10.220.1.1"],
        "protocol": "IPv4",
        "provider": "ovn",
        "vpc": "ovn-cluster",
        "gatewayType": "distributed",
        "enableLb": True,
    }
    assert {key: one["spec"].get(key) for key in wanted} == wanted
    assert one["metadata"]["finalizers"] == [FINALIZER]
    row = stage.cluster.nbctl("get", "Logical_Switch", net, "external_ids").strip()
    assert row == "{vendor=kube-ovn}"
    status = stage.numbers(net, 0, 253)
    assert status["v4availableIPrange"] == "10.220.1.2-10.220.1.254"
    assert status["v4usingIPrange"] == ""


def test_numbers_and_ranges_follow_the_users(stage: Stage) -> None:
    """Used, available and excluded come to the whole range, at each step, within seconds."""
    net = stage.net("10.220.2.0/24", excludeIps=["10.220.2.1", "10.220.2.10..10.220.2.19"])
    stage.numbers(net, 0, 254 - 11)
    for i in range(4):
        stage.reserved(f"{stage.tag}-{i}", net)
    stage.reserved(f"{stage.tag}-x", net, v4IpAddress="10.220.2.15")  # excluded: counted as that only
    stage.running(f"{stage.tag}-pod", subnet=net, ip_address="10.220.2.100")
    status = stage.numbers(net, 5, 254 - 11 - 5)
    assert status["v4usingIPrange"] == "10.220.2.2-10.220.2.5,10.220.2.100"
    assert status["v4availableIPrange"] == "10.220.2.6-10.220.2.9,10.220.2.20-10.220.2.99,10.220.2.101-10.220.2.254"
    stage.forget("ip", f"{stage.tag}-1.default")
    stage.drop(f"{stage.tag}-pod")
    status = stage.numbers(net, 3, 254 - 11 - 3)
    assert status["v4usingIPrange"] == "10.220.2.2,10.220.2.4-10.220.2.5"


@pytest.mark.parametrize(("prefix", "size"), [(31, 1), (30, 1), (29, 5)])
def test_small_subnets_give_out_what_they_have(stage: Stage, prefix: int, size: int) -> None:
    """A /31 has two addresses and no network or broadcast one; the gateway takes one of each."""
    net = stage.net(f"10.220.3.0/{prefix}")
    stage.numbers(net, 0, size)
    for i in range(size):
        stage.reserved(f"{stage.tag}-{i}", net)
    stage.reserve(f"{stage.tag}-over", net)
    stage.refused(f"{stage.tag}-over.default", "SubnetExhausted", "no free IPv4 address")
    stage.numbers(net, size, 0)


MALFORMED: list[tuple[str, dict[str, Any], str]] = [
    ("/32", {"cidrBlock": "10.221.1.1/32"}, "cidrBlock"),
    ("/128", {"cidrBlock": "fd00:221::1/128"}, "cidrBlock"),
    ("empty", {"cidrBlock": ""}, "cidrBlock"),
    ("no cidr", {"cidrBlock": None}, "cidrBlock"),
    ("garbage", {"cidrBlock": "ten.net"}, "cidrBlock"),
    ("no prefix", {"cidrBlock": "10.221.1.0"}, "cidrBlock"),
    ("too long", {"cidrBlock": "10.221.1.0/33"}, "cidrBlock"),
    ("two of a family", {"cidrBlock": "10.221.1.0/24,10.221.2.0/24"}, "cidrBlock"),
    ("three", {"cidrBlock": "10.221.1.0/24,fd00:221::/112,fd00:222::/112"}, "cidrBlock"),
    ("reversed excludes", {"excludeIps": ["10.221.1.20..10.221.1.10"]}, "excludeIps"),
    ("foreign excludes", {"excludeIps": ["192.168.1.1"]}, "excludeIps"),
    ("garbage excludes", {"excludeIps": ["10.221.1.x"]}, "excludeIps"),
    ("half a range", {"excludeIps": ["10.221.1.5.."]}, "excludeIps"),
    ("foreign gateway", {"gateway": "10.222.1.1"}, "gateway"),
    ("garbage gateway", {"gateway": "gw"}, "gateway"),
    ("garbage cool-down", {"metadata": {"annotations": {"keepip.io/cooldown": "soon"}}}, "cooldown"),
]


def test_malformed_subnets_are_marked_and_disturb_nobody(stage: Stage) -> None:
    """All of them at once beside a good one, which serves at once; each is well as soon as it is corrected."""
    for i, (_, wrong, _) in enumerate(MALFORMED):
        wrong = dict(wrong)  # noqa: PLW2901
        body = network(f"{stage.tag}-bad{i}", "10.221.1.0/24")
        body["metadata"]["annotations"] |= wrong.pop("metadata", {}).get("annotations", {})
        body["spec"] |= wrong
        stage.add("subnet", body)
    good = stage.net("10.221.200.0/24")
    stage.reserved(f"{stage.tag}-a", good)
    stage.running(f"{stage.tag}-b", subnet=good)
    foreign = []
    for i, (what, _, field) in enumerate(MALFORMED):
        name = f"{stage.tag}-bad{i}"
        one = eventually(what, lambda name=name: _judged(stage, name))  # type: ignore[misc]
        shown = condition(one, "Validated")
        if shown["status"] == "True":
            foreign.append(what)
            continue
        assert shown["reason"] == "ValidateLogicalSwitchFailed", shown
        assert field in shown["message"], f"{what}: {shown}"
        says(one, "Ready", "False", "ValidateLogicalSwitchFailed")
        says(one, "Error", "True", "ValidateLogicalSwitchFailed")
        assert stage.api.told("Subnet", name, "ValidateLogicalSwitchFailed")
    # An exclude of another network takes nothing away: Kube-OVN lets it pass, and so may we.
    assert set(foreign) <= {"foreign excludes"}
    last = f"{stage.tag}-bad0"
    stage.reserve(f"{stage.tag}-c", last)
    stage.refused(f"{stage.tag}-c.default", "SubnetNotFound", "cannot be used")
    stage.api.patch("subnet", last, {"spec": {"cidrBlock": "10.221.201.0/24", "gateway": None, "excludeIps": None}})
    healed = stage.until("subnet", last, "Ready", "True", "ResetLogicalSwitchAclSuccess")
    says(healed, "Error", "False", "NoError")
    stage.until("ip", f"{stage.tag}-c.default", "Ready", "True", "Reserved")


def _judged(stage: Stage, name: str) -> dict[str, Any]:
    one = stage.api.get("subnet", name)
    condition(one, "Validated")
    return one


def test_a_subnet_that_overlaps_another_is_refused_until_that_one_goes(stage: Stage) -> None:
    """The older one goes on serving; another VPC may have the same range."""
    first = stage.net("10.222.1.0/24")
    second = f"{stage.tag}-second"
    stage.add("subnet", network(second, "10.222.0.0/16"))
    shown = stage.until("subnet", second, "Validated", "False", "ValidateLogicalSwitchFailed")
    assert first in condition(shown, "Validated")["message"]
    stage.reserved(f"{stage.tag}-a", first)
    elsewhere = f"{stage.tag}-elsewhere"
    stage.add("subnet", network(elsewhere, "10.222.1.0/24", vpc="another"))
    stage.until("subnet", elsewhere, "Ready", "True", "ResetLogicalSwitchAclSuccess")
    stage.forget("ip", f"{stage.tag}-a.default")
    stage.forget("subnet", first)
    stage.until("subnet", second, "Validated", "True", "ValidateLogicalSwitchSuccess")


def test_a_subnet_that_contains_a_node_is_refused(stage: Stage) -> None:
    """A node's InternalIP inside the range."""
    net = f"{stage.tag}-net"
    stage.add("subnet", network(net, "172.18.0.0/24"))
    shown = stage.until("subnet", net, "Validated", "False", "ValidateLogicalSwitchFailed")
    assert "of node kube-ovn" in condition(shown, "Validated")["message"]


def test_users_outside_a_changed_cidr_are_kept_and_reported(stage: Stage) -> None:
    """Reservation and pod keep what they have; the numbers and a condition tell; back again all is well."""
    net = stage.net("10.223.0.0/22")
    held = stage.reserved(f"{stage.tag}-a", net, v4IpAddress="10.223.3.9")
    ran = stage.running(f"{stage.tag}-b", subnet=net, ip_address="10.223.3.10")
    stage.reserved(f"{stage.tag}-c", net)
    stage.api.patch("subnet", net, {"spec": {"cidrBlock": "10.223.0.0/24"}})
    shown = stage.until("subnet", net, "Error", "True", "AddressesOutsideCIDR")
    text = condition(shown, "Error")["message"]
    assert text.startswith("2 addresses in use are outside 10.223.0.0/24")
    assert f"{stage.tag}-a.default 10.223.3.9" in text
    assert f"{stage.tag}-b.default 10.223.3.10" in text
    stage.numbers(net, 1, 252)
    assert stage.api.get("ip", f"{stage.tag}-a.default")["spec"] == held["spec"]
    assert notes(stage.api.get("pod", f"{stage.tag}-b")) == notes(ran)
    assert f"{stage.tag}-b.default" in ports(stage.cluster)
    assert stage.runs_with(f"{stage.tag}-a")[0] == "10.223.3.9"
    stage.api.patch("subnet", net, {"spec": {"cidrBlock": "10.223.0.0/22"}})
    stage.until("subnet", net, "Error", "False", "NoError")
    stage.numbers(net, 3, 1022 - 1 - 3)


def test_excludes_and_gateway_may_change_at_any_time(stage: Stage) -> None:
    """New excludes take addresses away from the free ones only; the gateway is never given out."""
    net = stage.net("10.224.0.0/29")
    held = stage.reserved(f"{stage.tag}-a", net)
    assert held["spec"]["v4IpAddress"] == "10.224.0.2"
    stage.api.patch("subnet", net, {"spec": {"excludeIps": ["10.224.0.1", "10.224.0.2..10.224.0.4"]}})
    stage.numbers(net, 0, 2)  # the reserved one is excluded now, and counted as that
    assert stage.api.get("ip", f"{stage.tag}-a.default")["spec"] == held["spec"]
    assert stage.reserved(f"{stage.tag}-b", net)["spec"]["v4IpAddress"] == "10.224.0.5"
    stage.api.patch("subnet", net, {"spec": {"gateway": "10.224.0.6", "excludeIps": []}})
    eventually("the gateway is excluded", lambda: stage.api.get("subnet", net)["spec"]["excludeIps"] == ["10.224.0.6"])
    stage.numbers(net, 2, 3)
    stage.reserve(f"{stage.tag}-c", net, v4IpAddress="10.224.0.6")
    stage.refused(f"{stage.tag}-c.default", "AddressNotUsable", "gateway")


def test_a_subnet_stays_while_it_is_used_and_says_by_whom(stage: Stage) -> None:
    """Deletion waits for reservation and pod, takes no new users, and ends with the last of them."""
    net = stage.net()
    stage.reserved(f"{stage.tag}-a", net)
    stage.running(f"{stage.tag}-b", subnet=net)
    stage.api.delete("subnet", net)
    shown = stage.until("subnet", net, "Ready", "False", "SubnetInUse")
    text = condition(shown, "Ready")["message"]
    assert text.startswith("deletion waits for 2 users")
    assert f"{stage.tag}-a.default" in text
    assert f"{stage.tag}-b.default" in text
    stage.reserve(f"{stage.tag}-c", net)
    stage.refused(f"{stage.tag}-c.default", "SubnetNotFound", "is being deleted")
    stage.drop(f"{stage.tag}-b")

    def fewer() -> bool:
        assert condition(stage.api.get("subnet", net), "Ready")["message"].startswith("deletion waits for 1 user")
        return True

    eventually("the message follows", fewer)
    stage.forget("ip", f"{stage.tag}-a.default")
    stage.api.gone("subnet", net)
    assert net not in stage.cluster.nbctl("--bare", "--columns=name", "list", "Logical_Switch").split()


def test_a_switch_torn_out_of_ovn_is_put_back_with_its_ports(stage: Stage) -> None:
    """Somebody deletes the Logical_Switch: switch and ports come back."""
    net, name = stage.net(), f"{stage.tag}-a"
    stage.running(name, subnet=net)
    before = ports(stage.cluster)[f"{name}.default"]
    stage.cluster.nbctl("ls-del", net)
    after = eventually("the port is back", lambda: ports(stage.cluster).get(f"{name}.default"), pause=0.1)
    assert after == before


def test_a_subnet_of_another_provider_makes_no_switch(stage: Stage) -> None:
    """IPAM only: Ready says so."""
    net = f"{stage.tag}-net"
    stage.add("subnet", network(net, stage.cidr(), provider="net1.default"))
    shown = stage.until("subnet", net, "Ready", "True", "SetNonOvnSubnetSuccess")
    assert condition(shown, "Ready")["message"] == "provider net1.default"
    assert net not in stage.cluster.nbctl("--bare", "--columns=name", "list", "Logical_Switch").split()
