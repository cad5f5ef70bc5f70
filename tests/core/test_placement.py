"""Which subnet a pod belongs to and what it asks for there (contract §4)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import naming
from controller.core.addresses import Family
from controller.core.catalogue import Reason, say
from controller.core.decisions.entitlement import Attachment
from controller.core.decisions.networks import Nic
from controller.core.decisions.placement import (
    Ask,
    Entry,
    Home,
    Place,
    Refused,
    Seat,
    ask_of,
    home_of,
    home_of_nic,
    parse_entry,
    parse_pool,
    subnet_of,
)
from controller.core.faults import Malformed
from controller.core.ipam import FAMILIES
from controller.core.objects import Meta, Namespace, Pod
from tests.core.worlds import MAC, NOTE, asks, make_pod, make_subnet, num, place_of

NO_POOL = say(Reason.POOL_NOT_FOUND, "absent", pool="x")
MISSING = say(Reason.SUBNET_NOT_FOUND, "absent", subnet="x")
DUAL = "10.3.0.0/29,fd00:3::/125"


@dataclass
class Cluster:
    """Some subnets; `full` ones have no room."""

    cidrs: dict[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()
    full: tuple[str, ...] = ()  # subnets, and pools
    kept: str = ""  # where the port has an address
    pools: dict[str, str] = field(default_factory=dict)  # pool -> subnet
    broken: tuple[str, ...] = ()  # pools
    bindings: dict[str, tuple[str, ...]] = field(default_factory=dict)  # provider -> subnets

    def place(self, name: str) -> Place:
        if name not in self.cidrs:
            return Place(name, None, None, switch=False, problem=MISSING)
        return place_of(make_subnet(name, self.cidrs[name]))

    def listing(self, namespace: Namespace) -> tuple[str, ...]:
        assert namespace.metadata.name == "default"
        return self.lists

    def default(self) -> str:
        return "ovn-default"

    def bound(self, provider: str) -> tuple[str, ...]:
        return self.bindings.get(provider, ())

    def room(self, name: str, pool: str = "", families: tuple[Family, ...] = FAMILIES) -> bool:
        place = self.place(name)
        wanted = place.plan is None or set(families) & set(place.plan.families)
        return bool(wanted) and (pool or name) not in self.full

    def keeps(self, name: str) -> bool:
        return name == self.kept

    def seat(self, pool: str) -> Seat:
        subnet = self.pools.get(pool, "")
        return Seat(pool, subnet, NO_POOL if not subnet or pool in self.broken else None)


def space(switches: str = "", pools: str = "") -> Namespace:
    notes = {NOTE + "logical_switch": switches} if switches else {}
    notes |= {NOTE + "ip_pool": pools} if pools else {}
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
    assert subnet_of(make_pod(), namespace, THREE, "", asks(pool=("10.9.9.9", "10.2.0.9"))) == "b", "seed 59"
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


def test_a_port_stays_in_the_subnet_where_it_has_an_address() -> None:
    """As long as the namespace names it: a StatefulSet's pod does not move because others filled its subnet."""
    assert subnet_of(make_pod(), space("a,b"), Cluster(kept="b"), "", NOTHING) == "b"
    assert subnet_of(make_pod(), space("a,b"), Cluster(kept="c"), "", NOTHING) == "a"


# -- the pool --------------------------------------------------------------------------------------


def chosen(pod: Pod, namespace: Namespace | None, places: Cluster, reserved_in: str = "") -> Home:
    return home_of(pod, namespace, places, reserved_in, ask_of(pod))


POOLS = {"blue": "a", "red": "b"}


def test_a_pod_is_in_the_subnet_of_the_pool_that_it_names() -> None:
    """Contract §4: before its namespace's choice, behind its own annotation, with which it must agree."""
    pod, both = make_pod(notes={"ip_pool": "red"}), make_pod(notes={"ip_pool": "red", "logical_switch": "a"})
    places = replace(THREE, pools=POOLS)

    found = chosen(pod, space("a"), places)
    assert (found.subnet, found.pool, found.problem) == ("b", "red", None)
    assert chosen(make_pod(notes={"ip_pool": "red", "logical_switch": "b"}), None, places) == found
    wrong = chosen(both, space("a"), places)
    assert wrong.problem is not None
    assert wrong.problem.text.startswith("IPPool red is in subnet b, the pod is in subnet a")
    assert wrong.pools == (("pool", "red"),)


