"""decide() for one owner of pods: give its port an address, or let its ports go (contract §4, §5).

Key: the owner (namespace, podName), so that all launcher pods of a VM are one key and every port of a vanished pod
is found by who owned it. On the way up: port, IP, pod annotations; on the way down: port, then IP (Rule 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from controller.core import ipam, naming
from controller.core.addresses import Address, format_address, parse_mac
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions import binding
from controller.core.decisions.placement import Ask, Entry, Refused, parse_entry
from controller.core.decisions.realise import Held, Request, realise
from controller.core.decisions.reservation import SOON, tells_of
from controller.core.effects import ConfirmGone, Decision, Delete, DropPort, Effect, Promise, Tell, Withdraw
from controller.core.faults import Malformed
from controller.core.objects import Kind
from controller.core.rows import POD_UID

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.placement import Place
    from controller.core.ipam import Book, Grant
    from controller.core.objects import Ip, Pod, Seconds
    from controller.core.rows import PortRow

SCHEDULING_GRACE: Final = 2.0  # most pods have a node by then, and one patch carries `routed` too
RETAINED: Final = ("StatefulSet", "VirtualMachine")


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one owner. Possibly stale, never torn."""

    owner: naming.Owner
    bidders: tuple[Bidder, ...]  # its live pods that take part; the last leads: one that runs, else the newest
    place: Place | None  # the subnet of the newest bidder, None without bidders
    held: tuple[Held, ...]  # every port of this owner that anything names, the bidder's own included
    book: Book
    unreadable: Message | None  # why the bidder's annotations cannot be read
    reservation_refusal: Message | None  # why the IP of the bidder's port is not granted yet, if it was tried
    gone_proved: bool  # this process has seen the pod and seen it go
    patient: bool
    dice: int
    age: Seconds  # of the newest bidder, by the wall clock
    bystanders: bool = False  # live pods of this owner that do not take part
    finished: Pod | None = None  # a pod of this owner that has ended and is still to be seen
    pod_nic_type: str = "veth-pair"
    port_in_doubt: bool = False  # the IP's key is writing, or has written what is not shown yet


def decide(view: View, now: Seconds) -> Decision:
    """What this owner needs now; empty when it is as it should be."""
    bidder = view.bidders[-1] if view.bidders else None
    if bidder is None:
        if view.bystanders:
            return Decision()  # a live pod of another network may still have NICs of ours
        released = [effect for held in view.held for effect in _release(view, held)]
        return Decision(tuple(released), tells=_farewell(view) if released else ())
    mine = next((h for h in view.held if h.port == bidder.port), Held(bidder.port))
    if mine.row is not None and _in_the_way(bidder, mine, mine.row):
        return Decision((DropPort(mine.row),))
    if mine.row is not None and mine.ip is None and view.port_in_doubt:
        return Decision(requeue_after=SOON)  # the port may be gone with its IP and not be missed yet
    try:
        decision = _serve(view, bidder, mine, now)
    except Refused as refused:
        decision = _refuse(bidder, refused.message, refused.waits)
    if decision.waits and not bidder.running:
        decision = replace(decision, waits=(*decision.waits, *_placement(view, bidder)))
    others = [] if _has_nics(view) else [h for h in view.held if h.port != bidder.port]
    released = [effect for held in others for effect in _release(view, held)]
    if released:
        decision = replace(decision, effects=(*released, *decision.effects))
    if mine.promised and not any(isinstance(effect, Promise) for effect in decision.effects):
        decision = replace(decision, effects=(Withdraw(mine.port), *decision.effects))
    strays = [b for b in view.bidders if not b.joins(bidder)]
    if strays:
        refusals = [_refuse(b, _stray(b, bidder), ()) for b in strays]
        tells = (*decision.tells, *(tell for r in refusals for tell in r.tells))
        return replace(decision, tells=tells, refusal=decision.refusal or refusals[0].refusal)
    return decision


def _placement(view: View, bidder: Bidder) -> tuple[tuple[str, ...], ...]:
    """What may send the pod to another subnet: whoever waits for anything is looked at again then."""
    assert view.place is not None  # noqa: S101 - there is a place wherever there is a bidder
    return (*view.place.waits, ("namespace", bidder.object.metadata.namespace), ("default",))


def _in_the_way(bidder: Bidder, held: Held, row: PortRow) -> bool:
    """True for a port of a former pod that no record tells of, where a user asks for a reservation of its name.

    Whatever was kept of that pod is gone with its IP object; the request cannot be granted while the port is there.
    """
    asked = held.ip is not None and held.recorded is None and not tells_of(held.ip, row)
    former = row.ours and row.type == "" and row.external(POD_UID) not in {"", bidder.object.metadata.uid}
    return asked and former and not bidder.running


