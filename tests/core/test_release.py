"""How ports of nobody are let go of: the effects behind each verdict of retention.py (contract §3 Use, §5)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import naming
from controller.core.decisions.entitlement import Declared
from controller.core.decisions.pod import decide
from controller.core.decisions.retention import MachineOwner, MachineState, Pods, SetOwner, SetState, Template
from controller.core.effects import ConfirmGone, Decision, Delete, DropPort, PutPort
from controller.core.objects import Ip, Kind, Meta, Pod, PodSpec, PodStatus
from controller.reconcilers import relations
from tests.core.worlds import GRANTED, NOW, ORDINARY, granted_ip, held_by, make_row, names, pod_view, told

WEB = naming.Owner("default", "web-1")
PORT = "web-1.default"
STATE = SetState(uid="u1", deleting=False, start=0, replicas=3, template=Template({}))
LIVES = {"StatefulSet": SetOwner(served=True, state=STATE)}
GONE = {"StatefulSet": SetOwner(served=True)}
MADE_FOR = {naming.OWNER_UID: "u1"}
MIGRATING = (("activation-strategy", "rarp"), ("arp_proxy", "x"), ("requested-chassis", "a,b"))


def an_ip(kind: str = "StatefulSet", *, reserved: bool = False, name: str = PORT, **more: Any) -> Ip:
    labels = GRANTED if reserved else {**GRANTED, **ORDINARY}
    more = {"annotations": MADE_FOR} | more
    return granted_ip(name=name, labels=labels, pod_type=kind, pod_name=name.partition(".")[0], **more)


def row_of(name: str = PORT) -> Any:
    return make_row(name=name, pod=f"default/{name.partition('.')[0]}")


def decided(ip: Ip | None = None, **more: Any) -> Decision:
    held = held_by(ip or an_ip(), row_of(), port=PORT)
    return decide(pod_view(**{"owner": WEB, "held": (held,), "gone": frozenset({"u1"})} | more), NOW)


def test_an_owner_that_lives_keeps_port_and_ip() -> None:
    assert decided(workloads=LIVES) == Decision()
    assert decided(workloads={}) == Decision(), "and so does one of which nothing is known"


def test_an_owner_that_is_gone_frees_both_and_says_why() -> None:
    decision = decided(workloads=GONE)

    assert names(decision) == ["ConfirmGone", "DropPort", "DeleteIP"]
    (deleted,) = (e for e in decision.effects if isinstance(e, Delete))
    assert deleted.why == "owner_gone"


def test_an_ip_whose_fields_were_edited_is_let_go_of_by_whom_its_name_tells() -> None:
    """Seed 712: the port was dropped, the deletion got lost, and then nothing led from the IP to its owner."""
    name = "p2.default.net1.default.ovn"
    edited = an_ip("", name=name, namespace="other")
    decision = decide(pod_view(owner=naming.Owner("default", "p2"), held=(held_by(edited, port=name),)), NOW)
    asked = {(e.namespace, e.name) for e in decision.effects if isinstance(e, ConfirmGone)}

    assert asked >= {("net1", "p2.default"), ("default", "p2.default.net1"), ("ovn", "p2.default.net1.default")}
    assert names(decision)[-1] == "DeleteIP"
    assert list(relations.owners_of_ip(edited)) == [("other", "p2"), ("default", "p2")]
    assert list(relations.owners_of_ip(an_ip("", name=name))) == [("default", "p2")]


def test_a_reservation_outlives_its_owner_and_its_port_does_not() -> None:
    """The LSP goes, unless the StatefulSet or VM still exists (contract §3, Use)."""
    assert decided(an_ip(reserved=True), workloads=LIVES) == Decision()
    assert decided(an_ip(reserved=True), workloads=GONE) == Decision(
        (ConfirmGone("default", "web-1"), DropPort(row_of()))
    )


@pytest.mark.parametrize(
    ("kind", "asked"), [("StatefulSet", (ConfirmGone("default", "web-1"),)), ("VirtualMachine", ())]
)
def test_a_kept_port_that_says_otherwise_than_its_ip_goes(kind: str, asked: tuple[ConfirmGone, ...]) -> None:
    """Seeds 78, 79: the next pod's address was on the port when the IP became a reservation of another one; a crash."""
    machine = MachineOwner(served=True, state=MachineState("u1", deleting=False, template=Template({}, (Declared(),))))
    workloads = LIVES | {"VirtualMachine": machine}
    other = make_row("10.0.0.4", name=PORT, pod=str(WEB))
    held = held_by(an_ip(kind, reserved=True), other, port=PORT)
    decision = decide(pod_view(owner=WEB, held=(held,), workloads=workloads), NOW)

    assert decision == Decision((*asked, DropPort(other)))
    others = make_row("10.0.0.4", name=PORT, pod="default/else")
    ordinary, another = held_by(an_ip(kind), other, port=PORT), held_by(an_ip(kind, reserved=True), others, port=PORT)
    assert decide(pod_view(owner=WEB, held=(ordinary,), workloads=workloads), NOW) == decision
    edited = held_by(an_ip(kind), make_row(mac="0a:00:00:00:00:77", name=PORT, pod=str(WEB)), port=PORT)
    assert decide(pod_view(owner=WEB, held=(edited,), workloads=workloads), NOW) == Decision()
    assert decide(pod_view(owner=WEB, held=(another,), workloads=workloads), NOW) == Decision()


