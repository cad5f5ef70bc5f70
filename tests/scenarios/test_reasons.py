"""Every reason and every text of the catalogue is reached by bad input, and a good neighbour never waits for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from controller.core.catalogue import CATALOGUE, Reason
from tests.scenarios import reasons_of_networks, reasons_of_pools
from tests.scenarios.reasons import STORIES, Story, bad_ip, bad_pod, pattern, refused, story, told
from tests.scenarios.stage import (
    OVN,
    RESERVED,
    Stage,
    condition,
    eventually,
    machine,
    network,
    pod,
    reservation,
)

# What cannot be reached from outside, and why.
UNREACHED: dict[tuple[Reason, str, str], str] = {
    (Reason.SWEEP_STOPPED, "limit", "Subnet"): "it takes a mass of orphans: tests/scenarios/test_sweep.py",
    (Reason.INVALID_SPEC, "object", "IP"): "the CRD's schema refuses fields of wrong types; tests/core reads such ones",
    (Reason.INVALID_SPEC, "name", "Pod"): "covered for a foreign port below; 253 characters are the API's own limit",
    (Reason.SUBNET_NOT_FOUND, "switch", "Pod"): "the switch is made within milliseconds of the Subnet; tests/sim waits",
    (
        Reason.SUBNET_NOT_FOUND,
        "none",
        "Pod",
    ): "without a default subnet, ovn-default is said to be absent",
    (Reason.SUBNET_EXHAUSTED, "queued", "IP"): "said for the instant between two wake-ups; tests/machines has it",
    (Reason.ADDRESS_CONFLICT, "cooling", "Pod"): "as for the IP below",
}


bad_ip(Reason.INVALID_SPEC, "missing", subnet=...)
bad_ip(Reason.INVALID_SPEC, "pod_type", podType="Deployment")
bad_ip(Reason.INVALID_SPEC, "field", v4IpAddress="10.16.0")
bad_ip(Reason.SUBNET_NOT_FOUND, "absent", subnet="nowhere")
bad_ip(Reason.ADDRESS_OUT_OF_RANGE, "cidr", v4IpAddress="192.0.2.7")
bad_ip(Reason.ADDRESS_OUT_OF_RANGE, "family", v6IpAddress="fd00::7")
bad_pod(Reason.SUBNET_NOT_FOUND, "absent", subnet="nowhere")
bad_pod(Reason.ADDRESS_OUT_OF_RANGE, "cidr", ip_address="192.0.2.7")
bad_pod(Reason.ADDRESS_OUT_OF_RANGE, "family", ip_address="fd00::7")
bad_pod(Reason.VIP_DEPRECATED, "use", vip="myvip")
bad_pod(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", ip_address="garbage")
bad_pod(Reason.ACQUIRE_ADDRESS_FAILED, "stage", ip_address="192.0.2.8")


@story(Reason.NAME_MISMATCH, "name", "IP")
def _wrong_name(stage: Stage, net: str, name: str) -> None:
    """The policy lets `pod.namespace.provider` pass; the subnet has another provider."""
    body = reservation(name, net)
    body["metadata"]["name"] += ".net1.default.ovn"
    stage.add("ip", body)
    refused(stage, body["metadata"]["name"], Reason.NAME_MISMATCH, "name")


@story(Reason.ADDRESS_NOT_USABLE, "role", "IP")
def _gateway(stage: Stage, net: str, name: str) -> None:
    for number, role in ((1, "gateway"), (0, "network"), (255, "broadcast")):
        stage.reserve(f"{name}-{number}", net, v4IpAddress=stage.inside(net, number))
        ip = refused(stage, f"{name}-{number}.default", Reason.ADDRESS_NOT_USABLE, "role")
        assert role in condition(ip, "Ready")["message"]


@story(Reason.ADDRESS_NOT_USABLE, "role", "Pod")
def _gateway_for_a_pod(stage: Stage, net: str, name: str) -> None:
    stage.pod(name, subnet=net, ip_address=stage.inside(net, 1))
    told(stage, name, Reason.ADDRESS_NOT_USABLE, "role")


@story(Reason.ADDRESS_CONFLICT, "held", "IP")
def _taken(stage: Stage, net: str, name: str) -> None:
    """By a pod of another namespace: the message names it."""
    space = stage.namespace()
    has = stage.running(name, space, subnet=net)["status"]["podIP"]
    stage.reserve(f"{name}-b", net, v4IpAddress=has)
    ip = refused(stage, f"{name}-b.default", Reason.ADDRESS_CONFLICT, "held")
    assert f"{name}.{space}" in condition(ip, "Ready")["message"]


@story(Reason.ADDRESS_CONFLICT, "held", "Pod")
def _taken_for_a_pod(stage: Stage, net: str, name: str) -> None:
    held = stage.reserved(f"{name}-a", net)
    stage.pod(name, subnet=net, ip_address=held["spec"]["v4IpAddress"])
    told(stage, name, Reason.ADDRESS_CONFLICT, "held")


@story(Reason.ADDRESS_CONFLICT, "list", "Pod")
def _list_taken(stage: Stage, net: str, name: str) -> None:
    held = stage.reserved(f"{name}-a", net)
    stage.pod(name, subnet=net, ip_pool=held["spec"]["v4IpAddress"])
    told(stage, name, Reason.ADDRESS_CONFLICT, "list")


@story(Reason.ADDRESS_CONFLICT, "cooling", "IP")
def _cooling(stage: Stage, net: str, name: str) -> None:
    """Released a moment ago: the message says when it is free, and it is given then."""
    slow = stage.net(cooldown="4")
    held = stage.reserved(f"{name}-a", slow)
    stage.forget("ip", f"{name}-a.default")
    stage.reserve(f"{name}-b", slow, v4IpAddress=held["spec"]["v4IpAddress"])
    refused(stage, f"{name}-b.default", Reason.ADDRESS_CONFLICT, "cooling")
    stage.until("ip", f"{name}-b.default", "Ready", "True", "Reserved")


@story(Reason.MAC_CONFLICT, "held", "IP")
def _mac_taken(stage: Stage, net: str, name: str) -> None:
    held = stage.reserved(f"{name}-a", net)
    stage.reserve(name, net, macAddress=held["spec"]["macAddress"])
    refused(stage, f"{name}.default", Reason.MAC_CONFLICT, "held")


@story(Reason.MAC_CONFLICT, "held", "Pod")
def _mac_taken_for_a_pod(stage: Stage, net: str, name: str) -> None:
    held = stage.reserved(f"{name}-a", net)
    stage.pod(name, subnet=net, mac_address=held["spec"]["macAddress"])
    told(stage, name, Reason.MAC_CONFLICT, "held")


@story(Reason.SUBNET_NOT_FOUND, "invalid", "IP")
def _invalid_subnet(stage: Stage, net: str, name: str) -> None:
    stage.add("subnet", network(f"{name}-bad", "10.230.1.0/32"))
    stage.reserve(name, f"{name}-bad")
    refused(stage, f"{name}.default", Reason.SUBNET_NOT_FOUND, "invalid")


@story(Reason.SUBNET_NOT_FOUND, "invalid", "Pod")
def _invalid_subnet_for_a_pod(stage: Stage, net: str, name: str) -> None:
    stage.add("subnet", network(f"{name}-bad", "10.230.2.0/32"))
    stage.pod(name, subnet=f"{name}-bad")
    told(stage, name, Reason.SUBNET_NOT_FOUND, "invalid")


def _deleting(stage: Stage, name: str) -> str:
    leaving = stage.net()
    stage.reserved(f"{name}-a", leaving)
    stage.api.delete("subnet", leaving)
    stage.until("subnet", leaving, "Ready", "False", "SubnetInUse")
    return leaving


@story(Reason.SUBNET_NOT_FOUND, "deleting", "IP")
def _leaving_subnet(stage: Stage, net: str, name: str) -> None:
    stage.reserve(name, _deleting(stage, name))
    refused(stage, f"{name}.default", Reason.SUBNET_NOT_FOUND, "deleting")


@story(Reason.SUBNET_NOT_FOUND, "deleting", "Pod")
def _leaving_subnet_for_a_pod(stage: Stage, net: str, name: str) -> None:
    stage.pod(name, subnet=_deleting(stage, name))
    told(stage, name, Reason.SUBNET_NOT_FOUND, "deleting")


@story(Reason.SUBNET_NOT_FOUND, "provider", "Pod")
def _foreign_provider(stage: Stage, net: str, name: str) -> None:
    stage.add("subnet", network(f"{name}-net1", stage.cidr(), provider="net1.default"))
    stage.pod(name, subnet=f"{name}-net1")
    told(stage, name, Reason.SUBNET_NOT_FOUND, "provider")


def _full(stage: Stage, name: str) -> str:
    small = stage.net(stage.cidr(30))
    stage.reserved(f"{name}-first", small)
    return small


@story(Reason.SUBNET_EXHAUSTED, "full", "IP")
def _full_for_an_ip(stage: Stage, net: str, name: str) -> None:
    stage.reserve(name, _full(stage, name))
    refused(stage, f"{name}.default", Reason.SUBNET_EXHAUSTED, "full")


@story(Reason.SUBNET_EXHAUSTED, "full", "Pod")
def _full_for_a_pod(stage: Stage, net: str, name: str) -> None:
    stage.pod(name, subnet=_full(stage, name))
    told(stage, name, Reason.SUBNET_EXHAUSTED, "full")


@story(Reason.ATTRIBUTE_CHANGE_REFUSED, "undone", "IP")
def _edited(stage: Stage, net: str, name: str) -> None:
    """An empty family of a dual-stack-less subnet may be filled in past the policy: it is undone."""
    stage.reserved(name, net)
    stage.api.patch("ip", f"{name}.default", {"spec": {"v6IpAddress": "fd00::9"}})
    told(stage, f"{name}.default", Reason.ATTRIBUTE_CHANGE_REFUSED, "undone", "IP")
    eventually("undone", lambda: stage.api.get("ip", f"{name}.default")["spec"]["v6IpAddress"] == "")


@story(Reason.RESERVATION_MISMATCH, "attribute", "Pod")
@story(Reason.RESERVATION_MISMATCH, "attribute", "IP")
def _mismatch(stage: Stage, net: str, name: str) -> None:
    stage.reserved(name, net, podType="VirtualMachine")
    stage.pod(name, subnet=net)
    told(stage, name, Reason.RESERVATION_MISMATCH, "attribute")
    told(stage, f"{name}.default", Reason.RESERVATION_MISMATCH, "attribute", "IP")


@story(Reason.RESERVATION_MISMATCH, "not_ready", "Pod")
def _not_ready(stage: Stage, net: str, name: str) -> None:
    stage.reserve(name, net, v4IpAddress="192.0.2.9")
    stage.refused(f"{name}.default", "AddressOutOfRange")
    stage.pod(name, subnet=net)
    told(stage, name, Reason.RESERVATION_MISMATCH, "not_ready")
    stage.api.delete("ip", f"{name}.default")
    stage.runs(name)  # with an IP of its own, under the same name


@story(Reason.RESERVATION_MISMATCH, "terminating", "Pod")
def _terminating(stage: Stage, net: str, name: str) -> None:
    body = reservation(name, net)
    body["metadata"]["finalizers"] = ["example.com/theirs"]
    stage.add("ip", body)
    stage.until("ip", f"{name}.default", "Ready", "True", "Reserved")
    stage.api.delete("ip", f"{name}.default")
    stage.pod(name, subnet=net)
    told(stage, name, Reason.RESERVATION_MISMATCH, "terminating")
    stage.api.patch("ip", f"{name}.default", {"metadata": {"finalizers": None}})


@story(Reason.RESERVATION_MISMATCH, "sibling", "Pod")
def _sibling(stage: Stage, net: str, name: str) -> None:
    """Two pods of one VM that want different subnets: the second waits."""
    stage._made["ip", "", f"{name}.default"] = None  # a VM's address outlives its pods
    stage.running(f"one-{name}", subnet=net, owner=machine(name))
    stage.pod(f"two-{name}", subnet=stage.net(), owner=machine(name))
    told(stage, f"two-{name}", Reason.RESERVATION_MISMATCH, "sibling")


@story(Reason.RESERVATION_MISMATCH, "running", "IP")
def _came_late(stage: Stage, net: str, name: str) -> None:
    """A pod runs with the reservation's name on another subnet, and its own IP was torn away."""
    stage.running(name, subnet=net)
    stage.keeper.kill()
    stage.api.patch("ip", f"{name}.default", {"metadata": {"finalizers": None}})
    stage.forget("ip", f"{name}.default")
    stage.reserve(name, net, v4IpAddress=stage.inside(net, 200))
    stage.keeper.start()
    refused(stage, f"{name}.default", Reason.RESERVATION_MISMATCH, "running")


