"""Which networks a pod has: the default one, and those that its Multus annotations name (kube-ovn-behaviour §7.3).

Total: whatever people write, each element is a NIC that we serve, none of ours, or an Unserved with what to write
instead; what is wrong with one element touches no other (bug row 18).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from controller.core import naming
from controller.core.catalogue import Reason, say
from controller.core.decisions.entitlement import Attachment
from controller.core.decisions.multus import LABEL, UNREADABLE, Element, Unserved, elements, show
from controller.core.faults import Malformed
from controller.core.records import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from controller.core.objects import Pod

CNI: Final = "kube-ovn"
_PREFIX_MAX: Final = 253  # of an annotation's key in front of its slash


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

# What is written into a pod's annotations for one NIC (kube-ovn-behaviour §4.5).
_WRITTEN: Final = (
    "allocated",
    "routed",
    "ip_address",
    "mac_address",
    "cidr",
    "gateway",
    "logical_switch",
    "pod_nic_type",
    "logical_router",
    "virtualmachine",
    "vlan_id",
    "provider_network",
)


@dataclass(frozen=True, slots=True)
class Networks:
    """All of one pod: the default network first, the others as they are listed."""

    nics: tuple[Nic, ...] = ()
    unserved: tuple[Unserved, ...] = ()

    def may_have(self, provider: str) -> bool:
        """True if a NIC of that provider may be meant by what cannot be told now: "don't know" is never "gone"."""
        stems = [f"{u.attachment.name}.{u.attachment.namespace}" if u.attachment else None for u in self.unserved]
        return any(stem is None or f"{provider}.".startswith(f"{stem}.") for stem in stems)


_PLAIN: Final = Networks((DEFAULT,))


def unplugged(pod: Pod, networks: Networks) -> dict[str, None]:
    """What to take from the annotations of a live pod: those of NICs that it has no more."""
    has = {nic.provider for nic in networks.nics} | {naming.OVN}
    gone = [one for one in running(pod) if one not in has and "." in one and not networks.may_have(one)]
    keys = (naming.annotation(provider, name) for provider in gone for name in _WRITTEN)
    return {key: None for key in keys if key in pod.metadata.annotations}


def networks_of(pod: Pod, config: Callable[[Attachment], str | None]) -> Networks:
    """The pod's networks; `config` is a look-up of spec.config, None if there is no such definition.

    With another default network the pod's own is left out: that of a definition of ours is a NIC like the others.
    A NIC that runs is what it was made as, whatever became of its definition (bug rows 21 and 32).
    """
    notes = pod.metadata.annotations
    if pod.spec.host_network:
        return Networks()
    if naming.NETWORKS not in notes and naming.DEFAULT_NETWORK not in notes:
        return _PLAIN
    default, listed = notes.get(naming.DEFAULT_NETWORK, ""), notes.get(naming.NETWORKS, "")
    every = [*elements(naming.DEFAULT_NETWORK, default, pod), *elements(naming.NETWORKS, listed, pod)]
    nics: dict[str, Nic] = {} if naming.DEFAULT_NETWORK in notes else {naming.OVN: DEFAULT}
    unserved: list[Unserved] = []
    for one, interface in zip(every, _interfaces(every, notes), strict=True):
        found = one if isinstance(one, Unserved) else _as_it_runs(one, interface, notes)
        if found is None and isinstance(one, Element):
            found = _read(one, interface, config(one.attachment))
        if isinstance(found, Nic) and isinstance(one, Element) and found.provider in nics:
            found = _unserved(one, "twice")
        if isinstance(found, Nic):
            nics[found.provider] = found
        elif found is not None:
            unserved.append(found)
    if any(one.attachment is None for one in unserved):  # nobody can tell what is listed: what runs goes on
        found_too = (p for p in running(pod) if p not in nics and p != naming.OVN and "." in p)
        nics |= {p: Nic(p, naming.bound_of(p)) for p in found_too}
    return Networks(tuple(nics.values()), tuple(unserved))


def attachments_of(pod: Pod) -> frozenset[Attachment]:
    """The definitions that the pod names: who is to be looked at when one of them changes."""
    notes = pod.metadata.annotations
    keys = [key for key in (naming.DEFAULT_NETWORK, naming.NETWORKS) if key in notes and not pod.spec.host_network]
    found = (one.attachment for key in keys for one in elements(key, notes[key], pod))
    return frozenset(one for one in found if one is not None)


# -- names ------------------------------------------------------------------------------------------


def _interfaces(every: list[Element | Unserved], notes: dict[str, str]) -> Iterator[str]:
    """The interface in each element's provider: only of a definition that is listed more than once.

    A NIC that has its address keeps its name when another one of its definition is plugged in or out (bug row 18).
    """
    listed: dict[Attachment, int] = {}
    for one in every:
        if isinstance(one, Element):
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
    providers = (provider for provider, _ in _names(attachment, interface))
    return any(notes.get(naming.annotation(provider, "allocated")) == "true" for provider in providers)


def _names(attachment: Attachment, interface: str) -> Iterator[tuple[str, str]]:
    """The providers that it may have been made as, each with what its subnets say."""
    stem = f"{attachment.name}.{attachment.namespace}"
    for bound in (f"{stem}.{naming.OVN}", stem):
        yield (f"{bound}.{interface}" if interface else bound), bound


def _as_it_runs(one: Element, interface: str, notes: dict[str, str]) -> Nic | None:
    for provider, bound in _names(one.attachment, interface):
        if notes.get(naming.annotation(provider, "allocated")) == "true":
            return Nic(provider, bound, one.attachment, one.interface, one.ips, one.mac)
    return None


# -- the definition ---------------------------------------------------------------------------------


def _read(one: Element, interface: str, config: str | None) -> Nic | Unserved | None:
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


def _unserved(one: Element, text: str, **facts: object) -> Unserved:
    nad = "/".join(one.attachment)
    said = None if one.default else say(Reason.POD_NETWORK_UPDATE_FAILED, text, nad=nad, **facts)
    return Unserved(said, one.attachment)


def _check(attachment: Attachment, interface: str, provider: str) -> None:
    if "." in attachment.name:
        raise Malformed("a definition's name may have no dot: subnets could not name it as their provider")
    if interface and not LABEL.fullmatch(interface):
        raise Malformed(f"the interface {show(interface)} becomes part of names: write lower-case letters and digits")
    if len(naming.annotation(provider, "").rstrip("/")) > _PREFIX_MAX:
        raise Malformed("its name is too long for the annotations of its addresses: give it a shorter one")


def _provider(attachment: Attachment, config: str) -> str:
    """`<name>.<namespace>.ovn` for Kube-OVN's CNI, `<name>.<namespace>` for its IPAM alone, "" for neither.

    The node agent asks for what the configuration says: one that says something else could never be served.
    """
    try:
        whole = msgspec.json.decode(config)
    except UNREADABLE as broken:
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
    raise Malformed(f"its {key} is {show(str(said))}: write {right}")
