"""decide() for one IP object: grant a reservation, keep it, refuse edits, let it go (contract §3).

Key: the IP's name, which is the port's name. The pod flow (pod.py) makes and ends ordinary IPs; here an ordinary IP
is only deleted when a user says so, and its label is put back when it vanished.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from controller.core import ipam, naming
from controller.core.addresses import Address, format_address, format_mac, parse_address, parse_mac
from controller.core.catalogue import Reason, say
from controller.core.decisions import binding, conditions
from controller.core.decisions.placement import Refused
from controller.core.effects import Decision, DropPort, Effect, Patch, Promise, Remember, Tell, Withdraw
from controller.core.faults import Malformed
from controller.core.objects import FINALIZER, OUR_FINALIZERS, Kind, Recorded

if TYPE_CHECKING:
    from controller.core.catalogue import Message
    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.placement import Place
    from controller.core.effects import Topic
    from controller.core.ipam import Book, Grant
    from controller.core.objects import Ip, Seconds
    from controller.core.rows import PortRow

SOON: Final = 0.1  # while another key may have written what is not shown yet
POD_TYPES: Final = ("", "StatefulSet", "VirtualMachine")


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one IP name. Possibly stale, never torn."""

    name: str
    ip: Ip | None
    row: PortRow | None
    place: Place  # of the recorded subnet, else of spec.subnet
    book: Book
    bidders: tuple[Bidder, ...]  # live pods whose port has this name
    recorded: Recorded | None  # what was granted, by status or by this process's memory
    under_way: bool  # the pod flow has promised this port an address and is still writing
    promised: bool  # this key has promised it one and not seen it recorded
    queued: frozenset[Topic]  # the lines in which others have waited longer
    dice: int
    stamp: str  # wall clock now, as a condition shows it
    protect_in_use: bool = True
    port_in_doubt: bool = False  # the pod flow is writing, or has written what is not shown yet
    others: tuple[str, ...] = ()  # further claimants of the same address (duplicates)


def decide(view: View, now: Seconds) -> Decision:
    """What this IP needs now; empty when it is as it should be."""
    decision = _decide(view, now)
    if view.promised and not any(isinstance(effect, Promise) for effect in decision.effects):
        return replace(decision, effects=(Withdraw(view.name), *decision.effects))  # nothing is to come of it any more
    return decision


def _decide(view: View, now: Seconds) -> Decision:
    ip = view.ip
    if ip is None:
        return Decision()
    if naming.special(ip):
        return Decision()
    if ip.metadata.deleting:
        return _retire(view, ip)
    if view.recorded is None and not ip.metadata.ours:
        return _newcomer(view, ip, now)
    if not _is_reserved(view, ip):
        return _ordinary(ip)
    if view.recorded is None or not (binding.addresses(view.recorded) or view.recorded.mac_address):
        return _request(view, ip, now)
    return _keep(view, ip, view.recorded)


def _is_reserved(view: View, ip: Ip) -> bool:
    """Only "true" and "false" are decisions; any other text falls back on what is recorded, then on who lives.

    Nothing recorded and nobody alive means: if this IP does not hold the address, nobody does, so it is kept.
    """
    label = ip.metadata.labels.get(naming.RESERVED)
    if label in {"true", "false"}:
        return label == "true"
    if view.recorded is not None and view.recorded.reserved in {"true", "false"}:
        return view.recorded.reserved == "true"
    return view.row is None and not view.bidders


# -- newcomers: no finalizer of ours, nothing recorded --------------------------------------------


def _newcomer(view: View, ip: Ip, now: Seconds) -> Decision:
    if naming.foreign(ip):
        return Decision()
    row = view.row if view.row is not None and view.row.ours else None
    idle = not view.under_way and not any(b.running for b in view.bidders)
    if row is not None and idle and tells_of(ip, row):
        return _put_back(view, ip)
    if ip.metadata.labels.get(naming.RESERVED) == "false":
        return Decision(status=_cleared(ip))  # an ordinary IP: the pod flow puts it right or lets it go
    return _request(view, ip, now)


