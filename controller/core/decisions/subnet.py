"""decide() for one Subnet: normalise it, make its logical switch, count it, let it go (contract §6).

Key: the Subnet's name. A malformed Subnet gets a condition and gives nothing out; its users keep what they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from controller.core import naming
from controller.core.addresses import Address, Cidr, format_address, parse_address, parse_cidrs
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions import numbers
from controller.core.decisions.conditions import Standing, listed, status_patch
from controller.core.decisions.placement import Refused
from controller.core.effects import Decision, DropSwitch, Effect, Patch, PutSwitch, Tell
from controller.core.faults import Malformed
from controller.core.ipam import FamilyPlan, SubnetPlan
from controller.core.objects import FINALIZER, OUR_FINALIZERS, Kind
from controller.core.ranges import RangeSet, parse_ranges

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.ipam import Usage
    from controller.core.objects import Seconds, Subnet
    from controller.core.rows import SwitchRow

COOLDOWN: Final = 30.0  # an address re-used at once under another MAC was unreachable for 26 s (tech.md §8)
_SHOWN: Final = 10  # users named in a message; the count says how many there are


@dataclass(frozen=True, slots=True)
class Layout:
    """A well-formed Subnet: what it gives out, and its spec in normal form."""

    plan: SubnetPlan
    cidr_block: str
    gateway: str
    exclude_ips: tuple[str, ...]
    protocol: str


UNKNOWN: Final = say(Reason.SUBNET_INVALID, "field", field="", why="there is no such subnet")


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one Subnet name. Possibly stale, never torn."""

    name: str
    subnet: Subnet | None
    layout: Layout | Message  # why it is malformed
    overlap: Message | None
    switch: SwitchRow | None
    usage: dict[Family, Usage] | None
    users: tuple[str, ...]  # some of the ports that have a claim in it, for a message
    user_count: int
    stamp: str


def layout_of(subnet: Subnet) -> Layout | Message:
    """The Subnet in normal form, or what is wrong with it; total over anything a user can write."""
    if subnet.fault:
        return say(Reason.SUBNET_INVALID, "field", field="", why=subnet.fault)
    spec = subnet.spec
    try:
        cidrs = () if macs_only(subnet) else _field("cidrBlock", lambda: parse_cidrs(spec.cidr_block))
        gateways = _field("gateway", lambda: _gateways(spec.gateway, cidrs))
        families = {c.family: _family(c, g, spec.exclude_ips) for c, g in zip(cidrs, gateways, strict=True)}
        cooldown = _field(naming.COOLDOWN, lambda: _cooldown(subnet.metadata.annotations.get(naming.COOLDOWN)))
    except Refused as refused:
        return refused.message
    excludes = spec.exclude_ips
    absent = [g for c, g in zip(cidrs, gateways, strict=True) if not _lists(c, g, spec.exclude_ips)]
    if absent:
        excludes = tuple(sorted((*excludes, *map(format_address, absent)), key=_order))
    protocols = {(): "Mac", (4,): "IPv4", (6,): "IPv6"}
    return Layout(
        SubnetPlan(subnet.metadata.name, families.get(4), families.get(6), cooldown),
        ",".join(map(str, cidrs)),
        ",".join(map(format_address, gateways)) if cidrs else spec.gateway,
        excludes,
        protocols.get(tuple(families), "Dual"),
    )


def completed(subnet: Subnet, layout: Layout) -> Subnet:
    """The Subnet with the defaults it is going to have: a pod that comes before they are written is told the same."""
    spec = subnet.spec
    normal = structs.replace(
        spec,
        provider=spec.provider or naming.OVN,
        vpc=spec.vpc or (naming.DEFAULT_VPC if naming.is_ovn(spec.provider) else ""),
        protocol=layout.protocol,
        cidr_block=layout.cidr_block,
        gateway=layout.gateway,
        exclude_ips=layout.exclude_ips,
    )
    return structs.replace(subnet, spec=normal)


