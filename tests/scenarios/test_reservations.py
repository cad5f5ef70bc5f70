"""Reservations: what may be asked for, who may use it, what may be edited, how it ends (contract §3)."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any

import pytest

from tests.scenarios.stage import (
    FINALIZER,
    OVN,
    RESERVED,
    Answered,
    Conflict,
    Object,
    Stage,
    condition,
    eventually,
    machine,
    notes,
    pod,
    ports,
    reservation,
    says,
)


def granted(ip: Object, v4: str, v6: str = "", mac: str = "") -> None:
    """Assert the address fields of a reservation as a whole."""
    spec = ip["spec"]
    assert (spec["v4IpAddress"], spec["v6IpAddress"]) == (v4, v6)
    assert spec["ipAddress"] == ",".join(filter(None, (v4, v6)))
    assert not mac or spec["macAddress"] == mac
    assert ip["metadata"]["generation"] == 2
    assert ip["metadata"]["finalizers"] == [FINALIZER]
    subnet = spec["subnet"]
    labels = {RESERVED: "true", OVN + "subnet": subnet, OVN + "node-name": spec["nodeName"], subnet: ""}
    assert labels.items() <= ip["metadata"]["labels"].items()


# -- what may be asked for -----------------------------------------------------------------------------


def test_dynamic_addresses_are_the_lowest_never_used_ones(stage: Stage) -> None:
    """Gateway, excludes, network and broadcast are left out, a released address comes last."""
    net = stage.net("10.200.1.0/29", gateway="10.200.1.1", excludeIps=["10.200.1.3"])
    first = [stage.reserved(f"{stage.tag}-{i}", net)["spec"]["v4IpAddress"] for i in range(2)]
    assert first == ["10.200.1.2", "10.200.1.4"]
    stage.forget("ip", f"{stage.tag}-0.default")
    rest = [stage.reserved(f"{stage.tag}-{i}", net)["spec"]["v4IpAddress"] for i in (2, 3, 4)]
    assert rest == ["10.200.1.5", "10.200.1.6", "10.200.1.2"]


def test_a_static_address_may_lie_among_the_excluded(stage: Stage) -> None:
    """An address inside excludeIps may be asked for by name."""
    net = stage.net("10.200.2.0/24", excludeIps=["10.200.2.100..10.200.2.110"])
    granted(stage.reserved(f"{stage.tag}-a", net, v4IpAddress="10.200.2.105"), "10.200.2.105")


def test_a_mac_may_be_asked_for_with_and_without_an_address(stage: Stage) -> None:
    """The MAC is taken as written, dynamic or static address."""
    net = stage.net("10.200.3.0/24")
    one = stage.reserved(f"{stage.tag}-a", net, macAddress="02:00:00:00:03:01")
    two = stage.reserved(f"{stage.tag}-b", net, macAddress="02:00:00:00:03:02", v4IpAddress="10.200.3.77")
    granted(one, "10.200.3.2", mac="02:00:00:00:03:01")
    granted(two, "10.200.3.77", mac="02:00:00:00:03:02")
    assert stage.runs_with(f"{stage.tag}-b") == ("10.200.3.77", "02:00:00:00:03:02")


def test_ipv6_subnets_reserve_like_ipv4_ones(stage: Stage) -> None:
    """Dynamic and static IPv6 addresses; the pod runs with what was reserved."""
    net = stage.net("fd00:200:4::/112")
    granted(stage.reserved(f"{stage.tag}-a", net), "", "fd00:200:4::2")
    granted(stage.reserved(f"{stage.tag}-b", net, v6IpAddress="fd00:200:4::abc"), "", "fd00:200:4::abc")
    assert stage.runs_with(f"{stage.tag}-b")[0] == "fd00:200:4::abc"
    status = stage.numbers(net, 2, 2**16 - 2 - 1 - 2, family=6)
    assert (status["v4usingIPs"], status["v4availableIPs"]) == (0, 0)


@pytest.mark.parametrize(
    ("asked", "v4", "v6"),
    [
        ({}, "10.200.5.2", "fd00:200:5::2"),
        ({"v4IpAddress": "10.200.5.9"}, "10.200.5.9", "fd00:200:5::2"),
        ({"v6IpAddress": "fd00:200:5::9"}, "10.200.5.2", "fd00:200:5::9"),
        ({"v4IpAddress": "10.200.5.9", "v6IpAddress": "fd00:200:5::19"}, "10.200.5.9", "fd00:200:5::19"),
    ],
    ids=["none", "v4", "v6", "both"],
)
def test_a_dual_stack_reservation_gets_the_family_it_did_not_name(
    stage: Stage, asked: dict[str, Any], v4: str, v6: str
) -> None:
    """One family given: the other one is chosen."""
    net = stage.net("10.200.5.0/24,fd00:200:5::/112")
    granted(stage.reserved(f"{stage.tag}-a", net, **asked), v4, v6)
    assert stage.runs_with(f"{stage.tag}-a")[0] == f"{v4},{v6}"
    port = ports(stage.cluster)[f"{stage.tag}-a.default"]
    assert port["addresses"].split()[1:] == [v4, v6]


def test_labels_and_finalizers_of_others_are_kept(stage: Stage) -> None:
    """The one patch adds; it takes nothing of other people's away."""
    net = stage.net()
    body = reservation(f"{stage.tag}-a", net)
    body["metadata"] |= {"labels": {"team": "blue"}, "finalizers": ["example.com/theirs"]}
    stage.add("ip", body)
    ip = stage.until("ip", f"{stage.tag}-a.default", "Ready", "True", "Reserved")
    assert ip["metadata"]["labels"]["team"] == "blue"
    assert ip["metadata"]["finalizers"] == ["example.com/theirs", FINALIZER]
    stage.api.delete("ip", f"{stage.tag}-a.default")
    eventually(
        "only their finalizer is left",
        lambda: stage.api.get("ip", f"{stage.tag}-a.default")["metadata"]["finalizers"] == ["example.com/theirs"],
    )
    granted(stage.reserved(f"{stage.tag}-b", net, v4IpAddress=ip["spec"]["v4IpAddress"]), ip["spec"]["v4IpAddress"])
    stage.api.patch("ip", f"{stage.tag}-a.default", {"metadata": {"finalizers": None}})


