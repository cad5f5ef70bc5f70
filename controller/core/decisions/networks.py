"""Which networks a pod has: the default one, and those that its Multus annotations name (kube-ovn-behaviour §7.3).

Total: whatever people write, each element is a NIC that we serve, none of ours, or an Unserved with what to write
instead; what is wrong with one element touches no other (bug row 18).
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
    from collections.abc import Callable, Iterable, Iterator

    from controller.core.catalogue import Message
    from controller.core.effects import Topic
    from controller.core.objects import Pod

CNI: Final = "kube-ovn"
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_PREFIX_MAX: Final = 253  # of an annotation's key in front of its slash
_SHOWN: Final = 60
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Nic:
    """One NIC whose address is ours to give; `provider` names its port, its IP and its annotations.

    `bound` is what `spec.provider` of its subnets says: the provider without the interface. `ips` and `mac` are what
    the element of the Multus annotation asks for.
    """

    provider: str = naming.OVN
    bound: str = naming.OVN
    attachment: Attachment | None = None  # None: the default network
    interface: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""

    @property
    def has_port(self) -> bool:
        """False for a NIC of another CNI that takes its addresses from us: it has no port in OVN."""
        return naming.is_ovn(self.bound)

    def key(self, name: str) -> str:
        """The pod's annotation of that name for this NIC."""
        return naming.annotation(self.provider, name)

    def own_key(self, name: str) -> str:
        """The annotation for this interface of its network, "" without one (kube-ovn-behaviour §4.5)."""
        if self.attachment is None or not self.interface:
            return ""
        return f"{self.attachment.name}.{self.attachment.namespace}.kubernetes.io/{name}.{self.interface}"


DEFAULT: Final = Nic()


@dataclass(frozen=True, slots=True)
class Unserved:
    """An element that waits, and what wakes it; without a message nobody needs to be told."""

    message: Message | None
    attachment: Attachment | None = None  # None: nobody can tell which network it means

    @property
    def waits(self) -> tuple[Topic, ...]:
        """What may make it readable."""
        return (topic(self.attachment),) if self.attachment is not None else ()


@dataclass(frozen=True, slots=True)
class Networks:
    """All of one pod: the default network first, the others as they are listed."""

    nics: tuple[Nic, ...] = ()
    unserved: tuple[Unserved, ...] = ()

    def may_have(self, provider: str) -> bool:
        """True if a NIC of that provider may be meant by what cannot be told now: "don't know" is never "gone"."""
        stems = [f"{u.attachment.name}.{u.attachment.namespace}" if u.attachment else None for u in self.unserved]
        return any(stem is None or f"{provider}.".startswith(f"{stem}.") for stem in stems)


def topic(attachment: Attachment) -> Topic:
    """Fires when that NetworkAttachmentDefinition comes, changes or goes."""
    return ("nad", attachment.namespace, attachment.name)


def networks_of(pod: Pod, config: Callable[[Attachment], str | None]) -> Networks:
    """The pod's networks; `config` is a look-up of spec.config, None if there is no such definition.

    With another default network the pod's own is left out: that of a definition of ours is a NIC like the others.
    """
    notes = pod.metadata.annotations
    if pod.spec.host_network:
        return Networks()
    default, listed = notes.get(naming.DEFAULT_NETWORK, ""), notes.get(naming.NETWORKS, "")
    elements = [*_elements(naming.DEFAULT_NETWORK, default, pod), *_elements(naming.NETWORKS, listed, pod)]
    nics: dict[str, Nic] = {} if naming.DEFAULT_NETWORK in notes else {naming.OVN: DEFAULT}
    unserved: list[Unserved] = []
    for one, interface in zip(elements, _interfaces(elements, notes), strict=True):
        found = one if isinstance(one, Unserved) else _read(one, interface, config(one.attachment))
        if isinstance(found, Nic) and isinstance(one, _Element) and found.provider in nics:
            found = _unserved(one, "twice")
        if isinstance(found, Nic):
            nics[found.provider] = found
        elif found is not None:
            unserved.append(found)
    return Networks(tuple(nics.values()), tuple(unserved))


def attachments_of(pod: Pod) -> frozenset[Attachment]:
    """The definitions that the pod names: who is to be looked at when one of them changes."""
    notes = pod.metadata.annotations
    keys = [key for key in (naming.DEFAULT_NETWORK, naming.NETWORKS) if key in notes and not pod.spec.host_network]
    found = (one.attachment for key in keys for one in _elements(key, notes[key], pod))
    return frozenset(one for one in found if one is not None)


# -- the pod's annotations --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Element:
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


def _elements(key: str, text: str, pod: Pod) -> list[_Element | Unserved]:
    """What one annotation lists: a JSON list, or `[namespace/]name[@interface]` with commas between them."""
    if not text.strip():
        return []
    try:
        parts: list[Any] = _json_parts(text) if set(text) & set('[{"') else text.split(",")
    except Malformed as why:
        return [_unreadable(key, why)]
    found: list[_Element | Unserved] = []
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
    except _UNREADABLE as broken:
        raise Malformed(f"{_show(text)} is no JSON list: {broken}; write a list, or namespace/name,...") from None