def _has_nics(view: View) -> bool:
    """True if a live pod may have further NICs: theirs are not judged here."""
    return any(naming.NETWORKS in b.object.metadata.annotations for b in view.bidders)


def _stray(stray: Bidder, leader: Bidder) -> Message:
    """Why a second pod of one VM gets nothing: they share one port, so they must want the same (bug row 58)."""
    return say(
        Reason.RESERVATION_MISMATCH,
        "sibling",
        pod=leader.pod,
        actual=leader.address or "its own address",
        subnet=leader.subnet,
        wanted=stray.subnet,
    )


# -- on the way down ------------------------------------------------------------------------------


def _release(view: View, held: Held) -> list[Effect]:
    """Port first, then the IP object; its finalizer is taken off when the IP's own key sees the deletion."""
    effects: list[Effect] = []
    if held.promised and held.row is None:
        effects.append(Withdraw(held.port))
    if _kept(held):
        return effects
    row, owner = held.row, view.owner
    if row is not None and row.ours and row.type == "" and row.external("pod") == str(owner):
        effects.append(DropPort(row))
    # By name, which nobody can edit: an IP whose spec was edited to name us is still another's.
    if held.ip is not None and naming.is_port_of(held.port, owner) and _ends_with_its_pod(held, held.ip):
        meta = held.ip.metadata
        effects.append(Delete(Kind.IP, "", held.port, meta.uid, meta.resource_version))
    if any(not isinstance(e, Withdraw) for e in effects) and not view.gone_proved:
        effects.insert(0, ConfirmGone(view.owner.namespace, view.owner.name))
    return effects


def _farewell(view: View) -> tuple[Tell, ...]:
    """A finished pod is told that its address is free again; one that is gone cannot be told."""
    if view.finished is None:
        return ()
    meta = view.finished.metadata
    notes = [(h.port, h.recorded) for h in view.held if h.recorded is not None]
    return tuple(
        Tell(
            Kind.POD,
            meta.namespace,
            meta.name,
            meta.uid,
            say(Reason.POD_NETWORK_RELEASED, "nic", port=port, subnet=r.subnet, address=binding.addresses(r)),
        )
        for port, r in notes
    )


def _kept(held: Held) -> bool:
    """A StatefulSet's or VM's address and port outlive its pods, reserved or not, until its own end (contract §5)."""
    ip = held.ip
    if ip is None or ip.metadata.deleting or ip.spec.pod_type not in RETAINED:
        return False
    made_by_us = ip.metadata.ours or ip.metadata.labels.get(naming.RESERVED) == "false"
    return made_by_us or (held.row is not None and tells_of(ip, held.row))


def _ends_with_its_pod(held: Held, ip: Ip) -> bool:
    """Only an IP that the pod flow made, carrying our finalizer, and not yet on its way out."""
    ordinary = ip.metadata.labels.get(naming.RESERVED) == "false" and not naming.special(ip)
    return ordinary and not held.reserved and ip.metadata.ours and not ip.metadata.deleting


# -- on the way up --------------------------------------------------------------------------------


def _refuse(
    bidder: Bidder, message: Message, waits: tuple[tuple[str, ...], ...], after: Seconds | None = None
) -> Decision:
    """No address now: said on the pod under the exact reason and under Kube-OVN's name for it."""
    meta = bidder.object.metadata
    also = say(Reason.ACQUIRE_ADDRESS_FAILED, "stage", reason=message.reason, text=message.text)
    told = [message] if message.reason is Reason.VALIDATE_POD_NETWORK_FAILED else [message, also]
    tells = tuple(Tell(Kind.POD, meta.namespace, meta.name, meta.uid, m) for m in told)
    return Decision(requeue_after=after, waits=waits, refusal=message, tells=tells)


def _serve(view: View, bidder: Bidder, held: Held, now: Seconds) -> Decision:
    pod, place = bidder.object, view.place
    assert place is not None  # noqa: S101 - there is a place wherever there is a bidder
    if naming.CUT_OFF in pod.metadata.annotations:
        return Decision()
    if not bidder.running and not pod.spec.node_name and view.age < SCHEDULING_GRACE:
        return Decision(requeue_after=SCHEDULING_GRACE - max(view.age, 0.0))
    _check_pod(view, bidder, held)
    unserved = _unserved(place, held, running=bidder.running)
    if unserved is not None:
        return unserved
    wait = _reservation_first(view, bidder, held)
    if wait is not None:
        return wait
    answer = _choose(view, bidder, held, now)
    if isinstance(answer, ipam.Refusal):
        return _refuse(bidder, answer.message, answer.waits, answer.retry_after)
    return realise(Request(view.bidders, place, view.pod_nic_type), bidder, held, answer)


