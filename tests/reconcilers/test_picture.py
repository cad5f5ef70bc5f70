"""What one change of the world changes in the fold, and whose work it is."""

from __future__ import annotations

import msgspec
import pytest

from controller.core import naming
from controller.core.addresses import Address
from controller.core.decisions.namespace import POOLS, SWITCHES
from controller.core.effects import Promise, Remember
from controller.core.ipam import Source
from controller.core.neighbours import Nad, NadSpec, PoolStatus, VirtualMachine
from controller.core.objects import (
    OPTIONAL,
    Condition,
    Ip,
    Kind,
    Meta,
    Namespace,
    Node,
    NodeAddress,
    NodeStatus,
    SubnetStatus,
)
from controller.core.rows import AddressSetRow, PortRow
from controller.machines.waiting import Waiting
from controller.reconcilers import keys
from controller.reconcilers.keys import Key
from controller.reconcilers.mirrors import WATCHED
from controller.reconcilers.picture import Picture
from controller.reconcilers.views import Views
from tests.core.worlds import (
    GRANTED,
    MAC,
    NOW,
    ORDINARY,
    _Clock,
    granted_ip,
    make_ip,
    make_pod,
    make_pool,
    make_row,
    make_subnet,
    notes_of,
    num,
    recorded,
)

TWO = Address(4, num("10.0.0.2"))


@pytest.fixture
def picture() -> Picture:
    """A picture that knows subnet net."""
    found = Picture()
    show(found, Kind.SUBNET, None, make_subnet())
    return found


def show(picture: Picture, kind: Kind, old: object, new: object) -> set[Key]:
    """One change of a replica, as the controller folds it."""
    one = new or old
    found: set[Key] = set()
    replica = picture.replica(kind)
    change = replica.apply(replica.version + 100, one, new is None)
    if change is not None:
        found = set(picture.see(kind, change[1], change[2], NOW))
    return found


def show_row(picture: Picture, row: PortRow | None, name: str = "web.default") -> set[Key]:
    """One change of a port."""
    changes, _ = picture.ports.apply(picture.seq + 1, 1, False, {name: row}, {})
    return {key for one, old, new in changes for key in picture.see_port(one, old, new, NOW)}


def test_a_change_of_owner_concerns_the_old_and_the_new_one(picture: Picture) -> None:
    """What an edit took away is the old owner's work."""
    own = granted_ip(labels=ORDINARY)
    show(picture, Kind.IP, None, own)
    meta = granted_ip(labels=ORDINARY).metadata
    edited = Ip(metadata=meta, spec=granted_ip(pod_name="api").spec)

    assert show(picture, Kind.IP, own, edited) == {
        keys.reservation("web.default"),
        keys.pod("default", "web"),
        keys.pod("default", "api"),
    }
    show_row(picture, make_row())
    assert show_row(picture, make_row(pod="default/api")) >= {keys.pod("default", "web"), keys.pod("default", "api")}


def test_an_unused_reservation_is_no_work_for_its_pods(picture: Picture) -> None:
    """Thousands of them must not wake thousands of keys that find nothing to do."""
    assert show(picture, Kind.IP, None, granted_ip()) == {keys.reservation("web.default")}


def test_reservations_are_counted_per_subnet_as_they_come_and_go(picture: Picture) -> None:
    """A scrape reads the number; it never counts."""
    show(picture, Kind.IP, None, granted_ip())
    assert picture.reserved["net"] == 1
    show(picture, Kind.IP, granted_ip(), granted_ip(labels={**GRANTED, **ORDINARY}))
    assert picture.reserved["net"] == 0
    show(picture, Kind.IP, granted_ip(), granted_ip())
    show(picture, Kind.IP, granted_ip(), None)
    assert picture.reserved["net"] == 0


