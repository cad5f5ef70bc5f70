"""decide() for one Subnet: normal form, logical switch, conditions, numbers, end (contract §6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.catalogue import Message, Reason, say
from controller.core.decisions.subnet import Layout, decide, layout_of
from controller.core.effects import Decision, DropSwitch, PutSwitch
from controller.core.ipam import Usage
from controller.core.objects import FINALIZER, OLD_FINALIZER, Condition, Kind, Subnet, SubnetStatus
from controller.core.ranges import RangeSet
from controller.core.rows import SwitchRow
from tests.core.worlds import (
    NOW,
    OURS,
    SLASH_29,
    book_of,
    layout,
    make_subnet,
    names,
    patch_of,
    shown,
    subnet_view,
    told,
)

DUAL = "10.0.0.0/29,fd00::/125"


def normalised(**spec: Any) -> dict[str, Any]:
    """The fields that the first look at a Subnet writes."""
    subnet = make_subnet(**spec)
    body = patch_of(decide(subnet_view(subnet), NOW), Kind.SUBNET)
    assert body["metadata"]["resourceVersion"] == "9"
    found: dict[str, Any] = body.get("spec", {})
    return found


def problem(**spec: Any) -> str:
    found = layout_of(make_subnet(**spec))
    assert isinstance(found, Message), found
    assert found.reason is Reason.SUBNET_INVALID
    return found.text


# -- normal form -----------------------------------------------------------------------------------


def test_a_bare_subnet_gets_every_field_that_kube_ovn_fills_in() -> None:
    """Kube-OVN's normal form (kube-ovn-behaviour §13.1) and our finalizer, in one guarded patch."""
    bare = make_subnet(
        cidr="10.0.0.9/29", provider="", vpc="", protocol="", gateway_type="", enable_lb=None, finalizers=()
    )
    decision = decide(subnet_view(bare), NOW)

    assert names(decision) == ["PatchSubnet"]
    assert patch_of(decision, Kind.SUBNET) == {
        "metadata": {"resourceVersion": "9", "finalizers": [FINALIZER]},
        "spec": {
            "provider": "ovn",
            "vpc": "ovn-cluster",
            "protocol": "IPv4",
            "cidrBlock": "10.0.0.8/29",
            "gateway": "10.0.0.9",
            "excludeIps": ["10.0.0.9"],
            "gatewayType": "distributed",
            "enableLb": True,
        },
    }


def test_a_subnet_in_normal_form_is_not_written() -> None:
    """Rule 4."""
    decision = decide(subnet_view(make_subnet()), NOW)

    assert decision.effects == ()
    assert shown(decision) == {
        "Validated": ("True", "ValidateLogicalSwitchSuccess"),
        "Ready": ("True", "ResetLogicalSwitchAclSuccess"),
    }


def test_both_families_get_a_gateway() -> None:
    """The named one, else the first address; IPv4 first whatever the order."""
    fields = normalised(cidr="fd00::/125,10.0.0.0/29", gateway="fd00::6", protocol="")

    assert (fields["cidrBlock"], fields["gateway"]) == (DUAL, "10.0.0.1,fd00::6")
    assert (fields["protocol"], fields["excludeIps"]) == ("Dual", ["10.0.0.1", "fd00::6"])
    assert normalised(cidr="fd00::/125")["protocol"] == "IPv6"


def test_a_gateway_inside_an_excluded_range_is_excluded_already() -> None:
    """A range that contains it is enough; entries keep their order until one is added, then they are sorted."""
    covered = make_subnet(exclude_ips=("10.0.0.4", "10.0.0.1..10.0.0.2"))

    assert decide(subnet_view(covered), NOW).effects == ()
    assert normalised(exclude_ips=("10.0.0.5..10.0.0.6", "10.0.0.4"))["excludeIps"] == [
        "10.0.0.1",
        "10.0.0.4",
        "10.0.0.5..10.0.0.6",
    ]


