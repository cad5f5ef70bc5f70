"""Whom a change of a StatefulSet or VM concerns, and what a verdict knows of it: from objects to Views and keys."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import naming
from controller.core.decisions.pod import decide
from controller.core.decisions.retention import MachineOwner, Pods, SetOwner
from controller.core.meta import Meta, OwnerRef
from controller.core.neighbours import (
    Migration,
    MigrationSpec,
    MigrationStatus,
    Multus,
    Ordinals,
    PodTemplate,
    StatefulSet,
    StatefulSetSpec,
    TemplateMeta,
    VirtualMachine,
    VirtualMachineInstance,
    VmiStatus,
    VmNetwork,
    VmPodSpec,
    VmSpec,
    VmTemplate,
)
from controller.core.objects import Kind, Namespace, Pod
from controller.machines.waiting import Waiting
from controller.reconcilers import keys, workloads
from controller.reconcilers.keys import Key
from controller.reconcilers.mirrors import WATCHED
from controller.reconcilers.picture import Picture
from controller.reconcilers.views import Views
from tests.core.worlds import GRANTED, NOW, ORDINARY, _Clock, granted_ip, make_pod, make_row, make_subnet, notes_of

VMI = OwnerRef(kind="VirtualMachineInstance", name="vm-1", uid="vmi", api_version="kubevirt.io/v1")


@pytest.fixture
def picture() -> Picture:
    """A picture that has read everything, and knows subnet net."""
    found = Picture()
    for kind in WATCHED:
        found.replica(kind).replace([], 1)
        found.heard(kind, served=True)
    show(found, Kind.SUBNET, make_subnet())
    return found


def show(picture: Picture, kind: Kind, new: Any, *, gone: bool = False) -> set[Key]:
    replica = picture.replica(kind)
    change = replica.apply(replica.version + 100, new, gone)
    return set(picture.see(kind, change[1], change[2], NOW)) if change is not None else set()


def own(picture: Picture, *names: str, kind: str = "StatefulSet") -> None:
    """Addresses of that kind of owner's pods, in namespace default."""
    for name in names:
        labels = {**GRANTED, **ORDINARY}
        show(picture, Kind.IP, granted_ip(name=f"{name}.default", labels=labels, pod_name=name, pod_type=kind))


def a_set(name: str = "web", uid: str = "u1", notes: dict[str, str] | None = None, **spec: Any) -> StatefulSet:
    template = PodTemplate(metadata=TemplateMeta(annotations=notes or {}))
    meta = Meta(name=name, namespace="default", uid=uid, annotations={"tick": str(spec.pop("tick", ""))})
    return StatefulSet(metadata=meta, spec=StatefulSetSpec(template=template, **spec))


def a_vm(name: str = "vm-1", uid: str = "v1", **network: Any) -> VirtualMachine:
    networks = (VmNetwork(name="default"), *([VmNetwork(name="x", multus=Multus(**network))] if network else []))
    template = VmTemplate(spec=VmPodSpec(networks=networks))
    return VirtualMachine(metadata=Meta(name=name, namespace="default", uid=uid), spec=VmSpec(template=template))


def instance(node: str = "") -> VirtualMachineInstance:
    return VirtualMachineInstance(metadata=Meta(name="vm-1", namespace="default"), status=VmiStatus(node_name=node))


def a_move(phase: str, vmi: str = "vm-1") -> Migration:
    meta = Meta(name="move", namespace="default", uid="m")
    return Migration(metadata=meta, spec=MigrationSpec(vmi_name=vmi), status=MigrationStatus(phase=phase))


def views(picture: Picture, **more: Any) -> Views:
    return Views(picture, Waiting(), {}, _Clock(), busy=lambda _key: False, **more)


# -- whom it concerns ------------------------------------------------------------------------------


