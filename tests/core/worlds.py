"""What Views are made of, in as few words as a test can say it; and a perfect world that carries Decisions out."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, assert_never

from controller.core import naming, records
from controller.core.addresses import Address, format_address, format_mac, parse_address, parse_cidrs, parse_mac
from controller.core.decisions import namespace as of_namespace
from controller.core.decisions import nic as of_nic
from controller.core.decisions import pod as of_pod
from controller.core.decisions import pool as of_pool
from controller.core.decisions import reservation as of_reservation
from controller.core.decisions import subnet as of_subnet
from controller.core.decisions.binding import Bidder
from controller.core.decisions.placement import Ask, Entry, Home, Place
from controller.core.decisions.realise import Held
from controller.core.decisions.release import Grounds
from controller.core.decisions.retention import Pods
from controller.core.decisions.subnet import Layout, layout_of
from controller.core.effects import (
    ConfirmGone,
    Create,
    Delete,
    DropAddressSet,
    DropPort,
    DropSwitch,
    Patch,
    Promise,
    PutAddressSet,
    PutPort,
    PutSwitch,
    Remember,
    Withdraw,
)
from controller.core.ipam import Record, Source
from controller.core.neighbours import Pool, PoolSpec, PoolStatus
from controller.core.objects import (
    FINALIZER,
    Condition,
    Ip,
    IpSpec,
    IpStatus,
    Kind,
    Meta,
    Namespace,
    OwnerRef,
    Pod,
    PodSpec,
    PodStatus,
    Recorded,
    Subnet,
    SubnetSpec,
)
from controller.core.rows import PortRow, SwitchRow
from controller.machines.ledger import Ledger
from controller.machines.waiting import Waiting
from controller.reconcilers import keys
from controller.reconcilers.mirrors import WATCHED
from controller.reconcilers.picture import Picture
from controller.reconcilers.views import Views
from tests.sim.northbound import Database, Transaction
from tests.sim.store import Commit, Rules, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.core.addresses import Family
    from controller.core.catalogue import Message
    from controller.core.effects import Decision, Effect
    from controller.reconcilers.keys import Key

NOW = 1000.0
WALL = 1_790_000_000.0
STAMP = "2026-09-21T12:00:00Z"
NOTE = naming.PREFIX
MAC = "0a:00:00:00:00:01"
MAC2 = "0a:00:00:00:00:02"
SLASH_29 = "10.0.0.0/29"  # the gateway is .1, five are left: .2 to .6
RESERVED = {naming.RESERVED: "true"}
ORDINARY = {naming.RESERVED: "false"}
GRANTED = {**RESERVED, naming.SUBNET_LABEL: "net", naming.NODE_LABEL: "", "net": ""}
OURS = (FINALIZER,)


# -- objects and rows ------------------------------------------------------------------------------


def num(text: str) -> int:
    """An address as the number inside."""
    return parse_address(text).value


def make_ip(
    name: str = "web.default",
    *,
    labels: dict[str, str] | None = None,
    finalizers: tuple[str, ...] = (),
    status: IpStatus | None = None,
    fault: str = "",
    deleting: bool = False,
    owners: tuple[OwnerRef, ...] = (),
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Ip:
    """An IP as a user writes it for pod default/web in subnet net, unless told otherwise."""
    meta = Meta(
        name=name,
        uid="ip-uid",
        resource_version="7",
        generation=1,
        labels=labels or {},
        annotations=annotations or {},
        finalizers=finalizers,
        owner_references=owners,
        deletion_timestamp=STAMP if deleting else None,
    )
    wanted = {"subnet": "net", "pod_name": "web", "namespace": "default"} | spec
    return Ip(metadata=meta, spec=IpSpec(**wanted), status=status or IpStatus(), fault=fault)


def granted_ip(address: str = "10.0.0.2", mac: str = MAC, **more: Any) -> Ip:
    """A reservation as it is at rest but for its status."""
    v6 = {"v6_ip_address": address} if ":" in address else {"v4_ip_address": address}
    fields = {"labels": GRANTED, "finalizers": OURS, "ip_address": address, "mac_address": mac, **v6} | more
    return make_ip(**fields)


def recorded(address: str = "10.0.0.2", mac: str = MAC, reserved: str = "true", **more: str) -> Recorded:
    """What was granted to default/web in net."""
    who = {"subnet": "net", "pod_name": "web", "namespace": "default"} | more
    return Recorded(v4_ip_address=address, mac_address=mac, reserved=reserved, **who)


VM = OwnerRef(kind="VirtualMachineInstance", name="web", uid="vm", api_version="kubevirt.io/v1", controller=True)
STS = OwnerRef(kind="StatefulSet", name="web", uid="sts", api_version="apps/v1", controller=True)


def make_pod(
    name: str = "web",
    *,
    notes: dict[str, str] | None = None,
    owner: OwnerRef | None = None,
    node: str = "node-a",
    phase: str = "Running",
    uid: str = "pod-uid",
    deleting: bool = False,
    **spec: Any,
) -> Pod:
    """A pod of namespace default; `notes` are annotations without our prefix."""
    annotations = {(k if "/" in k else NOTE + k): v for k, v in (notes or {}).items()}
    meta = Meta(
        name=name,
        namespace="default",
        uid=uid,
        annotations=annotations,
        owner_references=(owner,) if owner else (),
        deletion_timestamp=STAMP if deleting else None,
    )
    return Pod(metadata=meta, spec=PodSpec(node_name=node, **spec), status=PodStatus(phase=phase))


def notes_of(address: str = "10.0.0.2", mac: str = MAC, **more: str) -> dict[str, str]:
    """The annotations of a pod that runs in net with this address."""
    return {
        "ip_address": address,
        "mac_address": mac,
        "cidr": SLASH_29,
        "gateway": "10.0.0.1",
        "logical_switch": "net",
        "pod_nic_type": "veth-pair",
        "allocated": "true",
        "routed": "true",
    } | more


def make_row(
    address: str = "10.0.0.2", mac: str = MAC, name: str = "web.default", pod: str = "default/web", **more: str
) -> PortRow:
    """A port of ours in net, as the database shows it."""
    ids = {"vendor": "kube-ovn", "ls": "net", "pod": pod, "pod-uid": "pod-uid"}
    ids |= {k.replace("_", "-"): v for k, v in more.items()}
    kept = tuple(sorted((k, v) for k, v in ids.items() if v))
    return PortRow(name, (f"{mac} {address}",), kept, uuid="row-uuid")


def make_subnet(
    name: str = "net",
    cidr: str = SLASH_29,
    *,
    labels: dict[str, str] | None = None,
    notes: dict[str, str] | None = None,
    conditions: tuple[Condition, ...] = (),
    finalizers: tuple[str, ...] = OURS,
    deleting: bool = False,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> Subnet:
    """A Subnet whose spec is in normal form if its CIDR is the default one."""
    meta = Meta(
        name=name,
        uid="subnet-uid",
        resource_version="9",
        generation=2,
        labels=labels or {},
        annotations=notes or {},
        finalizers=finalizers,
        creation_timestamp=created,
        deletion_timestamp=STAMP if deleting else None,
    )
    normal = {
        "provider": "ovn",
        "vpc": "ovn-cluster",
        "protocol": "IPv4",
        "gateway": "10.0.0.1" if cidr == SLASH_29 else "",
        "gateway_type": "distributed",
        "exclude_ips": ("10.0.0.1",) if cidr == SLASH_29 else (),
        "enable_lb": True,
    } | spec
    one = Subnet(metadata=meta, spec=SubnetSpec(cidr_block=cidr, **normal))
    return Subnet(metadata=meta, spec=one.spec, status=type(one.status)(conditions=conditions))


def make_pool(
    name: str = "blue",
    *ips: str,
    created: str = "2026-01-01T00:00:00Z",
    finalizers: tuple[str, ...] = OURS,
    conditions: tuple[Condition, ...] = (),
    deleting: bool = False,
    fault: str = "",
    **spec: Any,
) -> Pool:
    """An IPPool of net that our finalizer is on."""
    meta = Meta(
        name=name,
        uid="pool-uid",
        resource_version="3",
        generation=2,
        finalizers=finalizers,
        creation_timestamp=created,
        deletion_timestamp=STAMP if deleting else None,
    )
    status = PoolStatus(conditions=conditions)
    return Pool(metadata=meta, spec=PoolSpec(**({"subnet": "net", "ips": ips} | spec)), status=status, fault=fault)


def layout(subnet: Subnet) -> Layout:
    """The layout of a subnet that is well-formed."""
    found = layout_of(subnet)
    assert isinstance(found, Layout), found
    return found


def place_of(subnet: Subnet, *, switch: bool = True) -> Place:
    """A usable subnet as owners of addresses see it."""
    plan = layout(subnet).plan
    return Place(subnet.metadata.name, subnet, plan, switch, None, plan)


# -- views -----------------------------------------------------------------------------------------


def book_of(subnet: Subnet, **held: str) -> Ledger:
    """A ledger with one subnet; each argument is a port and the address an IP object gives it."""
    ledger = Ledger()
    ledger.configure(subnet.metadata.name, layout(subnet).plan)
    for port, address in held.items():
        hold(ledger, port.replace("__", "."), address, subnet=subnet.metadata.name)
    return ledger


def hold(
    ledger: Ledger, port: str, address: str, source: Source = Source.IP, mac: str = "", subnet: str = "net"
) -> None:
    """One more record."""
    hardware = parse_mac(mac) if mac else None
    where = parse_address(address)
    v4, v6 = (where.value, None) if where.family == 4 else (None, where.value)
    ledger.put(source, f"{source}/{port}", [Record(port, subnet, v4, v6, hardware)], 0.0)


def bidder_of(pod: Pod, subnet: str = "net", ask: Ask | None = None, *, unreadable: bool = False) -> Bidder:
    """The pod as a claimant, as reconcilers/views.py makes one."""
    owner, notes = naming.owner_of(pod), pod.metadata.annotations
    running = notes.get(NOTE + "allocated") == "true"
    return Bidder(
        object=pod,
        port=naming.port_name(owner),
        owner=owner,
        kind=naming.pod_type(pod),
        home=Home(subnet),
        ask=None if unreadable else ask or Ask(),
        running=running,
        address=notes.get(NOTE + "ip_address", "") if running else "",
        mac=notes.get(NOTE + "mac_address", "") if running else "",
    )


def asks(v4: str = "", v6: str = "", mac: str = "", pool: tuple[str, ...] = ()) -> Ask:
    """What annotations ask for."""
    entry = Entry(num(v4) if v4 else None, num(v6) if v6 else None) if v4 or v6 else None
    return Ask(entry, parse_mac(mac) if mac else None, tuple(Entry(num(one)) for one in pool))


def reservation_view(ip: Ip | None, **more: Any) -> of_reservation.View:
    """The View of IP web.default in subnet net; what was granted follows from the IP."""
    subnet = more.pop("subnet", None) or make_subnet()
    name = ip.metadata.name if ip else "web.default"
    fields: dict[str, Any] = {
        "row": None,
        "place": place_of(subnet),
        "book": book_of(subnet),
        "bidders": (),
        "recorded": records.granted(ip, None) if ip else None,
        "under_way": False,
        "promised": False,
        "queued": frozenset(),
        "dice": 1,
        "stamp": STAMP,
    }
    return of_reservation.View(name=name, ip=ip, **fields | more)


def nic_view(*pods: Pod, **more: Any) -> of_nic.View:
    """The View of the default NIC of pods default/web in subnet net."""
    subnet = more.pop("subnet", None) or make_subnet()
    bidders = more.pop("bidders", tuple(bidder_of(one) for one in pods))
    fields: dict[str, Any] = {
        "place": place_of(subnet),
        "held": Held(bidders[-1].port),
        "book": book_of(subnet),
        "unreadable": None,
        "reservation_refusal": None,
        "queued": frozenset(),
        "dice": 1,
        "age": 60.0,
    }
    return of_nic.View(bidders=bidders, **fields | more)


def pod_view(*pods: Pod, **more: Any) -> of_pod.View:
    """The View of owner default/web in subnet net; what is held under another name than its NIC's is left over."""
    owned = {key: more.pop(key) for key in ("bystanders", "finished") if key in more}
    known: dict[str, Any] = {one.name: more.pop(one.name) for one in fields(Grounds)[1:] if one.name in more}
    owner, proved = more.pop("owner", naming.Owner("default", "web")), more.pop("gone_proved", True)
    held: tuple[Held, ...] = more.pop("held", ())
    nics: tuple[of_nic.View, ...] = ()
    if pods or "bidders" in more:
        nic = nic_view(*pods, **more)
        mine = next((one for one in held if one.port == nic.held.port), nic.held)
        nics, held = (replace(nic, held=mine),), tuple(one for one in held if one != mine)
    known = {"pods": Pods.WITHOUT if nics else Pods.NONE} | known
    return of_pod.View(owner, nics, held, Grounds(proved, **known), **owned)