@story(Reason.INVALID_SPEC, "name", "Pod")
def _foreign_port(stage: Stage, net: str, name: str) -> None:
    """A port of the pod's name that belongs to another system is left alone."""
    stage.cluster.nbctl("lsp-add", net, f"{name}.default")
    try:
        stage.pod(name, subnet=net)
        told(stage, name, Reason.INVALID_SPEC, "name")
    finally:
        stage.cluster.nbctl("lsp-del", f"{name}.default")
    stage.runs(name)


@story(Reason.DUPLICATE_ADDRESS, "also", "IP")
def _duplicate(stage: Stage, net: str, name: str) -> None:
    """Two reservations with one address, as a restored backup makes them: both keep it blocked, both say so."""
    held = stage.reserved(f"{name}-a", net)
    twin = reservation(f"{name}-b", net, v4IpAddress=held["spec"]["v4IpAddress"], macAddress="02:00:00:00:0d:0b")
    twin["metadata"] |= {"labels": {RESERVED: "true"}, "finalizers": held["metadata"]["finalizers"]}
    twin["spec"]["ipAddress"] = held["spec"]["v4IpAddress"]
    stage.keeper.kill()
    stage.add("ip", twin)
    stage.keeper.start()
    for one in (f"{name}-a.default", f"{name}-b.default"):
        shown = stage.until("ip", one, "Ready", "False", "DuplicateAddress")
        assert pattern(Reason.DUPLICATE_ADDRESS, "also").fullmatch(condition(shown, "Ready")["message"])
    assert stage.keeper.metrics().total("keepip_subnet_duplicate_addresses", subnet=net) == 1
    stage.reserve(f"{name}-c", net, v4IpAddress=held["spec"]["v4IpAddress"])
    stage.refused(f"{name}-c.default", "AddressConflict")
    stage.forget("ip", f"{name}-b.default")
    stage.until("ip", f"{name}-a.default", "Ready", "True", "Reserved")