def macs_only(subnet: Subnet) -> bool:
    """True for a VLAN without a CIDR: its NICs get MACs and no addresses (kube-ovn-behaviour §8, item 0)."""
    return bool(subnet.spec.vlan) and not subnet.spec.cidr_block


def _field(name: str, parse: Any) -> Any:
    try:
        return parse()
    except Malformed as why:
        raise Refused(say(Reason.SUBNET_INVALID, "field", field=name, why=why)) from None


def _gateways(text: str, cidrs: tuple[Cidr, ...]) -> tuple[Address, ...]:
    """One per family in the order of the CIDRs: the named one, else the first address."""
    named: dict[int, Address] = {}
    if not cidrs:
        return ()
    for part in filter(None, (p.strip() for p in text.split(","))):
        address = parse_address(part)
        if address.family in named:
            raise Malformed(f"two IPv{address.family} gateways in {text!r}")
        named[address.family] = address
    for address in named.values():
        if not any(address.family == c.family and address in c for c in cidrs):
            raise Malformed(f"{format_address(address)} is not in the subnet's CIDR")
    return tuple(named.get(c.family) or Address(c.family, c.first) for c in cidrs)


def _family(cidr: Cidr, gateway: Address, excludes: tuple[str, ...]) -> FamilyPlan:
    excluded: RangeSet = _field("excludeIps", lambda: parse_ranges(excludes, cidr))
    mine = RangeSet.of(((gateway.value, gateway.value),)) & RangeSet.of(((cidr.first, cidr.last),))
    return FamilyPlan(cidr, gateway.value, excluded | mine)


def _lists(cidr: Cidr, gateway: Address, excludes: tuple[str, ...]) -> bool:
    """Ranges are clipped to what is usable, so a gateway at the edge of its CIDR is looked for by its text too."""
    return gateway.value in parse_ranges(excludes, cidr) or format_address(gateway) in excludes


def _order(item: str) -> Address:
    """By its first address; every item was read before."""
    return parse_address(item.partition("..")[0])


def _cooldown(text: str | None) -> float:
    if text is None:
        return COOLDOWN
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        raise Malformed(f"{text!r} is not a number of seconds") from None
    if not 0 <= seconds <= 86_400:
        raise Malformed(f"{text!r} is not between 0 and 86400 seconds")
    return seconds


def decide(view: View, _now: Seconds) -> Decision:
    """What this Subnet needs now; empty when it is as it should be."""
    subnet = view.subnet
    if subnet is None:
        return Decision()
    if subnet.metadata.deleting:
        return _retire(view, subnet)
    problem = view.layout if isinstance(view.layout, Message) else view.overlap
    if problem is not None or isinstance(view.layout, Message):
        assert problem is not None  # noqa: S101 - one of both is a message
        bad = (Standing("Validated", "False", problem), Standing("Ready", "False", problem))
        standings = (*bad, Standing("Error", "True", problem))
        return Decision(status=_status(view, subnet, standings), refusal=problem, tells=(_tell(subnet, problem),))
    effects: list[Effect] = []
    normal = _normal(subnet, view.layout)
    if normal:
        body = {"metadata": {"resourceVersion": subnet.metadata.resource_version, **normal.pop("metadata", {})}}
        effects.append(Patch(Kind.SUBNET, "", view.name, body | normal))
    if view.switch is None and naming.is_ovn(subnet.spec.provider):
        effects.append(PutSwitch(view.name))
    status = None if effects else _status(view, subnet, _standings(view, subnet, view.layout))
    return Decision(tuple(effects), status=status)


def _tell(subnet: Subnet, message: Message) -> Tell:
    return Tell(Kind.SUBNET, "", subnet.metadata.name, subnet.metadata.uid, message)


