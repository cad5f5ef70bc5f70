"""What a sweep may free, and when it stops itself (contract §7, bug rows 14 and 15)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.core.decisions import pod as of_pod
from controller.core.decisions.retention import Cause, MachineOwner, SetOwner
from controller.core.decisions.sweep import Limits, Stop, Suspect, allows, decide, met, owned, suspects
from controller.core.naming import Owner
from tests.core.worlds import (
    GRANTED,
    NOW,
    ORDINARY,
    granted_ip,
    held_by,
    make_pod,
    make_row,
    names,
    notes_of,
    pod_view,
)

WEB = Owner("default", "web")
LEFT = held_by(granted_ip(labels={**GRANTED, **ORDINARY}), make_row())
IDS = frozenset({"ip-uid", "row-uuid"})
LIMITS = Limits()


def suspect(port: str = "web.default", subnet: str = "net", ids: frozenset[str] = IDS) -> Suspect:
    return Suspect(port, WEB, subnet, ids, "pod_gone", leaked=True, orphaned=True)


def swept(seen: list[Suspect], users: int = 1000, allowed: tuple[str, ...] = ()) -> list[str]:
    """What is cleared of what was seen just so before."""
    found = decide({one.port: one for one in seen}, seen, lambda _: users, allowed, LIMITS)
    return [one.port for one in found.cleared]


# -- who is suspected ------------------------------------------------------------------------------


def test_what_a_pod_left_is_suspected_with_its_cause() -> None:
    assert suspects(pod_view(held=(LEFT,))) == (suspect(),)
    assert suspects(pod_view()) == ()


def test_a_port_alone_is_a_leak_and_an_ip_alone_an_orphan() -> None:
    (leak,) = suspects(pod_view(held=(held_by(row=make_row()),)))
    (orphan,) = suspects(pod_view(held=(held_by(LEFT.ip),)))

    assert (leak.leaked, leak.orphaned, leak.subnet, leak.ids) == (True, False, "net", frozenset({"row-uuid"}))
    assert (orphan.leaked, orphan.orphaned, orphan.subnet, orphan.ids) == (False, True, "net", frozenset({"ip-uid"}))


def test_what_lies_nowhere_is_suspected_too() -> None:
    """An IP that was granted nothing and names a subnet; a port that does not even do that."""
    bare = granted_ip("nonsense", labels=ORDINARY, subnet="", ip_address="")
    (one,) = suspects(pod_view(held=(held_by(bare, make_row(ls="")),)))

    assert one.subnet == ""


def test_reservations_other_vendors_rows_and_special_ips_are_not_suspected() -> None:
    stranger = make_row(vendor="other")
    node = granted_ip(name="node-a", labels={**GRANTED, **ORDINARY}, namespace="", pod_name="a")

    assert suspects(pod_view(held=(held_by(granted_ip()),))) == ()
    assert suspects(pod_view(held=(held_by(row=stranger),))) == ()
    assert suspects(pod_view(held=(held_by(node, port="node-a"),))) == ()
    assert suspects(pod_view(held=(held_by(granted_ip(labels=ORDINARY, finalizers=())),))) == ()


def test_an_owner_of_which_nothing_is_known_keeps_what_it_has() -> None:
    of_set = granted_ip(name="web-0.default", labels={**GRANTED, **ORDINARY}, pod_type="StatefulSet", pod_name="web-0")
    held = held_by(of_set, port="web-0.default")
    owner = Owner("default", "web-0")

    assert suspects(pod_view(owner=owner, held=(held,))) == ()
    (one,) = suspects(pod_view(owner=owner, held=(held,), workloads={"StatefulSet": SetOwner(served=True)}))
    assert one.cause == Cause.OWNER_GONE


def test_a_live_pod_that_may_have_it_all_clears_everybody() -> None:
    assert suspects(pod_view(held=(LEFT,), bystanders=True)) == ()


def test_nobody_is_met_while_nobody_can_tell_whether_they_are_there() -> None:
    """A VM's address is kept while its CRD is not served; that it is absent later on does not show that it went."""
    of_vm = granted_ip(labels={**GRANTED, **ORDINARY}, pod_type="VirtualMachine")
    held, reserved = held_by(of_vm, make_row()), held_by(granted_ip())
    unknown = pod_view(held=(held,), workloads={"VirtualMachine": MachineOwner(served=False)})
    stopped = pod_view(held=(held,), workloads={"VirtualMachine": MachineOwner(served=True, instance=True)})

    assert owned(unknown) == (held,)
    assert met(unknown) == ()
    assert met(stopped) == (held,)
    assert met(replace(unknown, bystanders=True)) == (held,), "its pod is there"
    assert met(pod_view(held=(reserved,))) == (reserved,)
    assert met(pod_view(make_pod(notes=notes_of()), held=(LEFT,))) == (LEFT,)