@story(Reason.RESERVED, "held", "IP")
@story(Reason.NOT_IN_USE, "idle", "IP")
@story(Reason.IN_USE, "pod", "IP")
@story(Reason.IN_USE, "terminating", "IP")
@story(Reason.POD_NETWORK_ALLOCATED, "nic", "Pod")
def _good_news(stage: Stage, net: str, name: str) -> None:
    stage.reserved(name, net)
    stage.until("ip", f"{name}.default", "InUse", "False", "NotInUse")
    stage.running(name)
    told(stage, name, Reason.POD_NETWORK_ALLOCATED, "nic")
    shown = stage.until("ip", f"{name}.default", "InUse", "True", "InUse")
    assert pattern(Reason.IN_USE, "pod").fullmatch(condition(shown, "InUse")["message"])
    stage.api.delete("ip", f"{name}.default")
    told(stage, f"{name}.default", Reason.IN_USE, "terminating", "IP")


@story(Reason.POD_NETWORK_RELEASED, "nic", "Pod")
def _released(stage: Stage, net: str, name: str) -> None:
    body = pod(name, subnet=net)
    body["spec"]["restartPolicy"] = "Never"
    body["metadata"]["annotations"]["keepip.test/complete"] = "true"
    stage.add("pod", body)
    told(stage, name, Reason.POD_NETWORK_RELEASED, "nic")


