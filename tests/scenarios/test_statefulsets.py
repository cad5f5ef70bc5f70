"""StatefulSets by the real kube-controller-manager: who keeps its address, and until when (contract §5, scenario 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.scenarios.stage import Object, Stage, eventually, notes, ports

UID = "keepip.io/owner-uid"


def stateful_set(name: str, net: str, replicas: int, **spec: Any) -> Object:
    """A StatefulSet whose pods are pinned to a subnet."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels, "annotations": {"ovn.kubernetes.io/logical_switch": net}},
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0},
    }
    body = {
        "replicas": replicas,
        "serviceName": name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": template,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": body | spec,
    }


class Web:
    """One StatefulSet of a story, in a subnet of its own."""

    def __init__(self, stage: Stage, replicas: int, **spec: Any) -> None:
        self.stage, self.api, self.name = stage, stage.api, f"{stage.tag}-web"
        self.net = stage.net()
        self.body = stateful_set(self.name, self.net, replicas, **spec)
        self.uid = stage.add("statefulset", self.body)["metadata"]["uid"]

    def pod(self, number: int) -> str:
        """The name of the pod of that ordinal."""
        return f"{self.name}-{number}"

    def has(self, *numbers: int) -> dict[int, tuple[str, str]]:
        """Wait until just these ordinals run, each told of once by pod, IP and port; their addresses and MACs."""

        def look() -> dict[int, tuple[str, str]]:
            wanted = {f"{self.pod(number)}.default" for number in numbers}
            ips = {ip["metadata"]["name"]: ip for ip in self.api.all("ip") if ip["spec"].get("subnet") == self.net}
            rows = {name: row for name, row in ports(self.stage.cluster).items() if name.startswith(f"{self.name}-")}
            assert ips.keys() == wanted, sorted(ips.keys() ^ wanted)
            assert rows.keys() == wanted, sorted(rows.keys() ^ wanted)
            found = {}
            for number in numbers:
                one, port = self.api.get("pod", self.pod(number)), f"{self.pod(number)}.default"
                assert one["status"]["phase"] == "Running", one["status"]
                assert "deletionTimestamp" not in one["metadata"]
                said = (notes(one)["ip_address"], notes(one)["mac_address"])
                assert said == (ips[port]["spec"]["ipAddress"], ips[port]["spec"]["macAddress"]), port
                assert rows[port]["addresses"] == f"{said[1]} {said[0]}", port
                assert rows[port]["external_ids"]["pod-uid"] == one["metadata"]["uid"], port
                assert ips[port]["metadata"]["annotations"][UID] == self.uid, port
                assert ips[port]["spec"]["podType"] == "StatefulSet"
                found[number] = said
            return found

        return eventually(f"{self.name} has {numbers}", look, seconds=60)

    def patch(self, **spec: Any) -> None:
        """Change its spec."""
        self.api.patch("statefulset", self.name, {"spec": spec})

    def gone(self, numbers: Iterable[int]) -> None:
        """Wait until no pod of these ordinals is there."""
        for number in numbers:
            self.api.gone("pod", self.pod(number))

    def uids(self, *numbers: int) -> list[str]:
        """The uids of these pods."""
        return [self.api.get("pod", self.pod(number))["metadata"]["uid"] for number in numbers]

    def anew(self, *numbers: int, but: list[str]) -> dict[int, tuple[str, str]]:
        """Wait until other pods run under these names."""
        eventually("other pods", lambda: not set(self.uids(*numbers)) & set(but), seconds=60)
        return self.has(*numbers)


def test_scaled_to_one_and_back_nothing_stale_is_left(stage: Stage) -> None:
    """3, 1, 3: what is outside the replicas is free at once, who stays keeps its address (bug rows 25 and 30)."""
    web = Web(stage, 3)
    first = web.has(0, 1, 2)
    web.patch(replicas=1)
    assert web.has(0) == {0: first[0]}
    stage.numbers(web.net, 1, 252)
    web.patch(replicas=3)
    assert web.has(0, 1, 2)[0] == first[0]
    assert stage.keeper.metrics().total("keepip_releases_total", cause="scaled_down") >= 2


