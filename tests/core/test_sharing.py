"""Equal texts are one text, and nothing becomes another value (sharing.py)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from controller.core.objects import VIEWS, Condition, Ip, Kind, Pod, parse
from tests.core.worlds import NOTE, notes_of

OWNER = {"kind": "ReplicaSet", "name": "shop-5d4f8", "uid": "set-uid", "apiVersion": "apps/v1", "controller": True}


def pod(number: int) -> Pod:
    """One of a Deployment's."""
    notes = {NOTE + key: text for key, text in notes_of(f"10.0.0.{number}").items()}
    meta = {"name": f"shop-{number}", "namespace": "team", "labels": {"app": "shop"}, "annotations": notes}
    body = {"metadata": meta | {"ownerReferences": [OWNER]}, "spec": {"nodeName": "node-a"}}
    view = parse(Kind.POD, msgspec.json.encode(body))
    assert isinstance(view, Pod)
    return view


def body_of(number: int) -> dict[str, Any]:
    """A granted reservation."""
    grant = {"subnet": "net", "podName": f"shop-{number}", "namespace": "team", "v4IpAddress": f"10.0.0.{number}"}
    conditions = [{"type": "Ready", "status": "True", "reason": "Reserved", "message": f"for shop-{number}"}]
    return {
        "metadata": {"name": f"shop-{number}.team", "finalizers": ["a/b", f"c/{number // 100}"]},
        "spec": grant,
        "status": {"conditions": conditions, "recorded": grant | {"reserved": "true"}},
    }


def ip(number: int) -> Ip:
    """The same, read."""
    view = parse(Kind.IP, msgspec.json.encode(body_of(number)))
    assert isinstance(view, Ip)
    return view


def test_what_pods_have_alike_is_one_text() -> None:
    one, other = pod(1), pod(2)
    assert one.metadata.namespace is other.metadata.namespace
    assert one.metadata.labels["app"] is other.metadata.labels["app"]
    assert one.spec.node_name is other.spec.node_name
    assert one.metadata.owner_references[0].name is other.metadata.owner_references[0].name
    for key in ("logical_switch", "allocated"):
        assert one.metadata.annotations[NOTE + key] is other.metadata.annotations[NOTE + key]


def test_what_is_a_pods_own_is_not_kept_for_others() -> None:
    """Neither its address nor a long text: an entry for each would cost more than it saves."""
    again = pod(1)
    assert pod(1).metadata.annotations[NOTE + "ip_address"] is not again.metadata.annotations[NOTE + "ip_address"]
    long = msgspec.json.encode({"metadata": {"name": "a", "annotations": {"applied": "x" * 64}}})
    one, other = (parse(Kind.POD, long).metadata.annotations["applied"] for _ in range(2))
    assert one == other
    assert one is not other


def test_a_status_repeats_nothing_of_its_spec() -> None:
    one, other = ip(1), ip(2)
    recorded = one.status.recorded
    assert recorded is not None
    assert recorded.v4_ip_address is one.spec.v4_ip_address
    assert recorded.pod_name is one.spec.pod_name
    assert recorded.subnet is other.spec.subnet
    assert one.metadata.finalizers is other.metadata.finalizers
    ready, also = (each.status.conditions[0] for each in (one, other))
    assert isinstance(ready, Condition)
    assert ready.reason is also.reason
    assert ready.message != also.message


@pytest.mark.parametrize("edited", [{}, {"v4IpAddress": "10.0.0.9"}, {"podName": ""}])
def test_no_value_changes(edited: dict[str, str]) -> None:
    """Also where the spec was edited and the status tells what was granted."""
    body = body_of(1)
    body["spec"] |= edited
    raw = msgspec.json.encode(body)
    assert parse(Kind.IP, raw) == msgspec.json.decode(raw, type=VIEWS[Kind.IP])


def test_finalizers_of_ever_new_names_are_not_kept_for_ever() -> None:
    """Anybody may write them."""
    first = ip(1)
    for number in range(0, 100 * 600, 100):
        ip(number)
    again = ip(1)
    assert again.metadata.finalizers == first.metadata.finalizers
    assert again.metadata.finalizers is not first.metadata.finalizers
