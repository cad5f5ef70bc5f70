"""What the API server has in etcd, and the rules by which it changes: versions, generations, finalizers, history."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.core.objects import OPTIONAL, Kind, Object, parse
from controller.ports import Conflict, Denied, Gone, NotFound, Rejected
from tests.sim.documents import Doc, Name, admit, deleting, expect, finalizers, merge, meta, timestamp, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KUBEVIRT: Final = frozenset({Kind.VM, Kind.VMI, Kind.MIGRATION})
NAMESPACED: Final = frozenset({Kind.POD, Kind.LEASE, Kind.STATEFUL_SET, Kind.NAD}) | _KUBEVIRT
WITH_STATUS: Final = frozenset({Kind.IP, Kind.SUBNET, Kind.POOL, Kind.VIP})
WITH_GENERATION: Final = frozenset({Kind.IP, Kind.SUBNET, Kind.POD, Kind.POOL, Kind.VIP, Kind.STATEFUL_SET})
SYSTEM_FIELDS: Final = ("name", "namespace", "uid", "creationTimestamp", "generation", "resourceVersion",
                        "deletionTimestamp", "deletionGracePeriodSeconds")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Commit:
    """One change that became durable: who made it, what was before, what is now (None: nothing)."""

    version: int
    kind: Kind
    name: Name
    old: Doc | None
    new: Doc | None
    view: Object
    by: str

    @property
    def document(self) -> Doc:
        """The document as it is, or as it was at last."""
        found = self.new if self.new is not None else self.old
        if found is None:
            raise AssertionError("a commit of nothing")
        return found


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between clusters."""

    admission: bool = True
    ip_status: bool = True