# -- scenario 4: the workload exists -------------------------------------------------------------------


def test_the_label_makes_the_ip_of_a_running_pod_a_reservation(stage: Stage) -> None:
    """Scenario 4: from then on it outlives the pod; "false" makes it an ordinary one again."""
    name, net = f"{stage.tag}-a", stage.net()
    ran = notes(stage.running(name, subnet=net))
    port = f"{name}.default"
    own = stage.api.get("ip", port)
    assert own["metadata"]["labels"][RESERVED] == "false"
    assert "conditions" not in own.get("status", {})
    stage.api.patch("ip", port, {"metadata": {"labels": {RESERVED: "true"}}})
    stage.until("ip", port, "Ready", "True", "Reserved")
    stage.drop(name)
    stage.no_port(port)
    kept = stage.until("ip", port, "InUse", "False", "NotInUse")
    assert kept["spec"]["v4IpAddress"] == ran["ip_address"]
    assert kept["metadata"]["uid"] == own["metadata"]["uid"]
    again = notes(stage.running(name, subnet=net))
    assert (again["ip_address"], again["mac_address"]) == (ran["ip_address"], ran["mac_address"])
    stage.api.patch("ip", port, {"metadata": {"labels": {RESERVED: "false"}}})
    eventually("no conditions", lambda: not stage.api.get("ip", port).get("status", {}).get("conditions"))
    stage.drop(name)
    stage.api.gone("ip", port)
    stage.numbers(net, 0, 253)


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "bare"])
def test_the_manifest_on_top_of_a_pods_own_ip_never_harms_the_pod(stage: Stage, labelled: bool) -> None:  # noqa: FBT001
    """With the label it ends as a reservation, without it nothing changes."""
    name, net = f"{stage.tag}-a", stage.net()
    ran = stage.running(name, subnet=net)
    port = f"{name}.default"
    stage._made["ip", "", port] = None
    body = reservation(name, net)
    if labelled:
        body["metadata"]["labels"] = {RESERVED: "true"}
    stage.apply(body)
    if labelled:
        stage.until("ip", port, "InUse", "True", "InUse")
    stage.keeper.quiet()
    ip = stage.api.get("ip", port)
    assert ip["metadata"]["labels"][RESERVED] == ("true" if labelled else "false")
    assert ip["spec"]["v4IpAddress"] == notes(ran)["ip_address"]
    now = stage.api.get("pod", name)
    assert notes(now) == notes(ran)
    assert now["status"]["podIP"] == ran["status"]["podIP"]
    assert ports(stage.cluster)[port]["addresses"] == f"{notes(ran)['mac_address']} {notes(ran)['ip_address']}"
    stage.drop(name)
    if labelled:
        stage.until("ip", port, "InUse", "False", "NotInUse")
    else:
        stage.api.gone("ip", port)


