"""parse() reads whatever an API server may hold; rows answer about themselves."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.faults import Impossible, Malformed
from controller.core.objects import (
    FINALIZER,
    OLD_FINALIZER,
    VIEWS,
    Ip,
    Kind,
    Lease,
    LeaseSpec,
    Meta,
    Node,
    Object,
    Pod,
    PodSpec,
    PodStatus,
    Subnet,
    parse,
)
from controller.core.rows import PortRow, SwitchRow

# Reported with the change that mends it; drop the mark with that change.

NAMED = {"metadata": {"name": "x"}}


def read(kind: Kind, value: object) -> Object:
    return parse(kind, json.dumps(value).encode())


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_an_ip_is_read_with_the_fields_that_matter() -> None:
    """Others, known to the API or not, are no matter."""
    value = {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {
            "name": "web-0.shop",
            "uid": "u",
            "resourceVersion": "42",
            "labels": {"ovn.kubernetes.io/ip_reserved": "true"},
            "finalizers": [FINALIZER],
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "subnet": "net",
            "v4IpAddress": "10.0.0.9",
            "macAddress": "00:00:00:00:00:01",
            "attachIps": [""],
            "new": {"field": 1},
        },
        "status": {"usedBy": "shop/web-0", "recorded": {"v4IpAddress": "10.0.0.9"}},
    }

    ip = read(Kind.IP, value)

    assert isinstance(ip, Ip)
    assert ip.fault == ""
    assert (ip.metadata.name, ip.metadata.uid, ip.metadata.version) == ("web-0.shop", "u", 42)
    assert (ip.spec.subnet, ip.spec.v4_ip_address, ip.spec.mac_address) == ("net", "10.0.0.9", "00:00:00:00:00:01")
    assert ip.status.used_by == "shop/web-0"
    assert ip.status.recorded is not None
    assert ip.status.recorded.v4_ip_address == "10.0.0.9"
    assert ip.metadata.ours
    assert not ip.metadata.deleting


def test_a_subnets_status_has_its_own_letter_case() -> None:
    """kube-ovn-behaviour §3.2: v4availableIPs and its like."""
    subnet = read(
        Kind.SUBNET,
        NAMED | {"status": {"v4availableIPs": 253, "v4availableIPrange": "10.0.0.2-10.0.0.254", "v6usingIPs": 1.0}},
    )

    assert isinstance(subnet, Subnet)
    assert subnet.status.v4_available == 253
    assert subnet.status.v4_available_range == "10.0.0.2-10.0.0.254"
    assert subnet.status.v6_using == 1
    assert subnet.status.v4_using == -1  # never written yet


def test_a_lease_and_a_nodes_addresses_are_read() -> None:
    """Only InternalIP counts of the latter."""
    lease = read(Kind.LEASE, NAMED | {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}})
    node = read(
        Kind.NODE,
        NAMED
        | {
            "status": {
                "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}]
            }
        },
    )

    assert isinstance(lease, Lease)
    assert lease.spec == LeaseSpec(holder_identity="me", lease_duration_seconds=15)
    assert isinstance(node, Node)
    assert node.internal_ips == ("10.0.0.1",)


@pytest.mark.parametrize("kind", Kind)
def test_a_name_is_enough(kind: Kind) -> None:
    """Everything else has a default."""
    assert read(kind, NAMED) == VIEWS[kind](metadata=Meta(name="x"))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "value",
    [
        {"spec": None},
        {"status": None, "spec": {"subnet": None, "cidrBlock": None, "nodeName": None, "holderIdentity": None}},
        {"metadata": {"name": "x", "labels": None, "finalizers": None, "uid": None, "ownerReferences": None}},
        {"metadata": {"name": "x", "labels": {"gone": None}, "finalizers": [None], "ownerReferences": [None]}},
        {"spec": {"excludeIps": [None], "namespaceSelectors": [{"matchExpressions": [{"values": [None]}]}]}},
    ],
)
def test_a_null_is_what_is_not_there(kind: Kind, value: dict[str, Any]) -> None:
    """kube-ovn-behaviour §23.9; on any level, in lists too."""
    found = read(kind, NAMED | value)

    assert found.fault == ""
    assert found.metadata == Meta(name="x")


def test_numbers_and_booleans_written_as_text_are_understood() -> None:
    """CRDs without a strict schema hold such things."""
    subnet = read(Kind.SUBNET, NAMED | {"spec": {"default": "true"}, "status": {"v4usingIPs": "3"}})

    assert isinstance(subnet, Subnet)
    assert subnet.fault == ""
    assert subnet.spec.default
    assert subnet.status.v4_using == 3


@pytest.mark.parametrize(
    ("kind", "spec", "where"),
    [
        (Kind.IP, "text", "$.spec"),
        (Kind.IP, {"subnet": {"a": 1}}, "$.spec.subnet"),
        (Kind.SUBNET, {"excludeIps": "10.0.0.1"}, "$.spec.excludeIps"),
        (Kind.SUBNET, {"default": "maybe"}, "$.spec.default"),
        (Kind.POD, {"nodeName": [1]}, "$.spec.nodeName"),
        (Kind.LEASE, {"leaseDurationSeconds": "soon"}, "$.spec.leaseDurationSeconds"),
    ],
)
def test_what_breaks_its_schema_keeps_its_name_and_says_where(kind: Kind, spec: object, where: str) -> None:
    """Bad input is an error on that object, and its finalizers are still known."""
    value = {"metadata": {"name": "x", "uid": "u", "finalizers": ["f"]}, "spec": spec}

    found = read(kind, value)

    assert where in found.fault
    assert found == VIEWS[kind](metadata=Meta(name="x", uid="u", finalizers=("f",)), fault=found.fault)


def test_a_fault_is_what_could_not_be_read_not_what_was_forgiven() -> None:
    """A null beside it is none."""
    found = read(Kind.IP, {"metadata": {"name": "x", "labels": None}, "spec": {"subnet": 5}})

    assert "$.spec.subnet" in found.fault


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"12",
        b"{}",
        b'{"metadata": null}',
        b'{"metadata": {}}',
        b'{"metadata": {"name": null}}',
        b'{"metadata": {"name": 7}}',
        b'{"metadata": {"name": "x"}} {}',
        b'{"metadata": {"name": "\xff"}}',
        b'{"metadata": {"name": "\\ud800"}}',
        b"\x00\x01",
    ],
)
@pytest.mark.parametrize("kind", Kind)
def test_a_text_that_is_no_named_object_is_malformed(kind: Kind, raw: bytes) -> None:
    """And nothing worse happens."""
    with pytest.raises(Malformed):
        parse(kind, raw)


@pytest.mark.parametrize("kind", [Kind.IP, Kind.POD, Kind.SUBNET, Kind.LEASE])
def test_endless_nesting_is_malformed(kind: Kind) -> None:
    """It ends the reading of that object, not the process."""
    with pytest.raises(Malformed):
        parse(kind, b'{"metadata": {"name": "x"}, "spec": ' + nested(100_000) + b"}")


# What the first reading stumbles over is read a second time, as plain JSON; these get past the first or break the
# second. No API server sends them, but the promise is made for any text.
UGLY = {
    "endless nesting in a field that is not read": b'{"metadata": {"name": "x"}, "y": ' + nested(100_000) + b"}",
    "broken JSON behind a broken schema": b'{"metadata": {"name": "x"}, "spec": 5, y',
    "broken UTF-8 behind a broken schema": b'{"metadata": {"name": "x"}, "spec": 5, "y": "\xff"}',
    "a number of 5000 digits": b'{"metadata": {"name": "x", "generation": ' + b"9" * 5000 + b"}}",
    "a number that is too large for any": b'{"metadata": {"name": "x"}, "spec": 5, "y": 1e999}',
}


@pytest.mark.parametrize("raw", UGLY.values(), ids=UGLY.keys())
def test_an_ugly_text_is_read_or_malformed(raw: bytes) -> None:
    """There is no third way out of parse()."""
    try:
        found = parse(Kind.IP, raw)
    except Malformed:
        return
    assert found.metadata.name == "x"


def test_a_huge_object_is_read() -> None:
    """As large as etcd takes: 1.5 MB."""
    value = {"metadata": {"name": "x", "annotations": {f"a{n}": "v" * 100 for n in range(13_000)}}}

    assert len(read(Kind.POD, value).metadata.annotations) == 13_000


def test_a_slice_of_a_larger_text_is_read_in_place() -> None:
    """A list's items come as msgspec.Raw."""
    items = msgspec.json.decode(
        b'[{"metadata": {"name": "x"}}, {"metadata": {"name": "y"}, "spec": 5}]', type=list[msgspec.Raw]
    )

    assert [parse(Kind.IP, item).metadata.name for item in items] == ["x", "y"]
    assert parse(Kind.IP, items[1]).fault != ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "subnet",
        "v4IpAddress",
        "excludeIps",
        "namespaceSelectors",
        "default",
        "conditions",
        "recorded",
        "nodeName",
        "phase",
        "addresses",
        "leaseDurationSeconds",
        "enableLb",
        "v4availableIPs",
        "matchLabels",
    ]
)
PART = JSON | st.dictionaries(FIELDS, JSON, max_size=4)
META = st.fixed_dictionaries(
    {"name": st.just("x")},
    optional={
        "labels": st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3), max_size=2),
        "finalizers": st.none() | st.lists(st.none() | st.text(max_size=3), max_size=2),
        "generation": st.none() | st.integers(0, 2**40),
    },
)