def held_by(ip: Ip | None = None, row: PortRow | None = None, port: str = "web.default", **more: Any) -> Held:
    """What exists under a port name; what was granted follows from the IP."""
    return Held(port, ip, row, records.granted(ip, None) if ip else None, **more)


def subnet_view(subnet: Subnet | None, **more: Any) -> of_subnet.View:
    """The View of a Subnet with its switch and without users."""
    name = subnet.metadata.name if subnet else "net"
    fields: dict[str, Any] = {
        "layout": layout_of(subnet) if subnet else of_subnet.UNKNOWN,
        "overlap": None,
        "switch": SwitchRow(name, (("vendor", "kube-ovn"),), "switch-uuid"),
        "usage": None,
        "users": (),
        "user_count": 0,
        "stamp": STAMP,
    }
    return of_subnet.View(name=name, subnet=subnet, **fields | more)


# -- what a Decision says --------------------------------------------------------------------------


def patch_of(decision: Decision, kind: Kind = Kind.IP) -> dict[str, Any]:
    """The body of the only patch of that kind."""
    found = [e for e in decision.effects if isinstance(e, Patch) and e.kind is kind]
    assert len(found) == 1, decision
    return dict(found[0].body)


def names(decision: Decision) -> list[str]:
    """The effects by name, with the kind of object they write."""
    return [
        type(e).__name__ + (str(e.kind) if isinstance(e, (Create, Patch, Delete)) else "") for e in decision.effects
    ]


