"""StatefulSets and VMs as people make, scale, move, replace and delete them."""

from __future__ import annotations

from typing import Final

from controller.core.objects import Kind
from tests.sim.documents import Doc, deleting, meta, spec
from tests.sim.hand import Hand
from tests.sim.stage import NOTE, Workload, controller_of

FOREGROUND: Final = "foregroundDeletion"
JOB: Final = "kubevirt.io/migrationJobName"


def reference(kind: str, name: str, api: str, uid: str) -> Doc:
    """An owner reference."""
    return {"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": True}


class Tenants(Hand):
    """Each action is one change of the API, or a few in one breath."""

    def owner_for(self, workload: Workload) -> Doc | None:
        """The owner reference of a new pod of that workload, made on the way; None if nobody would make a pod now."""
        return self._of_set(workload) if workload.kind == "StatefulSet" else self._of_machine(workload)

    # -- StatefulSets ------------------------------------------------------------------------------
    def _of_set(self, workload: Workload) -> Doc | None:
        name, _, number = workload.name.rpartition("-")
        found = self.store.get(Kind.STATEFUL_SET, workload.namespace, name)
        if found is None:
            self._make_set(workload.namespace, name)
            found = self.store.docs[Kind.STATEFUL_SET][workload.namespace, name]
        first = (spec(found).get("ordinals") or {}).get("start", 0)
        if deleting(found) or not first <= int(number) < first + spec(found)["replicas"]:
            return None
        return reference("StatefulSet", name, "apps/v1", meta(found)["uid"])

    def _make_set(self, space: str, name: str) -> None:
        body: Doc = {"spec": {"replicas": self.rng.choice((1, 2, 2, 3)), "template": {"metadata": {}}}}
        self.store.create(Kind.STATEFUL_SET, space, name, body, "user")

    def scale_a_set(self) -> None:
        """Other replicas, now and then another first ordinal."""
        one = self.any(Kind.STATEFUL_SET)
        if one is not None:
            wanted: Doc = {"replicas": self.rng.choice((0, 1, 1, 2, 3))}
            if self.rng.random() < 0.5:
                wanted["ordinals"] = {"start": self.rng.choice((0, 1))}
            self.store.patch(Kind.STATEFUL_SET, meta(one)["namespace"], meta(one)["name"], {"spec": wanted}, "user")

    def delete_a_set(self) -> None:
        """Its pods go afterwards, or before."""
        self._delete(self.any(Kind.STATEFUL_SET, when=lambda doc: not deleting(doc)))

    def _delete(self, one: Doc | None) -> None:
        if one is None:
            return
        kind = Kind.VM if "running" in spec(one) else Kind.STATEFUL_SET
        space, name = meta(one)["namespace"], meta(one)["name"]
        if self.rng.random() < 0.4:
            self.store.patch(kind, space, name, {"metadata": {"finalizers": [FOREGROUND]}}, "user")
        self.store.delete(kind, space, name, "", "user")

    def replace_a_set(self) -> None:
        """`kubectl replace --force`: another one of that name, which adopts the pods or gets new ones."""
        one = self.any(Kind.STATEFUL_SET, when=lambda doc: not deleting(doc))
        if one is None:
            return
        space, name = meta(one)["namespace"], meta(one)["name"]
        self.store.delete(Kind.STATEFUL_SET, space, name, "", "user")
        self._make_set(space, name)
        if self.rng.random() < 0.5:
            uid = meta(self.store.docs[Kind.STATEFUL_SET][space, name])["uid"]
            for (where, pod), doc in sorted(self.store.docs[Kind.POD].items()):
                if where == space and controller_of(doc).get("uid") == meta(one)["uid"]:
                    refs = [reference("StatefulSet", name, "apps/v1", uid)]
                    self.store.patch(Kind.POD, space, pod, {"metadata": {"ownerReferences": refs}}, "user")

    def edit_a_template(self) -> None:
        """Pin the pods to come to a subnet, or free them."""
        kind = self.rng.choice((Kind.STATEFUL_SET, Kind.VM))
        one = self.any(kind)
        if one is not None:
            pin = self.rng.choice((None, None, self.subnet()))
            template = {"metadata": {"annotations": {NOTE + "logical_switch": pin}}}
            space, name = meta(one)["namespace"], meta(one)["name"]
            self.store.patch(kind, space, name, {"spec": {"template": template}}, "user")

    def last_orders(self) -> None:
        """Scale sets and delete VMs that have no pod at this moment: no event of a pod will tell of it."""
        owners = {controller_of(pod).get("uid") for pod in self.store.docs[Kind.POD].values()}
        for (space, name), one in sorted(self.store.docs[Kind.STATEFUL_SET].items()):
            if meta(one)["uid"] not in owners and not deleting(one):
                body = {"spec": {"replicas": self.rng.choice((0, 1, 2))}}
                self.store.patch(Kind.STATEFUL_SET, space, name, body, "user")
        for space, name in sorted(self.store.docs[Kind.VM]):
            if self.store.get(Kind.VMI, space, name) is None and self.rng.random() < 0.5:
                self.store.delete(Kind.VM, space, name, "", "user")

    # -- VMs ---------------------------------------------------------------------------------------
    def _of_machine(self, workload: Workload) -> Doc | None:
        """Before KubeVirt's CRDs are there its pods may be: restored from a backup in the wrong order."""
        space, name = workload.namespace, workload.name
        if Kind.VM not in self.store.served:
            return reference("VirtualMachineInstance", name, "kubevirt.io/v1", f"uid-of-{name}")
        vm, vmi = self.store.get(Kind.VM, space, name), self.store.get(Kind.VMI, space, name)
        if vm is None and vmi is None and self.rng.random() < 0.9:
            body: Doc = {"spec": {"running": True, "template": {"metadata": {}}}}
            self.store.create(Kind.VM, space, name, body, "user")
        vm = self.store.get(Kind.VM, space, name)
        if (vm is not None and deleting(vm)) or (vmi is not None and deleting(vmi)):
            return None
        if vmi is None:
            refs = [reference("VirtualMachine", name, "kubevirt.io/v1", meta(vm)["uid"])] if vm is not None else []
            self.store.create(Kind.VMI, space, name, {"metadata": {"ownerReferences": refs}}, "virt")
        uid = meta(self.store.docs[Kind.VMI][space, name])["uid"]
        return reference("VirtualMachineInstance", name, "kubevirt.io/v1", uid)

    def migration(self, workload: Workload) -> dict[str, str]:
        """The annotation of a migration's target pod; the migration is made with it."""
        if Kind.MIGRATION not in self.store.served:
            return {}
        name = f"move-{next(self.serial)}"
        body: Doc = {"spec": {"vmiName": workload.name}, "status": {"phase": "Scheduling"}}
        self.store.create(Kind.MIGRATION, workload.namespace, name, body, "user")
        return {JOB: name}

    def delete_a_vm(self) -> None:
        """Stopped or running."""
        self._delete(self.any(Kind.VM, when=lambda doc: not deleting(doc)))
