"""An allocation made durable: port, then IP, then the pod's annotations, each only where it differs (Rules 3, 4).

Field by field as Kube-OVN writes them: its node agent and people read them (kube-ovn-behaviour §4, §5.1, §7.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions import migration
from controller.core.decisions.conditions import cleared
from controller.core.decisions.reservation import finalized, grant_fields, recorded_as
from controller.core.effects import Create, Decision, Effect, Patch, Promise, PutPort, Remember, Tell
from controller.core.objects import FINALIZER, Kind
from controller.core.rows import POD_UID, VENDOR, PortRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.placement import Place
    from controller.core.ipam import Grant
    from controller.core.objects import Ip, Pod, Recorded

_OWN: Final = frozenset({"ip_address", "mac_address", "logical_switch", "allocated"})


@dataclass(frozen=True, slots=True)
class Held:
    """What exists under one port name of this owner."""

    port: str
    ip: Ip | None = None
    row: PortRow | None = None
    recorded: Recorded | None = None  # of a granted IP, reservation or not
    promised: bool = False
    unborn: bool = False  # the creation of its IP had no answer and may still land

    @property
    def reserved(self) -> bool:
        """True if a user decided that the address stays."""
        return self.recorded is not None and self.recorded.reserved == "true"


@dataclass(frozen=True, slots=True)
class Request:
    """What an allocation is for: all live pods of one owner in one subnet."""

    bidders: tuple[Bidder, ...]
    place: Place
    pod_nic_type: str
    owner_uid: str = ""  # of the StatefulSet or VM that it is for
    options: Mapping[str, str] | None = None  # of the port, as far as they are ours to write


def realise(request: Request, bidder: Bidder, held: Held, grant: Grant) -> Decision:
    """Port, then IP, then the pod's annotations: each only where it differs (Rule 3, Rule 4)."""
    place = request.place
    effects: list[Effect] = []
    row = _row(request, bidder, grant, held.row)
    row_differs = bidder.nic.has_port and (held.row is None or held.row._replace(uuid="") != row)
    if row_differs or not bidder.running or (not bidder.nic.has_port and held.ip is None):
        effects.append(Promise(held.port, place.name, grant.v4, grant.v6, grant.mac or None))
    if row_differs:
        effects.append(PutPort(row, held.row))
    effects += _ip_effects(request, bidder, held, grant)
    told: list[Tell] = []
    for one in request.bidders:
        notes = _annotations(request, one, grant, place) if one.joins(bidder) else {}
        if notes:
            effects.append(Patch(Kind.POD, one.owner.namespace, one.object.metadata.name, _pod_body(one.object, notes)))
        if notes and not one.running:
            told.append(_told(one, held.port, grant, place))
    return Decision(tuple(effects), tells=tuple(told))


def _told(bidder: Bidder, port: str, grant: Grant, place: Place) -> Tell:
    meta, texts = bidder.object.metadata, grant_fields(grant.v4, grant.v6, grant.mac or None)
    message = say(
        Reason.POD_NETWORK_ALLOCATED,
        "nic",
        provider=bidder.nic.provider,
        subnet=place.name,
        address=texts["ipAddress"],
        mac=texts["macAddress"],
        port=port,
    )
    return Tell(Kind.POD, meta.namespace, meta.name, meta.uid, message)


def _pod_body(pod: Pod, notes: dict[str, str | None]) -> dict[str, Any]:
    return {"metadata": {"uid": pod.metadata.uid, "annotations": notes}}


def _others_ids(bidder: Bidder, row: PortRow | None) -> dict[str, str]:
    """External ids that other parts of Kube-OVN keep on a running pod's port (security groups, vips) stay there."""
    return dict(row.external_ids) if row is not None and bidder.running else {}


