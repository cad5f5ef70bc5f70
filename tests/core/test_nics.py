"""Several NICs of one pod, each by itself, in a world where every write is seen at once (contract §4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.core import naming
from controller.core.catalogue import Reason
from controller.core.effects import DropPort, Patch, PutPort
from controller.core.objects import Ip, Kind, Pod
from controller.reconcilers import keys
from tests.core.worlds import NOTE, SLASH_29, Tiny, names, told

KUBE_OVN = {"type": "kube-ovn"}
MACVLAN = {"type": "macvlan", "ipam": {"type": "kube-ovn", "provider": "mac.default"}}
WEB = keys.pod("default", "web")
NET1 = "net1.default.ovn"


@pytest.fixture
def tiny() -> Tiny:
    """A default subnet, one of a second network and one of another CNI's."""
    found = Tiny()
    subnet(found, "net", SLASH_29, default=True)
    subnet(found, "more", "10.1.0.0/29", provider=NET1)
    subnet(found, "third", "10.2.0.0/29", provider="mac.default")
    nad(found, "net1", KUBE_OVN)
    nad(found, "mac", MACVLAN)
    found.settle()
    return found


def subnet(tiny: Tiny, name: str, cidr: str, **spec: Any) -> None:
    tiny.store.create(Kind.SUBNET, "", name, {"spec": {"cidrBlock": cidr, **spec}}, "user")


def nad(tiny: Tiny, name: str, config: object) -> None:
    tiny.store.create(Kind.NAD, "default", name, {"spec": {"config": json.dumps(config)}}, "user")


def start(tiny: Tiny, networks: str = "", name: str = "web", **notes: str) -> None:
    annotations = {naming.NETWORKS: networks} if networks else {}
    annotations |= {key.replace("__", "/"): text for key, text in notes.items()}
    spec = {"nodeName": "a"}
    tiny.store.create(Kind.POD, "default", name, {"metadata": {"annotations": annotations}, "spec": spec}, "user")


def annotate(tiny: Tiny, **notes: str | None) -> None:
    annotations = {key.replace("__", "/"): text for key, text in notes.items()}
    tiny.store.patch(Kind.POD, "default", "web", {"metadata": {"annotations": annotations}}, "user")


def relist(tiny: Tiny, networks: str | None) -> None:
    body = {"metadata": {"annotations": {naming.NETWORKS: networks}}}
    tiny.store.patch(Kind.POD, "default", "web", body, "user")


def stop(tiny: Tiny, name: str = "web") -> None:
    tiny.store.delete(Kind.POD, "default", name, "", "user")


def notes(tiny: Tiny, provider: str = "ovn", name: str = "web") -> dict[str, str]:
    """What the pod's annotations say of that NIC."""
    found = tiny.store.views[Kind.POD]["default", name]
    assert isinstance(found, Pod)
    prefix = f"{provider}.kubernetes.io/"
    return {key.removeprefix(prefix): v for key, v in found.metadata.annotations.items() if key.startswith(prefix)}


def ip(tiny: Tiny, name: str) -> Ip:
    found = tiny.store.views[Kind.IP]["", name]
    assert isinstance(found, Ip)
    return found


def ips(tiny: Tiny) -> dict[str, str]:
    found = {name: ip(tiny, name) for _, name in tiny.store.views[Kind.IP]}
    return {name: one.spec.ip_address for name, one in sorted(found.items())}


def ports(tiny: Tiny) -> list[str]:
    return sorted(tiny.database.tables.ports)


# -- on the way up ----------------------------------------------------------------------------------


def test_two_nics_are_one_transaction_two_ips_and_one_patch(tiny: Tiny) -> None:
    start(tiny, "net1")
    decision = tiny.look(WEB)

    assert names(decision) == ["Promise", "Promise", "PutPort", "PutPort", "CreateIP", "CreateIP", "PatchPod"]
    assert told(decision) == ["PodNetworkAllocated"]
    assert "provider=net1.default.ovn subnet=more" in decision.tells[0].message.text
    tiny.settle()
    assert ips(tiny) == {"web.default": "10.0.0.2", f"web.default.{NET1}": "10.1.0.2"}
    assert ports(tiny) == ["web.default", f"web.default.{NET1}"]
    assert {"allocated", "routed", "logical_switch", "pod_nic_type", "mac_address"} <= notes(tiny, NET1).keys()
    assert notes(tiny, NET1)["ip_address"] == "10.1.0.2"
    assert notes(tiny, NET1)["logical_switch"] == "more"
    tiny.restart()
    assert tiny.settle() == 0


