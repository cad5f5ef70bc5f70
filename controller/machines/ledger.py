"""Who holds which address: the fold of all records, plus what this process has promised and not yet seen recorded.

The laws (contract §2):
* an address that any record names is never given to anyone else, whatever the Subnet says meanwhile;
* a claim ends only by the record that made it: `put` under one (source, key) touches no other record's claim;
* a promise ends when an IP record keeps it, or when it is put away; there is no other memory of ours. A port record
  does not end it: its IP may be accepted and not shown yet when somebody removes the port by hand;
* an address of a named pool is given only to who asks for that pool, or for that address;
* `choose`, `put` and every question but `usage` cost the same with ten addresses and with a million.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.core.addresses import Address, Family
from controller.core.ipam import (
    FAMILIES,
    Counts,
    Held,
    Record,
    Release,
    Source,
    Usage,
    address_topic,
    mac_topic,
    plan_topic,
    space_topic,
)
from controller.machines.shelf import REMEMBERED, Claims, Shelf

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from controller.core.effects import Topic
    from controller.core.ipam import SubnetPlan

__all__ = ["Counts", "Ledger", "Record", "Source", "Usage"]

_Claim = tuple[Source, str]
_KEEPING = (Source.PROMISE, Source.PORT, Source.IP)
_SAYING = (Source.POD, Source.OTHER)
_NOBODY = Held()
_DORMANT = 256


@dataclass(slots=True)
class _Room:
    """One subnet name: its plan, if it is usable, and its users, also if it is not."""

    v4: Shelf
    v6: Shelf
    plan: SubnetPlan | None = None
    users: dict[str, int] = field(default_factory=dict)  # port -> how many records place it here

    def shelf(self, family: Family) -> Shelf:
        return self.v4 if family == 4 else self.v6

    def families(self) -> tuple[Family, ...]:
        """Those of the plan, and those of claims that are left over from another plan."""
        plan = self.plan
        if plan is None:
            return ()
        return tuple(family for family in FAMILIES if plan.family(family) or len(self.shelf(family).held))


class Ledger:
    """The book that `ipam.choose` asks. One owner writes; the worker puts a promise in the step that chose it."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._said: dict[_Claim, tuple[Record, ...]] = {}
        self._claims: dict[str, tuple[_Claim, ...]] = {}  # port -> which records name it, the most trusted first
        self._rooms: dict[str, _Room] = {}
        self._touched: set[str] = set()
        self._touched_pools: set[str] = set()
        self._dormant: OrderedDict[str, _Room] = OrderedDict()
        self._macs: Claims[int] = Claims()
        self._nodes: dict[str, tuple[Address, ...]] = {}
        self._barred: Claims[Address] = Claims()
        self._freed: dict[Topic, None] = {}  # an ordered set

    # -- what is told to the ledger ----------------------------------------------------------------

    def configure(self, subnet: str, plan: SubnetPlan | None) -> None:
        """Give out by this plan from now on; None gives out nothing. Claims stay in both cases."""
        room = self._rooms.get(subnet)
        if plan == (room.plan if room else None):
            return
        self._adopt(subnet, self._room(subnet), plan)
        self._tidy(subnet)

    def put(self, source: Source, key: str, records: Iterable[Record], now: float) -> None:
        """Replace all that this record said before; `()` takes it away.

        What stays the same is never free in between: the new is claimed before the old is let go.
        """
        new = tuple(map(self._shared, records))
        if source is Source.PROMISE:
            new = tuple(record for record in new if not self._is_kept(record))
        self._replace((source, key), new, now)
        if source is Source.IP:
            for record in new:
                self._fulfil(record, now)

    def bar(self, node: str, addresses: Iterable[Address]) -> None:
        """The node's own addresses, all of them; a change of plan for the subnets that they lie in."""
        new, old = tuple(dict.fromkeys(addresses)), self._nodes.get(node, ())
        if set(new) == set(old):
            return
        self._nodes[node] = new
        if not new:
            del self._nodes[node]
        for address in new:
            self._barred.add(address, node)
        for address in old:
            self._barred.remove(address, node)
        self._rebuild_around({*new} ^ {*old})

    def drain_freed(self) -> list[Topic]:
        """What came free since the last call, each once, in order."""
        freed = list(self._freed)
        self._freed.clear()
        return freed

    def drain_touched(self) -> set[str]:
        """The subnets in which a claim came or went since the last call."""
        touched, self._touched = self._touched, set()
        return touched

    def drain_touched_pools(self) -> set[str]:
        """The named pools of which an address was taken or let go since the last call."""
        touched, self._touched_pools = self._touched_pools, set()
        return touched

    # -- what `choose` asks ------------------------------------------------------------------------

    def holders(self, subnet: str, address: Address) -> tuple[str, ...]:
        """The ports that claim the address, each once, in order of first claim."""
        room = self._rooms.get(subnet)
        return room.shelf(address.family).held.names(address.value) if room else ()

    def mac_holders(self, mac: int) -> tuple[str, ...]:
        """The ports that claim the MAC in any subnet, in order of first claim."""
        return self._macs.names(mac)

    def kept(self, subnet: str, port: str) -> Held:
        """What the port has by promise, by its logical switch port or by its IP object."""
        return self._merged(subnet, port, _KEEPING)

    def said(self, subnet: str, port: str) -> Held:
        """What only its pod's annotations, or records of other kinds, say."""
        return self._merged(subnet, port, _SAYING)

    def barred(self, address: Address) -> str | None:
        """The node whose own address this is."""
        return next(iter(self._barred.names(address)), None)

    def released(self, subnet: str, address: Address) -> Release | None:
        """Who let go of the address last, if nobody holds it now."""
        room = self._rooms.get(subnet) or self._dormant.get(subnet)
        return room.shelf(address.family).release_of(address.value) if room else None

    def next_free(
        self, subnet: str, family: Family, now: float, pool: str = "", skip: Collection[int] = ()
    ) -> int | None:
        """The dynamic address of that pool whose turn it is; None when there is none, or no plan."""
        room = self._rooms.get(subnet)
        return room.shelf(family).next_free(now, room.plan.cooldown, pool, skip) if room and room.plan else None

    # -- what everybody else asks ------------------------------------------------------------------

    def plan(self, subnet: str) -> SubnetPlan | None:
        """The plan that the subnet's addresses are given out by."""
        room = self._rooms.get(subnet)
        return room.plan if room else None

    def records_of(self, port: str) -> tuple[tuple[Source, str, Record], ...]:
        """Everything that names the port, the most trusted first."""
        return tuple(
            (source, key, record)
            for source, key in self._claims.get(port, ())
            for record in self._said[source, key]
            if record.port == port
        )

    def promised(self, port: str) -> tuple[Record, ...]:
        """What was promised to the port and is not recorded yet."""
        return self._said.get((Source.PROMISE, port), ())

    def duplicates(self, subnet: str | None = None) -> tuple[tuple[str, Address], ...]:
        """The addresses that two ports or more claim; kept at every change, so asking costs what there is to say."""
        rooms = self._rooms if subnet is None else {subnet} & self._rooms.keys()
        return tuple(
            (name, Address(family, value))
            for name in rooms
            for family in FAMILIES
            for value in self._rooms[name].shelf(family).held.doubled
        )

    def usage(self, subnet: str) -> dict[Family, Usage] | None:
        """One snapshot per family of the plan and of claims it left over; None without a plan. O(n log n)."""
        room = self._rooms.get(subnet)
        if room is None or room.plan is None:
            return None
        return {family: room.shelf(family).usage() for family in room.families()}

    def counts(self, subnet: str) -> dict[Family, Counts]:
        """The numbers of `usage`, in O(1); empty without a plan."""
        room = self._rooms.get(subnet)
        return {family: room.shelf(family).counts() for family in room.families()} if room else {}

    def free_count(self, subnet: str, family: Family, pool: str = "") -> int:
        """How many dynamic addresses that pool of the subnet has left, in O(1)."""
        room = self._rooms.get(subnet)
        return room.shelf(family).free(pool) if room else 0

    def pool_usage(self, subnet: str, pool: str) -> dict[Family, Usage]:
        """One snapshot per family of a named pool, empty without a plan. O(n log n)."""
        room = self._rooms.get(subnet)
        plan = room.plan if room else None
        return {family: room.shelf(family).pool_usage(pool) for family in plan.families} if room and plan else {}

    def pool_of(self, subnet: str, address: Address) -> str:
        """The named pool that has the address; "" for the default one."""
        room = self._rooms.get(subnet)
        return room.shelf(address.family).pool_of(address.value) if room else ""

    def users(self, subnet: str) -> Collection[str]:
        """A live view of the ports that any record places in the subnet, in order of first coming; `len` is O(1)."""
        room = self._rooms.get(subnet)
        return room.users.keys() if room else ()

    # -- the fold ----------------------------------------------------------------------------------

    def _replace(self, claim: _Claim, new: tuple[Record, ...], now: float) -> None:
        old = self._said.get(claim, ())
        if new == old:
            return
        if new:
            self._said[claim] = new
        else:
            del self._said[claim]
        for record in new:
            self._claim(record)
        for record in old:
            self._unclaim(record, now)
        for port in dict.fromkeys(record.port for record in (*new, *old)):
            self._index(port, claim, any(record.port == port for record in new))

    def _claim(self, record: Record) -> None:
        self._touched.add(record.subnet)
        room = self._room(record.subnet)
        room.users[record.port] = room.users.get(record.port, 0) + 1
        for address in record.addresses:
            room.shelf(address.family).hold(address.value, record.port)
            self._touch_pool(room, address)
        if record.mac is not None:
            self._macs.add(record.mac, record.port)

    def _unclaim(self, record: Record, now: float) -> None:
        self._touched.add(record.subnet)
        room = self._rooms[record.subnet]
        for address in record.addresses:
            self._let_go(record, room.shelf(address.family), address, now)
            self._touch_pool(room, address)
        if record.mac is not None and self._macs.remove(record.mac, record.port):
            self._freed[mac_topic(record.mac)] = None
        room.users[record.port] -= 1
        if not room.users[record.port]:
            del room.users[record.port]
        self._tidy(record.subnet)

    def _touch_pool(self, room: _Room, address: Address) -> None:
        if pool := room.shelf(address.family).pool_of(address.value):
            self._touched_pools.add(pool)

    def _let_go(self, record: Record, shelf: Shelf, address: Address, now: float) -> None:
        if shelf.let_go(address.value, record.port, now):
            # Also while others hold it: it may have been the last other one that somebody waits for.
            self._freed[address_topic(record.subnet, address)] = None
            if shelf.is_free(address.value):
                self._freed[space_topic(record.subnet, shelf.pool_of(address.value))] = None

    def _index(self, port: str, claim: _Claim, names_it: bool) -> None:  # noqa: FBT001 - one caller, above
        claims = self._claims.get(port, ())
        if names_it and claim not in claims:
            claims = tuple(sorted((*claims, claim), key=lambda one: one[0]))
        elif not names_it:
            claims = tuple(one for one in claims if one != claim)
        if claims:
            self._claims[port] = claims
        else:
            del self._claims[port]

    def _shared(self, record: Record) -> Record:
        """The equal record that another source gave already: three records of one port cost the memory of one."""
        return next((known for _, _, known in self.records_of(record.port) if known == record), record)

    def _merged(self, subnet: str, port: str, sources: tuple[Source, ...]) -> Held:
        held = _NOBODY
        for source, _, record in self.records_of(port):
            if source in sources and record.subnet == subnet:
                held = Held(_first(held.v4, record.v4), _first(held.v6, record.v6), _first(held.mac, record.mac))
        return held

    # -- promises ----------------------------------------------------------------------------------

    def _fulfil(self, record: Record, now: float) -> None:
        """What this record keeps is no promise any more."""
        claim = (Source.PROMISE, record.port)
        if claim in self._said:
            self._replace(claim, tuple(one for one in self._said[claim] if not _keeps(record, one)), now)

    def _is_kept(self, promise: Record) -> bool:
        records = self.records_of(promise.port)
        return any(source is Source.IP and _keeps(record, promise) for source, _, record in records)

    # -- rooms -------------------------------------------------------------------------------------

    def _room(self, subnet: str) -> _Room:
        room = self._rooms.get(subnet)
        if room is None:
            room = self._dormant.pop(subnet, None) or _Room(Shelf(4, self._remembered), Shelf(6, self._remembered))
            self._rooms[subnet] = room
        return room

    def _tidy(self, subnet: str) -> None:
        """Lay a subnet that is gone and that nobody uses aside, with its cool-downs: it may come again at once.

        Names come and go for as long as the process lives, so only the last ones are kept.
        """
        room = self._rooms[subnet]
        if room.plan is None and not room.users:
            self._dormant[subnet] = self._rooms.pop(subnet)
            if len(self._dormant) > _DORMANT:
                self._dormant.popitem(last=False)

    def _adopt(self, subnet: str, room: _Room, plan: SubnetPlan | None) -> None:
        pools = {*(room.plan.pools if room.plan else ()), *(plan.pools if plan else ())}
        room.plan = plan
        for family in FAMILIES:
            one = plan.family(family) if plan else None
            room.shelf(family).adopt(one, [address.value for address in self._barred if one and address in one.cidr])
        self._freed[plan_topic(subnet)] = None
        for pool in ("", *sorted(pools)):
            self._freed[space_topic(subnet, pool)] = None

    def _rebuild_around(self, addresses: Iterable[Address]) -> None:
        for subnet, address, room in self._rooms_with(addresses):
            self._adopt(subnet, room, room.plan)
            self._freed[address_topic(subnet, address)] = None

    def _rooms_with(self, addresses: Iterable[Address]) -> Iterator[tuple[str, Address, _Room]]:
        for address in sorted(addresses):
            for subnet, room in self._rooms.items():
                plan = room.plan.family(address.family) if room.plan else None
                if plan and address in plan.cidr:
                    yield subnet, address, room


def _first(known: int | None, other: int | None) -> int | None:
    return other if known is None else known


def _keeps(record: Record, promise: Record) -> bool:
    """Whether the record names all addresses of the promise; with a MAC if one was promised, be it another one."""
    return (
        record.subnet == promise.subnet
        and promise.v4 in (None, record.v4)
        and promise.v6 in (None, record.v6)
        and (promise.mac is None or record.mac is not None)
    )
