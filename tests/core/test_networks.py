"""Which networks a pod has, whatever people write (kube-ovn-behaviour §7.3; bug rows 4, 18, 21, 56)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import naming
from controller.core.decisions.entitlement import Attachment
from controller.core.decisions.multus import Unserved, nad_topic
from controller.core.decisions.networks import DEFAULT, Networks, Nic, attachments_of, networks_of, unplugged
from controller.core.objects import Pod
from tests.core.strategies import HOSTILE, texts
from tests.core.worlds import make_pod

OVN_NAD = json.dumps({"cniVersion": "0.3.0", "type": "kube-ovn", "server_socket": "/run/x.sock"})
IPAM_NAD = json.dumps({"type": "macvlan", "ipam": {"type": "kube-ovn", "provider": "mac.default"}})
CHAINED = json.dumps({"plugins": [{"type": "macvlan", "ipam": {"type": "kube-ovn"}}, {"type": "tuning"}, "x"]})
OTHERS = json.dumps({"type": "bridge", "ipam": {"type": "host-local"}})
NADS = {
    ("default", "net1"): OVN_NAD,
    ("infra", "net2"): OVN_NAD,
    ("default", "mac"): IPAM_NAD,
    ("default", "chain"): CHAINED,
    ("default", "bridge"): OTHERS,
    ("default", "bare"): " ",
}
NET1 = Attachment("default", "net1")


def listing(
    networks: object = None, notes: dict[str, str] | None = None, *, nads: dict[tuple[str, str], str] | None = None
) -> Networks:
    """What a pod of namespace default has whose Multus annotation says this."""
    text = networks if isinstance(networks, str) else json.dumps(networks)
    said = {} if networks is None else {naming.NETWORKS: text}
    pod = make_pod(notes=said | (notes or {}))
    return networks_of(pod, (NADS if nads is None else nads).get)


def providers(found: Networks) -> list[str]:
    return [nic.provider for nic in found.nics]


def complaint(found: Networks) -> str:
    (one,) = found.unserved
    assert one.message is not None
    return one.message.text


# -- names ------------------------------------------------------------------------------------------


def test_a_pod_without_annotations_has_the_default_network() -> None:
    assert listing() == Networks((DEFAULT,))
    assert listing("") == Networks((DEFAULT,))
    assert DEFAULT.has_port
    assert DEFAULT.key("ip_address") == "ovn.kubernetes.io/ip_address"
    assert DEFAULT.own_key("ip_address") == ""


@pytest.mark.parametrize(
    "text",
    ["net1, infra/net2@eth9", '[{"name": "net1"}, {"name": "net2", "namespace": "infra", "interface": "eth9"}]'],
)
def test_both_forms_of_the_annotation_say_the_same(text: str) -> None:
    found = listing(text)

    assert providers(found) == ["ovn", "net1.default.ovn", "net2.infra.ovn"]
    assert [nic.interface for nic in found.nics] == ["", "", "eth9"]
    assert all(nic.has_port for nic in found.nics)
    assert found.unserved == ()


def test_an_element_may_ask_for_addresses() -> None:
    found = listing([{"name": "net1", "ips": ["10.0.0.5/24"], "mac": "x", "interface": "e0", "default-route": [1]}])

    (_, nic) = found.nics
    assert nic == Nic("net1.default.ovn", "net1.default.ovn", NET1, "e0", ("10.0.0.5/24",), "x")
    assert nic.key("mac_address") == "net1.default.ovn.kubernetes.io/mac_address"
    assert nic.own_key("mac_address") == "net1.default.kubernetes.io/mac_address.e0"


def test_a_network_that_is_listed_twice_has_its_interface_in_its_name() -> None:
    found = listing("net1@a,net1@b,infra/net2@c")

    assert providers(found) == ["ovn", "net1.default.ovn.a", "net1.default.ovn.b", "net2.infra.ovn"]
    assert {nic.bound for nic in found.nics[1:3]} == {"net1.default.ovn"}
    assert all(nic.has_port for nic in found.nics)


def test_two_nics_of_one_name_are_refused_but_for_the_first() -> None:
    for text in ("net1,net1", "net1@a,net1@a", "net1@a,net1,net1"):
        found = listing(text)
        assert len(found.nics) + len(found.unserved) == 1 + len(text.split(","))
        assert "default/net1 is listed twice" in complaint(found)


@pytest.mark.parametrize("provider", ["net1.default.ovn", "net1.default"])
def test_a_nic_that_has_its_address_keeps_its_name(provider: str) -> None:
    """Another one of its definition is plugged in or out: this one is not touched (bug row 18)."""
    plain = {f"{provider}.kubernetes.io/allocated": "true"}
    named = {f"{provider}.a.kubernetes.io/allocated": "true"}

    assert providers(listing("net1@a", named)) == ["ovn", f"{provider}.a"]
    assert providers(listing("net1@a,net1@b", plain)) == ["ovn", provider, "net1.default.ovn.b"]
    assert providers(listing("net1@b,net1@a", plain | named)) == ["ovn", provider, f"{provider}.a"]
    assert providers(listing("net1@b,net1@a", named)) == ["ovn", "net1.default.ovn.b", f"{provider}.a"]


def test_a_nic_that_runs_is_what_it_was_made_as() -> None:
    """Whatever became of its definition (bug row 21), or of the list (Rule 2)."""
    runs = {"net1.default.ovn.kubernetes.io/allocated": "true", "old.kubernetes.io/allocated": "true"}

    assert providers(listing("net1", runs, nads={})) == ["ovn", "net1.default.ovn"]
    assert providers(listing("net1", runs, nads={("default", "net1"): IPAM_NAD})) == ["ovn", "net1.default.ovn"]
    assert providers(listing("[", runs)) == ["ovn", "net1.default.ovn"]
    assert providers(listing("mac", runs)) == ["ovn", "mac.default"]


def test_what_a_live_pod_has_no_more_is_taken_from_its_annotations() -> None:
    """Only what was written for it, and nothing while the list cannot be told."""
    said = {
        "net1.default.ovn.kubernetes.io/allocated": "true",
        "net1.default.ovn.kubernetes.io/ip_address": "10.1.0.2",
        "net1.default.ovn.kubernetes.io/port_security": "true",
        "gone.default.kubernetes.io/allocated": "true",
        "x.kubernetes.io/allocated": "true",
    }
    pod = make_pod(notes=said | {naming.NETWORKS: "gone"})

    assert unplugged(pod, networks_of(pod, lambda _nad: None)) == {
        "net1.default.ovn.kubernetes.io/allocated": None,
        "net1.default.ovn.kubernetes.io/ip_address": None,
    }
    unsure = make_pod(notes=said | {naming.NETWORKS: "["})
    assert unplugged(unsure, networks_of(unsure, lambda _nad: None)) == {}


# -- definitions ------------------------------------------------------------------------------------


def test_the_ipam_of_another_cni_has_no_port() -> None:
    found = listing("mac,chain")

    assert providers(found) == ["ovn", "mac.default", "chain.default"]
    assert [nic.has_port for nic in found.nics] == [True, False, False]


def test_other_networks_are_none_of_ours() -> None:
    assert listing("bridge,bare") == Networks((DEFAULT,))


def test_a_missing_definition_is_waited_for_alone() -> None:
    found = listing("net1,gone,infra/net2")

    assert providers(found) == ["ovn", "net1.default.ovn", "net2.infra.ovn"]
    assert "default/gone does not exist" in complaint(found)
    assert found.unserved[0].waits == (("nad", "default", "gone"),)
    assert nad_topic(NET1) == ("nad", "default", "net1")


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"type": "kube-ovn", "provider": "ovn"}', "write net1.default.ovn"),
        ('{"type": "x", "ipam": {"type": "kube-ovn", "provider": "x.y"}}', "write net1.default"),
        ('{"plugins": [{"type": "kube-ovn", "provider": 7}]}', "write net1.default.ovn"),
        ("\ud800", "no JSON"),
    ],
)
def test_a_definition_that_cannot_be_served_says_what_to_write(config: str, hint: str) -> None:
    found = listing("net1,infra/net2", nads=NADS | {("default", "net1"): config})

    assert providers(found) == ["ovn", "net2.infra.ovn"]
    assert hint in complaint(found)


@pytest.mark.parametrize("config", ['{"plugins": 7}', '{"ipam": [], "type": null}', '{"plugins": [{"ipam": 7}]}'])
def test_what_others_write_into_their_own_keys_is_theirs(config: str) -> None:
    assert listing("net1", nads={("default", "net1"): config}) == Networks((DEFAULT,))


@pytest.mark.parametrize(
    ("element", "hint"),
    [
        ({"name": "a.b"}, "may have no dot"),
        ({"name": "n" * 235}, "shorter"),
    ],
)
def test_names_that_nothing_could_be_called_by_are_refused(element: dict[str, str], hint: str) -> None:
    nads = {("default", str(element["name"])): OVN_NAD}

    assert hint in complaint(listing([element], nads=nads))


def test_an_interface_that_becomes_part_of_names_must_be_a_label() -> None:
    found = listing([{"name": "net1", "interface": "Eth_0"}, {"name": "net1", "interface": "b"}])

    assert providers(found) == ["ovn", "net1.default.ovn.b"]
    assert "'Eth_0'" in complaint(found)
    assert providers(listing([{"name": "net1", "interface": "Eth_0"}])) == ["ovn", "net1.default.ovn"]


# -- what cannot be read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["net1@", "net1@a@b", "a/b/c", "Net1", ",", "[", '{"name": "net1"}', '"net1"', "[1]", '[{"name": 7}]', "[{}]"],
)
def test_an_annotation_that_cannot_be_read_is_told(text: str) -> None:
    found = listing(text)

    assert DEFAULT in found.nics
    assert all(u.message is not None and u.attachment is None and u.waits == () for u in found.unserved)
    assert found.unserved
    assert naming.NETWORKS in complaint(listing(text if text != "," else "x/y/z"))
    assert found.may_have("anything.at.all")


def test_one_bad_element_of_a_list_leaves_the_others() -> None:
    assert providers(listing('[{"name": 7}, {"name": "net1"}]')) == ["ovn", "net1.default.ovn"]
    assert providers(listing("a/b/c,net1")) == ["ovn", "net1.default.ovn"]


def test_what_may_belong_to_an_unknown_network_is_known() -> None:
    """Rule 2: a NIC is only ever taken away when every element of the list is understood."""
    found = listing("net1,gone")

    assert found.may_have("gone.default.ovn")
    assert found.may_have("gone.default.ovn.net1")
    assert found.may_have("gone.default")
    assert not found.may_have("gone.defaultx")
    assert not found.may_have("net9.default.ovn")


# -- another default network ------------------------------------------------------------------------


def test_with_another_default_network_the_pods_further_nics_are_ours() -> None:
    other = {naming.DEFAULT_NETWORK: "bridge"}
    pod = make_pod(notes={naming.NETWORKS: "net1"} | other)

    assert providers(networks_of(pod, NADS.get)) == ["net1.default.ovn"]
    ours = make_pod(notes={naming.DEFAULT_NETWORK: "infra/net2"})
    assert providers(networks_of(ours, NADS.get)) == ["net2.infra.ovn"]
    assert networks_of(make_pod(notes=other, host_network=True), NADS.get) == Networks()


@pytest.mark.parametrize("text", ["gone", "a/b/c", "[", "", "net1,net1"])
def test_a_default_network_that_is_not_understood_is_not_our_business(text: str) -> None:
    found = networks_of(make_pod(notes={naming.DEFAULT_NETWORK: text}), NADS.get)

    assert DEFAULT not in found.nics
    assert all(u.message is None for u in found.unserved)


def test_the_definitions_that_a_pod_names_are_found_again() -> None:
    pod = make_pod(notes={naming.NETWORKS: "net1,gone,a/b/c", naming.DEFAULT_NETWORK: "bridge"})

    assert attachments_of(pod) == {NET1, Attachment("default", "gone"), Attachment("default", "bridge")}
    assert attachments_of(make_pod()) == frozenset()
    assert attachments_of(make_pod(notes={naming.NETWORKS: "net1"}, host_network=True)) == frozenset()


# -- anything ---------------------------------------------------------------------------------------

jsons = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([text for text in HOSTILE if len(text) < 300])
    | st.sampled_from(["kube-ovn", "net1", "a"]),
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "namespace", "interface", "ips", "mac", "type", "ipam", "provider", "plugins"]),
            one,
        )
    ),
    max_leaves=8,
)
anything = texts | jsons.map(json.dumps) | jsons.map(lambda value: json.dumps([value]))


@given(
    st.dictionaries(st.sampled_from([naming.NETWORKS, naming.DEFAULT_NETWORK]), anything),
    st.dictionaries(st.sampled_from([("default", "net1"), ("default", "a")]), anything | st.sampled_from([OVN_NAD])),
    st.sampled_from(["default", "", "\ud800"]),
)
def test_whatever_is_written_has_an_answer(notes: dict[str, str], nads: dict[Any, str], space: str) -> None:
    """Each NIC has names that the API takes, and no two have one; everything else waits or is not ours."""
    pod = make_pod(notes=notes)
    pod = Pod(metadata=type(pod.metadata)(name="web", namespace=space, annotations=pod.metadata.annotations))
    found = networks_of(pod, nads.get)

    assert len(set(providers(found))) == len(found.nics)
    for nic in found.nics[1:]:
        assert nic.provider.isascii()
        assert nic.provider == nic.provider.lower()
        assert len(nic.key("x").partition("/")[0]) <= 253
    for one in found.unserved:
        assert isinstance(one, Unserved)
        assert one.message is None or len(one.message.text) < 2000
    assert {nic.attachment for nic in found.nics} - {None} <= attachments_of(pod)
