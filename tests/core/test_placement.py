"""Which subnet a pod belongs to and what it asks for there (contract §4)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.catalogue import Reason, say
from controller.core.decisions.placement import (
    Ask,
    Entry,
    Place,
    Refused,
    ask_of,
    parse_entry,
    parse_pool,
    subnet_of,
)
from controller.core.faults import Malformed
from controller.core.objects import Meta, Namespace
from tests.core.worlds import MAC, NOTE, asks, make_pod, make_subnet, num, place_of

MISSING = say(Reason.SUBNET_NOT_FOUND, "absent", subnet="x")
DUAL = "10.3.0.0/29,fd00:3::/125"


@dataclass
class Cluster:
    """Some subnets; `full` ones have no room."""

    cidrs: dict[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def place(self, name: str) -> Place:
        if name not in self.cidrs:
            return Place(name, None, None, switch=False, problem=MISSING)
        return place_of(make_subnet(name, self.cidrs[name]))

    def listing(self, namespace: Namespace) -> tuple[str, ...]:
        assert namespace.metadata.name == "default"
        return self.lists

    def default(self) -> str:
        return "ovn-default"

    def room(self, name: str) -> bool:
        return name not in self.full


def space(switches: str = "") -> Namespace:
    notes = {NOTE + "logical_switch": switches} if switches else {}
    return Namespace(metadata=Meta(name="default", annotations=notes))


THREE = Cluster({"a": "10.1.0.0/24", "b": "10.2.0.0/24", "dual": DUAL})
NOTHING = Ask()


# -- the subnet ------------------------------------------------------------------------------------


def test_a_pods_own_annotation_comes_first() -> None:
    """Before its namespace, its reservation and the default, also when there is no such subnet."""
    pod = make_pod(notes={"logical_switch": "x"})

    assert subnet_of(pod, space("a"), THREE, "b", NOTHING) == "x"


def test_a_namespaces_subnets_are_tried_in_order_of_room() -> None:
    """By live IPAM (W34); if all are full the first one's refusal is told."""
    namespace = space(" a , b,")

    assert subnet_of(make_pod(), namespace, THREE, "", NOTHING) == "a"
    assert subnet_of(make_pod(), namespace, Cluster(full=("a",)), "", NOTHING) == "b"
    assert subnet_of(make_pod(), namespace, Cluster(full=("a", "b")), "", NOTHING) == "a"


def test_a_reservation_picks_among_the_namespaces_subnets() -> None:
    """But does not leave them: then the choice above it stands and the pod is told what differs."""
    assert subnet_of(make_pod(), space("a,b"), Cluster(full=("b",)), "b", NOTHING) == "b"
    assert subnet_of(make_pod(), space("a"), THREE, "b", NOTHING) == "a"


def test_a_named_address_picks_the_subnet_that_it_lies_in() -> None:
    """Bug row 49: the refusal must be that of the subnet the address belongs to."""
    namespace = space("a,missing,b,dual")

    assert subnet_of(make_pod(), namespace, THREE, "", asks("10.2.0.9")) == "b"
    assert subnet_of(make_pod(), namespace, THREE, "", asks(pool=("10.2.0.9",))) == "b"
    assert subnet_of(make_pod(), namespace, THREE, "", asks("10.3.0.3", "fd00:3::3")) == "dual"
    assert subnet_of(make_pod(), namespace, THREE, "", asks("10.2.0.9", "fd00:3::3")) == "a"
    assert subnet_of(make_pod(), namespace, THREE, "", asks("10.9.9.9")) == "a"


def test_a_subnet_that_lists_the_namespace_comes_next() -> None:
    """When the namespace itself names none."""
    assert subnet_of(make_pod(), space(), Cluster(lists=("b",)), "", NOTHING) == "b"
    assert subnet_of(make_pod(), space("a"), Cluster(lists=("b",)), "", NOTHING) == "a"


