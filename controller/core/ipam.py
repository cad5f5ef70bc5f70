"""What may be given out: every rule about who gets which address, as questions to a book of who has which.

`choose` is the only way to an address. It writes nothing: the caller puts the Grant into the ledger as a promise in
the same synchronous step, and that is why two callers never get one address.

Three kinds of "my own address" are told apart, because a user can write some of our records:
named   the workload or its reservation asks for it: range, role and owner are checked;
said    only the pod's annotations (or a foreign record) say it: checked as if it were named;
kept    promised, or in OVN or in an IP object: the port gets it again, unchecked, also after the Subnet changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from controller.core.addresses import FAMILY_NAME, Address, Cidr, Family, format_address, format_mac, random_mac
from controller.core.catalogue import Message, Reason, say

if TYPE_CHECKING:
    from collections.abc import Collection

    from controller.core.effects import Topic
    from controller.core.ranges import RangeSet

FAMILIES: Final[tuple[Family, ...]] = (4, 6)


def address_topic(subnet: str, address: Address) -> Topic:
    """Fires when somebody lets go of this address."""
    return ("address", subnet, format_address(address))


def space_topic(subnet: str, pool: str = "", family: Family | None = None) -> Topic:
    """Fires when any address of the pool (`""`: the default one) comes free, and when the subnet's plan changes.

    With a family it is the line of those who want that one only of a dual-stack subnet: who wants both must not keep
    them from what is of no use to it.
    """
    if family is not None:
        return ("space", subnet, pool, FAMILY_NAME[family])
    return ("space", subnet, pool) if pool else ("space", subnet)


def line_of(plan: SubnetPlan, pool: str = "", families: tuple[Family, ...] = FAMILIES) -> Topic:
    """Where to stand in line for a dynamic address of each of these families of the subnet."""
    wanted = [family for family in plan.families if family in families]
    whole = len(wanted) in (0, len(plan.families))
    return space_topic(plan.name, pool) if whole else space_topic(plan.name, pool, wanted[0])


def plan_topic(subnet: str) -> Topic:
    """Fires when the subnet's plan changes: one wrong address in a busy subnet is not woken by every release."""
    return ("plan", subnet)


def mac_topic(mac: int) -> Topic:
    """Fires when somebody lets go of this MAC."""
    return ("mac", format_mac(mac))


@dataclass(frozen=True, slots=True)
class FamilyPlan:
    """What one family of a subnet has to give; `excluded` includes the gateway.

    `pools` are the named pools with the addresses that they have here: disjoint, for each address has one pool.
    """

    cidr: Cidr
    gateway: int | None
    excluded: RangeSet
    pools: tuple[tuple[str, RangeSet], ...] = ()


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """What a subnet has to give, per family; without a family it gives MACs only."""

    name: str
    v4: FamilyPlan | None
    v6: FamilyPlan | None
    cooldown: float = 30.0

    def family(self, family: Family) -> FamilyPlan | None:
        """The plan of that family."""
        return self.v4 if family == 4 else self.v6

    @property
    def families(self) -> tuple[Family, ...]:
        """The families it has, IPv4 first."""
        return tuple(family for family in FAMILIES if self.family(family) is not None)

    @property
    def pools(self) -> frozenset[str]:
        """The names of its pools, the default one left out."""
        return frozenset(name for family in FAMILIES if (one := self.family(family)) for name, _ in one.pools)


@dataclass(frozen=True, slots=True)
class Want:
    """What a port asks for; `queued` are the lines in which others have waited longer."""

    port: str
    v4: int | None = None
    v6: int | None = None
    mac: int | None = None
    families: tuple[Family, ...] = FAMILIES
    dice: int = 0
    queued: frozenset[Topic] = frozenset()
    pool: str = ""  # what is not named comes from this pool


@dataclass(frozen=True, slots=True)
class Grant:
    """What the port may have, whole: nobody else has any of it."""

    v4: int | None
    v6: int | None
    mac: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the port gets nothing, what has to happen first (any of `waits`), and when time alone will do."""

    message: Message
    waits: tuple[Topic, ...]
    retry_after: float | None = None


class Source(IntEnum):
    """Who says that a port has an address, the most trusted first."""

    PROMISE = 0
    PORT = 1
    IP = 2
    POD = 3
    OTHER = 4


class Record(NamedTuple):
    """What one record says of one port in one subnet."""

    port: str
    subnet: str
    v4: int | None = None
    v6: int | None = None
    mac: int | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses it names."""
        pairs: tuple[tuple[Family, int | None], ...] = ((4, self.v4), (6, self.v6))
        return tuple(Address(family, value) for family, value in pairs if value is not None)