def test_for_whom_it_was_made_is_read_from_the_ip() -> None:
    for uid, effects in (("u1", []), ("u0", [*["ConfirmGone"] * 2, "DropPort", "DeleteIP"]), ("", [])):
        notes = {naming.OWNER_UID: uid} if uid else {}
        assert names(decided(an_ip(annotations=notes), workloads=LIVES)) == effects


def test_a_live_pods_former_nic_goes_without_its_owner() -> None:
    """Hot-unplugged; the StatefulSet lives on."""
    assert names(decided(workloads=LIVES, pods=Pods.WITHOUT)) == ["DropPort", "DeleteIP"]
    assert decided(workloads=GONE, pods=Pods.LIVE) == Decision()


def test_the_nics_of_a_stopped_vm_are_let_go_of_one_by_one() -> None:
    """One is declared no more (bug row 18); a declaration that cannot be read keeps all (bug row 4)."""
    names_ = ("vm.default", "vm.default.net1.default.ovn", "vm.default.net2.default.ovn")
    held = tuple(held_by(an_ip("VirtualMachine", name=n), row_of(n), port=n) for n in names_)

    def freed(*networks: str) -> list[str]:
        template = Template({}, (Declared(), *(Declared(text) for text in networks)))
        vm = MachineOwner(served=True, state=MachineState("u1", deleting=False, template=template))
        view = pod_view(owner=naming.Owner("default", "vm"), held=held, workloads={"VirtualMachine": vm})
        return [e.row.name for e in decide(view, NOW).effects if isinstance(e, DropPort)]

    assert freed("net1", "net2") == []
    assert freed("default/net1") == ["vm.default.net2.default.ovn"]
    assert freed("net1", "a/b/c") == []


def test_a_stopped_vms_port_has_no_options_of_a_migration_left() -> None:
    """Bug row 59; other parties' options stay, and ours where they are not ours to write."""
    row = row_of()._replace(options=MIGRATING)
    held = (held_by(an_ip("VirtualMachine"), row, port=PORT),)
    clean = row._replace(options=(("arp_proxy", "x"),), uuid="")

    assert decided(held=held, migrates=True).effects == (PutPort(clean, row),)
    assert decided(held=held, migrates=False) == Decision()
    assert decided(held=held, migrates=True, pods=Pods.WITHOUT) == Decision()
    tidy = (held_by(an_ip("VirtualMachine"), row_of(), port=PORT),)
    assert decided(held=tidy, migrates=True) == Decision()
    of_a_set = (held_by(an_ip(), row, port=PORT),)
    assert decided(held=of_a_set, migrates=True) == Decision()


@pytest.mark.parametrize(("workload", "reasons"), [(GONE, ["PodNetworkReleased"]), (LIVES, [])])
def test_only_what_is_let_go_of_is_told(workload: dict[str, SetOwner], reasons: list[str]) -> None:
    """A finished pod of a StatefulSet keeps its address, and is told nothing else."""
    meta = Meta(name="web-1", namespace="default", uid="p")
    finished = Pod(metadata=meta, spec=PodSpec(restart_policy="Never"), status=PodStatus(phase="Failed"))

    assert told(decided(workloads=workload, finished=finished)) == reasons


