"""Lists and watch events as bytes, turned into values: one typed decode per object, and never an exception for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.core.faults import Malformed
from controller.core.objects import VIEWS, Kind, Object, parse
from controller.ports import Change, Page, PortError, Unavailable
from controller.wire.answers import broken, read_status

if TYPE_CHECKING:
    from collections.abc import Iterable


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str
    token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None  # required: an answer without it is no list, and not an empty world


class _Versioned(msgspec.Struct, frozen=True):
    metadata: _ListMeta


class Written(msgspec.Struct, frozen=True, rename="camel"):
    """What the answer to a write says about the object."""

    resource_version: str
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] | None = None

    @property
    def version(self) -> int:
        """Its version."""
        return _number(self.resource_version)

    @property
    def gone(self) -> bool:
        """True if nothing keeps the object any longer, so that this very write has removed it."""
        return bool(self.deletion_timestamp) and self.deletion_grace_period_seconds == 0 and not self.finalizers


class _Answer(msgspec.Struct, frozen=True):
    metadata: Written


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


_LIST: Final = msgspec.json.Decoder(_List)
_VERSIONED: Final = msgspec.json.Decoder(_Versioned)
_WRITTEN: Final = msgspec.json.Decoder(_Answer)
_EVENT: Final = msgspec.json.Decoder(_Event)
# The common case in one pass; what does not fit (bookmarks, errors, broken objects) is looked at again.
_TYPED: Final[dict[Kind, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(msgspec.defstruct(f"{kind}Event", [("type", str), ("object", view)], frozen=True))
    for kind, view in VIEWS.items()
}
_NEWS: Final = {"ADDED": False, "MODIFIED": False, "DELETED": True}


class Reader:
    """Reads one kind; `skipped` counts what had no name and so can be nobody's."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._typed = _TYPED[kind]
        self.skipped = 0

    def page(self, body: bytes) -> Page:
        """Read a part of a list. Raises Unavailable for anything else than a list."""
        try:
            answer = _LIST.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"not a list: {error}", unknown=False) from None
        objects = tuple(o for raw in answer.items or () if (o := self._object(raw)) is not None)
        return Page(objects, _number(answer.metadata.resource_version), answer.metadata.token)

    def object(self, body: bytes) -> Object:
        """Read one object. Raises Unavailable for anything else."""
        found = self._object(body)
        if found is None:
            raise Unavailable("not an object", unknown=False)
        return found

    def changes(self, lines: Iterable[bytes]) -> tuple[tuple[Change, ...], PortError | None]:
        """Read watch events until one that ends the watch: an ERROR event, or a line that is no event."""
        changes: list[Change] = []
        for line in lines:
            try:
                change = self._change(line)
            except PortError as error:
                return tuple(changes), error
            if change is not None:
                changes.append(change)
        return tuple(changes), None

    def _change(self, line: bytes) -> Change | None:
        try:
            event = self._typed.decode(line)
        except msgspec.ValidationError:
            return self._oddity(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"not a watch event: {error}", unknown=False) from None
        deleted = _NEWS.get(event.type)
        if deleted is None:
            return self._oddity(line)
        return Change(_number(event.object.metadata.resource_version), event.object, deleted)

    def _oddity(self, line: bytes) -> Change | None:
        try:
            event = _EVENT.decode(line)
        except msgspec.DecodeError as error:
            raise Unavailable(f"not a watch event: {error}", unknown=False) from None
        if event.type == "ERROR":
            status = read_status(event.object)
            raise broken(status.code, status.message)
        deleted = _NEWS.get(event.type)
        found = None if deleted is None else self._object(event.object)
        if found is not None:
            return Change(_number(found.metadata.resource_version), found, bool(deleted))
        try:  # a bookmark, or a nameless object, which tells at least how far we are
            return Change(_number(_VERSIONED.decode(event.object).metadata.resource_version))
        except msgspec.DecodeError:
            return None

    def _object(self, raw: bytes | msgspec.Raw) -> Object | None:
        try:
            return parse(self._kind, raw)
        except Malformed:
            self.skipped += 1
            return None


def written(body: bytes) -> Written | None:
    """Read the answer to a write; None if it is no object (a Status)."""
    try:
        return _WRITTEN.decode(body).metadata
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _number(version: str) -> int:
    try:
        return int(version)
    except ValueError:
        raise Unavailable(f"unreadable resourceVersion {version!r}", unknown=False) from None


class Lines:
    """Cuts chunks into lines."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    @property
    def rest(self) -> bytes:
        """What came after the last newline."""
        return b"".join(self._pieces)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Answer the lines that this chunk completes, without empty ones."""
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._pieces, whole[0]))
            self._pieces.clear()
        if rest:
            self._pieces.append(rest)
        return [line for line in whole if line]
