"""The laws of ports.Kube."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from controller.core.neighbours import Nad
from controller.core.objects import FINALIZER, Ip, Kind, Object
from controller.ports import Conflict, Gone, Kube, NotFound, PortError, Rejected, Unavailable, World
from tests.contract.worlds import Law, Laws, Poke, watching, within

law = Laws()

STRANGER = "00000000-0000-0000-0000-00000000dead"


def ip_name(poke: Poke, stem: str) -> str:
    """Admission wants an IP's name to be podName.namespace."""
    return f"{poke.name(stem)}.n"


def ip(name: str, **metadata: Any) -> dict[str, Any]:
    texts = ("nodeName", "podType", "containerID", "ipAddress", "v4IpAddress", "v6IpAddress", "macAddress")
    spec: dict[str, Any] = dict.fromkeys(texts, "") | {"attachIps": [], "attachMacs": [], "attachSubnets": []}
    return {"metadata": metadata, "spec": spec | {"subnet": "s", "podName": name.removesuffix(".n"), "namespace": "n"}}


def labelled(**labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels}}


async def everything(kube: Kube, kind: Kind) -> tuple[dict[str, Object], int]:
    objects: dict[str, Object] = {}
    token, version = "", 0
    while True:
        page = await kube.list(kind, token)
        assert page.version >= version
        objects |= {o.metadata.name: o for o in page.objects}
        token, version = page.token, page.version
        if not token:
            return objects, version


async def there(kube: Kube, kind: Kind, namespace: str, name: str) -> Object:
    found = await kube.read(kind, namespace, name)
    assert found is not None
    return found


async def new_ip(world: World, name: str, **metadata: Any) -> Object:
    version = await world.kube.create(Kind.IP, "", name, ip(name, **metadata))
    made = await there(world.kube, Kind.IP, "", name)
    assert made.metadata.version == version
    return made


@law
async def a_created_object_is_read_as_it_was_written(world: World, poke: Poke) -> None:
    name = ip_name(poke, "made")
    await new_ip(world, name, labels={"a": "b"})
    made = await there(world.kube, Kind.IP, "", name)
    assert isinstance(made, Ip)
    assert (made.spec.subnet, made.metadata.labels, made.metadata.generation) == ("s", {"a": "b"}, 1)
    assert made.metadata.uid


@law
async def an_object_that_is_not_there_reads_as_none(world: World, poke: Poke) -> None:
    assert await world.kube.read(Kind.IP, "", poke.name("nobody")) is None
    assert await world.kube.read(Kind.POD, "default", poke.name("nobody")) is None
    assert await world.kube.read(Kind.LEASE, "default", poke.name("nobody")) is None


@law
async def a_kind_is_not_found_until_its_crd_is_there(world: World, poke: Poke) -> None:
    with pytest.raises(NotFound):
        await world.kube.list(Kind.NAD)
    with pytest.raises(NotFound):
        await world.kube.latest(Kind.NAD)
    with pytest.raises(NotFound):
        await anext(aiter(world.kube.watch(Kind.NAD, 1)))
    with pytest.raises(Unavailable):  # no proof that nothing of that name exists
        await world.kube.read(Kind.NAD, "default", poke.name("nad"))
    await poke.serve_nads()
    _, start = await everything(world.kube, Kind.NAD)
    name = poke.name("nad")
    async with watching(world.kube, Kind.NAD, start) as watched:
        await poke.create(Kind.NAD, "default", name, {"spec": {"config": "{}"}})
        await watched.until(lambda w: bool(w.of(name)))
    (found,) = (o for o in (await everything(world.kube, Kind.NAD))[0].values() if o.metadata.name == name)
    assert isinstance(found, Nad)
    assert found.spec.config == "{}"


@law
async def a_list_shows_every_write_that_was_answered_before_it(world: World, poke: Poke) -> None:
    for number in range(5):
        name = ip_name(poke, f"listed-{number}")
        written = (await new_ip(world, name)).metadata.version
        objects, version = await everything(world.kube, Kind.IP)
        assert name in objects
        assert version >= written
        changed = await world.kube.patch(Kind.IP, "", name, labelled(round=str(number)))
        objects, version = await everything(world.kube, Kind.IP)
        assert objects[name].metadata.version == changed <= version


