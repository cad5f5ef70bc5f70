"""Which subnets there are, which can be used, and how a pod comes to one."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.addresses import parse_address, parse_cidrs
from controller.core.catalogue import Message, Reason
from controller.core.decisions.subnet import Layout
from controller.core.objects import Condition, LabelSelector, Meta, Namespace, Subnet
from controller.machines.atlas import Atlas
from tests.core.worlds import make_subnet

DAYS = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 10)]
VALID = (Condition(type="Validated", status="True"),)


def atlas_of(*subnets: Subnet) -> Atlas:
    atlas = Atlas()
    for one in subnets:
        atlas.put(one.metadata.name, one)
    return atlas


def usable(atlas: Atlas) -> set[str]:
    return {name for name in "abcdef" if atlas.plan(name) is not None}


def old(name: str, cidr: str, day: int = 0, **more: object) -> Subnet:
    return make_subnet(name, cidr, created=DAYS[day], **more)  # type: ignore[arg-type]


# -- one subnet ------------------------------------------------------------------------------------


def test_a_subnet_gives_out_by_its_layout() -> None:
    """And is known as it was last heard of."""
    net = make_subnet()
    atlas = atlas_of(net)

    assert atlas.subnet("net") is net
    assert isinstance(atlas.layout("net"), Layout)
    assert atlas.plan("net") == atlas.place("net").plan
    assert atlas.place("net").problem is None


@pytest.mark.parametrize(("provider", "vpc"), [("", "ovn-cluster"), ("ovn", "ovn-cluster"), ("macvlan.default", "")])
def test_who_comes_before_the_defaults_of_a_subnet_are_written_is_told_the_same(provider: str, vpc: str) -> None:
    """Gateway, router and CIDR are annotations of the pod: nothing would ever put them right."""
    shown = (
        atlas_of(make_subnet("net", "10.0.0.9/24,fd00::/120", provider=provider, vpc="", gateway=""))
        .place("net")
        .subnet
    )
    assert shown is not None
    spec = shown.spec
    assert (spec.cidr_block, spec.gateway, spec.vpc) == ("10.0.0.0/24,fd00::/120", "10.0.0.1,fd00::1", vpc)
    assert spec.provider == (provider or "ovn")


def test_an_unknown_subnet_is_a_place_with_a_reason() -> None:
    """Also the one without a name, of a pod for which there is no default."""
    atlas = Atlas()

    assert atlas.subnet("x") is None
    assert atlas.overlap("x") is None
    assert atlas.put("x", None) == {"x"}
    for name, says in (("x", "subnet x does not exist"), ("", "spec.default true")):
        problem = atlas.place(name).problem
        assert problem is not None
        assert problem.reason is Reason.SUBNET_NOT_FOUND
        assert says in problem.text


def test_a_malformed_subnet_is_a_place_with_its_own_reason() -> None:
    """Nothing is given out of it, and nothing else is disturbed (contract §6)."""
    atlas = atlas_of(make_subnet("bad", "nonsense"), make_subnet())
    problem = atlas.place("bad").problem

    assert problem is not None
    assert "nonsense" in problem.text
    assert isinstance(atlas.layout("bad"), Message)
    assert atlas.plan("net") is not None


def test_a_subnet_that_is_going_gives_nothing_out() -> None:
    """Its users keep what they have."""
    atlas = atlas_of(make_subnet(deleting=True))
    problem = atlas.place("net").problem

    assert problem is not None
    assert "being deleted" in problem.text
    assert atlas.plan("net") is None


@pytest.mark.parametrize(("provider", "there"), [("ovn", False), ("n.d", True)])
def test_only_an_ovn_subnet_needs_a_switch(provider: str, *, there: bool) -> None:
    """Others' networks are not in Northbound."""
    atlas = Atlas(switches=lambda _name: False)
    atlas.put("net", make_subnet(provider=provider))

    assert atlas.place("net").switch is there


def test_room_means_a_free_address_of_each_family() -> None:
    """By live IPAM; an unusable subnet has none."""
    atlas = Atlas(has_room=lambda _name, family, pool: family == 4 and not pool)
    atlas.put("net", make_subnet())
    atlas.put("dual", make_subnet("dual", "10.1.0.0/29,fd00::/125"))

    assert atlas.room("net")
    assert not atlas.room("net", "blue")
    assert not atlas.room("net", families=(6,))
    assert not atlas.room("dual")
    assert atlas.room("dual", families=(4,))
    assert not atlas.room("x")