def test_reservations_written_while_pods_are_being_given_addresses_end_well(stage: Stage) -> None:
    """Whoever came first: pod and IP have one address, or the IP that wants another is refused and holds nothing."""
    net = stage.net()
    names = [f"{stage.tag}-{i}" for i in range(16)]
    for i, name in enumerate(names):
        if i % 2:
            stage.pod(name, subnet=net)
        with suppress(Conflict):  # the pod's own IP was there first
            stage.reserve(name, net, **({"v4IpAddress": stage.inside(net, 100 + i)} if i % 4 >= 2 else {}))
        if not i % 2:
            stage.pod(name, subnet=net)
    for name in names:
        stage.runs(name)
    stage.keeper.quiet()
    rows, seen = ports(stage.cluster), set()
    for name in names:
        ip, has = stage.api.get("ip", f"{name}.default"), notes(stage.api.get("pod", name))
        stage._made["ip", "", f"{name}.default"] = None
        assert rows[f"{name}.default"]["addresses"] == f"{has['mac_address']} {has['ip_address']}"
        assert has["ip_address"] not in seen
        seen.add(has["ip_address"])
        if ip["metadata"].get("finalizers"):
            assert ip["spec"]["v4IpAddress"] == has["ip_address"]
            assert ip["spec"]["macAddress"] == has["mac_address"]
        else:
            says(ip, "Ready", "False", "ReservationMismatch")


def test_a_request_for_another_address_than_the_pod_runs_with_is_refused(stage: Stage) -> None:
    """The pod keeps its own, the reservation holds nothing, and is granted when the pod is gone."""
    name, net = f"{stage.tag}-a", stage.net()
    ran = notes(stage.running(name, subnet=net))
    port = f"{name}.default"
    stage.keeper.kill()
    stage.api.patch("ip", port, {"metadata": {"finalizers": None}})
    stage.forget("ip", port)
    stage.reserve(name, net, v4IpAddress=stage.inside(net, 200))
    stage.keeper.start()
    stage.refused(port, "ReservationMismatch", "already runs with", ran["ip_address"])
    assert notes(stage.api.get("pod", name))["ip_address"] == ran["ip_address"]
    assert ports(stage.cluster)[port]["addresses"] == f"{ran['mac_address']} {ran['ip_address']}"
    stage.drop(name)
    ip = stage.until("ip", port, "Ready", "True", "Reserved")
    assert ip["spec"]["v4IpAddress"] == stage.inside(net, 200)


# -- use, and refusal of use ---------------------------------------------------------------------------


def test_a_stateful_sets_pod_uses_a_reservation_of_its_kind(stage: Stage) -> None:
    """PodType StatefulSet fits a pod that a StatefulSet owns, the empty podType does not."""
    net = stage.net()
    stage.reserved(f"{stage.tag}-1", net)
    held = stage.reserved(f"{stage.tag}-0", net, podType="StatefulSet")
    body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": stage.tag, "namespace": "default"},
        "spec": {
            "serviceName": stage.tag,
            "replicas": 2,
            "selector": {"matchLabels": {"app": stage.tag}},
            "template": {"metadata": {"labels": {"app": stage.tag}}, "spec": pod("x")["spec"]},
        },
    }
    stage.api.ask("POST", "/apis/apps/v1/namespaces/default/statefulsets", body)
    try:
        assert stage.runs(f"{stage.tag}-0")["status"]["podIP"] == held["spec"]["v4IpAddress"]
        stage.waits(f"{stage.tag}-1", "ReservationMismatch", 'has podType "", the pod has "StatefulSet"')
    finally:
        stage.api.ask("DELETE", f"/apis/apps/v1/namespaces/default/statefulsets/{stage.tag}")
    for number in range(2):
        stage.api.gone("pod", f"{stage.tag}-{number}")
    stage.until("ip", f"{stage.tag}-0.default", "InUse", "False", "NotInUse")
    stage.no_port(f"{stage.tag}-0.default")  # the StatefulSet is gone; the reservation stays
    left = stage.api.get("ip", f"{stage.tag}-0.default")["spec"]
    assert left | {"nodeName": ""} == held["spec"]