def test_what_was_granted_is_remembered_for_that_object_only(picture: Picture) -> None:
    """An edit is undone from it by who leads; another object of the name starts anew.

    Who does not lead sees a leader's writes among the edits and cannot tell them: seed 1533.
    """
    show(picture, Kind.IP, None, granted_ip())
    edited = granted_ip("10.0.0.6")

    standby = picture.granted(edited)
    assert standby is not None
    assert standby.v4_ip_address == "10.0.0.6"
    picture.leads = True
    found = picture.granted(edited)
    assert found is not None
    assert found.v4_ip_address == "10.0.0.2"
    another = Ip(metadata=type(edited.metadata)(name="web.default", uid="other", finalizers=edited.metadata.finalizers),
                 spec=edited.spec)  # fmt: skip
    fresh = picture.granted(another)
    assert fresh is not None
    assert fresh.v4_ip_address == "10.0.0.6"


def test_the_end_of_an_ip_is_its_subnets_work_too(picture: Picture) -> None:
    """A Subnet that is being deleted waits for its last user."""
    show(picture, Kind.IP, None, granted_ip())

    assert keys.subnet("net") in show(picture, Kind.IP, granted_ip(), None)
    assert picture.ledger.holders("net", TWO) == ()


def test_a_pod_concerns_its_owner_and_its_reservation(picture: Picture) -> None:
    """And its annotations hold its address for as long as it lives."""
    show(picture, Kind.IP, None, granted_ip())
    pod = make_pod(notes=notes_of())

    assert show(picture, Kind.POD, None, pod) == {keys.pod("default", "web"), keys.reservation("web.default")}
    assert picture.ledger.holders("net", TWO) == ("web.default",)
    show(picture, Kind.IP, granted_ip(), None)
    assert picture.ledger.holders("net", TWO) == ("web.default",)
    show(picture, Kind.POD, pod, None)
    assert picture.ledger.holders("net", TWO) == ()


def test_a_pod_of_the_host_network_holds_nothing(picture: Picture) -> None:
    """It is ignored (contract §4)."""
    show(picture, Kind.POD, None, make_pod(notes=notes_of(), host_network=True))

    assert picture.ledger.holders("net", TWO) == ()


def test_a_row_that_does_not_say_its_switch_is_placed_by_its_address(picture: Picture) -> None:
    """In every subnet that has it, also in one that comes later (Rule 2)."""
    show_row(picture, make_row(ls=""))
    assert picture.ledger.holders("net", TWO) == ("web.default",)
    show(picture, Kind.SUBNET, None, make_subnet("late", "10.0.0.0/24", vpc="mine"))
    assert picture.ledger.holders("late", TWO) == ("web.default",)
    show_row(picture, None)
    assert picture.ledger.holders("late", TWO) == ()


def test_a_promise_ends_with_its_record_and_knows_its_maker(picture: Picture) -> None:
    """Whose it is decides who may withdraw it."""
    key = keys.reservation("web.default")
    picture.promise(key, Promise("web.default", "net", TWO.value, None, None), NOW)
    assert picture.promised_by("web.default") == key
    show(picture, Kind.IP, None, granted_ip())
    assert picture.promised_by("web.default") is None
    picture.promise(key, Promise("api.default", "net", num("10.0.0.3"), None, None), NOW)
    picture.withdraw("api.default", NOW)
    assert picture.promised_by("api.default") is None


def test_a_nodes_address_is_nobodys(picture: Picture) -> None:
    """A node's InternalIP is never given out; what cannot be read is skipped."""
    valid = (Condition(type="Validated", status="True"),)
    show(picture, Kind.SUBNET, make_subnet(), make_subnet(conditions=valid))
    addresses = tuple(NodeAddress(type="InternalIP", address=text) for text in ("10.0.0.2", "x"))
    show(picture, Kind.NODE, None, Node(metadata=make_pod("a").metadata, status=NodeStatus(addresses=addresses)))

    assert picture.ledger.barred(TWO) == "a"
    assert picture.ledger.next_free("net", 4, NOW) == num("10.0.0.3")


def test_a_subnet_that_a_node_keeps_out_comes_in_when_the_node_goes(picture: Picture) -> None:
    """Those who wait for it are woken."""
    addresses = (NodeAddress(type="InternalIP", address="10.0.0.2"),)
    node = Node(metadata=make_pod("a").metadata, status=NodeStatus(addresses=addresses))
    assert keys.subnet("net") in show(picture, Kind.NODE, None, node)
    assert picture.ledger.next_free("net", 4, NOW) is None

    picture.drain_topics()
    show(picture, Kind.NODE, node, None)
    assert ("space", "net") in picture.drain_topics()
    assert picture.ledger.next_free("net", 4, NOW) == num("10.0.0.2")


