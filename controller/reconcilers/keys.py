"""What work is called: one key per thing that is reconciled, never per event."""

from __future__ import annotations

from typing import Final, NamedTuple

RESERVATION: Final = "reservation"
RESERVATION_STATUS: Final = "reservation-status"
POD: Final = "pod"
SUBNET: Final = "subnet"
SUBNET_STATUS: Final = "subnet-status"
POOL: Final = "pool"
POOL_STATUS: Final = "pool-status"
NAMESPACE: Final = "namespace"
KINDS: Final = (RESERVATION, RESERVATION_STATUS, POD, SUBNET, SUBNET_STATUS, POOL, POOL_STATUS, NAMESPACE)


class Key(NamedTuple):
    """A reservation by the IP's name, a pod by its owner, a subnet, IPPool or namespace by name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


def reservation(name: str) -> Key:
    """The key of an IP object."""
    return Key(RESERVATION, "", name)


def reservation_status(name: str) -> Key:
    """The key of an IP's status, on the lane of lower priority."""
    return Key(RESERVATION_STATUS, "", name)


def pod(namespace: str, owner: str) -> Key:
    """The key of all pods of one owner."""
    return Key(POD, namespace, owner)


def subnet(name: str) -> Key:
    """The key of a Subnet."""
    return Key(SUBNET, "", name)


def subnet_status(name: str) -> Key:
    """The key of a Subnet's conditions and numbers, written at most once a second."""
    return Key(SUBNET_STATUS, "", name)


def pool(name: str) -> Key:
    """The key of an IPPool."""
    return Key(POOL, "", name)


def pool_status(name: str) -> Key:
    """The key of an IPPool's conditions and numbers, written at most once a second."""
    return Key(POOL_STATUS, "", name)


def namespace(name: str) -> Key:
    """The key of a namespace's annotations."""
    return Key(NAMESPACE, "", name)