def _put_back(view: View, ip: Ip) -> Decision:
    """Our finalizer was taken off by hand: it comes back in one write with the fields that were edited since."""
    texts = [address for text in ip.spec.ip_address.split(",") if (address := _readable(text)) is not None]
    found = {address.family: address.value for address in texts}
    told = {"v4IpAddress": ip.spec.v4_ip_address, "v6IpAddress": ip.spec.v6_ip_address}
    has = {field: text for field, text in grant_fields(found.get(4), found.get(6), None).items() if field in told}
    metadata = {"resourceVersion": ip.metadata.resource_version, "finalizers": finalized(ip)}
    body = {"metadata": metadata} | ({"spec": has} if has != told else {})
    return Decision((Patch(Kind.IP, "", view.name, body),))


def _readable(text: str) -> Address | None:
    try:
        return parse_address(text)
    except Malformed:
        return None


def tells_of(ip: Ip, row: PortRow) -> bool:
    """True if the IP object says just what the port holds: it is its record, whatever became of label and finalizer."""
    addresses = set(filter(None, ip.spec.ip_address.split(",")))
    if ip.fault or ip.spec.subnet != row.switch:
        return False
    if not addresses:  # of a subnet that gives MACs only
        return bool(ip.spec.mac_address) and ip.spec.mac_address in row.addresses
    return any(addresses <= set(line.split()) for line in row.addresses)


def contradicts(row: PortRow, recorded: Recorded) -> bool:
    """True for a port that has not what was granted (Kube-OVN writes MACs in upper case, too), whatever else it has.

    A MAC that somebody edited in an ordinary IP does not count: nobody asked for it, and it makes no address unfree.
    """
    texts = {recorded.v4_ip_address.lower(), recorded.v6_ip_address.lower()} - {""}
    if recorded.reserved == "true" or not texts:
        texts |= {recorded.mac_address.lower()} - {""}
    return row.switch != recorded.subnet or not any(texts <= set(line.lower().split()) for line in row.addresses)


def _request(view: View, ip: Ip, now: Seconds) -> Decision:
    try:
        want = _wanted(view, ip)
        rival = _pod_came_first(view, ip, want)
    except Refused as refused:
        return _refuse(view, ip, refused.message, refused.waits, None)
    if rival is not None:
        return rival
    if view.place.problem is not None:
        return _refuse(view, ip, view.place.problem, view.place.waits, None)
    assert view.place.plan is not None  # noqa: S101 - a place without a problem has a plan
    answer = ipam.choose(view.book, view.place.plan, want, now)
    if isinstance(answer, ipam.Refusal):
        return _refuse(view, ip, answer.message, (*answer.waits, *view.place.waits), answer.retry_after)
    return _grant(view, ip, answer)


def _refuse(
    view: View, ip: Ip, message: Message, waits: tuple[tuple[str, ...], ...], retry_after: Seconds | None
) -> Decision:
    return Decision(
        requeue_after=retry_after,
        status=conditions.of_ip(ip, conditions.not_ready(message), None, "", view.stamp),
        waits=waits,
        refusal=message,
        tells=(_tell(ip, message),),
    )


def _tell(ip: Ip, message: Message) -> Tell:
    return Tell(Kind.IP, "", ip.metadata.name, ip.metadata.uid, message)


def _wanted(view: View, ip: Ip) -> ipam.Want:
    """The request as values; raises Refused with what to write instead (contract §8)."""
    spec, meta = ip.spec, ip.metadata
    if ip.fault:
        raise Refused(say(Reason.INVALID_SPEC, "object", why=ip.fault))
    for field, value in (("subnet", spec.subnet), ("podName", spec.pod_name), ("namespace", spec.namespace)):
        if not value:
            raise Refused(say(Reason.INVALID_SPEC, "missing", field=field))
    if spec.pod_type not in POD_TYPES:
        raise Refused(say(Reason.INVALID_SPEC, "pod_type", value=spec.pod_type))
    v4 = _number(4, "v4IpAddress", spec.v4_ip_address)
    v6 = _number(6, "v6IpAddress", spec.v6_ip_address)
    mac = _mac(spec.mac_address)
    owner = naming.Owner(spec.namespace, spec.pod_name)
    if view.place.subnet is None and not meta.name.startswith(naming.port_name(owner)):
        _wrong_name(view, owner)
    if view.place.subnet is not None and not naming.is_nic_of(meta.name, owner, view.place.provider):
        _wrong_name(view, owner)
    return ipam.Want(view.name, v4=v4, v6=v6, mac=mac, dice=view.dice, queued=view.queued)