def test_nothing_is_synced_until_everything_is() -> None:
    """Rule 5: start-up reads every source before the first decision."""
    found = Picture()
    assert not found.synced
    for kind in WATCHED:
        if kind in OPTIONAL:
            found.heard(kind, served=False)
        else:
            found.replica(kind).replace((), 1)
    assert [name for name, synced in found.sources() if not synced] == ["Northbound"]
    found.ports.apply(1, 1, True, {}, {})
    assert found.synced


# -- views -----------------------------------------------------------------------------------------


def views_of(picture: Picture) -> Views:
    waiting: Waiting[Key] = Waiting()
    return Views(picture, waiting, {}, _Clock(), lambda _key: False)


def test_a_view_of_nothing_is_a_view(picture: Picture) -> None:
    """A key may come late, for something that has gone."""
    views = views_of(picture)

    assert views.reservation("x").ip is None
    assert views.pod("default", "x").nics == ()
    assert views.subnet("x", counted=True).subnet is None
    assert views.namespace("x").namespace is None


def test_a_reservations_view_finds_the_pods_of_its_port(picture: Picture) -> None:
    """By the port's own name, whatever the fields of IP and row have been edited to (seed 988)."""
    show(picture, Kind.POD, None, make_pod(notes=notes_of()))
    show(picture, Kind.POD, None, make_pod("else", notes=notes_of("10.0.0.3")))
    show(picture, Kind.IP, None, make_ip(pod_name="else"))
    (bidder,) = views_of(picture).reservation("web.default").bidders
    assert (bidder.pod, bidder.address, bidder.mac) == ("default/web", "10.0.0.2", MAC)


def test_a_rival_claim_is_seen_by_both(picture: Picture) -> None:
    """Two records of one address (Rule 5)."""
    show(picture, Kind.IP, None, granted_ip())
    picture.ledger.put(
        Source.PORT, "api", [next(r for _, _, r in picture.ledger.records_of("web.default"))._replace(port="api")], NOW
    )

    assert views_of(picture).reservation("web.default").others == ("api",)


def test_a_running_pod_leads_its_owner(picture: Picture) -> None:
    """A migration's target is served after its source, whenever it was made."""
    for name, notes in (("source", notes_of()), ("target", {})):
        pod = make_pod(name, notes=notes, owner=None, uid=name)
        show(picture, Kind.POD, None, pod)
    assert views_of(picture).pod("default", "source").nics[0].leader.running
    assert not views_of(picture).pod("default", "target").nics[0].leader.running


def test_annotations_that_cannot_be_read_are_part_of_the_view(picture: Picture) -> None:
    """With the message for the pod."""
    show(picture, Kind.POD, None, make_pod(notes={"ip_address": "nonsense"}))
    view = views_of(picture).pod("default", "web")

    (nic,) = view.nics
    assert nic.leader.ask is None
    assert nic.unreadable is not None
    assert naming.PREFIX + "ip_address" in nic.unreadable.text


def test_a_grant_that_was_answered_outranks_an_edit_shown_with_it(picture: Picture) -> None:
    """Seeds 296 and 663: the watch skips the grant itself and shows it with somebody's edit of it."""
    edited = granted_ip(address="10.0.0.6")
    grant = Remember("web.default", edited.metadata.uid, recorded())

    picture.leads = True
    show(picture, Kind.IP, None, edited)
    picture.remember(grant, NOW)
    assert picture.granted(edited) == recorded()
    assert picture.ledger.holders("net", TWO) == ("web.default",)
    assert not picture.ledger.holders("net", Address(4, num("10.0.0.6")))

    picture.remember(Remember("web.default", "the uid of a former one", recorded("10.0.0.9")), NOW)
    assert picture.granted(edited) == recorded()


