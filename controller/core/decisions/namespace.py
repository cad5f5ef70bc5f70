"""decide() for one namespace: its annotations name the subnets that list or select it (kube-ovn-behaviour §4.6).

A subnet that a person named by hand stays where they put it; one that is gone, or that lists namespaces and not (any
more) this one, goes (bug row 24: an annotation naming a deleted subnet must not stay).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.effects import Decision, Patch
from controller.core.objects import Kind

if TYPE_CHECKING:
    from controller.core.objects import LabelExpression, LabelSelector, Namespace, Seconds, Subnet


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one namespace: `named` are the subnets of its annotation that exist, in order."""

    namespace: Namespace | None
    listing: tuple[Subnet, ...]  # subnets that list or select it, by name
    named: tuple[Subnet, ...]


def decide(view: View, _now: Seconds) -> Decision:
    """What this namespace needs now; one that no subnet lists and that names none is never touched."""
    namespace = view.namespace
    if namespace is None or namespace.metadata.deleting:
        return Decision()
    notes = namespace.metadata.annotations
    key = naming.PREFIX + "logical_switch"
    if not view.listing and not notes.get(key):
        return Decision()
    kept = [s for s in view.named if s in view.listing or not (s.spec.namespaces or s.spec.namespace_selectors)]
    subnets = [*kept, *(s for s in view.listing if s not in kept)]
    wanted = {
        key: ",".join(s.metadata.name for s in subnets),
        naming.PREFIX + "cidr": ";".join(s.spec.cidr_block for s in subnets),
        naming.PREFIX + "exclude_ips": ";".join(",".join(s.spec.exclude_ips) for s in subnets),
    }
    changed = {k: v or None for k, v in wanted.items() if notes.get(k, "") != v}
    if not changed:
        return Decision()
    body = {"metadata": {"resourceVersion": namespace.metadata.resource_version, "annotations": changed}}
    return Decision((Patch(Kind.NAMESPACE, "", namespace.metadata.name, body),))


def lists(subnet: Subnet, namespace: Namespace) -> bool:
    """True if the subnet's spec.namespaces or spec.namespaceSelectors chooses the namespace."""
    if namespace.metadata.name in subnet.spec.namespaces:
        return True
    return any(selects(selector, namespace.metadata.labels) for selector in subnet.spec.namespace_selectors)


def selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """Kubernetes' rule, except that an empty selector selects nothing: one forgotten field must not move everybody."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    exact = all(labels.get(k) == v for k, v in selector.match_labels.items())
    return exact and all(_holds(expression, labels) for expression in selector.match_expressions)


def _holds(expression: LabelExpression, labels: dict[str, str]) -> bool:
    present = expression.key in labels
    match expression.operator:
        case "In":
            return present and labels[expression.key] in expression.values
        case "NotIn":
            return not present or labels[expression.key] not in expression.values
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case _:
            return False