def _unserved(place: Place, held: Held, *, running: bool) -> Decision | None:
    """What keeps the subnet from serving: said to who wants an address, borne with by who has one.

    The records of a running pod are kept whole in a subnet that is malformed or going, too: its address is in use.
    """
    if running:
        waits = place.waits if place.subnet is None else (("switch", place.name),)
        lost = place.subnet is None or (not place.switch and held.row is None)
        return Decision(waits=waits) if lost else None
    if place.problem is not None:
        raise Refused(place.problem, place.waits)
    if place.provider != naming.OVN:  # other providers are for further NICs
        why = say(Reason.SUBNET_NOT_FOUND, "provider", subnet=place.name, provider=place.provider)
        raise Refused(why, place.waits)
    if not place.switch:
        raise Refused(say(Reason.SUBNET_NOT_FOUND, "switch", subnet=place.name), (("switch", place.name),))
    return None


def _check_pod(view: View, bidder: Bidder, held: Held) -> None:
    if held.row is not None and not held.row.ours:
        why = "a logical switch port of another system has this name"
        raise Refused(say(Reason.INVALID_SPEC, "name", name=bidder.port, why=why), (("port", bidder.port),))
    if view.unreadable is not None:
        raise Refused(view.unreadable)
    if naming.VIP_ANNOTATION in bidder.object.metadata.annotations:
        raise Refused(say(Reason.VIP_DEPRECATED, "use", ip=bidder.port))
    why = naming.name_problem(bidder.port)
    if why:
        raise Refused(say(Reason.INVALID_SPEC, "name", name=bidder.port, why=why))


def _reservation_first(view: View, bidder: Bidder, held: Held) -> Decision | None:
    """Whether the pod must wait for, or may not use, the IP of its name; None if it may go on.

    A pod that runs already goes on with what it has, whatever becomes of the IP (contract §3).
    """
    ip = held.ip
    if ip is None or bidder.running:
        return None
    topic = (("ip", held.port),)
    if ip.metadata.deleting:
        raise Refused(say(Reason.RESERVATION_MISMATCH, "terminating", ip=held.port), topic)
    if held.recorded is None:
        if naming.foreign(ip):
            why = f"it carries the finalizer {ip.metadata.finalizers[0]} of another system"
            raise Refused(say(Reason.RESERVATION_MISMATCH, "not_ready", ip=held.port, why=why), topic)
        if held.row is not None or held.promised or ip.metadata.labels.get(naming.RESERVED) == "false":
            return None  # our own allocation was under way first: the IP is adopted, or refused
        if view.reservation_refusal is None:
            return Decision(waits=topic)
        why = view.reservation_refusal.text
        raise Refused(say(Reason.RESERVATION_MISMATCH, "not_ready", ip=held.port, why=why), topic)
    if not held.reserved:
        return None
    clash = binding.clash(bidder, held.port, held.recorded)
    if clash is not None:
        raise Refused(clash, topic)
    return None


def _choose(view: View, bidder: Bidder, held: Held, now: Seconds) -> Grant | ipam.Refusal:
    """The pod's address: what it runs with, its reservation, what it holds, what it asks for, or a free one."""
    place, ask = view.place, bidder.ask or Ask()
    assert place is not None  # noqa: S101 - there is a place wherever there is a bidder
    want = ipam.Want(held.port, dice=view.dice, patient=view.patient, mac=ask.mac)
    if bidder.running:
        return _again(view, place, want, held, bidder.address, bidder.mac, now)
    plan = place.plan
    assert plan is not None  # noqa: S101 - who does not run is not served by a place with a problem
    if held.reserved and held.recorded is not None:
        recorded = held.recorded
        return _unshared(view, plan.name, held.port, binding.addresses(recorded), recorded.mac_address)
    if ask.entry is not None:
        return ipam.choose(view.book, plan, replace(want, v4=ask.entry.v4, v6=ask.entry.v6), now)
    if ask.pool:
        return _from_list(view, want, ask.pool, bidder, now)
    if _former_life(bidder, held):
        fresh = ipam.choose(view.book, plan, replace(want, port=f"{held.port} (new)"), now)
        if not isinstance(fresh, ipam.Refusal):
            return fresh  # else its former one has to do: nobody would ever let go of it
    return ipam.choose(view.book, plan, want, now)