@pytest.mark.parametrize(
    ("cidr", "gateway"), [("fd00::/125", "fd00::7"), ("fd00::/125", "fd00::"), ("10.1.0.0/29", "10.1.0.0")]
)
def test_a_gateway_at_the_edge_of_the_cidr_is_added_once(cidr: str, gateway: str) -> None:
    """Bug row 50a allows them; writing one more of it at every look would never end (Rule 4)."""
    first = normalised(cidr=cidr, gateway=gateway)
    again = layout(make_subnet(cidr=cidr, gateway=gateway, exclude_ips=tuple(first["excludeIps"])))

    assert first["excludeIps"] == [gateway]
    assert again.exclude_ips == (gateway,)


def test_the_old_finalizer_is_replaced() -> None:
    """Contract §1; other people's stay."""
    body = patch_of(decide(subnet_view(make_subnet(finalizers=("x.io/y", OLD_FINALIZER))), NOW), Kind.SUBNET)

    assert body["metadata"]["finalizers"] == ["x.io/y", FINALIZER]


def test_a_custom_vpc_has_no_gateway_type_and_another_network_no_vpc() -> None:
    """Both belong to the default VPC of OVN."""
    custom = decide(subnet_view(make_subnet(vpc="mine", gateway_type="")), NOW)
    other = decide(subnet_view(make_subnet(provider="macvlan.default", vpc="", gateway_type="", enable_lb=None)), NOW)

    assert custom.effects == other.effects == ()
    assert shown(other)["Ready"] == ("True", "SetNonOvnSubnetSuccess")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"cidr": ""}, "cidrBlock"),
        ({"cidr": "10.0.0.0"}, "prefix length"),
        ({"cidr": "10.0.0.1/32"}, "single address"),
        ({"cidr": "10.0.0.0/33"}, "prefix length"),
        ({"cidr": "10.0.0.0/29,10.1.0.0/29"}, "one family twice"),
        ({"gateway": "10.9.0.1"}, "not in the subnet's CIDR"),
        ({"gateway": "10.0.0.1,10.0.0.2"}, "two IPv4 gateways"),
        ({"gateway": "x"}, "gateway"),
        ({"exclude_ips": ("10.0.0.5..10.0.0.2",)}, "reversed"),
        ({"exclude_ips": ("10.0.0.2..fd00::1",)}, "mixes"),
        ({"exclude_ips": ("nonsense",)}, "excludeIps"),
        ({"exclude_ips": ("",)}, "excludeIps"),
        ({"notes": {"keepip.io/cooldown": "soon"}}, "not a number"),
        ({"notes": {"keepip.io/cooldown": "-1"}}, "between 0 and 86400"),
        ({"notes": {"keepip.io/cooldown": "nan"}}, "between 0 and 86400"),
    ],
)
def test_a_malformed_subnet_says_which_field_and_why(spec: dict[str, Any], says: str) -> None:
    """Contract §6: bad CIDR, /32, reversed excludes."""
    assert says in problem(**spec)


def test_a_subnet_that_breaks_its_schema_says_so() -> None:
    """The fault of the reading."""
    broken = Subnet(metadata=make_subnet().metadata, fault="spec.cidrBlock: expected str")
    found = layout_of(broken)

    assert isinstance(found, Message)
    assert "expected str" in found.text


@pytest.mark.parametrize(("text", "seconds"), [(None, 30.0), ("0", 0.0), ("5s", 5.0), ("1.5", 1.5)])
def test_a_cooldown_is_a_number_of_seconds(text: str | None, seconds: float) -> None:
    """Per subnet, 30 s by default (contract §5)."""
    notes = {} if text is None else {"keepip.io/cooldown": text}

    assert layout(make_subnet(notes=notes)).plan.cooldown == seconds


@given(st.text(), st.text(), st.lists(st.text(), max_size=3), st.none() | st.text())
def test_any_subnet_has_a_layout_or_a_reason(
    cidr: str, gateway: str, excludes: list[str], cooldown: str | None
) -> None:
    """Bug row 45: no text of a user ends anything."""
    notes = {} if cooldown is None else {"keepip.io/cooldown": cooldown}
    for block in (cidr, SLASH_29):
        subnet = make_subnet(cidr=block, gateway=gateway, exclude_ips=tuple(excludes), notes=notes)
        assert isinstance(layout_of(subnet), (Layout, Message))