@law
async def a_brief_watch_reaches_what_was_the_latest_version_also_of_a_quiet_kind(world: World, poke: Poke) -> None:
    for kind in (Kind.VIP, Kind.NODE, Kind.IP):
        _, at = await everything(world.kube, kind)
        written = (await new_ip(world, ip_name(poke, f"elsewhere-{kind.lower()}"))).metadata.version
        latest = await world.kube.latest(kind)
        assert latest >= written > at

        async def reach(kind: Kind = kind, at: int = at, latest: int = latest) -> None:
            while at < latest:  # a server that is very busy may end one before its bookmark
                async for batch in world.kube.watch(kind, at, brief=True):
                    at = batch[-1].version

        await within(reach())


@law
async def a_read_shows_every_write_that_was_answered_before_it(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "read"))
    for number in range(5):
        version = await world.kube.patch(Kind.IP, "", made.metadata.name, labelled(round=str(number)))
        assert (await there(world.kube, Kind.IP, "", made.metadata.name)).metadata.version == version


@law
async def list_and_watch_tell_the_same_story(world: World, poke: Poke) -> None:
    _, start = await everything(world.kube, Kind.IP)
    first, second = ip_name(poke, "story"), ip_name(poke, "tale")
    async with watching(world.kube, Kind.IP, start) as watched:
        one = await new_ip(world, first)
        await new_ip(world, second)
        await world.kube.patch(Kind.IP, "", second, labelled(x="y"))
        await world.kube.delete(Kind.IP, "", first, one.metadata.uid)
        await watched.until(lambda w: bool(w.of(first)) and w.of(first)[-1].deleted)
        objects, _ = await everything(world.kube, Kind.IP)
        replayed: dict[str, Object] = {}
        for change in watched.changes:
            if change.object is not None:
                replayed.pop(change.object.metadata.name, None)
                replayed |= {} if change.deleted else {change.object.metadata.name: change.object}
    assert first not in objects
    assert first not in replayed
    assert replayed[second] == objects[second]


@law
async def a_watch_tells_every_change_once_in_order_of_version(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "once"))
    name = made.metadata.name
    async with watching(world.kube, Kind.IP, made.metadata.version) as watched:
        answers = [await world.kube.patch(Kind.IP, "", name, labelled(n=str(n))) for n in range(20)]
        await watched.until(lambda w: len(w.of(name)) >= len(answers))
    assert [change.version for change in watched.of(name)] == answers
    assert all(c.object is not None and c.object.metadata.version == c.version for c in watched.of(name))
    versions = [change.version for change in watched.changes]
    assert versions == sorted(versions)


@law
async def a_watch_resumes_after_a_cut_and_repeats_nothing(world: World, poke: Poke) -> None:
    _, start = await everything(world.kube, Kind.IP)
    before, during = ip_name(poke, "before"), ip_name(poke, "during")
    async with watching(world.kube, Kind.IP, start) as watched:
        await new_ip(world, before)
        await watched.until(lambda w: bool(w.of(before)))
        async with poke.kube_gap():
            await poke.create(Kind.IP, "", during, ip(during))
            assert isinstance(await watched.ended(), Unavailable | None)
            never = ip_name(poke, "never")
            with pytest.raises(Unavailable) as unreached:
                await world.kube.create(Kind.IP, "", never, ip(never))
            assert not unreached.value.unknown
    async with watching(world.kube, Kind.IP, watched.version) as resumed:
        await resumed.until(lambda w: bool(w.of(during)))
        assert not resumed.of(before)
        assert not resumed.of(during)[0].deleted


@law
async def a_watch_from_a_forgotten_version_is_gone(world: World, poke: Poke) -> None:
    await new_ip(world, ip_name(poke, "later"))
    async with watching(world.kube, Kind.IP, await poke.forgotten()) as watched:
        assert isinstance(await watched.ended(), Gone)


@law
async def a_taken_name_is_a_conflict_and_changes_nothing(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "taken"), labels={"first": "yes"})
    with pytest.raises(Conflict):
        await world.kube.create(Kind.IP, "", made.metadata.name, ip(made.metadata.name, labels={"first": "no"}))
    assert await there(world.kube, Kind.IP, "", made.metadata.name) == made


