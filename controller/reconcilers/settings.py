"""What the shell may be told, with the reasons for its defaults; process/settings.py reads it from flags."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """The shell's settings."""

    mode: str = "manage"  # or "observe": nothing is written anywhere
    identity: str = "keepip"
    workers: int = 48  # writes under way at once: enough to fill the API server's pipe, little enough to be fair
    resync_s: float = 300.0  # every key is looked at again this often, events or not
    sweep_s: float = 60.0  # between two sweeps: twice seen without an owner is what one needs to free something
    sweep_share: float = 0.25  # of a subnet's users; a sweep that would free more frees nothing of it
    request_limit_s: float = 10.0  # no write lives longer than this, also not after its sender
    watch_silence_s: float = 90.0  # a watch that tells nothing for so long is opened again: a server speaks each minute
    status_every_s: float = 1.0  # a Subnet's numbers are written at most this often (contract §6)
    drain_s: float = 10.0  # how long a shutdown waits for what is under way
    protect_in_use: bool = True
    pod_nic_type: str = "veth-pair"
    keep_vm_ip: bool = True
    enable_live_migration_optimize: bool = True
    lease_namespace: str = "keepip-system"
    lease_name: str = "keepip"
    kube_ovn_lease: str = "kube-system/kube-ovn-controller"  # nothing is managed while it is live
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0

    @property
    def observes(self) -> bool:
        """True if another controller manages the cluster, and this process only looks."""
        return self.mode == "observe"