def proofs(decision: Decision) -> list[tuple[str, str]]:
    return [(str(e.kind), e.name) for e in decision.effects if isinstance(e, ConfirmGone)]


def test_absence_of_an_owner_is_proved_by_live_reads() -> None:
    """Of the StatefulSet and the pod; absence from a replica is no proof, but for the very one that was seen going.

    A pod is always asked for: one that takes the kept address up may live and not be shown yet (seed 550).
    """
    unproved: dict[str, Any] = {"gone_proved": False, "gone": frozenset[str]()}
    state = SetState("u1", deleting=False, start=0, replicas=1, template=Template({}), generation=7)
    scaled = {"StatefulSet": SetOwner(served=True, state=state)}
    pod = ("Pod", "web-1")

    assert proofs(decided(workloads=GONE, **unproved)) == [("Pod", "web-1"), ("StatefulSet", "web")]
    assert proofs(decided(workloads=GONE, gone=frozenset({"u2"}))) == [pod, ("StatefulSet", "web")], "another one was"
    assert proofs(decided(an_ip(annotations={}), workloads=GONE)) == [pod, ("StatefulSet", "web")], "who knows which"
    assert decided(workloads=scaled).effects[:2] == (
        ConfirmGone("default", "web-1"),
        ConfirmGone("default", "web", Kind.STATEFUL_SET, uid="u1", generation=7),
    ), "scaled down in a replica that may be late by a scale-up (seed 50)"
    assert proofs(decided(workloads=GONE)) == [pod]


def test_that_an_owner_was_replaced_is_proved_by_a_live_read_of_the_very_one() -> None:
    """Seed 203: the one shown was the former of that name, and the address belonged to the next."""
    elsewhere = SetState("u0", deleting=False, start=0, replicas=3, template=Template({}))
    shown = {"StatefulSet": SetOwner(served=True, state=elsewhere)}
    asked = ConfirmGone("default", "web", Kind.STATEFUL_SET, uid="u1")

    assert asked in decided(workloads=shown, gone=frozenset()).effects
    assert asked not in decided(workloads=shown).effects, "that one was seen going"


@pytest.mark.parametrize(("vips", "uid", "asked"), [(True, "", True), (True, "pod-uid", False), (False, "", False)])
def test_a_port_that_may_be_a_vips_is_only_dropped_if_a_read_says_that_it_is_none(
    *, vips: bool, uid: str, asked: bool
) -> None:
    """Kube-OVN writes it as a pod's, and the Vip's watch may be late; our own say for which pod they are."""
    row = make_row(pod_uid=uid)
    view = pod_view(held=(held_by(None, row),), vips=vips)

    proof = [ConfirmGone("", "web", Kind.VIP, row)] if asked else []
    assert list(decide(view, NOW).effects) == [*proof, DropPort(row)]


def test_absence_of_a_vm_is_proved_by_its_own_kinds() -> None:
    """No pod is called like a VM: its instance is there for as long as any of its pods is."""
    held = (held_by(an_ip("VirtualMachine", name="vm.default"), row_of("vm.default"), port="vm.default"),)

    def needed(state: MachineState | None, *, keep: bool = True, pods: Pods = Pods.NONE, seen: str = "") -> list[str]:
        vm = {"VirtualMachine": MachineOwner(served=True, state=state, keep=keep)}
        view: dict[str, Any] = {"gone_proved": False, "gone": frozenset({seen}), "held": held, "pods": pods}
        owner = naming.Owner("default", "vm")
        return [kind for kind, name in proofs(decided(owner=owner, workloads=vm, **view)) if name == "vm"]

    going = MachineState("u1", deleting=True, template=Template({}))
    bare = MachineState("u1", deleting=False, template=Template({}, (Declared("net1", default=True),)))
    assert needed(None) == ["VirtualMachine", "VirtualMachineInstance"]
    assert needed(None, seen="u1") == ["VirtualMachineInstance"]
    assert needed(going) == ["VirtualMachineInstance"]
    assert needed(bare) == ["VirtualMachine", "VirtualMachineInstance"]
    assert needed(bare, pods=Pods.WITHOUT) == []
    assert needed(None, keep=False) == []