def test_an_attachments_ip_says_whose_it_is(tiny: Tiny) -> None:
    """As upstream's tests pin it down (kube-ovn-behaviour §21)."""
    start(tiny, "net1")
    tiny.settle()
    one = ip(tiny, f"web.default.{NET1}")

    assert (one.spec.pod_name, one.spec.namespace, one.spec.subnet) == ("web", "default", "more")
    assert (one.spec.node_name, one.spec.pod_type) == ("a", "")
    assert (one.spec.v4_ip_address, one.spec.mac_address) == ("10.1.0.2", notes(tiny, NET1)["mac_address"])
    assert one.metadata.labels[naming.RESERVED] == "false"


def test_the_same_network_twice_is_two_nics_with_two_addresses(tiny: Tiny) -> None:
    """No two NICs of one decision have one address or one MAC."""
    start(tiny, "net1@a,net1@b")
    tiny.settle()
    both = [notes(tiny, f"{NET1}.{one}") for one in "ab"]

    assert {one["ip_address"] for one in both} == {"10.1.0.2", "10.1.0.3"}
    assert len({one["mac_address"] for one in (*both, notes(tiny))}) == 3
    assert ports(tiny) == ["web.default", f"web.default.{NET1}.a", f"web.default.{NET1}.b"]


def test_the_ipam_of_another_cni_has_an_address_and_no_port(tiny: Tiny) -> None:
    start(tiny, "mac")
    tiny.settle()

    assert ips(tiny)["web.default.mac.default"] == "10.2.0.2"
    assert ip(tiny, "web.default.mac.default").spec.mac_address == ""
    assert ports(tiny) == ["web.default"]
    assert notes(tiny, "mac.default").keys() == {"ip_address", "cidr", "gateway", "allocated", "routed"}
    tiny.restart()
    assert tiny.settle() == 0


def test_a_mac_of_another_cnis_nic_is_managed_when_it_is_asked_for(tiny: Tiny) -> None:
    start(tiny, json.dumps([{"name": "mac", "mac": "0a:00:00:00:00:09", "ips": ["10.2.0.5/29"]}]))
    tiny.settle()
    tiny.restart()

    assert tiny.settle() == 0
    assert notes(tiny, "mac.default")["mac_address"] == "0a:00:00:00:00:09"
    assert ip(tiny, "web.default.mac.default").spec.mac_address == "0a:00:00:00:00:09"
    assert ips(tiny)["web.default.mac.default"] == "10.2.0.5"


@pytest.mark.parametrize(
    ("networks", "more", "gets"),
    [
        ("net1@e0", {}, "10.1.0.2"),
        ('[{"name": "net1", "interface": "e0", "ips": ["10.1.0.4"]}]', {}, "10.1.0.4"),
        ("net1@e0", {f"{NET1}.kubernetes.io__ip_address": "10.1.0.5"}, "10.1.0.5"),
        (
            '[{"name": "net1", "interface": "e0", "ips": ["10.1.0.4"]}]',
            {"net1.default.kubernetes.io__ip_address.e0": "10.1.0.6"},
            "10.1.0.6",
        ),
    ],
)
def test_what_is_said_of_the_very_interface_comes_first(
    tiny: Tiny, networks: str, more: dict[str, str], gets: str
) -> None:
    start(tiny, networks, **more)
    tiny.settle()

    assert notes(tiny, NET1)["ip_address"] == gets
    assert tiny.look(WEB).effects == ()


def test_a_nic_may_name_its_subnet(tiny: Tiny) -> None:
    subnet(tiny, "more2", "10.3.0.0/29", provider=NET1)
    start(tiny, "net1", **{f"{NET1}.kubernetes.io__logical_switch": "more2"})
    tiny.settle()

    assert notes(tiny, NET1)["ip_address"] == "10.3.0.2"