# -- overlap ---------------------------------------------------------------------------------------


def test_the_older_of_two_that_overlap_is_valid_whatever_comes_first() -> None:
    """A restart changes nothing about who is refused."""
    three = (old("a", "10.0.0.0/24", 2), old("b", "10.0.0.128/25", 1), old("c", "10.0.0.0/26", 3))
    for order in permutations(three):
        atlas = atlas_of(*order)
        assert usable(atlas) == {"b", "c"}
        overlap = atlas.overlap("a")
        assert overlap is not None
        assert "subnet b" in overlap.text


def test_of_two_of_one_second_the_first_by_name_is_valid() -> None:
    """Creation times have whole seconds."""
    for order in permutations((old("a", "10.0.0.0/24"), old("b", "10.0.0.0/24"))):
        assert usable(atlas_of(*order)) == {"a"}


def test_a_refused_subnet_comes_in_when_the_other_goes() -> None:
    """And everybody whose usability has changed is named."""
    atlas = atlas_of(old("a", "10.0.0.0/24"), old("b", "10.0.0.0/25", 1), old("c", "10.0.0.128/25", 2))

    assert usable(atlas) == {"a"}
    assert atlas.put("a", None) == {"a", "b", "c"}
    assert usable(atlas) == {"b", "c"}


def test_a_refused_subnet_comes_in_when_either_is_corrected() -> None:
    """CIDRs may change at any time (contract §6)."""
    atlas = atlas_of(old("a", "10.0.0.0/24"), old("b", "10.0.0.0/25", 1))
    assert "b" in atlas.put("a", old("a", "10.1.0.0/24"))
    assert usable(atlas) == {"a", "b"}
    atlas.put("b", old("b", "10.1.0.0/25", 1))
    assert usable(atlas) == {"a"}
    atlas.put("b", old("b", "10.2.0.0/25", 1))
    assert usable(atlas) == {"a", "b"}
    assert atlas.put("b", None) == {"b"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (old("a", "10.0.0.0/24"), old("b", "10.0.1.0/24", 1)),
        (old("a", "10.0.0.0/24"), old("b", "10.0.0.0/24", 1, vpc="mine")),
        (old("a", "10.0.0.0/24"), old("b", "10.0.0.0/24", 1, vlan="v")),
        (old("a", "10.0.0.0/24"), old("b", "10.0.0.0/24", 1, provider="n.d", vpc="")),
        (old("a", "10.0.0.0/24"), old("b", "fd00::/64", 1)),
    ],
)
def test_the_same_numbers_elsewhere_are_no_overlap(one: Subnet, other: Subnet) -> None:
    """Identical CIDRs in two VPCs never interfere (bug row 12)."""
    assert usable(atlas_of(one, other)) == {"a", "b"}


def test_overlap_of_one_family_is_overlap() -> None:
    """And the message names the two blocks."""
    atlas = atlas_of(old("a", "10.0.0.0/24,fd00::/64"), old("b", "10.1.0.0/24,fd00::/65", 1))
    overlap = atlas.overlap("b")

    assert overlap is not None
    assert "fd00::/65 overlaps fd00::/64" in overlap.text


CIDRS = [f"10.0.{n}.0/{p}" for n in range(4) for p in (22, 23, 24, 25)]
moves = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from([*CIDRS, "bad", ""]), st.integers(0, 8)), max_size=12
)


@given(moves)
def test_any_order_of_changes_ends_like_hearing_of_the_result_at_once(changes: list[tuple[str, str, int]]) -> None:
    """Usable subnets never overlap, and each refused one has an older usable one in its way."""
    atlas, last = Atlas(), {}
    for name, cidr, day in changes:
        last[name] = old(name, cidr, day) if cidr else None
        atlas.put(name, last[name])
    left = [one for one in last.values() if one is not None]
    fresh = atlas_of(*sorted(left, key=lambda one: one.metadata.name))

    assert usable(atlas) == usable(fresh)
    inside = [parse_cidrs(one.spec.cidr_block)[0] for one in left if one.metadata.name in usable(atlas)]
    assert not any(a.overlaps(b) for a in inside for b in inside if a is not b)
    for one in left:
        if one.metadata.name not in usable(atlas) and one.spec.cidr_block != "bad":
            assert atlas.overlap(one.metadata.name) is not None


