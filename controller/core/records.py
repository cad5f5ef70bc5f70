"""What each record says about who has which address: the fold's input, one function per kind of record (contract §2).

A text that cannot be read says nothing: it never counts as evidence for or against anybody (bug row 29).
"""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

from controller.core import naming
from controller.core.addresses import Address, parse_address, parse_mac
from controller.core.faults import Malformed
from controller.core.ipam import Record
from controller.core.objects import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.core.objects import Ip, Pod
    from controller.core.rows import PortRow


def granted(ip: Ip, memory: Recorded | None) -> Recorded | None:
    """What was granted to an IP, None if nothing was: status first, then this process's memory, then its own spec.

    An edit of the spec is thereby never taken for a grant. An ordinary IP (label "false") follows the pod flow, so
    what that wrote is what counts; `reserved` follows the label wherever the label is a decision.
    """
    label = ip.metadata.labels.get(naming.RESERVED, "")
    if label == "false":
        return _as_written(ip, "false") if ip.metadata.ours else None
    base = _first_that_counts(ip, memory)
    return msgspec.structs.replace(base, reserved="true") if base is not None and label == "true" else base


def _first_that_counts(ip: Ip, memory: Recorded | None) -> Recorded | None:
    """The first that names an address, else the first that can be read at all."""
    kept, readable = ip.status.recorded, None
    for one in (kept if kept is not None and kept.reserved == "true" else None, memory):
        if one is not None and _readable(one):
            if _addressed(one):
                return one
            readable = readable or one
    spec = _as_written(ip, "") if ip.metadata.ours else None
    if spec is not None and _readable(spec) and (readable is None or _addressed(spec)):
        return spec
    return readable


def _as_written(ip: Ip, reserved: str) -> Recorded:
    """What the IP's redundant fields say was granted, where somebody has edited one of two before we saw it.

    People edit `v4IpAddress` and `subnet`; `ipAddress` and the subnet label are written by controllers (Kube-OVN, too,
    reads `ipAddress` back at start: kube-ovn-behaviour §3.1).
    """
    found = {address.family: text for text in ip.spec.ip_address.split(",") if (address := _address(text)) is not None}
    spec = _of_spec(ip, reserved)
    spec = msgspec.structs.replace(spec, subnet=ip.metadata.labels.get(naming.SUBNET_LABEL) or spec.subnet)
    if not found:
        return spec
    return msgspec.structs.replace(spec, v4_ip_address=found.get(4, ""), v6_ip_address=found.get(6, ""))


def _address(text: str) -> Address | None:
    try:
        return parse_address(text.strip())
    except Malformed:
        return None


def _readable(recorded: Recorded) -> bool:
    """True if it names an address or a MAC, and nothing else in their places (Kube-OVN's may be in upper case)."""
    texts = ((4, recorded.v4_ip_address), (6, recorded.v6_ip_address))
    try:
        fits = all(parse_address(text.lower()).family == family for family, text in texts if text)
        if recorded.mac_address:
            parse_mac(recorded.mac_address.lower())
    except Malformed:
        return False
    return fits and bool(_addressed(recorded) or recorded.mac_address)


def _addressed(recorded: Recorded) -> bool:
    """False for a grant of a MAC alone."""
    return bool(recorded.v4_ip_address or recorded.v6_ip_address)


def _of_spec(ip: Ip, reserved: str) -> Recorded:
    spec = ip.spec
    return Recorded(
        subnet=spec.subnet,
        pod_name=spec.pod_name,
        namespace=spec.namespace,
        pod_type=spec.pod_type,
        v4_ip_address=spec.v4_ip_address,
        v6_ip_address=spec.v6_ip_address,
        mac_address=spec.mac_address,
        reserved=reserved,
    )


def of_ip(ip: Ip, recorded: Recorded | None) -> tuple[Record, ...]:
    """What the IP object holds: what was granted, or an explicit address under somebody else's finalizer."""
    name = ip.metadata.name
    if ip.metadata.deleting and not ip.metadata.ours:
        if _was_ours(ip):
            return ()  # our finalizer was taken off: by us at the end, or by force (contract §3, Delete)
        recorded = None  # what only this process remembers would be another thing after a restart
    if recorded is not None:
        granted_texts = (recorded.v4_ip_address, recorded.v6_ip_address)
        return spelled(name, recorded.subnet, granted_texts, recorded.mac_address)
    if ip.metadata.finalizers or naming.special(ip):
        texts = (ip.spec.v4_ip_address, ip.spec.v6_ip_address, *ip.spec.ip_address.split(","))
        return spelled(name, ip.spec.subnet, texts, ip.spec.mac_address)
    return ()


def _was_ours(ip: Ip) -> bool:
    """True if the object itself tells that we granted it: by its status or by the labels of a grant."""
    return ip.status.recorded is not None or {naming.RESERVED, naming.SUBNET_LABEL} <= ip.metadata.labels.keys()


def of_pod(
    pod: Pod, owner: naming.Owner, homes: Callable[[str, tuple[Address, ...]], Iterable[str]]
) -> tuple[Record, ...]:
    """What a live pod's annotations say that its NICs were given.

    A NIC of another network does not say of which subnet; `homes` answers where the addresses of a provider may be.
    """
    if not pod.alive:
        return ()
    notes, found = pod.metadata.annotations, []
    for provider in running(pod):
        said = partial(naming.annotation, provider)
        texts, mac = notes.get(said("ip_address"), "").split(","), notes.get(said("mac_address"), "")
        addresses = tuple(one for one in map(_address, texts) if one is not None)
        named = notes.get(said("logical_switch"), "")
        subnets = (named,) if named else homes(provider, addresses)
        port = naming.port_name(owner, provider)
        found += [record for subnet in subnets for record in spelled(port, subnet, texts, mac)]
    return tuple(found)


def running(pod: Pod) -> tuple[str, ...]:
    """The providers of the NICs whose allocation the pod's annotations carry."""
    notes, tail = pod.metadata.annotations, naming.annotation("", "allocated").removeprefix(naming.OVN)
    return tuple(key.removesuffix(tail) for key, text in notes.items() if text == "true" and key.endswith(tail))


def of_row(row: PortRow, subnets: Iterable[str]) -> tuple[Record, ...]:
    """What a Logical_Switch_Port holds in its switch; `subnets` are the candidates if it does not name one."""
    lines = [line.split() for line in row.addresses]
    found = [spelled(row.name, subnet, words, words[0]) for subnet in subnets for words in lines if words]
    return tuple(record for records in found for record in records)


def spelled(port: str, subnet: str, texts: Iterable[str], mac: str) -> tuple[Record, ...]:
    """All that the texts name, in as many records as the family with the most addresses needs."""
    values: dict[int, list[int]] = {4: [], 6: []}
    for text in texts:
        try:
            address = parse_address(text.strip().lower())
        except Malformed:
            continue
        if address.value not in values[address.family]:
            values[address.family].append(address.value)
    try:
        hardware = parse_mac(mac.lower())
    except Malformed:
        hardware = None
    if not subnet:
        return ()
    pairs = list(zip_longest(values[4], values[6])) or [(None, None)] * (hardware is not None)
    return tuple(Record(port, subnet, v4, v6, hardware) for v4, v6 in pairs)
