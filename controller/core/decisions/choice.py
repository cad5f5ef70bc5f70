"""Which address a NIC gets: what it runs with, its reservation, what it holds, what it asks for, or a free one.

The order is contract §4's. Nothing here writes; the answer is a Grant, a Refusal, or Refused for what cannot be read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.core import ipam, naming
from controller.core.addresses import Address, format_address, parse_mac
from controller.core.catalogue import Reason, say
from controller.core.decisions import binding
from controller.core.decisions.placement import Ask, Entry, Refused, parse_entry
from controller.core.faults import Malformed
from controller.core.rows import POD_UID

if TYPE_CHECKING:
    from controller.core.addresses import Family
    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.nic import View
    from controller.core.decisions.placement import Place
    from controller.core.decisions.realise import Held
    from controller.core.effects import Topic
    from controller.core.ipam import Grant
    from controller.core.objects import Pod, Seconds


def choose(view: View, now: Seconds) -> Grant | ipam.Refusal:
    """The address of the NIC whose View this is, whole, or why there is none."""
    grant, bidder = _choose(view, now), view.leader
    if isinstance(grant, ipam.Refusal) or bidder.nic.has_port or (grant.v4, grant.v6) == (None, None):
        return grant
    asked = bidder.mac or (bidder.ask is not None and bidder.ask.mac is not None)
    kept = view.book.kept(view.place.name, view.held.port).mac is not None
    return grant if asked or kept else replace(grant, mac=0)  # other networks' MACs are theirs


def _choose(view: View, now: Seconds) -> Grant | ipam.Refusal:
    place, bidder, held = view.place, view.leader, view.held
    ask = bidder.ask or Ask()
    want = ipam.Want(held.port, dice=view.dice, queued=view.queued, mac=ask.mac, families=ask.families)
    if bidder.running:
        return _again(view, place, want, held, bidder.address, bidder.mac, now)
    plan, want = place.plan, replace(want, pool=bidder.home.pool)
    assert plan is not None  # noqa: S101 - who does not run is not served by a place with a problem
    if held.reserved and held.recorded is not None:
        recorded = held.recorded
        return _unshared(view, plan.name, held.port, binding.addresses(recorded), recorded.mac_address)
    if ask.entry is not None:
        return ipam.choose(view.book, plan, replace(want, v4=ask.entry.v4, v6=ask.entry.v6), now)
    if ask.pool:
        return _from_list(view, want, ask.pool, bidder, now)
    if _former_life(view, bidder, held):
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
        key = view.leader.nic.key("ip_address")
        raise Refused(say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=key, why=why)) from None
    kept = view.book.kept(place.name, held.port)
    grant = _completed(view, grant, kept)
    if (kept.v4, kept.v6) == (grant.v4, grant.v6) and kept != ipam.Held():
        own = held.recorded is not None and held.recorded.mac_address.lower() == mac
        taken = not own and any(port != held.port for port in view.book.mac_holders(grant.mac))
        return replace(grant, mac=kept.mac) if taken and kept.mac is not None else grant
    if place.shape is None:
        raise Refused(place.problem or say(Reason.SUBNET_NOT_FOUND, "absent", subnet=place.name), place.waits)
    named = ipam.choose(view.book, place.shape, replace(want, v4=grant.v4, v6=grant.v6, mac=grant.mac or None), now)
    return named if isinstance(named, ipam.Refusal) else grant


def _completed(view: View, grant: Grant, kept: ipam.Held) -> Grant:
    """What annotations lack is what the records have; missing data is no evidence of anything (bug row 29).

    In a subnet that gives MACs only no address is missing, on a NIC of another network no MAC.
    """
    shape, nic = view.place.shape, view.leader.nic
    if grant.v4 is None and grant.v6 is None:
        grant = replace(grant, v4=kept.v4, v6=kept.v6)
    grant = replace(grant, mac=grant.mac or kept.mac or 0)
    addressed = grant.v4 is not None or grant.v6 is not None
    has_all = bool(grant.mac) if shape is not None and not shape.families else addressed
    if not has_all or (nic.has_port and not grant.mac):
        why = "it is empty, and no record says what the running pod has: delete the pod"
        key = nic.key("ip_address" if grant.mac else "mac_address")
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
    assert place.plan is not None  # noqa: S101 - who does not run is not served by a place with a problem
    number = naming.pod_ordinal(bidder.object)
    texts = bidder.note("ip_pool")
    if number is not None:
        index = number - (bidder.first or 0)
        if not 0 <= index < len(pool):
            short = say(Reason.ADDRESS_CONFLICT, "short", addresses=texts, count=len(pool), ordinal=number)
            return ipam.Refusal(short, (set_topic(bidder.object),))
        pool = (pool[index],)
    mine = view.book.kept(place.name, want.port)
    ordered = sorted(pool, key=lambda e: (e.v4, e.v6) != (mine.v4, mine.v6))
    waits: list[tuple[str, ...]] = [("plan", place.name)]
    cool: list[float] = []  # when those that were released a moment ago may be given out again
    for entry in ordered:
        answer = ipam.choose(view.book, place.plan, replace(want, v4=entry.v4, v6=entry.v6), now)
        if not isinstance(answer, ipam.Refusal):
            return answer
        waits += answer.waits
        cool += [answer.retry_after] if answer.retry_after is not None else []
    message = say(Reason.ADDRESS_CONFLICT, "list", addresses=texts, subnet=place.name)
    return ipam.Refusal(message, tuple(waits), min(cool, default=None))


def set_topic(pod: Pod) -> Topic:
    """Fires when the StatefulSet of that pod changes."""
    return ("statefulset", pod.metadata.namespace, naming.set_name(pod))


def _former_life(view: View, bidder: Bidder, held: Held) -> bool:
    """True if what the port has was for another one of this name: a new one gets a fresh address and MAC (§21 there).

    A pod's own address ends with the pod, that of a StatefulSet or VM with the very object of that name (contract §5).
    """
    pod = held.row.external(POD_UID) if held.row is not None else ""
    if bidder.kind == "" or pod == bidder.object.metadata.uid:
        return pod not in {"", bidder.object.metadata.uid}
    made_for = held.ip.metadata.annotations.get(naming.OWNER_UID, "") if held.ip is not None else ""
    return bool(view.owner_uid) and made_for not in {"", view.owner_uid}
