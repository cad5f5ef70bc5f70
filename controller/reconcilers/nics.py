"""What pods' annotations say of their NICs, as values: which they have, and what each was given.

A NIC of another network does not say of which subnet its address is: that is found by its provider, again whenever a
subnet of that provider comes or goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core import naming, records
from controller.core.decisions.networks import networks_of

if TYPE_CHECKING:
    from controller.core.addresses import Address
    from controller.core.decisions.entitlement import Attachment
    from controller.core.decisions.networks import Networks
    from controller.core.ipam import Record
    from controller.core.neighbours import Nad
    from controller.core.objects import Pod
    from controller.machines.atlas import Atlas
    from controller.machines.replica import Replica


def pod_key(pod: Pod) -> str:
    """`namespace/name`."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def takes_part(pod: Pod) -> bool:
    """True for a live pod that can have NICs of ours (contract §4: those in their host's network have none)."""
    return pod.alive and not pod.spec.host_network and not pod.fault


class Nics:
    """Reads pods by the definitions and subnets as they are now."""

    def __init__(self, nads: Replica[Nad], atlas: Atlas) -> None:
        self._nads, self._atlas = nads, atlas
        self._homeless: dict[str, dict[str, Pod]] = {}  # provider -> pods that do not say in which of its subnets
        self._providers: dict[str, set[str]] = {}  # the same by pod

    def networks(self, pod: Pod) -> Networks:
        """What the pod's annotations list."""
        return networks_of(pod, self._config)

    def _config(self, attachment: Attachment) -> str | None:
        nad = self._nads.get(*attachment)
        return nad.spec.config if nad is not None else None

    def ports(self, pod: Pod) -> dict[str, None]:
        """The ports of all NICs that the pod has, and of those that its annotations still tell of."""
        owner = naming.owner_of(pod)
        providers = (*records.running(pod), *(nic.provider for nic in self.networks(pod).nics), naming.OVN)
        return dict.fromkeys(naming.port_name(owner, provider) for provider in providers)

    def settled(self, pod: Pod) -> bool:
        """True if every NIC of the pod has its address, as its annotations tell."""
        running = records.running(pod)
        return all(nic.provider in running for nic in self.networks(pod).nics)

    def said_by(self, pod: Pod) -> tuple[Record, ...]:
        """What the pod's annotations say that its NICs were given."""
        self.forget(pod)
        if not takes_part(pod):
            return ()

        def homes(provider: str, addresses: tuple[Address, ...]) -> tuple[str, ...]:
            bound = naming.bound_of(provider)
            if naming.is_ovn(bound):
                return ()  # of ours each says in which switch it is
            self._homeless.setdefault(bound, {})[pod_key(pod)] = pod
            self._providers.setdefault(pod_key(pod), set()).add(bound)
            every = self._atlas.bound(bound)
            return tuple(name for name in every if self._holds(name, addresses)) or every[:1]

        return records.of_pod(pod, naming.owner_of(pod), homes)

    def _holds(self, name: str, addresses: tuple[Address, ...]) -> bool:
        shape = self._atlas.place(name).shape
        plans = [(shape.family(one.family), one) for one in addresses] if shape is not None else []
        return any(plan is not None and one in plan.cidr for plan, one in plans)

    def forget(self, pod: Pod) -> None:
        """The pod is gone, or read anew."""
        for bound in self._providers.pop(pod_key(pod), ()):
            pods = self._homeless[bound]
            del pods[pod_key(pod)]
            if not pods:
                del self._homeless[bound]

    def homeless(self, provider: str) -> tuple[Pod, ...]:
        """The pods that have to be read anew when a subnet of that provider comes or goes."""
        return tuple(self._homeless.get(provider, {}).values())
