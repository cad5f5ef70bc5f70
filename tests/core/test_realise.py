"""An allocation made durable, field by field as Kube-OVN writes it (kube-ovn-behaviour §4.5, §5.1, §7.7)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import naming
from controller.core.addresses import parse_mac
from controller.core.decisions.realise import Held, Request, realise
from controller.core.effects import Create, Decision, Patch, Promise, PutPort
from controller.core.ipam import Grant
from controller.core.objects import FINALIZER, IpStatus, Kind, OwnerRef, Pod
from controller.core.rows import PortRow
from tests.core.worlds import (
    GRANTED,
    MAC,
    MAC2,
    NOTE,
    ORDINARY,
    OURS,
    RESERVED,
    VM,
    bidder_of,
    granted_ip,
    held_by,
    make_ip,
    make_pod,
    make_row,
    make_subnet,
    names,
    notes_of,
    num,
    patch_of,
    place_of,
    recorded,
)

GRANT = Grant(num("10.0.0.2"), None, parse_mac(MAC))
NOTHING = Held("web.default")
AT_HOME = {**GRANTED, **ORDINARY, naming.NODE_LABEL: "node-a"}


def realised(pod: Pod, held: Held = NOTHING, grant: Grant = GRANT, **subnet: Any) -> Decision:
    bidder = bidder_of(pod)
    return realise(Request((bidder,), place_of(make_subnet(**subnet)), "veth-pair"), bidder, held, grant)


def port(decision: Decision) -> PortRow:
    (found,) = (e.row for e in decision.effects if isinstance(e, PutPort))
    return found


def notes(decision: Decision) -> dict[str, str]:
    body = patch_of(decision, Kind.POD)
    assert body["metadata"]["uid"] == "pod-uid"
    return {key.removeprefix(NOTE): value for key, value in body["metadata"]["annotations"].items()}


# -- the port --------------------------------------------------------------------------------------


def test_a_port_has_kube_ovns_columns_and_the_pods_uid() -> None:
    """Bug row 52: the uid says for which pod of this name it was made."""
    decision = realised(make_pod())

    assert decision.effects[0] == Promise("web.default", "net", num("10.0.0.2"), None, parse_mac(MAC))
    assert decision.effects[1] == PutPort(make_row()._replace(uuid=""), None)


def test_both_families_are_one_line() -> None:
    """`<mac> <v4> <v6>`."""
    decision = realised(make_pod(), grant=Grant(num("10.0.0.2"), num("fd00::2"), parse_mac(MAC)))

    assert port(decision).addresses == (f"{MAC} 10.0.0.2 fd00::2",)


def test_security_and_layer_2_forwarding_are_asked_for_by_annotation() -> None:
    """Port security repeats the line, forwarding adds `unknown`."""
    row = port(realised(make_pod(notes={"port_security": "true", "layer2_forward": "true"})))

    assert row.port_security == (f"{MAC} 10.0.0.2",)
    assert row.addresses == (f"{MAC} 10.0.0.2", "unknown")


def test_a_port_that_differs_is_put_right_in_place() -> None:
    """Compared field by field (bug row 52), guarded by the row that was seen."""
    seen = make_row("10.0.0.9")
    decision = realised(make_pod(), held_by(row=seen))

    assert decision.effects[1] == PutPort(make_row()._replace(uuid=""), seen)


def test_external_ids_of_others_stay_on_a_running_pods_port() -> None:
    """Security groups and vips are other parts' business; a new pod's port starts clean."""
    seen = make_row("10.0.0.9", security_groups="sg")._replace(options=(("arp_proxy", "true"),))

    assert port(realised(make_pod(notes=notes_of()), held_by(row=seen))).external("security-groups") == "sg"
    assert port(realised(make_pod(), held_by(row=seen))).external("security-groups") == ""


# -- the IP object ---------------------------------------------------------------------------------


def test_a_pods_own_ip_is_made_whole() -> None:
    """Never reserved, our finalizer from the start."""
    (made,) = (e for e in realised(make_pod()).effects if isinstance(e, Create))

    assert made.body == {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": "web.default", "labels": AT_HOME, "finalizers": [FINALIZER]},
        "spec": {
            "podName": "web",
            "namespace": "default",
            "subnet": "net",
            "podType": "",
            "nodeName": "node-a",
            "v4IpAddress": "10.0.0.2",
            "v6IpAddress": "",
            "ipAddress": "10.0.0.2",
            "macAddress": MAC,
            "attachIps": [],
            "attachMacs": [],
            "attachSubnets": [],
            "containerID": "",
        },
    }


@pytest.mark.parametrize(
    "ip",
    [
        granted_ip(deleting=True),
        make_ip(finalizers=("x.io/y",), v4_ip_address="10.0.0.2"),
        make_ip("node-a", finalizers=OURS, namespace="", pod_name="a"),
        make_ip(v4_ip_address="10.0.0.5"),
        make_ip(mac_address=MAC2),
        make_ip(subnet="other"),
        make_ip(pod_type="StatefulSet"),
        make_ip(fault="broken", labels=ORDINARY),
    ],
)
def test_an_ip_that_is_not_the_pods_to_write_stays_as_it_is(ip: Any) -> None:
    """Terminating, foreign, special, broken, or a request for something else (bug rows 33, 42)."""
    assert names(realised(make_pod(), held_by(ip))) == ["Promise", "PutPort", "PatchPod"]


def test_a_request_for_what_the_pod_gets_becomes_its_reservation() -> None:
    """Scenario 4; with the label, without a label, and an ordinary one stays ordinary."""
    for labels in (RESERVED, {}):
        body = patch_of(realised(make_pod(), held_by(make_ip(labels=labels, v4_ip_address="10.0.0.2"))))
        assert body["metadata"]["labels"].get(naming.RESERVED, "true") == "true"
        assert body["metadata"]["finalizers"] == [FINALIZER]
        assert body["metadata"]["resourceVersion"] == "7"
        assert body["spec"]["attachIps"] == []
    backed_up = make_ip(labels=ORDINARY, subnet="old", finalizers=("example.com/backup",))  # no address: seed 792
    assert patch_of(realised(make_pod(), held_by(backed_up)))["metadata"]["finalizers"] == [
        "example.com/backup",
        FINALIZER,
    ]
    ordinary = patch_of(realised(make_pod(), held_by(make_ip(labels=ORDINARY, subnet="old"))))
    assert naming.RESERVED not in ordinary["metadata"]["labels"]
    assert ordinary["spec"]["subnet"] == "net"


def test_a_pods_own_ip_follows_it_into_another_subnet() -> None:
    """The old subnet's label goes with it."""
    own = granted_ip("10.1.0.2", subnet="old", labels={"old": "", **ORDINARY})
    body = patch_of(realised(make_pod(), held_by(own)))

    assert body["spec"]["subnet"] == "net"
    assert body["metadata"]["labels"]["old"] is None
    assert "attachIps" not in body["spec"]