def test_a_reservation_comes_before_the_default() -> None:
    """When nothing above made a choice (contract §4)."""
    assert subnet_of(make_pod(), space(), THREE, "b", NOTHING) == "b"
    assert subnet_of(make_pod(), space(), THREE, "", NOTHING) == "ovn-default"
    assert subnet_of(make_pod(), None, THREE, "", NOTHING) == "ovn-default"


def test_a_place_says_what_wakes_those_who_wait_for_it() -> None:
    """Its own name, also before it exists; and the provider of a subnet that names none is ovn."""
    absent = THREE.place("x")

    assert absent.waits == (("subnet", "x"),)
    assert absent.provider == "ovn"
    assert place_of(make_subnet(provider="")).provider == "ovn"
    assert place_of(make_subnet(provider="n.d.ovn")).provider == "n.d.ovn"


# -- what a pod asks for ---------------------------------------------------------------------------


def test_a_pod_without_annotations_asks_for_nothing() -> None:
    """Any address will do."""
    assert ask_of(make_pod()) == Ask()


def test_an_address_a_mac_and_a_list_are_read() -> None:
    """One address comes before a list."""
    both = make_pod(notes={"ip_address": "10.0.0.2", "mac_address": MAC, "ip_pool": "10.0.0.3"})
    pool = make_pod(notes={"ip_pool": "10.0.0.3,10.0.0.4"})

    assert ask_of(both) == asks("10.0.0.2", mac=MAC)
    assert ask_of(pool) == asks(pool=("10.0.0.3", "10.0.0.4"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("ip_address", "10.0.0.300"),
        ("ip_address", "10.0.0.2,10.0.0.3"),
        ("ip_address", "FD00::2"),
        ("mac_address", "0A:00:00:00:00:01"),
        ("mac_address", "01:00:00:00:00:01"),
        ("ip_pool", "10.0.0.2;x"),
        ("ip_pool", "my-pool"),
        ("ip_pool", ","),
        ("ip_pool", " ; "),
        ("ip_pool", "10.0.0.2/24"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_annotation(key: str, text: str) -> None:
    """Nothing fails silently (contract §8): an unreadable request is no request for anything else."""
    with pytest.raises(Refused) as refused:
        ask_of(make_pod(notes={key: text}))

    assert refused.value.message.reason is Reason.VALIDATE_POD_NETWORK_FAILED
    assert NOTE + key in refused.value.message.text


def test_a_pool_by_name_is_not_served_and_says_so() -> None:
    """Known limit; the message says what to write instead."""
    with pytest.raises(Malformed, match="write addresses"):
        parse_pool("my-pool")


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("10.0.0.2", (Entry(num("10.0.0.2")),)),
        ("10.0.0.2,10.0.0.3", (Entry(num("10.0.0.2")), Entry(num("10.0.0.3")))),
        ("10.0.0.2,fd00::2", (Entry(num("10.0.0.2"), num("fd00::2")),)),
        ("fd00::2, 10.0.0.2", (Entry(num("10.0.0.2"), num("fd00::2")),)),
        ("10.0.0.2;10.0.0.3,fd00::3;", (Entry(num("10.0.0.2")), Entry(num("10.0.0.3"), num("fd00::3")))),
        ("fd00::2,fd00::3", (Entry(None, num("fd00::2")), Entry(None, num("fd00::3")))),
        ("10.0.0.2,10.0.0.3,fd00::2", (Entry(num("10.0.0.2")), Entry(num("10.0.0.3")), Entry(None, num("fd00::2")))),
    ],
)
def test_a_list_is_read_as_kube_ovn_reads_it(text: str, entries: tuple[Entry, ...]) -> None:
    """`;` between entries, or `,`; two of different families are one entry (kube-ovn-behaviour §8.8)."""
    assert parse_pool(text) == entries


@given(st.text())
def test_any_text_is_read_or_malformed(text: str) -> None:
    """Users can write anything."""
    for parse in (parse_entry, parse_pool):
        with contextlib.suppress(Malformed):
            assert parse(text)