def shown(decision: Decision) -> dict[str, tuple[str, str]]:
    """The conditions of the status patch: type -> status and reason."""
    assert decision.status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in decision.status.body["status"]["conditions"]}


def told(decision: Decision) -> list[str]:
    """The reasons of the Events."""
    return [str(tell.message.reason) for tell in decision.tells]


# -- a perfect world -------------------------------------------------------------------------------


class _Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds, self.rolls = NOW, 0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return WALL + self.seconds

    def jitter(self) -> float:
        return 1.0

    def dice(self) -> int:
        self.rolls += 1
        return self.rolls

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here, not even {seconds} s")


class Tiny:
    """A cluster where every write is durable and seen at once; the fold is the real one, from records to View."""

    def __init__(self, *, protect: bool = True) -> None:
        self.clock = _Clock()
        self.store = Store(self.clock.now, self.clock.wall, Rules(admission=False))
        self.database = Database()
        self.picture = Picture()
        self.refusals: dict[Key, Message] = {}
        waiting: Waiting[Key] = Waiting()
        self.views = Views(
            self.picture, waiting, self.refusals, self.clock, busy=lambda _key: False, protect_in_use=protect
        )
        self.witness: list[Callable[[Key, Effect], None]] = []
        self.store.witness.append(self._see)
        self.database.witness.append(self._see_rows)
        self.store.create(Kind.NAMESPACE, "", "default", {}, "user")

    def _see(self, commit: Commit) -> None:
        replica = self.picture.replica(commit.kind)
        change = replica.apply(commit.version, commit.view, commit.new is None)
        if change is not None:
            list(self.picture.see(commit.kind, change[1], change[2], self.clock.now()))

    def _see_rows(self, change: Transaction) -> None:
        ports = {name: after for name, (_, after) in change.ports.items()}
        switches = {name: after for name, (_, after) in change.switches.items()}
        seen, seen_switches = self.picture.ports.apply(change.seq, 1, False, ports, switches)
        for name, old, new in seen:
            list(self.picture.see_port(name, old, new, self.clock.now()))
        for name, _, row in seen_switches:
            list(self.picture.see_switch(name, row))
        sets = {name: after for name, (_, after) in change.sets.items()}
        for name, was, now in self.picture.ports.apply_sets(sets, whole=False):
            list(self.picture.see_set(name, was, now))

    def restart(self) -> None:
        """A new process: everything is read again, nothing is remembered."""
        self.picture, self.refusals = Picture(), {}
        waiting: Waiting[Key] = Waiting()
        protect = self.views.protect_in_use
        self.views = Views(
            self.picture, waiting, self.refusals, self.clock, busy=lambda _key: False, protect_in_use=protect
        )
        now = self.clock.now()
        first = (Kind.NODE, Kind.SUBNET, Kind.POOL, Kind.NAMESPACE, Kind.NAD)
        for kind in (*first, *(k for k in WATCHED if k not in first)):
            objects = self.store.snapshot(kind)
            for _, old, new in self.picture.replica(kind).replace(objects, self.store.version):
                list(self.picture.see(kind, old, new, now))
        tables = self.database.tables
        switches: dict[str, SwitchRow | None] = {row.name: row for row in tables.switches.values()}
        ports, rows = self.picture.ports.apply(self.database.seq, 1, True, dict(tables.ports), switches)
        for name, was, port in ports:
            list(self.picture.see_port(name, was, port, now))
        for name, _, row in rows:
            list(self.picture.see_switch(name, row))
        for name, before, after in self.picture.ports.apply_sets(dict(tables.sets), whole=True):
            list(self.picture.see_set(name, before, after))

    def everything(self) -> list[Key]:
        """Every key that any record could wake, in an order that depends on nothing but the content."""
        found: dict[Key, None] = {}
        for _, name in self.store.views[Kind.SUBNET]:
            found |= {keys.subnet(name): None, keys.subnet_status(name): None}
        for pool in self.picture.pool_names():
            found |= {keys.pool(pool): None, keys.pool_status(pool): None}
        found |= {keys.namespace(name): None for _, name in self.store.views[Kind.NAMESPACE]}
        for ip in self.picture.ips.values():
            found[keys.reservation(ip.metadata.name)] = None
            found[keys.pod(ip.spec.namespace, ip.spec.pod_name)] = None
        for row in self.picture.ports.ports():
            space, slash, name = row.external("pod").partition("/")
            if slash:
                found[keys.pod(space, name)] = None
        for pod in self.picture.pods.values():
            found[keys.pod(*naming.owner_of(pod))] = None
        for port, key in list(self.picture.promisers.items()):
            if self.picture.promised_by(port):
                found[key] = None
        return sorted(found)

    def look(self, key: Key) -> Decision:
        """What the key's View calls for now."""
        now, views = self.clock.now(), self.views
        match key.kind:
            case keys.RESERVATION:
                return of_reservation.decide(views.reservation(key.name), now)
            case keys.POD:
                return of_pod.decide(views.pod(key.namespace, key.name), now)
            case keys.NAMESPACE:
                return of_namespace.decide(views.namespace(key.name), now)
            case keys.POOL:
                return replace(of_pool.decide(views.pool(key.name, counted=False), now), status=None)
            case keys.POOL_STATUS:
                return replace(of_pool.decide(views.pool(key.name, counted=True), now), effects=())
            case keys.SUBNET:  # its status is its other key's business: it is written from what was counted
                return replace(of_subnet.decide(views.subnet(key.name, counted=False), now), status=None)
            case _:
                return replace(of_subnet.decide(views.subnet(key.name, counted=True), now), effects=())

    def run(self, key: Key, limit: int = 99) -> bool:
        """One reconcile, cut off after `limit` effects; True if it changed anything."""
        decision = self.look(key)
        if decision.refusal is not None:
            self.refusals[key] = decision.refusal
        else:
            self.refusals.pop(key, None)
        effects = decision.effects
        if not effects and decision.status is not None:
            effects = (decision.status,)
        for effect in effects:  # a promise is made in the step that decides, as the worker does
            if isinstance(effect, Promise):
                self.picture.promise(key, effect, self.clock.now())
            elif isinstance(effect, Withdraw):
                self.picture.withdraw(effect.port, self.clock.now())
        before = (self.store.version, self.database.seq)
        for effect in effects[:limit]:
            if not self._do(effect):
                break
            for look in self.witness:
                look(key, effect)
        let_go = any(isinstance(effect, Withdraw) for effect in effects)  # others may go on now
        return let_go or before != (self.store.version, self.database.seq)

    def _do(self, effect: Effect) -> bool:
        by = "controller"
        match effect:
            case Promise() | Withdraw():
                return True
            case Remember():
                self.picture.remember(effect, self.clock.now())
            case ConfirmGone(namespace, name, kind, uid=uid, generation=seen):
                found = self.store.views[kind].get((namespace, name))
                another = found is not None and (
                    uid not in {"", found.metadata.uid} or seen == found.metadata.generation
                )
                return found is None or another or (isinstance(found, Pod) and not found.alive)
            case PutPort() | DropPort() | PutSwitch() | DropSwitch() | PutAddressSet() | DropAddressSet():
                self.database.commit((effect,), by)
            case Create(kind, namespace, name, body):
                self.store.create(kind, namespace, name, body, by)
            case Patch(kind, namespace, name, body, subresource):
                self.store.patch(kind, namespace, name, body, by, subresource)
            case Delete(kind, namespace, name, uid, version):
                self.store.delete(kind, namespace, name, uid, by, seen=version)
            case _:
                assert_never(effect)
        return True

    def settle(self, rounds: int = 12, order: Callable[[list[Key]], list[Key]] = list) -> int:
        """Look at everything until nothing is written, now and half a minute later; answers how many rounds wrote."""
        quiet = False
        for number in range(rounds):
            wrote = [self.run(key) for key in order(self.everything())]
            self.clock.seconds += 31.0  # more than a cool-down, and than a pod waits for its node
            if quiet and not any(wrote):
                return number - 1
            quiet = not any(wrote)
        raise AssertionError(f"still writing after {rounds} rounds: {list(self.unsettled())}")

    def unsettled(self) -> Iterator[tuple[Key, Decision]]:
        """The keys whose Decisions would still write."""
        for key in self.everything():
            decision = self.look(key)
            if decision.effects or decision.status is not None:
                yield key, decision


__all__ = ["Condition", "Namespace", "Tiny", "format_address", "format_mac", "parse_cidrs"]


def text_of(family: Family, value: int | None) -> str:
    """An address inside as text, or ""."""
    return "" if value is None else format_address(Address(family, value))
