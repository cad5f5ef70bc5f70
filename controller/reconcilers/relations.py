"""What objects and rows say of one another: the values that replicas are indexed by, and whom a change concerns."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from controller.core import naming
from controller.core.decisions.namespace import POOLS, SWITCHES, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.core.neighbours import Migration, Pool
    from controller.core.objects import Ip, Namespace, Subnet
    from controller.core.rows import PortRow


def alike(old: Subnet | Pool | None, new: Subnet | Pool | None) -> bool:
    """True if the change is one of the status, which thousands who wait for it need not hear of."""
    if old is None or new is None:
        return False
    before, after = old.metadata, new.metadata
    same = (before.uid, before.deleting, before.annotations) == (after.uid, after.deleting, after.annotations)
    return same and old.spec == new.spec


def owners_of_ip(ip: Ip) -> Iterator[naming.Owner]:
    """Who the IP says it is for, by its fields; where those of a pod's IP were edited, also the one that it was for.

    That one has to let it go. A pod's name may have dots, and then nobody but release() can tell who it was.
    """
    told = naming.Owner(ip.spec.namespace, ip.spec.pod_name)
    if all(told):
        yield told
    ordinary = ip.metadata.labels.get(naming.RESERVED) == "false" and ip.metadata.ours
    if ordinary and not naming.is_port_of(ip.metadata.name, told):
        yield from islice(naming.owners_by_name(ip.metadata.name), 1)


def vm_of_migration(migration: Migration) -> Iterator[tuple[str, str]]:
    """Which VM moves."""
    yield migration.metadata.namespace, migration.spec.vmi_name


def subnet_of_ip(ip: Ip) -> Iterator[str]:
    """In which subnet the IP says it is."""
    if ip.spec.subnet:
        yield ip.spec.subnet


def owner_of_row(row: PortRow) -> naming.Owner | None:
    """Whose a port of ours says it is."""
    namespace, slash, name = row.external("pod").partition("/")
    return naming.Owner(namespace, name) if slash and row.ours else None


def subnets_of_namespace(namespace: Namespace | None) -> Iterator[str]:
    """The namespace's own list of subnets."""
    yield from entries(namespace.metadata.annotations.get(SWITCHES, "")) if namespace is not None else ()


def pools_of_namespace(namespace: Namespace) -> Iterator[str]:
    """The namespace's own list of pools."""
    yield from entries(namespace.metadata.annotations.get(POOLS, ""))
