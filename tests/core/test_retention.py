"""Who keeps an address when the pod is gone: the table of contract §5, cause by cause."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.decisions.entitlement import Declared
from controller.core.decisions.retention import (
    FREED,
    Cause,
    MachineOwner,
    MachineState,
    Pods,
    SetOwner,
    SetState,
    Template,
    Tenure,
    Workload,
    standing,
    verdict,
)
from controller.core.naming import NETWORKS, Owner
from tests.core.strategies import workloads

PIN = "ovn.kubernetes.io/logical_switch"
PLAIN = Template({})
WEB = SetState(uid="u1", deleting=False, start=0, replicas=3, template=PLAIN)
MACHINE = MachineState(uid="u1", deleting=False, template=PLAIN)


def of_set(name: str = "web-1", **more: Any) -> Tenure:
    fields = {"pod_type": "StatefulSet", "subnet": "net", "made_for": "u1"} | more
    return Tenure(Owner("shop", name), f"{name}.shop", **fields)


def of_machine(port: str = "vm-1.shop", **more: Any) -> Tenure:
    fields = {"pod_type": "VirtualMachine", "subnet": "net", "made_for": "u1"} | more
    return Tenure(Owner("shop", "vm-1"), port, **fields)


def sets(state: SetState | None = WEB, *, served: bool = True) -> SetOwner:
    return SetOwner(served, state)


def machines(state: MachineState | None = MACHINE, *, served: bool = True, instance: bool = False) -> MachineOwner:
    return MachineOwner(served, state, instance)


def judged(tenure: Tenure, workload: Workload, *listed: str) -> Cause:
    return verdict(tenure, workload, listed, Pods.NONE)


# -- StatefulSets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "start", "replicas", "cause"),
    [
        ("web-0", 0, 3, Cause.OWNER_LIVES),
        ("web-2", 0, 3, Cause.OWNER_LIVES),
        ("web-3", 0, 3, Cause.SCALED_DOWN),
        ("web-0", 0, 0, Cause.SCALED_DOWN),
        ("web-9", 0, 10, Cause.OWNER_LIVES),
        ("web-10", 0, 10, Cause.SCALED_DOWN),
        ("web-10", 0, 11, Cause.OWNER_LIVES),
        ("web-100", 0, 20, Cause.SCALED_DOWN),
        ("web-2", 3, 3, Cause.SCALED_DOWN),
        ("web-3", 3, 3, Cause.OWNER_LIVES),
        ("web-5", 3, 3, Cause.OWNER_LIVES),
        ("web-6", 3, 3, Cause.SCALED_DOWN),
        ("web-1-0", 0, 1, Cause.OWNER_LIVES),
        ("web-7-12", 10, 3, Cause.OWNER_LIVES),
        ("4-2", 0, 3, Cause.OWNER_LIVES),
        ("web-2147483647", 0, 3, Cause.SCALED_DOWN),
        ("web", 0, 3, Cause.UNREADABLE),
        ("web-", 0, 3, Cause.UNREADABLE),
        ("web-x", 0, 0, Cause.UNREADABLE),
        ("-1", 0, 0, Cause.UNREADABLE),
        ("web-99999999999", 0, 3, Cause.UNREADABLE),
        ("web-²", 0, 3, Cause.UNREADABLE),
    ],
)
def test_an_ordinal_is_in_or_out(pod: str, start: int, replicas: int, cause: Cause) -> None:
    """Start and replicas both count (bug row 25), whatever digits are in the name."""
    assert judged(of_set(pod), sets(replace(WEB, start=start, replicas=replicas))) is cause


@pytest.mark.parametrize(
    ("workload", "cause"),
    [
        pytest.param(sets(None), Cause.OWNER_GONE, id="proven gone"),
        pytest.param(sets(None, served=False), Cause.UNKNOWN, id="not read yet: not gone"),
        pytest.param(sets(served=False), Cause.UNKNOWN, id="of no account until all is read"),
        pytest.param(None, Cause.UNKNOWN, id="nothing is known of it"),
        pytest.param(machines(), Cause.UNKNOWN, id="a VM is no StatefulSet"),
        pytest.param(sets(replace(WEB, deleting=True)), Cause.OWNER_DELETING, id="deleting"),
        pytest.param(sets(replace(WEB, uid="u2")), Cause.OWNER_REPLACED, id="another of that name"),
        pytest.param(sets(replace(WEB, uid="")), Cause.OWNER_LIVES, id="whose uid nobody knows"),
        pytest.param(sets(replace(WEB, replicas=1)), Cause.SCALED_DOWN, id="scaled down"),
        pytest.param(sets(), Cause.OWNER_LIVES, id="as it was"),
    ],
)
def test_a_stateful_sets_address_without_its_pod(workload: Workload, cause: Cause) -> None:
    assert judged(of_set(), workload) is cause
    assert verdict(of_set(), workload, (), Pods.LIVE) is Cause.POD_LIVES, "a live or terminating pod keeps (bug row 30)"
    assert judged(of_set(reserved=True), workload) is (cause if cause.kept else Cause.RESERVED)
    assert standing(of_set(reserved=True), workload, (), Pods.NONE) is cause, (
        "its port goes with the owner (contract §3)"
    )


def test_an_address_of_which_nobody_knows_for_whom_it_was_made_is_kept() -> None:
    """Kube-OVN writes no such thing; other proof counts as ever."""
    assert judged(of_set(made_for=""), sets(replace(WEB, uid="u2"))) is Cause.OWNER_LIVES
    assert judged(of_set(made_for=""), sets(replace(WEB, uid="u2", replicas=1))) is Cause.SCALED_DOWN


# -- subnets that moved ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotations", "listed", "cause"),
    [
        pytest.param({}, (), Cause.OWNER_LIVES, id="no choice anywhere"),
        pytest.param({}, ("other", "net"), Cause.OWNER_LIVES, id="one of the namespace's"),
        pytest.param({}, ("other",), Cause.SUBNET_MOVED, id="none of the namespace's any more"),
        pytest.param({PIN: "net"}, ("other",), Cause.OWNER_LIVES, id="the template's choice counts first"),
        pytest.param({PIN: "other"}, ("net",), Cause.SUBNET_MOVED, id="the template moved"),
        pytest.param({PIN: ""}, ("other",), Cause.SUBNET_MOVED, id="an empty choice is none"),
        pytest.param(
            {"ovn.kubernetes.io/ip_pool": "p"}, ("other",), Cause.OWNER_LIVES, id="a pool's subnet is its own"
        ),
    ],
)
def test_a_subnet_that_moved_away_frees(annotations: dict[str, str], listed: tuple[str, ...], cause: Cause) -> None:
    template = Template(annotations)

    assert judged(of_set(), sets(replace(WEB, template=template)), *listed) is cause
    assert judged(of_machine(), machines(replace(MACHINE, template=template)), *listed) is cause
    unknown = judged(of_set(subnet=""), sets(replace(WEB, template=template)), *listed)
    assert unknown is Cause.OWNER_LIVES, "missing data is no evidence (bug row 29)"


def test_a_nic_has_its_own_choice_of_subnet() -> None:
    nic = "web-1.shop.net1.shop.ovn"
    key = "net1.shop.ovn.kubernetes.io/logical_switch"
    tenure = replace(of_set(), port=nic)

    assert judged(tenure, sets(), "other") is Cause.OWNER_LIVES, "the namespace chooses for the default network only"
    assert judged(tenure, sets(replace(WEB, template=Template({PIN: "other"})))) is Cause.OWNER_LIVES
    assert judged(tenure, sets(replace(WEB, template=Template({key: "other"})))) is Cause.SUBNET_MOVED
    assert judged(of_set(), sets(replace(WEB, template=Template({key: "other"})))) is Cause.OWNER_LIVES


# -- virtual machines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "cause"),
    [
        pytest.param(machines(), Cause.OWNER_LIVES, id="stopped"),
        pytest.param(machines(instance=True), Cause.OWNER_LIVES, id="about to run"),
        pytest.param(machines(None, instance=True), Cause.OWNER_LIVES, id="a VMI without a VM"),
        pytest.param(machines(replace(MACHINE, deleting=True), instance=True), Cause.OWNER_LIVES, id="still ending"),
        pytest.param(machines(replace(MACHINE, deleting=True)), Cause.OWNER_DELETING, id="going"),
        pytest.param(machines(None), Cause.OWNER_GONE, id="both proven gone"),
        pytest.param(machines(None, served=False), Cause.UNKNOWN, id="KubeVirt is not served"),
        pytest.param(machines(replace(MACHINE, uid="u2")), Cause.OWNER_REPLACED, id="another of that name"),
        pytest.param(MachineOwner(served=True, state=MACHINE, keep=False), Cause.POD_GONE, id="keep-vm-ip is off"),
        pytest.param(MachineOwner(served=False, keep=False), Cause.POD_GONE, id="off, and no KubeVirt"),
        pytest.param(None, Cause.UNKNOWN, id="nothing is known of it"),
        pytest.param(sets(), Cause.UNKNOWN, id="a StatefulSet is no VM"),
    ],
)
def test_a_vms_address_without_its_pods(workload: Workload, cause: Cause) -> None:
    assert judged(of_machine(), workload) is cause
    assert verdict(of_machine(), workload, (), Pods.LIVE) is Cause.POD_LIVES
    assert judged(of_machine(reserved=True), workload) is (cause if cause.kept else Cause.RESERVED)
    assert standing(of_machine(reserved=True), workload, (), Pods.NONE) is cause


def test_a_stopped_vms_nics_are_judged_one_by_one() -> None:
    """One that is declared no more goes, the others stay (bug rows 3 and 18)."""
    state = replace(MACHINE, template=Template({NETWORKS: "net1"}, (Declared(), Declared("other/net2"))))

    for port in ("vm-1.shop", "vm-1.shop.net1.shop.ovn", "vm-1.shop.net2.other.ovn"):
        assert judged(of_machine(port), machines(state)) is Cause.OWNER_LIVES
    assert judged(of_machine("vm-1.shop.net3.shop.ovn"), machines(state)) is Cause.NIC_REMOVED
    assert judged(of_machine("vm-1.shop.net3.shop.ovn"), machines(state, instance=True)) is Cause.OWNER_LIVES


def test_a_port_that_is_no_nic_of_a_live_pod_goes_unless_a_vm_declares_it() -> None:
    """Hot-unplugged: the pod lives on, its other ports are not judged here (bug row 18)."""
    state = replace(MACHINE, template=Template({NETWORKS: "net1"}))
    plain = replace(of_set(), pod_type="")

    assert standing(plain, None, (), Pods.WITHOUT) is Cause.NIC_REMOVED
    assert standing(plain, None, (), Pods.NONE) is Cause.POD_GONE
    assert standing(of_set(), sets(), (), Pods.WITHOUT) is Cause.NIC_REMOVED
    assert verdict(of_set(reserved=True), sets(), (), Pods.WITHOUT) is Cause.RESERVED
    for port, cause in (("net1", Cause.POD_LIVES), ("net2", Cause.NIC_REMOVED)):
        nic = of_machine(f"vm-1.shop.{port}.shop.ovn")
        assert standing(nic, machines(state), (), Pods.WITHOUT) is cause
        assert standing(nic, machines(None), (), Pods.WITHOUT) is Cause.POD_LIVES
        assert standing(nic, None, (), Pods.WITHOUT) is Cause.POD_LIVES
    running = machines(state, instance=True)
    assert standing(of_machine("vm-1.shop.net2.shop.ovn"), running, (), Pods.WITHOUT) is Cause.NIC_REMOVED


def test_a_declaration_that_cannot_be_read_keeps_everything_of_that_vm() -> None:
    state = replace(MACHINE, template=Template({NETWORKS: "[", PIN: "other"}))

    for port in ("vm-1.shop", "vm-1.shop.net3.shop.ovn"):
        assert judged(of_machine(port), machines(state)) is Cause.UNREADABLE
    assert judged(of_machine(), machines(replace(state, deleting=True))) is Cause.OWNER_DELETING


# -- laws ------------------------------------------------------------------------------------------

tenures = st.builds(
    Tenure,
    st.builds(Owner, st.just("shop"), st.sampled_from(["web-1", "web", "vm-1", "x-", ""])),
    st.sampled_from(["web-1.shop", "vm-1.shop", "vm-1.shop.net1.shop.ovn", "?"]),
    st.sampled_from(["", "StatefulSet", "VirtualMachine", "Deployment"]),
    st.sampled_from(["", "net"]),
    st.booleans(),
    st.sampled_from(["", "sts", "vm"]),
)
lists = st.lists(st.sampled_from(["net", "other"]), max_size=2).map(tuple)


@given(tenures, workloads, lists, st.sampled_from(Pods))
def test_every_case_has_a_verdict_and_its_cause_says_whether_it_is_kept(
    tenure: Tenure, workload: Workload, listed: tuple[str, ...], pods: Pods
) -> None:
    cause = verdict(tenure, workload, listed, pods)

    assert cause.kept == (cause not in FREED)
    if pods is Pods.LIVE or tenure.reserved:
        assert cause.kept, "a live owner's address, and a reservation, are never freed"


@given(tenures.filter(lambda t: t.pod_type), workloads, lists)
def test_what_is_not_known_never_frees(tenure: Tenure, workload: Workload, listed: tuple[str, ...]) -> None:
    """Take away what is known of the owner, and nothing is freed that was kept (bug rows 4, 29)."""
    if isinstance(workload, MachineOwner) and not workload.keep:
        return
    known = standing(tenure, workload, listed, Pods.NONE)
    for less in (None, workload and replace(workload, served=False)):
        assert standing(tenure, less, listed, Pods.NONE).kept
    for fewer in (replace(tenure, made_for=""), replace(tenure, subnet="")):
        assert standing(fewer, workload, listed, Pods.NONE).kept >= known.kept
    assert standing(tenure, workload, (), Pods.NONE).kept >= known.kept
