"""The ledger against a model that keeps only what it was told, and looks at all of it to answer anything."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.core.addresses import Address, Family, format_mac
from controller.core.effects import Topic
from controller.core.ipam import (
    FAMILIES,
    Counts,
    FamilyPlan,
    Refusal,
    Release,
    SubnetPlan,
    Want,
    choose,
    line_of,
    space_topic,
)
from controller.core.ranges import RangeSet, parse_ranges
from controller.machines.ledger import Ledger, Record, Source
from tests.machines.test_ledger import num, planned

SUBNETS = ("one", "two")
PORTS = ("a", "b", "c", "ü.ns")
UNIVERSE = tuple(
    chain(
        (Address(4, num("10.0.0.0") + offset) for offset in range(-1, 10)),
        (Address(6, num("fd00::") + offset) for offset in range(10)),
    )
)
MACS = (1, 2, *((1 << 41) + dice for dice in range(12)))  # named ones, and all that the dice can come to
CIDRS = (
    "10.0.0.0/29",
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.4/30",
    "fd00::/125",
    "10.0.0.0/29,fd00::/125",
    "10.0.0.0/30,fd00::/127",
)
EXCLUDES = ((), ("10.0.0.2..10.0.0.4", "fd00::5"), ("10.0.0.6",), ("10.0.0.0..10.0.0.9",))

V4S = st.none() | st.sampled_from([address.value for address in UNIVERSE if address.family == 4])
V6S = st.none() | st.sampled_from([address.value for address in UNIVERSE if address.family == 6])
MAC = st.none() | st.sampled_from(MACS[:4])
RECORDS = st.builds(Record, st.sampled_from(PORTS), st.sampled_from(SUBNETS), V4S, V6S, MAC)
NAMED_POOLS: tuple[dict[str, tuple[str, ...]], ...] = (
    {},
    {"blue": ("10.0.0.3..10.0.0.4", "fd00::3..fd00::4")},
    {"blue": ("10.0.0.2",), "red": ("10.0.0.5..10.0.0.9", "fd00::2", "fd00::6")},
    {"red": ("fd00::..fd00::9",)},
)
POOLS = ("", "blue", "red")
LINES = [space_topic(subnet, pool, family) for subnet in SUBNETS for pool in POOLS for family in (None, *FAMILIES)]


def with_pools(plan: SubnetPlan, named: dict[str, tuple[str, ...]]) -> SubnetPlan:
    """The same plan with these named pools in it."""

    def divided(one: FamilyPlan | None) -> FamilyPlan | None:
        return one and replace(one, pools=tuple((name, parse_ranges(items, one.cidr)) for name, items in named.items()))

    return replace(plan, v4=divided(plan.v4), v6=divided(plan.v6))


PLANS = st.builds(
    with_pools,
    st.builds(planned, st.sampled_from(CIDRS), st.sampled_from(EXCLUDES), st.just(""), st.sampled_from([0.0, 30.0])),
    st.sampled_from(NAMED_POOLS),
)
FAMILY_CHOICES = st.sampled_from([(4, 6), (4,), (6,)])
WANTS = st.builds(
    Want,
    st.sampled_from(PORTS),
    families=FAMILY_CHOICES,
    dice=st.integers(0, 2),
    queued=st.sets(st.sampled_from(LINES), max_size=2).map(frozenset),
    pool=st.sampled_from(POOLS),
) | st.builds(Want, st.sampled_from(PORTS), V4S, V6S, MAC, families=FAMILY_CHOICES)


class Place(NamedTuple):
    subnet: str
    address: Address


class Model:
    """No cursor, no counter, no index: a list of who said what, and when an address was last let go of."""

    def __init__(self, remembered: int) -> None:
        self.remembered = remembered
        self.said: dict[tuple[Source, str], tuple[Record, ...]] = {}
        self.plans: dict[str, SubnetPlan] = {}
        self.nodes: dict[str, tuple[Address, ...]] = {}
        self.releases: dict[Place, Release] = {}

    def records(self) -> list[Record]:
        return [one for records in self.said.values() for one in records]

    def holders(self, place: Place) -> set[str]:
        return {one.port for one in self.records() if one.subnet == place.subnet and place.address in one.addresses}

    def mac_holders(self, mac: int) -> set[str]:
        return {one.port for one in self.records() if one.mac == mac}

    def users(self, subnet: str) -> set[str]:
        return {one.port for one in self.records() if one.subnet == subnet}

    def family_plan(self, subnet: str, family: Family) -> FamilyPlan | None:
        plan = self.plans.get(subnet)
        return plan.family(family) if plan else None

    def usable(self, place: Place) -> bool:
        plan = self.family_plan(place.subnet, place.address.family)
        return plan is not None and plan.cidr.first <= place.address.value <= plan.cidr.last

    def closed(self, place: Place) -> bool:
        plan = self.family_plan(place.subnet, place.address.family)
        assert plan is not None
        barred = any(place.address in addresses for addresses in self.nodes.values())
        return barred or place.address.value == plan.gateway or place.address.value in plan.excluded

    def open_places(self, subnet: str, family: Family) -> list[Place]:
        places = (Place(subnet, address) for address in UNIVERSE if address.family == family)
        return [place for place in places if self.usable(place) and not self.closed(place)]

    def free(self, subnet: str, family: Family) -> list[Place]:
        return [place for place in self.open_places(subnet, family) if not self.holders(place)]

    def all_free(self) -> set[Place]:
        return {place for subnet in SUBNETS for family in FAMILIES for place in self.free(subnet, family)}

    def pool_of(self, place: Place) -> str:
        plan = self.family_plan(place.subnet, place.address.family)
        named = plan.pools if plan and self.usable(place) and not self.closed(place) else ()
        return next((name for name, region in named if place.address.value in region), "")

    def next_free(
        self, subnet: str, family: Family, now: float, pool: str = "", skip: Collection[int] = ()
    ) -> int | None:
        free = [place for place in self.free(subnet, family) if self.pool_of(place) == pool]
        released = sorted((place for place in free if place in self.releases), key=lambda p: self.releases[p].at)
        never_used = [place for place in free if place not in self.releases and place.address.value not in skip]
        full = len(released) > self.remembered
        released = [place for place in released if place.address.value not in skip]
        if full and released:
            oldest = released[0]
            if self.releases[oldest].at + self.plans[subnet].cooldown <= now:
                return oldest.address.value
        return next((place.address.value for place in never_used + released), None)

    def counts(self, subnet: str) -> dict[Family, Counts]:
        counts: dict[Family, Counts] = {}
        for family in FAMILIES:
            plan = self.family_plan(subnet, family)
            held = any(self.holders(Place(subnet, address)) for address in UNIVERSE if address.family == family)
            if plan or (subnet in self.plans and held):
                total, open_ = plan.cidr.size if plan else 0, len(self.open_places(subnet, family))
                free = len(self.free(subnet, family))
                counts[family] = Counts(open_ - free, free, total - open_, total)
        return counts

    def put(self, source: Source, key: str, records: tuple[Record, ...], now: float) -> None:
        before, old = self.held_by(), self.said.get((source, key), ())
        if source is Source.PROMISE:
            records = tuple(one for one in records if not self.is_kept(one))
        self.said[source, key] = records
        if source is Source.IP:
            for port in {one.port for one in records}:
                promises = self.said.get((Source.PROMISE, port), ())
                self.said[Source.PROMISE, port] = tuple(one for one in promises if not keeps(records, one))
        for place in {place for place, _ in before - self.held_by()}:
            if not self.holders(place):
                last = [one for one in old if one.subnet == place.subnet and place.address in one.addresses][-1]
                self.releases[place] = Release(last.port, now)
        self.forget()

    def is_kept(self, promise: Record) -> bool:
        return any(keeps(records, promise) for (source, _), records in self.said.items() if source is Source.IP)

    def held_by(self) -> set[tuple[Place, str]]:
        return {(Place(one.subnet, address), one.port) for one in self.records() for address in one.addresses}

    def forget(self) -> None:
        """Claimed addresses are not released ones; old, unusable releases are not remembered."""
        for place in list(self.releases):
            if self.holders(place):
                del self.releases[place]
        for subnet in SUBNETS:
            for family in FAMILIES:
                resting = [
                    place
                    for place in sorted(self.releases, key=lambda place: self.releases[place].at)
                    if (place.subnet, place.address.family) == (subnet, family)
                    and (not self.usable(place) or self.closed(place))
                ]
                for place in resting[: max(0, len(resting) - self.remembered)]:
                    del self.releases[place]


def keeps(records: tuple[Record, ...], promise: Record) -> bool:
    return any(
        (one.port, one.subnet) == (promise.port, promise.subnet)
        and set(promise.addresses) <= set(one.addresses)
        and (promise.mac is None or one.mac is not None)
        for one in records
    )


class LedgerMachine(RuleBasedStateMachine):
    """Every rule is done to both; every invariant compares all that can be asked."""

    @initialize(remembered=st.sampled_from([1, 65_536]), plans=st.tuples(PLANS, st.none() | PLANS))
    def start(self, remembered: int, plans: tuple[SubnetPlan, SubnetPlan | None]) -> None:
        self.ledger, self.model, self.now = Ledger(remembered), Model(remembered), 0.0
        for subnet, plan in zip(SUBNETS, plans, strict=True):
            self.configure(subnet, plan)

    @rule(subnet=st.sampled_from(SUBNETS), plan=st.none() | PLANS)
    def configure(self, subnet: str, plan: SubnetPlan | None) -> None:
        if plan is not None:
            plan = replace(plan, name=subnet)
        old = self.model.plans.get(subnet)
        pools = sorted({*(old.pools if old else ()), *(plan.pools if plan else ())})
        fired = [("plan", subnet), ("space", subnet), *(("space", subnet, pool) for pool in pools)]
        self.ledger.drain_freed()
        self.ledger.configure(subnet, plan)
        self.model.plans.pop(subnet, None)
        if plan is not None:
            self.model.plans[subnet] = plan
        self.model.forget()
        assert self.ledger.drain_freed() == (fired if old != plan else [])

    @rule(node=st.sampled_from(["n1", "n2"]), addresses=st.lists(st.sampled_from(UNIVERSE), max_size=2))
    def bar(self, node: str, addresses: list[Address]) -> None:
        self.ledger.bar(node, addresses)
        self.model.nodes[node] = tuple(addresses)
        self.model.forget()

    @rule(
        source=st.sampled_from(Source),
        key=st.sampled_from(PORTS),
        # One per subnet: the order among addresses that one step releases in one subnet is the ledger's own.
        records=st.lists(RECORDS, max_size=2, unique_by=lambda one: one.subnet),
        later=st.sampled_from([1.0, 40.0]),
    )
    def put(self, source: Source, key: str, records: list[Record], later: float) -> None:
        if source is Source.PROMISE:  # the worker's law: a promise is kept under its port's name
            records = [one._replace(port=key) for one in records]
        self.now += later
        before, macs = self.model.held_by(), {mac: self.model.mac_holders(mac) for mac in MACS}
        self.ledger.drain_freed()
        self.ledger.drain_touched_pools()
        self.ledger.put(source, key, records, self.now)
        self.model.put(source, key, tuple(records), self.now)
        assert set(self.ledger.drain_freed()) == self.fired(before, macs)
        after = self.model.held_by()
        moved = {place for place, _ in before ^ after}
        named = {place for place, _ in before | after}
        named |= {Place(one.subnet, address) for one in records for address in one.addresses}
        touched = self.ledger.drain_touched_pools()
        assert {self.model.pool_of(place) for place in moved} - {""} <= touched
        assert touched <= {self.model.pool_of(place) for place in named} - {""}

    def fired(self, before: set[tuple[Place, str]], macs: dict[int, set[str]]) -> set[Topic]:
        lost = {place for place, _ in before - self.model.held_by()}
        fired: set[Topic] = {("address", place.subnet, str(place.address)) for place in lost}
        for place in lost & self.model.all_free():
            pool = self.model.pool_of(place)
            fired.add(("space", place.subnet, pool) if pool else ("space", place.subnet))
        return fired | {("mac", format_mac(mac)) for mac in MACS if macs[mac] - self.model.mac_holders(mac)}

    @rule(subnet=st.sampled_from(SUBNETS), want=WANTS, later=st.sampled_from([1.0, 40.0]))
    def take(self, subnet: str, want: Want, later: float) -> None:
        plan = self.ledger.plan(subnet)
        if plan is None:
            return
        self.now += later
        before = self.everything()
        mine = (self.ledger.kept(subnet, want.port), self.ledger.said(subnet, want.port))
        answer = choose(self.ledger, plan, want, self.now)
        assert self.everything() == before  # choosing writes nothing, whatever the answer
        if isinstance(answer, Refusal):
            assert self.may_be_refused(subnet, want)
            return
        drawn: list[Family] = []
        for family, value, asked in ((FAMILIES[0], answer.v4, want.v4), (FAMILIES[1], answer.v6, want.v6)):
            if asked is not None:
                assert value == asked
            if value is not None and all(value not in held[:2] for held in mine):
                self.check_new(Place(subnet, Address(family, value)), want, dynamic=asked is None)
                drawn += [family] if asked is None else []
        if drawn:
            assert line_of(plan, want.pool, tuple(drawn)) not in want.queued
        if all(answer.mac != held.mac for held in mine):
            assert self.model.mac_holders(answer.mac) <= {want.port}
        self.put_promise(Record(want.port, subnet, answer.v4, answer.v6, answer.mac))

    def check_new(self, place: Place, want: Want, *, dynamic: bool) -> None:
        """What the port did not have before is nobody else's, and a dynamic one is the right one."""
        assert self.model.holders(place) <= {want.port}
        assert not any(place.address in addresses for addresses in self.model.nodes.values())
        plan = self.model.family_plan(place.subnet, place.address.family)
        assert plan is not None
        assert place.address.value != plan.gateway
        if dynamic:
            assert place in self.model.free(place.subnet, place.address.family)
            assert self.model.pool_of(place) == want.pool
            assert place.address.value == self.model.next_free(place.subnet, place.address.family, self.now, want.pool)
        else:
            release = self.model.releases.get(place)
            cooldown = self.model.plans[place.subnet].cooldown
            assert release is None or release.port == want.port or release.at + cooldown <= self.now

    def may_be_refused(self, subnet: str, want: Want) -> bool:
        """Whoever names nothing, has said nothing and is in no hurry is refused only if a family is full."""
        if (want.v4, want.v6, want.mac) != (None, None, None) or any(self.ledger.said(subnet, want.port)):
            return True
        families = [family for family in self.model.plans[subnet].families if family in want.families]
        kept = self.ledger.kept(subnet, want.port)
        drawn = tuple(family for family in families if (kept.v4 if family == FAMILIES[0] else kept.v6) is None)
        if drawn and line_of(self.model.plans[subnet], want.pool, drawn) in want.queued:
            return True
        return not families or any(self.model.next_free(subnet, f, self.now, want.pool) is None for f in families)

    def put_promise(self, promise: Record) -> None:
        self.ledger.put(Source.PROMISE, promise.port, [promise], self.now)
        self.model.put(Source.PROMISE, promise.port, (promise,), self.now)

    def everything(self) -> dict[str, object]:
        """All the ledger's memory but for the cursors, which are a cache."""
        shelves = {
            (name, family): (
                shelf.held.__getstate__(),
                [(pool, stock.used, list(stock.released.items())) for pool, stock in shelf._stocks.items()],
                list(shelf._resting.items()),
            )
            for name, room in self.ledger._rooms.items()
            for family, shelf in ((4, room.v4), (6, room.v6))
        }
        ledger = self.ledger
        state = (ledger._said, ledger._claims, ledger._macs.__getstate__(), list(ledger._freed), shelves)
        return copy.deepcopy({"state": state})

    @invariant()
    def who_holds_what_is_as_recorded(self) -> None:
        for subnet in SUBNETS:
            assert set(self.ledger.users(subnet)) == self.model.users(subnet)
            assert len(self.ledger.users(subnet)) == len(self.model.users(subnet))
            for address in UNIVERSE:
                holders = self.ledger.holders(subnet, address)
                assert Counter(holders) == Counter(self.model.holders(Place(subnet, address)))
                assert self.ledger.released(subnet, address) == self.model.releases.get(Place(subnet, address))
        for mac in MACS:
            assert Counter(self.ledger.mac_holders(mac)) == Counter(self.model.mac_holders(mac))

    @invariant()
    def every_record_is_found_by_its_port_and_promises_are_as_in_the_model(self) -> None:
        for port in PORTS:
            told = Counter(
                (source, key, one)
                for (source, key), records in self.model.said.items()
                for one in records
                if one.port == port
            )
            assert Counter(self.ledger.records_of(port)) == told
            assert self.ledger.promised(port) == self.model.said.get((Source.PROMISE, port), ())

    @invariant()
    def duplicates_are_those_with_two_holders(self) -> None:
        found = {
            (subnet, address)
            for subnet in SUBNETS
            for address in UNIVERSE
            if len(self.model.holders(Place(subnet, address))) > 1
        }
        assert set(self.ledger.duplicates()) == found
        for subnet in SUBNETS:
            assert set(self.ledger.duplicates(subnet)) == {one for one in found if one[0] == subnet}

    @invariant()
    def free_used_and_excluded_are_the_whole_and_disjoint(self) -> None:
        """Bug rows 43 and 44, after every step."""
        for subnet in SUBNETS:
            usage = self.ledger.usage(subnet)
            counts = self.ledger.counts(subnet)
            assert counts == self.model.counts(subnet) == {f: one.counts for f, one in (usage or {}).items()}
            assert (usage is None) == (subnet not in self.model.plans)
            for family, one in (usage or {}).items():
                assert one.using.size + one.available.size + one.excluded == one.total
                assert one.using & one.available == RangeSet()
                free = RangeSet.from_sorted(place.address.value for place in self.model.free(subnet, family))
                assert one.available == free
                outside = {
                    (place.address, port)
                    for place, port in self.model.held_by()
                    if (place.subnet, place.address.family) == (subnet, family) and not self.covered(place)
                }
                assert set(one.outside) == outside

    @invariant()
    def every_open_address_is_in_one_pool(self) -> None:
        """What the pools have, the default one included, is disjoint and together the subnet's (bug rows 43, 44)."""
        for subnet, plan in self.model.plans.items():
            usage = self.ledger.usage(subnet)
            assert usage is not None
            assert self.ledger.pool_usage("gone", "blue") == {}
            for family in plan.families:
                for pool in POOLS:
                    free = [p.address.value for p in self.model.free(subnet, family) if self.model.pool_of(p) == pool]
                    assert self.ledger.free_count(subnet, family, pool) == len(free)
                    shown = self.ledger.pool_usage(subnet, pool)[family]
                    assert shown.available == RangeSet.from_sorted(free)
                    assert shown.using & shown.available == RangeSet()
                    assert shown.using.size + shown.available.size == shown.total
                shown_all = [self.ledger.pool_usage(subnet, pool)[family] for pool in POOLS]
                assert sum(one.using.size for one in shown_all) == usage[family].using.size
                assert sum(one.available.size for one in shown_all) == usage[family].available.size
                assert shown_all[0].using | shown_all[1].using | shown_all[2].using == usage[family].using

    def covered(self, place: Place) -> bool:
        plan = self.model.family_plan(place.subnet, place.address.family)
        return plan is not None and place.address in plan.cidr

    @invariant()
    def the_next_address_is_the_lowest_never_used_then_the_longest_released(self) -> None:
        for subnet in SUBNETS:
            for family in FAMILIES:
                for pool in POOLS:
                    expected = self.model.next_free(subnet, family, self.now, pool)
                    assert self.ledger.next_free(subnet, family, self.now, pool) == expected
                    if expected is not None:
                        behind = self.model.next_free(subnet, family, self.now, pool, [expected])
                        assert self.ledger.next_free(subnet, family, self.now, pool, [expected]) == behind
                for address in UNIVERSE:
                    place = Place(subnet, address)
                    assert self.ledger.pool_of(subnet, address) == self.model.pool_of(place)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