def test_what_was_recorded_as_a_reservation_is_cleared_with_the_ip_that_says_something_else() -> None:
    """Seed 4: a label set again would bring back the address of its former life.

    Behind the patch, which is guarded by the version that was seen: the status would make a newer one.
    """
    labels = {**AT_HOME, "net": ""}
    former = granted_ip(address="10.0.0.6", labels=labels, status=IpStatus(recorded=recorded("10.0.0.6")))
    effects = [e for e in realised(make_pod(), held_by(former)).effects if isinstance(e, Patch)]

    assert [(e.kind, e.subresource) for e in effects] == [(Kind.IP, ""), (Kind.IP, "status"), (Kind.POD, "")]
    assert effects[1].body["status"]["recorded"] is None


def test_a_reservation_gets_nothing_but_the_node() -> None:
    """Its attributes are the user's."""
    assert patch_of(realised(make_pod(), held_by(granted_ip())))["spec"] == {"nodeName": "node-a"}
    settled = granted_ip(node_name="node-a", labels={**GRANTED, naming.NODE_LABEL: "node-a"})
    assert names(realised(make_pod(), held_by(settled))) == ["Promise", "PutPort", "PatchPod"]


def test_a_reservation_of_another_address_is_left_alone_by_a_running_pod() -> None:
    """Each keeps its own (contract §3)."""
    held = held_by(granted_ip("10.0.0.5"), make_row())

    assert realised(make_pod(notes=notes_of()), held) == Decision()


def test_an_ordinary_ip_is_never_labelled_reserved() -> None:
    """Bug row 34, also when its label has vanished."""
    held = Held("web.default", granted_ip(labels={}), None, recorded(reserved="false"))

    assert patch_of(realised(make_pod(), held))["metadata"]["labels"][naming.RESERVED] == "false"


def test_a_pod_without_a_node_keeps_the_node_that_is_written() -> None:
    """The node agent may have been faster."""
    own = granted_ip(node_name="node-b", labels={**AT_HOME, naming.NODE_LABEL: "node-b"})

    assert names(realised(make_pod(node=""), held_by(own))) == ["Promise", "PutPort", "PatchPod"]


# -- the annotations -------------------------------------------------------------------------------


def test_all_annotations_come_in_one_patch() -> None:
    """`routed` included when the node is known (contract §4)."""
    assert notes(realised(make_pod())) == notes_of(logical_router="ovn-cluster")
    assert "routed" not in notes(realised(make_pod(node="")))


def test_a_vms_pod_names_its_vm() -> None:
    """The node agent finds the IP by it."""
    pod = make_pod("virt-launcher-web-x", owner=VM)

    assert notes(realised(pod))["virtualmachine"] == "web"


