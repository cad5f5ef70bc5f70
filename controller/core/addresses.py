"""One address is one integer inside and one text outside: no spelling but the canonical one ever leaves.

Text is read and written by the C library (`inet_pton`, `inet_ntop`): ten times as fast as `ipaddress`, and stricter.
What the C library takes but Kube-OVN's Go code reads as something else (IPv4-mapped IPv6) is refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final, Literal, NamedTuple

from controller.core.faults import Malformed

Family = Literal[4, 6]

WIDTH: Final[dict[Family, int]] = {4: 32, 6: 128}
FAMILY_NAME: Final[dict[Family, str]] = {4: "IPv4", 6: "IPv6"}

_SOCKET_FAMILY: Final[dict[Family, int]] = {4: AF_INET, 6: AF_INET6}
_MAPPED = 0xFFFF  # the upper 96 bits of an IPv4-mapped IPv6 address
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_MULTICAST = 1 << 40
_LOCAL = 1 << 41
_KNOWN = 4096  # texts whose meaning is remembered
_SHOWN = 60  # a message shows no more of a text than this: users can write megabytes


class Address(NamedTuple):
    """An address in the order of its numbers, IPv4 before IPv6."""

    family: Family
    value: int

    def __str__(self) -> str:
        """Its canonical text."""
        return format_address(self)


@dataclass(frozen=True, slots=True)
class Cidr:
    """An aligned block of at least two addresses; `first`..`last` is what may be given out of it.

    Kube-OVN's arithmetic for both families: the lowest and the highest address are left out, so 2^h - 2 are usable
    and our counts equal its counts; with two addresses (/31, /127) both are usable. In IPv6 the highest address is
    left out of the *range* only: it is no broadcast address, and whoever names it gets it (bug row 50a).
    """

    family: Family
    network: int
    prefix: int

    @classmethod
    def parse(cls, text: str) -> Cidr:
        """`address/prefix` with host bits cleared; raises Malformed for anything else and for single addresses."""
        head, slash, tail = text.partition("/")
        if not slash:
            raise Malformed(f"{_show(text)} has no prefix length: write it like 10.0.0.0/16 or fd00::/64")
        family, value = parse_address(head)
        width = WIDTH[family]
        if not (tail.isascii() and tail.isdigit() and tail == str(int(tail[:4])) and int(tail) <= width):
            raise Malformed(f"{_show(text)} has no usable prefix length: write a number from 0 to {width - 1}")
        prefix = int(tail)
        if prefix == width:
            raise Malformed(f"{_show(text)} is a single address: write a prefix length of at most {width - 1}")
        host_bits = width - prefix
        return cls(family, value >> host_bits << host_bits, prefix)

    @property
    def broadcast(self) -> int:
        """The highest address; a broadcast address in IPv4, an ordinary one in IPv6."""
        return self.network + (1 << WIDTH[self.family] - self.prefix) - 1

    @property
    def first(self) -> int:
        """The lowest usable address."""
        return self.network if self._is_pair else self.network + 1

    @property
    def last(self) -> int:
        """The highest usable address."""
        return self.broadcast if self._is_pair else self.broadcast - 1

    @property
    def size(self) -> int:
        """How many addresses are usable; always `last - first + 1`."""
        return self.last - self.first + 1

    @property
    def _is_pair(self) -> bool:
        return self.prefix == WIDTH[self.family] - 1

    def __contains__(self, address: Address) -> bool:
        """Whether the address lies in the block, usable or not."""
        return address.family == self.family and self.network <= address.value <= self.broadcast

    def overlaps(self, other: Cidr) -> bool:
        """Whether any address lies in both."""
        return self.family == other.family and self.network <= other.broadcast and other.network <= self.broadcast

    def __str__(self) -> str:
        """Its normal form, network address first."""
        return f"{format_address(Address(self.family, self.network))}/{self.prefix}"


@lru_cache(maxsize=_KNOWN)  # the same few texts of one object are read at every step of its way
def parse_address(text: str) -> Address:
    """The address that the text names; raises Malformed unless it is exactly one, in lower case, without a zone."""
    family: Family = 6 if ":" in text else 4
    try:
        value = int.from_bytes(inet_pton(_SOCKET_FAMILY[family], text), "big")
    except (OSError, ValueError):  # ValueError: NUL or unpaired surrogates inside
        raise Malformed(f"{_show(text)} is not an IP address: write one like 10.0.0.5 or fd00::5") from None
    if family == 6:
        _refuse_odd_v6(text, value)
    return Address(family, value)


def _refuse_odd_v6(text: str, value: int) -> None:
    if "." in text or value >> 32 == _MAPPED:
        raise Malformed(f"{_show(text)} mixes IPv4 and IPv6: write a plain IPv4 or IPv6 address")
    if text != (lower := text.lower()):
        raise Malformed(f"{_show(text)} has upper-case letters; write it in lower case: {lower}")


def format_address(address: Address) -> str:
    """The canonical text (RFC 5952), as Go and therefore Kube-OVN writes it; `parse_address` gives the same back."""
    family, value = address
    if family == 4:
        return inet_ntop(AF_INET, value.to_bytes(4, "big"))
    text = inet_ntop(AF_INET6, value.to_bytes(16, "big"))
    if "." in text:  # the C library's spelling of ::/96, which parse_address refuses
        return f"::{value >> 16:x}:{value & 0xFFFF:x}"
    return text


@lru_cache(maxsize=_KNOWN)
def parse_mac(text: str) -> int:
    """The unicast MAC that the text names in the form aa:bb:cc:dd:ee:ff; raises Malformed for any other text."""
    if not _MAC.fullmatch(text):
        if _MAC.fullmatch(lower := text.lower()):
            raise Malformed(f"{_show(text)} has upper-case letters; write it in lower case: {lower}")
        raise Malformed(f"{_show(text)} is not a MAC address: write one like 0a:1b:2c:3d:4e:5f")
    value = int(text.replace(":", ""), 16)
    if value & _MULTICAST or not value:
        raise Malformed(f"{text} is not the address of one interface: write a unicast MAC")
    return value


def format_mac(value: int) -> str:
    """The text form; `parse_mac` gives the same back."""
    return value.to_bytes(6, "big").hex(":")


def random_mac(dice: int) -> int:
    """A locally administered unicast MAC; 2^46 dice in a row give 2^46 different ones."""
    head, tail = dice >> 40 & 0x3F, dice & (1 << 40) - 1
    return head << 42 | _LOCAL | tail


def parse_cidrs(text: str) -> tuple[Cidr, ...]:
    """One block, or one of each family with a comma between, IPv4 first whatever the order; raises Malformed."""
    cidrs = sorted((Cidr.parse(part) for part in text.split(",")), key=lambda cidr: cidr.family)
    if len({cidr.family for cidr in cidrs}) < len(cidrs):
        raise Malformed(f"{_show(text)} names one family twice: write one IPv4 block, one IPv6 block, or both")
    return tuple(cidrs)


def _show(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
