"""The other programs of a cluster: the kubelet, Kube-OVN's node agent, the namespace controller. Not hostile, busy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from controller.core.objects import Kind
from controller.ports import Conflict, NotFound, PortError
from tests.sim.documents import Doc, deleting, labels, meta, notes, spec
from tests.sim.stage import NOTE, port_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.sim.store import Commit
    from tests.sim.world import SimWorld

NODE_LABEL: Final = NOTE + "node-name"
NAMESPACE_FINALIZER: Final = "example.com/namespace-content"


class Agents:
    """React to what is in the API, each after a while."""

    def __init__(self, universe: SimWorld) -> None:
        self._universe, self._store, self._rng = universe, universe.store, universe.users_rng
        self._tasks: set[asyncio.Task[None]] = set()
        universe.store.witness.append(self._see)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _see(self, commit: Commit) -> None:
        if commit.kind is Kind.POD and commit.new is not None:
            was_going = commit.old is not None and deleting(commit.old)
            if deleting(commit.new) and not was_going:
                self._start(self._end_pod(commit.new))
            key = NOTE + "routed"
            was_routed = commit.old is not None and notes(commit.old).get(key) == "true"
            if notes(commit.new).get(key) == "true" and not was_routed:
                self._start(self._note_node(commit.new))
        elif commit.kind is Kind.NAMESPACE and commit.new is not None and deleting(commit.new):
            self._start(self._end_namespace(commit.name[1]))

    async def _end_pod(self, pod: Doc) -> None:
        """The kubelet stops the containers within the grace period and says so."""
        await asyncio.sleep(self._rng.uniform(0.1, 12))
        if self._same(pod):
            self._store.delete(Kind.POD, meta(pod)["namespace"], meta(pod)["name"], "", "kubelet", grace=0)

    def _same(self, pod: Doc) -> bool:
        found = self._store.get(Kind.POD, meta(pod)["namespace"], meta(pod)["name"])
        return found is not None and meta(found)["uid"] == meta(pod)["uid"]

    async def _note_node(self, pod: Doc) -> None:
        """The node agent writes where the pod runs into its IP: a full Update, again after each conflict."""
        name = port_of(pod)
        for _ in range(5):
            await asyncio.sleep(self._rng.uniform(0.01, 2))
            ip = self._store.get(Kind.IP, "", name)
            if ip is None or deleting(ip) or not self._same(pod):
                return
            node = spec(pod).get("nodeName", "")
            changed = {
                **ip,
                "metadata": {**meta(ip), "labels": {**labels(ip), NODE_LABEL: node}},
                "spec": {**spec(ip), "nodeName": node},
            }
            await asyncio.sleep(self._rng.expovariate(1 / 0.02))
            try:
                self._store.replace(Kind.IP, "", name, changed, f"agent on {node}")
            except Conflict:
                continue
            except PortError:
                pass
            return

    async def _end_namespace(self, name: str) -> None:
        """Everything in it goes first."""
        while True:
            inside = [doc for (space, _), doc in self._store.docs[Kind.POD].items() if space == name]
            for pod in inside:
                if not deleting(pod):
                    meta_ = meta(pod)
                    self._store.delete(Kind.POD, name, meta_["name"], meta_["uid"], "namespaces", grace=5)
            for kind in (Kind.STATEFUL_SET, Kind.VM, Kind.VMI, Kind.MIGRATION):
                for space, owner in sorted(self._store.docs[kind]):
                    if space == name:
                        self._store.delete(kind, space, owner, "", "namespaces")
            owners = [d for k in (Kind.STATEFUL_SET, Kind.VM, Kind.VMI) for s, d in self._store.docs[k] if s == name]
            if not inside and not owners:
                break
            await asyncio.sleep(self._rng.uniform(0.5, 3))
        try:
            self._store.patch(Kind.NAMESPACE, "", name, {"metadata": {"finalizers": None}}, "namespaces")
        except NotFound:
            return
