"""What a Subnet has to give, worked out a second time: with `ipaddress`, slowly and without the controller's code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ipaddress import IPv4Address, IPv6Address

IP: TypeAlias = "IPv4Address | IPv6Address"


@dataclass(frozen=True, slots=True)
class Family:
    """One CIDR with its gateway; everything as integers."""

    version: int
    network: int
    broadcast: int
    first: int
    last: int
    gateway: int
    excluded: tuple[tuple[int, int], ...]

    def shut(self, value: int) -> bool:
        """True for the gateway and what excludeIps names."""
        return value == self.gateway or any(low <= value <= high for low, high in self.excluded)

    def may_be_drawn(self, value: int) -> bool:
        """True if an owner who named no address may get this one."""
        return self.first <= value <= self.last and not self.shut(value)

    def may_be_named(self, value: int) -> bool:
        """True if an owner who named this address may get it."""
        if not self.network <= value <= self.broadcast or value == self.gateway:
            return False
        return self.first <= value <= self.last or (self.version == 6 and value == self.broadcast)

    def drawable(self) -> Iterator[int]:
        """Every address that may be drawn; the simulation's subnets are small."""
        return (value for value in range(self.first, self.last + 1) if not self.shut(value))


@dataclass(frozen=True, slots=True)
class Plan:
    """The families of a usable Subnet."""

    families: tuple[Family, ...]

    def family(self, address: str) -> Family | None:
        """The family of that address, if the subnet has it."""
        version = 6 if ":" in address else 4
        return next((f for f in self.families if f.version == version), None)

    def may_be_drawn(self, address: str) -> bool:
        """Whether the address may be given to one who named none."""
        family = self.family(address)
        return family is not None and family.may_be_drawn(number(address))

    def may_be_named(self, address: str) -> bool:
        """Whether the address may be given to one who named it."""
        family = self.family(address)
        return family is not None and family.may_be_named(number(address))


@lru_cache(maxsize=4096)
def number(address: str) -> int:
    """The integer of an address."""
    return int(ip_address(address))


@lru_cache(maxsize=4096)
def text(value: int, version: int) -> str:
    """The canonical text of an integer."""
    found = ip_address(value)
    return str(found) if found.version == version else str(ip_address(value.to_bytes(16, "big")))


def is_mac(text: str) -> bool:
    """True for the text of a MAC, as opposed to an address."""
    return len(text) == 17 and text.count(":") == 5


@lru_cache(maxsize=4096)
def canonical(address: str) -> str:
    """The canonical text of an address, "" if it is none."""
    try:
        return str(ip_address(address))
    except ValueError:
        return ""


def split(addresses: str) -> tuple[str, ...]:
    """The canonical addresses of a comma list; what is no address is left out."""
    return tuple(filter(None, (canonical(part.strip()) for part in addresses.split(","))))


def plan_of(spec: Mapping[str, Any]) -> Plan | None:
    """The plan of a Subnet's spec, None if it is malformed."""
    return _plan(spec.get("cidrBlock") or "", spec.get("gateway") or "", tuple(spec.get("excludeIps") or ()))


@lru_cache(maxsize=1024)
def _plan(cidrs: str, gateways: str, excludes: tuple[str, ...]) -> Plan | None:
    try:
        families = tuple(_family(cidr, split(gateways), excludes) for cidr in cidrs.split(","))
    except ValueError:
        return None
    if len({f.version for f in families}) < len(families):
        return None
    return Plan(tuple(sorted(families, key=lambda f: f.version)))


def _family(cidr: str, gateways: tuple[str, ...], excludes: tuple[str, ...]) -> Family:
    network = ip_network(cidr, strict=False)
    if "/" not in cidr or network.num_addresses < 2:
        raise ValueError(cidr)
    low, high = int(network.network_address), int(network.broadcast_address)
    pair = network.num_addresses == 2
    first, last = (low, high) if pair else (low + 1, high - 1)
    mine = [number(g) for g in gateways if ip_address(g).version == network.version]
    if mine and not low <= mine[0] <= high:
        raise ValueError(gateways)
    ranges = []
    for item in excludes:
        head, _, tail = item.partition("..")
        start, end = ip_address(head), ip_address(tail or head)
        if start.version != end.version or int(start) > int(end):
            raise ValueError(item)
        if start.version == network.version:
            ranges.append((int(start), int(end)))
    return Family(network.version, low, high, first, last, mine[0] if mine else first, tuple(ranges))
