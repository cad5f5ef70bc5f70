"""Every derived name, made and found again by one rule (contract §1)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import naming
from controller.core.naming import Owner
from controller.core.objects import OwnerRef
from tests.core.worlds import OURS, STS, VM, make_ip, make_pod

OWNER = Owner("default", "web")
SITE = OwnerRef(kind="Node", name="a", uid="n")


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("ovn", "web.default"),
        ("", "web.default"),
        ("net1.default.ovn", "web.default.net1.default.ovn"),
        ("net1.default", "web.default.net1.default"),
    ],
)
def test_a_port_is_named_after_pod_namespace_and_provider(provider: str, name: str) -> None:
    """The default provider is left out (contract §1)."""
    assert naming.port_name(OWNER, provider) == name
    assert naming.is_port_of(name, OWNER)


@pytest.mark.parametrize("name", ["web.default2", "web", "xweb.default", "web.defaul", "web.default-x"])
def test_a_longer_or_shorter_name_is_not_the_owners_port(name: str) -> None:
    """A prefix of a name is another name."""
    assert not naming.is_port_of(name, OWNER)


def test_an_owner_reads_as_the_external_id_of_its_ports() -> None:
    """`namespace/podName`, as Kube-OVN writes the external id `pod`."""
    assert str(OWNER) == "default/web"


@pytest.mark.parametrize(
    ("pod", "owner", "kind"),
    [
        (make_pod("web"), "web", ""),
        (make_pod("web-0", owner=STS), "web-0", "StatefulSet"),
        (make_pod("virt-launcher-web-x7k2p", owner=VM), "web", "VirtualMachine"),
        (make_pod("other-0", owner=STS), "other-0", ""),
        (make_pod("web-x", owner=STS), "web-x", ""),
        (make_pod("web", owner=STS), "web", ""),
        (make_pod("web-0", owner=OwnerRef(kind="StatefulSet", name="web", api_version="fake.io/v1")), "web-0", ""),
        (make_pod("web-0", owner=OwnerRef(kind="VirtualMachineInstance", api_version="kubevirt.io/v1")), "web-0", ""),
        (make_pod("web-0", owner=OwnerRef(kind="ReplicaSet", name="web", api_version="apps/v1")), "web-0", ""),
    ],
)
def test_a_pod_is_owned_by_itself_and_a_vms_pod_by_the_vm(pod: object, owner: str, kind: str) -> None:
    """Successive launcher pods of a VM are one owner; a name that does not fit its StatefulSet is a plain pod's."""
    assert naming.owner_of(pod) == ("default", owner)  # type: ignore[arg-type]
    assert naming.pod_type(pod) == kind  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "number"),
    [("web-0", 0), ("web-12", 12), ("web-007", 7), ("web", None), ("web-", None), ("web-1x", None), ("web-٣", None)],
)
def test_an_ordinal_is_the_number_behind_the_sets_name(name: str, number: int | None) -> None:
    """Bug row 25: several digits, and nothing is guessed."""
    assert naming.ordinal(name, "web") == number
    assert naming.pod_ordinal(make_pod(name, owner=STS)) == number


def test_digits_without_end_are_no_ordinal() -> None:
    """A name that no API server accepts ends nothing either."""
    assert naming.ordinal("web-" + "9" * 5000, "web") is None


def test_a_pod_without_a_stateful_set_has_no_ordinal() -> None:
    """Whatever its name looks like."""
    assert naming.pod_ordinal(make_pod("web-1")) is None


@pytest.mark.parametrize(
    ("name", "spec", "ours", "yes"),
    [
        ("node-a", {"namespace": "", "pod_name": "a"}, True, True),
        ("node-a.default", {"namespace": "default", "pod_name": "node-a"}, True, False),
        ("u2o-interconnection.vpc.net", {"pod_name": "u2o-interconnection.vpc.net"}, True, True),
        ("mcast-querier.net", {"pod_name": "mcast-querier.net"}, True, True),
        ("mcast-querier.default", {"pod_name": "mcast-querier"}, True, False),
        ("web.default", {}, True, False),
        ("node-a", {"namespace": "", "pod_name": "a"}, False, False),
    ],
)
def test_ips_of_nodes_and_subnets_are_told_by_name_spec_and_maker(
    name: str, spec: dict[str, Any], *, ours: bool, yes: bool
) -> None:
    """A user's pod may be called node-1 (contract §7: a kind it does not know is left alone, and only that)."""
    assert naming.special(make_ip(name, finalizers=OURS if ours else (), **spec)) is yes
    assert naming.special(make_ip(name, owners=(SITE,) if ours else (), **spec)) is yes