# -- decide ----------------------------------------------------------------------------------------


def test_a_subnet_that_is_gone_needs_nothing() -> None:
    """Its key may come late."""
    assert decide(subnet_view(None), NOW) == Decision()


def test_a_missing_switch_is_made_before_the_status_says_ready() -> None:
    """`Ready` is an observation, so it waits for the row."""
    decision = decide(subnet_view(make_subnet(), switch=None), NOW)

    assert decision.effects == (PutSwitch("net"),)
    assert decision.status is None


def test_another_network_needs_no_switch() -> None:
    """Its addresses are given out all the same."""
    view = subnet_view(make_subnet(provider="macvlan.default", vpc="", gateway_type=""), switch=None)

    assert decide(view, NOW).effects == ()


BAD = {"Validated": ("False", "ValidateLogicalSwitchFailed"), "Ready": ("False", "ValidateLogicalSwitchFailed")}


def test_a_malformed_subnet_gets_conditions_and_nothing_else() -> None:
    """And an Event; it is neither normalised nor given a switch."""
    decision = decide(subnet_view(make_subnet(cidr="x", finalizers=()), switch=None), NOW)

    assert decision.effects == ()
    assert shown(decision) == {**BAD, "Error": ("True", "ValidateLogicalSwitchFailed")}
    assert told(decision) == ["ValidateLogicalSwitchFailed"]
    assert decision.refusal is not None


def test_an_overlap_is_said_like_a_bad_field() -> None:
    """By the subnet that came later."""
    overlap = say(Reason.SUBNET_INVALID, "overlap", cidr="a", other_cidr="b", other="older")
    decision = decide(subnet_view(make_subnet(), overlap=overlap), NOW)

    assert decision.refusal == overlap
    assert shown(decision)["Validated"] == BAD["Validated"]


def numbers(subnet: Subnet, **held: str) -> dict[str, Any]:
    decision = decide(subnet_view(subnet, usage=book_of(subnet, **held).usage("net")), NOW)
    assert decision.status is not None
    return {k: v for k, v in decision.status.body["status"].items() if k != "conditions"}


def test_the_numbers_come_from_one_snapshot() -> None:
    """Used + available + excluded = total, and ranges in Kube-OVN's spelling (bug row 43)."""
    subnet = make_subnet(
        cidr=DUAL, protocol="Dual", gateway="10.0.0.1,fd00::1", exclude_ips=("10.0.0.1", "10.0.0.4", "fd00::1")
    )

    assert numbers(subnet, a="10.0.0.2", b="10.0.0.3", c="10.0.0.4", d="fd00::2") == {
        "v4availableIPs": 2,
        "v4availableIPrange": "10.0.0.5-10.0.0.6",
        "v4usingIPs": 2,
        "v4usingIPrange": "10.0.0.2-10.0.0.3",
        "v6availableIPs": 4,
        "v6availableIPrange": "fd00::3-fd00::6",
        "v6usingIPs": 1,
        "v6usingIPrange": "fd00::2",
    }


def with_status(**fields: Any) -> Subnet:
    subnet = make_subnet()
    first = decide(subnet_view(subnet), NOW).status
    assert first is not None
    conditions = tuple(
        Condition(
            type=c["type"], status=c["status"], reason=c["reason"], message=c["message"], observed_generation=2,
            last_transition_time=c["lastTransitionTime"],
        )
        for c in first.body["status"]["conditions"]
    )  # fmt: skip
    status = SubnetStatus(conditions=(*fields.pop("extra", ()), *conditions), **fields)
    return Subnet(metadata=subnet.metadata, spec=subnet.spec, status=status)


SHOWN = {
    "v4_available": 5.0,
    "v4_available_range": "10.0.0.2-10.0.0.6",
    "v4_using": 0.0,
    "v4_using_range": "",
    "v6_available": 0.0,
    "v6_available_range": "",
    "v6_using": 0.0,
    "v6_using_range": "",
}


