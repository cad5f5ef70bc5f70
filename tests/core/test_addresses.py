from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.addresses import (
    Address,
    Cidr,
    Family,
    format_address,
    format_mac,
    parse_address,
    parse_cidrs,
    parse_mac,
    random_mac,
)
from controller.core.faults import Malformed

V4 = st.integers(0, 2**32 - 1)
# Every width of run, not only 128 random bits: compression, ::1 and ::/96 are where spellings differ.
V6 = st.builds(lambda value, mask: value & mask, st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1)) | st.integers(
    0, 2**34
)


def addr(text: str) -> Address:
    return parse_address(text)


@given(V4)
def test_ipv4_text_is_the_standard_librarys_and_reads_back(value: int) -> None:
    text = format_address(Address(4, value))

    assert text == str(ipaddress.IPv4Address(value))
    assert parse_address(text) == (4, value)


@given(V6.filter(lambda value: value >> 32 != 0xFFFF))
def test_ipv6_text_is_rfc_5952_and_reads_back(value: int) -> None:
    text = format_address(Address(6, value))

    assert text == str(ipaddress.IPv6Address(value))
    assert parse_address(text) == (6, value)


@given(V6.filter(lambda value: value >> 32 != 0xFFFF))
def test_ipv6_in_full_length_is_read_and_written_short(value: int) -> None:
    assert parse_address(ipaddress.IPv6Address(value).exploded) == (6, value)


@given(st.text())
def test_any_text_is_an_address_or_malformed(text: str) -> None:
    with suppress(Malformed):
        address = parse_address(text)
        assert parse_address(str(address)) == address


def test_a_message_shows_only_the_beginning_of_a_long_text() -> None:
    with pytest.raises(Malformed) as malformed:
        parse_address("x" * 1_000_000)

    assert len(str(malformed.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "10.0.0.1 ", " 10.0.0.1", "10.0.0.1\n", "10.0.0", "10.0.0.256", "10.0.0.01", "010.0.0.1", "1",
        "0x0a000001",
        "10.0.0.1/24", "10.0.0.1,10.0.0.2", "10.0.0.-1", "\u0661.0.0.1", "\0", "10.0.0.1\0", "\ud800",
        ":", ":::", "fd00::1::2", "fd00:0:1", "fd00::12345", "fe80::1%eth0", "fd00::1 ", "fd00::g", "[fd00::1]",
        "::ffff:10.0.0.1", "::10.0.0.1", "::ffff:a00:1", "fd00::10.0.0.1", "FD00::G",
    ],
)  # fmt: skip
def test_what_is_not_exactly_one_address_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_address(text)


def test_upper_case_is_refused_and_the_message_says_what_to_write() -> None:
    with pytest.raises(Malformed, match=r"write it in lower case: fd00::a$"):
        parse_address("FD00::A")


def test_a_text_that_is_not_canonical_is_read_and_written_canonically() -> None:
    assert str(addr("fd00:0::1")) == "fd00::1"


def test_addresses_sort_by_number_and_ipv4_first() -> None:
    assert sorted([addr("fd00::1"), addr("10.0.0.10"), addr("10.0.0.9")]) == [
        addr("10.0.0.9"),
        addr("10.0.0.10"),
        addr("fd00::1"),
    ]