@story(Reason.SUBNET_VALID, "ok", "Subnet")
@story(Reason.SUBNET_READY, "ok", "Subnet")
def _good_subnet(stage: Stage, net: str, name: str) -> None:
    stage.until("subnet", net, "Validated", "True", Reason.SUBNET_VALID)
    stage.until("subnet", net, "Ready", "True", Reason.SUBNET_READY)


@story(Reason.SUBNET_NOT_OVN, "ok", "Subnet")
def _other_provider(stage: Stage, net: str, name: str) -> None:
    stage.add("subnet", network(f"{name}-net1", stage.cidr(), provider="net1.default"))
    stage.until("subnet", f"{name}-net1", "Ready", "True", Reason.SUBNET_NOT_OVN)


def bad_subnet(text: str, cidr: str) -> None:
    """Register a story: a Subnet with this range is refused."""

    @story(Reason.SUBNET_INVALID, text, "Subnet")
    def play(stage: Stage, net: str, name: str) -> None:
        stage.add("subnet", network(f"{name}-bad", cidr or stage.api.get("subnet", net)["spec"]["cidrBlock"]))
        told(stage, f"{name}-bad", Reason.SUBNET_INVALID, text, "Subnet")
        stage.until("subnet", f"{name}-bad", "Validated", "False", Reason.SUBNET_INVALID)