def test_of_several_subnets_the_one_of_the_address_is_taken_and_kept(tiny: Tiny) -> None:
    subnet(tiny, "athird", "10.3.0.0/29", provider="mac.default")
    start(tiny, '[{"name": "mac", "ips": ["10.2.0.4"]}]')
    tiny.settle()
    tiny.restart()

    assert tiny.settle() == 0
    assert ip(tiny, "web.default.mac.default").spec.subnet == "third"
    tiny.store.patch(Kind.SUBNET, "", "third", {"spec": {"provider": "x.y"}}, "user")
    tiny.settle()
    assert ip(tiny, "web.default.mac.default").spec.subnet == "third"


# -- one NIC cannot be served -----------------------------------------------------------------------


def test_a_missing_definition_holds_up_nobody_else(tiny: Tiny) -> None:
    start(tiny, "gone,net1")
    decision = tiny.look(WEB)

    assert [type(e) for e in decision.effects].count(PutPort) == 2
    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.POD_NETWORK_UPDATE_FAILED
    assert ("nad", "default", "gone") in decision.waits
    tiny.settle()
    assert ips(tiny) == {"web.default": "10.0.0.2", f"web.default.{NET1}": "10.1.0.2"}
    subnet(tiny, "late", "10.4.0.0/29", provider="gone.default.ovn")
    nad(tiny, "gone", KUBE_OVN)
    tiny.settle()
    assert notes(tiny, "gone.default.ovn")["ip_address"] == "10.4.0.2"
    assert tiny.look(WEB).refusal is None


def test_a_network_without_a_subnet_says_what_to_make(tiny: Tiny) -> None:
    nad(tiny, "net2", KUBE_OVN)
    start(tiny, "net2")
    decision = tiny.look(WEB)

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.SUBNET_NOT_FOUND
    assert "net2.default.ovn" in decision.refusal.text
    assert ("provider", "net2.default.ovn") in decision.waits
    tiny.settle()
    assert notes(tiny)["ip_address"] == "10.0.0.2"
    subnet(tiny, "second", "10.4.0.0/29", provider="net2.default.ovn")
    tiny.settle()
    assert notes(tiny, "net2.default.ovn")["ip_address"] == "10.4.0.2"


@pytest.mark.parametrize(("network", "switch"), [("net1", "third"), ("mac", "net")])
def test_a_subnet_of_another_kind_is_refused(tiny: Tiny, network: str, switch: str) -> None:
    provider = NET1 if network == "net1" else "mac.default"
    start(tiny, network, **{f"{provider}.kubernetes.io__logical_switch": switch})
    decision = tiny.look(WEB)

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.SUBNET_NOT_FOUND
    assert decision.refusal.text.startswith(f"provider={provider}: subnet {switch} is of provider")


def test_a_full_subnet_stops_its_own_nic_only(tiny: Tiny) -> None:
    """Bug rows 18 and 22: however often it is tried, what it has is one address for each NIC that has one."""
    nad(tiny, "tight", KUBE_OVN)
    subnet(tiny, "two", "10.5.0.0/30", provider="tight.default.ovn")  # .1 is the gateway
    start(tiny, "tight", "api")
    tiny.settle()
    start(tiny, "tight,net1")
    for _ in range(3):
        tiny.settle()
        tiny.run(WEB)
    decision = tiny.look(WEB)

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.SUBNET_EXHAUSTED
    assert ("space", "two") in decision.waits
    mine = {name for name in ips(tiny) if name.startswith("web.")}
    assert mine == {"web.default", f"web.default.{NET1}"}
    stop(tiny, "api")
    tiny.settle()
    assert notes(tiny, "tight.default.ovn")["ip_address"] == "10.5.0.2"


def test_each_nic_is_told_what_is_wrong_with_it(tiny: Tiny) -> None:
    start(tiny, "net1,mac", **{f"{NET1}.kubernetes.io__ip_address": "x", "mac.default.kubernetes.io__mac_address": "y"})
    decision = tiny.look(WEB)

    assert told(decision) == ["PodNetworkAllocated", "ValidatePodNetworkFailed"]
    text = decision.tells[1].message.text
    assert f"annotation {NET1}.kubernetes.io/ip_address" in text
    assert "annotation mac.default.kubernetes.io/mac_address" in text


