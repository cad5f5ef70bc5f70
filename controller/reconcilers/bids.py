"""Who bids for a port: the live pods with that NIC, each with its subnet and what it asks for there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from controller.core import naming
from controller.core.catalogue import Message, Reason, say
from controller.core.decisions import binding
from controller.core.decisions.networks import DEFAULT
from controller.core.decisions.placement import (
    Ask,
    Home,
    Refused,
    ask_of,
    home_of,
    home_of_nic,
    subnet_of,
    subnet_of_nic,
)
from controller.reconcilers import keys
from controller.reconcilers.nics import takes_part
from controller.reconcilers.sight import Sight

if TYPE_CHECKING:
    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.networks import Nic
    from controller.core.decisions.placement import Place
    from controller.core.objects import Pod, Recorded
    from controller.machines.waiting import Waiting
    from controller.reconcilers.keys import Key
    from controller.reconcilers.picture import Picture

NO_ASK: Final = Ask()


@dataclass(frozen=True, slots=True)
class Bids:
    """Reads the Picture and changes nothing."""

    picture: Picture
    waiting: Waiting[Key]

    def sight(self, key: Key, port: str) -> Sight:
        """The subnets and pools as that key's port sees them."""
        return Sight(self.picture.atlas, self.picture.ledger, self.waiting, key, port)

    def bidders(self, owner: naming.Owner, port: str, recorded: Recorded | None) -> tuple[Bidder, ...]:
        """In the order in which they are served: the last one leads, a running one before all, the oldest of these."""
        live = [one for one in self.picture.pods.by("owner", owner) if takes_part(one)]
        live.sort(key=lambda one: (one.metadata.creation_timestamp, one.metadata.uid))
        found = [
            self._bidder(one, nic, recorded)
            for one in live
            for nic in self.picture.nics.networks(one).nics
            if naming.port_name(owner, nic.provider) == port
        ]
        return (*(one for one in found if not one.running), *(one for one in reversed(found) if one.running))

    def _bidder(self, one: Pod, nic: Nic, recorded: Recorded | None) -> Bidder:
        """A live pod with one NIC's subnet and what it asks for; unreadable annotations ask for nothing."""
        notes = one.metadata.annotations
        has = notes.get(nic.key("allocated")) == "true"
        ask: Ask | None = NO_ASK
        if not has:
            try:
                ask = ask_of(one, nic)
            except Refused:
                ask = None
        owner = naming.owner_of(one)
        return binding.Bidder(
            object=one,
            port=naming.port_name(owner, nic.provider),
            owner=owner,
            kind=naming.pod_type(one),
            home=self._home(one, nic, recorded, ask or NO_ASK, has=has),
            ask=ask,
            running=has,
            address=notes.get(nic.key("ip_address"), "") if has else "",
            mac=notes.get(nic.key("mac_address"), "") if has else "",
            first=self._first_ordinal(one),
            nic=nic,
        )

    def _first_ordinal(self, one: Pod) -> int | None:
        """Where its StatefulSet begins to count; None for one that is not known, or that is another by now."""
        name, uid = naming.set_name(one), naming.set_uid(one)
        known = self.picture.stateful_sets.get(one.metadata.namespace, name) if name else None
        return known.spec.ordinals.start if known is not None and known.metadata.uid == uid else None

    def _home(self, one: Pod, nic: Nic, recorded: Recorded | None, ask: Ask, *, has: bool) -> Home:
        """Where the NIC's address comes from, or came from."""
        owner = naming.owner_of(one)
        port = naming.port_name(owner, nic.provider)
        sight = self.sight(keys.pod(*owner), port)
        reserved_in = recorded.subnet if recorded is not None and recorded.reserved == "true" else ""
        if nic == DEFAULT:
            space = self.picture.namespaces.get("", one.metadata.namespace)
            if has:
                return Home(subnet_of(one, space, sight, reserved_in, ask))
            return home_of(one, space, sight, reserved_in, ask)
        if not has:
            return home_of_nic(one, nic, sight, reserved_in, ask)
        said = (record.subnet for _, _, record in self.picture.ledger.records_of(port))
        known = None if nic.has_port else next(said, None)  # its annotations do not say
        return Home(known or subnet_of_nic(one, nic, sight, reserved_in, ask))

    def place(self, leader: Bidder) -> Place:
        """The leader's subnet; for a further NIC without any, what has to be made."""
        found, nic = self.picture.atlas.place(leader.subnet), leader.nic
        if leader.subnet or nic == DEFAULT:
            return found
        facts = {"provider": nic.bound, "key": nic.key("logical_switch")}
        return replace(found, problem=say(Reason.SUBNET_NOT_FOUND, "unbound", **facts))


def unreadable(bidder: Bidder) -> Message | None:
    """Why the pod's annotations cannot be read, None if they can."""
    if bidder.ask is not None:
        return None
    try:
        ask_of(bidder.object, bidder.nic)
    except Refused as refused:
        return refused.message
    return None