@pytest.mark.parametrize(
    ("subnet", "router"),
    [
        ({"vlan": "v1"}, False),
        ({"vlan": "v1", "logical_gateway": True}, True),
        ({"vlan": "v1", "u2o_interconnection": True}, True),
        ({"vpc": ""}, False),
    ],
)
def test_a_logical_router_is_named_where_ovn_routes(subnet: dict[str, Any], router: bool) -> None:  # noqa: FBT001
    """kube-ovn-behaviour §4.5."""
    assert ("logical_router" in notes(realised(make_pod(), **subnet))) is router


def test_a_nic_type_that_a_person_chose_stays() -> None:
    """Only an empty one is filled in."""
    assert "pod_nic_type" not in notes(realised(make_pod(notes={"pod_nic_type": "internal-port"})))


def test_a_running_pod_keeps_what_it_was_started_with() -> None:
    """Copies of the Subnet's fields do not follow it; what is missing is filled in."""
    started = notes_of(cidr="10.0.0.0/28")
    del started["gateway"], started["routed"]
    decision = realised(make_pod(notes=started), held_by(granted_ip(labels=AT_HOME, node_name="node-a"), make_row()))

    assert notes(decision) == {"gateway": "10.0.0.1", "routed": "true"}
    assert decision.tells == ()


def test_nothing_is_written_twice() -> None:
    """Rule 4: what realise() asked for is what it finds next time."""
    ip = granted_ip(labels=AT_HOME, node_name="node-a", status=IpStatus())
    pod = make_pod(notes=notes_of())

    assert realised(pod, held_by(ip, make_row())) == Decision()


def test_a_pod_without_a_mac_is_written_without_one() -> None:
    """A grant of no MAC leaves the fields empty."""
    decision = realised(make_pod(owner=OwnerRef(kind="Job", name="j", api_version="batch/v1")), grant=Grant(1, None, 0))

    assert port(decision).addresses == ("0.0.0.1",)
    assert "mac_address" not in notes(decision)


# -- for whom it was made --------------------------------------------------------------------------


def for_owner(uid: str, held: Held = NOTHING, **notes: str) -> Decision:
    bidder = bidder_of(make_pod(notes=notes_of() if held.ip else notes, owner=STS_WEB))
    request = Request((bidder,), place_of(make_subnet()), "veth-pair", owner_uid=uid)
    return realise(request, bidder, held, GRANT)


STS_WEB = OwnerRef(kind="StatefulSet", name="we", uid="sts", api_version="apps/v1")


def test_an_ip_says_from_the_start_for_which_owner_it_was_made() -> None:
    """In the very Create, so that no crash is between (bug row 27)."""
    (made,) = (e for e in for_owner("u1").effects if isinstance(e, Create))
    (plain,) = (e for e in realised(make_pod()).effects if isinstance(e, Create))

    assert made.body["metadata"]["annotations"] == {"keepip.io/owner-uid": "u1"}
    assert "annotations" not in plain.body["metadata"]


@pytest.mark.parametrize(
    ("present", "uid", "node", "written"),
    [
        pytest.param("", "u1", "node-a", None, id="missing: no write of its own"),
        pytest.param("", "u1", "", "u1", id="missing: with what is written anyway"),
        pytest.param("u0", "u1", "node-a", "u1", id="wrong: an owner of this name adopted the pod"),
        pytest.param("u1", "u1", "", None, id="right"),
        pytest.param("u0", "", "", None, id="nobody knows better"),
    ],
)
def test_an_ip_that_says_nothing_of_its_owner_learns_it_with_the_next_write(
    present: str, uid: str, node: str, written: str | None
) -> None:
    notes = {"keepip.io/owner-uid": present} if present else {}
    ip = granted_ip(labels={**AT_HOME, naming.NODE_LABEL: node}, node_name=node, annotations=notes)
    decision = for_owner(uid, held_by(ip, make_row()))
    bodies = [e.body for e in decision.effects if isinstance(e, Patch) and e.kind is Kind.IP]

    assert [b["metadata"].get("annotations") for b in bodies] == (
        [] if node and not written else [{"keepip.io/owner-uid": written} if written else None]
    )


def test_the_options_that_are_ours_are_put_beside_those_of_others() -> None:
    """Where a migrating VM's port may be (bug row 59)."""
    seen = make_row()._replace(options=(("arp_proxy", "x"), ("requested-chassis", "old")))
    bidder = bidder_of(make_pod(notes=notes_of()))

    def options(wanted: dict[str, str] | None) -> tuple[tuple[str, str], ...]:
        request = Request((bidder,), place_of(make_subnet()), "veth-pair", options=wanted)
        decision = realise(request, bidder, held_by(row=seen), GRANT)
        return next((e.row.options for e in decision.effects if isinstance(e, PutPort)), seen.options)

    assert options({"requested-chassis": "a,b"}) == (("arp_proxy", "x"), ("requested-chassis", "a,b"))
    assert options({}) == (("arp_proxy", "x"),)
    assert options(None) == seen.options