@law
async def of_two_creates_of_one_name_one_wins(world: World, poke: Poke) -> None:
    name = ip_name(poke, "race")
    answers = await asyncio.gather(
        *(world.kube.create(Kind.IP, "", name, ip(name, labels={"by": str(n)})) for n in range(4)),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Conflict", "Conflict", "int"]
    winner = next(n for n, answer in enumerate(answers) if isinstance(answer, int))
    assert (await there(world.kube, Kind.IP, "", name)).metadata.labels == {"by": str(winner)}


@law
async def of_two_patches_of_one_version_one_wins(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "patched"))
    name, version = made.metadata.name, made.metadata.resource_version
    bodies = [{"metadata": {"resourceVersion": version, "labels": {"by": str(n)}}} for n in range(4)]
    answers = await asyncio.gather(
        *(world.kube.patch(Kind.IP, "", name, body) for body in bodies), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Conflict", "Conflict", "int"]
    winner = next(n for n, answer in enumerate(answers) if isinstance(answer, int))
    assert (await there(world.kube, Kind.IP, "", name)).metadata.labels == {"by": str(winner)}


@law
async def a_patch_for_another_uid_is_a_conflict(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "uid"))
    with pytest.raises(Conflict):
        await world.kube.patch(Kind.IP, "", made.metadata.name, {"metadata": {"uid": STRANGER, "labels": {"a": "b"}}})
    assert await there(world.kube, Kind.IP, "", made.metadata.name) == made
    right = {"metadata": {"uid": made.metadata.uid, "labels": {"a": "b"}}}
    assert await world.kube.patch(Kind.IP, "", made.metadata.name, right) > made.metadata.version


@law
async def a_merge_patch_leaves_other_peoples_labels_and_takes_away_nulls(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "merge"), labels={"theirs": "1", "old": "2"})
    body = {"metadata": {"labels": {"ours": "3", "old": None}}}
    await world.kube.patch(Kind.IP, "", made.metadata.name, body)
    assert (await there(world.kube, Kind.IP, "", made.metadata.name)).metadata.labels == {"theirs": "1", "ours": "3"}


@law
async def a_patch_that_changes_nothing_answers_the_version_that_is(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "same"), labels={"a": "b"})
    assert await world.kube.patch(Kind.IP, "", made.metadata.name, labelled(a="b")) == made.metadata.version


@law
async def a_patch_of_nothing_is_not_found(world: World, poke: Poke) -> None:
    with pytest.raises(NotFound):
        await world.kube.patch(Kind.IP, "", poke.name("absent"), labelled(a="b"))
    with pytest.raises(NotFound):
        await world.kube.patch(Kind.POD, "default", poke.name("absent"), labelled(a="b"))


@law
async def what_breaks_the_schema_is_rejected_for_good(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "schema"))
    with pytest.raises(Rejected):
        await world.kube.patch(Kind.IP, "", made.metadata.name, {"spec": {"subnet": 7}})
    with pytest.raises(Rejected):
        await world.kube.patch(Kind.IP, "", made.metadata.name, labelled(a="no label value"))
    with pytest.raises(Rejected):
        await world.kube.create(Kind.IP, "", "Not_A_Name", ip("Not_A_Name"))
    assert await there(world.kube, Kind.IP, "", made.metadata.name) == made


@law
async def status_is_written_apart_from_the_spec(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "status"))
    name = made.metadata.name
    await world.kube.patch(Kind.IP, "", name, {"status": {"usedBy": "n/p"}, "spec": {"nodeName": "other"}}, "status")
    found = await there(world.kube, Kind.IP, "", name)
    assert isinstance(found, Ip)
    assert (found.status.used_by, found.spec.node_name, found.metadata.generation) == ("n/p", "", 1)
    await world.kube.patch(Kind.IP, "", name, {"status": {"usedBy": "q/r"}, "spec": {"nodeName": "other"}})
    found = await there(world.kube, Kind.IP, "", name)
    assert isinstance(found, Ip)
    assert (found.status.used_by, found.spec.node_name, found.metadata.generation) == ("n/p", "other", 2)


@law
async def numbers_beyond_64_bits_survive(world: World, poke: Poke) -> None:
    name = poke.name("wide")
    await world.kube.create(Kind.SUBNET, "", name, {"spec": {"cidrBlock": "fd00::/32", "protocol": "IPv6"}})
    await world.kube.patch(Kind.SUBNET, "", name, {"status": {"v6availableIPs": 2**96 - 2, "v6usingIPs": 0}}, "status")
    found = await there(world.kube, Kind.SUBNET, "", name)
    assert getattr(found, "status").v6_available == pytest.approx(2**96)  # noqa: B009