def _normal(subnet: Subnet, layout: Layout) -> dict[str, Any]:
    """The fields that differ from normal form, and our finalizer (kube-ovn-behaviour §13.1)."""
    spec, new = subnet.spec, completed(subnet, layout).spec
    ovn = naming.is_ovn(spec.provider)
    wanted = {
        "provider": (spec.provider, new.provider),
        "vpc": (spec.vpc, new.vpc),
        "protocol": (spec.protocol, new.protocol),
        "cidrBlock": (spec.cidr_block, new.cidr_block),
        "gateway": (spec.gateway, new.gateway),
        "excludeIps": (spec.exclude_ips, new.exclude_ips),
    }
    if ovn and not spec.gateway_type and new.vpc == naming.DEFAULT_VPC:
        wanted["gatewayType"] = ("", "distributed")
    if ovn and spec.enable_lb is None:
        wanted["enableLb"] = (None, True)  # type: ignore[assignment]
    fields = {key: list(new) if isinstance(new, tuple) else new for key, (old, new) in wanted.items() if old != new}
    normal: dict[str, Any] = {"spec": fields} if fields else {}
    if FINALIZER not in subnet.metadata.finalizers:
        others = [f for f in subnet.metadata.finalizers if f not in OUR_FINALIZERS]
        normal["metadata"] = {"finalizers": [*others, FINALIZER]}
    return normal


def _standings(view: View, subnet: Subnet, layout: Layout) -> tuple[Standing, ...]:
    valid = Standing("Validated", "True", say(Reason.SUBNET_VALID, "ok"))
    if naming.is_ovn(subnet.spec.provider):
        ready = Standing("Ready", "True", say(Reason.SUBNET_READY, "ok"))
    else:
        ready = Standing("Ready", "True", say(Reason.SUBNET_NOT_OVN, "ok", provider=subnet.spec.provider))
    outside = [pair for u in (view.usage or {}).values() for pair in u.outside]
    if outside:
        users = ", ".join(f"{port} {format_address(address)}" for address, port in outside[:_SHOWN])
        count = len(outside)
        lost = say(Reason.ADDRESSES_OUTSIDE_CIDR, "users", count=count, cidr=layout.cidr_block, users=users)
        return valid, ready, Standing("Error", "True", lost)
    if any(c.type == "Error" for c in subnet.status.conditions):  # shown until now, so its end is shown too
        return valid, ready, Standing("Error", "False", say(Reason.NO_ERROR, "ok"))
    return valid, ready


def _status(view: View, subnet: Subnet, standings: tuple[Standing, ...]) -> Patch | None:
    status: dict[str, Any] = {}
    conditions = listed(standings, subnet.status.conditions, subnet.metadata.generation, view.stamp)
    if conditions is not None:
        status["conditions"] = [c | {"lastUpdateTime": view.stamp} for c in conditions]
    if view.usage is not None:
        status |= numbers.changed(view.usage, subnet.status)
    return status_patch(Kind.SUBNET, subnet.metadata, status) if status else None


def _retire(view: View, subnet: Subnet) -> Decision:
    """Gone when nobody uses it: switch first, then the finalizer; until then a condition names who does."""
    if view.user_count:
        users = ", ".join(view.users[:_SHOWN])
        message = say(Reason.SUBNET_IN_USE, "users", count=view.user_count, users=users)
        status = _status(view, subnet, (Standing("Ready", "False", message),))
        return Decision(status=status, refusal=message, tells=(_tell(subnet, message),))
    effects: list[Effect] = []
    if view.switch is not None and ("vendor", "kube-ovn") in view.switch.external_ids:
        effects.append(DropSwitch(view.name, view.switch.uuid))
    if subnet.metadata.ours:
        finalizers = [f for f in subnet.metadata.finalizers if f not in OUR_FINALIZERS]
        body = {"metadata": {"resourceVersion": subnet.metadata.resource_version, "finalizers": finalizers}}
        effects.append(Patch(Kind.SUBNET, "", view.name, body))
    return Decision(tuple(effects))