def test_a_subnets_status_is_no_news_for_those_who_wait_for_it(picture: Picture) -> None:
    """It is written once a second under load, and thousands may wait."""
    subnet = make_subnet()
    picture.drain_topics()

    counted = msgspec.structs.replace(subnet, status=SubnetStatus(v4_available=3.0))
    show(picture, Kind.SUBNET, subnet, counted)
    assert picture.drain_topics() == []
    show(picture, Kind.SUBNET, counted, make_subnet(cidr="10.0.0.0/28"))
    assert ("subnet", "net") in picture.drain_topics()


def test_the_owner_of_a_port_is_waited_for_whatever_its_ip_says(picture: Picture) -> None:
    """Seed 216: an ordinary IP whose podName was edited went, and took the port of a pod that was being served."""
    busy = {keys.pod("default", "web")}
    show(picture, Kind.IP, None, granted_ip(labels={**GRANTED, **ORDINARY}, pod_name="other"))
    show_row(picture, make_row())

    views = Views(picture, Waiting(), {}, _Clock(), lambda key: key in busy)
    assert views.reservation("web.default").port_in_doubt


def test_a_crd_that_goes_takes_nothing_with_it(picture: Picture) -> None:
    """Rule 2: what a kind that is not served any more held is neither true nor gone."""
    assert not picture.served(Kind.VM)
    vm = VirtualMachine(metadata=Meta(name="web", namespace="default", resource_version="1"))
    show(picture, Kind.VM, None, vm)
    picture.vms.synced = True
    assert picture.served(Kind.VM)

    picture.heard(Kind.VM, served=False)
    assert not picture.served(Kind.VM)
    assert picture.vms.get("default", "web") is vm
    picture.heard(Kind.VM, served=True)
    assert picture.served(Kind.VM)


# -- pools -----------------------------------------------------------------------------------------

BLUE = make_pool("blue", "10.0.0.2..10.0.0.3", namespaces=("team",))


def test_a_pool_changes_its_subnets_plan_in_the_same_step(picture: Picture) -> None:
    """Whoever waits for it, or for the subnet, is woken by the event itself; its namespaces are looked at."""
    show(picture, Kind.POOL, None, make_pool("red", "10.0.0.6"))
    show(picture, Kind.NAMESPACE, None, Namespace(metadata=Meta(name="old", annotations={POOLS: "blue"})))
    picture.drain_topics()

    found = show(picture, Kind.POOL, None, BLUE)
    assert {keys.pool("blue"), keys.pool_status("blue"), keys.pool("red")} <= found
    assert {keys.namespace("team"), keys.namespace("old")} <= found
    assert picture.ledger.next_free("net", 4, NOW) == num("10.0.0.4")
    assert {("pool", "blue"), ("pool", "red"), ("plan", "net"), ("space", "net"), ("space", "net", "blue")} <= {
        *picture.drain_topics()
    }
    moved = make_pool("blue", "10.0.0.4", namespaces=("other",))
    assert {keys.namespace("team"), keys.namespace("other")} <= show(picture, Kind.POOL, BLUE, moved)
    assert picture.ledger.next_free("net", 4, NOW) == num("10.0.0.2")
    assert keys.pool("blue") in show(picture, Kind.POOL, moved, None)
    assert picture.ledger.free_count("net", 4, "blue") == 0


def test_a_pools_status_is_no_news(picture: Picture) -> None:
    """As with a Subnet's; its own key sees the version that it has to patch."""
    show(picture, Kind.POOL, None, BLUE)
    picture.drain_topics()
    counted = msgspec.structs.replace(BLUE, status=PoolStatus(v4_available=2.0))

    assert show(picture, Kind.POOL, BLUE, counted) == {keys.pool("blue"), keys.pool_status("blue")}
    assert picture.drain_topics() == []
    assert views_of(picture).pool("blue", counted=False).pool == counted


def test_a_subnets_change_is_its_pools_business(picture: Picture) -> None:
    """What is outside of the CIDR, and that there is no subnet, is said on the pool."""
    show(picture, Kind.POOL, None, BLUE)

    small = make_subnet(cidr="10.0.1.0/29")
    assert keys.pool("blue") in show(picture, Kind.SUBNET, make_subnet(), small)
    complaint = views_of(picture).pool("blue", counted=True).complaint
    assert complaint is not None
    assert "is not in 10.0.1.0/29" in complaint.text
    assert keys.pool("blue") in show(picture, Kind.SUBNET, small, None)
    assert views_of(picture).pool("blue", counted=True).usage == {}


