from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import pytest

from controller.core.addresses import (
    Address,
    Cidr,
    Family,
    format_address,
    format_mac,
    parse_address,
    parse_cidrs,
    parse_mac,
    random_mac,
)
from controller.core.catalogue import Reason
from controller.core.ipam import (
    FamilyPlan,
    Grant,
    Held,
    Record,
    Refusal,
    Release,
    SubnetPlan,
    Want,
    choose,
    line_of,
    mac_topic,
    plan_topic,
    space_topic,
)
from controller.core.ranges import RangeSet, parse_ranges

NOW = 1000.0
MAC = "0a:00:00:00:00:01"


@dataclass
class Page:
    """A book that holds what a test writes into it."""

    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    macs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keeps: dict[str, Held] = field(default_factory=dict)
    says: dict[str, Held] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    free: dict[Family, str] = field(default_factory=lambda: {4: "10.0.0.2", 6: "fd00::2"})
    pools: dict[str, dict[Family, str]] = field(default_factory=dict)

    def holders(self, subnet: str, address: Address) -> tuple[str, ...]:
        assert subnet == "net"
        return self.owners.get(str(address), ())

    def mac_holders(self, mac: int) -> tuple[str, ...]:
        return self.macs.get(format_mac(mac), ())

    def kept(self, subnet: str, port: str) -> Held:
        assert subnet == "net"
        return self.keeps.get(port, Held())

    def said(self, subnet: str, port: str) -> Held:
        assert subnet == "net"
        return self.says.get(port, Held())

    def barred(self, address: Address) -> str | None:
        return self.nodes.get(str(address))

    def released(self, subnet: str, address: Address) -> Release | None:
        assert subnet == "net"
        return self.releases.get(str(address))

    def next_free(
        self, subnet: str, family: Family, now: float, pool: str = "", skip: Collection[int] = ()
    ) -> int | None:
        assert (subnet, now, skip) == ("net", NOW, ())
        free = self.pools.get(pool, {}) if pool else self.free
        return num(free[family]) if family in free else None


def num(text: str) -> int:
    return parse_address(text).value


def plan(cidrs: str = "10.0.0.0/29", exclude: tuple[str, ...] = ()) -> SubnetPlan:
    """Take the first usable address as gateway, as Kube-OVN does."""
    plans: dict[Family, FamilyPlan] = {}
    for cidr in parse_cidrs(cidrs):
        gateway = format_address(Address(cidr.family, cidr.first))
        plans[cidr.family] = FamilyPlan(cidr, cidr.first, parse_ranges([*exclude, gateway], cidr))
    return SubnetPlan("net", plans.get(4), plans.get(6))


DUAL = plan("10.0.0.0/29,fd00::/125")
QUEUED = frozenset({space_topic("net")})


def granted(answer: Grant | Refusal) -> tuple[str, str, str]:
    assert isinstance(answer, Grant), answer
    v4 = "" if answer.v4 is None else format_address(Address(4, answer.v4))
    v6 = "" if answer.v6 is None else format_address(Address(6, answer.v6))
    return v4, v6, format_mac(answer.mac)


def refused(answer: Grant | Refusal) -> Refusal:
    assert isinstance(answer, Refusal), answer
    return answer


# -- dynamic -----------------------------------------------------------------------------------------------------


def test_a_dynamic_address_is_the_books_next_one_with_the_mac_of_the_dice() -> None:
    answer = choose(Page(), plan(), Want("a", dice=5), NOW)

    assert granted(answer) == ("10.0.0.2", "", format_mac(random_mac(5)))


def test_a_dual_stack_subnet_gives_both_families() -> None:
    assert granted(choose(Page(), DUAL, Want("a"), NOW))[:2] == ("10.0.0.2", "fd00::2")


def test_a_port_may_want_one_family_of_a_dual_stack_subnet() -> None:
    assert granted(choose(Page(), DUAL, Want("a", families=(6,)), NOW))[:2] == ("", "fd00::2")