def _grant_of(addresses: str, mac: str) -> Grant:
    entry = parse_entry(addresses) if addresses else Entry()
    return ipam.Grant(entry.v4, entry.v6, parse_mac(mac) if mac else 0)


def _again(
    view: View, place: Place, want: ipam.Want, held: Held, addresses: str, mac: str, now: Seconds
) -> Grant | ipam.Refusal:
    """A running pod has what it runs with, wherever the subnet's CIDR went, if a record of ours says so too.

    With the pod's word alone it is checked like a request: anybody may write annotations.
    """
    try:
        grant = _grant_of(addresses, mac)
    except Malformed as why:
        key = naming.PREFIX + "ip_address"
        raise Refused(say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=key, why=why)) from None
    kept = view.book.kept(place.name, held.port)
    grant = _completed(grant, kept)
    if (kept.v4, kept.v6) == (grant.v4, grant.v6):
        taken = any(port != held.port for port in view.book.mac_holders(grant.mac))
        return replace(grant, mac=kept.mac) if taken and kept.mac is not None else grant
    if place.shape is None:
        raise Refused(place.problem or say(Reason.SUBNET_NOT_FOUND, "absent", subnet=place.name), place.waits)
    named = ipam.choose(view.book, place.shape, replace(want, v4=grant.v4, v6=grant.v6, mac=grant.mac or None), now)
    return named if isinstance(named, ipam.Refusal) else grant


def _completed(grant: Grant, kept: ipam.Held) -> Grant:
    """What annotations lack is what the records have; missing data is no evidence of anything (bug row 29)."""
    if grant.v4 is None and grant.v6 is None:
        grant = replace(grant, v4=kept.v4, v6=kept.v6)
    grant = replace(grant, mac=grant.mac or kept.mac or 0)
    if not grant.mac or (grant.v4 is None and grant.v6 is None):
        why = "it is empty, and no record says what the running pod has: delete the pod"
        key = naming.PREFIX + ("ip_address" if grant.mac else "mac_address")
        raise Refused(say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=key, why=why))
    return grant


def _unshared(view: View, subnet: str, port: str, addresses: str, mac: str) -> Grant | ipam.Refusal:
    """A reservation's address for its own pod, unless two records claim it (Rule 5: the live one goes on)."""
    try:
        grant = _grant_of(addresses.lower(), mac.lower())  # Kube-OVN's own may be in upper case
    except Malformed as why:
        raise Refused(say(Reason.RESERVATION_MISMATCH, "not_ready", ip=port, why=why), (("ip", port),)) from None
    pairs: tuple[tuple[Family, int | None], ...] = ((4, grant.v4), (6, grant.v6))
    for family, value in pairs:
        address = Address(family, value or 0)
        rivals = [h for h in view.book.holders(subnet, address) if h != port] if value is not None else []
        if rivals:
            text = say(
                Reason.ADDRESS_CONFLICT, "held", address=format_address(address), subnet=subnet, owner=", ".join(rivals)
            )
            return ipam.Refusal(text, (ipam.address_topic(subnet, address), ipam.plan_topic(subnet)))
    return grant


def _from_list(
    view: View, want: ipam.Want, pool: tuple[Entry, ...], bidder: Bidder, now: Seconds
) -> Grant | ipam.Refusal:
    """The first entry that is free; a StatefulSet's pod has the entry of its ordinal (kube-ovn-behaviour §8.8)."""
    place = view.place
    assert place is not None and place.plan is not None  # noqa: S101, PT018 - checked by _serve
    number = naming.pod_ordinal(bidder.object)
    if number is not None:
        pool = pool[number : number + 1]
    mine = view.book.kept(place.name, want.port)
    ordered = sorted(pool, key=lambda e: (e.v4, e.v6) != (mine.v4, mine.v6))
    waits: list[tuple[str, ...]] = [("plan", place.name)]
    for entry in ordered:
        answer = ipam.choose(view.book, place.plan, replace(want, v4=entry.v4, v6=entry.v6), now)
        if not isinstance(answer, ipam.Refusal):
            return answer
        waits += answer.waits
    texts = bidder.object.metadata.annotations.get(naming.PREFIX + "ip_pool", "")
    return ipam.Refusal(say(Reason.ADDRESS_CONFLICT, "list", addresses=texts, subnet=place.name), tuple(waits))


def _former_life(bidder: Bidder, held: Held) -> bool:
    """True if the port was made for another pod of this name: a new pod gets a fresh address and MAC (§21 there)."""
    made_for = held.row.external(POD_UID) if held.row is not None else ""
    return bidder.kind == "" and made_for not in {"", bidder.object.metadata.uid}
