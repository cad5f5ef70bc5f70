"""How ports of nobody are let go of: the effects behind each verdict of retention.py (contract §3 Use, §5)."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core import naming
from controller.core.decisions.entitlement import Declared
from controller.core.decisions.pod import decide
from controller.core.decisions.retention import MachineOwner, MachineState, Pods, SetOwner, SetState, Template
from controller.core.effects import Decision, Delete, DropPort, PutPort
from controller.core.objects import Ip, Meta, Pod, PodSpec, PodStatus
from tests.core.worlds import GRANTED, NOW, ORDINARY, granted_ip, held_by, make_row, names, pod_view, told

WEB = naming.Owner("default", "web-1")
PORT = "web-1.default"
STATE = SetState(uid="u1", deleting=False, start=0, replicas=3, template=Template({}))
LIVES = SetOwner(served=True, state=STATE)
GONE = SetOwner(served=True)
MIGRATING = (("activation-strategy", "rarp"), ("arp_proxy", "x"), ("requested-chassis", "a,b"))


def an_ip(kind: str = "StatefulSet", *, reserved: bool = False, name: str = PORT, **more: Any) -> Ip:
    labels = GRANTED if reserved else {**GRANTED, **ORDINARY}
    return granted_ip(name=name, labels=labels, pod_type=kind, pod_name=name.partition(".")[0], **more)


def row_of(name: str = PORT) -> Any:
    return make_row(name=name, pod=f"default/{name.partition('.')[0]}")


def decided(ip: Ip | None = None, **more: Any) -> Decision:
    held = held_by(ip or an_ip(), row_of(), port=PORT)
    return decide(pod_view(**{"owner": WEB, "held": (held,)} | more), NOW)


def test_an_owner_that_lives_keeps_port_and_ip() -> None:
    assert decided(workload=LIVES) == Decision()
    assert decided(workload=None) == Decision(), "and so does one of which nothing is known"


def test_an_owner_that_is_gone_frees_both_and_says_why() -> None:
    decision = decided(workload=GONE)

    assert names(decision) == ["DropPort", "DeleteIP"]
    (deleted,) = (e for e in decision.effects if isinstance(e, Delete))
    assert deleted.why == "owner_gone"


def test_a_reservation_outlives_its_owner_and_its_port_does_not() -> None:
    """The LSP goes, unless the StatefulSet or VM still exists (contract §3, Use)."""
    assert decided(an_ip(reserved=True), workload=LIVES) == Decision()
    assert decided(an_ip(reserved=True), workload=GONE) == Decision((DropPort(row_of()),))


def test_for_whom_it_was_made_is_read_from_the_ip() -> None:
    for uid, effects in (("u1", []), ("u0", ["DropPort", "DeleteIP"]), ("", [])):
        notes = {naming.OWNER_UID: uid} if uid else {}
        assert names(decided(an_ip(annotations=notes), workload=LIVES)) == effects


def test_a_live_pods_former_nic_goes_without_its_owner() -> None:
    """Hot-unplugged; the StatefulSet lives on."""
    assert names(decided(workload=LIVES, pods=Pods.WITHOUT)) == ["DropPort", "DeleteIP"]
    assert decided(workload=GONE, pods=Pods.LIVE) == Decision()


def test_the_nics_of_a_stopped_vm_are_let_go_of_one_by_one() -> None:
    """One is declared no more (bug row 18); a declaration that cannot be read keeps all (bug row 4)."""
    names_ = ("vm.default", "vm.default.net1.default.ovn", "vm.default.net2.default.ovn")
    held = tuple(held_by(an_ip("VirtualMachine", name=n), row_of(n), port=n) for n in names_)

    def freed(*networks: str) -> list[str]:
        template = Template({}, (Declared(), *(Declared(text) for text in networks)))
        vm = MachineOwner(served=True, state=MachineState("u1", deleting=False, template=template))
        view = pod_view(owner=naming.Owner("default", "vm"), held=held, workload=vm)
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
def test_only_what_is_let_go_of_is_told(workload: SetOwner, reasons: list[str]) -> None:
    """A finished pod of a StatefulSet keeps its address, and is told nothing else."""
    meta = Meta(name="web-1", namespace="default", uid="p")
    finished = Pod(metadata=meta, spec=PodSpec(restart_policy="Never"), status=PodStatus(phase="Failed"))

    assert told(decided(workload=workload, finished=finished)) == reasons