def _row(request: Request, bidder: Bidder, grant: Grant, row: PortRow | None) -> PortRow:
    """The Logical_Switch_Port, column by column as Kube-OVN writes it (kube-ovn-behaviour §5.1)."""
    texts = grant_fields(grant.v4, grant.v6, grant.mac or None)
    line = " ".join(filter(None, (texts["macAddress"], texts["v4IpAddress"], texts["v6IpAddress"])))
    addresses = {line} | ({"unknown"} if bidder.note("layer2_forward") == "true" else set())
    secured = (line,) if bidder.note("port_security") == "true" else ()
    ids = _others_ids(bidder, row) | {"vendor": VENDOR, "ls": request.place.name, "pod": str(bidder.owner)}
    ids[POD_UID] = bidder.object.metadata.uid
    options = migration.merged(row.options if row is not None else (), request.options)
    return PortRow(bidder.port, tuple(sorted(addresses)), tuple(sorted(ids.items())), secured, options=options)


def _ip_effects(request: Request, bidder: Bidder, held: Held, grant: Grant) -> list[Effect]:
    """Make the IP object say so. A terminating one is left alone (bug row 42), a foreign one too (bug row 33)."""
    ip, pod, place = held.ip, bidder.object, request.place
    if ip is None:
        return [Create(Kind.IP, "", held.port, _ip_object(request, bidder, held.port, grant))]
    if ip.metadata.deleting or naming.special(ip):
        return []
    granted = held.recorded is not None
    if not granted and (naming.foreign(ip) or not adoptable(bidder, ip, grant)):
        return []
    if held.reserved and held.recorded is not None and not bidder.runs_with(held.recorded) and bidder.running:
        return []  # the pod goes on with its own address, the reservation keeps its own (both are marked)
    node = pod.spec.node_name or ip.spec.node_name
    wanted = _ip_spec(bidder, grant, place, node)
    if held.reserved and held.recorded is not None:
        wanted = {"nodeName": node}
    return _ip_patch(request, held, ip, wanted, node)


def adoptable(bidder: Bidder, ip: Ip, grant: Grant) -> bool:
    """A user's request met while the pod's own allocation was under way: adopted if it asks for nothing else."""
    if ip.fault:
        return False
    if ip.metadata.labels.get(naming.RESERVED) == "false":
        return True
    spec, has = ip.spec, grant_fields(grant.v4, grant.v6, grant.mac or None)
    who = (spec.subnet, spec.pod_type, spec.namespace, spec.pod_name)
    same = who == (bidder.subnet, bidder.kind, bidder.owner.namespace, bidder.owner.name)
    asked = ((spec.v4_ip_address, "v4IpAddress"), (spec.v6_ip_address, "v6IpAddress"), (spec.mac_address, "macAddress"))
    return same and all(text in {"", has[field]} for text, field in asked)


def _ip_patch(request: Request, held: Held, ip: Ip, wanted: dict[str, Any], node: str) -> list[Effect]:
    """One merge patch with what differs; an adopted request becomes a reservation by its label.

    For whom it was made is written where it is wrong; where it is missing, with whatever else is written.
    """
    have, place = ip.spec, request.place
    present = {
        "podName": have.pod_name,
        "namespace": have.namespace,
        "subnet": have.subnet,
        "podType": have.pod_type,
        "nodeName": have.node_name,
        "ipAddress": have.ip_address,
        "v4IpAddress": have.v4_ip_address,
        "v6IpAddress": have.v6_ip_address,
        "macAddress": have.mac_address,
    }
    spec = {key: value for key, value in wanted.items() if present[key] != value}
    reserved = held.reserved or (held.recorded is None and ip.metadata.labels.get(naming.RESERVED) != "false")
    labels = naming.labels(place.name, node, reserved=reserved)
    stale = {old: None for old in (have.subnet,) if old not in {place.name, ""} and old in ip.metadata.labels}
    changed = {k: v for k, v in labels.items() if ip.metadata.labels.get(k) != v}
    metadata: dict[str, Any] = {"labels": changed | stale} if changed or stale else {}
    if not ip.metadata.ours and not held.reserved:  # a reservation's own key puts it back, with all that was edited
        metadata["finalizers"] = finalized(ip)
    made_for = ip.metadata.annotations.get(naming.OWNER_UID, "")
    if request.owner_uid not in {"", made_for} and (made_for or spec or metadata):
        metadata["annotations"] = {naming.OWNER_UID: request.owner_uid}
    if not spec and not metadata:
        return []
    if held.recorded is None and spec:
        spec |= {"attachIps": [], "attachMacs": [], "attachSubnets": [], "containerID": ""}
    body: dict[str, Any] = {"metadata": {"resourceVersion": ip.metadata.resource_version, **metadata}}
    patch = Patch(Kind.IP, "", held.port, body | ({"spec": spec} if spec else {}))
    if held.reserved:
        return [patch]
    grant = Remember(held.port, ip.metadata.uid, recorded_as(wanted, reserved=reserved))
    if spec and ip.status.recorded is not None:
        return [patch, grant, cleared(ip)]  # else a label set later would bring back what it was granted as before
    return [patch, grant]


