"""Frozen views of the Northbound rows that we own or read (kube-ovn-behaviour §5)."""

from __future__ import annotations

from typing import Final, NamedTuple

VENDOR: Final = "kube-ovn"
POD_UID: Final = "pod-uid"  # our own external id: for which pod of this name the row was made (bug row 52)
REQUESTED_CHASSIS: Final = "requested-chassis"
ACTIVATION: Final = "activation-strategy"
MANAGED_OPTIONS: Final = frozenset({REQUESTED_CHASSIS, ACTIVATION})  # of a port's options, these are ours to write
IP_POOL: Final = "ippool"  # Kube-OVN's external id: of which IPPool an Address_Set is


class PortRow(NamedTuple):
    """A Logical_Switch_Port: the columns we compare, field by field (bug row 52).

    `addresses` and `port_security` are sorted tuples of the set's strings; `external_ids` and `options` sorted
    (key, value) pairs, so equal rows are equal values. `uuid` is "" for a row that is not in the database yet.
    """

    name: str
    addresses: tuple[str, ...] = ()
    external_ids: tuple[tuple[str, str], ...] = ()
    port_security: tuple[str, ...] = ()
    type: str = ""
    options: tuple[tuple[str, str], ...] = ()
    uuid: str = ""

    def external(self, key: str) -> str:
        """The external id of that key, or ""."""
        for k, v in self.external_ids:
            if k == key:
                return v
        return ""

    @property
    def ours(self) -> bool:
        """True for a port that Kube-OVN or we made: no other row is ever changed (contract §7)."""
        return self.external("vendor") == VENDOR

    @property
    def anothers(self) -> PortRow:
        """The same row as one that is not ours to change."""
        return self._replace(external_ids=tuple(pair for pair in self.external_ids if pair[0] != "vendor"))

    @property
    def switch(self) -> str:
        """The logical switch that the row says it is in."""
        return self.external("ls")


class SwitchRow(NamedTuple):
    """A Logical_Switch: its name is not unique in the schema, its uuid is."""

    name: str
    external_ids: tuple[tuple[str, str], ...] = ()
    uuid: str = ""


class AddressSetRow(NamedTuple):
    """An Address_Set: `addresses` as sorted texts, `external_ids` as sorted pairs; its name is unique."""

    name: str
    addresses: tuple[str, ...] = ()
    external_ids: tuple[tuple[str, str], ...] = ()
    uuid: str = ""

    @property
    def pool(self) -> str:
        """The IPPool that the row says it is of, or ""."""
        return dict(self.external_ids).get(IP_POOL, "")

    def is_of(self, pool: str) -> bool:
        """True for the set of that IPPool; an older Kube-OVN wrote no vendor. No other set is ever touched."""
        return self.pool == pool and dict(self.external_ids).get("vendor", VENDOR) == VENDOR