def _of_json(key: str, part: msgspec.Raw, pod: Pod) -> _Element:
    try:
        one = msgspec.json.decode(part, type=_Json)
    except _UNREADABLE as broken:
        raise Malformed(f"{_show(bytes(part).decode(errors='replace'))} is no network: {broken}") from None
    attachment = _attachment(one.namespace or pod.metadata.namespace, one.name)
    default = key == naming.DEFAULT_NETWORK
    return _Element(attachment, one.interface or "", tuple(one.ips or ()), one.mac or "", default)


def _of_text(key: str, part: str, pod: Pod) -> _Element:
    head, slash, tail = part.partition("/")
    space, rest = (head.strip(), tail.strip()) if slash else (pod.metadata.namespace, part)
    name, at, interface = rest.partition("@")
    if at and not _LABEL.fullmatch(interface.strip()):
        raise Malformed(f"{_show(part)} has no usable interface: write [namespace/]name@interface, like net1@eth1")
    default = key == naming.DEFAULT_NETWORK
    return _Element(_attachment(space, name.strip()), interface.strip(), default=default)


def _attachment(space: str, name: str) -> Attachment:
    if not (_LABEL.fullmatch(space) and _NAME.fullmatch(name)):
        raise Malformed(
            f"{_show(f'{space}/{name}')} names no NetworkAttachmentDefinition: write [namespace/]name in lower case"
        )
    return Attachment(space, name)


def _interfaces(elements: Iterable[_Element | Unserved], notes: dict[str, str]) -> Iterator[str]:
    """The interface in each element's provider: only of a definition that is listed more than once.

    A NIC that has its address keeps its name when another one of its definition is plugged in or out (bug row 18).
    """
    every = list(elements)
    listed: dict[Attachment, int] = {}
    for one in every:
        if isinstance(one, _Element):
            listed[one.attachment] = listed.get(one.attachment, 0) + 1
    plain = {attachment for attachment in listed if _runs(attachment, "", notes)}
    for one in every:
        if isinstance(one, Unserved):
            yield ""
        elif one.interface and _runs(one.attachment, one.interface, notes):
            yield one.interface
        elif one.attachment in plain:
            plain.discard(one.attachment)
            yield ""
        else:
            yield one.interface if listed[one.attachment] > 1 else ""


def _runs(attachment: Attachment, interface: str, notes: dict[str, str]) -> bool:
    """True if the pod's annotations carry an allocation under that name."""
    stem = f"{attachment.name}.{attachment.namespace}"
    providers = (f"{bound}.{interface}" if interface else bound for bound in (f"{stem}.{naming.OVN}", stem))
    return any(notes.get(naming.annotation(provider, "allocated")) == "true" for provider in providers)


# -- the definition ---------------------------------------------------------------------------------


def _read(one: _Element, interface: str, config: str | None) -> Nic | Unserved | None:
    """The NIC that the element means; None if the definition is another CNI's alone, or has no config."""
    if config is None:
        return _unserved(one, "absent")
    if not config.strip():
        return None
    try:
        bound = _provider(one.attachment, config)
        provider = f"{bound}.{interface}" if interface else bound
        if not bound:
            return None
        _check(one.attachment, interface, provider)
    except Malformed as why:
        return _unserved(one, "config", why=why)
    return Nic(provider, bound, one.attachment, one.interface, one.ips, one.mac)


def _unserved(one: _Element, text: str, **facts: object) -> Unserved:
    nad = "/".join(one.attachment)
    said = None if one.default else say(Reason.POD_NETWORK_UPDATE_FAILED, text, nad=nad, **facts)
    return Unserved(said, one.attachment)


def _check(attachment: Attachment, interface: str, provider: str) -> None:
    if "." in attachment.name:
        raise Malformed("a definition's name may have no dot: subnets could not name it as their provider")
    if interface and not _LABEL.fullmatch(interface):
        raise Malformed(f"the interface {_show(interface)} becomes part of names: write lower-case letters and digits")
    if len(naming.annotation(provider, "").rstrip("/")) > _PREFIX_MAX:
        raise Malformed("its name is too long for the annotations of its addresses: give it a shorter one")


def _provider(attachment: Attachment, config: str) -> str:
    """`<name>.<namespace>.ovn` for Kube-OVN's CNI, `<name>.<namespace>` for its IPAM alone, "" for neither.

    The node agent asks for what the configuration says: one that says something else could never be served.
    """
    try:
        whole = msgspec.json.decode(config)
    except _UNREADABLE as broken:
        raise Malformed(f"it is no JSON: {broken}") from None
    stem = f"{attachment.name}.{attachment.namespace}"
    for plugin in _plugins(whole):
        ipam = plugin.get("ipam")
        if plugin.get("type") == CNI:
            return _agreed(f"{stem}.{naming.OVN}", plugin.get("provider"), "provider")
        if isinstance(ipam, dict) and ipam.get("type") == CNI:
            return _agreed(stem, ipam.get("provider"), "ipam.provider")
    return ""


def _plugins(whole: Any) -> Iterator[dict[str, Any]]:
    """The configuration itself, and what it chains; others' keys may hold anything."""
    if not isinstance(whole, dict):
        raise Malformed("it is no JSON object")
    yield whole
    chained = whole.get("plugins")
    yield from (one for one in (chained if isinstance(chained, list) else ()) if isinstance(one, dict))


def _agreed(right: str, said: object, key: str) -> str:
    if said in (None, "", right):
        return right
    raise Malformed(f"its {key} is {_show(str(said))}: write {right}")


def _show(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