def test_a_stateful_sets_change_concerns_its_own_addresses_only(picture: Picture) -> None:
    """Found through an index, in proportion to what it owns; its status is no news, it changes all the time."""
    own(picture, "web-0", "web-10", "web-1-0", "web", "api-0")
    mine = {keys.pod("default", "web-0"), keys.pod("default", "web-10")}

    assert show(picture, Kind.STATEFUL_SET, a_set(replicas=3)) == mine
    assert show(picture, Kind.STATEFUL_SET, a_set(replicas=3, tick="1")) == set()
    assert show(picture, Kind.STATEFUL_SET, a_set(replicas=1)) == mine
    assert show(picture, Kind.STATEFUL_SET, a_set(replicas=1, ordinals=Ordinals(start=1))) == mine
    assert show(picture, Kind.STATEFUL_SET, a_set(notes={"x": "y"})) == mine
    assert show(picture, Kind.STATEFUL_SET, a_set(uid="u2", notes={"x": "y"})) == mine
    assert show(picture, Kind.STATEFUL_SET, a_set(), gone=True) == mine
    assert show(picture, Kind.STATEFUL_SET, a_set("web-1")) == {keys.pod("default", "web-1-0")}


def test_a_vms_change_concerns_the_vm(picture: Picture) -> None:
    """Also that of its instance and its migrations; where an instance runs is no news."""
    mine = {keys.pod("default", "vm-1")}

    assert show(picture, Kind.VM, a_vm()) == mine
    assert show(picture, Kind.VM, a_vm()) == set()
    assert show(picture, Kind.VM, a_vm(network_name="net1")) == mine
    assert show(picture, Kind.VMI, instance()) == mine
    assert show(picture, Kind.VMI, instance("node-a")) == set()
    assert show(picture, Kind.VMI, instance(), gone=True) == mine
    assert show(picture, Kind.MIGRATION, a_move("Scheduling")) == mine
    assert show(picture, Kind.MIGRATION, a_move("Scheduling")) == set()
    assert show(picture, Kind.MIGRATION, a_move("Succeeded")) == mine
    assert show(picture, Kind.MIGRATION, a_move("Succeeded", vmi="vm-2")) == mine | {keys.pod("default", "vm-2")}
    assert show(picture, Kind.MIGRATION, a_move("Succeeded", vmi="")) == {keys.pod("default", "vm-2")}
    assert show(picture, Kind.VM, a_vm(), gone=True) == mine


def test_a_namespace_that_chooses_other_subnets_concerns_what_outlives_its_pods(picture: Picture) -> None:
    own(picture, "web-0")
    own(picture, "vm-1", kind="VirtualMachine")
    own(picture, "plain", kind="")

    def chooses(text: str, **more: str) -> set[Key]:
        notes = {naming.PREFIX + "logical_switch": text} | more
        return show(picture, Kind.NAMESPACE, Namespace(metadata=Meta(name="default", annotations=notes)))

    space, kept = {keys.namespace("default")}, {keys.pod("default", "web-0"), keys.pod("default", "vm-1")}
    assert chooses("net") == space | kept
    assert chooses("net", other="note") == space
    assert chooses("other") == space | kept


def test_kubevirts_coming_concerns_all_vms_addresses(picture: Picture) -> None:
    """Until then nobody could tell whether their VMs exist."""
    own(picture, "web-0")
    own(picture, "vm-1", kind="VirtualMachine")

    assert set(workloads.come_to_light(picture, Kind.VM)) == {keys.pod("default", "vm-1")}
    assert set(workloads.come_to_light(picture, Kind.NAD)) == set()
    assert picture.heard(Kind.VM, served=False)
    assert not picture.heard(Kind.VM, served=False)
    assert picture.heard(Kind.VM, served=True)
    assert not picture.heard(Kind.VM, served=True)


# -- what is known ---------------------------------------------------------------------------------


def test_a_stateful_set_is_known_as_far_as_it_was_read(picture: Picture) -> None:
    """Unread and unreadable are unknown, absent is gone (bug rows 4 and 29)."""
    owner = naming.Owner("default", "web-1")

    def known() -> SetOwner:
        found = workloads.known(picture, "StatefulSet", owner)
        assert isinstance(found, SetOwner)
        return found

    assert known() == SetOwner(served=True, state=None)
    show(picture, Kind.STATEFUL_SET, a_set(replicas=3, ordinals=Ordinals(start=2), notes={"a": "b"}))
    state = known().state
    assert state is not None
    assert (state.uid, state.deleting, state.start, state.replicas) == ("u1", False, 2, 3)
    assert state.template.annotations == {"a": "b"}
    show(picture, Kind.STATEFUL_SET, StatefulSet(metadata=Meta(name="web", namespace="default"), fault="replicas: 'x'"))
    assert not known().served
    assert workloads.known(picture, "", owner) is None
    assert not workloads.known(Picture(), "StatefulSet", owner).served  # type: ignore[union-attr]


