"""Status as a value: written only when what it says has changed (contract §8, Rule 4)."""

from __future__ import annotations

from controller.core.catalogue import Reason, say
from controller.core.decisions import conditions
from controller.core.decisions.conditions import Standing
from controller.core.objects import Condition, IpStatus, Kind
from tests.core.worlds import STAMP, make_ip, recorded

IDLE = say(Reason.NOT_IN_USE, "idle")
HELD = say(Reason.RESERVED, "held", address="10.0.0.2", owner="default/web")
READY = Standing("Ready", "True", HELD)
LONG_AGO = "2020-01-01T00:00:00Z"
SHOWN = Condition(
    type="Ready",
    status="True",
    reason="Reserved",
    message=HELD.text,
    observed_generation=1,
    last_transition_time=LONG_AGO,
)


def test_the_first_condition_carries_everything_the_api_wants() -> None:
    """metav1.Condition, field by field."""
    assert conditions.listed([READY], (), 3, STAMP) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Reserved",
            "message": HELD.text,
            "observedGeneration": 3,
            "lastTransitionTime": STAMP,
        }
    ]


def test_what_is_shown_already_is_not_written_again() -> None:
    """Rule 4: at rest there are no writes."""
    assert conditions.listed([READY], (SHOWN,), 1, STAMP) is None


def test_a_transition_time_moves_with_the_status_only() -> None:
    """Another message is no transition, and neither is a new generation."""
    other = Standing("Ready", "True", IDLE)
    lost = Standing("Ready", "False", IDLE)

    for standings, generation, time in (([other], 1, LONG_AGO), ([READY], 2, LONG_AGO), ([lost], 1, STAMP)):
        found = conditions.listed(standings, (SHOWN,), generation, STAMP)
        assert found is not None
        assert found[0]["lastTransitionTime"] == time


def test_a_transition_time_that_is_missing_is_filled_in() -> None:
    """The API requires one."""
    timeless = Condition(type="Ready", status="True", reason="Reserved", message="old")
    found = conditions.listed([READY], (timeless,), 1, STAMP)

    assert found is not None
    assert found[0]["lastTransitionTime"] == STAMP


def test_a_condition_of_another_day_is_taken_down() -> None:
    """The list is whole: what is not said any more is not shown any more."""
    stale = Condition(type="InUse", status="True", reason="InUse", message="x", observed_generation=1)
    for present in ((SHOWN, stale), (stale,)):
        found = conditions.listed([READY], present, 1, STAMP)
        assert found is not None
        assert [c["type"] for c in found] == ["Ready"]


def test_a_message_ends_where_the_api_ends_it() -> None:
    """A user may write a megabyte into a field that the message quotes."""
    huge = say(Reason.INVALID_SPEC, "pod_type", value="x" * 100_000)
    found = conditions.listed(conditions.not_ready(huge), (), 1, STAMP)

    assert found is not None
    assert len(found[0]["message"]) == 32_768
    again = Condition(
        type="Ready", status="False", reason="InvalidSpec", message=found[0]["message"], observed_generation=1
    )
    assert conditions.listed(conditions.not_ready(huge), (again,), 1, STAMP) is None


def test_an_ips_status_says_what_was_granted_and_who_uses_it() -> None:
    """In one patch of the status subresource, refused for another object of that name."""
    patch = conditions.of_ip(make_ip(), (READY,), recorded(), "default/web", STAMP)

    assert patch is not None
    assert (patch.kind, patch.name, patch.subresource) == (Kind.IP, "web.default", "status")
    assert patch.body["metadata"] == {"uid": "ip-uid"}
    status = patch.body["status"]
    assert (status["usedBy"], status["observedGeneration"]) == ("default/web", 1)
    assert status["recorded"]["v4IpAddress"] == "10.0.0.2"


def test_only_what_differs_is_in_the_patch() -> None:
    """Conditions and record stay out of it when just the user changes."""
    status = IpStatus(conditions=(SHOWN,), recorded=recorded(), observed_generation=1)
    patch = conditions.of_ip(make_ip(status=status), (READY,), recorded(), "default/web", STAMP)

    assert patch is not None
    assert patch.body["status"] == {"observedGeneration": 1, "usedBy": "default/web"}
    assert conditions.of_ip(make_ip(status=status), (READY,), recorded(), "", STAMP) is None


def test_a_record_that_ended_is_taken_down() -> None:
    """A merge patch removes by null."""
    status = IpStatus(conditions=(SHOWN,), recorded=recorded(), observed_generation=1)
    patch = conditions.of_ip(make_ip(status=status), (READY,), None, "", STAMP)

    assert patch is not None
    assert patch.body["status"]["recorded"] is None


def test_the_end_of_a_reservation_clears_its_status() -> None:
    """Nothing recorded, no conditions, nobody uses it."""
    body = conditions.cleared(make_ip()).body

    assert body["status"] == {"observedGeneration": 1, "usedBy": "", "recorded": None, "conditions": None}