class Store:
    """Documents of all kinds under one counter; every write is a Commit, handed to `witness` before anybody sees it."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], float], rules: Rules) -> None:
        self._now, self._wall, self.rules = now, wall, rules
        self.docs: dict[Kind, dict[Name, Doc]] = {kind: {} for kind in Kind}
        self.views: dict[Kind, dict[Name, Object]] = {kind: {} for kind in Kind}
        self.version = 100
        self.compacted = 0
        self.witness: list[Callable[[Commit], None]] = []
        self._history: dict[Kind, list[Commit]] = {kind: [] for kind in Kind}
        self._grew: dict[Kind, asyncio.Event] = {}
        self._uids = 0
        self._snapshots: dict[int, tuple[Object, ...]] = {}
        self._tokens = 0
        self.served = frozenset(Kind) - OPTIONAL | {Kind.POOL, Kind.VIP, Kind.NAD}  # the others' CRDs may come later

    def serve(self, *kinds: Kind) -> None:
        """Install CRDs."""
        self.served |= set(kinds)

    def must_serve(self, kind: Kind) -> None:
        """Raise NotFound for a kind whose CRD is not there."""
        if kind not in self.served:
            raise NotFound(f"the server does not know the kind {kind}")

    # -- reading -----------------------------------------------------------------------------------------------
    def get(self, kind: Kind, namespace: str, name: str) -> Doc | None:
        """The document of that name."""
        return self.docs[kind].get((namespace, name))

    def since(self, kind: Kind, version: int) -> list[Commit]:
        """The changes of a kind after that version; raises Gone if they are not known any more."""
        if version < self.compacted:
            raise Gone(f"{kind} {version} is older than {self.compacted}")
        history = self._history[kind]
        return history[bisect_right(history, version, key=lambda commit: commit.version) :]

    def snapshot(self, kind: Kind) -> tuple[Object, ...]:
        """Everything of a kind as it is now, in the order of names."""
        return tuple(view for _, view in sorted(self.views[kind].items()))

    def keep(self, objects: tuple[Object, ...]) -> str:
        """Remember the rest of a list until the next compaction and answer a token for it."""
        self._tokens += 1
        self._snapshots[self._tokens] = objects
        return f"{self.version}/{self._tokens}"

    def rest(self, token: str) -> tuple[tuple[Object, ...], int]:
        """The rest of a list and its version; raises Gone when the token has expired."""
        version, _, key = token.partition("/")
        found = self._snapshots.get(int(key))
        if found is None:
            raise Gone(f"the continue token {token} has expired")
        return found, int(version)

    def compact(self) -> None:
        """Forget all history."""
        self.compacted = self.version
        self._snapshots.clear()
        for history in self._history.values():
            history.clear()

    def grew(self, kind: Kind) -> asyncio.Event:
        """Is set when the kind changes next."""
        return self._grew.setdefault(kind, asyncio.Event())

    # -- writing -----------------------------------------------------------------------------------------------
    def create(self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], by: str) -> int:
        """Create it and answer its version; raises Conflict if the name is taken."""
        if (namespace, name) in self.docs[kind]:
            raise Conflict(f"{kind} {namespace}/{name} exists")
        if kind in NAMESPACED:
            self._check_namespace(namespace)
        doc = merge({}, body)
        doc["metadata"] = {k: v for k, v in doc.get("metadata", {}).items() if k not in SYSTEM_FIELDS}
        self._uids += 1
        doc["metadata"] |= {
            "name": name,
            "uid": f"{self._uids:08x}-0000-4000-8000-000000000000",
            "creationTimestamp": timestamp(self._wall()),
        }
        if kind in NAMESPACED:
            doc["metadata"]["namespace"] = namespace
        if kind in WITH_GENERATION:
            doc["metadata"]["generation"] = 1
        if kind in WITH_STATUS:
            doc.pop("status", None)
        return self._commit(kind, (namespace, name), None, doc, by)

    def _check_namespace(self, namespace: str) -> None:
        found = self.get(Kind.NAMESPACE, "", namespace)
        if found is None:
            raise NotFound(f"namespace {namespace} does not exist")
        if deleting(found):
            raise Denied(f"namespace {namespace} is being terminated")

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Mapping[str, Any], by: str, subresource: str = ""
    ) -> int:
        """Merge-patch it, or its status, and answer its version, which is the old one if nothing changed."""
        old = self._existing(kind, namespace, name)
        if subresource not in ("", "status") or (subresource == "status" and not self._has_status(kind)):
            raise NotFound(f"{kind} has no {subresource}")
        expect(old, body)
        if subresource:
            merged = merge(old.get("status"), body.get("status"))
            new = {**old, "status": merged} if merged else {k: v for k, v in old.items() if k != "status"}
        else:
            new = merge(old, {k: v for k, v in body.items() if k != "status" or kind not in WITH_STATUS})
        return self._update(kind, (namespace, name), old, new, by)

    def replace(self, kind: Kind, namespace: str, name: str, doc: Doc, by: str) -> int:
        """Update the whole object; raises Conflict if its resourceVersion is not the present one."""
        old = self._existing(kind, namespace, name)
        expect(old, doc)
        new = dict(doc)
        if kind in WITH_STATUS:
            new.pop("status", None)
            new |= {"status": old["status"]} if "status" in old else {}
        return self._update(kind, (namespace, name), old, new, by)

    def delete(self, kind: Kind, namespace: str, name: str, uid: str, by: str, grace: int = 0, seen: str = "") -> int:
        """Delete it, or let it wait for its finalizers or its grace; 0 if it is not there."""
        old = self.get(kind, namespace, name)
        if old is None:
            return 0
        if uid and uid != meta(old)["uid"]:
            raise Conflict(f"{kind} {name} is {meta(old)['uid']}, not {uid}")
        if seen and seen != meta(old)["resourceVersion"]:
            raise Conflict(f"{kind} {name} is at {meta(old)['resourceVersion']}, not {seen}")
        left = meta(old).get("deletionGracePeriodSeconds", grace)
        if deleting(old) and (finalizers(old) or grace >= left):
            return int(meta(old)["resourceVersion"])
        if not finalizers(old) and grace == 0:
            return self._commit(kind, (namespace, name), old, None, by)
        stamp = {"deletionTimestamp": timestamp(self._wall() + grace), "deletionGracePeriodSeconds": grace}
        new = {**old, "metadata": {**meta(old), **stamp}}
        return self._commit(kind, (namespace, name), old, new, by)

    def _existing(self, kind: Kind, namespace: str, name: str) -> Doc:
        old = self.get(kind, namespace, name)
        if old is None:
            raise NotFound(f"{kind} {namespace}/{name}")
        return old

    def _has_status(self, kind: Kind) -> bool:
        return kind in WITH_STATUS and (kind is not Kind.IP or self.rules.ip_status)

    def _update(self, kind: Kind, name: Name, old: Doc, new: Doc, by: str) -> int:
        new = {**new, "metadata": dict(meta(new))}
        for field in SYSTEM_FIELDS:
            meta(new).pop(field, None)
            if field in meta(old):
                meta(new)[field] = meta(old)[field]
        for field in ("labels", "annotations", "finalizers"):  # empty and absent are the same in ObjectMeta
            if not meta(new).get(field):
                meta(new).pop(field, None)
        if new == old:
            return int(meta(old)["resourceVersion"])
        if deleting(old) and set(finalizers(new)) - set(finalizers(old)):
            raise Rejected(f"{kind} {name[1]}: no finalizer can be added while it is being deleted")
        if kind is Kind.IP and self.rules.admission and not by.startswith("controller"):
            admit(old, new)
        if deleting(old) and not finalizers(new) and not meta(old).get("deletionGracePeriodSeconds"):
            return self._commit(kind, name, old, None, by)
        return self._commit(kind, name, old, new, by)

    def _commit(self, kind: Kind, name: Name, old: Doc | None, new: Doc | None, by: str) -> int:
        if new is not None:
            validate(kind, new)
        self.version += 1
        last = dict(new if new is not None else old or {})
        last["metadata"] = {**meta(last), "resourceVersion": str(self.version)}
        bumped = old is not None and (
            last.get("spec") != old.get("spec") or (new is not None and deleting(new) and not deleting(old))
        )
        if bumped and "generation" in meta(last):
            last["metadata"]["generation"] += 1
        view = parse(kind, msgspec.json.encode(last))
        commit = Commit(self.version, kind, name, old, None if new is None else last, view, by)
        if new is None:
            del self.docs[kind][name], self.views[kind][name]
        else:
            self.docs[kind][name], self.views[kind][name] = last, view
        self._history[kind].append(commit)
        for look in self.witness:
            look(commit)
        self._grew.pop(kind, asyncio.Event()).set()
        return self.version
