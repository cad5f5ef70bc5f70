"""Why somebody may be without an address: every reason that is true, worked out from the documents alone.

An empty answer means: this one must be served. The controller's word is believed only if it is among the reasons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from controller.core.catalogue import Reason
from controller.core.objects import Kind
from tests.sim.documents import RESERVED, Doc, deleting, finalizers, labels, meta, notes, ours, spec
from tests.sim.plans import Plan, is_mac, plan_of, split, text
from tests.sim.pools import Pools, is_pool_name
from tests.sim.records import Spot, foreign, special
from tests.sim.stage import NOTE, alive, kind_of, nics_of, owner_of, port_of, seen_by

if TYPE_CHECKING:
    from tests.sim.northbound import Database
    from tests.sim.records import Book
    from tests.sim.store import Store

MAC: Final = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}\Z")


BOTH: Final = frozenset({4, 6})
FAMILIES: Final = {"ipv4": frozenset({4}), "ipv6": frozenset({6})}


def _entries(text_: str) -> tuple[str, ...]:
    return tuple(filter(None, (entry.strip() for entry in text_.split(","))))


def is_address(text_: str, version: int) -> bool:
    """True for one address of that family in the spelling that is asked for."""
    try:
        found = ip_address(text_)
    except ValueError:
        return False
    mapped = isinstance(found, IPv6Address) and found.ipv4_mapped is not None
    return found.version == version and text_ == text_.lower() and not mapped


def takes_part(pod: Doc) -> bool:
    """True for a live pod whose default network is ours."""
    return alive(pod) and not spec(pod).get("hostNetwork")


def allocated(pod: Doc) -> bool:
    """True if the pod's annotations carry an allocation."""
    return notes(pod).get(NOTE + "allocated") == "true"


