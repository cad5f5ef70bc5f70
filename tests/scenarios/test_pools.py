"""IPPools, ip_family and lists on the real cluster: what upstream's own end-to-end tests pin down (§21 there)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.stage import FINALIZER, OVN, Object, Stage, condition, eventually, notes, pod, sets


def workload(kind: str, name: str, space: str, replicas: int, /, start: int = 0, **annotations: str) -> Object:
    """A Deployment or StatefulSet of pods with these annotations."""
    template = {"metadata": {"labels": {"app": name}, "annotations": {OVN + k: v for k, v in annotations.items()}}}
    spec: Object = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}}
    if kind == "StatefulSet":
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel", "ordinals": {"start": start}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": space},
        "spec": spec | {"template": template | {"spec": pod("x")["spec"]}},
    }


def addresses(stage: Stage, app: str, space: str, count: int) -> dict[str, str]:
    """What the pods of a workload have got, by name."""

    def look() -> dict[str, str]:
        mine = [one for one in stage.api.all("pod", space) if one["metadata"]["labels"].get("app") == app]
        found = {one["metadata"]["name"]: notes(one).get("ip_address", "") for one in mine}
        assert len(found) == count, found
        assert all(found.values()), found
        return found

    return eventually(f"{count} pods of {app} have addresses", look, seconds=30)


def shows(stage: Stage, pool: str, using: str, available: str, family: int = 4) -> None:
    """Wait until the pool's ranges are these, and its numbers those of the ranges."""

    def look() -> bool:
        status: dict[str, Any] = stage.api.get("ippool", pool).get("status", {})
        found = (status.get(f"v{family}UsingIPRange"), status.get(f"v{family}AvailableIPRange"))
        assert found == (using, available), status
        return True

    eventually(f"ranges of {pool}", look)


# -- ip_family -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "colon"), [("ipv4", False), ("ipv6", True)])
def test_of_a_dual_stack_subnet_or_pool_one_family_is_given(stage: Stage, family: str, *, colon: bool) -> None:
    """The other family stays whole."""
    four, six = stage.cidr(), stage.cidr6()
    net = stage.net(f"{four},{six}")
    pool = stage.pool(net, stage.inside_of(four, 50), stage.inside_of(six, 50))
    got = notes(stage.running(f"{stage.tag}-a", subnet=net, ip_family=family))["ip_address"]
    assert ("," in got, ":" in got) == (False, colon)
    got = notes(stage.running(f"{stage.tag}-b", ip_pool=pool, ip_family=family))["ip_address"]
    assert got == stage.inside_of(six if colon else four, 50)
    shows(stage, pool, "", stage.inside_of(four if colon else six, 50), 4 if colon else 6)


def test_a_family_that_the_subnet_has_not_is_refused(stage: Stage) -> None:
    """With the reason and what to change."""
    stage.pod(f"{stage.tag}-a", subnet=stage.net(), ip_family="ipv6")
    stage.waits(f"{stage.tag}-a", "AddressOutOfRange", "has no IPv6 addresses", "ip_family")
    stage.pod(f"{stage.tag}-b", subnet=stage.net(), ip_family="both")
    told = stage.api.told("Pod", f"{stage.tag}-b", "ValidatePodNetworkFailed")
    assert "write ipv4 or ipv6" in told


# -- lists -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", ","])
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_workload_gets_the_addresses_of_its_list(stage: Stage, kind: str, separator: str) -> None:
    """All of them, and again after its pods were deleted; a StatefulSet's each by its ordinal."""
    net, space, app = stage.net(), stage.namespace(), f"{stage.tag}-w"
    listed = [stage.inside(net, number) for number in (40, 41, 42)]
    body = workload(kind, app, space, 3, logical_switch=net, ip_pool=separator.join(listed))
    stage.add(kind.lower(), body)
    got = addresses(stage, app, space, 3)
    assert sorted(got.values()) == listed
    for name in got:
        stage.api.delete("pod", name, space)
    if kind == "StatefulSet":
        assert got == {f"{app}-{number}": listed[number] for number in range(3)}
        for name, address in got.items():
            assert notes(stage.runs(name, space, seconds=30))["ip_address"] == address
    else:
        again = eventually(
            "new pods", lambda: None if set(found := addresses(stage, app, space, 3)) & set(got) else found, seconds=30
        )
        assert sorted(again.values()) == listed


