"""Who keeps an address when its pods are gone, worked out from the documents alone (contract §5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.core.objects import Kind
from tests.sim.documents import Doc, deleting, meta, notes, spec
from tests.sim.stage import NOTE, alive, owner_of

if TYPE_CHECKING:
    from tests.sim.records import Book
    from tests.sim.world import SimWorld

RETAINED: Final = ("StatefulSet", "VirtualMachine")
OWNER_UID: Final = "keepip.io/owner-uid"
_NUMBERED: Final = re.compile(r"(.+)-(\d{1,10})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Owners:
    """Reads the store; `book` tells what an IP was granted, whatever people have written into it since."""

    universe: SimWorld
    book: Book

    def keeps(self, ip: Doc) -> bool:
        """True if the owner of this IP keeps its address and its port, reserved or not."""
        fields = self._fields(ip)
        kind, space, owner = fields.get("podType", ""), fields.get("namespace", ""), fields.get("podName", "")
        parts = str(meta(ip)["name"]).split(".")
        if len(parts) > 1 and not str(meta(ip)["name"]).startswith(f"{owner}.{space}"):  # edited: its name tells
            owner, space = parts[:2]
        main = meta(ip)["name"] == f"{owner}.{space}"
        uid = notes(ip).get(OWNER_UID, "")
        if kind == "StatefulSet":
            return self._by_set(space, owner, uid, fields, main=main)
        if kind == "VirtualMachine":
            return self._by_machine(space, owner, uid, fields, main=main)
        return False

    def _fields(self, ip: Doc) -> dict[str, str]:
        grant = self.book.grants.get(meta(ip)["uid"])
        return grant.fields if grant is not None else spec(ip)

    def _served(self, space: str, owner: str) -> bool:
        """True if a live pod of that owner has its default network from us."""
        pods = [doc for (where, _), doc in self.universe.store.docs[Kind.POD].items() if where == space]
        return any(owner_of(p) == owner and alive(p) and not spec(p).get("hostNetwork") for p in pods)

    def _by_set(self, space: str, owner: str, uid: str, fields: dict[str, str], *, main: bool) -> bool:
        if self._served(space, owner):
            return main
        found = _NUMBERED.match(owner)
        if found is None:
            return True
        one = self.universe.store.get(Kind.STATEFUL_SET, space, found[1])
        if one is None or deleting(one) or uid not in ("", meta(one)["uid"]):
            return False
        first = (spec(one).get("ordinals") or {}).get("start", 0)
        inside = first <= int(found[2]) < first + spec(one).get("replicas", 1)
        return inside and not self._moved(space, one, fields, main=main)

    def _by_machine(self, space: str, owner: str, uid: str, fields: dict[str, str], *, main: bool) -> bool:
        store, served = self.universe.store, self._served(space, owner)
        if served and main:
            return True
        if not self.universe.options.keep_vm_ip and not served:
            return False
        if Kind.VM not in store.served:
            return True
        one = store.get(Kind.VM, space, owner)
        going = one is None or deleting(one) or uid not in ("", meta(one)["uid"])
        if served:
            return going  # no VM here declares another network than the default one
        if store.get(Kind.VMI, space, owner) is not None:
            return True
        return not going and main and one is not None and not self._moved(space, one, fields, main=main)

    def _moved(self, space: str, one: Doc, fields: dict[str, str], *, main: bool) -> bool:
        if not main or not fields.get("subnet"):
            return False
        template = ((spec(one).get("template") or {}).get("metadata") or {}).get("annotations") or {}
        pinned = template.get(NOTE + "logical_switch")
        if pinned:
            return bool(pinned != fields.get("subnet"))
        found = self.universe.store.get(Kind.NAMESPACE, "", space)
        listed = notes(found).get(NOTE + "logical_switch", "") if found is not None else ""
        names = [name.strip() for name in listed.split(",") if name.strip()]
        return bool(names) and fields.get("subnet") not in names