def test_a_full_subnet_is_exhausted_and_waits_for_space() -> None:
    answer = refused(choose(Page(free={4: "10.0.0.2"}), DUAL, Want("a"), NOW))

    assert answer.message.reason is Reason.SUBNET_EXHAUSTED
    assert answer.message.text == "subnet net has no free IPv6 address left"
    assert answer.waits == (space_topic("net"),)
    assert answer.retry_after is None


def test_a_family_that_only_the_port_wants_is_refused_until_the_plan_changes() -> None:
    answer = refused(choose(Page(), plan(), Want("a", families=(6,)), NOW))

    assert answer.message.reason is Reason.ADDRESS_OUT_OF_RANGE
    assert answer.message.text.startswith("subnet net has no IPv6 addresses, and the pod asks for them only")
    assert answer.waits == (plan_topic("net"),)


def test_of_a_dual_subnet_only_the_family_that_is_wanted_is_given() -> None:
    assert granted(choose(Page(), DUAL, Want("a", families=(6,)), NOW))[:2] == ("", "fd00::2")
    kept = Page(keeps={"a": Held(v4=num("10.0.0.5"), v6=num("fd00::5"))})
    assert granted(choose(kept, DUAL, Want("a", families=(4,)), NOW))[:2] == ("10.0.0.5", "")


def pooled(*names: str) -> SubnetPlan:
    """A dual subnet where these pools have .3 to .6, without a word on the other family."""
    four = DUAL.family(4)
    assert four is not None
    region = RangeSet.of(((num("10.0.0.3"), num("10.0.0.6")),))
    return SubnetPlan(
        "net", FamilyPlan(four.cidr, four.gateway, four.excluded, tuple((n, region) for n in names)), DUAL.v6
    )


def test_what_is_not_named_comes_from_the_pool_that_was_asked_for() -> None:
    page = Page(pools={"blue": {4: "10.0.0.3"}})

    assert granted(choose(page, pooled("blue"), Want("a", families=(4,), pool="blue"), NOW))[0] == "10.0.0.3"
    assert granted(choose(page, pooled("blue"), Want("a", families=(4,)), NOW))[0] == "10.0.0.2"


def test_an_address_may_be_named_in_whatever_pool() -> None:
    assert granted(choose(Page(), pooled("blue"), Want("a", v4=num("10.0.0.4")), NOW))[0] == "10.0.0.4"


def test_a_full_pool_refuses_whatever_else_is_free_and_wakes_its_own_waiters() -> None:
    full = refused(choose(Page(), pooled("blue"), Want("a", families=(4,), pool="blue"), NOW))
    queued = Page(pools={"blue": {4: "10.0.0.3"}})
    last = Want("a", families=(4,), queued=frozenset({space_topic("net", "blue", 4)}), pool="blue")
    patient = refused(choose(queued, pooled("blue"), last, NOW))
    lacks = refused(choose(queued, pooled("blue"), Want("a", pool="blue"), NOW))

    assert full.message.text == "pool blue of subnet net has no free IPv4 address left"
    assert patient.message.text.startswith("pool blue of subnet net has no free address for this one yet")
    assert lacks.message.text.startswith("pool blue of subnet net has no IPv6 addresses at all")
    assert {one.message.reason for one in (full, patient, lacks)} == {Reason.SUBNET_EXHAUSTED}
    assert {one.waits for one in (full, patient)} == {(("space", "net", "blue", "IPv4"),)}
    assert lacks.waits == (plan_topic("net"),)


def test_who_wants_one_family_of_two_stands_in_a_line_of_its_own() -> None:
    """Else all who want both would keep it from addresses that are of no use to them."""
    assert line_of(DUAL) == line_of(DUAL, families=(6, 4)) == ("space", "net")
    assert line_of(DUAL, families=(6,)) == ("space", "net", "", "IPv6")
    assert line_of(DUAL, "blue", (4,)) == ("space", "net", "blue", "IPv4")
    assert line_of(plan(), "blue", (4,)) == ("space", "net", "blue")
    assert line_of(plan(), families=(6,)) == ("space", "net")
    assert refused(choose(Page(free={}), DUAL, Want("a", families=(4,)), NOW)).waits == (("space", "net", "", "IPv4"),)


