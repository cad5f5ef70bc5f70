"""Picture -> View, synchronously and through indexes: what one decision may know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from controller.core import naming, occupants, records
from controller.core.addresses import parse_address
from controller.core.catalogue import Message
from controller.core.decisions import namespace as of_namespace
from controller.core.decisions import nic as of_nic
from controller.core.decisions import pod as of_pod
from controller.core.decisions import pool as of_pool
from controller.core.decisions import realise
from controller.core.decisions import reservation as of_reservation
from controller.core.decisions import subnet as of_subnet
from controller.core.decisions.networks import unplugged
from controller.core.decisions.placement import choices
from controller.core.decisions.release import Grounds
from controller.core.decisions.retention import Pods
from controller.core.decisions.sweep import ids_of
from controller.core.faults import Malformed
from controller.core.objects import Kind
from controller.reconcilers import keys, workloads
from controller.reconcilers.bids import Bids, unreadable
from controller.reconcilers.nics import takes_part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.core.decisions.binding import Bidder
    from controller.core.decisions.networks import Networks
    from controller.core.objects import Ip, Pod, Recorded
    from controller.machines.waiting import Waiting
    from controller.ports import Clock
    from controller.reconcilers.keys import Key
    from controller.reconcilers.picture import Picture

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Views:
    """Builds every View; reads the Picture and changes nothing."""

    picture: Picture
    waiting: Waiting[Key]
    refusals: Mapping[Key, Message]
    clock: Clock
    busy: Callable[[Key], bool]  # a key that writes now, or whose writes are not shown yet
    protect_in_use: bool = True
    pod_nic_type: str = "veth-pair"
    migration_options: bool = True
    sweeps: bool = False  # a sweep clears what no owner was ever known of: until then it is kept

    @property
    def bids(self) -> Bids:
        """Who wants which port."""
        return Bids(self.picture, self.waiting)

    def stamp(self) -> str:
        """The wall clock as the API writes it."""
        return _stamp(int(self.clock.wall()))

    # -- reservations ------------------------------------------------------------------------------

    def reservation(self, name: str) -> of_reservation.View:
        """What may be known for one IP name."""
        picture = self.picture
        ip = picture.ips.get("", name)
        recorded = picture.granted(ip) if ip is not None else None
        subnet_name = recorded.subnet if recorded is not None else ip.spec.subnet if ip is not None else ""
        by = picture.promised_by(name)
        owners = self._owners(name, ip, recorded)
        bidders = self._bidders_of_port(name, owners, recorded)
        return of_reservation.View(
            name=name,
            ip=ip,
            row=picture.port(name),
            place=picture.atlas.place(subnet_name),
            book=picture.ledger,
            bidders=bidders,
            recorded=recorded,
            under_way=by is not None and by.kind == keys.POD and bool(bidders),
            promised=by is not None and by.kind == keys.RESERVATION,
            queued=self.bids.sight(keys.reservation(name), name).queued(subnet_name),
            dice=self.clock.dice(),
            stamp=self.stamp(),
            protect_in_use=self.protect_in_use,
            port_in_doubt=any(self.busy(keys.pod(*owner)) for owner in owners),
            others=self._rivals(name, recorded) if recorded is not None else (),
        )

    def _owners(self, port: str, ip: Ip | None, recorded: Recorded | None) -> set[naming.Owner]:
        """Whom the port's name, the IP, its grant and its row may mean; fields can be edited, and a row be gone."""
        owners = set(naming.owners_by_name(port))
        if ip is not None:
            owners.add(naming.Owner(ip.spec.namespace, ip.spec.pod_name))
        if recorded is not None:
            owners.add(naming.Owner(recorded.namespace, recorded.pod_name))
        row = self.picture.port(port)
        if row is not None:
            space, _, name = row.external("pod").partition("/")
            owners.add(naming.Owner(space, name))
        return owners

    def _rivals(self, name: str, recorded: Recorded) -> tuple[str, ...]:
        """Everybody else who claims an address of this IP."""
        found: dict[str, None] = {}
        for text in filter(None, (recorded.v4_ip_address, recorded.v6_ip_address)):
            try:
                address = parse_address(text)
            except Malformed:
                continue
            holders = self.picture.ledger.holders(recorded.subnet, address)
            if len(holders) > 1:
                found.update(dict.fromkeys(h for h in holders if h != name))
        return tuple(sorted(found))  # a process that reads everything anew says the same

    def _bidders_of_port(self, port: str, owners: set[naming.Owner], recorded: Recorded | None) -> tuple[Bidder, ...]:
        """Live pods with a NIC whose port has this name."""
        return tuple(
            bidder
            for owner in sorted(owners)
            if naming.is_port_of(port, owner)
            for bidder in self.bids.bidders(owner, port, recorded)
        )

    # -- pods --------------------------------------------------------------------------------------

    def pod(self, namespace_: str, name: str) -> of_pod.View:
        """What may be known for one owner of pods."""
        picture, owner = self.picture, naming.Owner(namespace_, name)
        pods = picture.pods.by("owner", owner)
        live = [(one, picture.nics.networks(one)) for one in pods if takes_part(one)]
        listed = {naming.port_name(owner, nic.provider): None for _, found in live for nic in found.nics}
        others = (self._one(port, owner) for port in self._ports(owner) if port not in listed)
        # What was only promised and never recorded is let go of, whatever becomes of the network that it was for.
        held = tuple(one for one in others if not ((one.ip or one.row) and _may_have(live, owner, one)))
        return of_pod.View(
            owner=owner,
            nics=tuple(self._nic(owner, port) for port in listed),
            left=held,
            grounds=self._grounds(owner, held, served=bool(live)),
            bystanders=any(one.alive and bool(one.fault) for one in pods),
            finished=next((one for one in pods if not one.alive), None),
            unserved=tuple((one, unserved) for one, found in live for unserved in found.unserved),
            unplugged=tuple((one, keys_) for one, found in live if (keys_ := unplugged(one, found))),
        )

    def _grounds(self, owner: naming.Owner, left: tuple[realise.Held, ...], *, served: bool) -> Grounds:
        """On what the ports that no live pod has are kept or let go; asked for those that may be kept only."""
        picture = self.picture
        told = [held.recorded.pod_type if held.recorded else held.ip.spec.pod_type for held in left if held.ip]
        types = sorted({one for one in told if one})
        space = picture.namespaces.get("", owner.namespace)
        gone_proved = picture.pods.count_by("owner", owner) > 0 or picture.pods.seen_gone(*owner)
        return Grounds(
            gone_proved=gone_proved,
            pods=Pods.WITHOUT if served else Pods.NONE,
            workloads={one: workloads.known(picture, one, owner) for one in types},
            gone=workloads.gone(picture, owner) if types else frozenset(),
            listed=choices(space, picture.atlas) if types else (),
            migrates=self.migration_options,
            vips=picture.served(Kind.VIP),
            unproven=self._unproven(left) if self.sweeps and not gone_proved else frozenset(),
        )

    def _unproven(self, left: tuple[realise.Held, ...]) -> frozenset[str]:
        strange = self.picture.acquaintance.stranger
        return frozenset(held.port for held in left if strange(held.port, ids_of(held)))

    def _nic(self, owner: naming.Owner, port: str) -> of_nic.View:
        picture = self.picture
        held = self._one(port, owner)
        bidders = self.bids.bidders(owner, port, held.recorded)
        leader = bidders[-1]
        return of_nic.View(
            bidders=bidders,
            place=self.bids.place(leader),
            held=held,
            book=picture.ledger,
            unreadable=unreadable(leader),
            reservation_refusal=self.refusals.get(keys.reservation(held.port)),
            queued=self.bids.sight(keys.pod(*owner), held.port).queued(leader.subnet, leader.home.pool),
            dice=self.clock.dice(),
            age=self._age(leader.object),
            pod_nic_type=self.pod_nic_type,
            port_in_doubt=self.busy(keys.reservation(held.port)),
            owner_uid=workloads.uid_for(picture, leader.object),
            owner_unseen=workloads.unseen(picture, leader.object),
            options=workloads.options_for(picture, [one.object for one in bidders]) if self.migration_options else None,
        )

    def _ports(self, owner: naming.Owner) -> dict[str, None]:
        """Every port name that anything names for this owner."""
        names = dict.fromkeys((naming.port_name(owner),))
        names |= dict.fromkeys(ip.metadata.name for ip in self.picture.ips.by("owner", owner))
        names |= dict.fromkeys(row.name for row in self.picture.ports.by_owner(str(owner)))
        return names | dict.fromkeys(self.picture.promised_to(keys.pod(*owner)))

    def _one(self, name: str, owner: naming.Owner) -> realise.Held:
        picture = self.picture
        ip = picture.ips.get("", name)
        return realise.Held(
            name,
            ip,
            picture.port(name),
            picture.granted(ip) if ip is not None else None,
            promised=picture.promised_by(name) == keys.pod(*owner),
            unborn=name in picture.ghosts.unborn,
        )

    def _age(self, one: Pod) -> float:
        """Seconds since the pod was created; a clock that differs makes it old, never young for long."""
        try:
            made = datetime.fromisoformat(one.metadata.creation_timestamp)
        except ValueError:
            return of_nic.GRACE
        age = self.clock.wall() - made.timestamp()
        return age if age >= 0 else of_nic.GRACE

    # -- subnets and namespaces --------------------------------------------------------------------

    def subnet(self, name: str, *, counted: bool) -> of_subnet.View:
        """What may be known for one Subnet; with `counted` also who has what in it (O(n log n) in its users)."""
        picture = self.picture
        one = picture.atlas.subnet(name)
        users = picture.ledger.users(name)
        own = {port for port in occupants.own_ports(one) if port in users} if one is not None else frozenset()
        first = tuple(islice((user for user in users if user not in own), _SHOWN))
        return of_subnet.View(
            name=name,
            subnet=one,
            layout=picture.atlas.layout(name) if one is not None else of_subnet.UNKNOWN,
            overlap=picture.atlas.overlap(name),
            switch=picture.ports.get_switch(name),
            usage=picture.ledger.usage(name) if counted else None,
            users=first,
            user_count=len(users) - len(own),
            stamp=self.stamp(),
        )

    def namespace(self, name: str) -> of_namespace.View:
        """What may be known for one namespace."""
        picture = self.picture
        one = picture.namespaces.get("", name)
        if one is None:
            return of_namespace.View(None, (), ())
        listing = [picture.atlas.subnet(s) for s in picture.atlas.listing(one)]
        notes, atlas = one.metadata.annotations, picture.atlas
        named = [atlas.subnet(s.strip()) for s in notes.get(of_namespace.SWITCHES, "").split(",")]
        pools = atlas.pools.of_namespace(name)
        others = [atlas.pools.get(p) for p in of_namespace.entries(notes.get(of_namespace.POOLS, "")) if p not in pools]
        return of_namespace.View(
            one,
            tuple(s for s in listing if s),
            tuple(s for s in named if s),
            pools,
            tuple(p for p in others if p is not None),
        )

    def pool(self, name: str, *, counted: bool) -> of_pool.View:
        """What may be known for one IPPool name; with `counted` also who has what of it (O(n log n) in its users)."""
        picture, pools = self.picture, self.picture.atlas.pools
        one = picture.pools.get("", name)
        usage = picture.ledger.pool_usage(one.spec.subnet, name) if one is not None and counted else None
        return of_pool.View(
            name=name,
            pool=one,
            items=pools.items(name),
            complaint=picture.atlas.complaint(name) if one is not None else None,
            usage=usage,
            row=picture.ports.get_set(of_pool.set_name(name)),
            stamp=self.stamp(),
        )


@lru_cache(maxsize=4)
def _stamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _may_have(live: list[tuple[Pod, Networks]], owner: naming.Owner, held: realise.Held) -> bool:
    """True if a live pod may have that port, though nobody can tell now: then it stays as it is (Rule 2).

    One that no IP tells of, and that no pod was told of, is nobody's.
    """
    provider = naming.provider_of(held.port, owner)
    runs = any(provider in records.running(one) for one, _ in live)
    if provider == naming.OVN:  # with another default network it is none of ours any more, unless the pod runs with it
        return runs
    if held.row is not None and held.recorded is None and not runs:
        told = held.ip is not None and of_reservation.tells_of(held.ip, held.row)
        if not told:
            return False
    return any(found.may_have(provider) for _, found in live)