def test_an_address_that_two_nics_ask_for_is_given_once(tiny: Tiny) -> None:
    start(
        tiny,
        '[{"name": "net1", "interface": "a", "ips": ["10.1.0.4"]},'
        '{"name": "net1", "interface": "b", "ips": ["10.1.0.4"]}]',
    )
    decision = tiny.look(WEB)

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.ADDRESS_CONFLICT
    assert f"belongs to web.default.{NET1}.a" in decision.refusal.text


# -- plugged in and out -----------------------------------------------------------------------------


def test_a_nic_that_left_the_list_is_released_alone(tiny: Tiny) -> None:
    start(tiny, "net1,mac")
    tiny.settle()
    before = notes(tiny), notes(tiny, "mac.default")
    relist(tiny, "mac")
    decision = tiny.look(WEB)
    assert names(decision) == ["PatchPod", "DropPort", "DeleteIP"]
    tiny.settle()

    assert (notes(tiny), notes(tiny, "mac.default")) == before
    assert notes(tiny, NET1) == {}
    assert ips(tiny) == {"web.default": "10.0.0.2", "web.default.mac.default": "10.2.0.2"}
    assert ports(tiny) == ["web.default"]
    relist(tiny, None)
    tiny.settle()
    assert ips(tiny) == {"web.default": "10.0.0.2"}
    assert notes(tiny, "mac.default") == {}
    relist(tiny, "net1")
    tiny.settle()
    assert ips(tiny).keys() == {"web.default", f"web.default.{NET1}"}


def test_a_reserved_nic_that_is_unplugged_keeps_ip_and_address(tiny: Tiny) -> None:
    start(tiny, "net1")
    tiny.settle()
    name = f"web.default.{NET1}"
    tiny.store.patch(Kind.IP, "", name, {"metadata": {"labels": {naming.RESERVED: "true"}}}, "user")
    tiny.settle()
    relist(tiny, None)
    tiny.settle()

    assert ips(tiny)[name] == "10.1.0.2"
    assert ports(tiny) == ["web.default"]
    assert {c.type: c.reason for c in ip(tiny, name).status.conditions} == {"Ready": "Reserved", "InUse": "NotInUse"}


@pytest.mark.parametrize("text", ["[", "net1,a/b/c"])
def test_a_list_that_cannot_be_read_takes_nothing_away(tiny: Tiny, text: str) -> None:
    start(tiny, "net1,mac")
    tiny.settle()
    before = ips(tiny)
    relist(tiny, text)
    tiny.settle()

    assert ips(tiny) == before
    assert notes(tiny, "mac.default")["allocated"] == "true"
    assert tiny.look(WEB).refusal is not None


def test_a_definition_that_goes_takes_nothing_with_it(tiny: Tiny) -> None:
    """Bug rows 21 and 39: what was made is kept, repaired, and released by what was recorded."""
    start(tiny, "net1,mac")
    tiny.settle()
    before = ips(tiny)
    tiny.store.delete(Kind.NAD, "default", "net1", "", "user")
    tiny.store.delete(Kind.NAD, "default", "mac", "", "user")
    assert tiny.settle() == 0
    tiny.database.commit((DropPort(tiny.database.tables.ports[f"web.default.{NET1}"]),), "user")
    tiny.settle()
    assert ports(tiny) == ["web.default", f"web.default.{NET1}"]
    tiny.restart()
    assert tiny.settle() == 0
    assert ips(tiny) == before
    stop(tiny)
    tiny.settle()
    assert (ips(tiny), ports(tiny)) == ({}, [])


def test_a_definition_that_changes_its_kind_changes_no_nic_that_runs(tiny: Tiny) -> None:
    start(tiny, "net1")
    tiny.settle()
    tiny.store.patch(Kind.NAD, "default", "net1", {"spec": {"config": '{"type": "bridge"}'}}, "user")

    assert tiny.settle() == 0
    assert notes(tiny, NET1)["ip_address"] == "10.1.0.2"