def test_a_pool_that_is_not_there_is_waited_for() -> None:
    """The subnet is what it would be without it: a reservation may be there."""
    found = chosen(make_pod(notes={"ip_pool": "red"}), space(), THREE, "c")

    assert found == Home("c", "red", NO_POOL, (("pool", "red"),))


def test_of_a_namespaces_pools_the_first_with_room_in_a_subnet_of_the_pod_is_taken() -> None:
    """Bug row 65: by live IPAM; who finds none waits for room in any of them."""
    both, places = space("a,b", "blue, red,later"), replace(THREE, pools=POOLS)
    topics = (("pool", "blue"), ("pool", "red"), ("pool", "later"))
    lines = (("space", "a", "blue"), ("space", "b", "red"))

    assert chosen(make_pod(), both, places) == Home("a", "blue", pools=topics, lines=lines)
    assert chosen(make_pod(), both, replace(places, full=("blue",))).pool == "red"
    assert chosen(make_pod(), both, replace(places, full=("blue", "red"))) == Home(
        "a", "blue", pools=topics, lines=lines
    )
    assert chosen(make_pod(), both, replace(places, broken=("blue",))).pool == "red"
    assert chosen(make_pod(), both, replace(places, kept="b")).pool == "red"
    assert chosen(make_pod(notes={"logical_switch": "b"}), both, places).pool == "red"
    assert chosen(make_pod(), both, Cluster(pools=POOLS)) == Home("a", "blue", pools=topics)


def test_a_namespace_whose_pools_are_all_elsewhere_gives_nothing() -> None:
    """As Kube-OVN does; what a port has already it keeps."""
    places = replace(THREE, pools=POOLS)

    found = chosen(make_pod(), space("a,dual", "red,later"), places)
    assert found.problem is not None
    assert found.problem.text.endswith("of red, later none exists in subnet a, dual without an error")
    assert (found.subnet, found.pools) == ("a", (("pool", "red"), ("pool", "later")))
    assert chosen(make_pod(), space("", "red"), places).subnet == "ovn-default"
    kept = chosen(make_pod(), space("a,dual", "red"), replace(places, kept="dual"))
    assert (kept.subnet, kept.pool, kept.problem) == ("dual", "", None)


def test_who_names_an_address_or_has_a_reservation_needs_no_pool() -> None:
    """Static requests may take an address of any pool."""
    both, places = space("a,b", "red"), replace(THREE, pools=POOLS)

    assert chosen(make_pod(notes={"ip_address": "10.1.0.9"}), both, places) == Home("a")
    assert chosen(make_pod(notes={"ip_pool": "10.1.0.9,10.1.0.8"}), both, places) == Home("a")
    assert chosen(make_pod(), both, places, "a") == Home("a")


def test_who_finds_no_subnet_with_room_waits_for_all_of_them() -> None:
    """And one that wants a single family stands in that family's line."""
    places = replace(THREE, full=("a", "dual"))

    assert chosen(make_pod(), space("a,missing,dual"), places).lines == (("space", "a"), ("space", "dual"))
    one = make_pod(notes={"ip_family": "ipv6"})
    assert chosen(one, space("dual"), places).lines == (("space", "dual", "", "IPv6"),)


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
        ("ip_pool", "my-pool,10.0.0.2"),
        ("ip_pool", "my_pool"),
        ("ip_pool", "10.0.0.300"),
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


@pytest.mark.parametrize("name", ["my-pool", "123pool", " blue ", "a.b.c", "10.0.0.5-10.0.0.9"])
def test_a_single_word_that_is_no_address_names_a_pool(name: str) -> None:
    """It says where the pod is, also when an address is named; Kubernetes' names may begin with a digit."""
    named = make_pod(notes={"ip_pool": name, "ip_address": "10.0.0.2"})

    assert ask_of(make_pod(notes={"ip_pool": name})) == Ask(pool_name=name.strip())
    assert ask_of(named) == replace(asks("10.0.0.2"), pool_name=name.strip())


