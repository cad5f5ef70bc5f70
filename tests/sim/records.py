"""Who claims which address, kept from the commits themselves: the book that the checkers read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from controller.core.objects import Kind
from tests.sim.documents import IMMUTABLE, RESERVED, Doc, deleting, finalizers, labels, meta, notes, ours, spec
from tests.sim.plans import is_mac, split
from tests.sim.stage import NOTE, alive, by_side, port_of

if TYPE_CHECKING:
    from controller.core.rows import PortRow
    from tests.sim.northbound import Transaction
    from tests.sim.store import Commit

HISTORY: Final = 40
HASTE: Final = 60.0  # how long a controller may not know of a label


class Spot(NamedTuple):
    """One address, or one MAC, of one subnet."""

    subnet: str
    address: str


class Source(NamedTuple):
    """The record that makes a claim: what it is, and its name."""

    what: str
    name: str


class Release(NamedTuple):
    """Who let go of a spot last, and when; `forced_since` tells when a person's own hand had taken it."""

    owner: str
    at: float
    forced_since: float | None = None


NEVER: Final = Release("", float("-inf"))


@dataclass(frozen=True, slots=True)
class Claim:
    """That a record gives a spot to an owner; `forced` if a person's own hand wrote it."""

    owner: str
    since: float
    forced: bool


@dataclass
class Grant:
    """What was last written into an IP by the controller, for the life of the object."""

    name: str
    fields: dict[str, str]
    reserved: bool = False
    flipped_at: float = float("-inf")
    deleted_by: str = ""
    tainted: bool = False  # a person edited an ordinary IP: what it holds is what it says until it is put right
    unsure: bool = False  # and made it a reservation before that: what it holds is what the controller makes of it

    @property
    def spots(self) -> tuple[Spot, ...]:
        """The spots it holds."""
        addresses = split(f"{self.fields['v4IpAddress']},{self.fields['v6IpAddress']}")
        mac = self.fields["macAddress"].lower()
        return tuple(Spot(self.fields["subnet"], a) for a in (*addresses, *filter(None, [mac])))


def special(ip: Doc) -> bool:
    """True for a node's own IP: nobody's to judge."""
    return str(meta(ip)["name"]).startswith("node-") and not spec(ip).get("namespace")


def foreign(ip: Doc) -> bool:
    """True for an explicit address under somebody else's finalizer."""
    explicit = any(spec(ip).get(key) for key in ("v4IpAddress", "v6IpAddress", "ipAddress"))
    return special(ip) or (explicit and bool(finalizers(ip)) and not ours(ip))


def fields_of(ip: Doc) -> dict[str, str]:
    """The immutable fields of an IP as texts."""
    return {key: spec(ip).get(key) or "" for key in IMMUTABLE}


def written(ip: Doc) -> dict[str, str]:
    """The same where a person has edited it: what controllers alone write, the subnet label and ipAddress, counts."""
    told = {"subnet": labels(ip).get("ovn.kubernetes.io/subnet") or spec(ip).get("subnet") or ""}
    texts = split(spec(ip).get("ipAddress") or "")
    if texts:
        told["v4IpAddress"] = ",".join(text for text in texts if ":" not in text)
        told["v6IpAddress"] = ",".join(text for text in texts if ":" in text)
    return fields_of(ip) | told


def row_spots(row: PortRow) -> tuple[Spot, ...]:
    """The spots that a port takes in its switch."""
    words = [word for line in row.addresses for word in line.split()]
    macs = [word.lower() for word in words if is_mac(word)]
    return tuple(Spot(row.switch, s) for s in (*split(",".join(w for w in words if not is_mac(w))), *macs))


def pod_spots(pod: Doc) -> tuple[Spot, ...]:
    """The spots that a live pod's annotations say it has."""
    if not alive(pod) or notes(pod).get(NOTE + "allocated") != "true" or spec(pod).get("hostNetwork"):
        return ()
    subnet = notes(pod).get(NOTE + "logical_switch", "")
    mac = notes(pod).get(NOTE + "mac_address", "").lower()
    return tuple(Spot(subnet, a) for a in (*split(notes(pod).get(NOTE + "ip_address", "")), *filter(None, [mac])))