def _wrong_name(view: View, owner: naming.Owner) -> None:
    right = naming.port_name(owner, view.place.provider)
    raise Refused(say(Reason.NAME_MISMATCH, "name", right=right, pod=owner, subnet=view.place.name))


def _number(family: int, field: str, text: str) -> int | None:
    if not text:
        return None
    try:
        address = parse_address(text)
    except Malformed as why:
        raise Refused(say(Reason.INVALID_SPEC, "field", field=field, why=why)) from None
    if address.family != family:
        other = f"{text} is an IPv{address.family} address"
        raise Refused(say(Reason.INVALID_SPEC, "field", field=field, why=other))
    return address.value


def _mac(text: str) -> int | None:
    try:
        return parse_mac(text) if text else None
    except Malformed as why:
        raise Refused(say(Reason.INVALID_SPEC, "field", field="macAddress", why=why)) from None


def _pod_came_first(view: View, ip: Ip, want: ipam.Want) -> Decision | None:
    """A pod of that name has, or is getting, its own address: it keeps it, and the pod flow adopts this IP.

    If the request names something else it is refused and holds nothing (contract §3, scenario 4).
    """
    bidder = next((b for b in view.bidders if b.port == view.name and (b.running or view.under_way)), None)
    if bidder is None:
        if view.row is not None and view.row.ours and not view.row.external("pod"):
            why = "a logical switch port that says no pod has this name"
            raise Refused(say(Reason.INVALID_SPEC, "name", name=view.name, why=why), (("port", view.name),))
        # A row without a pod is left-over: the pod flow drops it, and this key is woken by that.
        return Decision() if view.row is not None and view.row.ours else None
    clash = binding.clash_of_request(bidder, ip, want)
    if clash is not None:
        raise Refused(clash)
    return Decision()


def _grant(view: View, ip: Ip, grant: Grant) -> Decision:
    """The one merge patch of a reservation (contract §3, Result): generation goes from 1 to 2."""
    managed = naming.is_ovn(view.place.provider) or ip.spec.mac_address or (grant.v4, grant.v6) == (None, None)
    mac = grant.mac if managed else None  # other networks' MACs are theirs
    spec = grant_fields(grant.v4, grant.v6, mac)
    body = {
        "metadata": {
            "resourceVersion": ip.metadata.resource_version,
            "labels": naming.labels(ip.spec.subnet, ip.spec.node_name, reserved=True),
            "finalizers": finalized(ip),
        },
        "spec": {"attachIps": [], "attachMacs": [], "attachSubnets": [], "containerID": "", **spec}
        | ({} if ip.spec.node_name else {"nodeName": ""}),
    }
    promise = Promise(view.name, view.place.name, grant.v4, grant.v6, mac)
    has = ip.spec
    who = {"subnet": has.subnet, "podName": has.pod_name, "namespace": has.namespace, "podType": has.pod_type}
    remember = Remember(view.name, ip.metadata.uid, recorded_as(who | spec, reserved=True))
    return Decision((promise, Patch(Kind.IP, "", view.name, body), remember))


def recorded_as(spec: dict[str, Any], *, reserved: bool) -> Recorded:
    """What an IP's spec with these fields says was granted."""
    return Recorded(
        subnet=spec["subnet"],
        pod_name=spec["podName"],
        namespace=spec["namespace"],
        pod_type=spec["podType"],
        v4_ip_address=spec["v4IpAddress"],
        v6_ip_address=spec["v6IpAddress"],
        mac_address=spec["macAddress"],
        reserved="true" if reserved else "false",
    )


