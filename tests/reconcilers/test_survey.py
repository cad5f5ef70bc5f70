"""What a dry run says: every address of a small cluster, what would become of it, and why (contract §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from controller.core.decisions.sweep import Limits
from controller.core.effects import PutPort, PutSwitch
from controller.core.objects import FINALIZER, Kind
from controller.ports import Gone, NotFound
from controller.process.dryrun import page
from controller.reconcilers.survey import Report, report, survey
from tests.core.worlds import make_row
from tests.sim.loop import run
from tests.sim.world import SimWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.ports import Page

LABELS = {"ovn.kubernetes.io/ip_reserved": "false", "ovn.kubernetes.io/subnet": "net"}


def ip(universe: SimWorld, name: str, number: int, *, labels: dict[str, str] = LABELS, **more: Any) -> None:
    """An IP as it is at rest."""
    address = f"10.0.0.{number}"
    spec = {"subnet": "net", "podName": name.partition(".")[0], "namespace": "default", "podType": ""}
    texts = {"ipAddress": address, "v4IpAddress": address, "macAddress": f"0a:00:00:00:00:{number:02x}"}
    meta = {"labels": labels, "finalizers": [FINALIZER]} | more.pop("meta", {})
    universe.store.create(Kind.IP, "", name, {"metadata": meta, "spec": spec | texts | more}, "user")


def port(universe: SimWorld, name: str, number: int, vendor: str = "kube-ovn") -> None:
    """A port of a pod of that name."""
    mac, text = f"0a:00:00:00:00:{number:02x}", f"10.0.0.{number}"
    row = make_row(text, mac, name=f"{name}.default", pod=f"default/{name}", vendor=vendor, pod_uid="")
    universe.database.commit((PutPort(row._replace(uuid="")),), "admin")


def cluster(universe: SimWorld) -> None:
    """One of each."""
    store = universe.store
    store.create(Kind.SUBNET, "", "net", {"spec": {"cidrBlock": "10.0.0.0/24", "gateway": "10.0.0.1"}}, "user")
    store.create(Kind.POD, "default", "live", {"spec": {}}, "user")
    vip = {"subnet": "net", "namespace": "default", "v4ip": "10.0.0.9", "type": "switch_lb_vip"}
    store.create(Kind.VIP, "", "vip", {"spec": vip}, "user")
    universe.database.commit((PutSwitch("net"),), "admin")
    port(universe, "vip", 9)
    port(universe, "leak", 10)
    port(universe, "neutron", 11, vendor="neutron")
    ip(universe, "live.default", 2)
    ip(universe, "gone.default", 3)
    ip(universe, "kept.default", 4, labels=LABELS | {"ovn.kubernetes.io/ip_reserved": "true"})
    ip(universe, "theirs.default", 5, meta={"finalizers": ["example.com/x"]})
    ip(universe, "web-0.default", 6, podType="Unheard")
    ip(universe, "node-a", 7, namespace="")


EXPECTED = {
    "live.default": (False, "its pod lives"),
    "gone.default": (True, "its pod is gone"),
    "kept.default": (False, "it is a reservation"),
    "theirs.default": (False, "it carries the finalizer example.com/x of another system"),
    "web-0.default": (False, "nobody can tell whether its owner lives"),
    "node-a": (False, "it is of a node or of a subnet"),
    "Vip vip": (False, "it is another owner's"),
    "leak.default": (True, "its pod is gone"),
    "neutron.default": (False, "its port is of another system"),
}


def surveyed(make: Callable[[SimWorld], None], limits: Limits | None = None) -> Report:
    """What a dry run finds in that cluster, and the proof that it wrote nothing."""

    async def main() -> Report:
        universe = SimWorld(1)
        universe.calm()
        make(universe)
        writes = universe.writes
        picture = await survey(universe.world)
        assert universe.writes == writes
        return report(picture, universe.world.clock, limits or Limits())

    return run(main())


def test_every_address_is_judged_and_nothing_is_written() -> None:
    found = surveyed(cluster)

    assert {one.port: (one.frees, one.why) for one in found.lines} == EXPECTED
    assert {one.port: one.addresses for one in found.lines}["gone.default"] == "10.0.0.3"
    assert found.stopped == ()


def test_what_would_be_freed_is_said_first_and_counted() -> None:
    text = list(page(surveyed(cluster)))

    assert text[0].split() == ["SUBNET", "PORT", "ADDRESSES", "SWEEP", "WHY"]
    assert text[1].split() == ["net", "gone.default", "10.0.0.3", "free", "its", "pod", "is", "gone"]
    assert text[-1] == "2 to free once they were seen twice, 7 to keep"


def test_where_a_sweep_would_stop_is_said() -> None:
    text = list(page(surveyed(cluster, Limits(0.0, 0))))

    assert text[-1].startswith("subnet net: 2 of 9 users, more than the 0 that a sweep frees at once")


def test_an_empty_cluster_has_an_empty_table() -> None:
    assert list(page(surveyed(lambda _: None)))[1:] == ["", "0 to free once they were seen twice, 0 to keep"]


def test_lists_that_expire_are_begun_anew_and_kinds_that_are_not_served_are_left_out() -> None:
    """But a kind that is always served is missed."""

    async def main() -> None:
        universe = SimWorld(1)
        universe.calm()
        cluster(universe)
        kube, failures = universe.world.kube, {"left": 3, "pods": 0}
        true = kube.list

        async def listed(kind: Kind, token: str = "") -> Page:
            if kind is Kind.IP and failures["left"]:
                failures["left"] -= 1
                raise Gone("expired")
            if kind is Kind.POD and failures["pods"]:
                raise NotFound("no pods")
            return await true(kind, token)

        kube.list = listed  # type: ignore[method-assign]
        picture = await survey(universe.world)
        assert len(picture.ips) == 6
        assert not picture.served(Kind.VM)
        failures["left"] = 99
        with pytest.raises(Gone):
            await survey(universe.world)
        failures |= {"left": 0, "pods": 1}
        with pytest.raises(NotFound):
            await survey(universe.world)

    run(main())
