"""Texts that many objects have are one text: 50,000 pods in one subnet do not say its name 150,000 times.

A replica keeps what it reads for as long as the process lives, and of a pod's annotations only address and MAC are its
own. In CPython a short text costs 50 bytes and its content; an interned one goes when the last object with it goes.
All of this is for objects that nobody has seen yet: they are changed in place, and nothing becomes another value.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final

from msgspec.structs import force_setattr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.core.meta import Base, Meta

_LONG: Final = 64  # what is longer is hardly anybody else's, too
_OWN: Final = ("ip_address", "mac_address")  # annotations whose values no two pods have
_OWNER: Final = ("kind", "name", "uid", "api_version")
_MANY: Final = 256
_SETS: Final[dict[tuple[str, ...], tuple[str, ...]]] = {}  # of finalizers there are a few combinations


def share_meta(meta: Meta) -> None:
    """Labels, annotations, finalizers, owners and the namespace."""
    for texts in (meta.labels, meta.annotations):
        for key, text in texts.items():
            if len(text) < _LONG and not key.endswith(_OWN):
                texts[key] = intern(text)
    share_fields(meta, ("namespace",))
    for owner in meta.owner_references:
        share_fields(owner, _OWNER)
    if meta.finalizers:
        if len(_SETS) > _MANY:
            _SETS.clear()
        force_setattr(meta, "finalizers", _SETS.setdefault(meta.finalizers, meta.finalizers))


def share_fields(one: Base, names: Iterable[str]) -> None:
    """These fields, with every other object that has the same text in any."""
    for name in names:
        force_setattr(one, name, intern(getattr(one, name)))


def share_with(one: Base, other: Base, names: Iterable[str]) -> None:
    """These fields with the same fields of the other object, where they say the same."""
    for name in names:
        text = getattr(other, name)
        if getattr(one, name) == text:
            force_setattr(one, name, text)
