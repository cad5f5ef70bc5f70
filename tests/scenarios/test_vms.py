"""KubeVirt VMs, played by the test: their addresses outlive their pods and end with them (contract §5, scenario 2)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.scenarios.stage import Keeper, Object, Stage, eventually, notes, pod, ports

KUBEVIRT = "kubevirt.io/v1"


def owned(kind: str, one: Object) -> Object:
    """An owner reference to that object."""
    meta = one["metadata"]
    return {"apiVersion": KUBEVIRT, "kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True}


class Machine:
    """One VM of a story, in a subnet of its own."""

    def __init__(self, stage: Stage, net: str = "") -> None:
        self.stage, self.api, self.name = stage, stage.api, f"{stage.tag}-vm"
        self.net, self.port, self.lives = net or stage.net(), f"{self.name}.default", 0
        self.make()

    def object(self, kind: str, **more: Any) -> Object:
        """Something of KubeVirt's, of that VM's name."""
        meta = {"name": self.name, "namespace": "default"} | more.pop("metadata", {})
        return {"apiVersion": KUBEVIRT, "kind": kind, "metadata": meta, **more}

    def make(self) -> None:
        """Create the VM, stopped."""
        template = {"metadata": {"annotations": {"ovn.kubernetes.io/logical_switch": self.net}}}
        self.vm = self.stage.add("vm", self.object("VirtualMachine", spec={"template": template}))

    def start(self) -> Object:
        """Start it: its VMI and a launcher pod, which runs."""
        refs = {"ownerReferences": [owned("VirtualMachine", self.vm)]}
        self.vmi = self.stage.add("vmi", self.object("VirtualMachineInstance", metadata=refs, spec={}))
        return self.stage.runs(self.launch())

    def launch(self, job: str = "", node: str = "") -> str:
        """Create a launcher pod; its name."""
        self.lives += 1
        name = f"virt-launcher-{self.name}-{self.lives}"
        body = pod(name, subnet=self.net, owner=owned("VirtualMachineInstance", self.vmi))
        body["spec"] |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 30}
        if job:
            body["metadata"]["annotations"]["kubevirt.io/migrationJobName"] = job
        if node:
            body["spec"]["nodeName"] = node
        self.stage.add("pod", body)
        return name

    def stop(self) -> None:
        """Stop it: the VMI goes, and its pods with it: the garbage collector looks for new kinds every 30 s."""
        self.api.delete("vmi", self.name)
        self.api.gone("vmi", self.name)
        for number in range(1, self.lives + 1):
            self.api.gone("pod", f"virt-launcher-{self.name}-{number}", seconds=90)

    def kept(self) -> tuple[Object, Object]:
        """Its IP and its port."""
        return self.api.get("ip", self.port), ports(self.stage.cluster)[self.port]

    def freed(self, seconds: float = 15.0) -> None:
        """Wait until nothing of it is left."""
        self.api.gone("ip", self.port, seconds=seconds)
        self.stage.no_port(self.port)

    def options(self) -> dict[str, str]:
        """The options of its port."""
        found: dict[str, str] = ports(self.stage.cluster)[self.port]["options"]
        return found

    def migration(self, name: str, phase: str) -> None:
        """Let a migration be in that phase."""
        if self.api.find("migration", name) is None:
            body = self.object("VirtualMachineInstanceMigration", metadata={"name": name}, spec={"vmiName": self.name})
            self.stage.add("migration", body)
        self.api.patch("migration", name, {"status": {"phase": phase}}, sub="status")


@pytest.fixture(scope="module")
def kubevirt(cluster: Cluster, keeper: Keeper) -> None:
    """KubeVirt's CRDs, and a controller that knows of them: only then does an IP say for which VM it was made."""
    cluster.serve("kubevirt")
    keeper.reads("VirtualMachine", "VirtualMachineInstance", "VirtualMachineInstanceMigration")


def test_what_a_vm_had_is_kept_until_anybody_can_tell_whether_it_exists(stage: Stage, cluster: Cluster) -> None:
    """KubeVirt's CRDs are not served: unknown, not gone (Rule 2). When they come, what is proven gone is freed."""
    net, name = stage.net(), f"{stage.tag}-old"
    owner = {"apiVersion": KUBEVIRT, "kind": "VirtualMachineInstance", "name": name, "uid": "0-0-0", "controller": True}
    launcher = stage.running(f"virt-launcher-{name}", subnet=net, owner=owner)
    stage.drop(launcher["metadata"]["name"])
    stage.keeper.quiet()
    assert stage.api.get("ip", f"{name}.default")["spec"]["ipAddress"] == notes(launcher)["ip_address"]
    assert f"{name}.default" in ports(stage.cluster)
    cluster.serve("kubevirt")
    stage.api.gone("ip", f"{name}.default", seconds=40)
    stage.no_port(f"{name}.default")


@pytest.mark.usefixtures("kubevirt")
def test_a_vm_keeps_address_mac_and_port_while_it_is_stopped(stage: Stage) -> None:
    """Stop and start, twice: the IP object's spec and the port are the same (kube-ovn-behaviour §21)."""
    vm = Machine(stage)
    first = vm.start()
    ip, row = vm.kept()
    assert ip["spec"]["podType"] == "VirtualMachine"
    assert ip["metadata"]["annotations"]["keepip.io/owner-uid"] == vm.vm["metadata"]["uid"]
    for _ in range(2):
        vm.stop()
        stage.keeper.quiet()
        kept, port = vm.kept()
        assert kept["spec"] | {"nodeName": ""} == ip["spec"] | {"nodeName": ""}
        assert port["addresses"] == row["addresses"]
        assert vm.options() == {}
        again = vm.start()
        assert again["status"]["podIP"] == first["status"]["podIP"]
        assert notes(again)["mac_address"] == notes(first)["mac_address"]
        assert notes(again)["virtualmachine"] == vm.name
    stage.numbers(vm.net, 1, 252)


