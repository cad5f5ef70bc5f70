"""A namespace's annotations name the subnets that list or select it (kube-ovn-behaviour §4.6)."""

from __future__ import annotations

import pytest

from controller.core.decisions.namespace import View, decide, lists, selects
from controller.core.effects import Decision
from controller.core.naming import BOUND
from controller.core.neighbours import Pool, PoolSpec
from controller.core.objects import (
    Kind,
    LabelExpression,
    LabelSelector,
    Meta,
    Namespace,
    Subnet,
)
from tests.core.worlds import NOTE, NOW, SLASH_29, STAMP, make_subnet, patch_of

NET = make_subnet()
LISTING = make_subnet("lists", "10.1.0.0/24", namespaces=("team",), exclude_ips=("10.1.0.1", "10.1.0.9"))
LISTED = {"logical_switch": "lists", "cidr": "10.1.0.0/24", "exclude_ips": "10.1.0.1,10.1.0.9"}
ELSEWHERE = make_subnet("elsewhere", "10.2.0.0/24", namespaces=("other",))


def team(notes: dict[str, str] | None = None, *, deleting: bool = False, **more: str) -> Namespace:
    annotations = {BOUND if key == "bound" else NOTE + key: value for key, value in ((notes or {}) | more).items()}
    stamp = STAMP if deleting else None
    return Namespace(
        metadata=Meta(
            name="team",
            uid="u",
            resource_version="4",
            annotations=annotations,
            deletion_timestamp=stamp,
        )
    )


def decided(
    namespace: Namespace | None,
    listing: tuple[Subnet, ...] = (),
    named: tuple[Subnet, ...] = (),
    pools: tuple[str, ...] = (),
    others_pools: tuple[Pool, ...] = (),
) -> Decision:
    return decide(View(namespace, listing, named, pools, others_pools), NOW)


def changed(decision: Decision) -> dict[str, str | None]:
    body = patch_of(decision, Kind.NAMESPACE)
    assert body["metadata"]["resourceVersion"] == "4"
    return {key.removeprefix(NOTE): value for key, value in body["metadata"]["annotations"].items()}


def test_a_namespace_that_nobody_lists_is_not_touched() -> None:
    """Nor one that is gone or going."""
    assert decided(team()) == Decision()
    assert decided(None) == Decision()
    assert decided(team(deleting=True), (LISTING,)) == Decision()


def test_a_subnet_that_lists_a_namespace_is_written_on_it() -> None:
    """Name, CIDR and excludeIps, guarded by the version that was seen."""
    assert changed(decided(team(), (LISTING,))) == {
        "logical_switch": "lists",
        "cidr": "10.1.0.0/24",
        "exclude_ips": "10.1.0.1,10.1.0.9",
        BOUND: "subnet/lists",
    }


def test_what_is_written_already_stays() -> None:
    """Rule 4."""
    assert decided(team(LISTED, bound="subnet/lists"), (LISTING,), (LISTING,)) == Decision()
    assert decided(team(logical_switch="net", cidr=SLASH_29, exclude_ips="10.0.0.1"), (), (NET,)) == Decision()


def test_a_subnet_named_by_hand_keeps_its_place() -> None:
    """A person's choice comes first, those that list the namespace follow."""
    found = changed(decided(team(logical_switch="net"), (LISTING,), (NET,)))

    assert found["logical_switch"] == "net,lists"
    assert found[BOUND] == "subnet/lists"
    assert found["cidr"] == f"{SLASH_29};10.1.0.0/24"


def test_a_subnet_that_is_gone_goes() -> None:
    """Bug row 24: an annotation that names a deleted subnet must not stay."""
    assert changed(decided(team(logical_switch="gone", cidr="x"))) == {"logical_switch": None, "cidr": None}


def test_what_we_wrote_goes_when_the_subnet_lists_nobody_any_more() -> None:
    """The last namespace of a list is taken off it: nothing but our own mark tells it from a person's choice."""
    freed = make_subnet("lists", "10.1.0.0/24", exclude_ips=("10.1.0.1", "10.1.0.9"))
    namespace = team(LISTED, bound="subnet/lists")

    assert changed(decided(namespace, (), (freed,))) == {
        "logical_switch": None,
        "cidr": None,
        "exclude_ips": None,
        BOUND: None,
    }