@pytest.mark.parametrize(
    ("attribute", "spec", "asks"),
    [
        ("podType", {"podType": "VirtualMachine"}, {}),
        ("podType", {"podType": "StatefulSet"}, {}),
        ("podType", {}, {"owner": machine("{name}")}),
        ("subnet", {}, {"subnet": "{other}"}),
        ("address", {"v4IpAddress": "{ip:9}"}, {"ip_address": "{ip:10}"}),
        ("address", {}, {"ip_pool": "{ip:20},{ip:21}"}),
        ("macAddress", {"macAddress": "02:00:00:00:aa:01"}, {"mac_address": "02:00:00:00:aa:02"}),
    ],
    ids=["vm", "sts", "plain", "subnet", "ip", "pool", "mac"],
)
def test_a_pod_that_does_not_agree_gets_no_address_until_either_side_changes(
    stage: Stage, attribute: str, spec: dict[str, Any], asks: dict[str, Any]
) -> None:
    """Event on the pod with the attribute, condition on the IP; deleting the reservation heals it."""
    name, net, other = f"{stage.tag}-0", stage.net(), stage.net()

    def fill(text: Any) -> Any:
        if isinstance(text, dict):
            return {key: fill(value) for key, value in text.items()}
        if not isinstance(text, str):
            return text
        for number in (9, 10, 20, 21):
            text = text.replace(f"{{ip:{number}}}", stage.inside(net, number))
        return text.replace("{name}", name).replace("{other}", other)

    port = f"{name}.default"
    held = stage.reserved(name, net, **fill(spec))
    waiting = f"launch-{name}" if "owner" in asks else name
    stage.pod(waiting, **({"subnet": net} | fill(asks)))
    stage.waits(waiting, "ReservationMismatch", f"has {attribute} ", "delete the reservation")
    shown = stage.until("ip", port, "InUse", "False", "ReservationMismatch")
    says(shown, "Ready", "True", "Reserved")
    assert shown["spec"] == held["spec"]
    assert stage.api.told("IP", port, "ReservationMismatch")
    assert any(reason == "AcquireAddressFailed" for reason, _ in stage.api.events("Pod", waiting))
    stage.api.delete("ip", port)
    ran = stage.runs(waiting, seconds=20)
    assert ran["status"]["podIP"]


def test_a_waiting_pod_is_served_when_the_pod_itself_is_changed(stage: Stage) -> None:
    """Healing from the pod's side: the annotation that differs is taken away."""
    name, net = f"{stage.tag}-a", stage.net()
    held = stage.reserved(name, net)
    stage.pod(name, ip_address=stage.inside(net, 50))
    stage.waits(name, "ReservationMismatch", stage.inside(net, 50))
    stage.api.patch("pod", name, {"metadata": {"annotations": {OVN + "ip_address": None}}})
    assert stage.runs(name)["status"]["podIP"] == held["spec"]["v4IpAddress"]
    stage.until("ip", f"{name}.default", "InUse", "True", "InUse")


def test_a_reservation_is_for_one_namespace_by_its_very_name(stage: Stage) -> None:
    """A pod of the same name elsewhere is somebody else: it gets an address of its own."""
    net, space = stage.net(), stage.namespace()
    held = stage.reserved(f"{stage.tag}-a", net)
    ran = stage.running(f"{stage.tag}-a", space, subnet=net)
    assert ran["status"]["podIP"] != held["spec"]["v4IpAddress"]
    stage.until("ip", f"{stage.tag}-a.default", "InUse", "False", "NotInUse")


@pytest.mark.parametrize("how", ["ip_address", "ip_pool", "reservation", "mac_address"])
def test_nobody_else_gets_a_reserved_address_by_asking(stage: Stage, how: str) -> None:
    """Asking by annotation, list or reservation is refused and names the owner; deleting the owner's IP heals it."""
    net = stage.net()
    held = stage.reserved(f"{stage.tag}-a", net)
    address, mac = held["spec"]["v4IpAddress"], held["spec"]["macAddress"]
    thief = f"{stage.tag}-thief"
    if how == "reservation":
        stage.reserve(thief, net, v4IpAddress=address)
        stage.refused(f"{thief}.default", "AddressConflict", address, f"{stage.tag}-a.default")
        stage.forget("ip", f"{stage.tag}-a.default")
        assert stage.until("ip", f"{thief}.default", "Ready", "True", "Reserved")["spec"]["v4IpAddress"] == address
        return
    stage.pod(thief, subnet=net, **{how: mac if how == "mac_address" else address})
    reason = "MACConflict" if how == "mac_address" else "AddressConflict"
    stage.waits(thief, reason, mac if how == "mac_address" else address)
    stage.forget("ip", f"{stage.tag}-a.default")
    ran = stage.runs(thief)
    assert notes(ran)["mac_address"] == mac if how == "mac_address" else ran["status"]["podIP"] == address


