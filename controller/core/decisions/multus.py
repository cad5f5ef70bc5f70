"""What Multus' annotations of a pod list: both forms, element by element (kube-ovn-behaviour §7.3).

What cannot be read is an Unserved with what to write instead, and touches no other element.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions.entitlement import Attachment
from controller.core.faults import Malformed

if TYPE_CHECKING:
    from controller.core.catalogue import Message
    from controller.core.effects import Topic
    from controller.core.objects import Pod

LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Unserved:
    """An element that waits, and what wakes it; without a message nobody needs to be told."""

    message: Message | None
    attachment: Attachment | None = None  # None: nobody can tell which network it means

    @property
    def waits(self) -> tuple[Topic, ...]:
        """What may make it readable."""
        return (nad_topic(self.attachment),) if self.attachment is not None else ()


def nad_topic(attachment: Attachment) -> Topic:
    """Fires when that NetworkAttachmentDefinition comes, changes or goes."""
    return ("nad", attachment.namespace, attachment.name)


@dataclass(frozen=True, slots=True)
class Element:
    """One element that could be read."""

    attachment: Attachment
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    default: bool = False  # names the default network: what is wrong with that is told by who runs it


class _Json(msgspec.Struct, frozen=True):
    """The keys of a JSON element that decide; the others are Multus' business."""

    name: str
    namespace: str | None = None
    interface: str | None = None
    ips: list[str] | None = None
    mac: str | None = None


def elements(key: str, text: str, pod: Pod) -> list[Element | Unserved]:
    """What one annotation lists: a JSON list, or `[namespace/]name[@interface]` with commas between them."""
    if not text.strip():
        return []
    try:
        parts: list[Any] = _json_parts(text) if set(text) & set('[{"') else text.split(",")
    except Malformed as why:
        return [_unreadable(key, why)]
    found: list[Element | Unserved] = []
    for part in parts:
        try:
            json = not isinstance(part, str)
            found.append(_of_json(key, part, pod) if json else _of_text(key, part.strip(), pod))
        except Malformed as why:
            found.append(_unreadable(key, why))
    return found


def _unreadable(key: str, why: Malformed) -> Unserved:
    """A default network that cannot be read is the business of who runs it (contract §4)."""
    silent = key == naming.DEFAULT_NETWORK
    return Unserved(None if silent else say(Reason.VALIDATE_POD_NETWORK_FAILED, "annotation", key=key, why=why))


def _json_parts(text: str) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(text, type=list[msgspec.Raw])
    except UNREADABLE as broken:
        raise Malformed(f"{show(text)} is no JSON list: {broken}; write a list, or namespace/name,...") from None


def _of_json(key: str, part: msgspec.Raw, pod: Pod) -> Element:
    try:
        one = msgspec.json.decode(part, type=_Json)
    except UNREADABLE as broken:
        raise Malformed(f"{show(bytes(part).decode(errors='replace'))} is no network: {broken}") from None
    attachment = _attachment(one.namespace or pod.metadata.namespace, one.name)
    default = key == naming.DEFAULT_NETWORK
    return Element(attachment, one.interface or "", tuple(one.ips or ()), one.mac or "", default)


def _of_text(key: str, part: str, pod: Pod) -> Element:
    head, slash, tail = part.partition("/")
    space, rest = (head.strip(), tail.strip()) if slash else (pod.metadata.namespace, part)
    name, at, interface = rest.partition("@")
    if at and not LABEL.fullmatch(interface.strip()):
        raise Malformed(f"{show(part)} has no usable interface: write [namespace/]name@interface, like net1@eth1")
    default = key == naming.DEFAULT_NETWORK
    return Element(_attachment(space, name.strip()), interface.strip(), default=default)


def _attachment(space: str, name: str) -> Attachment:
    if not (LABEL.fullmatch(space) and _NAME.fullmatch(name)):
        raise Malformed(
            f"{show(f'{space}/{name}')} names no NetworkAttachmentDefinition: write [namespace/]name in lower case"
        )
    return Attachment(space, name)


def show(text: str) -> str:
    """A text as a message shows it: people can write megabytes."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
