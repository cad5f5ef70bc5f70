"""decide() for one IPPool: finalizer, conditions, numbers, Address_Set, end (contract §6, kube-ovn-behaviour §13.5)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.catalogue import Message, Reason, say
from controller.core.decisions.pool import View, decide
from controller.core.effects import Decision, DropAddressSet, Patch, PutAddressSet
from controller.core.ipam import Usage
from controller.core.neighbours import Pool, PoolStatus
from controller.core.objects import FINALIZER, OLD_FINALIZER, Condition, Kind
from controller.core.pools import read_items
from controller.core.ranges import RangeSet
from controller.core.rows import AddressSetRow
from tests.core.worlds import NOW, STAMP, make_pool, num, patch_of, told

OVERLAP = say(Reason.POOL_FAILED, "overlap", address="10.0.0.4", other="old")
IDS = (("ippool", "blue"), ("vendor", "kube-ovn"))
SET = AddressSetRow("blue", ("10.0.0.4/31", "10.0.0.6"), IDS, "set-uuid")
READY = Condition(
    type="Ready", status="True", reason="UpdateIPAMSucceeded", message="the pool is in use", observed_generation=2
)


def view(
    pool: Pool | None,
    complaint: Message | None = None,
    row: AddressSetRow | None = None,
    *,
    name: str = "blue",
    **more: Any,
) -> View:
    items = read_items(pool.spec.ips if pool else ())
    return View(pool.metadata.name if pool else name, pool, items, complaint, more.get("usage"), row, STAMP)


def decided(pool: Pool | None, *args: Any, **more: Any) -> Decision:
    return decide(view(pool, *args, **more), NOW)


def blue(**more: Any) -> Pool:
    return make_pool("blue", "10.0.0.4..10.0.0.6", **more)


def status_of(decision: Decision) -> dict[str, Any]:
    assert decision.status is not None
    body = decision.status.body
    assert body["metadata"] == {"uid": "pool-uid"}
    found: dict[str, Any] = body["status"]
    return found


def standings(decision: Decision) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status_of(decision)["conditions"]}


# -- finalizer and conditions ----------------------------------------------------------------------


@pytest.mark.parametrize("finalizers", [(), (OLD_FINALIZER,), ("x.io/y",)])
def test_the_first_look_puts_our_finalizer_on(finalizers: tuple[str, ...]) -> None:
    """Under its present name only, beside those of others; what is said comes after what is done."""
    decision = decided(blue(finalizers=finalizers))

    body = patch_of(decision, Kind.POOL)
    assert body["metadata"]["resourceVersion"] == "3"
    assert body["metadata"]["finalizers"] == [*(f for f in finalizers if f == "x.io/y"), FINALIZER]
    assert decision.status is None


def test_a_pool_in_use_is_ready() -> None:
    """With Kube-OVN's reason, once."""
    assert standings(decided(blue())) == {"Ready": ("True", "UpdateIPAMSucceeded")}
    assert decided(blue(conditions=(READY,))) == Decision()


def test_what_is_wrong_is_shown_and_told_and_cleared_when_it_is_over() -> None:
    """Kube-OVN never clears Error."""
    bad = decided(blue(conditions=(READY,)), OVERLAP)

    assert standings(bad) == {"Ready": ("False", "UpdateIPAMFailed"), "Error": ("True", "UpdateIPAMFailed")}
    assert told(bad) == [Reason.POOL_FAILED]
    assert bad.refusal == OVERLAP
    error = Condition(type="Error", status="True", reason="UpdateIPAMFailed")
    good = decided(blue(conditions=(error,)))
    assert standings(good) == {"Ready": ("True", "UpdateIPAMSucceeded"), "Error": ("False", "NoError")}
    assert told(good) == []


# -- numbers ---------------------------------------------------------------------------------------


def usage(using: str, available: str) -> Usage:
    def region(text: str) -> RangeSet:
        pairs = [part.partition("-") for part in text.split(",") if part]
        return RangeSet.of((num(first), num(last or first)) for first, _, last in pairs)

    return Usage(region(using), region(available), 0, 3, ())