def test_an_address_set_is_its_pools_business(picture: Picture) -> None:
    """By its external id, also when the pool is gone; and whoever wants its name is woken when it goes."""
    row = AddressSetRow("a.b", ("10.0.0.2",), (("ippool", "a-b"),), "u")
    ((name, old, new),) = picture.ports.apply_sets({"a.b": row}, whole=True)
    assert set(picture.see_set(name, old, new)) == {keys.pool("a-b")}
    assert ("address-set", "a.b") in picture.drain_topics()
    assert views_of(picture).pool("a-b", counted=False).row == row
    assert list(picture.pool_names()) == ["a-b"]

    foreign = row._replace(external_ids=())
    ((name, old, new),) = picture.ports.apply_sets({"a.b": foreign}, whole=False)
    assert set(picture.see_set(name, old, new)) == {keys.pool("a-b")}
    ((name, old, new),) = picture.ports.apply_sets({"a.b": None}, whole=False)
    assert set(picture.see_set(name, old, new)) == set()
    assert list(picture.ports.sets()) == []


def test_room_is_counted_by_pool_and_by_family(picture: Picture) -> None:
    """Each line is told how much there is for it; both families are needed by who wants both."""
    show(picture, Kind.SUBNET, make_subnet(), make_subnet(cidr="10.0.0.0/29,fd00::/125"))
    show(picture, Kind.POOL, None, BLUE)

    assert list(picture.lines_of(("space", "net"))) == [
        (("space", "net"), 3),
        (("space", "net", "", "IPv4"), 3),
        (("space", "net", "", "IPv6"), 5),
    ]
    assert dict(picture.lines_of(("space", "net", "blue")))["space", "net", "blue"] == 0
    assert list(picture.lines_of(("space", "x"))) == [(("space", "x"), 0)]
    assert list(picture.lines_of(("plan", "net"))) == [(("plan", "net"), None)]
    both = Promise("web.default", "net", num("10.0.0.2"), num("fd00::4"), None)
    assert list(picture.rooms_of(both)) == [
        ("space", "net", "blue"),
        ("space", "net", "blue", "IPv4"),
        ("space", "net"),
        ("space", "net", "", "IPv6"),
    ]


def test_a_pod_goes_where_nobody_has_waited_longer(picture: Picture) -> None:
    """Of two pools of its namespace the first has room, for somebody who was there before."""
    for name, ip in (("blue", "10.0.0.2"), ("red", "10.0.0.3")):
        show(picture, Kind.POOL, None, make_pool(name, ip))
    notes = {POOLS: "blue,red", SWITCHES: "net"}
    show(picture, Kind.NAMESPACE, None, Namespace(metadata=Meta(name="default", annotations=notes)))
    show(picture, Kind.POD, None, make_pod())
    waiting: Waiting[Key] = Waiting()
    views = Views(picture, waiting, {}, _Clock(), lambda _key: False)

    assert views.pod("default", "web").nics[0].leader.home.pool == "blue"
    waiting.wait(keys.pod("default", "first"), (("space", "net", "blue"),), NOW)
    assert views.pod("default", "web").nics[0].leader.home.pool == "red"
    waiting.wait(keys.pod("default", "first"), (("space", "net", "blue"), ("space", "net", "red")), NOW)
    (nic,) = views.pod("default", "web").nics
    assert (nic.leader.home.pool, nic.queued) == ("blue", frozenset({("space", "net", "blue")}))


def test_a_namespaces_view_knows_its_pools(picture: Picture) -> None:
    """Those that list it, and those that its annotation names and that list others."""
    show(picture, Kind.POOL, None, BLUE)
    show(picture, Kind.POOL, None, make_pool("red", "10.0.0.6", namespaces=("other",)))
    show(picture, Kind.NAMESPACE, None, Namespace(metadata=Meta(name="team", annotations={POOLS: "red,blue,gone"})))

    view = views_of(picture).namespace("team")
    assert view.pools == ("blue",)
    assert [pool.metadata.name for pool in view.others_pools] == ["red"]