@given(st.sampled_from(Kind), META, PART, PART)
def test_a_named_object_always_yields_a_view(kind: Kind, meta: dict[str, Any], spec: object, status: object) -> None:
    """Whatever its spec and status are."""
    found = read(kind, {"metadata": meta, "spec": spec, "status": status})

    assert type(found) is VIEWS[kind]
    assert found.metadata.name == "x"
    assert found.metadata.finalizers == tuple(f for f in meta.get("finalizers") or () if f is not None)


@given(st.sampled_from(Kind), st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_text_is_read_or_malformed(kind: Kind, raw: bytes) -> None:
    """Nothing else is ever raised."""
    with contextlib.suppress(Malformed):
        assert type(parse(kind, raw)) is VIEWS[kind]


@pytest.mark.parametrize(
    ("phase", "reason", "policy", "alive"),
    [
        ("", "", "Always", True),
        ("Running", "", "Never", True),
        ("Succeeded", "", "Always", True),
        ("Succeeded", "", "OnFailure", False),
        ("Succeeded", "", "Never", False),
        ("Failed", "", "Always", True),
        ("Failed", "", "OnFailure", True),
        ("Failed", "", "Never", False),
        ("Failed", "Evicted", "Always", False),
    ],
)
def test_a_pod_is_alive_until_it_is_finished_for_good(phase: str, reason: str, policy: str, *, alive: bool) -> None:
    """kube-ovn-behaviour §7.1; one that terminates is alive."""
    meta = Meta(name="x", deletion_timestamp="2026-01-01T00:00:00Z")
    pod = Pod(metadata=meta, spec=PodSpec(restart_policy=policy), status=PodStatus(phase=phase, reason=reason))

    assert pod.metadata.deleting
    assert pod.alive == alive


@pytest.mark.parametrize(("finalizers", "ours"), [((), False), (("a",), False), ((OLD_FINALIZER, "a"), True)])
def test_old_and_new_finalizer_are_ours(finalizers: tuple[str, ...], *, ours: bool) -> None:
    """The user document shows the old one (contract §1)."""
    assert Meta(name="x", finalizers=finalizers).ours == ours


def test_a_port_row_answers_by_external_id() -> None:
    """What is not there is ""."""
    row = PortRow("web-0.shop", external_ids=(("ls", "net"), ("pod", "shop/web-0"), ("vendor", "kube-ovn")))
    other = PortRow("router", external_ids=(("vendor", "else"),))

    assert (row.external("pod"), row.external("nothing"), row.switch, row.ours) == ("shop/web-0", "", "net", True)
    assert (other.ours, other.switch) == (False, "")
    assert PortRow("bare").external("pod") == ""
    assert SwitchRow("net") == SwitchRow("net", (), "")


def test_users_mistakes_and_bugs_are_told_apart() -> None:
    """Nobody catches a bug as a user's mistake, or the other way round."""
    assert not issubclass(Malformed, Impossible)
    assert not issubclass(Impossible, Malformed)
    assert not issubclass(Impossible, ValueError)
