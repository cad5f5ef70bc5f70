"""The checkers bite when somebody breaks the contract by hand, and let pass what people's own hands did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from controller.core.effects import DropPort, PutPort, PutSwitch
from controller.core.objects import FINALIZER, Kind
from controller.core.rows import PortRow
from tests.sim.checkers import STALE, Checkers, Violation
from tests.sim.documents import RESERVED
from tests.sim.records import Spot
from tests.sim.stage import NOTE
from tests.sim.stories import WE, in_a_world, row
from tests.sim.traffic import Watchman
from tests.sim.world import Options, SimWorld


def ip_spec(pod: str, address: str, subnet: str = "tiny") -> dict[str, Any]:
    spec = {"subnet": subnet, "podName": pod, "namespace": "default", "podType": ""}
    return spec | {"v4IpAddress": address, "ipAddress": address, "macAddress": f"02:00:00:00:01:{len(address):02x}"}


class Stage:
    """A subnet of five addresses, a controller whose hand the test guides, and checkers that look."""

    def __init__(self, universe: SimWorld) -> None:
        self.universe, self.store = universe, universe.store
        self.checkers = Checkers(universe)
        self.checkers.born[WE] = -1000.0
        spec = {"cidrBlock": "10.1.0.0/28", "gateway": "10.1.0.1", "excludeIps": ["10.1.0.9"]}
        self.store.create(Kind.SUBNET, "", "tiny", {"spec": spec}, "user")
        universe.database.commit((PutSwitch("tiny"),), WE)

    def grant(self, pod: str, address: str, by: str = WE) -> None:
        """A user's reservation, granted."""
        name = f"{pod}.default"
        if self.store.get(Kind.IP, "", name) is None:
            spec = {"subnet": "tiny", "podName": pod, "namespace": "default"}
            self.store.create(Kind.IP, "", name, {"spec": spec}, "user")
        labels = {RESERVED: "true", NOTE + "subnet": "tiny"}
        body = {"metadata": {"finalizers": [FINALIZER], "labels": labels}, "spec": ip_spec(pod, address)}
        self.store.patch(Kind.IP, "", name, body, by)

    def put(self, port: PortRow, by: str = WE) -> PortRow:
        """A port, created."""
        self.universe.database.commit((PutPort(port),), by)
        return self.universe.database.tables.ports[port.name]

    def drop(self, port: PortRow) -> None:
        """A port, dropped by us."""
        self.universe.database.commit((DropPort(port),), WE)

    def run_pod(self, pod: str, address: str, mac: str = "02:00:00:00:02:01") -> PortRow:
        """A pod that has got its address: port, IP, annotations."""
        name = f"{pod}.default"
        port = self.put(row(name, address, mac))
        metadata = {"finalizers": [FINALIZER], "labels": {RESERVED: "false"}}
        spec = ip_spec(pod, address) | {"macAddress": mac}
        self.store.create(Kind.IP, "", name, {"metadata": metadata, "spec": spec}, WE)
        self.store.create(Kind.POD, "default", pod, {"spec": {}}, "user")
        self.tell_pod(pod, address, mac)
        return port

    def tell_pod(self, pod: str, address: str, mac: str = "02:00:00:00:02:01") -> None:
        """The pod's annotations."""
        facts = {"allocated": "true", "ip_address": address, "mac_address": mac, "logical_switch": "tiny"}
        body = {"metadata": {"annotations": {NOTE + key: value for key, value in facts.items()}}}
        self.store.patch(Kind.POD, "default", pod, body, WE)


def breaks(story: Callable[[Stage], None], sentence: str) -> None:
    """The story ends with a violation that says this."""

    async def tell(universe: SimWorld) -> None:
        with pytest.raises(Violation, match=sentence):
            story(Stage(universe))

    in_a_world(tell, Options(admission=False))


# -- the checkers bite ------------------------------------------------------------------------------------


def test_an_honest_life_of_a_pod_breaks_nothing() -> None:
    async def story(universe: SimWorld) -> None:
        stage = Stage(universe)
        port = stage.run_pod("p0", "10.1.0.2")
        stage.store.delete(Kind.POD, "default", "p0", "", "user")
        stage.drop(port)
        stage.store.delete(Kind.IP, "", "p0.default", "", WE)
        stage.store.patch(Kind.IP, "", "p0.default", {"metadata": {"finalizers": None}}, WE)

        assert stage.store.docs[Kind.IP] == {}

    in_a_world(story)


def test_one_address_for_two_reservations_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.grant("p0", "10.1.0.2")
        stage.grant("p1", "10.1.0.2")

    breaks(story, r"10\.1\.0\.2 of tiny is given to p1\.default and belongs to p0\.default")


