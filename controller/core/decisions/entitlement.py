"""Which ports a virtual machine is entitled to, by its own declaration: also while it is stopped (bug rows 3 and 4).

KubeVirt puts a VM's networks into its launcher's annotations, so a stopped VM's are read where people declare them:
the template's Multus annotations and its networks. What cannot be read raises Malformed: then nothing is judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from controller.core import naming
from controller.core.faults import Malformed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.core.naming import Owner

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class Attachment(NamedTuple):
    """A NetworkAttachmentDefinition."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Declared:
    """One network of a VM's template: a Multus one by `networkName`, or the pod network with none."""

    network_name: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The port of the default network, unless Multus provides that; and one or more per attachment."""

    owner: Owner
    default: bool
    attachments: frozenset[Attachment]

    def covers(self, port: str) -> bool:
        """True if the port is one of these.

        A provider is `<nad>.<namespace>`, with `.ovn` if Kube-OVN is its CNI and `.<interface>` if it is attached
        more than once: no part behind the namespace is known before a pod is there.
        """
        base = naming.port_name(self.owner)
        if port == base:
            return self.default
        stems = (f"{base}.{one.name}.{one.namespace}" for one in self.attachments)
        return any(port == stem or port.startswith(f"{stem}.") for stem in stems)


def entitlement(owner: Owner, annotations: Mapping[str, str], networks: tuple[Declared, ...]) -> Entitlement:
    """What a VM with that template has; raises Malformed if one of its declarations cannot be read."""
    found = {_parse(owner.namespace, text) for text in _listed(annotations.get(naming.NETWORKS, ""))}
    found |= {_parse(owner.namespace, one.network_name) for one in networks if one.network_name}
    others = _listed(annotations.get(naming.DEFAULT_NETWORK, ""))
    found |= {_parse(owner.namespace, text) for text in others}
    multus = bool(others) or any(one.default for one in networks if one.network_name)
    return Entitlement(owner, not multus, frozenset(found))


def _listed(text: str) -> list[str]:
    """The items of a Multus annotation as `[namespace/]name`: a JSON list, or names with commas between them."""
    if not text.lstrip().startswith(("[", "{")):
        return [item.strip().partition("@")[0] for item in text.split(",") if item.strip()]
    try:
        items = msgspec.json.decode(text, type=list[_Element])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as broken:
        raise Malformed(f"{text!r} is no list of networks: {broken}") from None
    return [f"{item.namespace}/{item.name}" if item.namespace else item.name for item in items]


class _Element(msgspec.Struct, frozen=True):
    """One element of the annotation's JSON form; other keys are Multus' business."""

    name: str
    namespace: str | None = None


def _parse(namespace: str, text: str) -> Attachment:
    """`name` in the VM's own namespace, or `namespace/name`; raises Malformed."""
    head, slash, tail = text.partition("/")
    space, name = (head, tail) if slash else (namespace, head)
    if not (_NAME.fullmatch(space) and _NAME.fullmatch(name)):
        raise Malformed(f"{text!r} names no NetworkAttachmentDefinition: write name or namespace/name")
    return Attachment(space, name)