class Held(NamedTuple):
    """What a port has in one subnet, field by field from the most trusted record that names it."""

    v4: int | None = None
    v6: int | None = None
    mac: int | None = None


class Release(NamedTuple):
    """Who let go of an address last, and when."""

    port: str
    at: float


class Counts(NamedTuple):
    """`used + available + excluded == total`, always."""

    used: int
    available: int
    excluded: int
    total: int


@dataclass(frozen=True, slots=True)
class Usage:
    """One snapshot of one family: `using`, `available` and the excluded are disjoint and together `total`.

    A claimed address that is excluded counts as excluded only (bug row 49). `outside` are the claims that the CIDR
    does not cover (any more).
    """

    using: RangeSet
    available: RangeSet
    excluded: int
    total: int
    outside: tuple[tuple[Address, str], ...]

    @property
    def counts(self) -> Counts:
        """The same as numbers."""
        return Counts(self.using.size, self.available.size, self.excluded, self.total)


class Book(Protocol):
    """Who has what, as far as `choose` asks; no question changes any answer."""

    def holders(self, subnet: str, address: Address) -> tuple[str, ...]:
        """The ports that any record gives this address to."""

    def mac_holders(self, mac: int) -> tuple[str, ...]:
        """The ports that any record gives this MAC to, in whatever subnet."""

    def kept(self, subnet: str, port: str) -> Held:
        """What the port has by promise, by its logical switch port or by its IP object."""

    def said(self, subnet: str, port: str) -> Held:
        """What only other records say that the port has: a pod's annotations can be written by its user."""

    def barred(self, address: Address) -> str | None:
        """The node whose own address this is."""

    def released(self, subnet: str, address: Address) -> Release | None:
        """The last release of this address, if nobody holds it now."""

    def next_free(
        self, subnet: str, family: Family, now: float, pool: str = "", skip: Collection[int] = ()
    ) -> int | None:
        """The pool's address whose turn it is: the lowest never-used one, then the longest-released one."""


class _Case(NamedTuple):
    book: Book
    plan: SubnetPlan
    want: Want
    now: float


def choose(book: Book, plan: SubnetPlan, want: Want, now: float) -> Grant | Refusal:
    """All that the port wants, or nothing and why; `plan` is the one that `book` gives out by.

    The order of the checks is the order in which a user can act on them: a wrong range is said before a conflict,
    and both before "the subnet is full".
    """
    case = _Case(book, plan, want, now)
    kept, said = book.kept(plan.name, want.port), book.said(plan.name, want.port)
    asked = _asked(case, kept, said)
    for check in (_out_of_range, _not_usable, _in_conflict):
        for address in asked:
            if refusal := check(case, address):
                return refusal
    given = _fill(case, kept, {address.family: address.value for address in asked})
    if isinstance(given, Refusal):
        return given
    mac = _choose_mac(case, kept.mac, said.mac)
    return mac if isinstance(mac, Refusal) else Grant(given.get(4), given.get(6), mac)


def _asked(case: _Case, kept: Held, said: Held) -> tuple[Address, ...]:
    """The addresses to check: the named ones, and for a family without one what is said and not kept."""
    asked: list[Address] = []
    for family, named, mine, claimed in (
        (FAMILIES[0], case.want.v4, kept.v4, said.v4),
        (FAMILIES[1], case.want.v6, kept.v6, said.v6),
    ):
        if named is not None:
            asked.append(Address(family, named))
        elif mine is None and claimed is not None and family in _wanted(case):
            asked.append(Address(family, claimed))
    return tuple(asked)


def _wanted(case: _Case) -> tuple[Family, ...]:
    return tuple(family for family in case.plan.families if family in case.want.families)


def _out_of_range(case: _Case, address: Address) -> Refusal | None:
    name, plan = case.plan.name, case.plan.family(address.family)
    if plan is None:
        message = say(
            Reason.ADDRESS_OUT_OF_RANGE, "family", subnet=name, family=FAMILY_NAME[address.family], address=address
        )
    elif address not in plan.cidr:
        message = say(Reason.ADDRESS_OUT_OF_RANGE, "cidr", subnet=name, cidr=plan.cidr, address=address)
    else:
        return None
    return Refusal(message, (plan_topic(name),))


