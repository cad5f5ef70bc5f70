"""What each record says about who has which address (contract §2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core import naming, records
from controller.core.addresses import Address, parse_mac
from controller.core.ipam import Record
from controller.core.objects import IpStatus, Pod, Recorded
from controller.core.rows import PortRow
from tests.core.worlds import (
    GRANTED,
    MAC,
    ORDINARY,
    OURS,
    RESERVED,
    granted_ip,
    make_ip,
    make_pod,
    make_row,
    notes_of,
    num,
    recorded,
)

HARDWARE = parse_mac(MAC)
TWO = Record("web.default", "net", num("10.0.0.2"), None, HARDWARE)


WEB = naming.Owner("default", "web")


def nowhere(_provider: str, _addresses: tuple[Address, ...]) -> tuple[str, ...]:
    """No subnet is known."""
    return ()


# -- what was granted ------------------------------------------------------------------------------


def test_a_request_was_granted_nothing() -> None:
    """Not before our finalizer is on it, also if it names an address."""
    assert records.granted(make_ip(labels=RESERVED, v4_ip_address="10.0.0.2"), None) is None


def test_our_finalizer_without_address_and_mac_is_no_grant() -> None:
    """There is nothing to keep; and a MAC alone is outranked by whatever names an address."""
    bare = make_ip(labels=RESERVED, finalizers=OURS, mac_address=MAC)

    assert records.granted(make_ip(labels=RESERVED, finalizers=OURS), None) is None
    assert records.granted(bare, None) == recorded("")
    assert records.granted(granted_ip(), Recorded(subnet="net", mac_address=MAC, reserved="false")) == recorded()


def test_without_status_or_memory_the_spec_is_what_was_granted() -> None:
    """After a restart on a cluster whose IPs have no status."""
    assert records.granted(granted_ip(), None) == recorded()


def test_status_outranks_memory_and_memory_the_spec() -> None:
    """An edit of the spec is never taken for a grant (contract §3)."""
    edited = granted_ip(address="10.0.0.6", mac="0a:00:00:00:00:09")
    told = granted_ip(status=IpStatus(recorded=recorded("10.0.0.3")), address="10.0.0.6")

    assert records.granted(edited, recorded("10.0.0.2")) == recorded("10.0.0.2")
    assert records.granted(told, recorded("10.0.0.2")) == recorded("10.0.0.3")


def test_an_ordinary_ip_follows_its_spec() -> None:
    """The pod flow writes it; a status left from a reservation does not count any more."""
    ip = granted_ip(labels=ORDINARY, status=IpStatus(recorded=recorded("10.0.0.3")))

    assert records.granted(ip, recorded("10.0.0.3")) == recorded(reserved="false")


def test_an_ordinary_ip_without_our_finalizer_was_granted_nothing() -> None:
    """Torn off by force: the address is free but for other records (contract §3, Delete)."""
    assert records.granted(granted_ip(labels=ORDINARY, finalizers=()), recorded()) is None


def test_the_label_turns_a_pods_own_ip_into_a_reservation() -> None:
    """Scenario 4: with the address that it has."""
    found = records.granted(granted_ip(labels=RESERVED), recorded(reserved="false"))

    assert found == recorded(reserved="true")


def test_a_label_that_vanished_changes_nothing() -> None:
    """Only "false" is a decision (contract §3)."""
    assert records.granted(granted_ip(labels={}), recorded()) == recorded()
    assert records.granted(granted_ip(labels={}, status=IpStatus(recorded=recorded())), None) == recorded()


def test_a_status_that_is_not_of_a_reservation_is_not_believed() -> None:
    """Only grants are recorded there."""
    ip = granted_ip(labels={}, status=IpStatus(recorded=recorded("10.0.0.3", reserved="false")))

    assert records.granted(ip, None) == recorded(reserved="")


@pytest.mark.parametrize("field", ["v4_ip_address", "v6_ip_address", "mac_address"])
def test_what_cannot_be_read_was_never_granted(field: str) -> None:
    """An address that is none holds nothing, whoever wrote it into status or spec; the request is answered instead."""
    broken = granted_ip(**{field: "nonsense", "ip_address": "nonsense"})
    forged = granted_ip(status=IpStatus(recorded=Recorded(subnet="net", reserved="true", **{field: "nonsense"})))

    assert records.granted(broken, None) is None
    assert records.granted(forged, None) == recorded()


def test_of_two_fields_that_disagree_the_one_that_people_do_not_edit_is_the_grant() -> None:
    """A process that sees an edited IP for the first time holds what was granted, and undoes the edit."""
    edited = granted_ip(v4_ip_address="10.0.0.5", subnet="other")

    assert records.granted(edited, None) == recorded()


def test_an_ip_that_is_going_under_a_strangers_finalizer_holds_nothing_if_it_was_ours() -> None:
    """Our finalizer was taken off it: the address was freed then, and a restart does not occupy it again."""
    going = granted_ip(finalizers=("example.com/backup",), deleting=True)

    assert records.of_ip(going, None) == ()


def test_an_upper_case_mac_of_kube_ovn_is_a_grant() -> None:
    """The user document shows one: such IPs exist on clusters that we take over."""
    found = records.granted(granted_ip(mac="00:00:00:86:C6:36"), None)

    assert found is not None
    assert found.mac_address == "00:00:00:86:C6:36"


# -- what each record holds ------------------------------------------------------------------------


def test_an_ip_holds_what_was_granted_not_what_was_edited() -> None:
    """The address held never changes (contract §3)."""
    assert records.of_ip(granted_ip(address="10.0.0.6"), recorded()) == (TWO,)


def test_an_address_that_is_written_twice_is_one_address() -> None:
    """In v4IpAddress and in ipAddress, as Kube-OVN writes both."""
    ip = make_ip(finalizers=("x.io/y",), v4_ip_address="10.0.0.2", ip_address="10.0.0.2", mac_address=MAC)

    assert records.of_ip(ip, None) == (TWO,)


def test_a_request_holds_nothing() -> None:
    """Asking is not having."""
    assert records.of_ip(make_ip(v4_ip_address="10.0.0.2"), None) == ()


def test_an_explicit_address_under_somebody_elses_finalizer_is_occupied() -> None:
    """Bug row 33b, also when only ipAddress is given, also two families of it."""
    ip = make_ip("mark", finalizers=("example.com/x",), ip_address="10.0.0.2,FD00::2", pod_name="", namespace="")

    assert records.of_ip(ip, None) == (Record("mark", "net", num("10.0.0.2"), num("fd00::2"), None),)


def test_addresses_of_nodes_and_subnets_are_occupied() -> None:
    """They are left alone, so they keep what they have (contract §7)."""
    node = make_ip("node-a", finalizers=OURS, namespace="", pod_name="a", v4_ip_address="10.0.0.2", mac_address=MAC)

    assert records.of_ip(node, None) == (TWO._replace(port="node-a"),)


def test_a_forced_removal_of_the_finalizer_frees_the_address() -> None:
    """Terminating and not ours any more (contract §3, Delete)."""
    assert records.of_ip(granted_ip(deleting=True, finalizers=("example.com/x",)), recorded()) == ()
    assert records.of_ip(granted_ip(deleting=True), recorded()) == (TWO,)
    labels = {**GRANTED, **ORDINARY}  # a new process finds it so: it was ours, somebody else's finalizer is left
    assert records.of_ip(granted_ip(deleting=True, finalizers=("x.io/y",), labels=labels), None) == ()


def test_memory_alone_does_not_free_what_a_strangers_finalizer_keeps() -> None:
    """Without a status and without the labels of a grant a restart could not tell whose it was: so nobody does."""
    bare = granted_ip(deleting=True, finalizers=("example.com/x",), labels={})
    told = granted_ip(deleting=True, finalizers=("example.com/x",), labels={}, status=IpStatus(recorded=recorded()))

    assert records.of_ip(bare, recorded()) == records.of_ip(bare, records.granted(bare, None)) == (TWO,)
    assert records.of_ip(told, recorded()) == records.of_ip(told, records.granted(told, None)) == ()


def test_an_address_of_no_subnet_is_nobodys() -> None:
    """An address is that of a subnet (bug row 12)."""
    assert records.of_ip(make_ip(subnet="", finalizers=("x.io/y",), v4_ip_address="10.0.0.2"), None) == ()


def test_a_live_pods_annotations_hold_its_address() -> None:
    """In the subnet that they name."""
    assert records.of_pod(make_pod(notes=notes_of()), WEB, nowhere) == (TWO,)


def test_each_nics_annotations_hold_its_address() -> None:
    """One of another network does not say in which subnet: wherever it may be."""
    mine = {f"net1.default.ovn.kubernetes.io/{key}": text for key, text in notes_of("10.1.0.2", MAC).items()}
    other = {"mac.default.kubernetes.io/ip_address": "10.2.0.2", "mac.default.kubernetes.io/allocated": "true"}
    found = records.of_pod(make_pod(notes=notes_of() | mine | other), WEB, lambda *asked: (str(asked[0]), "second"))

    assert found == (
        TWO,
        Record("web.default.net1.default.ovn", "net", num("10.1.0.2"), None, HARDWARE),
        Record("web.default.mac.default", "mac.default", num("10.2.0.2"), None, None),
        Record("web.default.mac.default", "second", num("10.2.0.2"), None, None),
    )


@pytest.mark.parametrize(
    "pod",
    [
        make_pod(notes=notes_of(allocated="")),
        make_pod(notes=notes_of(), phase="Succeeded", restart_policy="Never"),
        make_pod(notes=notes_of(logical_switch="")),
        make_pod(notes={"allocated": "true"}),
        make_pod(notes=notes_of(address="", mac="")),
    ],
)
def test_annotations_of_finished_or_unallocated_pods_hold_nothing(pod: Pod) -> None:
    """A request is no record, and what has ended has let go."""
    assert records.of_pod(pod, WEB, nowhere) == ()


def test_a_port_holds_every_address_of_every_line() -> None:
    """Rule 1: named by any record, so several of one family too, and one that lacks its MAC."""
    row = PortRow("x", (f"{MAC} 10.0.0.2 fd00::2 10.0.0.3", "10.0.0.4", "unknown", "router", ""))

    assert records.of_row(row, ("net",)) == (
        Record("x", "net", num("10.0.0.2"), num("fd00::2"), HARDWARE),
        Record("x", "net", num("10.0.0.3"), None, HARDWARE),
        Record("x", "net", num("10.0.0.4"), None, None),
    )


def test_a_port_that_does_not_say_where_it_is_may_be_anywhere() -> None:
    """Its address is kept in every candidate (Rule 2)."""
    assert [r.subnet for r in records.of_row(make_row(), ("a", "b"))] == ["a", "b"]


@given(st.lists(st.text()), st.text(), st.text())
def test_no_text_is_too_odd_to_be_read(lines: list[str], address: str, mac: str) -> None:
    """What cannot be read says nothing (bug row 29)."""
    ip = granted_ip(labels=GRANTED, v4_ip_address=address, mac_address=mac)

    assert isinstance(records.of_row(PortRow("x", tuple(lines)), ("net",)), tuple)
    assert isinstance(records.of_ip(ip, records.granted(ip, None)), tuple)
    assert isinstance(records.of_pod(make_pod(notes=notes_of(address, mac)), WEB, nowhere), tuple)


def test_an_ordinary_ip_has_the_addresses_that_controllers_wrote() -> None:
    """A person's edit of the other fields gives it none; the label alone would make a reservation of it."""
    edited = granted_ip(labels=ORDINARY, v6_ip_address="fd00::6")
    assert records.granted(edited, None) == recorded(reserved="false")

    bare = granted_ip(labels=ORDINARY, ip_address="")
    assert records.granted(bare, None) == recorded(reserved="false")


def test_an_ordinary_ip_is_in_the_subnet_that_controllers_wrote() -> None:
    """Seed 78: with a person's subnet on it, an address that nobody granted there became a reservation."""
    edited = granted_ip(labels={**GRANTED, **ORDINARY}, subnet="other")

    assert records.granted(edited, None) == recorded(reserved="false")
