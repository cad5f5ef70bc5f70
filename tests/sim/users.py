"""The users: they ask for much, change their minds and make mistakes. All by the seed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Final

from controller.core.objects import OLD_FINALIZER, OUR_FINALIZERS, Kind
from controller.ports import PortError
from tests.sim.documents import IMMUTABLE, RESERVED, Doc, deleting, finalizers, labels, meta, notes, ours, spec
from tests.sim.hand import Hand
from tests.sim.operators import Operators
from tests.sim.records import special
from tests.sim.stage import (
    ADDRESSES,
    BAD_MACS,
    CAST,
    MACS,
    NETWORKS,
    NODES,
    NOTE,
    OWN_ADDRESS,
    POOLS,
    SIDE_NETWORK,
    SUBNETS,
    Workload,
    alive,
    by_side,
    controller_of,
    kind_of,
    owner_of,
    port_of,
)
from tests.sim.tenants import Tenants

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sim.world import SimWorld

PAUSE: Final = 1.2


class Users(Hand):
    """One hand with many moods; every action is one change of the API or of Northbound."""

    def __init__(self, universe: SimWorld) -> None:
        super().__init__(universe, itertools.count(1))
        operators = self._operators = Operators(universe, self.serial)
        tenants = self._tenants = Tenants(universe, self.serial)
        self._cast = tuple(self.rng.sample(CAST, 8))
        self._wishes: dict[str, dict[str, str]] = {}
        self._moods: dict[Callable[[], None], int] = {
            self.reserve: 16,
            self.apply_a_manifest: 5,
            self.delete_an_ip: 9,
            self.edit_a_label: 6,
            self.edit_an_attribute: 5,
            self.tear_off_a_finalizer: 3,
            self.start_a_pod: 26,
            self.reserve_and_start: 4,
            self.schedule_a_pod: 16,
            self.delete_a_pod: 14,
            self.replace_a_pod: 5,
            self.finish_a_pod: 4,
            self.plug_a_nic: 4,
            operators.define_a_network: 3,
            tenants.scale_a_set: 6,
            tenants.delete_a_set: 2,
            tenants.replace_a_set: 2,
            tenants.edit_a_template: 1,
            tenants.delete_a_vm: 3,
            self.migrate_a_vm: 5,
            operators.edit_a_subnet: 3,
            operators.delete_a_subnet: 1,
            operators.make_a_subnet: 6,
            operators.make_a_pool: 2,
            operators.delete_a_pool: 1,
            operators.annotate_a_namespace: 2,
            operators.delete_a_namespace: 1,
            operators.place_a_foreign_object: 2,
            operators.place_a_foreign_port: 2,
            operators.make_a_vip: 2,
            operators.end_a_vip: 2,
            operators.join_a_subnet_to_the_overlay: 1,
            operators.remove_what_is_foreign: 2,
            operators.remove_a_port: 1,
            operators.meddle_with_a_port: 3,
        }

    async def live(self) -> None:
        """Do one thing after another until cancelled; the API's refusals are taken with a shrug."""
        moods, weights = list(self._moods), list(self._moods.values())
        while True:
            burst = self.rng.random() < 0.25
            await asyncio.sleep(self.rng.expovariate(1 / (0.02 if burst else PAUSE)))
            try:
                self.rng.choices(moods, weights)[0]()
            except PortError:
                continue

    def settle(self) -> None:
        """Before the calm: every pod gets its node, and what keeps things from ending is taken away."""
        for space, name in sorted(self.store.docs[Kind.POD]):
            self._schedule(space, name)
        self._tenants.last_orders()
        with contextlib.suppress(PortError):
            self._operators.annotate_a_namespace()

    def _workload(self) -> Workload:
        return self.rng.choice(self._cast)

    # -- reservations ------------------------------------------------------------------------------
    def _request(self, workload: Workload) -> tuple[str, Doc]:
        """The name and spec of a reservation, right or wrong."""
        rng, subnet = self.rng, self.subnet()
        provider = SUBNETS.get(subnet, {}).get("provider", "")
        kind = workload.kind if rng.random() < 0.9 else rng.choice(("", "StatefulSet", "VirtualMachine", "Deployment"))
        wanted: Doc = {
            "subnet": subnet,
            "podName": workload.name,
            "namespace": workload.namespace,
            "podType": kind,
        }
        if rng.random() < 0.45:
            for address in [self.address(subnet) for _ in range(2 if subnet == "dual" else 1)]:
                wanted["v6IpAddress" if ":" in address else "v4IpAddress"] = address
        if rng.random() < 0.15:
            wanted["macAddress"] = rng.choice(MACS if rng.random() < 0.85 else BAD_MACS)
        if rng.random() < 0.03:
            wanted.pop(rng.choice(("subnet", "podName", "namespace")))
        name = workload.port(provider) if rng.random() < 0.95 else f"wrong-{workload.name}.{workload.namespace}"
        return name, wanted

    def reserve(self) -> None:
        """Create a reservation, before or after its workload."""
        name, wanted = self._request(self._workload())
        metadata: Doc = {}
        if self.rng.random() < 0.3:
            metadata["labels"] = {RESERVED: "true", "team": "blue"}
        if self.rng.random() < 0.1:
            metadata["finalizers"] = ["example.com/backup"]
        if self.rng.random() < 0.02:
            metadata["labels"] = {RESERVED: "false"}
        self.store.create(Kind.IP, "", name, {"metadata": metadata, "spec": wanted}, "user")

    def apply_a_manifest(self) -> None:
        """`kubectl apply` of a reservation over whatever has that name."""
        name, wanted = self._request(self._workload())
        body: Doc = {"spec": wanted}
        if self.rng.random() < 0.7:
            body["metadata"] = {"labels": {RESERVED: "true"}}
        present = self.store.get(Kind.IP, "", name)
        if present is None:
            self.store.create(Kind.IP, "", name, body, "user")
        elif not ours(present) or self._recorded(present) or self._used(present):
            self.store.patch(Kind.IP, "", name, body, "user")

    def delete_an_ip(self) -> None:
        """Delete an IP object, used or not."""
        ip = self.any(Kind.IP, when=lambda doc: not deleting(doc))
        if ip is not None:
            self.store.delete(Kind.IP, "", meta(ip)["name"], meta(ip)["uid"], "user")

    def edit_a_label(self) -> None:
        """Decide for or against a reservation, or forget the label."""
        ip = self.any(Kind.IP)
        if ip is not None:
            value = self.rng.choice(("true", "true", "false", None, "yes"))
            body = {"metadata": {"labels": {RESERVED: value}}}
            if self.rng.random() < 0.2:
                body["metadata"]["labels"]["team"] = self.rng.choice(("red", None))
            self.store.patch(Kind.IP, "", meta(ip)["name"], body, "user")

    def edit_an_attribute(self) -> None:
        """Change what must not change; what an ordinary IP without a pod says is nobody's business but its user's."""
        ip = self.any(
            Kind.IP,
            when=lambda doc: not special(doc) and (not ours(doc) or self._recorded(doc) or self._used(doc)),
        )
        if ip is None:
            return
        field = self.rng.choice(IMMUTABLE)
        subnet = spec(ip).get("subnet", "")
        four = [a for a in ADDRESSES.get(subnet, ("10.1.0.2",)) if ":" not in a]
        values: dict[str, Any] = {
            "subnet": self.subnet(),
            "podType": self.rng.choice(("", "StatefulSet", "VirtualMachine")),
            "macAddress": self.rng.choice((*MACS, "")),
            "v4IpAddress": self.rng.choice((*four, "")),
            "v6IpAddress": self.rng.choice(("fd00:3::2", "")),
        }
        body = {"spec": {field: values.get(field, self._workload().name)}}
        self.store.patch(Kind.IP, "", meta(ip)["name"], body, "user")

    def _recorded(self, ip: Doc) -> bool:
        """True for a reservation whose edit can be undone, also by the next controller."""
        told = (ip.get("status") or {}).get("recorded") or not self.universe.options.crashes
        return labels(ip).get(RESERVED) != "false" and bool(told)

    def _used(self, ip: Doc) -> bool:
        """True for an ordinary IP of a pod that is there."""
        pods = self.store.docs[Kind.POD].values()
        ports = {port_of(one) for pod in pods for one in (pod, by_side(pod))}
        return labels(ip).get(RESERVED) == "false" and meta(ip)["name"] in ports

    def tear_off_a_finalizer(self) -> None:
        """Remove our finalizer by force, mostly from what is being deleted; or put the old name in its place."""
        careless = 0.2 if self.store.rules.ip_status else 0.0  # without a status nothing else tells what was granted
        ip = self.any(
            Kind.IP,
            when=lambda doc: ours(doc) and not special(doc) and (deleting(doc) or self.rng.random() < careless),
        )
        if ip is None:
            return
        left = [f for f in finalizers(ip) if f not in OUR_FINALIZERS]
        if not deleting(ip) and self.rng.random() < 0.5:
            left.append(OLD_FINALIZER)
        self.store.patch(Kind.IP, "", meta(ip)["name"], {"metadata": {"finalizers": left}}, "user")

    # -- pods --------------------------------------------------------------------------------------
    def start_a_pod(self) -> None:
        """Create a pod of a workload, with or without wishes."""
        self._start(self._workload())

    def reserve_and_start(self) -> None:
        """`kubectl apply` of a file with a reservation and its pod: whoever watches may hear of the pod first."""
        workload = self._workload()
        name, wanted = self._request(workload)
        self.store.create(Kind.IP, "", name, {"spec": wanted}, "user")
        self._start(workload)

    def _wish(self) -> dict[str, str]:
        """What a pod asks for by its annotations."""
        rng = self.rng
        asked: dict[str, str] = {}
        subnet = self.subnet()
        if rng.random() < 0.55:
            asked["logical_switch"] = subnet
        if rng.random() < 0.15:
            asked["ip_address"] = self.address(subnet)
        elif rng.random() < 0.08:
            some = rng.sample(ADDRESSES.get(subnet, ADDRESSES["tiny"]), 1 if subnet == "ghost" else 3)
            asked["ip_pool"] = ";".join(some)
        elif rng.random() < 0.15:
            asked["ip_pool"] = rng.choice(sorted(POOLS))
            asked.pop("logical_switch", None)
        elif rng.random() < 0.05:
            asked["ip_family"] = rng.choice(("ipv4", "ipv6"))
        if rng.random() < 0.06:
            asked["mac_address"] = rng.choice((*MACS, *BAD_MACS))
        if rng.random() < 0.02:
            asked["vip"] = "some-vip"
        return asked

    def migrate_a_vm(self) -> None:
        """A second launcher beside one that runs."""
        machines = [w for w in self._cast if w.kind == "VirtualMachine" and self._launcher(w) is not None]
        if machines:
            self._start(self.rng.choice(machines), migrate=True)

    def _start(self, workload: Workload, *, migrate: bool = False) -> None:
        rng, asked = self.rng, self._wish()
        name, job = workload.name, {}
        launcher = self._launcher(workload)
        if launcher is not None and not migrate and rng.random() < 0.8:
            return  # one launcher at a time, but for migrations: those copy what the source asked for
        owner = self._tenants.owner_for(workload) if workload.kind else None
        if workload.kind and owner is None:
            return
        if launcher is not None:
            asked, job = self._wishes.get(meta(launcher)["uid"], {}), self._tenants.migration(workload)
        annotations = {NOTE + key: value for key, value in asked.items()} | job
        if workload.kind != "VirtualMachine" and rng.random() < 0.25:
            annotations[NETWORKS] = SIDE_NETWORK
        metadata: Doc = {"annotations": annotations, "labels": {"app": name}}
        if workload.kind == "VirtualMachine":
            name = f"virt-launcher-{workload.name}-{next(self.serial)}"
            metadata["labels"] |= {} if self.universe.options.keep_vm_ip else {OWN_ADDRESS: "true"}
        if owner is not None:
            metadata["ownerReferences"] = [owner]
        policy = rng.choice(("Always", "Always", "Never", "OnFailure"))
        wanted: Doc = {"restartPolicy": policy, "containers": [{"name": "main", "image": "main"}]}
        if rng.random() < 0.3:
            wanted["nodeName"] = rng.choice(NODES)
        if rng.random() < 0.03:
            wanted["hostNetwork"] = True
        body = {"metadata": metadata, "spec": wanted}
        self.store.create(Kind.POD, workload.namespace, name, body, "user")
        self._wishes[meta(self.store.docs[Kind.POD][workload.namespace, name])["uid"]] = asked
        if rng.random() < 0.02:
            self._operators.take_a_name(workload.port())

    def _launcher(self, workload: Workload) -> Doc | None:
        """A pod of the VM that is there already."""
        pods = sorted(self.store.docs[Kind.POD].items()) if workload.kind == "VirtualMachine" else []
        who = (workload.namespace, workload.name)
        mine = (pod for (space, _), pod in pods if (space, controller_of(pod).get("name")) == who)
        return next(mine, None)

    def plug_a_nic(self) -> None:
        """Hot-plug a second NIC, or unplug it."""
        pod = self.any(
            Kind.POD, when=lambda doc: not controller_of(doc).get("apiVersion", "").startswith("kubevirt.io/")
        )
        if pod is not None:
            body = {"metadata": {"annotations": {NETWORKS: None if NETWORKS in notes(pod) else SIDE_NETWORK}}}
            self.store.patch(Kind.POD, meta(pod)["namespace"], meta(pod)["name"], body, "user")

    def schedule_a_pod(self) -> None:
        """The scheduler finds a node, late."""
        pod = self.any(Kind.POD, when=lambda doc: not spec(doc).get("nodeName"))
        if pod is not None:
            self._schedule(meta(pod)["namespace"], meta(pod)["name"])

    def _schedule(self, space: str, name: str) -> None:
        pod = self.store.get(Kind.POD, space, name)
        if pod is not None and not spec(pod).get("nodeName") and not deleting(pod):
            body = {"spec": {"nodeName": self.rng.choice(NODES)}}
            self.store.patch(Kind.POD, space, name, body, "scheduler")

    def delete_a_pod(self) -> None:
        """Delete a pod gracefully or by force."""
        pod = self.any(Kind.POD)
        if pod is not None:
            self._delete_pod(pod)

    def _delete_pod(self, pod: Doc) -> None:
        grace = 0 if self.rng.random() < 0.4 or not spec(pod).get("nodeName") else 30
        self.store.delete(Kind.POD, meta(pod)["namespace"], meta(pod)["name"], meta(pod)["uid"], "user", grace=grace)

    def replace_a_pod(self) -> None:
        """Delete a pod by force and create its successor under the same name in the same breath."""
        pod = self.any(Kind.POD)
        if pod is None:
            return
        space, name = meta(pod)["namespace"], meta(pod)["name"]
        self.store.delete(Kind.POD, space, name, meta(pod)["uid"], "user", grace=0)
        owner = owner_of(pod) if kind_of(pod) else controller_of(pod).get("name", name)
        workload = next((w for w in CAST if (w.namespace, w.name) == (space, owner)), None)
        if workload is not None:
            self._start(workload)

    def finish_a_pod(self) -> None:
        """A pod's containers end for good, or not."""
        pod = self.any(Kind.POD, when=lambda doc: bool(spec(doc).get("nodeName")) and alive(doc))
        if pod is not None:
            status = {"phase": self.rng.choice(("Succeeded", "Failed"))}
            if self.rng.random() < 0.2:
                status = {"phase": "Failed", "reason": "Evicted"}
            self.store.patch(Kind.POD, meta(pod)["namespace"], meta(pod)["name"], {"status": status}, "kubelet")