def test_a_set_that_begins_with_another_ordinal_begins_with_the_first_entry(stage: Stage) -> None:
    """`ordinals.start` is taken off (upstream does not)."""
    net, space, app = stage.net(), stage.namespace(), f"{stage.tag}-w"
    listed = [stage.inside(net, number) for number in (40, 41)]
    stage.add("statefulset", workload("StatefulSet", app, space, 2, 10, logical_switch=net, ip_pool=";".join(listed)))
    assert addresses(stage, app, space, 2) == {f"{app}-10": listed[0], f"{app}-11": listed[1]}


# -- pools -----------------------------------------------------------------------------------------


def test_a_pool_is_made_used_changed_and_deleted(stage: Stage) -> None:
    """The pods' subnet is the pool's; its addresses are nobody else's; users outlive it."""
    net = stage.net(stage.cidr(28))
    six, seven, eight = (stage.inside(net, number) for number in (6, 7, 8))
    pool = stage.pool(net, f"{six}..{eight}")
    assert stage.api.get("ippool", pool)["metadata"]["finalizers"] == [FINALIZER]
    shows(stage, pool, "", f"{six}-{eight}")
    first = stage.running(f"{stage.tag}-a", ip_pool=pool)
    assert (notes(first)["logical_switch"], notes(first)["ip_address"]) == (net, six)
    shows(stage, pool, six, f"{seven}-{eight}")
    dynamic = [notes(stage.running(f"{stage.tag}-{i}", subnet=net))["ip_address"] for i in range(5)]
    assert not {six, seven, eight} & {*dynamic}
    assert notes(stage.running(f"{stage.tag}-s", subnet=net, ip_address=eight))["ip_address"] == eight
    stage.api.patch("subnet", net, {"spec": {"excludeIps": [stage.inside(net, 1), seven]}})
    shows(stage, pool, f"{six},{eight}", "")
    stage.api.patch("ippool", pool, {"spec": {"ips": [six]}})
    shows(stage, pool, six, "")
    stage.api.delete("ippool", pool)
    stage.api.gone("ippool", pool)
    assert notes(stage.runs(f"{stage.tag}-a"))["ip_address"] == six
    assert stage.api.get("ip", f"{stage.tag}-a.default")["spec"]["v4IpAddress"] == six


def test_a_full_pool_blocks_and_a_release_serves_the_waiter(stage: Stage) -> None:
    """However much the subnet has left (Kube-OVN: "blocks allocation")."""
    net = stage.net()
    pool = stage.pool(net, stage.inside(net, 30))
    stage.running(f"{stage.tag}-a", ip_pool=pool)
    stage.pod(f"{stage.tag}-b", ip_pool=pool)
    stage.waits(f"{stage.tag}-b", "SubnetExhausted", f"pool {pool} of subnet {net} has no free IPv4 address")
    assert stage.api.told("Pod", f"{stage.tag}-b", "AcquireAddressFailed")
    stage.drop(f"{stage.tag}-a")
    assert notes(stage.runs(f"{stage.tag}-b", seconds=5))["ip_address"] == stage.inside(net, 30)


