from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.addresses import Cidr, parse_address
from controller.core.faults import Impossible, Malformed
from controller.core.ranges import RangeSet, parse_ranges

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1])))
SLASH_28 = Cidr.parse("10.0.0.0/28")


def members(ranges: RangeSet) -> set[int]:
    return {value for first, last in ranges for value in range(first, last + 1)}


def spread(pairs: list[tuple[int, int]]) -> set[int]:
    return {value for first, last in pairs for value in range(first, last + 1)}


def v4(text: str) -> int:
    return parse_address(text).value


@given(PAIRS)
def test_a_set_has_the_members_of_its_intervals_sorted_disjoint_and_merged(pairs: list[tuple[int, int]]) -> None:
    ranges = RangeSet.of(pairs)

    assert members(ranges) == spread(pairs)
    assert ranges.size == len(spread(pairs))
    intervals = list(ranges)
    assert all(first <= last for first, last in intervals)
    assert all(one[1] + 1 < two[0] for one, two in pairwise(intervals))


@given(PAIRS)
def test_a_set_made_from_sorted_integers_is_the_same_set(pairs: list[tuple[int, int]]) -> None:
    ranges = RangeSet.from_sorted(sorted(spread(pairs)))

    assert ranges == RangeSet.of(pairs)
    assert hash(ranges) == hash(RangeSet.of(pairs))


@given(PAIRS, PAIRS)
def test_union_intersection_and_difference_are_those_of_sets(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    one, two = RangeSet.of(a), RangeSet.of(b)

    assert members(one | two) == spread(a) | spread(b)
    assert members(one & two) == spread(a) & spread(b)
    assert members(one - two) == spread(a) - spread(b)
    assert (one == two) == (spread(a) == spread(b))
    # The results are in normal form, or equality would lie.
    assert (one - two) | (one & two) == one


@given(PAIRS, st.integers(-1, 71))
def test_membership_and_the_end_of_an_interval(pairs: list[tuple[int, int]], value: int) -> None:
    ranges, inside = RangeSet.of(pairs), spread(pairs)

    assert (value in ranges) == (value in inside)
    end = ranges.end_of(value)
    if value not in inside:
        assert end is None
    else:
        assert end is not None
        assert set(range(value, end + 1)) <= inside
        assert end + 1 not in inside


def test_a_set_is_equal_to_sets_only_and_shows_its_intervals() -> None:
    assert RangeSet() != ()
    assert repr(RangeSet.of([(3, 4), (1, 2)])) == "RangeSet.of([(1, 4)])"


def test_a_reversed_interval_is_a_bug_of_ours() -> None:
    with pytest.raises(Impossible):
        RangeSet.of([(2, 1)])


def test_ipv6_sized_sets_cost_nothing() -> None:
    everything = RangeSet.of([(0, 2**128 - 1)])

    assert (everything - RangeSet.of([(5, 5)])).size == 2**128 - 1


def test_the_text_is_kube_ovns_status_form() -> None:
    ranges = RangeSet.of([(v4("10.0.0.1"), v4("10.0.0.3")), (v4("10.0.0.9"), v4("10.0.0.9"))])

    assert ranges.render(4) == "10.0.0.1-10.0.0.3,10.0.0.9"
    assert RangeSet.of([(1, 2)]).render(6) == "::1-::2"
    assert RangeSet().render(4) == ""


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], ""),
        (["10.0.0.5"], "10.0.0.5"),
        (["10.0.0.5..10.0.0.7", "10.0.0.1", "10.0.0.6..10.0.0.9"], "10.0.0.1,10.0.0.5-10.0.0.9"),
        (["10.0.0.5..10.0.0.5"], "10.0.0.5"),
        (["10.0.0.0"], ""),  # network: not usable anyway
        (["10.0.0.15"], ""),  # broadcast, too
        (["9.0.0.0..10.0.0.3", "10.0.0.12..11.0.0.0"], "10.0.0.1-10.0.0.3,10.0.0.12-10.0.0.14"),
        (["10.1.0.1", "9.0.0.1..9.0.0.9"], ""),  # bug row 45: outside the CIDR is harmless
        (["fd00::1", "10.0.0.2", "fd00::5..fd00::9"], "10.0.0.2"),
    ],
)
def test_exclude_ips_are_read_merged_and_clipped_to_what_is_usable(items: list[str], text: str) -> None:
    assert parse_ranges(items, SLASH_28).render(4) == text


def test_of_a_dual_stack_list_each_family_takes_its_own() -> None:
    items = ["10.0.0.2", "fd00::1", "fd00::5..fd00::9"]

    assert parse_ranges(items, Cidr.parse("fd00::/64")).render(6) == "fd00::1,fd00::5-fd00::9"


@pytest.mark.parametrize(
    "item",
    ["", "..", "10.0.0.1..", "..10.0.0.1", "10.0.0.1-10.0.0.2", "10.0.0.9..10.0.0.1", "10.0.0.1..fd00::1", "10.0.0.1 ",
     "10.0.0.1..10.0.0.2..10.0.0.3", "10.0.0.1...10.0.0.3", "10.0.0.0/30", "fd00::9..fd00::1", "FD00::1", "x"],
)  # fmt: skip
def test_one_bad_item_makes_the_list_malformed_also_in_the_other_family(item: str) -> None:
    with pytest.raises(Malformed):
        parse_ranges(["10.0.0.2", item], SLASH_28)


def test_a_reversed_range_is_shown_the_right_way_round() -> None:
    with pytest.raises(Malformed, match=r"write 10\.0\.0\.1\.\.10\.0\.0\.9$"):
        parse_ranges(["10.0.0.9..10.0.0.1"], SLASH_28)