# -- immutability --------------------------------------------------------------------------------------

EDITS = {
    "subnet": "elsewhere",
    "podName": "another",
    "namespace": "kube-system",
    "podType": "StatefulSet",
    "v4IpAddress": "10.200.9.99",
    "macAddress": "02:00:00:00:00:99",
}


@pytest.mark.parametrize("field", EDITS)
def test_an_edit_is_refused_by_the_policy(stage: Stage, field: str) -> None:
    """The shipped ValidatingAdmissionPolicy says what to do instead."""
    held = stage.reserved(f"{stage.tag}-a", stage.net(), podType="VirtualMachine")
    with pytest.raises(Answered, match="cannot be changed: to have another"):
        stage.api.patch("ip", held["metadata"]["name"], {"spec": {field: EDITS[field]}})
    assert stage.api.get("ip", held["metadata"]["name"])["spec"] == held["spec"]


def test_without_the_policy_every_edit_is_undone_by_the_controller(stage: Stage) -> None:
    """The address held never changes, an Event says that it does not, others cannot have it meanwhile."""
    held = stage.reserved(f"{stage.tag}-a", stage.net(), podType="VirtualMachine")
    name = held["metadata"]["name"]
    stage.cluster.kubectl("delete", "validatingadmissionpolicybinding", "keepip-ips")
    try:
        eventually("the policy is out of force", lambda: not stage.cluster._policy_is_in_force())
        for field, value in EDITS.items():
            edited = stage.api.patch("ip", name, {"spec": {field: value}})
            assert edited["spec"][field] == value

            def undone() -> bool:
                assert stage.api.get("ip", name)["spec"] == held["spec"]
                return True

            eventually(f"the edit of {field} is undone", undone)
        assert "was set back" in stage.api.told("IP", name, "AttributeChangeRefused")
        stage.api.patch("ip", name, {"spec": None})

        eventually("the dropped spec is put back", lambda: _same(stage.api.get("ip", name), held))
    finally:
        stage.cluster.kubectl("apply", "--server-side", "-k", "manifests/policy")
        eventually("the policy is in force", stage.cluster._policy_is_in_force, seconds=30)
    assert stage.api.get("ip", name)["status"]["recorded"] == held["status"]["recorded"]


def _same(ip: Object, held: Object) -> bool:
    fields = ("subnet", "podName", "namespace", "podType", "v4IpAddress", "v6IpAddress", "ipAddress", "macAddress")
    spec = ip.get("spec", {})
    assert {f: spec.get(f) or "" for f in fields} == {f: held["spec"][f] for f in fields}, spec
    return True


def test_a_careless_replace_with_the_original_manifest_loses_nothing(stage: Stage) -> None:
    """`kubectl replace` with the manifest as first written: past the policy, labels and finalizer are put back."""
    name, net = f"{stage.tag}-a", stage.net()
    held = stage.reserved(name, net)
    port = f"{name}.default"
    body = reservation(name, net)
    body["metadata"]["resourceVersion"] = stage.api.get("ip", port)["metadata"]["resourceVersion"]
    with pytest.raises(Answered, match="cannot be changed"):
        stage.api.ask("PUT", stage.api.path("ip", port), body)
    body["spec"] = held["spec"]
    stage.api.ask("PUT", stage.api.path("ip", port), body)

    def back() -> bool:
        now = stage.api.get("ip", port)
        assert now["metadata"].get("labels") == held["metadata"]["labels"], now["metadata"]
        assert now["metadata"].get("finalizers") == [FINALIZER], now["metadata"]
        assert now["spec"] == held["spec"]
        return True

    eventually("labels and finalizer are back", back)