def test_a_pod_that_is_made_anew_has_the_address_that_it_had(stage: Stage) -> None:
    """Deleted by hand, rolled to another template, drained from its node: address and MAC stay (bug rows 26-28)."""
    web = Web(stage, 2)
    first, pods = web.has(0, 1), web.uids(0, 1)
    stage.api.delete("pod", web.pod(1))
    eventually("another pod 1", lambda: web.uids(1) != pods[1:], seconds=60)
    assert web.has(0, 1) == first
    pods = web.uids(0, 1)
    web.patch(template={"metadata": {"annotations": {"example.com/edition": "2"}}})
    assert web.anew(0, 1, but=pods) == first
    pods, node = web.uids(0, 1), stage.api.get("pod", web.pod(0))["spec"]["nodeName"]
    stage.cluster.kubectl("cordon", node)
    try:
        stage.cluster.kubectl("drain", node, f"--pod-selector=app={web.name}", "--force", "--ignore-daemonsets")
        eventually("another pod 0", lambda: web.uids(0) != pods[:1], seconds=60)
        assert web.has(0, 1) == first
        assert stage.api.get("pod", web.pod(0))["spec"]["nodeName"] != node
    finally:
        stage.cluster.kubectl("uncordon", node)


def test_a_deleted_stateful_set_leaves_nothing(stage: Stage) -> None:
    """Its addresses are free when its pods are gone; one of the same name begins anew (bug row 27)."""
    web = Web(stage, 2)
    web.has(0, 1)
    stage.api.delete("statefulset", web.name)
    web.gone((0, 1))
    assert web.has() == {}
    stage.numbers(web.net, 0, 253)
    web.uid = stage.add("statefulset", web.body)["metadata"]["uid"]
    web.has(0, 1)


def test_one_that_was_replaced_while_nobody_looked_gets_fresh_addresses(stage: Stage) -> None:
    """Deleted and made anew under another UID while the controller is down: not the former one's (contract §5)."""
    web = Web(stage, 2)
    first = web.has(0, 1)
    stage.keeper.kill()
    stage.api.delete("statefulset", web.name)
    web.gone((0, 1))
    web.uid = stage.add("statefulset", web.body)["metadata"]["uid"]
    stage.keeper.start()
    second = web.has(0, 1)
    assert not {mac for _, mac in second.values()} & {mac for _, mac in first.values()}
    stage.numbers(web.net, 2, 251)


def test_pods_that_lived_on_keep_theirs_under_a_new_stateful_set(stage: Stage) -> None:
    """Orphaned and adopted: a running pod's address is its own, and its IP says by whom it is owned now."""
    web = Web(stage, 2)
    first = web.has(0, 1)
    stage.cluster.kubectl("delete", "statefulset", web.name, "--cascade=orphan")
    web.uid = stage.add("statefulset", web.body)["metadata"]["uid"]
    assert web.has(0, 1) == first
    pods = web.uids(0)
    stage.api.delete("pod", web.pod(0))
    eventually("another pod 0", lambda: web.uids(0) != pods, seconds=60)
    assert web.has(0, 1) == first


def test_what_was_scaled_down_while_nobody_looked_is_free_afterwards(stage: Stage) -> None:
    """The pods are long gone, and no event tells of it (bug rows 9 and 14)."""
    web = Web(stage, 3)
    first = web.has(0, 1, 2)
    stage.keeper.kill()
    web.patch(replicas=1)
    web.gone((1, 2))
    assert {f"{web.pod(n)}.default" for n in range(3)} <= ports(stage.cluster).keys()
    stage.keeper.start()
    assert web.has(0) == {0: first[0]}
    stage.numbers(web.net, 1, 252)


def test_ordinals_may_begin_elsewhere(stage: Stage) -> None:
    """Bug row 25: start and replicas both count, also when the start moves."""
    web = Web(stage, 2, ordinals={"start": 9})
    first, pods = web.has(9, 10), web.uids(9, 10)
    stage.api.delete("pod", web.pod(10))
    eventually("another pod 10", lambda: web.uids(10) != pods[1:], seconds=60)
    assert web.has(9, 10) == first
    web.patch(ordinals={"start": 10})
    assert web.has(10, 11)[10] == first[10]


def test_another_subnet_in_the_template_frees_the_old_address(stage: Stage) -> None:
    """The next pod is in the new subnet, nothing stays in the old one (bug rows 17 and 51)."""
    web = Web(stage, 1)
    web.has(0)
    former, web.net = web.net, stage.net()
    web.patch(template={"metadata": {"annotations": {"ovn.kubernetes.io/logical_switch": web.net}}})
    web.has(0)
    stage.numbers(former, 0, 253)
    stage.numbers(web.net, 1, 252)
