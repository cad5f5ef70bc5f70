"""The texts about IPPools and families, each reached by bad input."""

from __future__ import annotations

from controller.core.catalogue import Reason
from tests.scenarios.reasons import bad_pod, pattern, story, told
from tests.scenarios.stage import OVN, Stage, condition, eventually, pod

UNREACHED: dict[tuple[Reason, str, str], str] = {
    (Reason.SUBNET_EXHAUSTED, "pool_queued", "Pod"): "said for the instant between two wake-ups; tests/core has it",
    (
        Reason.POOL_FAILED,
        "object",
        "IPPool",
    ): "the CRD's schema refuses wrong types; tests/core reads such ones",
}

bad_pod(Reason.ADDRESS_OUT_OF_RANGE, "ip_family", ip_family="ipv6")
bad_pod(Reason.POOL_NOT_FOUND, "absent", subnet="", ip_pool="nowhere")


def make(stage: Stage, name: str, subnet: str, *ips: str, **spec: object) -> str:
    """An IPPool, in use or not."""
    body = {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}}
    stage.add("ippool", body | {"spec": {"subnet": subnet, "ips": list(ips)} | spec})
    return name


def shows(stage: Stage, pool: str, reason: Reason, text: str) -> None:
    """Wait until the pool says just that as its Error, and in an Event."""

    def look() -> bool:
        error = condition(stage.api.get("ippool", pool), "Error")
        assert (error["status"], error["reason"]) == ("True", reason), error
        assert pattern(reason, text).fullmatch(error["message"]), error
        return True

    eventually(f"{pool} says {reason} {text}", look)
    told(stage, pool, reason, text, "IPPool")


# -- pods that name a pool -------------------------------------------------------------------------


@story(Reason.SUBNET_EXHAUSTED, "pool_full", "Pod")
def _full(stage: Stage, net: str, name: str) -> None:
    pool = stage.pool(net, stage.inside(net, 9))
    stage.running(f"{name}-first", ip_pool=pool)
    stage.pod(name, ip_pool=pool)
    told(stage, name, Reason.SUBNET_EXHAUSTED, "pool_full")


@story(Reason.SUBNET_EXHAUSTED, "pool_lacks", "Pod")
def _one_family(stage: Stage, net: str, name: str) -> None:
    four = stage.cidr()
    dual = stage.net(f"{four},{stage.cidr6()}")
    stage.pod(name, ip_pool=stage.pool(dual, stage.inside_of(four, 9)), ip_family="ipv6")
    told(stage, name, Reason.SUBNET_EXHAUSTED, "pool_lacks")


@story(Reason.ADDRESS_CONFLICT, "short", "Pod")
def _short_list(stage: Stage, net: str, name: str) -> None:
    labels = {"app": name}
    notes = {OVN + "logical_switch": net, OVN + "ip_pool": f"{stage.inside(net, 9)};{stage.inside(net, 10)}"}
    template = {"metadata": {"labels": labels, "annotations": notes}, "spec": pod("x")["spec"]}
    spec = {"replicas": 3, "serviceName": name, "podManagementPolicy": "Parallel", "template": template}
    body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": "default"}}
    stage.add("statefulset", body | {"spec": spec | {"selector": {"matchLabels": labels}}})
    told(stage, f"{name}-2", Reason.ADDRESS_CONFLICT, "short")


@story(Reason.POOL_NOT_FOUND, "deleting", "Pod")
def _leaving(stage: Stage, net: str, name: str) -> None:
    pool = stage.pool(net, stage.inside(net, 9))
    stage.api.patch("ippool", pool, {"metadata": {"finalizers": ["example.com/keeper"]}})
    stage.api.delete("ippool", pool)
    stage.pod(name, ip_pool=pool)
    told(stage, name, Reason.POOL_NOT_FOUND, "deleting")
    stage.api.patch("ippool", pool, {"metadata": {"finalizers": None}})


@story(Reason.POOL_NOT_FOUND, "invalid", "Pod")
def _unusable(stage: Stage, net: str, name: str) -> None:
    stage.pod(name, ip_pool=make(stage, f"{name}-bad", net, "banana"))
    told(stage, name, Reason.POOL_NOT_FOUND, "invalid")