def grant_fields(v4: int | None, v6: int | None, mac: int | None) -> dict[str, Any]:
    """The address fields of an IP's spec: absent families and MACs are empty texts."""
    four = format_address(Address(4, v4)) if v4 is not None else ""
    six = format_address(Address(6, v6)) if v6 is not None else ""
    return {
        "v4IpAddress": four,
        "v6IpAddress": six,
        "ipAddress": ",".join(filter(None, (four, six))),
        "macAddress": format_mac(mac) if mac is not None else "",
    }


def finalized(ip: Ip) -> list[str]:
    """The finalizers with ours among them, under its present name only."""
    return [f for f in ip.metadata.finalizers if f not in OUR_FINALIZERS] + [FINALIZER]


# -- granted reservations -------------------------------------------------------------------------

_IMMUTABLE: Final = (
    ("subnet", "subnet"),
    ("podName", "pod_name"),
    ("namespace", "namespace"),
    ("podType", "pod_type"),
    ("v4IpAddress", "v4_ip_address"),
    ("v6IpAddress", "v6_ip_address"),
    ("macAddress", "mac_address"),
)


def _keep(view: View, ip: Ip, recorded: Recorded) -> Decision:
    """Undo edits, put back what vanished, show how it stands."""
    if _lacks_a_mac(view, recorded):
        return _given_a_mac(view, ip, recorded)
    spec, fields = _drift(ip, recorded)
    metadata = _metadata_drift(ip, recorded)
    ready, in_use, used_by, mismatch = _standing(view, ip, recorded)
    effects: tuple[Effect, ...] = ()
    tells: tuple[Tell, ...] = ()
    if spec or metadata:
        effects = (_patched(view, ip, spec, metadata),)
    if fields:
        refused = say(Reason.ATTRIBUTE_CHANGE_REFUSED, "undone", fields=" ".join(fields))
        tells = (_tell(ip, refused),)
    elif mismatch is not None:
        tells = (_tell(ip, mismatch),)
    status = conditions.of_ip(ip, (ready, in_use), recorded, used_by, view.stamp)
    waits = (
        tuple(("address", recorded.subnet, text) for text in binding.addresses(recorded).split(","))
        if view.others
        else ()
    )
    return Decision(effects, status=None if effects else status, waits=waits, tells=tells)


def _patched(view: View, ip: Ip, spec: dict[str, str], metadata: dict[str, Any]) -> Patch:
    body: dict[str, Any] = {"metadata": {"resourceVersion": ip.metadata.resource_version, **metadata}}
    return Patch(Kind.IP, "", view.name, body | ({"spec": spec} if spec else {}))


def _lacks_a_mac(view: View, recorded: Recorded) -> bool:
    """True for one whose MAC somebody took out while nobody remembered it: no port can be made of it (seed 118)."""
    return not recorded.mac_address and view.place.subnet is not None and naming.is_ovn(view.place.provider)


def _given_a_mac(view: View, ip: Ip, recorded: Recorded) -> Decision:
    """That of its port or pod, if there is one, else a new one; where a status tells of the grant, that comes first."""
    kept = view.book.kept(recorded.subnet, view.name).mac
    mac = ipam.free_mac(view.book, view.dice) if kept is None else kept
    whole = structs.replace(recorded, mac_address=format_mac(mac))
    promise = Promise(view.name, recorded.subnet, None, None, mac)
    if ip.status.recorded is not None:
        ready, in_use, used_by, _ = _standing(view, ip, whole)
        status = conditions.of_ip(ip, (ready, in_use), whole, used_by, view.stamp)
        return Decision((promise, *filter(None, (status,))))
    spec, _ = _drift(ip, whole)
    patch = _patched(view, ip, spec, _metadata_drift(ip, whole))
    return Decision((promise, patch, Remember(view.name, ip.metadata.uid, whole)))


def _drift(ip: Ip, recorded: Recorded) -> tuple[dict[str, str], tuple[str, ...]]:
    """What to write back into the spec, and the names of the immutable fields among it."""
    spec = {
        field: getattr(recorded, slot)
        for field, slot in _IMMUTABLE
        if getattr(ip.spec, slot) != getattr(recorded, slot)
    }
    fields = tuple(spec)
    if ip.spec.ip_address != binding.addresses(recorded):
        spec["ipAddress"] = binding.addresses(recorded)
    return spec, fields


