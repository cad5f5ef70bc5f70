"""Why the cluster is not yet what its users asked for: one sentence, or None when it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from controller.core.catalogue import Reason
from controller.core.objects import FINALIZER, OLD_FINALIZER, OUR_FINALIZERS, Kind
from controller.core.rows import MANAGED_OPTIONS
from tests.sim.documents import RESERVED, Doc, deleting, finalizers, labels, meta, notes, ours, spec
from tests.sim.oracle import Oracle, allocated, takes_part
from tests.sim.owners import OWNER_UID, Owners
from tests.sim.plans import Family, Plan, is_mac, number, split
from tests.sim.pools import blocks, named
from tests.sim.records import Book, Spot, crossing, fields_of, foreign, pod_spots, row_spots, special
from tests.sim.stage import NOTE, controller_of, kind_of, nics_of, owner_of, port_of, seen_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.core.rows import PortRow
    from tests.sim.traffic import Watchman
    from tests.sim.world import SimWorld


@dataclass
class Judge:
    """Compares documents, rows and numbers with what they should be."""

    universe: SimWorld
    book: Book
    watchman: Watchman

    def __post_init__(self) -> None:
        self.store = self.universe.store
        self.oracle = Oracle(self.store, self.book, self.universe.database)
        self.owners = Owners(self.universe, self.book)

    def pending(self) -> str | None:
        """The first thing that is not as it should be."""
        return next(self._all(), None)

    def _all(self) -> Iterator[str]:
        for _, pod in sorted(self.store.docs[Kind.POD].items()):
            for one in nics_of(pod) if takes_part(pod) else ():
                yield from self._pod(one)
        for (_, name), ip in sorted(self.store.docs[Kind.IP].items()):
            yield from self._ip(name, ip)
        for name, row in sorted(self.universe.database.tables.ports.items()):
            yield from self._port(name, row)
        for (_, name), subnet in sorted(self.store.docs[Kind.SUBNET].items()):
            yield from self._subnet(name, subnet)
        for (_, name), pool in sorted(self.store.docs[Kind.POOL].items()):
            yield from self._pool(name, pool)

    # -- pods --------------------------------------------------------------------------------------
    def _pod(self, pod: Doc) -> Iterator[str]:
        name = f"pod {meta(pod)['namespace']}/{meta(pod)['name']} {seen_by(pod)}".strip()
        if allocated(pod):
            yield from self._served(name, pod)
            yield from self._of_its_owner(name, pod)
            return
        reasons = self.oracle.pod(pod)
        if not reasons:
            yield f"{name} has no address and no reason to be without: {pod}"
        elif not any(reasons & self.watchman.reasons(Kind.POD, *_key(p)) for p in self.oracle.pods_of(port_of(pod))):
            said = sorted(self.watchman.reasons(Kind.POD, *_key(pod)))
            yield f"{name} should be told one of {sorted(reasons)}, it was told {said}: {pod}"

    def _served(self, name: str, pod: Doc) -> Iterator[str]:
        port, has = port_of(pod), pod_spots(pod)
        row = self.universe.database.tables.ports.get(port)
        # Somebody took the address meanwhile, or the subnet says nothing that it could be checked against.
        lost = row is None and any(self.oracle.others(s, port) or not self.oracle.readable(s.subnet) for s in has)
        if not has:
            yield f"{name} is allocated without an address: {notes(pod)}"
        elif row is None:
            if not lost:
                yield f"{name} has no port {port}"
        elif not row.ours:
            pass  # another system took the name while our port was gone: nothing of ours can be done about it
        elif set(row_spots(row)) != set(has):
            yield f"{name} has {has}, its port {row}"
        elif row.external("pod") != f"{meta(pod)['namespace']}/{owner_of(pod)}":
            yield f"{name}: wrong external ids of its port: {row}"
        if spec(pod).get("nodeName") and notes(pod).get(NOTE + "routed") != "true" and not lost:
            yield f"{name} is scheduled and not routed: {notes(pod)}"
        ip = self.store.get(Kind.IP, "", port)
        if ip is None and row is not None and row.ours:
            yield f"{name} has no IP object"
        elif ip is None:
            return
        elif deleting(ip) or not self.oracle.held(ip):
            yield from self._beside(name, pod, ip)
        elif self.oracle.is_ordinary(ip) and fields_of(ip) != {**fields_of(ip), **_fields(pod)}:
            yield f"{name} has {_fields(pod)}, its IP {fields_of(ip)}"

    def _of_its_owner(self, name: str, pod: Doc) -> Iterator[str]:
        """A port of a VM that does not move says nothing of moving; an IP names the owner of the pod that has it."""
        port = port_of(pod)
        row, ip = self.universe.database.tables.ports.get(port), self.store.get(Kind.IP, "", port)
        alone = len(self.oracle.pods_of(port)) == 1 and kind_of(pod) == "VirtualMachine"
        if row is not None and row.ours and alone and self._moves(row):
            yield f"{name} is alone, and its port has options of a migration: {row}"
        set_pod = kind_of(pod) == "StatefulSet" and ip is not None and not deleting(ip) and self.oracle.is_ordinary(ip)
        if set_pod and ip is not None and notes(ip).get(OWNER_UID) not in (None, controller_of(pod)["uid"]):
            yield f"{name} is of {controller_of(pod)}, its IP was made for {notes(ip)}"

    def _beside(self, name: str, pod: Doc, ip: Doc) -> Iterator[str]:
        """A live pod beside an IP of its name that is not its own: it waits for its end, or was refused."""
        if deleting(ip) and ours(ip):
            return
        if self.oracle.is_request(ip) and self.oracle.reservation(ip):
            return
        if not foreign(ip):
            yield f"{name} has {pod_spots(pod)} and its IP is {ip}"

    # -- IPs ---------------------------------------------------------------------------------------
    def _ip(self, name: str, ip: Doc) -> Iterator[str]:
        if special(ip):
            return
        users = [pod for pod in self.oracle.pods_of(name) if allocated(pod)]
        if deleting(ip):
            if ours(ip) and not users:
                yield f"IP {name} is being deleted, nobody uses it, and our finalizer is on it: {ip}"
        elif self.oracle.is_request(ip):
            yield from self._request(name, ip)
        elif self.oracle.held(ip):
            if self.oracle.is_ordinary(ip):
                yield from self._ordinary(name, ip)
            else:
                yield from self._reservation(name, ip, users)

    def _request(self, name: str, ip: Doc) -> Iterator[str]:
        reasons = self.oracle.reservation(ip)
        if not reasons:
            yield f"IP {name} is a valid reservation and not granted: {ip}"
        elif not reasons & self._shown(ip):
            yield f"IP {name} should show one of {sorted(reasons)}, it shows {sorted(self._shown(ip))}: {ip}"

    def _shown(self, ip: Doc) -> set[str]:
        """The reason of its Ready condition if it has a status, else those of its Events."""
        if self.store.rules.ip_status:
            found = _condition(ip, "Ready")
            return {found["reason"]} if found and found["status"] == "False" else set()
        return self.watchman.reasons(Kind.IP, "", meta(ip)["name"], meta(ip)["uid"])

    def _of_nobody_knows(self, ip: Doc) -> bool:
        """True if its kind was edited where nothing else tells what it was: whose it is cannot be told, so it stays."""
        return (spec(ip).get("podType") or "") not in ("", "StatefulSet", "VirtualMachine")

    def _ordinary(self, name: str, ip: Doc) -> Iterator[str]:
        if not self._of_nobody_knows(ip) and not self.oracle.pods_of(name) and not self.owners.keeps(ip):
            yield f"IP {name} is nobody's and stays: {ip}"
        if labels(ip).get(RESERVED) != "false" and Reason.INVALID_SPEC not in self._shown(ip):
            yield f"IP {name} is an ordinary one with the label {labels(ip).get(RESERVED)!r}"

    def _reservation(self, name: str, ip: Doc, users: list[Doc]) -> Iterator[str]:
        grant = self.book.grants[meta(ip)["uid"]]
        if grant.unsure:
            return
        if fields_of(ip) != grant.fields:
            yield f"reservation {name} was edited and not put back: {grant.fields} is {fields_of(ip)}"
        subnet = grant.fields["subnet"]
        if labels(ip).get(RESERVED) != "true" or labels(ip).get(NOTE + "subnet") != subnet:
            yield f"reservation {name} has the labels {labels(ip)}"
        if NOTE + "node-name" not in labels(ip) or labels(ip).get(subnet) != "":
            yield f"reservation {name} lacks a label: {labels(ip)}"
        if FINALIZER not in finalizers(ip) or OLD_FINALIZER in finalizers(ip):
            yield f"reservation {name} has the finalizers {finalizers(ip)}"
        if self.store.rules.ip_status:
            yield from self._conditions(name, ip, users)

    def _conditions(self, name: str, ip: Doc, users: list[Doc]) -> Iterator[str]:
        grant = self.book.grants[meta(ip)["uid"]]
        ready, in_use = _condition(ip, "Ready"), _condition(ip, "InUse")
        rivals = any(self.oracle.others(spot, name) for spot in grant.spots)
        absent = self.store.get(Kind.SUBNET, "", grant.fields["subnet"]) is None
        if ready is None or (ready["status"] != "True" and not (absent or rivals)):
            yield f"reservation {name} is not Ready: {ip}"
        elif absent and ready["reason"] != Reason.SUBNET_NOT_FOUND:
            yield f"reservation {name} does not say that its subnet is gone: {ready}"
        mine = [pod for pod in users if {s for s in pod_spots(pod) if not is_mac(s.address)} & set(grant.spots)]
        used = in_use is not None and in_use["status"] == "True"
        if used != bool(mine):
            yield f"reservation {name} is used by {[meta(p)['name'] for p in mine]} and says {in_use}"

    # -- ports -------------------------------------------------------------------------------------
    def _port(self, name: str, row: PortRow) -> Iterator[str]:
        if not row.ours or any(allocated(pod) for pod in self.oracle.pods_of(name)):
            return
        ip = self.store.get(Kind.IP, "", name)
        if ip is not None and self._of_nobody_knows(ip):
            return
        if ip is not None and self.owners.keeps(ip):
            told = len(self.oracle.pods_of(name)) <= 1  # of several without their migration nobody can tell
            if told and row.options and spec(ip).get("podType") == "VirtualMachine" and self._moves(row):
                yield f"port {name} has options of a migration that is over: {row}"
            return
        if any(self.oracle.pod(pod) for pod in self.oracle.pods_of(name)):
            return  # a refused pod may keep the port it had begun with, its address is counted
        yield f"port {name} is nobody's and stays: {row}"

    def _moves(self, row: PortRow) -> bool:
        """True if the port says where it may be bound, which only a migration does."""
        return Kind.MIGRATION in self.store.served and any(key in MANAGED_OPTIONS for key, _ in row.options)

    # -- subnets -----------------------------------------------------------------------------------
    def _subnet(self, name: str, subnet: Doc) -> Iterator[str]:
        users = {c.owner for s, cs in self.book.claims.items() if s.subnet == name for c in cs.values()}
        users |= {owner for s, owners in self.oracle.lingering().items() if s.subnet == name for owner in owners}
        users.discard(crossing(subnet)[0])  # goes with it
        if deleting(subnet):
            if not users and not OUR_FINALIZERS.isdisjoint(finalizers(subnet)):
                yield f"subnet {name} is being deleted, nobody uses it, and our finalizer is on it: {subnet}"
            return
        plan, valid = self.oracle.plan(name), _condition(subnet, "Validated")
        if (plan is None) != (valid is not None and valid["status"] == "False"):
            yield f"subnet {name} says {valid}: {subnet}"
        if plan is None:
            return
        ready = _condition(subnet, "Ready")
        if ready is None or ready["status"] != "True":
            yield f"subnet {name} is valid and not Ready: {subnet}"
        if self.oracle.provider(name) == "ovn" and not self.universe.database.tables.switch(name):
            yield f"subnet {name} has no switch"
        for version in (4, 6):
            family = next((f for f in plan.families if f.version == version), None)
            yield from self._numbers(name, subnet, version, family)

    def _numbers(self, name: str, subnet: Doc, version: int, family: Family | None) -> Iterator[str]:
        status: dict[str, Any] = subnet.get("status") or {}
        using = status.get(f"v{version}usingIPs"), status.get(f"v{version}usingIPrange")
        free = status.get(f"v{version}availableIPs"), status.get(f"v{version}availableIPrange")
        if family is None:
            if using != (0, "") or free != (0, ""):
                yield f"subnet {name} has no IPv{version} and counts {using} {free}"
            return
        spots = [s for s, c in self.book.claims.items() if c and s.subnet == name and not is_mac(s.address)]
        true = {number(s.address) for s in spots if (":" in s.address) == (version == 6)}
        whole = set(range(family.first, family.last + 1))
        closed = {value for value in whole if family.shut(value)}
        told, told_free = _expand(using[1]), _expand(free[1])
        doubtful = {number(s.address) for s in self.oracle.lingering() if s.subnet == name and not is_mac(s.address)}
        wrong = told ^ ((true & whole) - closed) | told_free ^ (whole - closed - true)
        if wrong - doubtful:
            yield f"subnet {name}: used {using} and available {free}, true owners are {sorted(map(str, spots))}"
        elif using[0] != len(told) or free[0] != len(told_free):
            yield f"subnet {name}: the numbers {using} {free} are not those of the ranges"

    # -- pools -------------------------------------------------------------------------------------
    def _pool(self, name: str, pool: Doc) -> Iterator[str]:
        row = self.universe.database.tables.sets.get(name)
        if deleting(pool):
            if not OUR_FINALIZERS.isdisjoint(finalizers(pool)):
                yield f"pool {name} is being deleted and our finalizer is on it: {pool}"
            return
        pools, items = self.oracle.pools, tuple(spec(pool).get("ips") or ())
        if spec(pool).get("enableAddressSet") and ("" if row is None else row.addresses) != blocks(items):
            yield f"pool {name} has the address set {row}: {pool}"
        elif row is not None and not spec(pool).get("enableAddressSet"):
            yield f"pool {name} has an address set that it did not ask for: {row}"
        subnet = str(spec(pool)["subnet"])
        plan, ready = self.oracle.plan(subnet), _condition(pool, "Ready")
        inside = plan is not None and all(self._inside(plan, address) for address in named(items))
        if ready is None or (ready["status"] == "True") != (inside and pools.usable(name)):
            yield f"pool {name} says {ready}: {pool}"
        region = pools.regions(subnet)[name]
        for family in plan.families if plan is not None else ():
            drawn = {a for a in region if (":" in a) == (family.version == 6) and family.may_be_drawn(number(a))}
            yield from self._counts(name, pool, family.version, subnet, drawn)

    @staticmethod
    def _inside(plan: Plan, address: str) -> bool:
        family = plan.family(address)
        return family is not None and family.network <= number(address) <= family.broadcast

    def _counts(self, name: str, pool: Doc, version: int, subnet: str, drawn: set[str]) -> Iterator[str]:
        status: dict[str, Any] = pool.get("status") or {}
        using, free = status.get(f"v{version}UsingIPRange"), status.get(f"v{version}AvailableIPRange")
        taken = {a for a in drawn if self.book.owners(Spot(subnet, a))}
        doubtful = {number(s.address) for s in self.oracle.lingering() if s.subnet == subnet and not is_mac(s.address)}
        wrong = _expand(using) ^ {*map(number, taken)} | _expand(free) ^ {*map(number, drawn - taken)}
        if wrong - doubtful:
            yield f"pool {name}: used {using}, available {free}; it has {sorted(drawn)}, used are {sorted(taken)}"
        elif (status.get(f"v{version}UsingIPs"), status.get(f"v{version}AvailableIPs")) != (
            len(_expand(using)),
            len(_expand(free)),
        ):
            yield f"pool {name}: the numbers are not those of the ranges: {status}"


def _key(doc: Doc) -> tuple[str, str, str]:
    return meta(doc).get("namespace", ""), meta(doc)["name"], meta(doc)["uid"]


def _fields(pod: Doc) -> dict[str, str]:
    """What an ordinary IP has to say about its pod."""
    addresses = split(notes(pod).get(NOTE + "ip_address", ""))
    return {
        "subnet": notes(pod).get(NOTE + "logical_switch", ""),
        "podName": owner_of(pod),
        "namespace": meta(pod)["namespace"],
        "podType": kind_of(pod),
        "v4IpAddress": next((a for a in addresses if ":" not in a), ""),
        "v6IpAddress": next((a for a in addresses if ":" in a), ""),
        "macAddress": notes(pod).get(NOTE + "mac_address", ""),
    }


def _condition(doc: Doc, kind: str) -> dict[str, Any] | None:
    found = (doc.get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == kind), None)


def _expand(ranges: str | None) -> set[int]:
    """The addresses of `a-b,c`."""
    found: set[int] = set()
    for item in filter(None, (ranges or "").split(",")):
        low, _, high = item.partition("-")
        found |= set(range(number(low), number(high or low) + 1))
    return found