@story(Reason.POOL_NOT_FOUND, "elsewhere", "Pod")
def _of_another_subnet(stage: Stage, net: str, name: str) -> None:
    other = stage.net()
    stage.pod(name, subnet=other, ip_pool=stage.pool(net, stage.inside(net, 9)))
    told(stage, name, Reason.POOL_NOT_FOUND, "elsewhere")


@story(Reason.POOL_NOT_FOUND, "none", "Pod")
def _of_the_namespace(stage: Stage, net: str, name: str) -> None:
    space = stage.namespace(logical_switch=net, ip_pool="nowhere")
    stage.add("pod", pod(name, space))

    def look() -> bool:
        found = stage.api.events("Pod", name, space)
        text = pattern(Reason.POOL_NOT_FOUND, "none")
        assert any(why == Reason.POOL_NOT_FOUND and text.fullmatch(said) for why, said in found), found
        return True

    eventually(f"{name} hears that no pool can be used", look)


# -- pools -----------------------------------------------------------------------------------------


@story(Reason.POOL_READY, "ok", "IPPool")
def _ready(stage: Stage, net: str, name: str) -> None:
    del name
    stage.pool(net, stage.inside(net, 9))


@story(Reason.POOL_FAILED, "item", "IPPool")
@story(Reason.NO_ERROR, "ok", "IPPool")
def _mended(stage: Stage, net: str, name: str) -> None:
    pool = make(stage, name, net, "banana")
    shows(stage, pool, Reason.POOL_FAILED, "item")
    stage.api.patch("ippool", pool, {"spec": {"ips": [stage.inside(net, 9)]}})
    stage.until("ippool", pool, "Error", "False", Reason.NO_ERROR)


@story(Reason.POOL_FAILED, "outside", "IPPool")
def _outside(stage: Stage, net: str, name: str) -> None:
    shows(stage, make(stage, name, net, "192.0.2.9", stage.inside(net, 9)), Reason.POOL_FAILED, "outside")


@story(Reason.POOL_FAILED, "overlap", "IPPool")
def _overlapping(stage: Stage, net: str, name: str) -> None:
    stage.pool(net, stage.inside(net, 9), name=f"{name}-a")
    shows(stage, make(stage, f"{name}-b", net, stage.inside(net, 9)), Reason.POOL_FAILED, "overlap")


@story(Reason.POOL_FAILED, "subnet", "IPPool")
def _without_subnet(stage: Stage, net: str, name: str) -> None:
    del net
    shows(stage, make(stage, name, "nowhere", "10.0.0.9"), Reason.POOL_FAILED, "subnet")


@story(Reason.ADDRESS_SET_FAILED, "name", "IPPool")
def _misnamed_set(stage: Stage, net: str, name: str) -> None:
    pool = make(stage, f"1-{name}", net, stage.inside(net, 9), enableAddressSet=True)
    shows(stage, pool, Reason.ADDRESS_SET_FAILED, "name")


@story(Reason.ADDRESS_SET_FAILED, "taken", "IPPool")
def _taken_set(stage: Stage, net: str, name: str) -> None:
    theirs = name.replace("-", ".")
    stage.cluster.nbctl("create", "Address_Set", f"name={theirs}")
    pool = make(stage, name, net, stage.inside(net, 9), enableAddressSet=True)
    shows(stage, pool, Reason.ADDRESS_SET_FAILED, "taken")
    stage.cluster.nbctl("destroy", "Address_Set", theirs)


@story(Reason.ADDRESS_SET_FAILED, "mixed", "IPPool")
def _mixed_set(stage: Stage, net: str, name: str) -> None:
    del net
    four, six = stage.cidr(), stage.cidr6()
    dual = stage.net(f"{four},{six}")
    ips = (stage.inside_of(four, 9), stage.inside_of(six, 9))
    shows(stage, make(stage, name, dual, *ips, enableAddressSet=True), Reason.ADDRESS_SET_FAILED, "mixed")