@given(st.integers(1, 2**48 - 1).filter(lambda value: not value >> 40 & 1))
def test_a_mac_reads_back(value: int) -> None:
    assert parse_mac(format_mac(value)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("00:00:00:00:00:00", "unicast"),
        ("01:00:5e:00:00:01", "unicast"),
        ("ff:ff:ff:ff:ff:ff", "unicast"),
        ("0A:00:00:00:00:01", "write it in lower case: 0a:00:00:00:00:01"),
        ("0a-00-00-00-00-01", "not a MAC"),
        ("0a0000000001", "not a MAC"),
        ("a:0:0:0:0:1", "not a MAC"),
        ("0a:00:00:00:00:01\n", "not a MAC"),
        ("", "not a MAC"),
        ("0g:00:00:00:00:01", "not a MAC"),
        ("1" * 100_000, "not a MAC"),
    ],
)
def test_what_is_not_the_mac_of_one_interface_is_malformed(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse_mac(text)


@given(st.integers(0, 2**46 - 1))
def test_a_random_mac_is_locally_administered_and_unicast(dice: int) -> None:
    mac = random_mac(dice)

    assert mac >> 40 & 0b11 == 0b10
    assert parse_mac(format_mac(mac)) == mac
    assert random_mac((dice + 1) % 2**46) != mac
    assert random_mac(dice + 2**46) == mac


def test_every_bit_of_the_dice_shows_in_the_mac() -> None:
    assert len({random_mac(1 << bit) for bit in range(46)}) == 46


@given(V4 | V6.map(lambda value: value | 1 << 127), st.integers(0, 128))
def test_a_cidr_is_its_network_whatever_the_host_bits(value: int, prefix: int) -> None:
    family: Family = 4 if value < 2**32 else 6
    prefix = min(prefix, 31 if family == 4 else 127)
    text = f"{format_address(Address(family, value))}/{prefix}"
    network = ipaddress.ip_network(text, strict=False)

    cidr = Cidr.parse(text)

    assert str(cidr) == str(network)
    assert cidr.broadcast == int(network.broadcast_address)
    assert cidr.size == cidr.last - cidr.first + 1 == max(2, network.num_addresses - 2)
    assert Address(family, value) in cidr
    assert Address(family, cidr.broadcast + 1) not in cidr
    assert Address(family, cidr.network - 1) not in cidr


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10.0.0.0/29", "10.0.0.1", "10.0.0.6"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1"),
        ("fd00::/126", "fd00::1", "fd00::2"),
        ("fd00::/127", "fd00::", "fd00::1"),
    ],
)
def test_the_usable_range_is_kube_ovns_in_both_families(text: str, first: str, last: str) -> None:
    cidr = Cidr.parse(text)

    assert (cidr.first, cidr.last) == (addr(first).value, addr(last).value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.0", "no prefix length"),
        ("10.0.0.0/", "no usable prefix"),
        ("10.0.0.0/-1", "no usable prefix"),
        ("10.0.0.0/+8", "no usable prefix"),
        ("10.0.0.0/08", "no usable prefix"),
        ("10.0.0.0/8 ", "no usable prefix"),
        ("10.0.0.0/²", "no usable prefix"),
        ("10.0.0.0/33", "no usable prefix"),
        ("10.0.0.0/" + "9" * 10_000, "no usable prefix"),
        ("10.0.0.0/8/8", "no usable prefix"),
        ("10.0.0.0/255.0.0.0", "no usable prefix"),
        ("10.0.0.0/32", "single address"),
        ("fd00::/128", "single address"),
        ("fd00::/129", "no usable prefix"),
        ("FD00::/64", "lower case"),
        ("/24", "not an IP address"),
        ("", "no prefix length"),
    ],
)
def test_a_malformed_cidr_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        Cidr.parse(text)


@given(st.tuples(st.integers(0, 255), st.integers(24, 31)), st.tuples(st.integers(0, 255), st.integers(24, 31)))
def test_two_cidrs_overlap_as_the_standard_library_says(one: tuple[int, int], two: tuple[int, int]) -> None:
    texts = [f"10.0.0.{host}/{prefix}" for host, prefix in (one, two)]
    networks = [ipaddress.ip_network(text, strict=False) for text in texts]
    ours = [Cidr.parse(text) for text in texts]

    assert ours[0].overlaps(ours[1]) == networks[0].overlaps(networks[1])


def test_families_never_overlap_nor_contain_each_other() -> None:
    assert not Cidr.parse("0.0.0.0/0").overlaps(Cidr.parse("::/0"))
    assert addr("::1") not in Cidr.parse("0.0.0.0/0")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("10.0.0.7/24", ["10.0.0.0/24"]),
        ("fd00::7/64", ["fd00::/64"]),
        ("10.0.0.0/24,fd00::/64", ["10.0.0.0/24", "fd00::/64"]),
        ("fd00::/64,10.0.0.0/24", ["10.0.0.0/24", "fd00::/64"]),
    ],
)
def test_a_cidr_block_holds_one_family_or_both(text: str, normal: list[str]) -> None:
    assert [str(cidr) for cidr in parse_cidrs(text)] == normal


@pytest.mark.parametrize(
    "text",
    ["", ",", "10.0.0.0/24,", "10.0.0.0/24, fd00::/64", "10.0.0.0/24,10.1.0.0/24", "fd00::/64,fd01::/64",
     "10.0.0.0/24,fd00::/64,10.1.0.0/24"],
)  # fmt: skip
def test_any_other_cidr_block_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_cidrs(text)