bad_subnet("field", "garbage")
bad_subnet("overlap", "")
bad_subnet("node", "172.18.0.0/24")


@story(Reason.SUBNET_IN_USE, "users", "Subnet")
def _blocked(stage: Stage, net: str, name: str) -> None:
    told(stage, _deleting(stage, name), Reason.SUBNET_IN_USE, "users", "Subnet")


@story(Reason.ADDRESSES_OUTSIDE_CIDR, "users", "Subnet")
@story(Reason.NO_ERROR, "ok", "Subnet")
def _outside(stage: Stage, net: str, name: str) -> None:
    wide = stage.net("10.231.0.0/23")
    stage.reserved(name, wide, v4IpAddress="10.231.1.9")
    stage.api.patch("subnet", wide, {"spec": {"cidrBlock": "10.231.0.0/24"}})
    stage.until("subnet", wide, "Error", "True", Reason.ADDRESSES_OUTSIDE_CIDR)
    stage.api.patch("subnet", wide, {"spec": {"cidrBlock": "10.231.0.0/23"}})
    stage.until("subnet", wide, "Error", "False", Reason.NO_ERROR)


PLAYS = {play: key for key, play in STORIES.items()}


@pytest.mark.parametrize("play", PLAYS, ids=[f"{r}-{t}-{k}" for r, t, k in PLAYS.values()])
def test_the_reason_is_reached(stage: Stage, play: Story) -> None:
    """The story that reaches it, on a subnet of its own."""
    play(stage, stage.net(), f"{stage.tag}-x")


def test_every_reason_of_the_catalogue_is_reached_or_explained() -> None:
    """Each reason on each kind it is said to appear on, and each of its texts."""
    known = STORIES.keys() | UNREACHED.keys() | reasons_of_pools.UNREACHED.keys() | reasons_of_networks.UNREACHED.keys()
    for reason, entry in CATALOGUE.items():
        for kind in entry.on:
            assert any(r is reason and k == kind for r, _, k in known), f"{reason} on {kind}"
        for text in entry.texts:
            assert any(r is reason and t == text for r, t, _ in known), f"{reason}: {text}"
    assert all(text in CATALOGUE[reason].texts for reason, text, _ in known)


# -- bad input, each beside a good neighbour -----------------------------------------------------------

LONG = "n" * 80
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("no subnet", {"subnet": ...}, "InvalidSpec", "spec.subnet is empty"),
    ("empty subnet", {"subnet": ""}, "InvalidSpec", "spec.subnet is empty"),
    ("null subnet", {"subnet": None}, "InvalidSpec", "spec.subnet is empty"),
    ("no pod", {"podName": ...}, "InvalidSpec", "spec.podName is empty"),
    ("no namespace", {"namespace": ...}, "InvalidSpec", "spec.namespace is empty"),
    ("unknown type", {"podType": "Deployment"}, "InvalidSpec", 'spec.podType "Deployment" is unknown'),
    ("unknown subnet", {"subnet": "not-there"}, "SubnetNotFound", "subnet not-there does not exist"),
    ("outside", {"v4IpAddress": "192.0.2.1"}, "AddressOutOfRange", "192.0.2.1 is not in"),
    ("garbage", {"v4IpAddress": "banana"}, "InvalidSpec", "spec.v4IpAddress"),
    ("whitespace", {"v4IpAddress": " 10.0.0.1"}, "InvalidSpec", "spec.v4IpAddress"),
    ("leading zeros", {"v4IpAddress": "10.016.0.7"}, "InvalidSpec", "spec.v4IpAddress"),
    ("v6 in v4", {"v4IpAddress": "fd00::1"}, "InvalidSpec", "is an IPv6 address"),
    ("v4 in v6", {"v6IpAddress": "10.0.0.1"}, "InvalidSpec", "is an IPv4 address"),
    ("upper case", {"v6IpAddress": "FD00::A"}, "InvalidSpec", "fd00::a"),
    ("mac garbage", {"macAddress": "banana"}, "InvalidSpec", "spec.macAddress"),
    ("mac multicast", {"macAddress": "01:00:5e:00:00:01"}, "InvalidSpec", "spec.macAddress"),
    ("mac zero", {"macAddress": "00:00:00:00:00:00"}, "InvalidSpec", "spec.macAddress"),
    ("mac dashes", {"macAddress": "02-00-00-00-00-01"}, "InvalidSpec", "spec.macAddress"),
    ("mac upper", {"macAddress": "02:00:00:00:00:AB"}, "InvalidSpec", "02:00:00:00:00:ab"),
]