@law
async def a_finalizer_keeps_a_deleted_object_until_it_is_taken_away(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "kept"), finalizers=[FINALIZER])
    name, uid = made.metadata.name, made.metadata.uid
    async with watching(world.kube, Kind.IP, made.metadata.version) as watched:
        marked = await world.kube.delete(Kind.IP, "", name, uid)
        await watched.until(lambda w: w.version >= marked)
        dying = await there(world.kube, Kind.IP, "", name)
        assert dying.metadata.deleting
        assert dying.metadata.version == marked
        assert not watched.of(name)[-1].deleted
        assert await world.kube.delete(Kind.IP, "", name, uid) == marked
        gone = await world.kube.patch(Kind.IP, "", name, {"metadata": {"uid": uid, "finalizers": None}})
        await watched.until(lambda w: w.version >= gone)
        assert watched.of(name)[-1].deleted
        assert watched.of(name)[-1].version >= gone > marked
    assert await world.kube.read(Kind.IP, "", name) is None
    assert await world.kube.delete(Kind.IP, "", name, uid) == 0


@law
async def the_answer_to_a_delete_is_a_version_that_shows_it(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "plain"))
    name = made.metadata.name
    async with watching(world.kube, Kind.IP, made.metadata.version) as watched:
        # So that the world knows how far the kind is, as it does when a replica follows it.
        latest = await world.kube.patch(Kind.IP, "", name, labelled(a="b"))
        await watched.until(lambda w: w.version >= latest)
        gone = await world.kube.delete(Kind.IP, "", name, made.metadata.uid)
        assert gone > latest
        await watched.until(lambda w: w.version >= gone)
        assert watched.of(name)[-1].deleted


@law
async def a_delete_for_another_uid_is_a_conflict(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "mine"))
    with pytest.raises(Conflict):
        await world.kube.delete(Kind.IP, "", made.metadata.name, STRANGER)
    with pytest.raises(Conflict):
        await world.kube.delete(Kind.IP, "", made.metadata.name, made.metadata.uid, "1")
    assert await there(world.kube, Kind.IP, "", made.metadata.name) == made


@law
async def deleting_what_is_not_there_is_fine(world: World, poke: Poke) -> None:
    assert await world.kube.delete(Kind.IP, "", poke.name("absent"), STRANGER) == 0
    assert await world.kube.delete(Kind.POD, "default", poke.name("absent"), STRANGER) == 0


@law
async def namespaced_kinds_live_in_their_namespace(world: World, poke: Poke) -> None:
    name = poke.name("lease")
    await world.kube.create(Kind.LEASE, "default", name, {"spec": {"holderIdentity": "me"}})
    lease = await there(world.kube, Kind.LEASE, "default", name)
    assert lease.metadata.namespace == "default"
    renewed = {"metadata": {"resourceVersion": lease.metadata.resource_version}, "spec": {"holderIdentity": "you"}}
    await world.kube.patch(Kind.LEASE, "default", name, renewed)
    with pytest.raises(Conflict):
        await world.kube.patch(Kind.LEASE, "default", name, renewed)
    with pytest.raises(PortError):
        await world.kube.create(Kind.LEASE, poke.name("nowhere"), name, {"spec": {"holderIdentity": "me"}})


@law
async def an_event_is_reported_or_its_sender_is_told(world: World, poke: Poke) -> None:
    about = {"apiVersion": "kubeovn.io/v1", "kind": "IP", "name": "x"}
    event = {"involvedObject": about, "reason": "Reserved", "message": "m", "type": "Normal"}
    await world.kube.report({"metadata": {"name": poke.name("event"), "namespace": "default"}, **event})
    async with poke.kube_gap():
        with pytest.raises(Unavailable):
            await within(world.kube.report({"metadata": {"name": poke.name("event"), "namespace": "default"}, **event}))


@law
async def nothing_reaches_a_server_that_is_away_and_everything_says_so(world: World, poke: Poke) -> None:
    made = await new_ip(world, ip_name(poke, "away"))
    name, uid = made.metadata.name, made.metadata.uid
    async with poke.kube_gap():
        for call in (
            lambda: world.kube.list(Kind.IP),
            lambda: world.kube.latest(Kind.IP),
            lambda: world.kube.read(Kind.IP, "", name),
            lambda: world.kube.patch(Kind.IP, "", name, labelled(a="b")),
            lambda: world.kube.delete(Kind.IP, "", name, uid),
        ):
            with pytest.raises(Unavailable) as absent:
                await within(call())
            assert not absent.value.unknown
    assert await there(world.kube, Kind.IP, "", name) == made


@pytest.mark.parametrize("it", law, ids=lambda law: law.__name__)
def test_kube(obeys: Callable[[Law], None], it: Law) -> None:
    obeys(it)
