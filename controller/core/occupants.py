"""What other owners hold: Vips, EIPs and Subnets themselves. Occupied at any time, and never ours to change (§7).

Everything that such an object names is held, what it asks for and what it was given (bug rows 8, 43). A conflict is
told under the name by which people know the object: `Vip web`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from controller.core import naming
from controller.core.neighbours import IptablesEip, OvnEip, Vip
from controller.core.records import spelled
from controller.core.rows import POD_UID

if TYPE_CHECKING:
    from controller.core.ipam import Record
    from controller.core.objects import Subnet
    from controller.core.rows import PortRow

Neighbour: TypeAlias = Vip | IptablesEip | OvnEip

# Where Kube-OVN takes an EIP's address from when the EIP does not say.
IPTABLES_SUBNET: Final = "ovn-vpc-external-network"
OVN_SUBNET: Final = "external"


class _Told(NamedTuple):
    kind: str
    subnet: str
    texts: tuple[str, ...]
    macs: tuple[str, ...]


def _told(one: Neighbour) -> _Told:
    counted = one.metadata.labels.get(naming.SUBNET_LABEL, "")  # where Kube-OVN counts it (kube-ovn-behaviour §13.2)
    match one:
        case Vip(spec=vip, status=given):
            texts = (vip.v4ip, vip.v6ip, given.v4ip, given.v6ip)
            return _Told("Vip", vip.subnet or counted, texts, (vip.mac_address, given.mac))
        case IptablesEip(spec=eip):
            subnet = eip.external_subnet or counted or IPTABLES_SUBNET
            return _Told("IptablesEIP", subnet, (eip.v4ip, eip.v6ip, one.status.ip), (eip.mac_address,))
        case _:
            asked, has = one.spec, one.status
            four_and_six = (asked.v4_ip, asked.v6_ip, has.v4_ip, has.v6_ip)
            subnet = asked.external_subnet or counted or OVN_SUBNET
            return _Told("OvnEip", subnet, four_and_six, (asked.mac_address, has.mac_address))


def title(one: Neighbour) -> str:
    """The name under which it holds its addresses, for people; no port has a name with a space."""
    return f"{_told(one).kind} {one.metadata.name}"


def of_neighbour(one: Neighbour) -> tuple[Record, ...]:
    """All that a Vip or an EIP names, in spec and in status."""
    told = _told(one)
    return _all(f"{told.kind} {one.metadata.name}", told.subnet, told.texts, told.macs)


def of_subnet(subnet: Subnet) -> tuple[Record, ...]:
    """The addresses that Kube-OVN has given to a Subnet itself, under the names of the IPs that it makes for them."""
    status = subnet.status
    u2o, querier = own_ports(subnet)
    return _all(u2o, subnet.metadata.name, (status.u2o_interconnection_ip,), (status.u2o_interconnection_mac,)) + _all(
        querier, subnet.metadata.name, (status.mcast_querier_ip,), (status.mcast_querier_mac,)
    )


def own_ports(subnet: Subnet) -> tuple[str, str]:
    """What a Subnet itself uses in itself: it goes with the Subnet, and never holds it (kube-ovn-behaviour §4.4)."""
    name = subnet.metadata.name
    return f"u2o-interconnection.{subnet.spec.vpc or naming.DEFAULT_VPC}.{name}", f"mcast-querier.{name}"


def _all(port: str, subnet: str, texts: tuple[str, ...], macs: tuple[str, ...]) -> tuple[Record, ...]:
    """Every address and every MAC; a list is one text with commas."""
    every = [text for joined in texts for text in joined.split(",")]
    first, *others = dict.fromkeys(filter(None, macs)) or ("",)
    return spelled(port, subnet, every, first) + tuple(r for mac in others for r in spelled(port, subnet, (), mac))


def tenant(row: PortRow, vip: Vip | None, eip: OvnEip | None) -> str:
    """Whose port in OVN it is, if it is such an owner's: Kube-OVN makes some for them, like those of pods.

    `vip` is the Vip of the name that the row says its pod has, `eip` the OvnEip of the row's own name.
    """
    if vip is not None and vip.spec.type and not row.external(POD_UID):
        named = row.external("pod") == f"{vip.spec.namespace}/{vip.metadata.name}"
        if named and row.switch in {"", _told(vip).subnet}:
            return title(vip)
    if eip is not None and not row.external("pod") and row.switch in {"", _told(eip).subnet}:
        return title(eip)
    return ""
