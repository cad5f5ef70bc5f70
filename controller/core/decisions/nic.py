"""decide() for one NIC of one owner: give it an address, or say why there is none (contract §4).

Each NIC is decided by itself: whatever is wrong with one never touches another (bug row 18). On the way up: port, IP,
pod annotations (Rule 3); pod.py puts the NICs of one owner together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeGuard

from controller.core import ipam, naming
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions import binding, conditions
from controller.core.decisions.choice import choose, set_topic
from controller.core.decisions.migration import merged
from controller.core.decisions.networks import DEFAULT
from controller.core.decisions.placement import Refused
from controller.core.decisions.realise import Held, Request, adoptable, realise
from controller.core.decisions.reservation import SOON, contradicts, tells_of
from controller.core.effects import ConfirmGone, Decision, DropPort, Promise, PutPort, Tell, Withdraw
from controller.core.objects import Kind
from controller.core.rows import POD_UID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.placement import Place
    from controller.core.effects import Effect, Topic
    from controller.core.ipam import Book
    from controller.core.objects import Ip, Seconds
    from controller.core.rows import PortRow

GRACE: Final = 2.0  # most pods have a node by then, and one patch carries `routed` too; their owners are shown


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one NIC. Possibly stale, never torn."""

    bidders: tuple[Bidder, ...]  # the live pods that have this NIC; the last leads: one that runs, else the newest
    place: Place  # the subnet of the leader
    held: Held  # what exists under the port's name
    book: Book
    unreadable: Message | None  # why the leader's annotations cannot be read
    reservation_refusal: Message | None  # why the IP of this port is not granted yet, if it was tried
    queued: frozenset[Topic]  # the lines in which others have waited longer
    dice: int
    age: Seconds  # of the leader, by the wall clock
    pod_nic_type: str = "veth-pair"
    port_in_doubt: bool = False  # the IP's key is writing, or has written what is not shown yet
    owner_uid: str = ""  # of the leader's StatefulSet or VM, if it is known
    owner_unseen: bool = False  # its VM's instance is not shown yet, and with it whose the address is to be
    options: Mapping[str, str] | None = None  # that the port shall have of those we manage; None: as they are

    @property
    def leader(self) -> Bidder:
        """The pod whose wishes count."""
        return self.bidders[-1]


def decide(view: View, now: Seconds) -> Decision:
    """What this NIC needs now; empty when it is as it should be."""
    bidder, held = view.leader, view.held
    if held.row is not None and _in_the_way(bidder, held, held.row):
        return Decision((DropPort(held.row),))
    if view.port_in_doubt and _ending(held):
        return Decision(requeue_after=SOON)  # the port may be gone with its IP, or go with it, and not be missed yet
    try:
        decision = _serve(view, bidder, held, now)
    except Refused as refused:
        decision = _refuse(bidder, refused.message, refused.waits)
    if decision.refusal is not None:
        decision = replace(decision, effects=(*decision.effects, *_port_at_rest(view)))
    if decision.waits and not bidder.running:
        decision = replace(decision, waits=(*decision.waits, *_placement(view, bidder)))
    if held.promised and not any(isinstance(effect, Promise) for effect in decision.effects):
        decision = replace(decision, effects=(Withdraw(held.port), *decision.effects))
    strays = [b for b in view.bidders if not b.joins(bidder)]
    if strays:
        refusals = [_refuse(b, _stray(b, bidder), ()) for b in strays]
        tells = (*decision.tells, *(tell for r in refusals for tell in r.tells))
        return replace(decision, tells=tells, refusal=decision.refusal or refusals[0].refusal)
    return decision


def _port_at_rest(view: View) -> tuple[Effect, ...]:
    """A kept port whose next pod is refused: what a migration left in its options is taken out all the same.

    One of that owner that is not what the IP says goes, as it does where there is no pod: nobody runs with it.
    """
    row, held, pod = view.held.row, view.held, view.leader
    if row is None or not row.ours or row.type != "":
        return ()
    if not pod.running and _untold(held, row, pod):
        return (*_former_gone(row, pod), DropPort(row))
    if view.options is None:
        return ()
    plain = row._replace(options=merged(row.options, view.options))
    return (PutPort(plain._replace(uuid=""), row),) if plain != row else ()


def _untold(held: Held, row: PortRow, pod: Bidder) -> bool:
    """True for a port that no record is of: the owner's or a reservation's, or the pod's own where nothing is recorded.

    It was made for a pod whose IP was not written any more (seed 1391).
    """
    if held.unborn:
        return False
    own = row.external(POD_UID) == pod.object.metadata.uid
    if held.recorded is not None:
        return (own or held.reserved or _of_a_former(row, pod)) and contradicts(row, held.recorded)
    return own and (held.ip is None or not tells_of(held.ip, row))


