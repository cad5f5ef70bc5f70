"""Everything this process knows, and the only place where knowing changes.

Each `see_*` takes one change of a replica, folds it into ledger and atlas, and answers the work keys that it concerns,
of the old state and of the new one. There is no await here: a Picture is never torn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller.core import naming, occupants, records
from controller.core.addresses import parse_address
from controller.core.decisions.binding import addresses
from controller.core.decisions.entitlement import Attachment
from controller.core.decisions.multus import nad_topic
from controller.core.decisions.networks import attachments_of
from controller.core.decisions.pool import set_topic
from controller.core.effects import Promise, Remember
from controller.core.faults import Malformed
from controller.core.ipam import Record, Source, space_topic
from controller.core.neighbours import (
    IptablesEip,
    Migration,
    Nad,
    OvnEip,
    Pool,
    StatefulSet,
    Vip,
    VirtualMachine,
    VirtualMachineInstance,
)
from controller.core.objects import Ip, Kind, Namespace, Node, Pod, Subnet
from controller.machines.acquaintance import Acquaintance
from controller.machines.atlas import Atlas
from controller.machines.ledger import Ledger
from controller.machines.replica import PortReplica, Replica
from controller.machines.waiting import SPACE
from controller.reconcilers import keys, neighbours, workloads
from controller.reconcilers.ghosts import Ghosts
from controller.reconcilers.nics import Nics, pod_key
from controller.reconcilers.relations import (
    alike,
    owner_of_row,
    owners_of_ip,
    pools_of_namespace,
    subnet_of_ip,
    subnets_of_namespace,
    vm_of_migration,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.core.addresses import Family
    from controller.core.effects import Topic
    from controller.core.objects import Recorded, Seconds
    from controller.core.rows import AddressSetRow, PortRow, SwitchRow
    from controller.reconcilers.keys import Key


class Picture:
    """Replicas, ledger, atlas, and what was granted to whom as this process has seen it."""

    def __init__(self, *, keep_vm_ip: bool = True) -> None:
        self.keep_vm_ip = keep_vm_ip
        self.ips: Replica[Ip] = Replica({"owner": owners_of_ip, "subnet": subnet_of_ip, "workload": workloads.of_ip})
        by = {"owner": lambda pod: (naming.owner_of(pod),), "nad": attachments_of}
        self.pods: Replica[Pod] = Replica(by, known_as=self._settled)
        self.subnets: Replica[Subnet] = Replica()
        self.namespaces: Replica[Namespace] = Replica({"subnet": subnets_of_namespace, "pool": pools_of_namespace})
        self.nodes: Replica[Node] = Replica()
        self.stateful_sets: Replica[StatefulSet] = Replica()
        self.pools: Replica[Pool] = Replica({"subnet": lambda pool: (pool.spec.subnet,)})
        self.nads: Replica[Nad] = Replica()
        self.vms: Replica[VirtualMachine] = Replica()
        self.vmis: Replica[VirtualMachineInstance] = Replica()
        self.migrations: Replica[Migration] = Replica({"vm": vm_of_migration})
        self.vips: Replica[Vip] = Replica({"subnet": lambda vip: (vip.spec.subnet,)})
        self.iptables_eips: Replica[IptablesEip] = Replica()
        self.ovn_eips: Replica[OvnEip] = Replica()
        self._replicas: dict[Kind, Replica[Any]] = {
            Kind.IP: self.ips,
            Kind.POD: self.pods,
            Kind.SUBNET: self.subnets,
            Kind.NAMESPACE: self.namespaces,
            Kind.NODE: self.nodes,
            Kind.STATEFUL_SET: self.stateful_sets,
            Kind.POOL: self.pools,
            Kind.NAD: self.nads,
            Kind.VM: self.vms,
            Kind.VMI: self.vmis,
            Kind.MIGRATION: self.migrations,
            Kind.VIP: self.vips,
            Kind.IPTABLES_EIP: self.iptables_eips,
            Kind.OVN_EIP: self.ovn_eips,
        }
        self._unserved: set[Kind] = set()  # kinds whose CRD is not there
        self.ports = PortReplica()
        self.ledger = Ledger()
        self.acquaintance = Acquaintance()
        self.atlas = Atlas(switches=self._has_switch, has_room=self._has_room)
        self.nics = Nics(self.nads, self.atlas)
        self.promisers: dict[str, Key] = {}
        self._promised: dict[Key, dict[str, None]] = {}  # the same by key
        self.ghosts = Ghosts(self.ledger)
        self.reserved: dict[str, int] = {}  # subnet -> granted reservations
        self.shared: dict[str, None] = {}  # ports with an address that a second one has claimed just now
        self.crowded: set[str] = set()  # subnets that have changed themselves
        self._granted: dict[str, tuple[str, Recorded]] = {}  # IP name -> uid, what was granted
        self.leads = False  # else somebody else writes, and what was seen last is what was granted
        self._unplaced: set[str] = set()  # ports whose rows do not say in which switch they are
        self._topics: dict[Topic, None] = {}

    # -- questions ---------------------------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """True once every source was read whole: nothing is decided before (contract §2, Rule 5)."""
        return all(synced for _, synced in self.sources())

    def sources(self) -> tuple[tuple[str, bool], ...]:
        """Every source by name, and whether it was read whole."""
        kinds = ((str(kind), one.synced or kind in self._unserved) for kind, one in self._replicas.items())
        return (*kinds, ("Northbound", self.ports.synced))

    def sizes(self) -> Iterator[tuple[str, int]]:
        """How many objects of each kind are known."""
        return ((str(kind), len(replica)) for kind, replica in self._replicas.items())

    def served(self, kind: Kind) -> bool:
        """True if the replica shows what there is; False while the kind's CRD is not there, or nobody knows."""
        return self._replicas[kind].synced and kind not in self._unserved

    def heard(self, kind: Kind, *, served: bool) -> bool:
        """Know whether the kind is served, and answer whether that is news.

        A replica whose CRD went keeps what it has (Rule 2: unknown is not gone).
        """
        news = served == (kind in self._unserved)
        (self._unserved.discard if served else self._unserved.add)(kind)
        return news

    def version(self, kind: Kind) -> int:
        """The newest version that the replica of that kind shows."""
        return self.replica(kind).version

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        """True if the replica of that kind shows such an object."""
        return self.replica(kind).get(namespace, name) is not None

    @property
    def seq(self) -> int:
        """The newest Rows that are shown."""
        return self.ports.seq

    @property
    def epoch(self) -> int:
        """The newest whole Rows that are shown."""
        return self.ports.epoch

    def replica(self, kind: Kind) -> Replica[Any]:
        """The replica of a watched kind; raises KeyError for Lease, which is none."""
        return self._replicas[kind]

    def port(self, name: str) -> PortRow | None:
        """The port of that name; if it is a Vip's or an EIP's, as one that is not ours to change."""
        row = self.ports.get_port(name)
        return row.anothers if row is not None and neighbours.tenant(self, row) else row

    def granted(self, ip: Ip) -> Recorded | None:
        """What was granted to this IP, as status, memory and spec say it (records.granted).

        A MAC alone is a grant only where there is nothing else to give: elsewhere somebody has emptied the addresses.
        """
        uid, memory = self._granted.get(ip.metadata.name, ("", None))
        found = records.granted(ip, memory if self.leads and uid == ip.metadata.uid else None)
        emptied = found is not None and found.reserved != "false" and not addresses(found)
        return None if found is not None and emptied and self.atlas.gives_addresses(found.subnet) else found

    def _settled(self, pod: Pod) -> Pod:
        """Where it is decided whether a launcher pod has an address of its own: nothing behind this asks again."""
        return naming.settled(pod, keep_vm_ip=self.keep_vm_ip)

    def _has_switch(self, name: str) -> bool:
        return self.ports.get_switch(name) is not None

    def _has_room(self, name: str, family: Family, pool: str) -> bool:
        return self.ledger.free_count(name, family, pool) > 0

    def drain_topics(self) -> list[Topic]:
        """What has happened that somebody may wait for, each once, in order."""
        for topic in self.ledger.drain_freed():
            self._topics.setdefault(topic)
        topics = list(self._topics)
        self._topics.clear()
        return topics

    def drain_crowded(self) -> list[str]:
        """The subnets whose numbers or conditions may have changed since the last call, sorted."""
        crowded = sorted(self.crowded | self.ledger.drain_touched())
        self.crowded.clear()
        return crowded

    def lines_of(self, topic: Topic) -> Iterator[tuple[Topic, int | None]]:
        """Everybody whom the topic concerns, and how much there is for them; None: enough for all."""
        if topic[0] != SPACE:
            yield topic, None
            return
        subnet, pool = topic[1], "".join(topic[2:])
        plan = self.ledger.plan(subnet)
        families = plan.families if plan else ()
        free = {family: self.ledger.free_count(subnet, family, pool) for family in families}
        yield topic, min(free.values(), default=0)
        if len(free) > 1:
            yield from ((space_topic(subnet, pool, family), count) for family, count in free.items())

    def rooms_of(self, promise: Promise) -> Iterator[Topic]:
        """The lines in which somebody who is promised this has been served."""
        record = Record(promise.port, promise.subnet, promise.v4, promise.v6)
        for address in record.addresses:
            pool = self.ledger.pool_of(promise.subnet, address)
            yield space_topic(promise.subnet, pool)
            yield space_topic(promise.subnet, pool, address.family)

    def announce(self, *topics: Topic) -> None:
        """Somebody may be waiting for this."""
        for topic in topics:
            self._topics.setdefault(topic)

    # -- promises ----------------------------------------------------------------------------------

    def promise(self, key: Key, promise: Promise, now: Seconds) -> None:
        """Hold the address for the port from this very step (house.md, data flow)."""
        record = Record(promise.port, promise.subnet, promise.v4, promise.v6, promise.mac)
        self.ledger.put(Source.PROMISE, promise.port, (record,), now)
        self.promisers[promise.port] = key
        self._promised.setdefault(key, {})[promise.port] = None

    def withdraw(self, port: str, now: Seconds) -> None:
        """Give up what was promised to the port."""
        self.ledger.put(Source.PROMISE, port, (), now)
        self._forget_promise(port)

    def remember(self, grant: Remember, now: Seconds) -> None:
        """Know a grant from its answer on: the watch may show it together with somebody's edit of it."""
        ip = self.ips.get("", grant.name)
        if ip is not None and ip.metadata.uid == grant.uid:
            self._remember(grant.name, (grant.uid, grant.recorded))
            self.put(Source.IP, grant.name, records.of_ip(ip, self.granted(ip)), now)

    def promised_by(self, port: str) -> Key | None:
        """The key that promised the port something not recorded yet."""
        if not self.ledger.promised(port):
            self._forget_promise(port)
        return self.promisers.get(port)

    def promised_to(self, key: Key) -> tuple[str, ...]:
        """The ports that the key promised something not recorded yet."""
        return tuple(port for port in tuple(self._promised.get(key, ())) if self.promised_by(port) == key)

    def _forget_promise(self, port: str) -> None:
        key = self.promisers.pop(port, None)
        if key is not None:
            self._promised[key].pop(port, None)
            if not self._promised[key]:
                del self._promised[key]

    # -- changes -----------------------------------------------------------------------------------

    def see(self, kind: Kind, old: object, new: object, now: Seconds) -> Iterator[Key]:
        """Fold one change of a replica and answer the keys it concerns."""
        one = new or old
        match one:
            case Ip():
                return self._see_ip(old, new, now)  # type: ignore[arg-type]
            case Pod():
                return self._see_pod(old, new, now)  # type: ignore[arg-type]
            case Subnet():
                said = occupants.of_subnet(new) if isinstance(new, Subnet) else ()
                self.put(Source.OTHER, f"Subnet {one.metadata.name}", said, now)
                return self._see_subnet(one.metadata.name, old, new, now)  # type: ignore[arg-type]
            case Pool():
                return self._see_pool(one.metadata.name, old, new)  # type: ignore[arg-type]
            case Namespace():
                return self._see_namespace(old, new)  # type: ignore[arg-type]
            case Node():
                return self._see_node(one.metadata.name, new)  # type: ignore[arg-type]
            case StatefulSet():
                self.announce(("statefulset", one.metadata.namespace, one.metadata.name))
                return workloads.concerned(self, old, new)
            case VirtualMachine() | VirtualMachineInstance() | Migration():
                return workloads.concerned(self, old, new)
            case Vip() | IptablesEip() | OvnEip():
                return neighbours.see(self, old, new, now)  # type: ignore[arg-type]
            case Nad():
                return self._see_nad(Attachment(one.metadata.namespace, one.metadata.name))
            case None:
                raise TypeError(kind)
            case _:
                return iter(())  # nothing hangs on it yet

    def put(self, source: Source, key: str, new: Iterable[Record], now: Seconds) -> None:
        """Take what a record says into the ledger, and note who shares an address by it."""
        fresh = tuple(new)
        self.ledger.put(source, key, fresh, now)
        for record in fresh:
            for address in record.addresses:
                holders = self.ledger.holders(record.subnet, address)
                if len(holders) > 1:
                    self.shared.update(dict.fromkeys(holders))

    def _see_ip(self, old: Ip | None, new: Ip | None, now: Seconds) -> Iterator[Key]:
        ip = new or old
        assert ip is not None  # noqa: S101 - a change has at least one side
        name = ip.metadata.name
        recorded = self.granted(new) if new is not None else None
        self._remember(name, (new.metadata.uid, recorded) if new is not None and recorded is not None else None)
        self.put(Source.IP, name, records.of_ip(new, recorded) if new is not None else (), now)
        self.announce(("ip", name))
        yield keys.reservation(name)
        for side in (old, new):
            if side is not None:
                yield from (keys.pod(*owner) for owner in owners_of_ip(side) if self._concerns_pods(side, owner))
        if old is not None and new is None:
            yield keys.subnet(old.spec.subnet)

    def _remember(self, name: str, grant: tuple[str, Recorded] | None) -> None:
        """Keep what was granted, and the number of reservations per subnet with it."""
        before = self._granted.pop(name, None)
        for one, step in ((before, -1), (grant, 1)):
            if one is not None and one[1].reserved == "true":
                self.reserved[one[1].subnet] = self.reserved.get(one[1].subnet, 0) + step
        if grant is not None:
            self._granted[name] = grant
        if grant is not None and grant[1].reserved == "true":
            self.acquaintance.meet(name, frozenset((grant[0],)))  # whoever writes a reservation owns it

    def _concerns_pods(self, ip: Ip, owner: naming.Owner) -> bool:
        """False for a reservation that nobody uses: its pods' key would find nothing to do."""
        recorded = self._granted.get(ip.metadata.name)
        idle = recorded is None or recorded[1].reserved == "true"
        return not idle or self.pods.count_by("owner", owner) > 0 or bool(self.ports.by_owner(str(owner)))

    def _see_pod(self, old: Pod | None, new: Pod | None, now: Seconds) -> Iterator[Key]:
        for side in (old, new):
            if side is None:
                continue
            if side is new:
                self.put(Source.POD, pod_key(side), self.nics.said_by(side), now)
            elif new is None:
                self.nics.forget(side)
                self.put(Source.POD, pod_key(side), (), now)
            yield keys.pod(*naming.owner_of(side))
            yield from (keys.reservation(port) for port in self.nics.ports(side) if self.ips.get("", port) is not None)

    def _see_nad(self, attachment: Attachment) -> Iterator[Key]:
        self.announce(nad_topic(attachment))
        for pod in self.pods.by("nad", attachment):
            yield keys.pod(*naming.owner_of(pod))
            yield from (keys.reservation(port) for port in self.nics.ports(pod) if self.ips.get("", port) is not None)

    def _see_subnet(self, name: str, old: Subnet | None, new: Subnet | None, now: Seconds) -> Iterator[Key]:
        default = self.atlas.default()
        for changed in sorted(self.atlas.put(name, new)):
            yield from self._adopt(changed, news=changed != name or not alike(old, new))
        if self.atlas.default() != default:
            self.announce(("default",))
        if (old is None) != (new is None):  # what its granted IPs say of it is true no more
            yield from [keys.reservation(ip.metadata.name) for ip in self.ips.by("subnet", name)]
        self._place_rows()
        providers = {side.spec.provider for side in (old, new) if side is not None and not alike(old, new)}
        for provider in sorted(providers - {"", naming.OVN}):
            self.announce(("provider", provider))
            for pod in self.nics.homeless(provider):
                self.put(Source.POD, pod_key(pod), self.nics.said_by(pod), now)
        subnet = self.atlas.subnet(name)
        listed = set(subnet.spec.namespaces) if subnet is not None else set()
        for namespace in sorted(self._naming(name) | listed):
            yield keys.namespace(namespace)

    def _adopt(self, subnet: str, *, news: bool) -> Iterator[Key]:
        """Give out by what the subnet has become."""
        self.ledger.configure(subnet, self.atlas.plan(subnet))
        self.crowded.add(subnet)
        if news:
            self.announce(("subnet", subnet), ("space", subnet), ("plan", subnet))
            yield from map(keys.pool, self.atlas.pools.of_subnet(subnet))
        yield keys.subnet(subnet)
        yield keys.subnet_status(subnet)

    def _see_pool(self, name: str, old: Pool | None, new: Pool | None) -> Iterator[Key]:
        if not alike(old, new):
            for subnet in sorted(self.atlas.put_pool(name, new)):
                self.ledger.configure(subnet, self.atlas.plan(subnet))
                for peer in self.atlas.pools.of_subnet(subnet):  # whose address it was may be another's
                    self.announce(("pool", peer))
                    yield keys.pool(peer)
            self.announce(("pool", name))
            listed = {space for one in (old, new) if one is not None for space in one.spec.namespaces}
            listed |= {space.metadata.name for space in self.namespaces.by("pool", name)}
            yield from map(keys.namespace, sorted(listed))
        yield keys.pool(name)
        yield keys.pool_status(name)

    def pool_names(self) -> Iterator[str]:
        """Every IPPool that exists, and every one that left an Address_Set."""
        yield from (pool.metadata.name for pool in self.pools.values())
        yield from (row.pool for row in self.ports.sets() if row.pool)

    def _naming(self, subnet: str) -> set[str]:
        """The namespaces whose annotation names the subnet, and all of them when it selects by labels."""
        if subnet in self.atlas.selecting():
            return {n.metadata.name for n in self.namespaces.values()}
        return {n.metadata.name for n in self.namespaces.by("subnet", subnet)}

    def _see_namespace(self, old: Namespace | None, new: Namespace | None) -> Iterator[Key]:
        one = new or old
        assert one is not None  # noqa: S101 - a change has at least one side
        self.announce(("namespace", one.metadata.name))
        yield keys.namespace(one.metadata.name)
        if set(subnets_of_namespace(old)) != set(subnets_of_namespace(new)):
            yield from workloads.retained(self, one.metadata.name)

    def _see_node(self, name: str, new: Node | None) -> Iterator[Key]:
        found = []
        for text in new.internal_ips if new is not None else ():
            try:
                found.append(parse_address(text.lower()))
            except Malformed:
                continue
        self.ledger.bar(name, found)
        for changed in sorted(self.atlas.put_node(name, found)):
            yield from self._adopt(changed, news=True)

    # -- Northbound --------------------------------------------------------------------------------

    def see_port(self, name: str, old: PortRow | None, new: PortRow | None, now: Seconds) -> Iterator[Key]:
        """Fold one change of a Logical_Switch_Port."""
        self._unplaced.discard(name)
        said: tuple[Record, ...] = ()
        if new is not None:
            said = self._said_by(new)
        self.put(Source.PORT, name, said, now)
        self.announce(("port", name))
        for side in (old, new):
            if side is not None and (owner := owner_of_row(side)) is not None:
                yield keys.pod(*owner)
        if self.ips.get("", name) is not None:
            yield keys.reservation(name)

    def _said_by(self, row: PortRow) -> tuple[Record, ...]:
        """What a port holds, under the name of whose it is."""
        known = neighbours.tenant(self, row) or row.name
        return records.of_row(row._replace(name=known), (row.switch,) if row.switch else self._candidates(row))

    def _candidates(self, row: PortRow) -> set[str]:
        """Where a row without `ls` may be: in any subnet that has one of its addresses."""
        self._unplaced.add(row.name)
        found: set[str] = set()
        for record in records.of_row(row, ("?",)):
            for address in record.addresses:
                found.update(self.atlas.containing(address))
        return found

    def _place_rows(self) -> None:
        for name in sorted(self._unplaced):
            row = self.ports.get_port(name)
            if row is not None:
                self.ledger.put(Source.PORT, name, self._said_by(row), 0.0)

    def see_set(self, name: str, old: AddressSetRow | None, new: AddressSetRow | None) -> Iterator[Key]:
        """Fold one change of an Address_Set."""
        self.announce(set_topic(name))
        yield from dict.fromkeys(keys.pool(row.pool) for row in (old, new) if row is not None and row.pool)

    def see_switch(self, name: str, new: SwitchRow | None) -> Iterator[Key]:
        """Fold one change of a Logical_Switch."""
        if new is not None:
            self.announce(("switch", name))
        if self.atlas.subnet(name) is not None:
            yield keys.subnet(name)