def test_a_pools_address_for_who_did_not_ask_is_noticed() -> None:
    def pool(stage: Stage) -> None:
        spec = {"subnet": "tiny", "ips": ["10.1.0.2..10.1.0.4"]}
        stage.store.create(Kind.POOL, "", "blue", {"spec": spec}, "user")
        stage.checkers.pooled.pop(0)  # it has been there for so long that every process knows it

    def drawn(stage: Stage) -> None:
        pool(stage)
        stage.put(row("p0.default", "10.1.0.3"))

    def another(stage: Stage) -> None:
        pool(stage)
        stage.store.create(Kind.POD, "default", "p0", {"metadata": {"annotations": {NOTE + "ip_pool": "red"}}}, "user")
        stage.put(row("p0.default", "10.1.0.3"))

    breaks(drawn, r"gave p0\.default 10\.1\.0\.3 of \['blue'\], it asked for \[\]")
    breaks(another, r"gave p0\.default 10\.1\.0\.3 of \['blue'\], it asked for \['red'\]")


def test_a_write_of_an_earlier_term_is_noticed() -> None:
    def story(stage: Stage) -> None:
        lease = ("keepip-system", "keepip")
        stage.checkers.born["heir"] = 0.0
        stage.store.create(Kind.LEASE, *lease, {"spec": {"holderIdentity": WE, "acquireTime": "t0"}}, WE)
        stage.put(row("p0.default", "10.1.0.2"))
        stage.store.patch(Kind.LEASE, *lease, {"spec": {"holderIdentity": "heir", "acquireTime": "t1"}}, "heir")
        stage.put(row("p1.default", "10.1.0.3", "02:00:00:00:02:03"))  # the heir has written nothing yet
        stage.put(row("p2.default", "10.1.0.4", "02:00:00:00:02:04"), "heir")
        stage.put(row("p3.default", "10.1.0.5", "02:00:00:00:02:05"))

    breaks(story, "controller wrote to Northbound in term 1, and term 2 has written there already")


def test_a_pools_address_for_who_asked_breaks_nothing() -> None:
    async def story(universe: SimWorld) -> None:
        stage = Stage(universe)
        stage.store.create(Kind.POOL, "", "blue", {"spec": {"subnet": "tiny", "ips": ["10.1.0.2..10.1.0.4"]}}, "user")
        for pod, wish in (("p0", {"ip_pool": "blue"}), ("p1", {"ip_address": "10.1.0.3"})):
            notes = {NOTE + key: value for key, value in wish.items()}
            stage.store.create(Kind.POD, "default", pod, {"metadata": {"annotations": notes}}, "user")
        stage.put(row("p0.default", "10.1.0.2", "02:00:00:00:03:01"))
        stage.put(row("p1.default", "10.1.0.3", "02:00:00:00:03:02"))

        assert len(universe.database.tables.ports) == 2

    in_a_world(story)


def test_a_port_on_a_reserved_address_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.grant("p0", "10.1.0.2")
        stage.put(row("p1.default", "10.1.0.2"))

    breaks(story, "belongs to p0.default")


@pytest.mark.parametrize("address", ["10.1.0.0", "10.1.0.1", "10.1.0.15", "10.1.0.9", "10.9.0.1"])
def test_an_address_that_nobody_may_be_given_is_noticed(address: str) -> None:
    breaks(lambda stage: stage.grant("p0", address), "no plan of tiny allows it")


def test_an_excluded_address_may_be_given_to_one_who_names_it() -> None:
    async def story(universe: SimWorld) -> None:
        stage = Stage(universe)
        stage.store.create(Kind.IP, "", "p0.default", {"spec": ip_spec("p0", "10.1.0.9")}, "user")
        stage.grant("p0", "10.1.0.9")

    in_a_world(story)


def test_a_released_address_given_away_at_once_is_noticed() -> None:
    def story(stage: Stage) -> None:
        port = stage.run_pod("p0", "10.1.0.2")
        stage.store.delete(Kind.POD, "default", "p0", "", "user")
        stage.drop(port)
        stage.store.patch(Kind.IP, "", "p0.default", {"metadata": {"finalizers": None}}, WE)
        stage.grant("p1", "10.1.0.2")

    breaks(story, "went from p0.default to p1.default")


def test_a_reservation_that_moves_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.grant("p0", "10.1.0.2")
        stage.grant("p0", "10.1.0.3")

    breaks(story, "changed v4IpAddress of p0.default")


def test_a_reservation_that_we_delete_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.grant("p0", "10.1.0.2")
        stage.store.delete(Kind.IP, "", "p0.default", "", WE)

    breaks(story, "ended the reservation p0.default, which nobody deleted")


def test_a_pod_told_before_its_port_exists_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.store.create(Kind.POD, "default", "p0", {"spec": {}}, "user")
        stage.tell_pod("p0", "10.1.0.2")

    breaks(story, "and its port is None")


def test_a_pod_whose_address_changes_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.run_pod("p0", "10.1.0.2")
        stage.tell_pod("p0", "10.1.0.3")

    breaks(story, "changed the addresses of the pod")