def test_a_vm_is_known_as_far_as_it_was_read(picture: Picture) -> None:
    owner = naming.Owner("default", "vm-1")

    def known() -> MachineOwner:
        found = workloads.known(picture, "VirtualMachine", owner)
        assert isinstance(found, MachineOwner)
        return found

    assert known() == MachineOwner(served=True, state=None)
    show(picture, Kind.VMI, instance())
    assert known().instance
    show(picture, Kind.VM, a_vm(network_name="net1", default=True))
    state = known().state
    assert state is not None
    assert state.uid == "v1"
    assert [(n.network_name, n.default) for n in state.template.networks] == [("", False), ("net1", True)]
    picture.heard(Kind.VMI, served=False)
    assert not known().served
    picture.heard(Kind.VMI, served=True)
    show(picture, Kind.VM, VirtualMachine(metadata=Meta(name="vm-1", namespace="default"), fault="broken"))
    assert not known().served
    assert workloads.known(Picture(keep_vm_ip=False), "VirtualMachine", owner) == MachineOwner(served=False, keep=False)


def test_the_very_one_that_was_seen_going_is_known_by_its_uid(picture: Picture) -> None:
    """It will never be there again; of another of its name the replica may be late to tell."""
    web, vm = naming.Owner("default", "web-1"), naming.Owner("default", "vm-1")
    for kind, one in ((Kind.STATEFUL_SET, a_set()), (Kind.VM, a_vm())):
        show(picture, kind, one)
        show(picture, kind, one, gone=True)

    assert workloads.gone(picture, web) == {"u1"}
    assert workloads.gone(picture, vm) == {"v1"}
    assert workloads.gone(picture, naming.Owner("default", "web")) == frozenset()
    show(picture, Kind.VM, a_vm(uid="v2"))
    assert workloads.gone(picture, vm) == frozenset()


# -- views -----------------------------------------------------------------------------------------


def test_a_view_of_an_owner_has_the_grounds_for_what_is_left_over(picture: Picture) -> None:
    own(picture, "web-1")
    show(picture, Kind.STATEFUL_SET, a_set(replicas=3))
    notes = {naming.PREFIX + "logical_switch": "net,other"}
    show(picture, Kind.NAMESPACE, Namespace(metadata=Meta(name="default", annotations=notes)))
    grounds = views(picture).pod("default", "web-1").grounds

    assert grounds.workloads == {
        "StatefulSet": workloads.known(picture, "StatefulSet", naming.Owner("default", "web-1"))
    }
    assert grounds.listed == ("net", "other")
    assert (grounds.gone_proved, grounds.pods, grounds.migrates) == (False, Pods.NONE, True)
    own(picture, "plain", kind="")
    assert views(picture).pod("default", "plain").grounds.workloads == {}
    assert not views(picture, migration_options=False).pod("default", "web-1").grounds.migrates


def launcher(name: str, node: str, created: str, job: str = "", **notes: str) -> Pod:
    found = make_pod(f"virt-{name}", owner=VMI, node=node, uid=name, notes=notes)
    also = {"kubevirt.io/migrationJobName": job} if job else {}
    meta = Meta(
        name=found.metadata.name,
        namespace="default",
        uid=name,
        creation_timestamp=created,
        annotations=found.metadata.annotations | also,
        owner_references=(VMI,),
    )
    return Pod(metadata=meta, spec=found.spec, status=found.status)