def test_an_ip_has_four_labels() -> None:
    """Contract §1: reserved, subnet, node, and the subnet's name as a key."""
    assert naming.labels("net", "", reserved=True) == {
        "ovn.kubernetes.io/ip_reserved": "true",
        "ovn.kubernetes.io/subnet": "net",
        "ovn.kubernetes.io/node-name": "",
        "net": "",
    }
    assert naming.labels("net", "a", reserved=False)["ovn.kubernetes.io/ip_reserved"] == "false"


def test_a_name_too_long_for_a_label_is_left_out() -> None:
    """W42: a subnet of 253 characters must not make every write fail; spec says the same."""
    assert naming.labels("n" * 253, "n" * 253, reserved=True) == {"ovn.kubernetes.io/ip_reserved": "true"}


LABEL = re.compile(r"([a-z.]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


@given(st.text() | st.sampled_from([naming.RESERVED, naming.SUBNET_LABEL, naming.PREFIX + "!", ""]), st.text())
def test_labels_are_always_acceptable_and_never_hide_the_decision(subnet: str, node: str) -> None:
    """Whatever a subnet is called: the label that says reserved says it."""
    found = naming.labels(subnet, node, reserved=True)

    assert found[naming.RESERVED] == "true"
    assert all(LABEL.fullmatch(key) for key in found)


@pytest.mark.parametrize(("length", "fits"), [(253, True), (254, False)])
def test_a_name_has_at_most_253_characters(length: int, *, fits: bool) -> None:
    """The API server's limit, said in words."""
    assert (naming.name_problem("x" * length) == "") is fits


@pytest.mark.parametrize(
    ("provider", "yes"),
    [("", True), ("ovn", True), ("n.d.ovn", True), ("n.d", False), ("n.d.x", False), ("a.b.c.ovn", False)],
)
def test_a_provider_is_ovns_by_its_form(provider: str, *, yes: bool) -> None:
    """Only such a provider's ports are rows in Northbound (kube-ovn-behaviour §1)."""
    assert naming.is_ovn(provider) is yes


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        ("web-0", ("web", 0)),
        ("web-1-12", ("web-1", 12)),
        ("4-2", ("4", 2)),
        ("web", None),
        ("-1", None),
        ("web-x", None),
    ],
)
def test_a_pods_name_tells_its_stateful_set(pod: str, found: tuple[str, int] | None) -> None:
    assert naming.set_and_ordinal(pod) == found


@pytest.mark.parametrize(
    ("provider", "key"),
    [("ovn", "ovn.kubernetes.io/x"), ("", "ovn.kubernetes.io/x"), ("n.d.ovn", "n.d.ovn.kubernetes.io/x")],
)
def test_each_provider_has_annotations_and_ports_of_its_own(provider: str, key: str) -> None:
    owner = naming.Owner("shop", "web-0")

    assert naming.annotation(provider, "x") == key
    assert naming.provider_of(naming.port_name(owner, provider), owner) == (provider or "ovn")


def test_the_stateful_set_of_a_pod_is_known_by_its_uid() -> None:
    made = OwnerRef(kind="StatefulSet", name="web", uid="s1", api_version="apps/v1")

    assert naming.set_uid(make_pod("web-0", owner=made)) == "s1"
    assert naming.set_uid(make_pod("other-0", owner=made)) == ""
    assert naming.set_uid(make_pod("web-0")) == ""
    assert naming.set_name(make_pod("web-0", owner=made)) == "web"
    assert naming.set_name(make_pod("other-0", owner=made)) == naming.set_name(make_pod("web-0")) == ""