def vip_spots(vip: Doc) -> tuple[Spot, ...]:
    """The spots of a Vip: what it asks for and what it was given, until it is gone."""
    subnet, has = spec(vip).get("subnet", ""), vip.get("status") or {}
    texts = [spec(vip).get("v4ip"), spec(vip).get("v6ip"), has.get("v4ip"), has.get("v6ip")]
    macs = [mac.lower() for mac in (spec(vip).get("macAddress"), has.get("mac")) if mac]
    found = (*split(",".join(filter(None, texts)).lower()), *(mac for mac in macs if is_mac(mac)))
    return tuple(dict.fromkeys(Spot(subnet, one) for one in found)) if subnet else ()


def crossing(subnet: Doc) -> tuple[str, tuple[Spot, ...]]:
    """By which name, and where, a Subnet itself meets the overlay."""
    name = str(meta(subnet)["name"])
    texts = (subnet.get("status") or {}).get("u2oInterconnectionIP") or ""
    return f"u2o-interconnection.{spec(subnet).get('vpc') or 'ovn-cluster'}.{name}", tuple(
        Spot(name, address) for address in split(texts.lower())
    )


@dataclass
class Book:
    """Claims by spot; who let go of a spot, and when; and what happened to it."""

    claims: dict[Spot, dict[Source, Claim]] = field(default_factory=dict)
    released: dict[Spot, Release] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    past: set[tuple[Spot, str]] = field(default_factory=set)  # who had what, ever
    _by_source: dict[Source, tuple[Spot, ...]] = field(default_factory=dict)
    _history: dict[Spot, deque[str]] = field(default_factory=dict)

    def owners(self, spot: Spot) -> dict[str, Claim]:
        """The owners of a spot, each with its oldest claim."""
        found: dict[str, Claim] = {}
        for claim in self.claims.get(spot, {}).values():
            if claim.owner not in found or claim.since < found[claim.owner].since:
                found[claim.owner] = claim
        return found

    def spots_of(self, owner: str) -> list[Spot]:
        """The spots that any record gives to the owner."""
        return [s for s, claims in self.claims.items() if any(c.owner == owner for c in claims.values())]

    def history(self, spot: Spot) -> str:
        """What happened to the spot, for a person to read."""
        return "\n    ".join(["", *self._history.get(spot, ())])

    def put(
        self, source: Source, owner: str, spots: tuple[Spot, ...], now: float, by: str, *, forced: bool
    ) -> list[Spot]:
        """Let the record claim just these spots; answers those that its owner did not have before."""
        old, fresh = self._by_source.get(source, ()), []
        for spot in spots:
            claims = self.claims.setdefault(spot, {})
            if spot in old and claims[source].owner == owner:
                continue
            if all(claim.owner != owner for claim in claims.values()):
                fresh.append(spot)
            claims[source] = Claim(owner, now, forced)
            self._note(spot, f"t={now:.3f} +{source.what} {source.name} for {owner} by {by}")
        for spot in old:
            if spot not in spots:
                claim = self.claims[spot].pop(source)
                self.past.add((spot, claim.owner))
                self._note(spot, f"t={now:.3f} -{source.what} {source.name} by {by}")
                if not self.claims[spot]:
                    self.released[spot] = Release(claim.owner, now, claim.since if claim.forced else None)
        self._by_source[source] = spots
        if not spots:
            del self._by_source[source]
        return fresh

    def _note(self, spot: Spot, line: str) -> None:
        self._history.setdefault(spot, deque(maxlen=HISTORY)).append(line)

    # -- what a commit says ------------------------------------------------------------------------
    def see_ip(self, commit: Commit, now: float, *, by_controller: bool) -> list[Spot]:
        """Take in a change of an IP object."""
        name, doc, source = commit.name[1], commit.new, Source("IP", commit.name[1])
        uid = meta(commit.document)["uid"]
        if doc is None:
            self.grants.pop(uid, None)
            return self.put(source, name, (), now, commit.by, forced=False)
        if foreign(doc) and uid not in self.grants:
            texts = ",".join(filter(None, (spec(doc).get(k) for k in ("v4IpAddress", "v6IpAddress", "ipAddress"))))
            spots = tuple(dict.fromkeys(Spot(spec(doc).get("subnet", ""), a) for a in split(texts)))
            if deleting(doc) and source not in self._by_source:
                spots = ()  # what we have let go of is not taken again by an edit
            return self.put(source, name, spots, now, commit.by, forced=True)
        if not ours(doc) and uid not in self.grants:
            return self.put(source, name, (), now, commit.by, forced=False)
        grant = self._grant(commit, doc, now, by_controller=by_controller)
        if not ours(doc):
            if not (grant.reserved and (doc.get("status") or {}).get("recorded")):
                del self.grants[uid]  # by force, and nothing remembers it: it is nobody's, or a request again
            elif not deleting(doc):  # by force, and its status says what it was
                return self.put(source, name, grant.spots, now, commit.by, forced=grant.tainted)
            return self.put(source, name, (), now, commit.by, forced=False)
        return self.put(source, name, grant.spots, now, commit.by, forced=grant.tainted)

    def _grant(self, commit: Commit, doc: Doc, now: float, *, by_controller: bool) -> Grant:
        uid, label = meta(doc)["uid"], labels(doc).get(RESERVED)
        grant = self.grants.get(uid)
        if grant is None:
            grant = self.grants[uid] = Grant(commit.name[1], fields_of(doc), label == "true")
        elif not grant.reserved and commit.old is not None and spec(commit.old) != spec(doc):
            edited = fields_of(commit.old) != fields_of(doc)
            grant.tainted = not by_controller and (edited or grant.tainted)
            grant.unsure = grant.tainted  # and for as long as it is a reservation
            grant.fields = written(doc) if by_controller or grant.tainted else grant.fields
        elif grant.unsure:
            grant.fields = written(doc)
        elif not by_controller and fields_of(doc) != grant.fields and now - grant.flipped_at < HASTE:
            grant.unsure = grant.tainted = True  # edited before anybody could know that it was a reservation
            grant.fields = written(doc)
        elif not by_controller and commit.old is not None and _unrecorded(commit.old, doc):
            grant.unsure = grant.tainted = True
            grant.fields = written(doc)
        if label in ("true", "false") and grant.reserved != (label == "true"):
            grant.reserved, grant.flipped_at = label == "true", now
            grant.unsure |= grant.tainted
            if not grant.reserved and fields_of(doc) != grant.fields:
                grant.tainted, grant.fields = True, written(doc)  # edited while it was one, and not put back
        if deleting(doc) and not grant.deleted_by:
            grant.deleted_by = commit.by
        return grant

    def see_pod(self, commit: Commit, now: float) -> list[Spot]:
        """Take in a change of a pod."""
        fresh: list[Spot] = []
        for what, seen in (("pod", lambda doc: doc), ("pod's second NIC", by_side)):
            spots = () if commit.new is None else pod_spots(seen(commit.new))
            source, owner = Source(what, "/".join(commit.name)), port_of(seen(commit.document))
            fresh += self.put(source, owner, spots, now, commit.by, forced=False)
        return fresh

    def see_ports(self, change: Transaction, now: float) -> list[Spot]:
        """Take in a transaction of Northbound: all that goes goes before anything comes."""
        fresh: list[Spot] = []
        for name, (_, row) in sorted(change.ports.items(), key=lambda item: item[1][1] is not None):
            spots = row_spots(row) if row is not None else ()
            forced = row is not None and not row.ours
            fresh += self.put(Source("LSP", name), name, spots, now, change.by, forced=forced)
        return fresh

    def see(self, commit: Commit, now: float, *, by_controller: bool) -> list[Spot]:
        """Take in a change of the API; answers the spots whose owner is new there."""
        if commit.kind is Kind.IP:
            return self.see_ip(commit, now, by_controller=by_controller)
        if commit.kind is Kind.POD:
            return self.see_pod(commit, now)
        if commit.kind is Kind.VIP:
            spots = vip_spots(commit.new) if commit.new is not None else ()
            source = Source("Vip", commit.name[1])
            return self.put(source, f"Vip {commit.name[1]}", spots, now, commit.by, forced=True)
        if commit.kind is Kind.SUBNET:
            owner, spots = crossing(commit.document)
            kept = spots if commit.new is not None else ()
            return self.put(Source("Subnet", commit.name[1]), owner, kept, now, commit.by, forced=True)
        return []


_TOLD_TWICE: Final = frozenset({"subnet", "v4IpAddress", "v6IpAddress"})  # by the subnet label and by ipAddress


def _unrecorded(old: Doc, new: Doc) -> bool:
    """True if what was edited stands nowhere else yet: a controller that was born since cannot know what it was."""
    before, after = fields_of(old), fields_of(new)
    edited = {field for field, value in after.items() if before[field] != value}
    return not (old.get("status") or {}).get("recorded") and bool(edited - _TOLD_TWICE)
