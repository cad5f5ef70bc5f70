"""decide() for one namespace: its annotations name the subnets and pools that choose it (kube-ovn-behaviour §4.6).

What a person named by hand stays where they put it, and what we wrote goes when it is no longer so: the annotation
`keepip.io/bound` tells the two apart. Without it (an older Kube-OVN was here) a subnet or pool that lists namespaces,
and not this one, is certainly Kube-OVN's own entry if Kube-OVN's copies of the CIDRs stand beside it. A subnet that is
gone goes in any case (bug row 24: an annotation naming a deleted subnet must not stay).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.core import naming
from controller.core.effects import Decision, Patch
from controller.core.objects import Kind

if TYPE_CHECKING:
    from controller.core.neighbours import Pool
    from controller.core.objects import LabelExpression, LabelSelector, Namespace, Seconds, Subnet

SWITCHES: Final = naming.PREFIX + "logical_switch"
POOLS: Final = naming.PREFIX + "ip_pool"
CIDRS: Final = naming.PREFIX + "cidr"
EXCLUDES: Final = naming.PREFIX + "exclude_ips"


@dataclass(frozen=True, slots=True)
class View:
    """All that may be known for one namespace: `named` are the subnets of its annotation that exist, in order."""

    namespace: Namespace | None
    listing: tuple[Subnet, ...]  # subnets that list or select it, by name
    named: tuple[Subnet, ...]
    pools: tuple[str, ...] = ()  # pools that list it, by name
    others_pools: tuple[Pool, ...] = ()  # pools of its annotation that exist and do not list it


def decide(view: View, _now: Seconds) -> Decision:
    """What this namespace needs now; one that nothing chooses and that names nothing is never touched."""
    namespace = view.namespace
    if namespace is None or namespace.metadata.deleting:
        return Decision()
    notes = namespace.metadata.annotations
    wanted, ours = _wanted(view, notes)
    changed: dict[str, str | None] = {k: v or None for k, v in wanted.items() if notes.get(k, "") != v}
    if changed or ours or naming.BOUND in notes:
        left = wanted[SWITCHES] or wanted[POOLS]  # where nothing is left there is nothing to tell apart
        bound = ",".join(ours) if left else None
        changed |= {naming.BOUND: bound} if notes.get(naming.BOUND) != bound else {}
    if not changed:
        return Decision()
    body = {"metadata": {"resourceVersion": namespace.metadata.resource_version, "annotations": changed}}
    return Decision((Patch(Kind.NAMESPACE, "", namespace.metadata.name, body),))


def _wanted(view: View, notes: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The annotations as they should be, and what of them is ours."""
    bound = entries(notes.get(naming.BOUND, ""))
    upgraded = naming.BOUND not in notes
    certain = upgraded and CIDRS in notes  # Kube-OVN wrote these annotations

    def kept(entry: str, *, chosen: bool, lists_others: bool) -> bool:
        return chosen or (entry not in bound and not (certain and lists_others))

    names = [s.metadata.name for s in view.listing]
    switches = [
        s
        for s in view.named
        if kept(
            f"subnet/{s.metadata.name}",
            chosen=s.metadata.name in names,
            lists_others=bool(s.spec.namespaces or s.spec.namespace_selectors),
        )
    ]
    switches += [s for s in view.listing if s not in switches]
    of_others = {p.metadata.name for p in view.others_pools if p.spec.namespaces}
    written = entries(notes.get(POOLS, ""))
    pools = [p for p in written if kept(f"ippool/{p}", chosen=p in view.pools, lists_others=p in of_others)]
    pools += [p for p in view.pools if p not in pools]
    by_hand = {*(f"subnet/{s.metadata.name}" for s in view.named), *(f"ippool/{p}" for p in written)} - {*bound}
    chosen = (*(f"subnet/{name}" for name in names), *(f"ippool/{p}" for p in view.pools))
    wanted = {
        SWITCHES: ",".join(s.metadata.name for s in switches),
        CIDRS: ";".join(s.spec.cidr_block for s in switches),
        EXCLUDES: ";".join(",".join(s.spec.exclude_ips) for s in switches),
        POOLS: ",".join(pools) if pools != list(written) else notes.get(POOLS, ""),
    }
    return wanted, tuple(entry for entry in chosen if upgraded or entry not in by_hand)


def entries(text: str) -> tuple[str, ...]:
    """The entries of a comma list, each once, in order."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


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