def test_a_vanished_label_is_put_back_and_a_strange_one_too(stage: Stage) -> None:
    """Only "false" is a decision."""
    held = stage.reserved(f"{stage.tag}-a", stage.net())
    name = held["metadata"]["name"]
    for value in (None, "", "maybe"):
        stage.api.patch("ip", name, {"metadata": {"labels": {RESERVED: value}}})
        eventually("the label is back", lambda: stage.api.get("ip", name)["metadata"]["labels"].get(RESERVED) == "true")


# -- the end -------------------------------------------------------------------------------------------


def test_false_ends_a_reservation_and_an_idle_address_is_freed(stage: Stage) -> None:
    """Without a pod the ordinary IP has no owner: it goes, and its address is free."""
    held = stage.reserved(f"{stage.tag}-a", stage.net())
    stage.api.patch("ip", held["metadata"]["name"], {"metadata": {"labels": {RESERVED: "false"}}})
    stage.api.gone("ip", held["metadata"]["name"])
    stage.numbers(held["spec"]["subnet"], 0, 253)


def test_an_ip_in_use_outlives_its_own_deletion(stage: Stage) -> None:
    """It terminates, says by whom it is used, and goes with the pod; a new pod of that name waits for the end."""
    name, net = f"{stage.tag}-a", stage.net()
    held = stage.reserved(name, net)
    stage.running(name)
    port = f"{name}.default"
    stage.api.delete("ip", port)

    def waiting() -> Object:
        ip = stage.api.get("ip", port)
        assert "the IP goes as soon as" in says(ip, "InUse", "True", "InUse")["message"]
        return ip

    ip = eventually("it says what it waits for", waiting)
    assert ip["metadata"]["deletionTimestamp"]
    assert ip["status"]["usedBy"] == f"default/{name}"
    assert stage.api.get("pod", name)["status"]["podIP"] == held["spec"]["v4IpAddress"]
    assert port in ports(stage.cluster)
    stage.drop(name)
    stage.api.gone("ip", port)
    stage.no_port(port)
    stage.numbers(net, 0, 253)


def test_a_terminating_reservation_is_used_by_no_new_pod(stage: Stage) -> None:
    """While somebody's finalizer keeps it, a pod of its name waits, and is served when it is gone."""
    name, net = f"{stage.tag}-a", stage.net()
    body = reservation(name, net)
    body["metadata"]["finalizers"] = ["example.com/theirs"]
    stage.add("ip", body)
    stage.until("ip", f"{name}.default", "Ready", "True", "Reserved")
    stage.api.delete("ip", f"{name}.default")
    stage.pod(name, subnet=net)
    stage.waits(name, "ReservationMismatch", "is being deleted")
    stage.api.patch("ip", f"{name}.default", {"metadata": {"finalizers": None}})
    stage.runs(name)


def test_without_protection_deleting_the_ip_cuts_the_pod_off(stage: Stage) -> None:
    """`--protect-in-use=false`, as the document can be read."""
    name, net = f"{stage.tag}-a", stage.net()
    stage.keeper.again("--protect-in-use=false")
    try:
        stage.reserved(name, net)
        stage.running(name)
        stage.forget("ip", f"{name}.default")
        stage.no_port(f"{name}.default")
        eventually("the pod is marked", lambda: "allocated" not in notes(stage.api.get("pod", name)))
        stage.numbers(net, 0, 253)
    finally:
        stage.keeper.again()


@pytest.mark.parametrize("used", [False, True], ids=["idle", "used"])
def test_a_forced_removal_of_the_finalizer_frees_the_address(stage: Stage, used: bool) -> None:  # noqa: FBT001
    """Idle: free at once. In use: the pod keeps its network and gets an ordinary IP of its own."""
    name, net = f"{stage.tag}-a", stage.net()
    held = stage.reserved(name, net)
    port = f"{name}.default"
    if used:
        stage.running(name)
    stage.keeper.kill()
    stage.api.delete("ip", port)
    stage.api.patch("ip", port, {"metadata": {"finalizers": None}})
    stage.api.gone("ip", port)
    stage.keeper.start()
    if used:
        ip = eventually("the pod's own IP", lambda: stage.api.find("ip", port))
        assert ip["spec"]["v4IpAddress"] == held["spec"]["v4IpAddress"]
        assert ip["metadata"]["labels"][RESERVED] == "false"
        assert stage.api.get("pod", name)["status"]["podIP"] == held["spec"]["v4IpAddress"]
        stage.drop(name)
        stage.api.gone("ip", port)
    stage.numbers(net, 0, 253)


