"""One table of everything keepip ever says to a user: reason, kind of Event, text.

Conditions, Events, the README's table and the test that every reason is reachable are made from it (contract §8).
A text is a format string; what is missing or superfluous in `say` is a bug and raises at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Severity = Literal["Normal", "Warning"]


class Reason(StrEnum):
    """The machine-readable half of a message: CamelCase, stable over versions."""

    RESERVED = "Reserved"
    IN_USE = "InUse"
    NOT_IN_USE = "NotInUse"
    INVALID_SPEC = "InvalidSpec"
    NAME_MISMATCH = "NameMismatch"
    SUBNET_NOT_FOUND = "SubnetNotFound"
    ADDRESS_OUT_OF_RANGE = "AddressOutOfRange"
    ADDRESS_NOT_USABLE = "AddressNotUsable"
    ADDRESS_CONFLICT = "AddressConflict"
    MAC_CONFLICT = "MACConflict"
    SUBNET_EXHAUSTED = "SubnetExhausted"
    ATTRIBUTE_CHANGE_REFUSED = "AttributeChangeRefused"
    RESERVATION_MISMATCH = "ReservationMismatch"
    VIP_DEPRECATED = "VipDeprecated"
    DUPLICATE_ADDRESS = "DuplicateAddress"
    POD_NETWORK_ALLOCATED = "PodNetworkAllocated"
    POD_NETWORK_RELEASED = "PodNetworkReleased"
    ACQUIRE_ADDRESS_FAILED = "AcquireAddressFailed"
    VALIDATE_POD_NETWORK_FAILED = "ValidatePodNetworkFailed"
    POD_NETWORK_UPDATE_FAILED = "PodNetworkUpdateFailed"
    SUBNET_VALID = "ValidateLogicalSwitchSuccess"
    SUBNET_INVALID = "ValidateLogicalSwitchFailed"
    SUBNET_READY = "ResetLogicalSwitchAclSuccess"
    SUBNET_NOT_OVN = "SetNonOvnSubnetSuccess"
    SUBNET_IN_USE = "SubnetInUse"
    ADDRESSES_OUTSIDE_CIDR = "AddressesOutsideCIDR"
    NO_ERROR = "NoError"
    SWEEP_STOPPED = "SweepStopped"
    POOL_NOT_FOUND = "IPPoolNotFound"
    POOL_READY = "UpdateIPAMSucceeded"
    POOL_FAILED = "UpdateIPAMFailed"
    ADDRESS_SET_FAILED = "ReconcileAddressSetFailed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a reason means: the kinds it appears on, the Event's type, when, and its texts by name."""

    on: tuple[str, ...]
    event: Severity
    when: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Message:
    """A reason and the sentence for this case."""

    reason: Reason
    text: str

    @property
    def severity(self) -> Severity:
        """The type of an Event that carries this message."""
        return CATALOGUE[self.reason].event


def _entry(on: str, event: Severity, when: str, **texts: str) -> Entry:
    return Entry(tuple(on.split()), event, when, MappingProxyType(texts))