# -- nodes -----------------------------------------------------------------------------------------


def test_a_new_subnet_may_not_contain_a_nodes_address() -> None:
    """In the default VPC's overlay; one that is validated already is not disturbed any more."""
    atlas = Atlas()
    atlas.put_node("n", [parse_address("10.0.0.9"), parse_address("10.0.0.9")])
    atlas.put("a", old("a", "10.0.0.0/24"))
    atlas.put("b", old("b", "10.0.0.0/24", 1, conditions=VALID))
    atlas.put("c", old("c", "10.0.0.0/24", 1, vpc="mine"))
    atlas.put("d", old("d", "10.0.0.0/24", 1, vlan="v"))
    atlas.put("e", old("e", "10.0.1.0/24", 1))
    atlas.put("f", old("f", "fd00::/64", 1))

    assert usable(atlas) == {"b", "c", "d", "e", "f"}
    overlap = atlas.overlap("a")
    assert overlap is not None
    assert "node n" in overlap.text


def test_a_node_above_a_subnet_is_not_in_it() -> None:
    """Nor is one that has left."""
    atlas = Atlas()
    atlas.put_node("n", [parse_address("10.0.1.9"), parse_address("fd00::9")])
    atlas.put_node("n", [parse_address("10.9.0.9")])
    atlas.put("a", old("a", "10.0.1.0/24"))
    atlas.put_node("n", [])
    atlas.put("b", old("b", "10.9.0.0/24", 1))

    assert usable(atlas) == {"a", "b"}


def test_a_subnet_is_judged_again_when_a_node_comes_or_goes() -> None:
    """Whatever order they are heard of in; and those that it kept out come in while it is out."""
    atlas = Atlas()
    atlas.put("a", old("a", "10.0.0.0/24"))
    atlas.put("b", old("b", "10.0.0.0/25", 1, conditions=VALID))
    assert usable(atlas) == {"a"}

    assert atlas.put_node("n", [parse_address("10.0.0.9")]) == {"a", "b"}
    assert usable(atlas) == {"b"}
    assert atlas.put_node("n", [parse_address("10.0.0.9")]) == set()
    assert atlas.put_node("n", [parse_address("10.7.0.9")]) == {"a", "b"}
    assert usable(atlas) == {"a"}


# -- how a pod comes to a subnet -------------------------------------------------------------------


def space(name: str, **labels: str) -> Namespace:
    return Namespace(metadata=Meta(name=name, labels=labels))


def test_a_namespace_is_listed_by_name_or_selected_by_label() -> None:
    """Answered from indexes, and forgotten with the subnet."""
    selector = (LabelSelector(match_labels={"a": "1"}),)
    atlas = atlas_of(
        make_subnet("b", "10.1.0.0/24", namespaces=("team", "other")),
        make_subnet("a", "10.2.0.0/24", namespaces=("team",)),
        make_subnet("c", "10.3.0.0/24", namespace_selectors=selector),
    )

    assert atlas.listing(space("team")) == ("a", "b")
    assert atlas.listing(space("other", a="1")) == ("b", "c")
    assert atlas.selecting() == {"c"}
    atlas.put("b", None)
    atlas.put("c", None)
    assert atlas.listing(space("other", a="1")) == ()
    assert atlas.listing(space("team")) == ("a",)


def test_the_default_is_the_subnet_that_says_so() -> None:
    """Else ovn-default; of two, the first by name."""
    atlas = atlas_of(make_subnet("b", "10.1.0.0/24", default=True), make_subnet("a", "10.2.0.0/24", default=True))

    assert atlas.default() == "a"
    atlas.put("a", None)
    assert atlas.default() == "b"
    atlas.put("b", make_subnet("b", "10.1.0.0/24"))
    assert atlas.default() == "ovn-default"


def test_an_address_is_looked_for_in_every_usable_subnet() -> None:
    """For records that do not say where they are."""
    atlas = atlas_of(
        old("a", "10.0.0.0/24"), old("b", "10.0.0.0/24", vpc="mine"), old("c", "bad"), old("d", "fd00::/64")
    )

    assert set(atlas.containing(parse_address("10.0.0.9"))) == {"a", "b"}
    assert atlas.containing(parse_address("10.9.0.9")) == ()