def test_a_finalizer_removed_from_a_living_reservation_is_put_back(stage: Stage) -> None:
    """A careless edit does not end a promise."""
    held = stage.reserved(f"{stage.tag}-a", stage.net())
    name = held["metadata"]["name"]
    stage.api.patch("ip", name, {"metadata": {"finalizers": None}})
    eventually("the finalizer is back", lambda: stage.api.get("ip", name)["metadata"].get("finalizers") == [FINALIZER])
    assert stage.api.get("ip", name)["spec"] == held["spec"]


ORDERS = list(itertools.permutations(("ip", "pod", "subnet", "namespace")))


def test_everything_may_be_deleted_in_any_order(stage: Stage) -> None:
    """24 permutations of IP, pod, subnet and namespace, at once: nothing stays, no finalizer, no port."""
    nets, spaces = [], []
    for i in range(len(ORDERS)):
        nets.append(f"{stage.tag}-order{i}")
        stage.add(
            "subnet",
            {
                "apiVersion": "kubeovn.io/v1",
                "kind": "Subnet",
                "metadata": {"name": nets[i]},
                "spec": {"cidrBlock": f"10.201.{i}.0/24"},
            },
        )
        spaces.append(stage.namespace(f"{stage.tag}-order{i}"))
        stage.reserve("a", nets[i], spaces[i])
    for space in spaces:
        stage.until("ip", f"a.{space}", "Ready", "True", "Reserved")
        stage.pod("a", space)
    for space in spaces:
        stage.runs("a", space)
    for i, order in enumerate(ORDERS):
        what = {
            "ip": ("ip", f"a.{spaces[i]}", "default"),
            "pod": ("pod", "a", spaces[i]),
            "subnet": ("subnet", nets[i], "default"),
            "namespace": ("namespace", spaces[i], "default"),
        }
        for kind in order:
            stage.api.delete(*what[kind])
    for i in range(len(ORDERS)):
        for kind, name in (("ip", f"a.{spaces[i]}"), ("subnet", nets[i]), ("namespace", spaces[i])):
            stage.api.gone(kind, name)
        stage.no_port(f"a.{spaces[i]}")
        with pytest.raises(RuntimeError, match="switch name not found"):
            stage.cluster.nbctl("lsp-list", nets[i])


@pytest.mark.parametrize("order", [("ip", "pod"), ("pod", "ip"), ("subnet", "pod", "ip"), ("subnet", "ip", "pod")])
def test_one_after_the_other_is_as_good_as_all_at_once(stage: Stage, order: tuple[str, ...]) -> None:
    """Each deletion is awaited as far as it can go before the next."""
    name, net = f"{stage.tag}-a", stage.net()
    stage.reserved(name, net)
    stage.running(name)
    port = f"{name}.default"
    for kind in order:
        if kind == "pod":
            stage.drop(name)
            stage.no_port(port)
        elif kind == "subnet":
            stage.api.delete("subnet", net)
            shown = stage.until("subnet", net, "Ready", "False", "SubnetInUse")
            assert port in condition(shown, "Ready")["message"]
        else:
            stage.api.delete("ip", port)
            if stage.api.find("pod", name) is None:
                stage.api.gone("ip", port)
            else:
                stage.until("ip", port, "InUse", "True", "InUse")
    stage.api.gone("ip", port)
    if "subnet" in order:
        stage.api.gone("subnet", net)


def test_a_reservation_outlives_a_subnet_that_was_torn_away(stage: Stage) -> None:
    """Somebody strips the subnet's finalizers: the IP says so and is well again when the subnet is back."""
    net, cidr = stage.net("10.200.11.0/24"), "10.200.11.0/24"
    held = stage.reserved(f"{stage.tag}-a", net)
    name = held["metadata"]["name"]
    stage.api.delete("subnet", net)
    stage.api.patch("subnet", net, {"metadata": {"finalizers": None}})
    stage.api.gone("subnet", net)
    lost = stage.until("ip", name, "Ready", "False", "SubnetNotFound")
    assert lost["spec"] == held["spec"]
    assert lost["metadata"]["finalizers"] == [FINALIZER]
    stage.net(cidr, name=net)
    back = stage.until("ip", name, "Ready", "True", "Reserved")
    assert back["spec"] == held["spec"]
    assert stage.runs_with(f"{stage.tag}-a")[0] == held["spec"]["v4IpAddress"]
