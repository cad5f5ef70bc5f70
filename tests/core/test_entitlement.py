"""A VM's networks in every way of declaring them (bug rows 3 and 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.decisions.entitlement import Declared, Entitlement, entitlement
from controller.core.faults import Malformed
from controller.core.naming import DEFAULT_NETWORK, NETWORKS, Owner

VM = Owner("team", "vm-1")
MAIN = "vm-1.team"
POD_NETWORK = Declared()


def has(notes: dict[str, str], *networks: Declared) -> Entitlement:
    return entitlement(VM, notes, networks)


def ways(text: str) -> list[tuple[dict[str, str], tuple[Declared, ...]]]:
    """One network in every place where a VM can declare it."""
    return [({NETWORKS: text}, ()), ({}, (POD_NETWORK, Declared(text))), ({}, (Declared(text),))]


@pytest.mark.parametrize(("text", "stem"), [("net1", "net1.team"), ("other/net1", "net1.other"), ("a.b", "a.b.team")])
def test_every_way_of_declaring_a_network_is_known(text: str, stem: str) -> None:
    for notes, networks in ways(text):
        found = has(notes, *networks)

        assert found.covers(MAIN), "the launcher always has the pod network, too"
        assert found.covers(f"{MAIN}.{stem}.ovn")
        assert found.covers(f"{MAIN}.{stem}"), "an IPAM-only NIC"
        assert found.covers(f"{MAIN}.{stem}.ovn.net7"), "attached twice, by interface name"
        assert not found.covers(f"{MAIN}.{stem}x.ovn")
        assert not found.covers(f"{MAIN}.x{stem}.ovn")
        assert not found.covers(f"vm-2.team.{stem}.ovn")


@pytest.mark.parametrize(
    "text",
    [
        "net1,other/net2",
        " net1@eth7 , other/net2 ",
        '[{"name": "net1", "interface": "eth7"}, {"name": "net2", "namespace": "other", "ips": ["10.0.0.1"]}]',
        '[{"name": "net1", "namespace": ""}, {"name": "net2", "namespace": "other"}]',
        '[{"name": "net1", "namespace": null}, {"name": "net2", "namespace": "other"}]',
    ],
)
def test_multus_annotation_in_all_its_spellings(text: str) -> None:
    assert has({NETWORKS: text}).attachments == {("team", "net1"), ("other", "net2")}


def test_a_multus_default_network_takes_the_place_of_the_pod_network() -> None:
    for found in (has({}, Declared("net1", default=True)), has({DEFAULT_NETWORK: "net1"})):
        assert not found.covers(MAIN)
        assert found.covers(f"{MAIN}.net1.team.ovn")


def test_a_vm_that_declares_nothing_has_the_default_port_only() -> None:
    found = has({"kubevirt.io/x": "y"}, POD_NETWORK)

    assert found.covers(MAIN)
    assert not found.covers(f"{MAIN}.net1.team.ovn")


@pytest.mark.parametrize(
    "text", ["a/b/c", "/", "x/", "Net_1", "[", '[{"namespace": "x"}]', '{"name": "x"}', '["x"]', "[" * 5000]
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    """Then nothing of this VM is judged (bug row 4)."""
    with pytest.raises(Malformed):
        has({NETWORKS: text})
    with pytest.raises(Malformed):
        has({}, Declared(text))


words = st.sampled_from(["net1", "other/net1", "[]", "[{}]", "\ud800", "[\ud800]", ",", "@", "é", "[1e999]"]) | st.text(
    max_size=8
)


@given(words, words, words, words)
def test_any_text_is_read_or_refused(networks: str, default: str, one: str, port: str) -> None:
    try:
        found = entitlement(VM, {NETWORKS: networks, DEFAULT_NETWORK: default}, (Declared(one),))
    except Malformed:
        return
    assert found.covers(port) in {True, False}