def test_a_plan_knows_its_pools() -> None:
    assert pooled("blue", "red").pools == {"blue", "red"}
    assert DUAL.pools == set()


def test_a_named_address_is_wanted_whatever_the_families() -> None:
    assert granted(choose(Page(), plan(), Want("a", v4=num("10.0.0.4"), families=(6,)), NOW))[:2] == ("10.0.0.4", "")


def test_the_patient_get_no_dynamic_address_and_are_told_why() -> None:
    answer = refused(choose(Page(), plan(), Want("a", queued=QUEUED), NOW))

    assert answer.message.reason is Reason.SUBNET_EXHAUSTED
    assert "others have waited longer" in answer.message.text
    assert answer.waits == (space_topic("net"),)


def test_the_patient_get_what_is_theirs_or_named() -> None:
    page = Page(keeps={"a": Held(v4=num("10.0.0.5"))})

    assert granted(choose(page, plan(), Want("a", queued=QUEUED), NOW))[0] == "10.0.0.5"
    assert granted(choose(Page(), plan(), Want("b", v4=num("10.0.0.4"), queued=QUEUED), NOW))[0] == "10.0.0.4"


def test_only_who_draws_the_same_families_is_in_the_way() -> None:
    """One that names its IPv6 address, or has it, is no rival of those who wait for one (seed 1864)."""
    v6_waits = frozenset({space_topic("net"), space_topic("net", "", 6)})
    v4_waits = frozenset({space_topic("net", "", 4)})
    named, has = Want("a", v6=num("fd00::7")), Page(keeps={"a": Held(v6=num("fd00::7"))})

    for page, want in ((Page(), named), (has, Want("a"))):
        assert granted(choose(page, DUAL, replace(want, queued=v6_waits), NOW))[:2] == ("10.0.0.2", "fd00::7")
        assert refused(choose(page, DUAL, replace(want, queued=v4_waits), NOW)).waits == tuple(v4_waits)
    assert refused(choose(Page(free={6: "fd00::2"}), DUAL, named, NOW)).waits == tuple(v4_waits)


def test_a_subnet_without_a_cidr_gives_macs_only() -> None:
    assert granted(choose(Page(), SubnetPlan("net", None, None), Want("a"), NOW))[:2] == ("", "")


# -- named: range and role ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["10.0.0.8", "9.255.255.255", "10.1.0.2"])
def test_a_named_address_must_be_in_the_cidr(text: str) -> None:
    answer = refused(choose(Page(), plan(), Want("a", v4=num(text)), NOW))

    assert answer.message.reason is Reason.ADDRESS_OUT_OF_RANGE
    assert answer.message.text == f"{text} is not in 10.0.0.0/29 of subnet net"
    assert answer.waits == (plan_topic("net"),)


def test_a_named_address_needs_its_family_also_when_the_port_does_not_want_it() -> None:
    answer = refused(choose(Page(), plan(), Want("a", v6=num("fd00::5"), families=(4,)), NOW))

    assert answer.message.reason is Reason.ADDRESS_OUT_OF_RANGE
    assert answer.message.text == "subnet net has no IPv6 addresses, so fd00::5 cannot be given"


@pytest.mark.parametrize(
    ("text", "role"), [("10.0.0.0", "network"), ("10.0.0.1", "gateway"), ("10.0.0.7", "broadcast")]
)
def test_the_subnets_own_addresses_are_not_usable(text: str, role: str) -> None:
    answer = refused(choose(Page(), plan(), Want("a", v4=num(text)), NOW))

    assert answer.message.reason is Reason.ADDRESS_NOT_USABLE
    assert answer.message.text == f"{text} is the {role} address of subnet net"
    assert answer.waits == (plan_topic("net"),)


def test_a_gateway_may_be_any_address_and_is_called_gateway() -> None:
    cidr = Cidr.parse("10.0.0.0/29")
    odd = SubnetPlan("net", FamilyPlan(cidr, cidr.broadcast, RangeSet()), None)

    assert "gateway" in refused(choose(Page(), odd, Want("a", v4=cidr.broadcast), NOW)).message.text


