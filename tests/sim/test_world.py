"""The world itself keeps the rules of an API server and of Northbound."""

from __future__ import annotations

import asyncio

import pytest

from controller.core.effects import PutPort, PutSwitch
from controller.core.objects import Ip, Kind
from controller.ports import Conflict, Gone, NotFound, Rejected, Unavailable
from tests.sim import loop
from tests.sim.documents import meta
from tests.sim.network import REQUEST_LIMIT
from tests.sim.stories import WE, in_a_world, row
from tests.sim.world import Options, SimWorld


def test_a_patch_that_changes_nothing_makes_no_version() -> None:
    async def story(universe: SimWorld) -> None:
        store = universe.store
        version = store.create(Kind.IP, "", "a.b", {"spec": {"subnet": "x"}}, "user")

        assert store.patch(Kind.IP, "", "a.b", {"spec": {"subnet": "x"}}, "user") == version
        assert store.version == version

    in_a_world(story)


def test_status_and_spec_have_a_door_each_and_only_spec_counts_generations() -> None:
    async def story(universe: SimWorld) -> None:
        kube = universe.world.kube
        await kube.create(Kind.IP, "", "a.b", {"spec": {"subnet": "x"}, "status": {"usedBy": "me"}})
        await kube.patch(Kind.IP, "", "a.b", {"status": {"usedBy": "you"}})
        await kube.patch(Kind.IP, "", "a.b", {"status": {"usedBy": "all"}, "spec": {"subnet": "y"}}, "status")
        found = await kube.read(Kind.IP, "", "a.b")

        assert isinstance(found, Ip)
        assert (found.spec.subnet, found.status.used_by, found.metadata.generation) == ("x", "all", 1)

    in_a_world(story)


def test_a_cluster_without_a_status_answers_not_found() -> None:
    async def story(universe: SimWorld) -> None:
        kube = universe.world.kube
        await kube.create(Kind.IP, "", "a.b", {})

        with pytest.raises(NotFound):
            await kube.patch(Kind.IP, "", "a.b", {"status": {"usedBy": "all"}}, "status")

    in_a_world(story, Options(ip_status=False))


def test_preconditions_of_a_patch_are_kept() -> None:
    async def story(universe: SimWorld) -> None:
        kube = universe.world.kube
        version = await kube.create(Kind.IP, "", "a.b", {})
        await kube.patch(Kind.IP, "", "a.b", {"metadata": {"resourceVersion": str(version), "labels": {"a": "b"}}})

        for stale in ({"resourceVersion": str(version)}, {"uid": "another"}):
            with pytest.raises(Conflict):
                await kube.patch(Kind.IP, "", "a.b", {"metadata": {**stale, "labels": {"a": "c"}}})

    in_a_world(story)


def test_what_no_server_takes_is_rejected() -> None:
    async def story(universe: SimWorld) -> None:
        kube = universe.world.kube
        await kube.create(Kind.IP, "", "a.b", {})

        with pytest.raises(Rejected):
            await kube.patch(Kind.IP, "", "a.b", {"metadata": {"labels": {"a": "x" * 64}}})
        with pytest.raises(Rejected):
            await kube.create(Kind.IP, "", "A_B", {})

    in_a_world(story)


def test_a_list_comes_in_pages_of_one_snapshot_until_its_token_expires() -> None:
    async def story(universe: SimWorld) -> None:
        kube = universe.world.kube
        for name in ("a.b", "c.d", "e.f"):
            await kube.create(Kind.IP, "", name, {})
        first = await kube.list(Kind.IP)
        await kube.create(Kind.IP, "", "b.c", {})
        second = await kube.list(Kind.IP, first.token)
        names = [found.metadata.name for found in (*first.objects, *second.objects)]
        universe.store.compact()

        assert (names, first.version, second.token) == (["a.b", "c.d", "e.f"], second.version, "")
        with pytest.raises(Gone):
            await kube.list(Kind.IP, first.token)

    in_a_world(story, Options(page=2))


def test_a_deleted_pod_lives_through_its_grace() -> None:
    async def story(universe: SimWorld) -> None:
        store = universe.store
        store.create(Kind.POD, "default", "p", {"spec": {}}, "user")
        store.delete(Kind.POD, "default", "p", "", "user", grace=30)
        going = store.get(Kind.POD, "default", "p")

        assert going is not None
        assert meta(going)["deletionGracePeriodSeconds"] == 30
        store.delete(Kind.POD, "default", "p", "", "kubelet", grace=0)
        assert store.get(Kind.POD, "default", "p") is None

    in_a_world(story)


def test_a_request_that_was_sent_is_served_after_its_sender_has_died() -> None:
    async def story(universe: SimWorld) -> None:
        world, process = universe.connect("mortal")
        writing = asyncio.ensure_future(world.kube.create(Kind.IP, "", "a.b", {}))
        await asyncio.sleep(0)
        process.dead = True
        writing.cancel()
        await asyncio.sleep(REQUEST_LIMIT)

        assert universe.store.get(Kind.IP, "", "a.b") is not None
        with pytest.raises(Unavailable):
            await world.kube.create(Kind.IP, "", "c.d", {})

    in_a_world(story)


def test_ports_are_guarded_by_name_by_row_and_by_switch() -> None:
    async def story(universe: SimWorld) -> None:
        database = universe.database
        with pytest.raises(Conflict):
            database.commit((PutPort(row("p.default", "10.1.0.2")),), WE)
        database.commit((PutSwitch("tiny"), PutPort(row("p.default", "10.1.0.2"))), WE)
        first = database.tables.ports["p.default"]
        with pytest.raises(Conflict):
            database.commit((PutSwitch("other"), PutPort(row("p.default", "10.1.0.3"))), WE)
        assert not database.tables.switch("other")
        database.commit((PutPort(row("p.default", "10.1.0.3"), first),), WE)
        with pytest.raises(Conflict):
            database.commit((PutPort(row("p.default", "10.1.0.4"), first),), WE)

    in_a_world(story)


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def story(_universe: SimWorld) -> None:
        await asyncio.Event().wait()

    with pytest.raises(loop.Deadlock):
        in_a_world(story)
