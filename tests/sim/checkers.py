"""What must be true inside every commit. A violation is a sentence, and the history of the address it is about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from controller.core.objects import OUR_FINALIZERS, Kind
from tests.sim.documents import (
    IMMUTABLE,
    RESERVED,
    Doc,
    deleting,
    finalizers,
    labels,
    meta,
    notes,
    ours,
    spec,
)
from tests.sim.owners import OWNER_UID, RETAINED, Owners
from tests.sim.plans import Plan, is_mac, number, plan_of, split, text
from tests.sim.pools import Pools, is_pool_name
from tests.sim.records import NEVER, Book, Grant, Spot, fields_of, foreign, pod_spots, row_spots
from tests.sim.stage import NOTE, alive, by_side, lists_side, nics_of, port_of

if TYPE_CHECKING:
    from controller.core.rows import PortRow
    from tests.sim.northbound import Transaction
    from tests.sim.store import Commit
    from tests.sim.world import SimWorld

COOLDOWN: Final = 30.0
STALE: Final = 120.0  # how long a process may not know what others have written
BIRTH: Final = 60.0  # how long a new process may take to see what there is: what went before, it never knew
SPARE: Final = 5  # addresses that may be promised at this moment without any record of it
OUR_LABELS: Final = frozenset({RESERVED, NOTE + "subnet", NOTE + "node-name"})


class Violation(AssertionError):
    """A promise of the contract was broken."""


@dataclass
class Checkers:
    """Witnesses of every commit; `born` names the controllers and says when each began."""

    universe: SimWorld
    book: Book = field(default_factory=Book)
    plans: dict[str, list[tuple[float, Plan | None]]] = field(default_factory=dict)
    asked: set[tuple[str, str]] = field(default_factory=set)
    wishes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    excused: set[tuple[Spot, frozenset[str]]] = field(default_factory=set)
    removed_by_hand: dict[str, float] = field(default_factory=dict)
    terms: dict[str, int] = field(default_factory=dict)  # a controller's last term of the Lease, counted from one
    written_in: int = 0  # the latest term in which Northbound was written to
    born: dict[str, float] = field(default_factory=dict)
    free_since: dict[str, float] = field(default_factory=dict)  # IP's uid -> when nobody kept it last
    pooled: list[tuple[float, dict[str, dict[str, str]]]] = field(default_factory=lambda: [(float("-inf"), {})])
    asked_pools: dict[str, set[str]] = field(default_factory=dict)  # owner, or `*.namespace` -> pools
    pod_born: dict[str, int] = field(default_factory=dict)  # pod's uid -> the version of its creation

    def __post_init__(self) -> None:
        self.owners = Owners(self.universe, self.book)
        self.oracle_pools = Pools(self.universe.store)
        self.universe.watched_by(self.committed, self.transacted)

    def now(self) -> float:
        """Virtual seconds."""
        return self.universe.now()

    def is_controller(self, by: str) -> bool:
        """True for a process of ours."""
        return by in self.born

    def fail(self, sentence: str, spot: Spot | None = None) -> None:
        """Break the universe."""
        history = self.book.history(spot) if spot is not None else ""
        raise Violation(f"t={self.now():.3f} {sentence}{history}")

    # -- the two witnesses -------------------------------------------------------------------------
    def committed(self, commit: Commit) -> None:
        """Judge a change of the API."""
        mine = self.is_controller(commit.by)
        if commit.kind is Kind.SUBNET:
            self._note_plan(commit)
        if commit.kind is Kind.POOL:
            self._note_pools()
        if commit.kind is Kind.LEASE and mine:
            self._note_term(commit)
        self._note_asked(commit)
        if commit.kind is Kind.POD and commit.old is None:
            self.pod_born[meta(commit.document)["uid"]] = int(meta(commit.document)["resourceVersion"])
        known = self.book.grants.get(meta(commit.document)["uid"])
        before = replace(known) if known is not None else None  # what the commit itself makes of it comes after
        fresh = self.book.see(commit, self.now(), by_controller=mine)
        self._note_free()
        if mine:
            self._nothing_foreign(commit)
        if commit.kind is Kind.IP:
            self._reservation_kept(commit, before, mine=mine)
            self._ip_in_order(commit, mine=mine)
            if mine:
                self._retained_kept(commit)
        elif commit.kind is Kind.POD and mine:
            self._pod_in_order(commit)
        self._granted(fresh, commit.by, mine=mine)

    def transacted(self, change: Transaction) -> None:
        """Judge a change of Northbound."""
        mine = self.is_controller(change.by)
        for name, (old, new) in change.ports.items():
            if mine and old is not None and not old.ours:
                self.fail(f"{change.by} changed the foreign port {name}: {old} to {new}")
            if not mine and old is not None and old.ours:
                self.removed_by_hand[name] = self.now()
        fresh = self.book.see_ports(change, self.now())
        if mine:
            self._in_its_term(change.by)
            for name, (old, new) in change.ports.items():
                self._live_port_kept(name, old, new, change.by)
                if old is not None and new is None and self._retained(name, row_spots(old)):
                    self.fail(f"{change.by} dropped the port of {name}, a retained address: {old}")
        self._granted(fresh, change.by, mine=mine)

    # -- one leader (contract §9) ------------------------------------------------------------------
    def _note_term(self, commit: Commit) -> None:
        had, has = (spec(doc) if doc is not None else {} for doc in (commit.old, commit.new))
        if has.get("holderIdentity") and any(had.get(k) != has[k] for k in ("holderIdentity", "acquireTime")):
            self.terms[commit.by] = 1 + max(self.terms.values(), default=0)

    def _in_its_term(self, by: str) -> None:
        """What was sent in one term of the Lease is not carried out once the next one has begun to write."""
        term = self.terms.get(by, 0)
        if term < self.written_in:
            self.fail(f"{by} wrote to Northbound in term {term}, and term {self.written_in} has written there already")
        self.written_in = term

    # -- (a) one owner, (f) legal addresses, (g) cool-down -----------------------------------------
    def _granted(self, fresh: list[Spot], by: str, *, mine: bool) -> None:
        for spot in fresh:
            owners = self.book.owners(spot)
            newest = max(reversed(list(owners)), key=lambda o: owners[o].since)
            for owner in owners:
                if owner != newest:
                    self._share(spot, newest, owner, mine=mine)
            if mine and not is_mac(spot.address) and not owners[newest].forced:
                self._legal(spot, newest, by)
                self._in_its_pool(spot, newest, by)
                self._cooled(spot, newest, by)

    def _share(self, spot: Spot, newest: str, owner: str, *, mine: bool) -> None:
        """Two owners of one spot: allowed only if a person's own hand made it so, unknown to the controller."""
        pair = (spot, frozenset({newest, owner}))
        claims = self.book.owners(spot)
        recent = any(claims[o].forced and self.now() - claims[o].since < STALE for o in (newest, owner))
        if not mine or pair in self.excused or recent:
            self.excused.add(pair)
            return
        self.fail(f"{spot.address} of {spot.subnet} is given to {newest} and belongs to {owner}", spot)

    def _legal(self, spot: Spot, owner: str, by: str) -> None:
        """Never gateway, network or broadcast; what was not asked for by name is never in excludeIps."""
        if (spot, owner) in self.book.past:
            return
        plans = self._plans_of(spot.subnet)
        named = (owner, spot.address) in self.asked
        if any(p.may_be_named(spot.address) if named else p.may_be_drawn(spot.address) for p in plans):
            return
        how = "which it asked for" if named else "which nobody asked for"
        self.fail(f"{by} gave {owner} {spot.address}, {how}, and no plan of {spot.subnet} allows it: {plans}", spot)

    def _in_its_pool(self, spot: Spot, owner: str, by: str) -> None:
        """No address of a pool goes to somebody who asked neither for that pool nor for that address."""
        if (spot, owner) in self.book.past or (owner, spot.address) in self.asked:
            return
        holders = {pools.get(spot.address, "") for pools in self._pool_states(spot.subnet)}
        allowed = self.asked_pools.get(owner, set()) | self.asked_pools.get(f"*.{owner.partition('.')[2]}", set())
        if not holders & (allowed | {""}):
            self.fail(f"{by} gave {owner} {spot.address} of {sorted(holders)}, it asked for {sorted(allowed)}", spot)

    def _pool_states(self, subnet: str) -> list[dict[str, str]]:
        """Address -> pool, in every state of the pools that a process may believe in now."""
        ends = [at for at, _ in self.pooled[1:]] + [float("inf")]
        both = zip(self.pooled, ends, strict=True)
        return [state.get(subnet, {}) for (_, state), end in both if end > self.now() - STALE]

    def _note_pools(self) -> None:
        """Remember which pool has which address, in every subnet; what was so a moment ago may still be believed."""
        subnets = {str(spec(doc).get("subnet")) for doc in self.universe.store.docs[Kind.POOL].values()}
        regions = {subnet: self.oracle_pools.regions(subnet) for subnet in subnets}
        state = {s: {address: name for name, mine in r.items() for address in mine} for s, r in regions.items()}
        self.pooled.append((self.now(), state))

    def _plans_of(self, subnet: str) -> list[Plan]:
        """Every plan of the subnet that a process may believe in now."""
        plans = self.plans.get(subnet, [])
        ends = [at for at, _ in plans[1:]] + [float("inf")]
        return [plan for (_, plan), end in zip(plans, ends, strict=True) if plan and end > self.now() - STALE]

    def _cooled(self, spot: Spot, owner: str, by: str) -> None:
        last, at, forced_since = self.book.released.get(spot, NEVER)
        if forced_since is not None and at - forced_since < STALE:
            return  # what came and went so fast was perhaps never seen
        if last in ("", owner) or self.now() - at >= COOLDOWN - 1e-6 or at < self.born[by] + BIRTH:
            return
        if any(plan is None for since, plan in self.plans.get(spot.subnet, []) if since > at - STALE):
            return  # a subnet that went and came again remembers nothing
        plans, states = self._plans_of(spot.subnet), self._pool_states(spot.subnet)
        spare = min((len(self._spare(spot, plan, pools)) for plan in plans for pools in states), default=0)
        if spare >= SPARE or self._asks(owner, spot.address):
            passed = self.now() - at
            self.fail(f"{spot.address} of {spot.subnet} went from {last} to {owner} after {passed:.1f} s", spot)

    def _asks(self, owner: str, address: str) -> bool:
        """True if the owner names that address now, and cannot have drawn it beside one of the other family (1452)."""
        docs = self.universe.store.docs
        mine = [docs[Kind.IP].get(("", owner))] + [p for p in docs[Kind.POD].values() if port_of(p) == owner]
        named = [self.wishes.get(meta(doc)["uid"], ()) for doc in mine if doc is not None]
        return any(address in wishes and all((":" in w) == (":" in address) for w in wishes) for wishes in named)

    def _spare(self, spot: Spot, plan: Plan, pools: dict[str, str]) -> list[int]:
        """Addresses of the same family and pool that have been nobody's for a long time."""
        family = plan.family(spot.address)
        if family is None:
            return []
        claims, released, since = self.book.claims, self.book.released, self.now() - STALE
        busy = {number(s.address) for s, c in claims.items() if s.subnet == spot.subnet and c and not is_mac(s.address)}
        busy |= {
            number(s.address)
            for s, release in released.items()
            if s.subnet == spot.subnet and release.at > since and not is_mac(s.address)
        }
        pool = pools.get(spot.address, "")
        free = [value for value in family.drawable() if value not in busy]
        return [value for value in free if pools.get(text(value, family.version), "") == pool]

    def _note_plan(self, commit: Commit) -> None:
        plan = None if commit.new is None or deleting(commit.new) else plan_of(spec(commit.new))
        plans = self.plans.setdefault(commit.name[1], [])
        if not plans or plans[-1][1] != plan:
            plans.append((self.now(), plan))

    def _note_asked(self, commit: Commit) -> None:
        """Remember who named which address, for ever: a late write may serve an old wish."""
        doc = commit.new
        if doc is not None and commit.kind in (Kind.POD, Kind.NAMESPACE):
            owner = port_of(doc) if commit.kind is Kind.POD else f"*.{commit.name[1]}"
            texts = notes(doc).get(NOTE + "ip_pool", "")
            if is_pool_name(texts) or commit.kind is Kind.NAMESPACE:
                self.asked_pools.setdefault(owner, set()).update(filter(None, texts.split(",")))
        if doc is None or self.is_controller(commit.by):
            return
        if commit.kind in (Kind.IP, Kind.POD):
            owner = commit.name[1] if commit.kind is Kind.IP else port_of(doc)
            self.asked |= {(owner, a) for a in _named(commit.kind, doc)}
            served = notes(doc).get(NOTE + "allocated") == "true" or meta(doc)["uid"] in self.book.grants
            if not served:
                self.wishes[meta(doc)["uid"]] = _named(commit.kind, doc)

    # -- retained addresses (contract §5) ----------------------------------------------------------
    def _retained(self, name: str, spots: tuple[Spot, ...]) -> bool:
        """True for a port that has what a StatefulSet or VM has kept all the time (contract §5)."""
        ip = self.universe.store.get(Kind.IP, "", name)
        grant = self.book.grants.get(meta(ip)["uid"]) if ip is not None else None
        return (
            ip is not None and ours(ip) and not deleting(ip) and grant is not None and not grant.reserved
            and not grant.tainted and grant.fields["podType"] in RETAINED and not self._might_go(meta(ip)["uid"])
            and bool(set(spots) & set(grant.spots))
        )  # fmt: skip

    def _might_go(self, uid: str) -> bool:
        """True if its owner has let go of it since, or as late as a process may believe so."""
        return self.now() - self.free_since.get(uid, float("-inf")) < STALE

    def _note_free(self) -> None:
        """Remember which addresses nobody keeps at this moment."""
        for ip in self.universe.store.docs[Kind.IP].values():
            if spec(ip).get("podType") in RETAINED and not self.owners.keeps(ip):
                self.free_since[meta(ip)["uid"]] = self.now()

    def _retained_kept(self, commit: Commit) -> None:
        old, new = commit.old, commit.new
        if old is None or deleting(old) or not (new is None or deleting(new)):
            return
        grant = self.book.grants.get(meta(old)["uid"])
        retained = grant is not None and not grant.tainted and grant.fields["podType"] in RETAINED
        if retained and grant is not None and not self._might_go(meta(old)["uid"]):
            self.fail(f"{commit.by} ended {commit.name[1]}, the address of a {grant.fields['podType']}")

    # -- (b) reservations are never lost or moved --------------------------------------------------
    def _reservation_kept(self, commit: Commit, grant: Grant | None, *, mine: bool) -> None:
        if grant is None or not grant.reserved or not mine:
            return
        old, new, name = commit.old, commit.new, commit.name[1]
        if new is None or (deleting(new) and old is not None and not deleting(old)):
            if old is not None and not deleting(old):
                self.fail(f"{commit.by} ended the reservation {name}, which nobody deleted")
            return
        if old is None or deleting(new):
            return
        shown = ((old.get("status") or {}).get("recorded") or {}).get("reserved") == "true"
        if not shown and labels(old).get(RESERVED) != "true":
            return  # nothing tells of it any more: what an IP without status and label is, its pod decides
        if ours(old) and not ours(new):
            self.fail(f"{commit.by} took the finalizer off the reservation {name}")
        have, was = fields_of(new), fields_of(old)
        for key in IMMUTABLE if not grant.unsure else ():
            if have[key] not in (grant.fields[key], was[key]):
                self.fail(f"{commit.by} changed {key} of {name} from {grant.fields[key]!r} to {have[key]!r}")
        if labels(old).get(RESERVED) == "true" and labels(new).get(RESERVED) != "true":
            self.fail(f"{commit.by} took the label {RESERVED} off {name}")
        if shown and not grant.unsure and labels(old).get(RESERVED) != labels(new).get(RESERVED) == "false":
            self.fail(f"{commit.by} took the reservation {name} for an ordinary IP, because its label was gone")

    # -- (c) a pod keeps its address, (d) the order of writes --------------------------------------
    def _pod_in_order(self, commit: Commit) -> None:
        old, new = commit.old, commit.new
        if old is None or new is None:
            self.fail(f"{commit.by} created or deleted the pod {commit.name}")
            return
        self._nic_in_order(commit, old, new)
        if lists_side(new):  # what it does not list any more is taken off
            self._nic_in_order(commit, by_side(old), by_side(new))

    def _nic_in_order(self, commit: Commit, old: Doc, new: Doc) -> None:
        had, has = pod_spots(old), pod_spots(new)
        if had and set(had) - set(has):
            self.fail(f"{commit.by} changed the addresses of the pod {commit.name}: {had} to {has}", had[0])
        if has and not had:
            port = port_of(new)
            row = self.universe.database.tables.ports.get(port)
            if not self._by_hand(port) and (row is None or set(has) - set(row_spots(row))):
                self.fail(f"{commit.by} told the pod {commit.name} {has} and its port is {row}", has[0])
            self._first_come(commit, new)

    def _first_come(self, commit: Commit, pod: Doc) -> None:
        """What a user asked for before the pod was there is the pod's, however late the controller hears of it."""
        ip = self.universe.store.get(Kind.IP, "", port_of(pod))
        if ip is None or deleting(ip) or foreign(ip) or labels(ip).get(RESERVED) == "false":
            return
        others = [one for doc in self.universe.store.docs[Kind.POD].values() for one in nics_of(doc)]
        siblings = (one for one in others if port_of(one) == port_of(pod) and meta(one)["uid"] != meta(pod)["uid"])
        if any(pod_spots(one) for one in siblings):
            return  # a migration's target: the VM has its address already
        untouched = int(meta(ip)["resourceVersion"]) < self.pod_born[meta(pod)["uid"]]
        untouched &= meta(ip)["creationTimestamp"] <= meta(pod)["creationTimestamp"]  # the wall clock may be put back
        asked, told = spec(ip), {s.address for s in pod_spots(pod)}
        wishes = {*_named(Kind.IP, ip), asked.get("macAddress")} - {None, ""}
        if untouched and meta(ip)["uid"] not in self.book.grants and wishes - told:
            self.fail(f"{commit.by} told the pod {commit.name} {told}, and the IP before it asked for {wishes}: {ip}")

    def _by_hand(self, port: str) -> bool:
        return self.now() - self.removed_by_hand.get(port, float("-inf")) < STALE

    def _ip_in_order(self, commit: Commit, *, mine: bool) -> None:
        name, row = commit.name[1], self.universe.database.tables.ports.get(commit.name[1])
        if not mine:
            return
        if commit.old is None and row is None and not self._by_hand(name):
            self.fail(f"{commit.by} created the IP {name} before its port")
        doc = commit.document
        if commit.old is None and spec(doc).get("podType") == "StatefulSet" and OWNER_UID not in notes(doc):
            self.fail(f"{commit.by} created {name} and did not say for whom: {doc}")
        was = commit.old is not None and ours(commit.old)
        now_off = commit.new is None or not ours(commit.new)
        if was and now_off and row is not None and row.ours and row.type == "":
            self.fail(f"{commit.by} took the finalizer off {name} before its port was gone: {row}")

    def _live_port_kept(self, name: str, old: PortRow | None, new: PortRow | None, by: str) -> None:
        """The port of a live pod that has an address is never dropped, and never loses that address."""
        if old is None or not old.ours:
            return
        for pod in (one for doc in self.universe.store.docs[Kind.POD].values() for one in nics_of(doc)):
            if port_of(pod) != name or not alive(pod):
                continue
            has = pod_spots(pod)
            if has and new is not None and _notes_of_others(old) - _notes_of_others(new):
                self.fail(
                    f"{by} took other people's notes off the port of the live pod {meta(pod)['name']}: {old} {new}"
                )
            lost = set(has) & set(row_spots(old)) - (set(row_spots(new)) if new is not None else set())
            if lost:
                self.fail(f"{by} took {sorted(lost)} off the port {name} of the live pod {meta(pod)['name']}", has[0])

    # -- (e) what is not ours ----------------------------------------------------------------------
    def _nothing_foreign(self, commit: Commit) -> None:
        old, new, kind, by = commit.old, commit.new, commit.kind, commit.by
        if kind in (Kind.NODE, Kind.VIP):
            self.fail(f"{by} wrote the {kind} {commit.name}")
        known = kind is Kind.IP and old is not None and foreign(old) and meta(old)["uid"] not in self.book.grants
        if known and not _request_until_now(old, new):
            self.fail(f"{by} changed the foreign IP {commit.name[1]}: {old} to {new}")
        if old is None or new is None:
            return
        if set(finalizers(old)) - OUR_FINALIZERS != set(finalizers(new)) - OUR_FINALIZERS:
            self.fail(f"{by} changed other people's finalizers of {kind} {commit.name}: {finalizers(old)}")
        subnets = {spec(old).get("subnet"), spec(new).get("subnet")} if kind is Kind.IP else set()
        touched = _changed(labels(old), labels(new)) - OUR_LABELS - subnets
        if touched:
            self.fail(f"{by} changed other people's labels of {kind} {commit.name}: {sorted(touched)}")
        wrong = [k for k in _changed(notes(old), notes(new)) if "kubernetes.io/" not in k and "keepip.io/" not in k]
        if wrong:
            self.fail(f"{by} changed other people's annotations of {kind} {commit.name}: {sorted(wrong)}")
        if kind is Kind.POD and spec(old) != spec(new):
            self.fail(f"{by} changed the spec of pod {commit.name}")


def _request_until_now(old: Doc | None, new: Doc | None) -> bool:
    """True for a status on what may have been a request a moment ago."""
    if old is None or new is None or str(meta(old)["name"]).startswith(("manual-", "node-")):
        return False
    return spec(old) == spec(new) and finalizers(old) == finalizers(new) and labels(old) == labels(new)


def _notes_of_others(row: PortRow) -> set[tuple[str, str]]:
    return {pair for pair in (*row.external_ids, *row.options) if pair[0] in {"security_groups", "arp_proxy"}}


def _named(kind: Kind, doc: Doc) -> tuple[str, ...]:
    """The addresses that an IP or a pod asks for by name."""
    if kind is Kind.IP:
        return split(",".join(filter(None, (spec(doc).get("v4IpAddress"), spec(doc).get("v6IpAddress")))))
    wishes = [notes(doc).get(NOTE + key, "").replace(";", ",") for key in ("ip_address", "ip_pool")]
    return split(",".join(wishes))


def _changed(old: dict[str, str], new: dict[str, str]) -> set[str]:
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