def _metadata_drift(ip: Ip, recorded: Recorded) -> dict[str, Any]:
    have, drift = ip.metadata.labels, {}
    wanted = naming.labels(recorded.subnet, ip.spec.node_name, reserved=True)
    missing = {k: v for k, v in wanted.items() if k not in have or (k != naming.NODE_LABEL and have[k] != v)}
    if missing:
        drift["labels"] = missing
    finalizers = ip.metadata.finalizers
    if not ip.metadata.ours or FINALIZER not in finalizers:
        drift["finalizers"] = finalized(ip)  # type: ignore[assignment]
    return drift


def _standing(
    view: View, ip: Ip, recorded: Recorded
) -> tuple[conditions.Standing, conditions.Standing, str, Message | None]:
    """Ready and InUse, by whom, and what a pod of that name has wrong."""
    owner = f"{recorded.namespace}/{recorded.pod_name}"
    held = say(Reason.RESERVED, "held", address=binding.addresses(recorded) or recorded.mac_address, owner=owner)
    ready = conditions.Standing("Ready", "True", held)
    if view.place.subnet is None:
        ready = conditions.Standing("Ready", "False", say(Reason.SUBNET_NOT_FOUND, "absent", subnet=recorded.subnet))
    user = next((b for b in view.bidders if b.runs_with(recorded)), None)
    if view.others and user is None:
        also = say(
            Reason.DUPLICATE_ADDRESS,
            "also",
            address=binding.addresses(recorded),
            subnet=recorded.subnet,
            owner=", ".join(view.others),
        )
        ready = conditions.Standing("Ready", "False", also)
    if user is not None:
        return ready, conditions.Standing("InUse", "True", say(Reason.IN_USE, "pod", pod=user.pod)), user.pod, None
    clash = next((c for b in view.bidders if (c := binding.clash(b, view.name, recorded)) is not None), None)
    idle = say(Reason.NOT_IN_USE, "idle")
    mismatch = clash if clash is not None and ip.metadata.ours else None
    return ready, conditions.Standing("InUse", "False", mismatch or idle), "", mismatch


# -- ordinary IPs and deletion --------------------------------------------------------------------


def _ordinary(ip: Ip) -> Decision:
    """An IP of the pod flow: its label says so, and a status left from a reservation is cleared."""
    if ip.metadata.labels.get(naming.RESERVED) != "false":
        body = {"metadata": {"resourceVersion": ip.metadata.resource_version, "labels": {naming.RESERVED: "false"}}}
        return Decision((Patch(Kind.IP, "", ip.metadata.name, body),))
    return Decision(status=_cleared(ip))


def _cleared(ip: Ip) -> Patch | None:
    """An ordinary IP has nothing recorded: were its label edited later, it would be taken for a reservation again."""
    return conditions.cleared(ip) if ip.status.recorded is not None or ip.status.conditions else None


def _retire(view: View, ip: Ip) -> Decision:
    """On the way down: port, then finalizer; the address is free when the object is gone (contract §3, Delete)."""
    if not ip.metadata.ours:
        return Decision()  # nothing of ours in it: others' finalizers are theirs
    users = [b for b in view.bidders if b.running or view.under_way]
    if users and view.protect_in_use:
        user = users[0]
        waiting = conditions.Standing("InUse", "True", say(Reason.IN_USE, "terminating", pod=user.pod))
        status = conditions.of_ip(ip, (waiting,), view.recorded, user.pod, view.stamp)
        return Decision(status=status, tells=(_tell(ip, waiting.message),) if status else ())
    if view.port_in_doubt:
        return Decision(requeue_after=SOON)  # the port may be there and not be shown: it has to go first
    effects: list[Effect] = [binding.cut_off(user) for user in users]
    if view.row is not None and view.row.ours and view.row.type == "":
        effects.append(DropPort(view.row))
    body = {
        "metadata": {
            "resourceVersion": ip.metadata.resource_version,
            "finalizers": [f for f in ip.metadata.finalizers if f not in OUR_FINALIZERS],
        }
    }
    effects.append(Patch(Kind.IP, "", view.name, body))
    return Decision(tuple(effects))
