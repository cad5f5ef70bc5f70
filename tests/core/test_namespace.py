"""A namespace's annotations name the subnets that list or select it (kube-ovn-behaviour §4.6)."""

from __future__ import annotations

import pytest

from controller.core.decisions.namespace import View, decide, lists, selects
from controller.core.effects import Decision
from controller.core.objects import Kind, LabelExpression, LabelSelector, Meta, Namespace, Subnet
from tests.core.worlds import NOTE, NOW, SLASH_29, STAMP, make_subnet, patch_of

NET = make_subnet()
LISTING = make_subnet("lists", "10.1.0.0/24", namespaces=("team",), exclude_ips=("10.1.0.1", "10.1.0.9"))
ELSEWHERE = make_subnet("elsewhere", "10.2.0.0/24", namespaces=("other",))


def team(*, deleting: bool = False, labels: dict[str, str] | None = None, **notes: str) -> Namespace:
    annotations = {NOTE + key: value for key, value in notes.items()}
    stamp = STAMP if deleting else None
    return Namespace(
        metadata=Meta(
            name="team",
            uid="u",
            resource_version="4",
            annotations=annotations,
            labels=labels or {},
            deletion_timestamp=stamp,
        )
    )


def decided(namespace: Namespace | None, listing: tuple[Subnet, ...] = (), named: tuple[Subnet, ...] = ()) -> Decision:
    return decide(View(namespace, listing, named), NOW)


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
    }


def test_what_is_written_already_stays() -> None:
    """Rule 4."""
    namespace = team(logical_switch="lists", cidr="10.1.0.0/24", exclude_ips="10.1.0.1,10.1.0.9")

    assert decided(namespace, (LISTING,), (LISTING,)) == Decision()


def test_a_subnet_named_by_hand_keeps_its_place() -> None:
    """A person's choice comes first, those that list the namespace follow."""
    found = changed(decided(team(logical_switch="net"), (LISTING,), (NET,)))

    assert found["logical_switch"] == "net,lists"
    assert found["cidr"] == f"{SLASH_29};10.1.0.0/24"


def test_a_subnet_that_is_gone_goes() -> None:
    """Bug row 24: an annotation that names a deleted subnet must not stay."""
    assert changed(decided(team(logical_switch="gone", cidr="x"))) == {"logical_switch": None, "cidr": None}


def test_a_subnet_that_lists_others_now_goes() -> None:
    """Its list is the truth about it."""
    assert changed(decided(team(logical_switch="elsewhere"), (), (ELSEWHERE,))) == {"logical_switch": None}


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

    assert lists(LISTING, team())
    assert not lists(ELSEWHERE, team())
    assert lists(selecting, team(labels={"a": "1"}))
    assert not lists(selecting, team())