@dataclass
class Oracle:
    """Reads the store and the book of claims; writes nothing."""

    store: Store
    book: Book
    database: Database

    def __post_init__(self) -> None:
        self.pools = Pools(self.store)

    # -- subnets -----------------------------------------------------------------------------------
    def plan(self, name: str) -> Plan | None:
        """What the subnet has to give; None if it is unknown, malformed or going."""
        subnet = self.store.get(Kind.SUBNET, "", name)
        return None if subnet is None or deleting(subnet) else plan_of(spec(subnet))

    def readable(self, name: str) -> bool:
        """True for a subnet that is there and not malformed, be it on its way out."""
        subnet = self.store.get(Kind.SUBNET, "", name)
        return subnet is not None and plan_of(spec(subnet)) is not None

    def provider(self, name: str) -> str:
        """The subnet's provider, "ovn" if it has none."""
        subnet = self.store.get(Kind.SUBNET, "", name)
        return (spec(subnet).get("provider") if subnet is not None else "") or "ovn"

    def others(self, spot: Spot, port: str) -> set[str]:
        """Who else has the spot, or may be thought to have it."""
        return {*self.book.owners(spot), *self.lingering().get(spot, ())} - {port}

    def lingering(self) -> dict[Spot, set[str]]:
        """Claims that may be counted or not: of IPs that only other people's finalizers keep (bug row 33).

        An IP on its way out that we have let go of looks, to a controller that knows nothing of it, like one that
        somebody made by hand; and a request under somebody's finalizer looks as if it were granted. An ordinary
        IP that a person edited says one thing, and its port another.
        """
        found: dict[Spot, set[str]] = {}
        for grant in self.book.grants.values():
            for spot in grant.spots if grant.tainted else ():
                found.setdefault(spot, set()).add(grant.name)
        for (_, name), ip in self.store.docs[Kind.IP].items():
            unread = bool(spec(ip).get("macAddress")) and not MAC.match(spec(ip)["macAddress"])
            if finalizers(ip) and (unread or not ours(ip)):
                texts = (spec(ip).get("v4IpAddress"), spec(ip).get("v6IpAddress"), spec(ip).get("ipAddress"))
                addresses = (*split(",".join(filter(None, texts))), *filter(None, [spec(ip).get("macAddress")]))
                for address in addresses:
                    found.setdefault(Spot(spec(ip).get("subnet", ""), address), set()).add(name)
        return found

    def _full(self, subnet: str, plan: Plan, port: str, families: set[int], pool: str) -> bool:
        """True if one of the families has nothing left to draw from that pool."""
        regions = self.pools.regions(subnet)
        elsewhere = set().union(*(region for name, region in regions.items() if name != pool))

        def mine(address: str) -> bool:
            return address in regions.get(pool, ()) if pool else address not in elsewhere

        drawable = {f.version: [text(v, f.version) for v in f.drawable()] for f in plan.families}
        return any(
            all(self.others(Spot(subnet, address), port) for address in drawable[version] if mine(address))
            for version in families & drawable.keys()
        )

    def _asked(
        self, subnet: str, plan: Plan, port: str, addresses: tuple[str, ...], mac: str,
        pool: str = "", families: frozenset[int] = BOTH,
    ) -> set[Reason]:  # fmt: skip
        """What is wrong with addresses and a MAC that are asked for by name, and with drawing the rest."""
        found: set[Reason] = set()
        for address in addresses:
            family = plan.family(address)
            if family is None or not family.network <= int(ip_address(address)) <= family.broadcast:
                found.add(Reason.ADDRESS_OUT_OF_RANGE)
            elif not plan.may_be_named(address):
                found.add(Reason.ADDRESS_NOT_USABLE)
            if self.others(Spot(subnet, address), port):
                found.add(Reason.ADDRESS_CONFLICT)
        mine = [s.address for s in self.book.spots_of(port) if s.subnet == subnet and not is_mac(s.address)]
        settled = {ip_address(a).version for a in (*addresses, *mine)}
        if not addresses and not families & {f.version for f in plan.families}:
            found.add(Reason.ADDRESS_OUT_OF_RANGE)
        if self._full(subnet, plan, port, set(families) - settled, pool):
            found.add(Reason.SUBNET_EXHAUSTED)
        if mac and any(self.others(s, port) for s in (*self.book.claims, *self.lingering()) if s.address == mac):
            found.add(Reason.MAC_CONFLICT)
        return found

    # -- reservations ------------------------------------------------------------------------------
    def reservation(self, ip: Doc) -> set[Reason]:
        """Why this request of a user may stay refused."""
        found, wanted = set(), spec(ip)
        subnet, port = wanted.get("subnet") or "", meta(ip)["name"]
        four, six = wanted.get("v4IpAddress") or "", wanted.get("v6IpAddress") or ""
        mac = wanted.get("macAddress") or ""
        if not (subnet and wanted.get("podName") and wanted.get("namespace")):
            found.add(Reason.INVALID_SPEC)
        if (wanted.get("podType") or "") not in ("", "StatefulSet", "VirtualMachine"):
            found.add(Reason.INVALID_SPEC)
        if (four and not is_address(four, 4)) or (six and not is_address(six, 6)) or (mac and not MAC.match(mac)):
            found.add(Reason.INVALID_SPEC)
        provider = self.provider(subnet)
        right = f"{wanted.get('podName')}.{wanted.get('namespace')}" + ("" if provider == "ovn" else f".{provider}")
        if port != right:
            found.add(Reason.NAME_MISMATCH)
        plan = self.plan(subnet)
        if plan is None:
            found.add(Reason.SUBNET_NOT_FOUND)
        elif Reason.INVALID_SPEC not in found:
            found |= self._asked(subnet, plan, port, split(f"{four},{six}"), mac)
        for pod in self.pods_of(port):
            if allocated(pod) and not self._fits(ip, pod):
                found.add(Reason.RESERVATION_MISMATCH)
        return found

    def _fits(self, ip: Doc, pod: Doc) -> bool:
        wanted, has = spec(ip), split(notes(pod).get(NOTE + "ip_address", ""))
        asked = split(f"{wanted.get('v4IpAddress') or ''},{wanted.get('v6IpAddress') or ''}")
        mac = wanted.get("macAddress") or ""
        return (
            wanted.get("subnet") == notes(pod).get(NOTE + "logical_switch")
            and (wanted.get("podType") or "") == kind_of(pod)
            and set(asked) <= set(has)
            and mac in ("", notes(pod).get(NOTE + "mac_address"))
        )

    # -- pods --------------------------------------------------------------------------------------
    def pods_of(self, port: str) -> list[Doc]:
        """The live pods whose port has that name."""
        pods = (doc for _, doc in sorted(self.store.docs[Kind.POD].items()))
        return [one for pod in pods if takes_part(pod) for one in nics_of(pod) if port_of(one) == port]

    def subnets_of(self, pod: Doc) -> tuple[str, ...]:
        """The subnets that may serve the pod, by the first rule that applies (contract §4)."""
        pinned = notes(pod).get(NOTE + "logical_switch")
        if pinned or seen_by(pod):
            return (pinned or "side",)
        space = self.store.get(Kind.NAMESPACE, "", meta(pod)["namespace"])
        listed = notes(space).get(NOTE + "logical_switch", "") if space is not None else ""
        names = _entries(listed)
        if names:
            return names
        ip = self.store.get(Kind.IP, "", port_of(pod))
        if ip is not None and self.held(ip) and labels(ip).get(RESERVED) == "true":
            return (self.book.grants[meta(ip)["uid"]].fields["subnet"],)
        chosen = [n for (_, n), doc in sorted(self.store.docs[Kind.SUBNET].items()) if spec(doc).get("default")]
        return (chosen[0] if chosen else "ovn-default",)

    def held(self, ip: Doc) -> bool:
        """True if the controller has granted this IP an address."""
        return meta(ip)["uid"] in self.book.grants and not special(ip)

    def pod(self, pod: Doc) -> set[Reason]:
        """Why this pod may stay without an address."""
        siblings = {notes(one).get(NOTE + "logical_switch") for one in self.pods_of(port_of(pod)) if allocated(one)}
        stray = {Reason.RESERVATION_MISMATCH} if siblings - set(self.subnets_of(pod)) else set()
        return self._alone(pod) | stray

    def _alone(self, pod: Doc) -> set[Reason]:
        asked = notes(pod)
        pool, subnets = asked.get(NOTE + "ip_pool", ""), self.subnets_of(pod)
        if is_pool_name(pool):
            return self._in_pool(pod, pool, subnets)
        space = self.store.get(Kind.NAMESPACE, "", meta(pod)["namespace"])
        pools = _entries(notes(space).get(NOTE + "ip_pool", "")) if space is not None else ()
        wishes = pool or asked.get(NOTE + "ip_address") or seen_by(pod)
        if pools and not wishes and not self._is_reserved(pod):
            return self._in_pools(pod, pools, subnets)
        reasons = [self._pod_in(pod, subnet) for subnet in subnets]
        return set() if not all(reasons) else set().union(*reasons)

    def _is_reserved(self, pod: Doc) -> bool:
        ip = self.store.get(Kind.IP, "", port_of(pod))
        return ip is not None and self.held(ip) and self.book.grants[meta(ip)["uid"]].reserved

    def _in_pool(self, pod: Doc, name: str, subnets: tuple[str, ...]) -> set[Reason]:
        """In the pool that it names, which lies in one subnet."""
        pinned, home = notes(pod).get(NOTE + "logical_switch", ""), self.pools.subnet(name)
        subnet = pinned or home or subnets[0]
        found = self._pod_in(pod, subnet, name)
        wrong = not self.pools.usable(name) or subnet != home or self.plan(subnet) is None
        return found | {Reason.POOL_NOT_FOUND} if wrong and not self._is_reserved(pod) else found

    def _in_pools(self, pod: Doc, names: tuple[str, ...], subnets: tuple[str, ...]) -> set[Reason]:
        """In any of its namespace's pools that lie in a subnet of it."""
        usable = [n for n in names if self.pools.usable(n) and self.pools.subnet(n) in subnets]
        kept = {s.subnet for s in self.book.spots_of(port_of(pod)) if not is_mac(s.address)}
        rooms = [(self.pools.subnet(n), n) for n in usable] + [(s, "") for s in subnets if s in kept]
        reasons = [self._pod_in(pod, subnet, name) for subnet, name in rooms]
        if not rooms or all(self.plan(subnet) is None for subnet in subnets):
            reasons = [self._pod_in(pod, subnet) | {Reason.POOL_NOT_FOUND} for subnet in subnets]
        return set() if not all(reasons) else set().union(*reasons)

    def _pod_in(self, pod: Doc, subnet: str, pool_name: str = "") -> set[Reason]:
        port, asked = port_of(pod), notes(pod)
        found = self._by_its_ip(pod, subnet)
        row = self.database.tables.ports.get(port)
        if row is not None and not row.ours:
            found.add(Reason.INVALID_SPEC)
        mac, pool = asked.get(NOTE + "mac_address", ""), asked.get(NOTE + "ip_pool", "")
        named, pool = asked.get(NOTE + "ip_address", ""), "" if is_pool_name(pool) else pool
        families = FAMILIES.get(asked.get(NOTE + "ip_family", ""), BOTH)
        texts = [t for t in (named or pool).replace(";", ",").split(",") if t]
        if any(not (is_address(t, 4) or is_address(t, 6)) for t in texts) or (mac and not MAC.match(mac)):
            return found | {Reason.VALIDATE_POD_NETWORK_FAILED}
        if asked.get(NOTE + "vip"):
            found.add(Reason.VIP_DEPRECATED)
        plan = self.plan(subnet)
        if plan is None or self.provider(subnet) != (seen_by(pod) or "ovn"):
            found.add(Reason.SUBNET_NOT_FOUND)
        if seen_by(pod) and self.store.get(Kind.NAD, "default", "net1") is None:
            found.add(Reason.POD_NETWORK_UPDATE_FAILED)
        if plan is None:
            return found
        ip = self.store.get(Kind.IP, "", port)
        if ip is not None and self.held(ip) and self.book.grants[meta(ip)["uid"]].reserved:
            return found | self._shared(subnet, ip)
        if pool and not named:
            return found | self._from_list(pod, subnet, plan, split(pool.replace(";", ",")), mac)
        return found | self._asked(subnet, plan, port, split(named), mac, pool_name, families)

    def _shared(self, subnet: str, ip: Doc) -> set[Reason]:
        """A reservation whose address a person has given to somebody else as well."""
        grant = self.book.grants[meta(ip)["uid"]]
        rivals = [self.others(s, grant.name) for s in grant.spots if s.subnet == subnet]
        return {Reason.ADDRESS_CONFLICT} if any(rivals) else set()

    def _from_list(self, pod: Doc, subnet: str, plan: Plan, pool: tuple[str, ...], mac: str) -> set[Reason]:
        if kind_of(pod) == "StatefulSet":
            at = self._place_in_set(pod)
            pool = pool[at : at + 1] if at >= 0 else ()
        verdicts = [self._asked(subnet, plan, port_of(pod), (address,), mac) for address in pool]
        if any(not verdict for verdict in verdicts):
            return set()
        return set().union(*verdicts) | {Reason.ADDRESS_CONFLICT}

    def _place_in_set(self, pod: Doc) -> int:
        """Which of the StatefulSet's pods it is, from 0 on."""
        name, _, number = meta(pod)["name"].rpartition("-")
        found = self.store.get(Kind.STATEFUL_SET, meta(pod)["namespace"], name)
        return int(number) - int((spec(found).get("ordinals") or {}).get("start", 0) if found is not None else 0)

    def _by_its_ip(self, pod: Doc, subnet: str) -> set[Reason]:
        """What the IP object of its name forbids."""
        ip = self.store.get(Kind.IP, "", port_of(pod))
        if ip is None:
            return set()
        if deleting(ip):
            gone = {Reason.SUBNET_NOT_FOUND} if self.plan(spec(ip).get("subnet", "")) is None else set()
            return {Reason.RESERVATION_MISMATCH} | gone
        if self.held(ip):
            grant = self.book.grants[meta(ip)["uid"]]
            return {Reason.RESERVATION_MISMATCH} if grant.reserved and self._clash(pod, subnet, grant.fields) else set()
        if foreign(ip):
            return {Reason.RESERVATION_MISMATCH, Reason.INVALID_SPEC, Reason.ADDRESS_CONFLICT}
        if labels(ip).get(RESERVED) == "false":
            return set()
        return {Reason.RESERVATION_MISMATCH} if self.reservation(ip) else set()

    def _clash(self, pod: Doc, subnet: str, fields: dict[str, str]) -> bool:
        asked = notes(pod)
        who = (meta(pod)["namespace"], owner_of(pod), kind_of(pod), subnet)
        if who != (fields["namespace"], fields["podName"], fields["podType"], fields["subnet"]):
            return True
        mac = asked.get(NOTE + "mac_address", "")
        has = set(split(f"{fields['v4IpAddress']},{fields['v6IpAddress']}"))
        named, pool = asked.get(NOTE + "ip_address", ""), asked.get(NOTE + "ip_pool", "")
        wrong = bool(named) and not set(split(named)) <= has
        if pool and not named and not is_pool_name(pool):
            wrong = not set(split(pool.replace(";", ","))) & has
        return wrong or mac not in ("", fields["macAddress"])

    # -- what kind of record an IP is ------------------------------------------------------------------
    def is_request(self, ip: Doc) -> bool:
        """True for a user's request that nothing was granted to yet."""
        return not self.held(ip) and not foreign(ip) and labels(ip).get(RESERVED) != "false" and not ours(ip)

    def is_ordinary(self, ip: Doc) -> bool:
        """True for an IP that the pod flow made and that no user has decided to keep."""
        return self.held(ip) and not self.book.grants[meta(ip)["uid"]].reserved
