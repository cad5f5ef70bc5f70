"""What the servers hold, as far as we have been told."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from controller.core.objects import Meta, Pod, PodSpec
from controller.core.rows import PortRow, SwitchRow
from controller.machines.replica import PortReplica, Replica


def pod(name: str, version: int, node: str = "", namespace: str = "shop") -> Pod:
    meta = Meta(name=name, namespace=namespace, resource_version=str(version))
    return Pod(metadata=meta, spec=PodSpec(node_name=node))


def by_node() -> Replica[Pod]:
    return Replica({"node": lambda p: (p.spec.node_name,) if p.spec.node_name else ()})


A, B = ("shop", "a"), ("shop", "b")


def test_a_replica_is_synced_by_its_first_list_even_an_empty_one() -> None:
    """Until then absence means nothing."""
    pods: Replica[Pod] = Replica()

    before = pods.synced
    assert pods.replace([], 5) == []
    assert (before, pods.synced, pods.version) == (False, True, 5)


def test_replace_tells_what_changed_appeared_and_vanished() -> None:
    """An object of the same resourceVersion is no change; the order is the same in every process."""
    pods: Replica[Pod] = Replica()
    old = [pod("same", 1), pod("changed", 2), pod("vanished", 3), pod("also", 3)]
    new = [pod("same", 1), pod("changed", 4), pod("appeared", 5)]
    pods.replace(old, 3)

    assert pods.replace(new, 5) == [
        (("shop", "changed"), old[1], new[1]),
        (("shop", "appeared"), None, new[2]),
        (("shop", "vanished"), old[2], None),
        (("shop", "also"), old[3], None),
    ]
    assert {p.metadata.name for p in pods.values()} == {"same", "changed", "appeared"}
    assert len(pods) == 3


def test_replace_may_go_back() -> None:
    """A list is the truth, also after a restore from a backup."""
    pods: Replica[Pod] = Replica()
    pods.replace([pod("a", 100)], 100)

    assert pods.replace([pod("a", 50)], 60) == [(A, pod("a", 100), pod("a", 50))]
    assert pods.version == 60


def test_events_patch_one_object() -> None:
    """Added, modified, deleted; each tells what was there before."""
    pods: Replica[Pod] = Replica()
    pods.replace([], 1)

    assert pods.apply(2, pod("a", 2), deleted=False) == (A, None, pod("a", 2))
    assert pods.apply(3, pod("a", 3, "n1"), deleted=False) == (A, pod("a", 2), pod("a", 3, "n1"))
    assert pods.get("shop", "a") == pod("a", 3, "n1")
    assert pods.apply(4, pod("a", 4, "n1"), deleted=True) == (A, pod("a", 3, "n1"), None)
    assert pods.get("shop", "a") is None
    assert pods.version == 4


def test_a_bookmark_only_advances_the_version() -> None:
    """And never back."""
    pods: Replica[Pod] = Replica()
    pods.replace([], 1)

    assert pods.apply(9, None, deleted=False) is None
    assert pods.apply(5, None, deleted=False) is None
    assert pods.version == 9


def test_an_event_that_is_no_news_changes_nothing() -> None:
    """Neither one that the list has overtaken, nor one older than the object that is held."""
    pods: Replica[Pod] = Replica()
    pods.replace([pod("a", 8)], 5)  # a list of pages may hold an object newer than its own version

    assert pods.apply(5, pod("b", 5), deleted=False) is None
    assert pods.apply(6, pod("a", 6), deleted=False) is None
    assert pods.apply(7, pod("a", 7), deleted=True) is None
    assert pods.get("shop", "a") == pod("a", 8)
    assert pods.apply(9, pod("a", 9), deleted=True) == (A, pod("a", 8), None)


def test_seen_gone_knows_who_existed_and_vanished() -> None:
    """By an event or by a list; coming back ends it; never having been here is no proof."""
    pods: Replica[Pod] = Replica()
    pods.replace([pod("a", 1), pod("b", 2)], 2)
    pods.apply(3, pod("a", 3), deleted=True)
    pods.replace([], 4)

    assert pods.seen_gone(*A)
    assert pods.seen_gone(*B)
    assert not pods.seen_gone("shop", "never")
    pods.apply(5, pod("a", 5), deleted=False)
    assert not pods.seen_gone(*A)


def test_a_delete_of_something_unknown_is_no_change_but_a_proof() -> None:
    """Whoever was deleted did exist."""
    pods: Replica[Pod] = Replica()
    pods.replace([], 1)

    assert pods.apply(2, pod("a", 2), deleted=True) is None
    assert pods.seen_gone(*A)


def test_tombstones_are_bounded_and_the_oldest_go_first() -> None:
    """A name that vanishes again counts as young."""
    pods: Replica[Pod] = Replica(tombstones=2)
    for version, name in enumerate(["a", "b", "a", "c"], start=1):
        pods.apply(version, pod(name, version), deleted=True)

    assert [pods.seen_gone("shop", name) for name in "abc"] == [True, False, True]


def test_an_index_finds_objects_in_the_order_they_came() -> None:
    """An update that leaves the value keeps the place; one that changes it moves the object."""
    pods = by_node()
    pods.replace([pod("a", 1, "n1"), pod("b", 2, "n1"), pod("c", 3, "n1"), pod("d", 4)], 4)
    pods.apply(5, pod("a", 5, "n1"), deleted=False)
    pods.apply(6, pod("b", 6, "n2"), deleted=False)

    assert [p.metadata.name for p in pods.by("node", "n1")] == ["a", "c"]
    assert [p.metadata.name for p in pods.by("node", "n2")] == ["b"]
    assert pods.by("node", "n3") == ()
    assert [pods.count_by("node", n) for n in ("n1", "n2", "n3")] == [2, 1, 0]


def test_an_index_may_give_an_object_several_values() -> None:
    """Named twice counts once."""
    pods: Replica[Pod] = Replica({"letter": lambda p: p.metadata.name})
    pods.replace([pod("ab", 1), pod("bb", 2)], 2)

    assert [p.metadata.name for p in pods.by("letter", "b")] == ["ab", "bb"]
    assert [p.metadata.name for p in pods.by("letter", "a")] == ["ab"]


NAMES = st.sampled_from("abcd")
NODES = st.sampled_from(["", "n1", "n2"])


class Event(NamedTuple):
    name: str
    node: str
    deleted: bool


EVENTS = st.builds(Event, NAMES, NODES, st.booleans())
LISTS = st.dictionaries(NAMES, NODES, max_size=4)


@given(st.lists(EVENTS | LISTS, max_size=25))
def test_indexes_and_changes_agree_with_the_content(steps: list[Event | dict[str, str]]) -> None:
    """Folding the changes gives the content, every index equals a scan, and nothing empty is kept."""
    pods = by_node()
    fold: dict[tuple[str, str], Pod] = {}
    for version, step in enumerate(steps, start=1):
        if isinstance(step, Event):
            change = pods.apply(version, pod(step.name, version, step.node), deleted=step.deleted)
            changes = [] if change is None else [change]
        else:
            changes = pods.replace([pod(name, version, node) for name, node in step.items()], version)
        for key, old, new in changes:
            assert fold.get(key) == old
            fold.pop(key, None)
            fold |= {} if new is None else {key: new}

    scan: dict[str, set[str]] = defaultdict(set)
    for p in pods.values():
        scan[p.spec.node_name].add(p.metadata.name)
    assert len(pods._indexes["node"][1]) == len(scan.keys() - {""})
    assert {p.metadata.name: p for p in pods.values()} == {key[1]: p for key, p in fold.items()}
    for node in ("n1", "n2"):
        assert {p.metadata.name for p in pods.by("node", node)} == scan[node]
        assert pods.count_by("node", node) == len(scan[node])


def port(name: str, owner: str = "") -> PortRow:
    return PortRow(name, external_ids=(("pod", owner),) if owner else ())


def test_ports_and_switches_are_told_as_name_old_and_new() -> None:
    """A whole content also tells what it no longer has; a row that is equal is no change."""
    rows = PortReplica()
    a, b, sw = port("a", "shop/web"), port("b"), SwitchRow("sw", uuid="1")

    assert not rows.synced
    assert rows.apply(1, 1, True, {"a": a, "b": b}, {"sw": sw}) == (
        [("a", None, a), ("b", None, b)],
        [("sw", None, sw)],
    )
    moved = port("a", "shop/api")
    assert rows.apply(2, 1, False, {"a": moved, "b": b, "never": None}, {}) == ([("a", a, moved)], [])
    assert rows.apply(3, 2, True, {"b": b}, {}) == ([("a", moved, None)], [("sw", sw, None)])
    assert (rows.seq, rows.epoch, rows.synced) == (3, 2, True)
    assert list(rows.ports()) == [b]
    assert list(rows.switches()) == []


def test_changes_before_the_first_whole_content_do_not_sync() -> None:
    """Only the whole tells that what is not there is absent."""
    rows = PortReplica()
    rows.apply(1, 0, False, {"a": port("a")}, {})

    assert not rows.synced
    assert rows.get_port("a") == port("a")


def test_ports_are_found_by_name_and_owner() -> None:
    """One owner may have several; a port without owner has none."""
    rows = PortReplica()
    one, two, none = port("web.shop", "shop/web"), port("web.shop.net1", "shop/web"), port("node-1")
    rows.apply(1, 1, True, {p.name: p for p in (one, two, none)}, {"sw": SwitchRow("sw")})

    assert rows.by_owner("shop/web") == (one, two)
    assert rows.by_owner("") == ()
    assert rows.get_port("node-1") == none
    assert rows.get_port("x") is None
    assert rows.get_switch("sw") == SwitchRow("sw")
    assert rows.get_switch("x") is None
    rows.apply(2, 1, False, {"web.shop": None}, {})
    assert rows.by_owner("shop/web") == (two,)
    rows.apply(3, 1, False, {"web.shop.net1": None}, {})
    assert rows.by_owner("shop/web") == ()
    assert len(rows._owners) == 0


def test_a_restored_database_is_come_near_to_in_parts() -> None:
    """What goes comes first; nothing is told twice; the last part is left to the rows themselves."""
    rows = PortReplica()
    held = {name: port(name) for name in "abcd"}
    rows.apply(1, 1, True, held, {})
    news = {"d": held["d"], "e": port("e"), "c": port("c", "shop/api")}
    changes = {"a": None, "b": None, "e": news["e"], "c": news["c"]}

    assert list(rows.nearer(news, whole=True, most=1)) == [{"a": None}, {"b": None}, {"e": news["e"]}]
    assert list(rows.nearer(news, whole=True, most=3)) == [{"a": None, "b": None, "e": news["e"]}]
    assert list(rows.nearer(news, whole=True, most=4)) == []
    assert list(rows.nearer({"e": news["e"], "b": None, "never": None}, whole=False, most=1)) == [{"b": None}]
    for part in rows.nearer(news, whole=True, most=2):
        rows.apply(1, 1, False, part, {})
    assert rows.apply(2, 2, True, news, {})[0] == [("e", None, changes["e"]), ("c", held["c"], changes["c"])]