def test_a_pool_may_come_after_its_pods_and_two_may_not_share_an_address(stage: Stage) -> None:
    """The younger one is refused with the name of the older, and serves as soon as they are apart."""
    net = stage.net()
    later = f"{stage.tag}-later"
    stage.pod(f"{stage.tag}-a", ip_pool=later)
    stage.waits(f"{stage.tag}-a", "IPPoolNotFound", f"IPPool {later} does not exist")
    older = stage.pool(net, stage.inside(net, 20), stage.inside(net, 21))
    wanted = {"subnet": net, "ips": [stage.inside(net, 21), "10-20"]}
    body = {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": later}, "spec": wanted}
    stage.add("ippool", body)
    refused = stage.until("ippool", later, "Ready", "False", "UpdateIPAMFailed")
    assert "write two dots" in condition(refused, "Error")["message"]
    stage.api.patch("ippool", later, {"spec": {"ips": [stage.inside(net, 21)]}})

    def names_the_other() -> bool:
        return f"belongs to IPPool {older}" in condition(stage.api.get("ippool", later), "Ready")["message"]

    eventually("it says who has it", names_the_other)
    stage.api.patch("ippool", older, {"spec": {"ips": [stage.inside(net, 20)]}})
    stage.until("ippool", later, "Ready", "True", "UpdateIPAMSucceeded")
    stage.until("ippool", later, "Error", "False", "NoError")
    assert notes(stage.runs(f"{stage.tag}-a"))["ip_address"] == stage.inside(net, 21)


# -- namespaces ------------------------------------------------------------------------------------


def test_a_namespaces_pools_are_used_in_order_of_room_whatever_subnet_they_are_in(stage: Stage) -> None:
    """`spec.namespaces` writes the annotation; what a person wrote there stays when the pool lets go."""
    space = stage.namespace()
    one, two = stage.net(namespaces=[space]), stage.net(namespaces=[space])
    a = stage.pool(one, stage.inside(one, 50), namespaces=[space])
    b = stage.pool(two, stage.inside(two, 50), namespaces=[space])
    eventually("it is bound", lambda: notes(stage.api.get("namespace", space)).get("ip_pool") == f"{a},{b}")
    got = [notes(stage.running(f"{stage.tag}-{i}", space)) for i in range(2)]
    assert [(has["logical_switch"], has["ip_address"]) for has in got] == [
        (one, stage.inside(one, 50)),
        (two, stage.inside(two, 50)),
    ]
    stage.pod(f"{stage.tag}-2", space)
    stage.waits(f"{stage.tag}-2", "SubnetExhausted", "has no free IPv4 address", namespace=space)
    pinned = stage.pod(f"{stage.tag}-3", space, subnet=two, ip_address=stage.inside(two, 60))
    assert notes(stage.runs(pinned["metadata"]["name"], space))["ip_address"] == stage.inside(two, 60)
    stage.api.patch("namespace", space, {"metadata": {"annotations": {OVN + "ip_pool": f"{a},{b},by-hand"}}})
    stage.api.patch("ippool", a, {"spec": {"namespaces": []}})
    stage.api.patch("ippool", b, {"spec": {"namespaces": []}})
    eventually("only the hand's is left", lambda: notes(stage.api.get("namespace", space)).get("ip_pool") == "by-hand")
    stage.api.patch("namespace", space, {"metadata": {"annotations": {OVN + "ip_pool": None}}})
    assert notes(stage.runs(f"{stage.tag}-2", space))["logical_switch"] in {one, two}


# -- Address_Set -----------------------------------------------------------------------------------


def test_an_address_set_is_kept_as_long_as_it_is_asked_for(stage: Stage) -> None:
    """Name, external ids and CIDRs as Kube-OVN writes them; a foreign set of that name is never touched."""
    net = stage.net()
    four, seven = stage.inside(net, 4), stage.inside(net, 7)
    pool = stage.pool(net, f"{four}..{seven}", stage.inside(net, 9), enableAddressSet=True)
    name = pool.replace("-", ".")

    def holds(*expected: str) -> None:
        def look() -> bool:
            row = sets(stage.cluster).get(name, {})
            found = row.get("addresses", [])
            assert sorted([found] if isinstance(found, str) else found) == sorted(expected), row
            assert row["external_ids"] == {"ippool": pool, "vendor": "kube-ovn"}
            return True

        eventually(f"the set of {pool}", look)

    holds(f"{four}/30", stage.inside(net, 9))
    stage.api.patch("ippool", pool, {"spec": {"ips": [four]}})
    holds(four)
    stage.cluster.nbctl("clear", "Address_Set", name, "addresses")
    holds(four)
    stage.api.patch("ippool", pool, {"spec": {"enableAddressSet": False}})
    eventually("the set goes", lambda: name not in sets(stage.cluster))
    stage.cluster.nbctl("create", "Address_Set", f"name={name}", "addresses=10.9.9.9", "external_ids:vendor=other")
    try:
        stage.api.patch("ippool", pool, {"spec": {"enableAddressSet": True}})
        stage.until("ippool", pool, "Ready", "False", "ReconcileAddressSetFailed")
        assert sets(stage.cluster)[name]["addresses"] == "10.9.9.9"
    finally:
        stage.cluster.nbctl("destroy", "Address_Set", name)
    stage.until("ippool", pool, "Ready", "True", "UpdateIPAMSucceeded")
    holds(four)
    stage.api.delete("ippool", pool)
    stage.api.gone("ippool", pool)
    eventually("the set goes with its pool", lambda: name not in sets(stage.cluster))