def _not_usable(case: _Case, address: Address) -> Refusal | None:
    role = _role(case.plan.family(address.family), address.value)
    if role is None:
        return None
    message = say(Reason.ADDRESS_NOT_USABLE, "role", subnet=case.plan.name, role=role, address=address)
    return Refusal(message, (plan_topic(case.plan.name),))


def _role(plan: FamilyPlan | None, value: int) -> str | None:
    """Why nobody can have this address of the CIDR; None for all others, excluded ones included."""
    if plan is None or (plan.cidr.first <= value <= plan.cidr.last and value != plan.gateway):
        return None
    if value == plan.gateway:
        return "gateway"
    if value == plan.cidr.network:
        return "network"
    return "broadcast" if plan.cidr.family == 4 else None


def _in_conflict(case: _Case, address: Address) -> Refusal | None:
    name, topic = case.plan.name, address_topic(case.plan.name, address)
    owner = _others(case.book.holders(name, address), case.want.port)
    if not owner and (node := case.book.barred(address)):
        owner = f"node {node}"
    if owner:
        message = say(Reason.ADDRESS_CONFLICT, "held", subnet=name, address=address, owner=owner)
        return Refusal(message, (topic, plan_topic(name)))
    wait = _cooling(case, address)
    if wait <= 0:
        return None
    message = say(Reason.ADDRESS_CONFLICT, "cooling", subnet=name, address=address, seconds=ceil(wait))
    return Refusal(message, (topic, plan_topic(name)), retry_after=wait)


def _cooling(case: _Case, address: Address) -> float:
    """How long others than its last holder leave the address alone: a late write of that one may still land."""
    last = case.book.released(case.plan.name, address)
    if last is None or last.port == case.want.port:
        return 0.0
    return last.at + case.plan.cooldown - case.now


def _others(ports: tuple[str, ...], port: str) -> str:
    return ", ".join(sorted(other for other in ports if other != port))


def _fill(case: _Case, kept: Held, given: dict[Family, int]) -> dict[Family, int] | Refusal:
    """Give every wanted family that was not asked for what the port has, else what is free."""
    wanted = _wanted(case)
    if case.plan.families and case.want.families and not wanted and not given:
        return _without_family(case, case.want.families[0])
    has: dict[Family, int | None] = {4: kept.v4, 6: kept.v6}
    drawn = tuple(family for family in wanted if family not in given and has[family] is None)
    line = line_of(case.plan, case.want.pool, drawn)  # what is named or had already is no matter for others
    for family in wanted:
        if family not in given:
            mine = has[family]
            value = mine if mine is not None else _next_free(case, family)
            if value is None or (mine is None and line in case.want.queued):
                return _exhausted(case, family, line, queued=value is not None)
            given[family] = value
    return given


def _next_free(case: _Case, family: Family) -> int | None:
    return case.book.next_free(case.plan.name, family, case.now, case.want.pool)


def _without_family(case: _Case, family: Family) -> Refusal:
    message = say(Reason.ADDRESS_OUT_OF_RANGE, "ip_family", subnet=case.plan.name, family=FAMILY_NAME[family])
    return Refusal(message, (plan_topic(case.plan.name),))


def _exhausted(case: _Case, family: Family, line: Topic, *, queued: bool) -> Refusal:
    name, pool, text = case.plan.name, case.want.pool, "queued" if queued else "full"
    if pool:
        one = case.plan.family(family)
        lacks = one is None or pool not in dict(one.pools)
        text, line = ("pool_lacks", plan_topic(name)) if lacks else (f"pool_{text}", line)
    message = say(Reason.SUBNET_EXHAUSTED, text, subnet=name, pool=pool, family=FAMILY_NAME[family])
    return Refusal(message, (line,))


def _choose_mac(case: _Case, kept: int | None, said: int | None) -> int | Refusal:
    if case.want.mac is None and kept is not None:
        return kept
    asked = said if case.want.mac is None else case.want.mac
    if asked is None:
        return free_mac(case.book, case.want.dice)
    owner = _others(case.book.mac_holders(asked), case.want.port)
    if not owner:
        return asked
    message = say(Reason.MAC_CONFLICT, "held", mac=format_mac(asked), owner=owner)
    return Refusal(message, (mac_topic(asked), plan_topic(case.plan.name)))


def free_mac(book: Book, dice: int) -> int:
    """The MAC of the dice, or the next one that nobody has: of 2^46 there is always one."""
    while book.mac_holders(random_mac(dice)):
        dice += 1
    return random_mac(dice)
