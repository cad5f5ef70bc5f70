"""kube-controller-manager and KubeVirt: pods of what is scaled down or gone go, VMs stop, migrations come to an end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from controller.core.objects import Kind
from controller.ports import PortError
from tests.sim.documents import Doc, deleting, finalizers, meta, notes, spec
from tests.sim.stage import alive, controller_of
from tests.sim.tenants import FOREGROUND, JOB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sim.world import SimWorld

TICK = 2.5
DONE = ("Succeeded", "Failed")


class Stewards:
    """Look at everything every few seconds, and do a little of what is to be done."""

    def __init__(self, universe: SimWorld) -> None:
        self._store, self._rng = universe.store, universe.users_rng

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            for act in list(self._acts()):
                if self._rng.random() < 0.4:
                    try:
                        act()
                    except PortError:
                        continue

    def _acts(self) -> Iterator[Callable[[], None]]:
        for (space, name), one in sorted(self._store.docs[Kind.STATEFUL_SET].items()):
            if deleting(one) and not list(self._pods(space, meta(one)["uid"])):
                yield lambda s=space, n=name: self._let_go(Kind.STATEFUL_SET, s, n)  # type: ignore[misc]
        yield from self._machines()
        for (space, name), one in sorted(self._store.docs[Kind.MIGRATION].items()):
            yield lambda s=space, n=name, o=one: self._move_on(s, n, o)  # type: ignore[misc]
        for _, pod in sorted(self._store.docs[Kind.POD].items()):
            if not deleting(pod) and self._superfluous(pod):
                yield lambda p=pod: self._end(p)  # type: ignore[misc]

    def _machines(self) -> Iterator[Callable[[], None]]:
        for (space, name), vm in sorted(self._store.docs[Kind.VM].items()):
            if deleting(vm) and self._store.get(Kind.VMI, space, name) is None:
                yield lambda s=space, n=name: self._let_go(Kind.VM, s, n)  # type: ignore[misc]
        for (space, name), vmi in sorted(self._store.docs[Kind.VMI].items()):
            pods = list(self._pods(space, meta(vmi)["uid"]))
            owner = self._store.get(Kind.VM, space, name)
            orphan = bool(meta(vmi).get("ownerReferences")) and (owner is None or deleting(owner))
            if deleting(vmi):
                if not pods:
                    yield lambda s=space, n=name: self._let_go(Kind.VMI, s, n)  # type: ignore[misc]
            elif orphan or not any(alive(pod) for pod in pods):
                yield lambda s=space, n=name: self._stop(s, n)  # type: ignore[misc]

    def _pods(self, space: str, uid: str) -> Iterator[Doc]:
        for (where, _), pod in sorted(self._store.docs[Kind.POD].items()):
            if where == space and controller_of(pod).get("uid") == uid:
                yield pod

    def _let_go(self, kind: Kind, space: str, name: str) -> None:
        self._store.patch(kind, space, name, {"metadata": {"finalizers": None}}, "stewards")

    def _stop(self, space: str, name: str) -> None:
        """The VMI goes when its pods are gone; the VM stays."""
        vmi = self._store.get(Kind.VMI, space, name)
        if vmi is not None and FOREGROUND not in finalizers(vmi):
            self._store.patch(Kind.VMI, space, name, {"metadata": {"finalizers": [FOREGROUND]}}, "stewards")
        self._store.delete(Kind.VMI, space, name, "", "stewards")

    def _superfluous(self, pod: Doc) -> bool:
        """True for a pod whose owner wants it no more."""
        ref, space = controller_of(pod), meta(pod)["namespace"]
        kinds = {"StatefulSet": Kind.STATEFUL_SET, "VirtualMachineInstance": Kind.VMI}
        kind = kinds.get(ref.get("kind", ""))
        if kind is None or kind not in self._store.served or ref["uid"].startswith("uid-of-"):
            return False
        owner = self._store.get(kind, space, ref["name"])
        if owner is None or meta(owner)["uid"] != ref["uid"] or deleting(owner):
            return True
        if kind is Kind.STATEFUL_SET:
            first, number = (spec(owner).get("ordinals") or {}).get("start", 0), meta(pod)["name"].rpartition("-")[2]
            return not first <= int(number) < first + spec(owner)["replicas"]
        return False

    def _end(self, pod: Doc) -> None:
        grace = self._rng.choice((0, 10))
        self._store.delete(
            Kind.POD, meta(pod)["namespace"], meta(pod)["name"], meta(pod)["uid"], "stewards", grace=grace
        )

    # -- migrations --------------------------------------------------------------------------------
    def _move_on(self, space: str, name: str, move: Doc) -> None:
        """Scheduling, Running, and an end: then one of the two pods goes, and the migration is forgotten."""
        phase = (move.get("status") or {}).get("phase")
        pods = [pod for (where, _), pod in sorted(self._store.docs[Kind.POD].items()) if where == space]
        target = next((pod for pod in pods if notes(pod).get(JOB) == name), None)
        if phase not in DONE:
            if target is not None and not spec(target).get("nodeName"):
                return  # it is Scheduling until the target has a node
            going = ("Running",) if phase == "Scheduling" else ("Running", "Running", *DONE)
            to = "Failed" if target is None else self._rng.choice(going)
            self._store.patch(Kind.MIGRATION, space, name, {"status": {"phase": to}}, "stewards")
            return
        losers = [target] if phase == "Failed" else self._siblings(pods, target)
        left = [pod for pod in losers if pod is not None]
        for pod in left:
            if not deleting(pod):
                self._end(pod)
        if not left:
            self._store.delete(Kind.MIGRATION, space, name, "", "stewards")

    @staticmethod
    def _siblings(pods: list[Doc], target: Doc | None) -> list[Doc | None]:
        uid = controller_of(target).get("uid") if target is not None else None
        made = meta(target)["creationTimestamp"] if target is not None else ""
        mine = [p for p in pods if uid and controller_of(p).get("uid") == uid and p is not target]
        return [p for p in mine if meta(p)["creationTimestamp"] <= made]