def test_ipv6_has_no_broadcast_address() -> None:
    assert granted(choose(Page(), DUAL, Want("a", v6=num("fd00::7")), NOW))[1] == "fd00::7"
    assert "network" in refused(choose(Page(), DUAL, Want("a", v6=num("fd00::")), NOW)).message.text


def test_both_addresses_of_a_pair_are_usable() -> None:
    pair = plan("10.0.0.0/31,fd00::/127")  # the gateways are 10.0.0.0 and fd00::

    answer = choose(Page(), pair, Want("a", v4=num("10.0.0.1"), v6=num("fd00::1")), NOW)

    assert granted(answer)[:2] == ("10.0.0.1", "fd00::1")


def test_an_excluded_address_may_be_named_also_when_nothing_else_is_free() -> None:
    answer = choose(Page(free={}), plan(exclude=("10.0.0.2..10.0.0.6",)), Want("a", v4=num("10.0.0.4")), NOW)

    assert granted(answer)[0] == "10.0.0.4"


def test_the_family_that_is_not_named_is_dynamic() -> None:
    assert granted(choose(Page(), DUAL, Want("a", v6=num("fd00::5")), NOW))[:2] == ("10.0.0.2", "fd00::5")


# -- named: owners -----------------------------------------------------------------------------------------------


def test_an_address_of_others_is_refused_with_their_names() -> None:
    page = Page(owners={"10.0.0.4": ("b", "a", "c")})

    answer = refused(choose(page, plan(), Want("a", v4=num("10.0.0.4")), NOW))

    assert answer.message.reason is Reason.ADDRESS_CONFLICT
    assert answer.message.text == "10.0.0.4 in subnet net belongs to b, c"
    assert answer.waits == (("address", "net", "10.0.0.4"), plan_topic("net"))
    assert answer.retry_after is None


def test_a_nodes_address_is_refused_with_the_nodes_name() -> None:
    answer = refused(choose(Page(nodes={"10.0.0.4": "n1"}), plan(), Want("a", v4=num("10.0.0.4")), NOW))

    assert answer.message.reason is Reason.ADDRESS_CONFLICT
    assert answer.message.text.endswith("belongs to node n1")


def test_of_a_port_and_a_node_with_one_address_the_port_is_named() -> None:
    page = Page(owners={"10.0.0.4": ("b",)}, nodes={"10.0.0.4": "n1"})

    assert refused(choose(page, plan(), Want("a", v4=num("10.0.0.4")), NOW)).message.text.endswith("belongs to b")
    assert refused(choose(page, plan(), Want("b", v4=num("10.0.0.4")), NOW)).message.text.endswith("to node n1")


def test_a_ports_own_address_may_be_named() -> None:
    page = Page(owners={"10.0.0.4": ("a",)})

    assert granted(choose(page, plan(), Want("a", v4=num("10.0.0.4")), NOW))[0] == "10.0.0.4"


def test_a_just_released_address_cools_down_for_all_but_its_last_holder() -> None:
    page = Page(releases={"10.0.0.4": Release("b", NOW - 10.5)})
    want = Want("a", v4=num("10.0.0.4"))

    answer = refused(choose(page, plan(), want, NOW))

    assert answer.message.reason is Reason.ADDRESS_CONFLICT
    assert answer.message.text == "10.0.0.4 in subnet net was released a moment ago and is free again in 20 s"
    assert answer.retry_after == 19.5
    assert answer.waits == (("address", "net", "10.0.0.4"), plan_topic("net"))
    assert granted(choose(page, plan(), Want("b", v4=num("10.0.0.4")), NOW))[0] == "10.0.0.4"
    page.releases["10.0.0.4"] = Release("b", NOW - 30)
    assert granted(choose(page, plan(), want, NOW))[0] == "10.0.0.4"


