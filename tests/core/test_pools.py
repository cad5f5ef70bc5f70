from __future__ import annotations

from ipaddress import ip_address, ip_network, summarize_address_range

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.addresses import Cidr, parse_cidrs
from controller.core.faults import Malformed
from controller.core.ipam import FamilyPlan
from controller.core.pools import address_set, read_items
from controller.core.ranges import RangeSet

SLASH_28 = FamilyPlan(Cidr.parse("10.0.0.0/28"), None, RangeSet())


def region(*items: str) -> str:
    return read_items(items).region(SLASH_28).render(4)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("10.0.0.5", "10.0.0.5"),
        (" 10.0.0.5 ", "10.0.0.5"),
        ("10.0.0.5..10.0.0.9", "10.0.0.5-10.0.0.9"),
        ("10.0.0.6/30", "10.0.0.4-10.0.0.7"),
        ("10.0.0.5/32", "10.0.0.5"),
        ("10.0.0.0/24", "10.0.0.1-10.0.0.14"),
        ("10.0.1.1", ""),
        ("fd00::5", ""),
        ("", ""),
    ],
)
def test_an_item_is_an_address_a_range_or_a_block(item: str, expected: str) -> None:
    assert read_items([item]).faults == ()
    assert region(item) == expected


def test_items_are_one_set_whatever_their_order() -> None:
    assert region("10.0.0.9", "10.0.0.4/31", "10.0.0.5..10.0.0.8") == "10.0.0.4-10.0.0.9"


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("10.0.0.5-10.0.0.9", "write two dots between first and last"),
        ("10.0.0.9..10.0.0.5", "write 10.0.0.5..10.0.0.9"),
        ("10.0.0.5..fd00::1", "mixes IPv4 and IPv6"),
        ("10.0.0.300", "is not an IP address"),
        ("10.0.0.5..", "is not an IP address"),
        ("10.0.0.5/33", "has no usable prefix length"),
        ("pool", "is not an IP address"),
        ("\x00\ud800", "is not an IP address"),
    ],
)
def test_what_cannot_be_read_is_said_and_the_rest_counts(item: str, told: str) -> None:
    items = read_items(["10.0.0.3", item])

    assert told in items.faults[0]
    assert items.region(SLASH_28).render(4) == "10.0.0.3"


def test_upper_case_is_the_same_address() -> None:
    assert address_set(read_items(["FD00::A"])) == ("fd00::a",)


def test_items_outside_of_the_subnet_are_named() -> None:
    items = read_items(["10.0.0.5", "10.0.0.14..10.0.0.17", "fd00::5", "10.0.0.0/27"])

    assert items.outside(parse_cidrs("10.0.0.0/28")) == ("10.0.0.14..10.0.0.17", "fd00::5", "10.0.0.0/27")
    assert items.outside(parse_cidrs("10.0.0.0/27,fd00::/64")) == ()


def test_an_address_set_holds_what_kube_ovn_writes() -> None:
    """The first two are upstream's own examples."""
    assert address_set(read_items(["10.0.0.1..10.0.0.5"])) == ("10.0.0.1", "10.0.0.2/31", "10.0.0.4/31")
    assert address_set(read_items(["2001:db8::1..2001:db8::4"])) == ("2001:db8::1", "2001:db8::2/127", "2001:db8::4")
    assert address_set(read_items(["10.0.0.9", "10.0.0.5/30", "10.0.0.9/32"])) == ("10.0.0.4/30", "10.0.0.9")
    assert address_set(read_items(["0.0.0.0..255.255.255.255"])) == ("0.0.0.0/0",)
    assert address_set(read_items([])) == ()


def test_an_address_set_has_one_family() -> None:
    with pytest.raises(Malformed, match="mixes"):
        address_set(read_items(["10.0.0.5", "fd00::5"]))


@given(st.integers(0, 2**32 - 1), st.integers(0, 5000))
def test_a_range_becomes_the_fewest_blocks(first: int, more: int) -> None:
    last = min(first + more, 2**32 - 1)
    ends = ip_address(first), ip_address(last)
    expected = {net.exploded.removesuffix("/32") for net in summarize_address_range(*ends)}

    found = address_set(read_items([f"{ends[0]}..{ends[1]}"]))

    assert set(found) == expected
    assert sum(ip_network(text).num_addresses for text in found) == last - first + 1


@given(st.lists(st.text(max_size=30)))
def test_any_text_is_read_or_refused(texts: list[str]) -> None:
    items = read_items(texts)

    assert len(items.spans) + len(items.faults) == len([text for text in texts if text.strip()])