def test_numbers_and_ranges_are_written_in_kube_ovns_letter_case() -> None:
    """Not a Subnet's; and only when they are others than shown."""
    counted = {4: usage("10.0.0.4", "10.0.0.5-10.0.0.6")}
    expected = {
        "v4AvailableIPs": 2,
        "v4AvailableIPRange": "10.0.0.5-10.0.0.6",
        "v4UsingIPs": 1,
        "v4UsingIPRange": "10.0.0.4",
        "v6AvailableIPs": 0,
        "v6AvailableIPRange": "",
        "v6UsingIPs": 0,
        "v6UsingIPRange": "",
    }
    pool = blue(conditions=(READY,))
    assert status_of(decided(pool, usage=counted)) == expected
    has = PoolStatus(
        conditions=(READY,),
        v4_available=2.0,
        v4_available_range="10.0.0.5-10.0.0.6",
        v4_using=1,
        v4_using_range="10.0.0.4",
        v6_available=0,
        v6_available_range="",
        v6_using=0,
        v6_using_range="",
    )
    same = Pool(metadata=pool.metadata, spec=pool.spec, status=has)
    assert decided(same, usage=counted) == Decision()
    assert status_of(decided(same, usage={4: usage("", "10.0.0.4-10.0.0.6")}))["v4AvailableIPs"] == 3


# -- the Address_Set -------------------------------------------------------------------------------


def test_an_address_set_is_made_kept_and_corrected() -> None:
    """As Kube-OVN writes it; what others noted in its external ids stays there."""
    pool = blue(enable_address_set=True, conditions=(READY,))

    assert decided(pool).effects == (PutAddressSet(SET._replace(uuid="")),)
    assert decided(pool, None, SET) == Decision()
    noted = SET._replace(addresses=("10.0.0.9",), external_ids=(("ippool", "blue"), ("x", "y")))
    both = (("ippool", "blue"), ("vendor", "kube-ovn"), ("x", "y"))
    assert decided(pool, None, noted).effects == (PutAddressSet(AddressSetRow("blue", SET.addresses, both), noted),)


def test_the_sets_name_has_dots_for_dashes() -> None:
    """OVN's match language knows no dash; the pool's own name is in the external id."""
    pool = make_pool("my-blue-pool", "10.0.0.4", enable_address_set=True)

    (put,) = decided(pool).effects
    assert isinstance(put, PutAddressSet)
    assert (put.row.name, put.row.pool) == ("my.blue.pool", "my-blue-pool")


def test_a_set_that_is_not_asked_for_any_more_goes() -> None:
    """Also when the pool was taken away by force."""
    assert decided(blue(conditions=(READY,)), None, SET).effects == (DropAddressSet(SET),)
    assert decided(None, None, SET).effects == (DropAddressSet(SET),)
    assert decided(None) == Decision()


@pytest.mark.parametrize(
    "ids", [(), (("ippool", "red"), ("vendor", "kube-ovn")), (("ippool", "blue"), ("vendor", "x"))]
)
def test_a_foreign_set_is_never_touched(ids: tuple[tuple[str, str], ...]) -> None:
    """The pool works, its set does not: that is said, and looked at again when the other one goes."""
    row = SET._replace(external_ids=ids)
    decision = decided(blue(enable_address_set=True), None, row)

    assert decision.effects == ()
    assert standings(decision)["Error"] == ("True", "ReconcileAddressSetFailed")
    assert decision.waits == (("address-set", "blue"),)
    for pool in (blue(conditions=(READY,)), None):
        assert decided(pool, None, row) == Decision()
    assert not decided(blue(deleting=True), None, row).effects[1:]


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        (make_pool("0blue", "10.0.0.4", enable_address_set=True), "it must begin with a letter"),
        (make_pool("blue", "10.0.0.4", "fd00::4", enable_address_set=True), "it mixes IPv4 and IPv6"),
    ],
)
def test_a_set_that_ovn_cannot_hold_is_said(pool: Pool, text: str) -> None:
    """Kube-OVN's reason; the addresses are given out all the same."""
    decision = decided(pool)

    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.ADDRESS_SET_FAILED
    assert text in decision.refusal.text
    assert decision.effects == ()


def test_a_set_is_not_made_of_what_cannot_be_read() -> None:
    """It stays as it is until the mistake is corrected: rules of a firewall may hang on it."""
    bad = make_pool("blue", "10.0.0.4", "x", enable_address_set=True)
    fault = say(Reason.POOL_FAILED, "item", why="x")

    assert decided(bad, fault, SET).effects == ()
    assert decided(make_pool("blue", fault="broken", enable_address_set=True), fault, SET).effects == ()


# -- the end ---------------------------------------------------------------------------------------


def test_a_deleted_pool_goes_at_once_its_set_first() -> None:
    """Its users keep their addresses, so nobody is waited for."""
    drop, patch = decided(blue(deleting=True, finalizers=(FINALIZER, OLD_FINALIZER, "x.io/y")), None, SET).effects

    assert drop == DropAddressSet(SET)
    assert isinstance(patch, Patch)
    assert patch.body["metadata"] == {"resourceVersion": "3", "finalizers": ["x.io/y"]}
    assert decided(blue(deleting=True, finalizers=("x.io/y",))) == Decision()