def test_each_bad_input_ends_in_a_reason_and_the_good_neighbour_is_served_at_once(stage: Stage) -> None:
    """All of them at once, a good one last; null fields and long names are no harm."""
    net = stage.net()
    for i, (_, spec, _, _) in enumerate(BAD):
        stage.reserve(f"{stage.tag}-bad{i}", net, **spec)
    nulls: dict[str, Any] = dict.fromkeys(
        ("v4IpAddress", "v6IpAddress", "macAddress", "nodeName", "containerID", "attachIps")
    )
    stage.reserve(f"{stage.tag}-{LONG}", net, **nulls)
    long = ".".join("x" * 60 for _ in range(4))[: 253 - len(".default")].strip(".")
    stage.reserve(long, net)
    began = time.monotonic()
    stage.reserved(f"{stage.tag}-good", net)
    assert time.monotonic() - began < 3
    stage.until("ip", f"{stage.tag}-{LONG}.default", "Ready", "True", "Reserved")
    stage.until("ip", f"{long}.default", "Ready", "True", "Reserved")
    for i, (what, _, reason, part) in enumerate(BAD):
        ip = stage.refused(f"{stage.tag}-bad{i}.default", reason)
        assert part in condition(ip, "Ready")["message"], (what, condition(ip, "Ready"))
    stage.numbers(net, 3, 250)


def test_ips_under_other_peoples_finalizers_alone_are_never_touched(stage: Stage) -> None:
    """Somebody else's finished object occupies its address and stays as it is."""
    net = stage.net()
    body = reservation(f"{stage.tag}-theirs", net, v4IpAddress=stage.inside(net, 2), ipAddress=stage.inside(net, 2))
    body["metadata"]["finalizers"] = ["example.com/theirs"]
    made = stage.add("ip", body)
    assert stage.reserved(f"{stage.tag}-a", net)["spec"]["v4IpAddress"] == stage.inside(net, 3)
    now = stage.api.get("ip", f"{stage.tag}-theirs.default")
    assert (now["spec"], now["metadata"]["resourceVersion"]) == (made["spec"], made["metadata"]["resourceVersion"])
    stage.api.patch("ip", f"{stage.tag}-theirs.default", {"metadata": {"finalizers": None}})


def test_a_thousand_malformed_objects_at_start_hold_up_nobody(stage: Stage) -> None:
    """The first good reservation and pod are served within seconds of leading, all others get their reason."""
    net = stage.net()
    stage.keeper.kill()
    for i in range(1000):
        stage.add("ip", reservation(f"{stage.tag}-m{i}", net, **BAD[i % len(BAD)][1]))
    stage.reserve(f"{stage.tag}-good", net)
    stage.pod(f"{stage.tag}-pod", subnet=net)
    stage.keeper.start()
    good = f"{stage.tag}-good.default"  # its address at once; its status waits its turn behind the others'
    eventually("the good one is served", lambda: stage.api.get("ip", good)["spec"].get("v4IpAddress"), seconds=5)
    stage.runs(f"{stage.tag}-pod", seconds=5)

    def all_told() -> bool:
        mine = [ip for ip in stage.api.all("ip") if ip["metadata"]["name"].startswith(f"{stage.tag}-m")]
        mute = [ip["metadata"]["name"] for ip in mine if not ip.get("status", {}).get("conditions")]
        assert not mute, f"{len(mute)} have no reason yet"
        return len(mine) == 1000

    eventually("each has its reason", all_told, seconds=30, pause=1.0)
    stage.until("ip", good, "Ready", "True", "Reserved")
    stage.numbers(net, 2, 251)
    stage.strike()
    stage._made.clear()
    stage.keeper.again()  # a thousand Events at 25 a second would keep the next story's waiting


