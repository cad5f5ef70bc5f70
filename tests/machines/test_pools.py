"""Which pool has which address, whatever order they are heard of in."""

from __future__ import annotations

from itertools import permutations

import pytest

from controller.core.addresses import parse_address
from controller.core.catalogue import Reason
from controller.core.ipam import FamilyPlan, SubnetPlan
from controller.core.neighbours import Pool
from controller.machines.atlas import Atlas
from controller.machines.ledger import Ledger
from controller.machines.pools import Pools
from tests.core.worlds import make_pool, make_subnet
from tests.machines.test_ledger import planned

DAYS = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 10)]
NET, DUAL = planned("10.0.0.0/28"), planned("10.0.0.0/28,fd00::/124")
OLD = make_pool("old", "10.0.0.4..10.0.0.6", created=DAYS[0])
YOUNG = make_pool("young", "10.0.0.6..10.0.0.8", created=DAYS[1])
YOUNGEST = make_pool("youngest", "10.0.0.8", "10.0.0.9", created=DAYS[2])


def pools_of(*pools: Pool) -> Pools:
    found = Pools()
    for one in pools:
        found.put(one.metadata.name, one)
    return found


def regions(pools: Pools, plan: SubnetPlan = NET) -> dict[str, str]:
    divided = pools.divide(plan)
    families = [one for one in (divided.v4, divided.v6) if isinstance(one, FamilyPlan)]
    return {name: region.render(one.cidr.family) for one in families for name, region in one.pools}


def test_a_plan_without_pools_stays_as_it_is() -> None:
    assert Pools().divide(DUAL) == DUAL


def test_a_pool_has_what_it_names_of_its_own_subnet() -> None:
    elsewhere = make_pool("red", "10.0.0.9", subnet="other")

    assert regions(pools_of(OLD, elsewhere)) == {"old": "10.0.0.4-10.0.0.6"}
    assert regions(pools_of(make_pool("blue", "fd00::5", "10.9.9.9")), DUAL) == {"blue": "fd00::5"}


@pytest.mark.parametrize("order", list(permutations((OLD, YOUNG, YOUNGEST))))
def test_of_two_that_name_one_address_the_older_has_it(order: tuple[Pool, ...]) -> None:
    """The younger is refused and keeps the rest out of the default pool; so is one that is in its way only."""
    pools = pools_of(*order)

    assert regions(pools) == {
        "old": "10.0.0.4-10.0.0.6",
        "young": "10.0.0.7-10.0.0.8",
        "youngest": "10.0.0.9",
    }
    assert pools.fault("old") is None
    for name, address, other in (("young", "10.0.0.6", "old"), ("youngest", "10.0.0.8", "young")):
        fault = pools.fault(name)
        assert fault is not None
        assert fault.reason is Reason.POOL_FAILED
        assert fault.text.startswith(f"{address} belongs to IPPool {other} already")
        assert pools.complaint(name) == fault


def test_of_equal_age_the_name_decides() -> None:
    one, two = make_pool("a", "10.0.0.4"), make_pool("b", "10.0.0.4")

    assert regions(pools_of(two, one)) == {"a": "10.0.0.4"}


def test_the_younger_comes_in_when_they_are_apart() -> None:
    pools = pools_of(OLD, YOUNG)
    pools.divide(NET)

    assert pools.put("old", make_pool("old", "10.0.0.4", created=DAYS[0])) == {"net"}
    assert regions(pools) == {"old": "10.0.0.4", "young": "10.0.0.6-10.0.0.8"}
    assert pools.fault("young") is None
    assert pools.put("young", None) == {"net"}
    assert pools.put("young", None) == set()
    assert regions(pools) == {"old": "10.0.0.4"}


def test_a_pool_that_moves_concerns_both_subnets() -> None:
    pools = pools_of(OLD)

    assert pools.put("old", make_pool("old", "10.0.0.4", subnet="other")) == {"net", "other"}
    assert pools.of_subnet("net") == ()
    assert pools.of_subnet("other") == ("old",)


def test_a_pool_that_is_going_has_nothing_any_more() -> None:
    """Its addresses go back to the default pool with the deletion, not with the finalizer."""
    pools = pools_of(OLD, YOUNG)
    pools.put("old", make_pool("old", "10.0.0.4..10.0.0.6", created=DAYS[0], deleting=True, namespaces=("team",)))

    assert regions(pools) == {"young": "10.0.0.6-10.0.0.8"}
    assert pools.of_namespace("team") == ()


def test_what_cannot_be_read_stops_the_pool_and_frees_nothing() -> None:
    """A mistyped edit must not give the pool's addresses to everybody."""
    mistyped = make_pool("old", "10.0.0.4..10.0.0.6", "10.0.0.300", *["x"] * 9)
    pools = pools_of(mistyped, make_pool("broken", fault="spec: no object"))

    assert regions(pools) == {"old": "10.0.0.4-10.0.0.6"}
    fault, broken = pools.fault("old"), pools.fault("broken")
    assert fault is not None
    assert "10.0.0.300" in fault.text
    assert broken is not None
    assert broken.text == "the object cannot be read: spec: no object"