def _of_a_former(row: PortRow, pod: Bidder) -> bool:
    """True for the port of another pod of this name, which a live read can tell to be gone; a VM's has another name."""
    uid = row.external(POD_UID)
    mine = row.external("pod") == str(pod.owner) and pod.kind != "VirtualMachine"
    return mine and uid not in {"", pod.object.metadata.uid}


def _former_gone(row: PortRow, pod: Bidder) -> tuple[Effect, ...]:
    """The pod shown may be older than the port: a process that lagged behind would drop that of a running pod."""
    return (ConfirmGone(*pod.owner, uid=row.external(POD_UID)),) if _of_a_former(row, pod) else ()


def _placement(view: View, bidder: Bidder) -> tuple[tuple[str, ...], ...]:
    """What may send the NIC to another subnet: whoever waits for anything is looked at again then."""
    if bidder.nic != DEFAULT:
        return (*view.place.waits, ("provider", bidder.nic.bound), *bidder.home.pools)
    elsewhere = (("namespace", bidder.object.metadata.namespace), ("default",))
    return (*view.place.waits, *elsewhere, *bidder.home.pools)


def _ending(held: Held) -> bool:
    """True for a port whose IP goes or is gone, be there a new one of its name already (seed 24)."""
    if held.ip is not None and held.ip.metadata.deleting:
        return True
    return held.row is not None and held.recorded is None


def _in_the_way(bidder: Bidder, held: Held, row: PortRow) -> bool:
    """True for a port of a former pod that no record tells of, where a user asks for a reservation of its name.

    Whatever was kept of that pod is gone with its IP object; the request cannot be granted while the port is there.
    """
    asked = held.ip is not None and held.recorded is None and not tells_of(held.ip, row)
    if not bidder.nic.has_port:
        return row.ours and row.type == ""  # a NIC of another network has none
    former = row.ours and row.type == "" and row.external(POD_UID) not in {"", bidder.object.metadata.uid}
    return asked and former and not bidder.running


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


def _refuse(
    bidder: Bidder, message: Message, waits: tuple[tuple[str, ...], ...], after: Seconds | None = None
) -> Decision:
    """No address now: said on the pod under the exact reason and under Kube-OVN's name for it, with the NIC's name."""
    meta = bidder.object.metadata
    if bidder.nic != DEFAULT:
        message = Message(message.reason, f"provider={bidder.nic.provider}: {message.text}")
    also = say(Reason.ACQUIRE_ADDRESS_FAILED, "stage", reason=message.reason, text=message.text)
    told = [message] if message.reason is Reason.VALIDATE_POD_NETWORK_FAILED else [message, also]
    tells = tuple(Tell(Kind.POD, meta.namespace, meta.name, meta.uid, m) for m in told)
    return Decision(requeue_after=after, waits=waits, refusal=message, tells=tells)


def _serve(view: View, bidder: Bidder, held: Held, now: Seconds) -> Decision:
    pod, place = bidder.object, view.place
    if bidder.is_cut_off:
        return Decision()
    if not bidder.running and (not pod.spec.node_name or view.owner_unseen) and view.age < GRACE:
        return Decision(requeue_after=GRACE - max(view.age, 0.0))
    _check_pod(view, bidder, held)
    unserved = _unserved(place, held, bidder)
    if unserved is not None:
        return unserved
    wait = _reservation_first(view, bidder, held)
    if wait is not None:
        return wait
    if _was_reserved(held.ip, held):
        return Decision((conditions.cleared(held.ip),), waits=(("ip", held.port),))
    if _has_no_number(bidder, held):
        return Decision(waits=(set_topic(pod),))
    answer = choose(view, now)
    if isinstance(answer, ipam.Refusal):
        full = answer.message.reason is Reason.SUBNET_EXHAUSTED  # then it stands in line wherever it may go
        return _refuse(bidder, answer.message, answer.waits + bidder.home.lines * full, answer.retry_after)
    ip = held.ip
    if _passes_over(ip, view) and held.recorded is None and not adoptable(bidder, ip, answer):
        if held.row is None:
            return _not_granted(view, held)
        return Decision((DropPort(held.row),), waits=(("ip", held.port),))
    return realise(Request(view.bidders, place, view.pod_nic_type, view.owner_uid, view.options), bidder, held, answer)


def _passes_over(ip: Ip | None, view: View) -> TypeGuard[Ip]:
    """True for a user's request that was there before the pod: what was begun for the pod is undone then.

    It was begun by a process that saw the pod first: watches come back in any order. Nothing was told to anybody,
    because while this IP exists none can be made for the pod, and its annotations come after that (Rule 3).
    Within one second (the resolution of creationTimestamp) the versions decide.
    """
    if ip is None or ip.metadata.ours or any(one.running for one in view.bidders):
        return False
    made, pod = ip.metadata, view.leader.object.metadata
    first = (made.creation_timestamp, made.version) < (pod.creation_timestamp, pod.version)
    return first and made.labels.get(naming.RESERVED) != "false"