CATALOGUE: Mapping[Reason, Entry] = MappingProxyType(
    {
        Reason.RESERVED: _entry(
            "IP", "Normal", "the address is held for its owner", held="{address} is reserved for {owner}"
        ),
        Reason.IN_USE: _entry(
            "IP",
            "Normal",
            "a live pod has the address; while the IP is being deleted it says what the deletion waits for",
            pod="{pod} uses the address",
            terminating="{pod} still uses the address: the IP goes as soon as that pod is gone",
        ),
        Reason.NOT_IN_USE: _entry("IP", "Normal", "no live pod has the address", idle="no live pod uses the address"),
        Reason.INVALID_SPEC: _entry(
            "IP Pod",
            "Warning",
            "a required field is missing, podType is unknown, or an address or MAC cannot be read",
            missing="spec.{field} is empty: write the {field} of the workload that shall use the address",
            pod_type='spec.podType "{value}" is unknown: write "", "StatefulSet" or "VirtualMachine"',
            field="spec.{field}: {why}",
            name="the name {name} cannot be used: {why}",
            object="the object cannot be read: {why}",
        ),
        Reason.NAME_MISMATCH: _entry(
            "IP",
            "Warning",
            "the IP's name is not podName.namespace[.provider]",
            name="the name must be {right} for pod {pod} in subnet {subnet}: create the IP under that name",
        ),
        Reason.SUBNET_NOT_FOUND: _entry(
            "IP Pod",
            "Warning",
            "the Subnet is not there or not usable; heals by itself when it is",
            absent="subnet {subnet} does not exist",
            invalid="subnet {subnet} cannot be used: {why}",
            deleting="subnet {subnet} is being deleted",
            switch="subnet {subnet} has no logical switch in OVN yet",
            none="no subnet for this pod: name one by the annotation ovn.kubernetes.io/logical_switch, "
            "or make one with spec.default true",
            provider="subnet {subnet} is of provider {provider}: a pod's default network needs one of provider ovn",
            other="subnet {subnet} is of provider {provider}: this network needs one of provider {wanted}",
            unbound="no subnet is of provider {provider}: make one, or name one by the annotation {key}",
        ),
        Reason.ADDRESS_OUT_OF_RANGE: _entry(
            "IP Pod",
            "Warning",
            "the address asked for is not in the subnet's CIDR",
            cidr="{address} is not in {cidr} of subnet {subnet}",
            family="subnet {subnet} has no {family} addresses, so {address} cannot be given",
            ip_family="subnet {subnet} has no {family} addresses, and the pod asks for them only: "
            "change its annotation ovn.kubernetes.io/ip_family",
        ),
        Reason.ADDRESS_NOT_USABLE: _entry(
            "IP Pod",
            "Warning",
            "the address asked for is the subnet's gateway, network or broadcast address",
            role="{address} is the {role} address of subnet {subnet}",
        ),
        Reason.ADDRESS_CONFLICT: _entry(
            "IP Pod",
            "Warning",
            "somebody else has the address; the message says who",
            held="{address} in subnet {subnet} belongs to {owner}",
            cooling="{address} in subnet {subnet} was released a moment ago and is free again in {seconds} s",
            list="no address of the list {addresses} is free in subnet {subnet}",
            short="the list {addresses} has {count} entries, and none for the pod with ordinal {ordinal}",
        ),
        Reason.MAC_CONFLICT: _entry(
            "IP Pod",
            "Warning",
            "somebody else has the MAC; the message says who",
            held="MAC {mac} belongs to {owner}",
        ),
        Reason.SUBNET_EXHAUSTED: _entry(
            "IP Pod",
            "Warning",
            "no free address is left; served in order of waiting as soon as one comes free",
            full="subnet {subnet} has no free {family} address left",
            queued="subnet {subnet} has no free address for this one yet: others have waited longer",
            pool_full="pool {pool} of subnet {subnet} has no free {family} address left",
            pool_queued="pool {pool} of subnet {subnet} has no free address for this one yet: "
            "others have waited longer",
            pool_lacks="pool {pool} of subnet {subnet} has no {family} addresses at all: add some, or ask for the "
            "other family by the annotation ovn.kubernetes.io/ip_family",
        ),
        Reason.ATTRIBUTE_CHANGE_REFUSED: _entry(
            "IP",
            "Warning",
            "an immutable field was edited; the edit is undone",
            undone="{fields} cannot be changed and was set back; to get other values delete the IP and create it anew",
        ),
        Reason.RESERVATION_MISMATCH: _entry(
            "IP Pod",
            "Warning",
            "a pod has the reservation's name but may not use it, or the reservation came after the pod's own address",
            attribute="reservation {ip} has {attribute} {reserved}, the pod has {actual}: "
            "make them equal, or delete the reservation",
            not_ready="reservation {ip} is not ready ({why}): correct or delete it",
            terminating="reservation {ip} is being deleted: the pod gets an address when it is gone",
            sibling="{pod} of the same VM has {actual} of subnet {subnet}, this pod wants {wanted}: "
            "it waits for the end of the other",
            running="pod {pod} already runs with {actual}: delete this IP, or delete the pod to use {reserved}",
        ),
        Reason.VIP_DEPRECATED: _entry(
            "Pod",
            "Warning",
            "the pod names a Vip by the annotation ovn.kubernetes.io/vip",
            use="the annotation ovn.kubernetes.io/vip is not supported: reserve the address with an IP named {ip}",
        ),
        Reason.DUPLICATE_ADDRESS: _entry(
            "IP",
            "Warning",
            "two records claim one address (found at start or by the audit)",
            also="{address} in subnet {subnet} is also claimed by {owner}",
        ),
        Reason.POD_NETWORK_ALLOCATED: _entry(
            "Pod",
            "Normal",
            "the pod has its address",
            nic="provider={provider} subnet={subnet} ip={address} mac={mac} logicalSwitchPort={port}",
        ),
        Reason.POD_NETWORK_RELEASED: _entry(
            "Pod",
            "Normal",
            "a finished pod's address is free again",
            nic="logicalSwitchPort={port} subnet={subnet} ip={address}",
        ),
        Reason.ACQUIRE_ADDRESS_FAILED: _entry(
            "Pod",
            "Warning",
            "the pod waits for its address; Kube-OVN's name for it, beside the exact reason",
            stage="stage=acquireAddress reason={reason}: {text}",
        ),
        Reason.VALIDATE_POD_NETWORK_FAILED: _entry(
            "Pod",
            "Warning",
            "an annotation of the pod cannot be read",
            annotation="annotation {key}: {why}",
        ),
        Reason.POD_NETWORK_UPDATE_FAILED: _entry(
            "Pod",
            "Warning",
            "a network of the pod cannot be served as it is written; its other networks are",
            absent="NetworkAttachmentDefinition {nad} does not exist: create it, or take it out of the pod's networks",
            config="NetworkAttachmentDefinition {nad} cannot be served: {why}",
            twice="NetworkAttachmentDefinition {nad} is listed twice: give each of them an interface of its own, "
            "like {nad}@net1",
        ),
        Reason.SUBNET_VALID: _entry("Subnet", "Normal", "the Subnet is well-formed", ok="the subnet is valid"),
        Reason.SUBNET_INVALID: _entry(
            "Subnet",
            "Warning",
            "the Subnet is malformed or overlaps another; nothing is given out of it",
            field="spec.{field}: {why}",
            overlap="{cidr} overlaps {other_cidr} of subnet {other} in the same VPC",
            node="{cidr} contains the address {address} of node {node}",
        ),
        Reason.SUBNET_READY: _entry("Subnet", "Normal", "addresses can be given out", ok="the logical switch exists"),
        Reason.SUBNET_NOT_OVN: _entry(
            "Subnet", "Normal", "addresses can be given out, the network is not OVN", ok="provider {provider}"
        ),
        Reason.SUBNET_IN_USE: _entry(
            "Subnet",
            "Warning",
            "the Subnet is being deleted and something still uses it",
            users="deletion waits for {count} users: {users}",
        ),
        Reason.ADDRESSES_OUTSIDE_CIDR: _entry(
            "Subnet",
            "Warning",
            "addresses that are in use lie outside the Subnet's CIDR; they are kept",
            users="{count} addresses in use are outside {cidr}: {users}",
        ),
        Reason.SWEEP_STOPPED: _entry(
            "Subnet",
            "Warning",
            "a sweep would free so much of the Subnet at once that it frees nothing until somebody allows it",
            limit="{count} of {users} users have no owner any more, more than the {limit} that a sweep frees at once: "
            "see `keepip sweep --dry-run`; if they shall go, annotate the Subnet {annotation}=allow",
        ),
        Reason.NO_ERROR: _entry("Subnet IPPool", "Normal", "an earlier error is gone", ok="no error"),
        Reason.POOL_NOT_FOUND: _entry(
            "Pod",
            "Warning",
            "the IPPool that the pod or its namespace names is not there or not usable; heals by itself when it is",
            absent="IPPool {pool} does not exist",
            deleting="IPPool {pool} is being deleted",
            invalid="IPPool {pool} cannot be used: {why}",
            elsewhere="IPPool {pool} is in subnet {actual}, the pod is in subnet {subnet}: correct one of its "
            "annotations ovn.kubernetes.io/ip_pool and ovn.kubernetes.io/logical_switch",
            none="no pool of the namespace can be used: of {pools} none exists in subnet {subnets} without an error",
        ),
        Reason.POOL_READY: _entry("IPPool", "Normal", "addresses can be given out", ok="the pool is in use"),
        Reason.POOL_FAILED: _entry(
            "IPPool",
            "Warning",
            "the pool, or a part of it, cannot be used; what can be read of it stays out of the default pool",
            object="the object cannot be read: {why}",
            item="spec.ips: {why}",
            outside="spec.ips: {items} is not in {cidr} of subnet {subnet}; the rest is in use",
            overlap="{address} belongs to IPPool {other} already: take it out of one of them",
            subnet="{why}",
        ),
        Reason.ADDRESS_SET_FAILED: _entry(
            "IPPool",
            "Warning",
            "spec.enableAddressSet is true and the Address_Set cannot be made; addresses are given out all the same",
            name="the name {name} is none for an address set: it must begin with a letter",
            taken="an address set of somebody else has the name {name}",
            mixed="{why}",
        ),
    }
)


def say(reason: Reason, text: str, /, **facts: object) -> Message:
    """The message of that reason and text, filled in; raises KeyError for a text or fact that does not exist."""
    return Message(reason, CATALOGUE[reason].texts[text].format(**facts))