def test_numbers_that_are_shown_already_are_not_written_again() -> None:
    """Whole numbers come back as floats: equal as floats is equal."""
    subnet = with_status(**SHOWN)

    assert decide(subnet_view(subnet, usage=book_of(subnet).usage("net")), NOW) == Decision()
    assert numbers(with_status(**SHOWN | {"v4_using": 1.0}))["v4usingIPs"] == 0


def test_users_outside_the_cidr_are_kept_listed_and_reported() -> None:
    """CIDR may change at any time (contract §6)."""
    subnet = make_subnet()
    book = book_of(subnet, web__default="10.9.0.9")
    decision = decide(subnet_view(subnet, usage=book.usage("net")), NOW)

    assert shown(decision)["Error"] == ("True", "AddressesOutsideCIDR")
    assert decision.status is not None
    message = decision.status.body["status"]["conditions"][2]["message"]
    assert "web.default" in message
    assert "10.9.0.9" in message


def test_an_error_that_is_gone_is_cleared() -> None:
    """Kube-OVN never does; people's scripts wait for it (contract §6)."""
    error = Condition(type="Error", status="True", reason="AddressesOutsideCIDR", message="x", observed_generation=2)
    decision = decide(subnet_view(with_status(extra=(error,), **SHOWN)), NOW)

    assert shown(decision)["Error"] == ("False", "NoError")


def test_a_condition_of_a_subnet_carries_kube_ovns_update_time() -> None:
    """Its CRD has that field."""
    decision = decide(subnet_view(make_subnet()), NOW)

    assert decision.status is not None
    assert all("lastUpdateTime" in c for c in decision.status.body["status"]["conditions"])


# -- the end ---------------------------------------------------------------------------------------

SWITCH = SwitchRow("net", (("vendor", "kube-ovn"),), "switch-uuid")


def test_deletion_waits_for_the_last_user_and_names_who_is_left() -> None:
    """The finalizer is kept while anything uses it (contract §6)."""
    view = subnet_view(make_subnet(deleting=True), users=("a.default", "b.default"), user_count=12)
    decision = decide(view, NOW)

    assert decision.effects == ()
    assert shown(decision) == {"Ready": ("False", "SubnetInUse")}
    assert told(decision) == ["SubnetInUse"]
    assert decision.refusal is not None
    assert "12" in decision.refusal.text
    assert "b.default" in decision.refusal.text


def test_an_unused_subnet_goes_switch_first() -> None:
    """Then the finalizers, old and new (Rule 3)."""
    view = subnet_view(make_subnet(deleting=True, finalizers=("x.io/y", OLD_FINALIZER, FINALIZER)))
    decision = decide(view, NOW)

    assert decision.effects[0] == DropSwitch("net", "switch-uuid")
    assert patch_of(decision, Kind.SUBNET)["metadata"] == {"resourceVersion": "9", "finalizers": ["x.io/y"]}


def test_a_switch_of_another_system_is_left_alone() -> None:
    """Bug row 54."""
    foreign = SwitchRow("net", (("vendor", "other"),), "switch-uuid")

    assert names(decide(subnet_view(make_subnet(deleting=True), switch=foreign), NOW)) == ["PatchSubnet"]
    assert names(decide(subnet_view(make_subnet(deleting=True), switch=None), NOW)) == ["PatchSubnet"]


def test_a_subnet_that_we_do_not_hold_any_more_needs_nothing() -> None:
    """Somebody else's finalizer keeps it."""
    view = subnet_view(make_subnet(deleting=True, finalizers=("x.io/y",)), switch=None)

    assert decide(view, NOW) == Decision()


def test_a_malformed_subnet_can_be_deleted() -> None:
    """Bug row 41."""
    assert names(decide(subnet_view(make_subnet(cidr="x", deleting=True)), NOW)) == ["DropSwitch", "PatchSubnet"]


def test_usage_without_a_family_is_shown_as_nothing() -> None:
    """A v4-only subnet has no IPv6 numbers, but the fields are there."""
    only = {4: Usage(RangeSet(), RangeSet.of([(1, 3)]), 1, 4, ())}
    decision = decide(subnet_view(make_subnet(), usage=only), NOW)

    assert decision.status is not None
    assert decision.status.body["status"]["v6availableIPs"] == 0
    assert OURS == (FINALIZER,)
