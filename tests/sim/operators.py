"""Those who run the cluster, and those who are not of it: subnets, namespaces, strangers' objects, tired hands."""

from __future__ import annotations

from controller.core.effects import DropPort, PutPort
from controller.core.objects import FINALIZER, Kind
from controller.core.rows import PortRow
from tests.sim.agents import NAMESPACE_FINALIZER
from tests.sim.documents import RESERVED, Doc, deleting, meta
from tests.sim.hand import Hand
from tests.sim.stage import ADDRESSES, CAST, EDITS, FOREIGN_FINALIZER, MACS, NODES, NOTE, POOLS, SIDE_NAD, SUBNETS


class Operators(Hand):
    """Each action is one change of the API or of Northbound."""

    # -- subnets and namespaces --------------------------------------------------------------------
    def make_a_subnet(self) -> None:
        """Create a subnet that others have long been waiting for."""
        missing = [name for name in SUBNETS if ("", name) not in self.store.docs[Kind.SUBNET]]
        if missing:
            name = self.rng.choice(missing)
            self.store.create(Kind.SUBNET, "", name, {"spec": SUBNETS[name]}, "user")

    def edit_a_subnet(self) -> None:
        """Move its CIDR, its gateway or its excludes; break it, or mend it."""
        name = self.rng.choice(sorted(SUBNETS))
        if self.store.get(Kind.SUBNET, "", name) is not None:
            original = {"gateway": None, "excludeIps": None, **SUBNETS[name]}
            edit = {**original, **self.rng.choice((SUBNETS[name], *EDITS[name]))}
            self.store.patch(Kind.SUBNET, "", name, {"spec": edit}, "user")

    def delete_a_subnet(self) -> None:
        """Delete a subnet, in use or not."""
        subnet = self.any(Kind.SUBNET, when=lambda doc: not deleting(doc))
        if subnet is not None:
            self.store.delete(Kind.SUBNET, "", meta(subnet)["name"], meta(subnet)["uid"], "user")

    def make_a_pool(self) -> None:
        """Create a pool, or change what it has: some name what others have, or cannot be read."""
        name = self.rng.choice(sorted(POOLS))
        wanted = self.rng.choice(POOLS[name])
        present = self.store.get(Kind.POOL, "", name)
        if present is None:
            self.store.create(Kind.POOL, "", name, {"spec": wanted}, "user")
        elif not deleting(present):
            body = {"spec": {"namespaces": None, "enableAddressSet": None, **wanted}}
            self.store.patch(Kind.POOL, "", name, body, "user")

    def delete_a_pool(self) -> None:
        """Delete a pool, in use or not."""
        pool = self.any(Kind.POOL, when=lambda doc: not deleting(doc))
        if pool is not None:
            self.store.delete(Kind.POOL, "", meta(pool)["name"], meta(pool)["uid"], "user")

    def define_a_network(self) -> None:
        """Take the second network's definition away, mostly put it back."""
        if self.store.get(Kind.NAD, "default", "net1") is None:
            self.store.create(Kind.NAD, "default", "net1", SIDE_NAD, "user")
        elif self.rng.random() < 0.3:
            self.store.delete(Kind.NAD, "default", "net1", "", "user")

    def annotate_a_namespace(self) -> None:
        """Bind a namespace to subnets, or free it."""
        value = self.rng.choice(("tiny", "small,tiny", "dual", "ghost", None, None))
        space = self.rng.choice(("default", "team"))
        body = {"metadata": {"annotations": {NOTE + "logical_switch": value}}}
        self.store.patch(Kind.NAMESPACE, "", space, body, "user")

    def delete_a_namespace(self) -> None:
        """Delete the team's namespace with all in it, or make it anew."""
        team = self.store.get(Kind.NAMESPACE, "", "team")
        if team is None:
            self.store.create(Kind.NAMESPACE, "", "team", {}, "user")
        elif not deleting(team):
            body = {"metadata": {"finalizers": [NAMESPACE_FINALIZER]}}
            self.store.patch(Kind.NAMESPACE, "", "team", body, "namespaces")
            self.store.delete(Kind.NAMESPACE, "", "team", "", "user")

    # -- what is not ours --------------------------------------------------------------------------
    def place_a_foreign_object(self) -> None:
        """Somebody marks an address as used, by an IP object with a finalizer of their own, or of a node."""
        serial = next(self.serial)
        subnet = self.rng.choice(sorted(SUBNETS))
        address = self.rng.choice([a for a in ADDRESSES[subnet] if ":" not in a])
        wanted = {"subnet": subnet, "v4IpAddress": address, "ipAddress": address}
        if self.rng.random() < 0.3:
            node = self.rng.choice(NODES)
            body: Doc = {"metadata": {"finalizers": [FINALIZER]}, "spec": {**wanted, "podName": node}}
            self.store.create(Kind.IP, "", f"node-{node}", body, "kube-ovn")
        else:
            body = {"metadata": {"finalizers": [FOREIGN_FINALIZER], "labels": {RESERVED: "true"}}, "spec": wanted}
            self.store.create(Kind.IP, "", f"manual-{serial}", body, "somebody else")

    def make_a_vip(self) -> None:
        """Somebody has a Vip, with an address that they name or that Kube-OVN gives them, whoever has it."""
        subnet, name = self.rng.choice(sorted(SUBNETS)), f"vip-{next(self.serial)}"
        address = self.address(subnet)
        field = "v6ip" if ":" in address else "v4ip"
        wanted: Doc = {"subnet": subnet, "namespace": "default"}
        if self.rng.random() < 0.5:
            wanted[field] = address
        metadata: Doc = {"finalizers": [FINALIZER]} if self.rng.random() < 0.7 else {}
        if self.rng.random() < 0.2:
            metadata["labels"] = {RESERVED: self.rng.choice(CAST).port()}
        self.store.create(Kind.VIP, "", name, {"metadata": metadata, "spec": wanted}, "somebody else")
        if field not in wanted:
            status = {field: address, "mac": self.rng.choice((*MACS, ""))}
            self.store.patch(Kind.VIP, "", name, {"status": status}, "kube-ovn", "status")

    def end_a_vip(self) -> None:
        """A Vip is deleted; Kube-OVN lets it go later."""
        vip = self.any(Kind.VIP)
        if vip is None:
            return
        if deleting(vip):
            self.store.patch(Kind.VIP, "", meta(vip)["name"], {"metadata": {"finalizers": None}}, "kube-ovn")
        else:
            self.store.delete(Kind.VIP, "", meta(vip)["name"], meta(vip)["uid"], "somebody else")

    def join_a_subnet_to_the_overlay(self) -> None:
        """Kube-OVN takes an address for a Subnet itself, or gives it back."""
        subnet = self.any(Kind.SUBNET)
        if subnet is not None:
            name = meta(subnet)["name"]
            address = self.rng.choice((self.address(name), ""))
            body = {"status": {"u2oInterconnectionIP": address}}
            self.store.patch(Kind.SUBNET, "", name, body, "kube-ovn", "status")

    def place_a_foreign_port(self) -> None:
        """Another system adds a port of its own to a switch, rarely under a name that is one of ours."""
        name = f"foreign-{next(self.serial)}" if self.rng.random() < 0.8 else self.rng.choice(CAST).port()
        self.take_a_name(name)

    def take_a_name(self, name: str) -> None:
        """Another system adds a port of that name."""
        serial = next(self.serial)
        switches = sorted({row.name for row in self.universe.database.tables.switches.values()})
        if not switches:
            return
        switch = self.rng.choice(switches)
        address = self.rng.choice(ADDRESSES.get(switch, ("10.1.0.2",)))
        ids = (("ls", switch), ("vendor", self.rng.choice(("other", "neutron"))))
        row = PortRow(name, (f"0a:00:00:00:00:{serial % 256:02x} {address}",), ids)
        self.universe.database.commit((PutPort(row),), "somebody else")

    def remove_what_is_foreign(self) -> None:
        """Somebody else takes away what they placed."""
        ip = self.any(Kind.IP, when=lambda doc: meta(doc)["name"].startswith(("manual-", "node-")))
        if ip is not None:
            name = meta(ip)["name"]
            self.store.patch(Kind.IP, "", name, {"metadata": {"finalizers": None}}, "somebody else")
            self.store.delete(Kind.IP, "", name, meta(ip)["uid"], "somebody else")
        tables = self.universe.database.tables
        rows = [row for _, row in sorted(tables.ports.items()) if not row.ours]
        if rows:
            self.universe.database.commit((DropPort(self.rng.choice(rows)),), "somebody else")

    def remove_a_port(self) -> None:
        """`ovn-nbctl lsp-del` by a tired hand."""
        rows = [row for _, row in sorted(self.universe.database.tables.ports.items()) if row.ours]
        if rows:
            self.universe.database.commit((DropPort(self.rng.choice(rows)),), "admin")

    def meddle_with_a_port(self) -> None:
        """Another part of Kube-OVN keeps a note on a port, or a tired hand bends its addresses."""
        rows = [row for _, row in sorted(self.universe.database.tables.ports.items()) if row.ours]
        if not rows:
            return
        row, roll = self.rng.choice(rows), self.rng.random()
        if roll < 0.15:
            bent = row._replace(options=tuple(sorted((dict(row.options) | {"arp_proxy": "true"}).items())))
        elif roll < 0.4:
            bent = row._replace(addresses=tuple(f"0a:ff:ff:ff:ff:ff {a.partition(' ')[2]}" for a in row.addresses))
        else:
            ids = dict(row.external_ids) | {"security_groups": self.rng.choice(("sg-a", "sg-b"))}
            bent = row._replace(external_ids=tuple(sorted(ids.items())))
        self.universe.database.commit((PutPort(bent, row),), "admin")