def test_what_is_outside_of_the_subnet_is_told_and_the_rest_serves() -> None:
    pools = pools_of(make_pool("blue", "10.0.0.4", "10.0.0.14..10.0.0.20", "fd00::5"))

    assert regions(pools) == {"blue": "10.0.0.4,10.0.0.14"}
    assert pools.fault("blue") is None
    complaint = pools.complaint("blue")
    assert complaint is not None
    assert complaint.text == (
        "spec.ips: 10.0.0.14..10.0.0.20, fd00::5 is not in 10.0.0.0/28 of subnet net; the rest is in use"
    )
    pools.divide(planned("10.0.0.0/26,fd00::/124"))
    assert pools.complaint("blue") is None


def test_pools_are_found_by_namespace() -> None:
    pools = pools_of(make_pool("red", namespaces=("a", "b")), make_pool("blue", namespaces=("a",)))

    assert pools.of_namespace("a") == ("blue", "red")
    pools.put("red", make_pool("red", namespaces=("b",)))
    assert (pools.of_namespace("a"), pools.of_namespace("b")) == (("blue",), ("red",))
    assert pools.get("red") == make_pool("red", namespaces=("b",))
    assert pools.get("x") is None
    assert pools.items("x").spans == ()
    assert pools.items("red").spans == ()


# -- in the atlas ----------------------------------------------------------------------------------


def test_a_subnets_plan_has_its_pools_whatever_comes_first() -> None:
    blue, net = make_pool("blue", "10.0.0.4"), make_subnet()
    one, two = Atlas(), Atlas()
    assert one.put_pool("blue", blue) == {"net"}
    one.put("net", net)
    two.put("net", net)
    assert two.put_pool("blue", blue) == {"net"}

    for atlas in (one, two):
        plan = atlas.plan("net")
        assert plan is not None
        assert plan.pools == {"blue"}
        assert atlas.place("net").shape == plan
    two.put("net", make_subnet(cidr="10.0.0.0/27"))
    assert two.plan("net").pools == {"blue"}  # type: ignore[union-attr]
    two.put_pool("blue", None)
    assert two.plan("net").pools == set()  # type: ignore[union-attr]


def test_a_seat_says_why_there_is_none() -> None:
    atlas = Atlas()
    atlas.put("net", make_subnet())
    for one in (OLD, YOUNG, make_pool("going", "10.0.0.2", deleting=True), make_pool("bad", "x")):
        atlas.put_pool(one.metadata.name, one)

    found = {name: atlas.seat(name) for name in ("old", "young", "going", "bad", "absent")}
    assert found["old"].problem is None
    assert {seat.subnet for name, seat in found.items() if name != "absent"} == {"net"}
    texts = {name: seat.problem.text for name, seat in found.items() if seat.problem}
    assert texts["absent"] == "IPPool absent does not exist"
    assert texts["going"] == "IPPool going is being deleted"
    assert texts["young"].startswith("IPPool young cannot be used: 10.0.0.6 belongs to IPPool old")
    assert texts["bad"].startswith("IPPool bad cannot be used: spec.ips: 'x' is not an IP address")


def test_what_is_wrong_with_its_subnet_is_wrong_with_the_pool() -> None:
    atlas = Atlas()
    atlas.put_pool("blue", make_pool("blue", "10.0.0.4", "10.9.9.9"))

    def complaint() -> str:
        found = atlas.complaint("blue")
        return found.text if found else ""

    assert complaint() == "subnet net does not exist"
    atlas.put("net", make_subnet(cidr="nonsense"))
    assert complaint().startswith("subnet net cannot be used: ")
    atlas.put("net", make_subnet())
    assert complaint().startswith("spec.ips: 10.9.9.9 is not in 10.0.0.0/29")
    atlas.put_pool("blue", make_pool("blue", "10.0.0.4"))
    assert complaint() == ""


def test_an_address_of_a_pool_is_no_dynamic_one() -> None:
    """From the items to the shelf: the law that everything else stands for."""
    atlas, ledger = Atlas(), Ledger()
    atlas.put("net", make_subnet())
    atlas.put_pool("blue", make_pool("blue", "10.0.0.2..10.0.0.3", "10.0.0.5"))
    ledger.configure("net", atlas.plan("net"))

    assert ledger.next_free("net", 4, 0.0) == parse_address("10.0.0.4").value
    assert ledger.free_count("net", 4) == 2
    assert ledger.next_free("net", 4, 0.0, "blue") == parse_address("10.0.0.2").value
    assert ledger.counts("net")[4].available == 5