def test_what_a_user_can_correct_is_said_first() -> None:
    page = Page(
        owners={"10.0.0.4": ("b",)}, macs={MAC: ("b",)}, free={}, releases={"fd00::5": Release("b", NOW)}
    )  # fmt: skip

    def reason(v4: str, v6: str) -> Reason:
        want = Want("a", v4=num(v4), v6=num(v6), mac=parse_mac(MAC))
        return refused(choose(page, DUAL, want, NOW)).message.reason

    assert reason("10.0.0.1", "fd01::1") is Reason.ADDRESS_OUT_OF_RANGE
    assert reason("10.0.0.4", "fd00::1") is Reason.ADDRESS_NOT_USABLE
    assert reason("10.0.0.4", "fd00::5") is Reason.ADDRESS_CONFLICT
    assert reason("10.0.0.5", "fd00::6") is Reason.MAC_CONFLICT
    exhausted = choose(page, DUAL, Want("a", v4=num("10.0.0.5"), mac=parse_mac(MAC)), NOW)
    assert refused(exhausted).message.reason is Reason.SUBNET_EXHAUSTED


# -- what the port has already -----------------------------------------------------------------------------------


def test_what_a_port_keeps_it_gets_again_whatever_the_subnet_says_now() -> None:
    page = Page(
        keeps={"a": Held(num("10.9.9.9"), num("fd00::1"), parse_mac(MAC))}, owners={"10.9.9.9": ("b", "a")}, free={}
    )

    assert granted(choose(page, DUAL, Want("a"), NOW)) == ("10.9.9.9", "fd00::1", MAC)


def test_a_named_address_goes_before_a_kept_one() -> None:
    page = Page(keeps={"a": Held(v4=num("10.0.0.5"))})

    assert granted(choose(page, plan(), Want("a", v4=num("10.0.0.6")), NOW))[0] == "10.0.0.6"


def test_what_only_the_pod_says_is_given_again_if_it_could_be_named() -> None:
    page = Page(says={"a": Held(num("10.0.0.6"), num("fd00::6"), parse_mac(MAC))})

    assert granted(choose(page, DUAL, Want("a"), NOW)) == ("10.0.0.6", "fd00::6", MAC)
    assert granted(choose(page, plan(), Want("a"), NOW))[:2] == ("10.0.0.6", "")


def test_a_forged_annotation_gets_neither_the_gateway_nor_anothers_address_or_mac() -> None:
    def reason(held: Held, page: Page) -> Reason:
        page.says["a"] = held
        return refused(choose(page, plan(), Want("a"), NOW)).message.reason

    assert reason(Held(v4=num("10.0.0.1")), Page()) is Reason.ADDRESS_NOT_USABLE
    assert reason(Held(v4=num("10.0.0.4")), Page(owners={"10.0.0.4": ("b", "a")})) is Reason.ADDRESS_CONFLICT
    assert reason(Held(mac=parse_mac(MAC)), Page(macs={MAC: ("b", "a")})) is Reason.MAC_CONFLICT


# -- MAC ---------------------------------------------------------------------------------------------------------


def test_a_named_mac_is_given_unless_others_have_it() -> None:
    want = Want("a", mac=parse_mac(MAC))

    assert granted(choose(Page(macs={MAC: ("a",)}), plan(), want, NOW))[2] == MAC
    answer = refused(choose(Page(macs={MAC: ("b",)}), plan(), want, NOW))
    assert answer.message.reason is Reason.MAC_CONFLICT
    assert answer.message.text == f"MAC {MAC} belongs to b"
    assert answer.waits == (mac_topic(parse_mac(MAC)), plan_topic("net")) == (("mac", MAC), ("plan", "net"))


def test_a_named_mac_goes_before_the_kept_one() -> None:
    page = Page(keeps={"a": Held(mac=7)})

    assert granted(choose(page, plan(), Want("a", mac=parse_mac(MAC)), NOW))[2] == MAC


def test_a_random_mac_that_somebody_has_is_walked_past() -> None:
    page = Page(macs={format_mac(random_mac(dice)): ("b",) for dice in (2**46 - 1, 0)})

    assert granted(choose(page, plan(), Want("a", dice=2**46 - 1), NOW))[2] == format_mac(random_mac(1))


def test_a_record_names_its_addresses() -> None:
    assert Record("a", "net", 1, 2, 3).addresses == ((4, 1), (6, 2))
    assert Record("a", "net", v6=0).addresses == ((6, 0),)