def test_an_ip_before_its_port_is_noticed() -> None:
    def story(stage: Stage) -> None:
        body = {"metadata": {"finalizers": [FINALIZER]}, "spec": ip_spec("p0", "10.1.0.2")}
        stage.store.create(Kind.IP, "", "p0.default", body, WE)

    breaks(story, "created the IP p0.default before its port")


def test_a_finalizer_taken_off_before_the_port_is_gone_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.run_pod("p0", "10.1.0.2")
        stage.store.delete(Kind.IP, "", "p0.default", "", "user")
        stage.store.patch(Kind.IP, "", "p0.default", {"metadata": {"finalizers": None}}, WE)

    breaks(story, "took the finalizer off p0.default before its port was gone")


def test_a_live_pod_that_is_cut_off_is_noticed() -> None:
    breaks(lambda stage: stage.drop(stage.run_pod("p0", "10.1.0.2")), "off the port p0.default of the live pod p0")


def test_a_vips_address_that_we_give_away_is_noticed() -> None:
    """Once every process must know of the Vip; and it has its address until it is gone."""

    async def story(universe: SimWorld) -> None:
        stage = Stage(universe)
        metadata = {"finalizers": [FINALIZER]}
        asked = {"spec": {"subnet": "tiny", "v4ip": "10.1.0.2"}, "metadata": metadata}
        stage.store.create(Kind.VIP, "", "web", asked, "user")
        stage.store.delete(Kind.VIP, "", "web", "", "user")
        await asyncio.sleep(STALE + 1)

        with pytest.raises(Violation, match=r"10\.1\.0\.2 of tiny is given to p0\.default and belongs to Vip web"):
            stage.grant("p0", "10.1.0.2")
        stage.store.patch(Kind.VIP, "", "web", {"metadata": {"finalizers": None}}, "user")
        assert list(stage.checkers.book.owners(Spot("tiny", "10.1.0.2"))) == ["p0.default"]

    in_a_world(story, Options(admission=False))


def test_a_vip_that_we_write_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.store.create(Kind.VIP, "", "web", {"spec": {"subnet": "tiny"}}, "user")
        stage.store.patch(Kind.VIP, "", "web", {"metadata": {"labels": {"a": "b"}}}, WE)

    breaks(story, "wrote the Vip")


def test_a_subnets_own_address_is_kept_from_others_while_it_has_it() -> None:
    async def story(universe: SimWorld) -> None:
        stage = Stage(universe)
        taken = {"status": {"u2oInterconnectionIP": "10.1.0.2,fd00::2"}}
        stage.store.patch(Kind.SUBNET, "", "tiny", taken, "kube-ovn", "status")
        book, spot = stage.checkers.book, Spot("tiny", "10.1.0.2")
        assert list(book.owners(spot)) == ["u2o-interconnection.ovn-cluster.tiny"]
        stage.store.patch(Kind.SUBNET, "", "tiny", {"status": {"u2oInterconnectionIP": ""}}, "kube-ovn", "status")
        assert list(book.owners(spot)) == []

    in_a_world(story)


def test_a_stranger_port_that_we_drop_is_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.drop(stage.put(row("theirs", "10.1.0.3", vendor="other"), "somebody else"))

    breaks(story, "changed the foreign port theirs")


def test_other_peoples_labels_that_we_take_are_noticed() -> None:
    def story(stage: Stage) -> None:
        stage.store.patch(Kind.SUBNET, "", "tiny", {"metadata": {"labels": {"team": "blue"}}}, "user")
        stage.store.patch(Kind.SUBNET, "", "tiny", {"metadata": {"labels": {"team": None}}}, WE)

    breaks(story, "changed other people's labels")


def test_a_conflict_that_a_persons_own_hand_makes_is_excused() -> None:
    async def story(universe: SimWorld) -> None:
        stage = Stage(universe)
        stage.grant("p0", "10.1.0.2")
        stage.put(row("theirs", "10.1.0.2", vendor="other"), "somebody else")
        stage.put(row("p0.default", "10.1.0.2", mac="02:00:00:00:01:08"))

    in_a_world(story)


def test_a_deposed_leader_that_writes_is_noticed() -> None:
    async def story(universe: SimWorld) -> None:
        Watchman(universe)
        old, _ = universe.connect("old")
        new, _ = universe.connect("new")
        space, name = "keepip-system", "keepip"
        await old.kube.create(Kind.LEASE, space, name, {"spec": {"holderIdentity": "old"}})
        await old.kube.create(Kind.IP, "", "a.b", {})
        await new.kube.patch(Kind.LEASE, space, name, {"spec": {"holderIdentity": "new"}})

        with pytest.raises(Violation, match=r"old sent create IP .* while new holds the lease"):
            await old.kube.create(Kind.IP, "", "c.d", {})

    in_a_world(story)