def test_the_options_of_a_moving_vms_port_follow_its_migration(picture: Picture) -> None:
    """Of two pods of one second the target is the younger (bug row 59)."""
    show(picture, Kind.VM, a_vm())
    show(picture, Kind.POD, launcher("b", "node-a", "2026-01-01T00:00:00Z"))
    (nic,) = views(picture).pod("default", "vm-1").nics
    assert nic.options == {}
    assert nic.owner_uid == "v1"
    show(picture, Kind.POD, launcher("a", "node-b", "2026-01-01T00:00:00Z", "move"))
    (nic,) = views(picture).pod("default", "vm-1").nics
    assert nic.options is None, "the migration is not shown yet"
    show(picture, Kind.MIGRATION, a_move("Scheduling"))
    (nic,) = views(picture).pod("default", "vm-1").nics
    assert nic.options == {"requested-chassis": "node-a,node-b", "activation-strategy": "rarp"}
    (nic,) = views(picture, migration_options=False).pod("default", "vm-1").nics
    assert nic.options is None, "not ours to write"
    picture.heard(Kind.MIGRATION, served=False)
    (nic,) = views(picture).pod("default", "vm-1").nics
    assert nic.options is None, "nobody can tell"


def test_a_launcher_pod_that_is_shown_before_its_vm_waits_for_it(picture: Picture) -> None:
    """Its IP says for which VM it was made: the instance tells, should the VM itself be late as well."""

    def told() -> tuple[bool, str]:
        (nic,) = views(picture).pod("default", "vm-1").nics
        return nic.owner_unseen, nic.owner_uid

    show(picture, Kind.POD, launcher("b", "node-a", "2026-01-01T00:00:00Z"))
    picture.heard(Kind.VMI, served=False)
    assert told() == (False, ""), "nobody can tell, and it may stay so"
    picture.heard(Kind.VMI, served=True)
    assert told() == (True, "")
    show(picture, Kind.VMI, instance())
    assert told() == (False, ""), "made by hand"
    maker = OwnerRef(api_version="kubevirt.io/v1", kind="VirtualMachine", name="vm-1", uid="v1")
    meta = Meta(name="vm-1", namespace="default", owner_references=(maker,))
    show(picture, Kind.VMI, VirtualMachineInstance(metadata=meta))
    assert told() == (False, "v1")
    show(picture, Kind.VM, a_vm(uid="v2"))
    assert told() == (False, "v2")


def test_the_port_of_a_plain_pod_has_options_of_nobody(picture: Picture) -> None:
    show(picture, Kind.POD, make_pod())
    (nic,) = views(picture).pod("default", "web").nics

    assert nic.options is None
    assert nic.owner_uid == ""


# -- keep-vm-ip ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "notes", "owner"),
    [
        pytest.param(True, {}, "vm-1", id="kept: the VM's name"),
        pytest.param(False, {}, "virt-x", id="not kept: a plain pod"),
        pytest.param(False, {"allocated": "true", "virtualmachine": "vm-1"}, "vm-1", id="given while it was kept"),
        pytest.param(True, {"allocated": "true"}, "virt-x", id="given while it was not"),
        pytest.param(True, {"allocated": "true", "virtualmachine": "vm-1"}, "vm-1", id="as ever"),
        pytest.param(True, {"allocated": "false"}, "vm-1", id="given nothing yet"),
    ],
)
def test_a_launcher_is_its_vms_or_a_plain_pod(keep: bool, notes: dict[str, str], owner: str) -> None:  # noqa: FBT001
    """Decided in one place; a running pod's port is never renamed (bug row 58)."""
    picture = Picture(keep_vm_ip=keep)
    found = show(picture, Kind.POD, launcher("x", "node-a", "", **notes))

    assert found == {keys.pod("default", owner)}
    (pod,) = picture.pods.values()
    assert naming.owner_of(pod) == ("default", owner)
    assert naming.pod_type(pod) == ("VirtualMachine" if owner == "vm-1" else "")


def test_without_keep_vm_ip_a_vms_address_ends_with_its_last_pod() -> None:
    picture = Picture(keep_vm_ip=False)
    own(picture, "vm-1", kind="VirtualMachine")
    row = make_row(name="vm-1.default", pod="default/vm-1")
    picture.ports.apply(1, 1, True, {"vm-1.default": row}, {})
    notes = notes_of(virtualmachine="vm-1")

    effects = decide(views(picture).pod("default", "vm-1"), NOW).effects
    assert [type(e).__name__ for e in effects] == ["DropPort", "Delete"]
    show(picture, Kind.POD, launcher("x", "node-a", "", **notes))
    assert not any(type(e).__name__ == "DropPort" for e in decide(views(picture).pod("default", "vm-1"), NOW).effects)