def _was_reserved(ip: Ip | None, held: Held) -> TypeGuard[Ip]:
    """True for an ordinary IP whose status still tells of a reservation: that goes before anything else is written.

    Else, were its label edited back after a crash, what was granted then would be put back into the spec.
    """
    if ip is None or ip.metadata.deleting or naming.foreign(ip):
        return False
    return ip.status.recorded is not None and not held.reserved


def _has_no_number(bidder: Bidder, held: Held) -> bool:
    """True while nobody knows where the StatefulSet begins to count: which entry of its list it is, is not guessed."""
    listed = bidder.ask is not None and bool(bidder.ask.pool) and not held.reserved
    return listed and bidder.first is None and naming.pod_ordinal(bidder.object) is not None


def _unserved(place: Place, held: Held, bidder: Bidder) -> Decision | None:
    """What keeps the subnet from serving: said to who wants an address, borne with by who has one.

    The records of a running pod are kept whole in a subnet that is malformed or going, too: its address is in use.
    """
    nic = bidder.nic
    if bidder.running:
        waits = place.waits if place.subnet is None else (("switch", place.name),)
        lost = place.subnet is None or (nic.has_port and not place.switch and held.row is None)
        return Decision(waits=waits) if lost else None
    if place.problem is not None:
        raise Refused(place.problem, place.waits)
    if nic == DEFAULT and place.provider != naming.OVN:  # other providers are for further NICs
        why = say(Reason.SUBNET_NOT_FOUND, "provider", subnet=place.name, provider=place.provider)
        raise Refused(why, place.waits)
    if naming.is_ovn(place.provider) != nic.has_port:
        facts = {"subnet": place.name, "provider": place.provider, "wanted": nic.bound}
        raise Refused(say(Reason.SUBNET_NOT_FOUND, "other", **facts), place.waits)
    if not place.switch:
        raise Refused(say(Reason.SUBNET_NOT_FOUND, "switch", subnet=place.name), (("switch", place.name),))
    return None


def _check_pod(view: View, bidder: Bidder, held: Held) -> None:
    if held.row is not None and not held.row.ours and bidder.nic.has_port:
        why = "a logical switch port of another system has this name"
        raise Refused(say(Reason.INVALID_SPEC, "name", name=bidder.port, why=why), (("port", bidder.port),))
    if view.unreadable is not None:
        raise Refused(view.unreadable)
    if bidder.home.problem is not None and not bidder.running and not held.reserved:
        raise Refused(bidder.home.problem, bidder.home.pools)
    if not bidder.running and (owner := _namesake(bidder, held)):
        why = f"it is the port of {owner}, too"
        topics = (("port", bidder.port), ("ip", bidder.port))
        raise Refused(say(Reason.INVALID_SPEC, "name", name=bidder.port, why=why), topics)
    if bidder.nic == DEFAULT and naming.VIP_ANNOTATION in bidder.object.metadata.annotations:
        raise Refused(say(Reason.VIP_DEPRECATED, "use", ip=bidder.port))
    why = naming.name_problem(bidder.port)
    if why:
        raise Refused(say(Reason.INVALID_SPEC, "name", name=bidder.port, why=why))


def _namesake(bidder: Bidder, held: Held) -> str:
    """Another owner with a port of this very name that is there already, "" without one.

    `<pod>.<namespace>.<provider>` may be read in two ways (kube-ovn-behaviour §1, name ambiguity).
    """
    space, _, name = (held.row.external("pod") if held.row is not None and held.row.ours else "").partition("/")
    rivals = [naming.Owner(space, name)]
    if held.recorded is not None and not held.reserved:
        rivals.append(naming.Owner(held.recorded.namespace, held.recorded.pod_name))
    found = (str(one) for one in rivals if one.name and one != bidder.owner and naming.is_port_of(held.port, one))
    return next(found, "")


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
        return _not_granted(view, held)
    if not held.reserved:
        return None
    clash = binding.clash(bidder, held.port, held.recorded)
    if clash is not None:
        raise Refused(clash, topic)
    return Decision(waits=topic) if bidder.nic.has_port and not held.recorded.mac_address else None  # it gets one


def _not_granted(view: View, held: Held) -> Decision:
    """Wait for a request of a user; raises Refused with what is wrong with it, if it was tried."""
    topic = (("ip", held.port),)
    if view.reservation_refusal is None:
        return Decision(waits=topic)
    why = view.reservation_refusal.text
    raise Refused(say(Reason.RESERVATION_MISMATCH, "not_ready", ip=held.port, why=why), topic)