@pytest.mark.usefixtures("kubevirt")
@pytest.mark.parametrize("down", [False, True])
def test_a_vm_that_is_deleted_while_it_is_stopped_leaves_nothing(stage: Stage, down: bool) -> None:  # noqa: FBT001
    """Bug row 13; also when nobody looked (row 9)."""
    vm = Machine(stage)
    vm.start()
    vm.stop()
    vm.kept()
    if down:
        stage.keeper.kill()
    stage.api.delete("vm", vm.name)
    stage.api.gone("vm", vm.name)
    if down:
        stage.keeper.start()
    vm.freed()
    stage.numbers(vm.net, 0, 253)


@pytest.mark.usefixtures("kubevirt")
def test_a_vm_that_is_deleted_while_it_runs_keeps_its_port_until_its_pod_is_gone(stage: Stage) -> None:
    """Bug row 30."""
    vm = Machine(stage)
    name = vm.start()["metadata"]["name"]
    stage.api.patch("pod", name, {"metadata": {"annotations": {"keepip.test/linger": "true"}}})
    stage.api.delete("vm", vm.name)
    stage.api.delete("vmi", vm.name)
    eventually("terminating", lambda: "deletionTimestamp" in stage.api.get("pod", name)["metadata"])
    stage.keeper.quiet()
    vm.kept()
    stage.api.patch("pod", name, {"metadata": {"annotations": {"keepip.test/linger": None}}})
    vm.freed(30)


@pytest.mark.usefixtures("kubevirt")
def test_a_live_migration_shares_the_port_and_tells_ovn_where_it_may_be(stage: Stage) -> None:
    """Options by phase and nodes (bug row 59); the source's end changes nothing that is shared (row 57)."""
    vm = Machine(stage)
    first = vm.start()
    source, name = first["spec"]["nodeName"], first["metadata"]["name"]
    target = "kube-ovn-worker2" if source == "kube-ovn-worker" else "kube-ovn-worker"
    vm.migration(f"{vm.name}-move", "Scheduling")
    second = stage.runs(vm.launch(f"{vm.name}-move", target))
    assert second["status"]["podIP"] == first["status"]["podIP"]
    assert notes(second)["mac_address"] == notes(first)["mac_address"]
    both = {"requested-chassis": f"{source},{target}", "activation-strategy": "rarp"}
    eventually("at both nodes", lambda: vm.options() == both)
    stage.cluster.nbctl("set", "Logical_Switch_Port", vm.port, "options:arp_proxy=x")
    vm.migration(f"{vm.name}-move", "Succeeded")
    eventually("at the target", lambda: vm.options() == {"requested-chassis": target, "arp_proxy": "x"})
    _, row = vm.kept()
    stage.api.patch("pod", name, {"metadata": {"annotations": {"keepip.test/complete": "true"}}})
    eventually("over", lambda: vm.options() == {"arp_proxy": "x"})
    stage.drop(name)
    stage.keeper.quiet()
    _, after = vm.kept()
    assert after["addresses"] == row["addresses"]
    assert stage.api.get("pod", second["metadata"]["name"])["status"]["phase"] == "Running"
    stage.numbers(vm.net, 1, 252)


@pytest.mark.usefixtures("kubevirt")
def test_a_reservation_waits_for_its_vm_and_outlives_it(stage: Stage) -> None:
    """Before the VM exists and while it does; without the VM the port goes, the reservation stays (contract §3)."""
    net = stage.net()
    held = stage.reserved(f"{stage.tag}-vm", net, podType="VirtualMachine")
    assert held["metadata"]["name"] not in ports(stage.cluster)
    vm = Machine(stage, net)
    assert vm.start()["status"]["podIP"] == held["spec"]["v4IpAddress"]
    vm.stop()
    stage.keeper.quiet()
    _, row = vm.kept()
    assert held["spec"]["v4IpAddress"] in row["addresses"]
    stage.api.delete("vm", vm.name)
    stage.no_port(vm.port)
    stage.until("ip", vm.port, "Ready", "True", "Reserved")
    vm.make()
    assert vm.start()["status"]["podIP"] == held["spec"]["v4IpAddress"]


@pytest.mark.usefixtures("kubevirt")
def test_without_keep_vm_ip_each_launcher_is_a_plain_pod(stage: Stage) -> None:
    """Two pods of a migration have two addresses (bug row 58); what was given before stays with its pod."""
    vm = Machine(stage)
    given = vm.start()
    stage.keeper.again("--keep-vm-ip=false")
    try:
        own = stage.runs(vm.launch())
        assert own["status"]["podIP"] != given["status"]["podIP"]
        assert "virtualmachine" not in notes(own)
        names = {vm.port, f"{own['metadata']['name']}.default"}
        assert names <= ports(stage.cluster).keys()
        assert stage.api.get("ip", f"{own['metadata']['name']}.default")["spec"]["podType"] == ""
        vm.stop()
        vm.freed()
        stage.api.gone("ip", f"{own['metadata']['name']}.default")
        stage.numbers(vm.net, 0, 253)
    finally:
        stage.keeper.again()