@pytest.mark.parametrize(("text", "families"), [("ipv4", (4,)), ("IPv6", (6,)), (" ipv4 ", (4,)), ("", (4, 6))])
def test_one_family_of_two_may_be_asked_for(text: str, families: tuple[Family, ...]) -> None:
    """Nothing else of a list is looked at then."""
    pod = make_pod(notes={"ip_family": text, "ip_pool": "10.0.0.2,fd00::2;10.0.0.3,fd00::3"})
    four, six = [num("10.0.0.2"), num("10.0.0.3")], [num("fd00::2"), num("fd00::3")]

    found = ask_of(pod)

    assert found.families == families
    assert [e.v4 for e in found.pool] == (four if 4 in families else [None, None])
    assert [e.v6 for e in found.pool] == (six if 6 in families else [None, None])


@pytest.mark.parametrize(
    "notes",
    [
        {"ip_family": "ipv4", "ip_address": "fd00::2"},
        {"ip_family": "ipv6", "ip_pool": "10.0.0.2;10.0.0.3"},
        {"ip_family": "dual"},
        {"ip_family": "9" * 5000},
    ],
)
def test_a_family_that_fits_nothing_is_refused(notes: dict[str, str]) -> None:
    """Whoever asks for one family and names addresses of the other only is told so."""
    with pytest.raises(Refused, match="ip_family"):
        ask_of(make_pod(notes=notes))


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


# -- further NICs -----------------------------------------------------------------------------------

NIC = Nic("n.d.ovn", "n.d.ovn", Attachment("d", "n"))


def bound(*names: str, **more: Any) -> Cluster:
    return Cluster(THREE.cidrs, bindings={"n.d.ovn": names}, **more)


@pytest.mark.parametrize(
    ("places", "notes", "reserved_in", "ask", "gets"),
    [
        (bound(), {}, "", Ask(), ""),
        (bound("a", "b"), {}, "", Ask(), "a"),
        (bound("a", "b", full=("a",)), {}, "", Ask(), "b"),
        (bound("a", "b", full=("a", "b")), {}, "", Ask(), "a"),
        (bound("a", "b", kept="b"), {}, "", Ask(), "b"),
        (bound("a", "b", kept="a"), {}, "", asks("10.2.0.5"), "b"),
        (bound("a", "b"), {}, "b", asks("10.1.0.5"), "b"),
        (bound("a", "b"), {"n.d.ovn.kubernetes.io/logical_switch": "c"}, "b", Ask(), "c"),
        (bound("a", "b", pools={"p": "b"}), {}, "", Ask(pool_name="p"), "b"),
        (bound("a", "b", pools={"p": "b"}), {"n.d.ovn.kubernetes.io/logical_switch": "a"}, "", Ask(pool_name="p"), "a"),
    ],
)
def test_a_further_nics_subnet_is_one_of_its_provider(
    places: Cluster, notes: dict[str, str], reserved_in: str, ask: Ask, gets: str
) -> None:
    """The one it names, that of its reservation, of its address, of what it has, the first with room."""
    home = home_of_nic(make_pod(notes=notes), NIC, places, reserved_in, ask)

    assert home.subnet == gets
    assert home.pool == ask.pool_name
    assert (home.problem is None) == (not ask.pool_name or places.pools["p"] == gets)


def test_what_a_nic_asks_for_is_written_under_its_provider() -> None:
    notes = {
        "n.d.ovn.kubernetes.io/ip_pool": "10.1.0.2,10.1.0.3",
        "n.d.ovn.kubernetes.io/ip_family": "ipv4",
        "ip_address": "10.0.0.9",
    }

    assert ask_of(make_pod(notes=notes), NIC) == Ask(pool=asks(pool=("10.1.0.2", "10.1.0.3")).pool, families=(4,))
    with pytest.raises(Refused, match=r"n\.d\.ovn\.kubernetes\.io/ip_family"):
        ask_of(make_pod(notes={"n.d.ovn.kubernetes.io/ip_family": "x"}), NIC)
    with pytest.raises(Refused, match=naming.NETWORKS):
        ask_of(make_pod(), replace(NIC, ips=("x",)))