def test_who_only_an_edited_ip_names_is_not_met() -> None:
    """Seed 1173: its namespace was edited while nobody watched, and its port was never suspected again."""
    edited = granted_ip(labels={**GRANTED, **ORDINARY}, namespace="other", pod_name="web")
    said = Owner("other", "web")

    assert met(pod_view(owner=said, held=(held_by(edited, make_row()),))) == ()
    assert met(pod_view(owner=said, held=(held_by(edited),))) == ()
    its_row = held_by(edited, make_row(pod="other/web"))
    assert met(pod_view(owner=said, held=(its_row,), bystanders=True)) == (its_row,)


def test_owned_is_what_a_live_pod_has_and_what_is_kept_without_one() -> None:
    """From then on this process knows that it had an owner."""
    reserved = held_by(granted_ip())
    running = pod_view(make_pod(notes=notes_of()), held=(LEFT,))

    assert owned(pod_view(held=(LEFT,))) == ()
    assert owned(pod_view(held=(reserved,))) == (reserved,)
    assert owned(running) == (LEFT,)


def test_what_no_sweep_has_cleared_is_kept_for_now() -> None:
    """And no longer than that."""
    view = pod_view(held=(LEFT,), gone_proved=False)
    unproven = replace(view, grounds=replace(view.grounds, unproven=frozenset({LEFT.port})))

    assert of_pod.decide(unproven, NOW).effects == ()
    assert names(of_pod.decide(view, NOW)) == ["ConfirmGone", "DropPort", "DeleteIP"]
    assert suspects(unproven) == (suspect(),)


# -- what is freed ---------------------------------------------------------------------------------


def test_only_what_was_seen_just_so_before_is_freed() -> None:
    """Another object of that name is another one's."""
    seen = [suspect()]

    assert decide({}, seen, lambda _: 9, (), LIMITS).cleared == ()
    assert decide({"web.default": suspect(ids=frozenset({"x"}))}, seen, lambda _: 9, (), LIMITS).cleared == ()
    assert decide({"web.default": suspect()}, seen, lambda _: 9, (), LIMITS).cleared == (suspect(),)


def test_a_sweep_that_would_free_too_much_of_a_subnet_frees_none_of_it() -> None:
    """The other subnets are not held up, and a word of the operator lets it go on."""
    many = [suspect(f"p{n}.default") for n in range(11)]
    other = suspect("other.default", "other")
    before = {one.port: one for one in [*many, other]}
    found = decide(before, [*many, other], lambda _: 40, (), LIMITS)

    assert found.cleared == (other,)
    assert found.stopped == (Stop("net", 11, 40, 10),)
    assert len(swept(many, users=44)) == 11, "a quarter may go"
    assert len(swept(many[:10], users=10)) == 10, "ten may always go"
    assert len(swept(many, users=11, allowed=("net",))) == 11


def test_what_is_seen_for_the_first_time_counts_for_the_stop() -> None:
    """A mass of orphans is not freed one handful after the other."""
    many = [suspect(f"p{n}.default") for n in range(11)]

    assert decide({"p0.default": many[0]}, many, lambda _: 11, (), LIMITS).cleared == ()


PORTS = [f"p{n}.default" for n in range(40)]


@given(
    st.lists(st.sampled_from(PORTS), unique=True),
    st.lists(st.sampled_from(PORTS), unique=True),
    st.integers(0, 100),
    st.floats(0, 1),
)
def test_never_more_than_the_limit_goes_at_once(before: list[str], now: list[str], users: int, share: float) -> None:
    limits = Limits(share)
    found = decide({p: suspect(p) for p in before}, [suspect(p) for p in now], lambda _: users, (), limits)

    assert len(found.cleared) <= limits.of(users)
    assert {one.port for one in found.cleared} <= set(before) & set(now)
    assert not (found.cleared and found.stopped)


def test_only_one_word_lets_a_stopped_sweep_go_on() -> None:
    assert allows({"keepip.io/sweep": "allow"})
    assert not allows({"keepip.io/sweep": "true"})
    assert not allows({})