def _ip_spec(bidder: Bidder, grant: Grant, place: Place, node: str) -> dict[str, Any]:
    return {
        "podName": bidder.owner.name,
        "namespace": bidder.owner.namespace,
        "subnet": place.name,
        "podType": bidder.kind,
        "nodeName": node,
        **grant_fields(grant.v4, grant.v6, grant.mac or None),
    }


def _ip_object(request: Request, bidder: Bidder, port: str, grant: Grant) -> dict[str, Any]:
    node, place = bidder.object.spec.node_name, request.place
    notes = {"annotations": {naming.OWNER_UID: request.owner_uid}} if request.owner_uid else {}
    lists: dict[str, Any] = {"attachIps": [], "attachMacs": [], "attachSubnets": [], "containerID": ""}
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {
            "name": port,
            "labels": naming.labels(place.name, node, reserved=False),
            "finalizers": [FINALIZER],
            **notes,
        },
        "spec": _ip_spec(bidder, grant, place, node) | lists,
    }


def _annotations(request: Request, bidder: Bidder, grant: Grant, place: Place) -> dict[str, str | None]:
    """What the pod's annotations lack of one NIC, `{}` if nothing; None takes one off (kube-ovn-behaviour §4.5)."""
    subnet = place.subnet
    assert subnet is not None  # noqa: S101 - a place with a plan has a subnet
    texts, spec, nic = grant_fields(grant.v4, grant.v6, grant.mac or None), subnet.spec, bidder.nic
    wanted: dict[str, str | None] = {
        "ip_address": texts["ipAddress"],
        "mac_address": texts["macAddress"] or None,
        "logical_switch": place.name if nic.has_port else None,
        "allocated": "true",
    }
    if spec.cidr_block:  # the node agent knows a NIC without addresses by the lack of it
        wanted |= {"cidr": spec.cidr_block, "gateway": spec.gateway}
    notes = bidder.object.metadata.annotations
    if bidder.running:  # copies of the subnet's fields are what the pod was started with: they stay
        wanted = {k: v for k, v in wanted.items() if k in _OWN or nic.key(k) not in notes}
    if nic.has_port and not bidder.note("pod_nic_type"):
        wanted["pod_nic_type"] = request.pod_nic_type
    if bidder.kind == "VirtualMachine":
        wanted["virtualmachine"] = bidder.owner.name
    routed_by_ovn = spec.vpc and (not spec.vlan or spec.logical_gateway or spec.u2o_interconnection)
    if routed_by_ovn and not bidder.running:
        wanted["logical_router"] = spec.vpc
    if bidder.object.spec.node_name:
        wanted["routed"] = "true"
    keyed = {nic.key(key): value for key, value in wanted.items()}
    return {key: value for key, value in keyed.items() if notes.get(key) != value}
