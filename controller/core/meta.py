"""What all Kubernetes objects have in common, as far as we use it; absent and null strings are ""."""

from __future__ import annotations

from typing import Final

import msgspec

FINALIZER: Final = "kubeovn.io/kube-ovn-controller"
OLD_FINALIZER: Final = "kube-ovn-controller"
OUR_FINALIZERS: Final = frozenset({FINALIZER, OLD_FINALIZER})


class Base(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Shared settings of all views."""


class OwnerRef(Base, frozen=True, gc=False):
    """Who made an object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool = False


class Meta(Base, frozen=True):
    """ObjectMeta, the part we use."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerRef, ...] = ()

    @property
    def deleting(self) -> bool:
        """True from the moment a deletion was accepted."""
        return self.deletion_timestamp is not None

    @property
    def version(self) -> int:
        """The resourceVersion as a number: comparable within one kind since Kubernetes 1.35 and always so with etcd."""
        return int(self.resource_version)

    @property
    def ours(self) -> bool:
        """True while a finalizer of ours, new or old, keeps the object."""
        return not OUR_FINALIZERS.isdisjoint(self.finalizers)


class Condition(Base, frozen=True, gc=False):
    """metav1.Condition as the API holds it."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