@pytest.mark.parametrize("subnet", [NET, ELSEWHERE, LISTING])
def test_what_a_person_wrote_is_never_removed(subnet: Subnet) -> None:
    """Whatever the subnet lists, and also after it listed this namespace for a while."""
    name, ips = subnet.metadata.name, ",".join(subnet.spec.exclude_ips)
    wrote = team(logical_switch=name)
    beside = {"logical_switch": name, "cidr": subnet.spec.cidr_block, "exclude_ips": ips}

    assert changed(decided(wrote, (), (subnet,))).get("logical_switch", name) == name
    assert decided(team(beside, bound=""), (), (subnet,)) == Decision()
    assert decided(team(beside, bound=""), (subnet,), (subnet,)) == Decision()


def test_what_an_older_kube_ovn_wrote_is_taken_over() -> None:
    """It has no mark of ours: who lists the namespace wrote it, and who lists others certainly not any more."""
    beside = {"logical_switch": "lists,elsewhere,net", "cidr": "x", "exclude_ips": "y"}
    found = changed(decided(team(beside), (LISTING,), (LISTING, ELSEWHERE, NET)))

    assert found["logical_switch"] == "lists,net"
    assert found[BOUND] == "subnet/lists"


def test_pools_that_list_a_namespace_are_written_on_it() -> None:
    """In order of their names, behind what a person wrote; that one stays, also while there is no such pool."""
    assert changed(decided(team(), pools=("blue", "red"))) == {
        "ip_pool": "blue,red",
        BOUND: "ippool/blue,ippool/red",
    }
    found = changed(decided(team(ip_pool=" later,red "), pools=("blue", "red")))
    assert found == {"ip_pool": "later,red,blue", BOUND: "ippool/blue,ippool/red"}
    assert decided(team(ip_pool=" later, red")) == Decision()
    assert decided(team(ip_pool="later,red,blue", bound="ippool/blue"), pools=("blue", "red")) == Decision()


def test_a_pool_that_lists_the_namespace_no_more_goes() -> None:
    """Ours by its mark, Kube-OVN's by what it lists now; a person's own entry stays."""
    elsewhere = Pool(metadata=Meta(name="blue"), spec=PoolSpec(namespaces=("other",)))

    assert changed(decided(team(ip_pool="red,blue", bound="ippool/blue"))) == {"ip_pool": "red", BOUND: ""}
    assert changed(decided(team(ip_pool="blue", bound="ippool/blue"))) == {"ip_pool": None, BOUND: None}
    assert decided(team(ip_pool="blue"), others_pools=(elsewhere,)) == Decision()
    legacy = team(ip_pool="blue", logical_switch="net", cidr=SLASH_29, exclude_ips="10.0.0.1")
    assert changed(decided(legacy, (), (NET,), (), (elsewhere,))) == {"ip_pool": None, BOUND: ""}


@pytest.mark.parametrize(
    ("expression", "yes"),
    [
        (LabelExpression(key="a", operator="In", values=("1", "2")), True),
        (LabelExpression(key="a", operator="In", values=("2",)), False),
        (LabelExpression(key="b", operator="In", values=("1",)), False),
        (LabelExpression(key="a", operator="NotIn", values=("1",)), False),
        (LabelExpression(key="a", operator="NotIn", values=("2",)), True),
        (LabelExpression(key="b", operator="NotIn", values=("2",)), True),
        (LabelExpression(key="a", operator="Exists"), True),
        (LabelExpression(key="b", operator="Exists"), False),
        (LabelExpression(key="a", operator="DoesNotExist"), False),
        (LabelExpression(key="b", operator="DoesNotExist"), True),
        (LabelExpression(key="a", operator="Resembles"), False),
    ],
)
def test_a_selector_means_what_kubernetes_says(expression: LabelExpression, *, yes: bool) -> None:
    """An operator that nobody knows selects nothing."""
    assert selects(LabelSelector(match_expressions=(expression,)), {"a": "1"}) is yes


def test_all_of_a_selector_must_hold() -> None:
    """Labels and expressions together; an empty selector selects nobody."""
    both = LabelSelector(match_labels={"a": "1"}, match_expressions=(LabelExpression(key="b", operator="Exists"),))

    assert selects(both, {"a": "1", "b": ""})
    assert not selects(both, {"a": "1"})
    assert not selects(both, {"a": "2", "b": ""})
    assert not selects(LabelSelector(), {"a": "1"})


def test_a_subnet_lists_by_name_or_by_label() -> None:
    """spec.namespaces, or any of spec.namespaceSelectors."""
    selecting = make_subnet(namespace_selectors=(LabelSelector(), LabelSelector(match_labels={"a": "1"})))
    labelled = Namespace(metadata=Meta(name="team", labels={"a": "1"}))

    assert lists(LISTING, team())
    assert not lists(ELSEWHERE, team())
    assert lists(selecting, labelled)
    assert not lists(selecting, team())