# -- waiting -------------------------------------------------------------------------------------------


def test_who_waits_longest_is_served_first_and_within_five_seconds(stage: Stage) -> None:
    """Five waiters, addresses come free one by one: in order of waiting, IPs and pods alike."""
    net = stage.net(stage.cidr(29))
    for i in range(5):
        stage.reserved(f"{stage.tag}-r{i}", net)
    for i in range(5):
        if i % 2:
            stage.pod(f"{stage.tag}-w{i}", subnet=net)
            told(stage, f"{stage.tag}-w{i}", Reason.SUBNET_EXHAUSTED, "full")
        else:
            stage.reserve(f"{stage.tag}-w{i}", net)
            stage.refused(f"{stage.tag}-w{i}.default", "SubnetExhausted")
    assert stage.keeper.metrics().total("keepip_subnet_waiting", subnet=net) == 5
    for i in range(5):
        stage.forget("ip", f"{stage.tag}-r{i}.default")
        if i % 2:
            stage.runs(f"{stage.tag}-w{i}", seconds=5)
        else:
            stage.until("ip", f"{stage.tag}-w{i}.default", "Ready", "True", "Reserved", seconds=5)
        assert stage.keeper.metrics().total("keepip_subnet_waiting", subnet=net) == 4 - i


def test_waiters_are_woken_by_a_wider_subnet_too(stage: Stage) -> None:
    """The CIDR grows: everybody who waited is served."""
    net = stage.net("10.232.0.0/30")
    for i in range(4):
        stage.reserve(f"{stage.tag}-{i}", net)
    stage.until("ip", f"{stage.tag}-3.default", "Ready", "False", "SubnetExhausted")
    stage.api.patch("subnet", net, {"spec": {"cidrBlock": "10.232.0.0/24"}})
    for i in range(4):
        stage.until("ip", f"{stage.tag}-{i}.default", "Ready", "True", "Reserved", seconds=5)


# -- at rest -------------------------------------------------------------------------------------------


def test_looking_at_everything_again_writes_nothing(stage: Stage) -> None:
    """Reservations, pods, a VM's pod, refused ones and a malformed subnet: three resyncs, no write but the Lease's."""
    net, space = stage.net(), stage.namespace()
    bound = stage.net(namespaces=[space])
    stage.reserved(f"{stage.tag}-a", net)
    stage.running(f"{stage.tag}-a")
    stage.reserved(f"{stage.tag}-vm", net, podType="VirtualMachine")
    stage.running(f"launch-{stage.tag}", owner=machine(f"{stage.tag}-vm"))
    stage.running(f"{stage.tag}-b", space)
    stage.running(f"{stage.tag}-c", subnet=net)
    stage.reserve(f"{stage.tag}-bad", net, v4IpAddress="192.0.2.1")
    stage.pod(f"{stage.tag}-mismatch", subnet=net, ip_address="192.0.2.2")
    stage.add("subnet", network(f"{stage.tag}-bad", "10.233.0.0/32"))
    stage.refused(f"{stage.tag}-bad.default", "AddressOutOfRange")
    stage.keeper.again("--resync-s=5")
    try:
        before = stage.keeper.quiet()
        looks = before.total("controller_runtime_reconcile_total")

        def three() -> bool:
            done = stage.keeper.metrics().total("controller_runtime_reconcile_total") - looks
            assert done > 3 * 8, done
            return True

        eventually("three resyncs", three, seconds=40, pause=0.5)
        after = stage.keeper.quiet()
        assert after.writes == before.writes
        assert after.transactions == before.transactions
        assert notes_of(stage, space) == bound
    finally:
        stage.keeper.again()


def notes_of(stage: Stage, space: str) -> str:
    """The subnet that the namespace is bound to."""
    found: str = stage.api.get("namespace", space)["metadata"]["annotations"][OVN + "logical_switch"]
    return found