def test_a_definitions_change_concerns_the_pods_that_name_it(picture: Picture) -> None:
    """Found by an index; with the reservations of their NICs, and with who waits for it."""
    pod = make_pod(notes={naming.NETWORKS: "net1", "net1.default.ovn.kubernetes.io/allocated": "true"})
    show(picture, Kind.POD, None, pod)
    show(picture, Kind.POD, None, make_pod("other", notes={naming.NETWORKS: "net2"}, uid="other"))
    show(picture, Kind.IP, None, make_ip("web.default.net1.default.ovn"))
    picture.drain_topics()
    nad = Nad(metadata=Meta(name="net1", namespace="default"), spec=NadSpec(config='{"type": "kube-ovn"}'))

    found = {keys.pod("default", "web"), keys.reservation("web.default.net1.default.ovn")}
    assert show(picture, Kind.NAD, None, nad) == found
    assert ("nad", "default", "net1") in picture.drain_topics()
    assert show(picture, Kind.NAD, nad, None) == found


@pytest.mark.parametrize(("runs", "told", "gone"), [(False, False, True), (True, False, False), (False, True, False)])
def test_a_port_that_a_live_pod_may_have_is_left_alone(picture: Picture, *, runs: bool, told: bool, gone: bool) -> None:
    """Unless nobody was told of it, and no IP tells of it: a reservation of its name waits for its end (1431, 573)."""
    port = "web.default.net1.default.ovn"
    notes = {naming.NETWORKS: "net1"} | ({naming.annotation("net1.default.ovn", "allocated"): "true"} if runs else {})
    show(picture, Kind.POD, None, make_pod(notes=notes))  # of no definition: nobody can tell
    show_row(picture, make_row(name=port), port)
    show(picture, Kind.IP, None, make_ip(port, ip_address="10.0.0.2" if told else ""))

    found = views_of(picture).pod("default", "web")
    assert [held.port for held in found.left] == ([port] if gone else [])


def test_what_may_still_be_written_stays_claimed_until_the_last_such_write_is_over(picture: Picture) -> None:
    """Of two writes without answer the later one counts; a port that has nothing haunts nobody."""
    show(picture, Kind.SUBNET, None, make_subnet())
    row = make_row()
    assert not picture.ghosts.raise_for("web.default", 0.0, 9.0, unborn=True)
    assert picture.ghosts.unborn == set()
    show_row(picture, row, row.name)
    assert picture.ghosts.raise_for("web.default", 0.0, 10.0, unborn=True)
    assert picture.ghosts.raise_for("web.default", 5.0, 15.0, unborn=False)
    show_row(picture, None, row.name)
    picture.ghosts.lay("web.default", 10.0)
    assert picture.ghosts.unborn == {"web.default"}
    assert picture.ledger.holders("net", TWO) == ("web.default",)
    picture.ghosts.lay("web.default", 15.0)
    assert picture.ghosts.unborn == set()
    assert picture.ledger.holders("net", TWO) == ()


def test_an_address_whose_subnet_is_not_said_is_held_where_it_may_be(picture: Picture) -> None:
    """A NIC of another network, before and after its subnet is known; and no longer than its pod lives (Rule 1)."""
    notes = {"m.default.kubernetes.io/ip_address": "10.9.0.2", "m.default.kubernetes.io/allocated": "true"}
    pod = make_pod(notes=notes)
    show(picture, Kind.POD, None, pod)
    away = make_subnet("away", "10.9.0.0/29", provider="m.default", vpc="", gateway="10.9.0.1")
    two = Address(4, num("10.9.0.2"))
    assert picture.ledger.holders("away", two) == ()
    show(picture, Kind.SUBNET, None, away)
    assert picture.ledger.holders("away", two) == ("web.default.m.default",)
    show(picture, Kind.POD, pod, None)

    assert picture.ledger.holders("away", two) == ()
    assert picture.nics.homeless("m.default") == ()