def test_a_nic_on_its_way_whose_definition_went_is_kept(tiny: Tiny) -> None:
    """Port and IP are there, the annotations are not: nobody can tell what it was to be (Rule 2)."""
    start(tiny, "net1")
    tiny.run(WEB, 6)
    tiny.store.delete(Kind.NAD, "default", "net1", "", "user")
    tiny.settle()

    assert f"web.default.{NET1}" in ports(tiny)
    stop(tiny)
    tiny.settle()
    assert (ips(tiny), ports(tiny)) == ({}, [])


# -- another default network ------------------------------------------------------------------------


def test_with_another_default_network_the_further_nics_are_ours(tiny: Tiny) -> None:
    nad(tiny, "calico", {"type": "calico"})
    start(tiny, "net1", **{naming.DEFAULT_NETWORK.replace("/", "__"): "calico"})
    tiny.settle()

    assert ips(tiny) == {f"web.default.{NET1}": "10.1.0.2"}
    assert notes(tiny) == {}
    assert notes(tiny, NET1)["routed"] == "true"
    stop(tiny)
    tiny.settle()
    assert (ips(tiny), ports(tiny)) == ({}, [])


def test_a_pod_that_runs_with_the_default_network_keeps_it(tiny: Tiny) -> None:
    start(tiny)
    tiny.settle()
    annotate(tiny, **{naming.DEFAULT_NETWORK.replace("/", "__"): "calico"})
    tiny.settle()

    assert (ips(tiny), ports(tiny)) == ({"web.default": "10.0.0.2"}, ["web.default"])


# -- reservations -----------------------------------------------------------------------------------


def reserve(tiny: Tiny, name: str = f"web.default.{NET1}", home: str = "more", **spec: str) -> None:
    wanted = {"subnet": home, "podName": "web", "namespace": "default"} | spec
    tiny.store.create(Kind.IP, "", name, {"spec": wanted}, "user")


@pytest.mark.parametrize(
    ("name", "home", "networks", "provider"),
    [
        (f"web.default.{NET1}", "more", "net1", NET1),
        (f"web.default.{NET1}.a", "more", "net1@a,net1@b", f"{NET1}.a"),
        ("web.default.mac.default", "third", "mac", "mac.default"),
    ],
)
def test_a_nics_reservation_is_granted_before_it_is_there_and_used_by_it(
    tiny: Tiny, name: str, home: str, networks: str, provider: str
) -> None:
    address = {"more": "10.1.0.5", "third": "10.2.0.5"}[home]
    reserve(tiny, name, home, v4IpAddress=address)
    tiny.settle()
    assert ip(tiny, name).status.conditions[0].status == "True"
    start(tiny, networks)
    tiny.settle()

    assert notes(tiny, provider)["ip_address"] == address
    assert {c.type: c.reason for c in ip(tiny, name).status.conditions} == {"Ready": "Reserved", "InUse": "InUse"}
    assert ip(tiny, name).status.used_by == "default/web"
    tiny.store.delete(Kind.IP, "", name, "", "user")
    tiny.settle()
    assert ip(tiny, name).metadata.deleting
    assert notes(tiny, provider)["ip_address"] == address
    stop(tiny)
    tiny.settle()
    assert (ips(tiny), ports(tiny)) == ({}, [])


def test_a_reservation_of_another_kind_stops_its_own_nic_only(tiny: Tiny) -> None:
    reserve(tiny, podType="VirtualMachine")
    tiny.settle()
    start(tiny, "net1")
    tiny.settle()
    decision = tiny.look(WEB)

    assert notes(tiny)["ip_address"] == "10.0.0.2"
    assert notes(tiny, NET1) == {}
    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.RESERVATION_MISMATCH
    conditions = {c.type: c.reason for c in ip(tiny, f"web.default.{NET1}").status.conditions}
    assert conditions == {"Ready": "Reserved", "InUse": "ReservationMismatch"}


def test_a_reservation_outlives_its_pod_and_its_definition(tiny: Tiny) -> None:
    reserve(tiny)
    start(tiny, "net1")
    tiny.settle()
    tiny.store.delete(Kind.NAD, "default", "net1", "", "user")
    stop(tiny)
    tiny.settle()

    assert ips(tiny) == {f"web.default.{NET1}": "10.1.0.2"}
    assert ports(tiny) == []


@pytest.mark.parametrize("name", ["web.default", "web.default.net9.default.ovn", f"web.default.{NET1}.a.b"])
def test_a_nics_reservation_has_the_name_of_its_provider(tiny: Tiny, name: str) -> None:
    reserve(tiny, name)
    decision = tiny.look(keys.reservation(name))

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.NAME_MISMATCH
    assert f"web.default.{NET1}" in decision.refusal.text


def test_without_protection_a_nic_is_cut_off_alone() -> None:
    tiny = Tiny(protect=False)
    subnet(tiny, "net", SLASH_29, default=True)
    subnet(tiny, "more", "10.1.0.0/29", provider=NET1)
    nad(tiny, "net1", KUBE_OVN)
    reserve(tiny)
    start(tiny, "net1")
    tiny.settle()
    tiny.store.delete(Kind.IP, "", f"web.default.{NET1}", "", "user")
    tiny.settle()

    assert ips(tiny) == {"web.default": "10.0.0.2"}
    assert ports(tiny) == ["web.default"]
    assert notes(tiny)["allocated"] == "true"
    assert "allocated" not in notes(tiny, NET1)
    found = tiny.store.views[Kind.POD]["default", "web"]
    assert naming.cut_off(NET1) in found.metadata.annotations
    assert naming.CUT_OFF not in found.metadata.annotations


# -- names that can be read in two ways -------------------------------------------------------------


def test_a_port_that_two_owners_could_have_has_one(tiny: Tiny) -> None:
    """Pod `web.default.mac` of a namespace `default`, and NIC `mac.default` of pod `web` there (§1, name ambiguity)."""
    start(tiny, "mac")
    tiny.settle()
    start(tiny, name="web.default.mac")
    tiny.settle()
    decision = tiny.look(keys.pod("default", "web.default.mac"))

    assert notes(tiny, "mac.default")["ip_address"] == "10.2.0.2"
    assert notes(tiny, name="web.default.mac") == {}
    assert decision.refusal is not None
    assert "default/web" in decision.refusal.text
    stop(tiny)
    tiny.settle()
    assert notes(tiny, name="web.default.mac")["allocated"] == "true"


def test_what_the_pod_lost_is_put_back_for_each_nic(tiny: Tiny) -> None:
    """Bug row 29: missing data is no evidence of anything."""
    start(tiny, "net1,mac")
    tiny.settle()
    before = ips(tiny)
    annotate(tiny, **{f"{NET1}.kubernetes.io__ip_address": None, "mac.default.kubernetes.io__ip_address": None})
    tiny.settle()

    assert ips(tiny) == before
    assert notes(tiny, NET1)["ip_address"] == "10.1.0.2"
    assert notes(tiny, "mac.default")["ip_address"] == "10.2.0.2"
    tiny.store.delete(Kind.IP, "", "web.default.mac.default", "", "user")
    tiny.store.patch(Kind.IP, "", "web.default.mac.default", {"metadata": {"finalizers": []}}, "user")
    tiny.restart()
    tiny.settle()
    assert ips(tiny) == before


def test_a_port_under_the_name_of_a_nic_without_one_goes(tiny: Tiny) -> None:
    start(tiny, "mac,net1")
    tiny.settle()
    row = tiny.database.tables.ports[f"web.default.{NET1}"]
    tiny.database.commit((PutPort(row._replace(name="web.default.mac.default", uuid="")),), "user")
    tiny.settle()

    assert ports(tiny) == ["web.default", f"web.default.{NET1}"]


def test_a_patch_carries_the_uid_of_its_pod(tiny: Tiny) -> None:
    start(tiny, "net1")
    tiny.settle()
    relist(tiny, None)
    (patch,) = (e for e in tiny.look(WEB).effects if isinstance(e, Patch))

    assert patch.body["metadata"]["uid"]
    assert NOTE + "allocated" not in patch.body["metadata"]["annotations"]
