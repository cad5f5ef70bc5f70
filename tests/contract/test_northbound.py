"""The laws of ports.Northbound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from controller.core.effects import DropAddressSet, DropPort, DropSwitch, NbEffect, PutAddressSet, PutPort, PutSwitch
from controller.core.rows import IP_POOL, POD_UID, VENDOR, AddressSetRow, PortRow
from controller.ports import Conflict, Fenced, Unavailable, World
from tests.contract.worlds import Law, Laws, Mirror, Poke, mirror, within

law = Laws()


def port(name: str, switch: str, address: str = "00:00:00:00:00:01 10.0.0.1", **more: str) -> PortRow:
    ids = {"vendor": VENDOR, "ls": switch, **more}
    return PortRow(name, (address,), tuple(sorted(ids.items())))


def put(name: str, switch: str, address: str = "00:00:00:00:00:01 10.0.0.1", **more: str) -> PutPort:
    return PutPort(port(name, switch, address, **more))


async def switch(world: World, poke: Poke, stem: str = "sw") -> str:
    name = poke.name(stem)
    await world.northbound.commit((PutSwitch(name),))
    return name


async def commit(world: World, seen: Mirror, *effects: NbEffect) -> Mirror:
    return await seen.shows(await world.northbound.commit(effects))


@law
async def the_first_rows_are_whole(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        assert seen.epoch > 0
        assert world.northbound.epoch == seen.epoch


@law
async def a_rows_of_the_answers_seq_shows_the_commit(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        name, sw = poke.name("port"), await switch(world, poke)
        for number in range(20):
            was = seen.ports.get(name)
            wanted = port(name, sw, f"00:00:00:00:00:01 10.0.0.{number}")
            await commit(world, seen, PutPort(wanted, was))
            assert seen.ports[name]._replace(uuid="") == wanted
        await commit(world, seen, DropPort(seen.ports[name]))
        assert name not in seen.ports


@law
async def a_row_reads_back_as_it_was_written(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw = await switch(world, poke)
        rows = [
            PortRow(poke.name("bare"), (), (("ls", sw),)),
            PortRow(
                poke.name("full"),
                ("00:00:00:00:00:01 10.0.0.1 fd00::1", "unknown"),
                (("ls", sw), ("pod", 'n/{}["\\ü'), ("vendor", VENDOR)),
                ("00:00:00:00:00:01 10.0.0.1", "00:00:00:00:00:02 10.0.0.2"),
                options=(("activation-strategy", "rarp"), ("requested-chassis", "node-a,node-b")),
            ),
            PortRow(poke.name("patch"), ("router",), (("ls", sw),), (), "localnet", (("network_name", "ext"),)),
        ]
        await commit(world, seen, *(PutPort(row) for row in rows))
        for row in rows:
            found = seen.ports[row.name]
            assert found._replace(uuid="") == row
            assert found.uuid
        uuids = {row.name: seen.ports[row.name].uuid for row in rows}
        was = seen.ports[rows[1].name]
        new = was._replace(addresses=("x",), external_ids=(("ls", sw), ("new", "1")), port_security=())
        await commit(world, seen, PutPort(new, was))
        assert seen.ports[was.name] == new
        for options in ((("requested-chassis", "node-b"),), (("requested-chassis", "node-b"), ("x", "")), ()):
            was, new = new, new._replace(options=options)
            await commit(world, seen, PutPort(new, was))
            assert seen.ports[was.name] == new
        assert {row.name: seen.ports[row.name].uuid for row in rows} == uuids


@law
async def a_switch_is_made_once_and_carries_the_vendor(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        name = poke.name("sw")
        answers = await asyncio.gather(*(world.northbound.commit((PutSwitch(name),)) for _ in range(4)))
        await seen.shows(max(answers))
        made = seen.switches[name]
        assert ("vendor", VENDOR) in made.external_ids
        await commit(world, seen, PutSwitch(name))
        assert seen.switches[name] == made
        await commit(world, seen, DropSwitch(name, made.uuid))
        assert name not in seen.switches
        await commit(world, seen, DropSwitch(name, made.uuid))
        await commit(world, seen, PutSwitch(name))
        assert seen.switches[name].uuid != made.uuid
        await commit(world, seen, DropSwitch(name, made.uuid))
        assert name in seen.switches, "a late drop of another life's switch does nothing"


@law
async def a_switch_that_has_ports_is_not_dropped(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        switch, port = poke.name("sw"), poke.name("port")
        ids = (("ls", switch), ("vendor", "somebody"))
        await commit(world, seen, PutSwitch(switch), PutPort(PortRow(port, external_ids=ids)))
        with pytest.raises(Conflict):
            await commit(world, seen, DropSwitch(switch, seen.switches[switch].uuid))
        assert {switch, port} <= {*seen.switches, *seen.ports}


@law
async def a_port_that_became_anothers_is_not_dropped(world: World, poke: Poke) -> None:
    """Seeds 144 and 254: a drop that was slow on its way hit the port of the next pod of that name."""
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("port")
        await commit(world, seen, put(name, sw, **{POD_UID: "first"}))
        first = seen.ports[name]
        for heir in (port(name, sw, **{POD_UID: "next"}), port(name, sw, "00:00:00:00:00:01 10.0.0.9")):
            await commit(world, seen, PutPort(heir, seen.ports[name]))
            with pytest.raises(Conflict):
                await world.northbound.commit((DropPort(first),))
            assert seen.ports[name]._replace(uuid="") == heir
        noted = seen.ports[name]._replace(external_ids=(*seen.ports[name].external_ids, ("zz", "note")))
        await commit(world, seen, PutPort(noted, seen.ports[name]))
        await commit(world, seen, DropPort(noted._replace(external_ids=())))
        assert name not in seen.ports


@law
async def a_taken_port_name_is_a_conflict_and_changes_nothing(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("taken")
        await commit(world, seen, put(name, sw))
        before = seen.ports[name]
        with pytest.raises(Conflict):
            await world.northbound.commit((put(name, sw, "00:00:00:00:00:09 10.0.0.9"),))
        other = poke.name("other")
        await commit(world, seen, put(other, sw))
        assert seen.ports[name] == before


@law
async def of_many_creates_of_one_name_one_wins(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("race")
        answers = await asyncio.gather(
            *(world.northbound.commit((put(name, sw, f"00:00:00:00:00:0{n} 10.0.0.{n}"),)) for n in range(8)),
            return_exceptions=True,
        )
        winners = [n for n, answer in enumerate(answers) if isinstance(answer, int)]
        assert [type(a) for n, a in enumerate(answers) if n not in winners] == [Conflict] * 7
        await seen.shows(max(a for a in answers if isinstance(a, int)))
        assert seen.ports[name].addresses == (f"00:00:00:00:00:0{winners[0]} 10.0.0.{winners[0]}",)


@law
async def a_port_without_its_switch_is_a_conflict(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        name = poke.name("homeless")
        with pytest.raises(Conflict):
            await world.northbound.commit((put(name, poke.name("no-such")),))
        with pytest.raises(Conflict):
            await world.northbound.commit((PutPort(PortRow(name)),))
        await commit(world, seen, PutSwitch(poke.name("sw")))
        assert name not in seen.ports


@law
async def a_switch_and_its_ports_can_be_made_in_one_commit(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, one, two = poke.name("sw"), poke.name("one"), poke.name("two")
        await commit(world, seen, PutSwitch(sw), put(one, sw), put(two, sw))
        assert {one, two} <= seen.ports.keys()
        assert sw in seen.switches


@law
async def an_update_from_a_stale_row_is_a_conflict(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("stale")
        await commit(world, seen, put(name, sw))
        old = seen.ports[name]
        await commit(world, seen, PutPort(old._replace(addresses=("first",)), old))
        first = seen.ports[name]
        with pytest.raises(Conflict):
            await world.northbound.commit((PutPort(old._replace(addresses=("second",)), old),))
        await commit(world, seen, DropPort(first))
        with pytest.raises(Conflict):
            await world.northbound.commit((PutPort(first._replace(addresses=("third",)), first),))
        await commit(world, seen, put(name, sw))
        with pytest.raises(Conflict):
            await world.northbound.commit((PutPort(first._replace(addresses=("fourth",)), first),))
        assert seen.ports[name].addresses == put(name, sw).row.addresses


@law
async def of_two_updates_of_one_row_one_wins(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("updates")
        await commit(world, seen, put(name, sw))
        was = seen.ports[name]
        answers = await asyncio.gather(
            *(world.northbound.commit((PutPort(was._replace(addresses=(str(n),)), was),)) for n in range(4)),
            return_exceptions=True,
        )
        winners = [n for n, answer in enumerate(answers) if isinstance(answer, int)]
        assert [type(a) for n, a in enumerate(answers) if n not in winners] == [Conflict] * 3
        await seen.shows(max(a for a in answers if isinstance(a, int)))
        assert seen.ports[name].addresses == (str(winners[0]),)


def pool_set(name: str, *addresses: str, pool: str = "blue") -> AddressSetRow:
    return AddressSetRow(name, tuple(sorted(addresses)), ((IP_POOL, pool), ("vendor", VENDOR)))


@law
async def an_address_set_is_made_changed_and_dropped(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        name = poke.name("set").replace("-", ".")
        wanted = pool_set(name, "10.0.0.4/30", "10.0.0.9")
        await commit(world, seen, PutAddressSet(wanted))
        was = seen.sets[name]
        assert was._replace(uuid="") == wanted
        assert was.uuid
        for addresses in (("10.0.0.10", "10.0.0.9"), (), ("fd00::/125",)):
            new = was._replace(addresses=addresses, external_ids=(*was.external_ids, ("x", "ü")))
            await commit(world, seen, PutAddressSet(new, seen.sets[name]))
            assert seen.sets[name] == new
        await commit(world, seen, DropAddressSet(seen.sets[name]))
        assert name not in seen.sets
        await commit(world, seen, DropAddressSet(was))


@law
async def an_address_set_of_somebody_else_stays_whole(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        name = poke.name("set").replace("-", ".")
        await commit(world, seen, PutAddressSet(pool_set(name, "10.0.0.1")))
        was = seen.sets[name]
        with pytest.raises(Conflict):
            await world.northbound.commit((PutAddressSet(pool_set(name, "10.0.0.2")),))
        await commit(world, seen, PutAddressSet(pool_set(name, "10.0.0.3", pool="red"), was))
        with pytest.raises(Conflict):
            await world.northbound.commit((PutAddressSet(was._replace(addresses=()), was),))
        with pytest.raises(Conflict):
            await world.northbound.commit((DropAddressSet(was),))
        await commit(world, seen, PutSwitch(poke.name("later")))
        assert seen.sets[name] == pool_set(name, "10.0.0.3", pool="red")._replace(uuid=was.uuid)
        await commit(world, seen, DropAddressSet(seen.sets[name]))
        with pytest.raises(Conflict):
            await world.northbound.commit((PutAddressSet(was, was),))


@law
async def an_address_sets_name_may_go_to_another_row_in_one_transaction(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        name = poke.name("set").replace("-", ".")
        await commit(world, seen, PutAddressSet(pool_set(name, "10.0.0.1")))
        was = seen.sets[name]
        await commit(world, seen, DropAddressSet(was), PutAddressSet(pool_set(name, "10.0.0.2")))
        assert seen.sets[name].addresses == ("10.0.0.2",)
        assert seen.sets[name].uuid != was.uuid


@law
async def a_port_moves_between_switches_in_one_step(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        old, new = await switch(world, poke, "old"), await switch(world, poke, "new")
        name = poke.name("mover")
        await commit(world, seen, put(name, old))
        was = seen.ports[name]
        await commit(world, seen, PutPort(port(name, new), was))
        assert seen.ports[name].switch == new
        # Only a switch without ports can go: so the old one holds it no more, and the new one does.
        await commit(world, seen, DropSwitch(old, seen.switches[old].uuid))
        assert name in seen.ports
        with pytest.raises(Conflict):
            await commit(world, seen, DropSwitch(new, seen.switches[new].uuid))


@law
async def a_move_to_a_missing_switch_leaves_the_port(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("stays")
        await commit(world, seen, put(name, sw))
        was = seen.ports[name]
        with pytest.raises(Conflict):
            await world.northbound.commit((PutPort(port(name, poke.name("no-such")), was),))
        await commit(world, seen, PutSwitch(poke.name("other")))
        assert seen.ports[name] == was


@law
async def a_port_is_dropped_from_the_switch_that_really_holds_it(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, other = await switch(world, poke), await switch(world, poke, "other")
        lies: list[dict[str, str]] = [{"ls": other}, {"ls": "no-such-switch"}, {"ls": ""}, {"vendor": VENDOR}]
        for lie in lies:
            name = poke.name("liar")
            await commit(world, seen, put(name, sw))
            await poke.relabel_port(name, lie)
            await seen.until(lambda m, name=name, lie=lie: dict(m.ports[name].external_ids) == lie)  # type: ignore[misc]
            await commit(world, seen, DropPort(seen.ports[name]))
            assert name not in seen.ports


@law
async def an_update_brings_a_port_home_to_the_switch_that_it_names(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        right, wrong = await switch(world, poke, "right"), await switch(world, poke, "wrong")
        name = poke.name("astray")
        await commit(world, seen, put(name, wrong))
        await poke.relabel_port(name, {"ls": right})
        await seen.until(lambda m: m.ports[name].switch == right)
        was = seen.ports[name]
        await commit(world, seen, PutPort(port(name, right), was))
        await commit(world, seen, DropSwitch(wrong, seen.switches[wrong].uuid))
        assert name in seen.ports


@law
async def dropping_what_is_not_there_is_fine(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("gone")
        await commit(world, seen, put(name, sw))
        old = seen.ports[name]
        await commit(world, seen, DropPort(old))
        await commit(world, seen, put(name, sw))
        new = seen.ports[name]
        await commit(world, seen, DropPort(old))
        assert seen.ports[name] == new, "a drop is for one uuid, not for a name"
        answers = await asyncio.gather(*(world.northbound.commit((DropPort(new),)) for _ in range(3)))
        await seen.shows(max(answers))
        assert name not in seen.ports


@law
async def effects_of_one_commit_are_applied_all_or_none(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, taken = await switch(world, poke), poke.name("taken")
        await commit(world, seen, put(taken, sw))
        there = seen.ports[taken]
        fresh = poke.name("fresh")
        with pytest.raises(Conflict):
            await world.northbound.commit((put(fresh, sw), DropPort(there), put(taken, poke.name("no-such"))))
        with pytest.raises(Conflict):
            await world.northbound.commit((put(fresh, sw), put(taken, sw)))
        await commit(world, seen, PutSwitch(poke.name("other")))
        assert fresh not in seen.ports
        assert seen.ports[taken] == there


@law
async def a_name_can_be_dropped_and_taken_in_one_commit(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("again")
        await commit(world, seen, put(name, sw))
        old = seen.ports[name]
        await commit(world, seen, DropPort(old), put(name, sw, "00:00:00:00:00:02 10.0.0.2"))
        assert seen.ports[name].uuid != old.uuid
        assert seen.ports[name].addresses == ("00:00:00:00:00:02 10.0.0.2",)


@law
async def a_failing_caller_does_not_fail_the_others(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, taken = await switch(world, poke), poke.name("taken")
        await commit(world, seen, put(taken, sw))
        stem = poke.name("crowd")
        effects = [(put(f"{stem}-{n}", sw, f"a{n}"),) if n % 7 else (put(taken, sw),) for n in range(60)]
        answers = await asyncio.gather(*(world.northbound.commit(e) for e in effects), return_exceptions=True)
        for n, answer in enumerate(answers):
            assert isinstance(answer, int if n % 7 else Conflict), (n, answer)
        await seen.shows(max(a for a in answers if isinstance(a, int)))
        assert {f"{stem}-{n}" for n in range(60) if n % 7} <= seen.ports.keys()


@law
async def many_callers_and_all_their_rows(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        switches = [await switch(world, poke) + f"-{n}" for n in range(4)]
        for sw in switches:
            await world.northbound.commit((PutSwitch(sw),))
        stem = poke.name("many")
        rows = [port(f"{stem}-{n}", switches[n % 4], f"m{n}") for n in range(400)]
        answers = await asyncio.gather(*(world.northbound.commit((PutPort(row),)) for row in rows))
        await seen.shows(max(answers))
        assert {row.name: seen.ports[row.name]._replace(uuid="") for row in rows} == {row.name: row for row in rows}
        answers = await asyncio.gather(*(world.northbound.commit((DropPort(seen.ports[row.name]),)) for row in rows))
        await seen.shows(max(answers))
        assert not {row.name for row in rows} & seen.ports.keys()


OURS = (("holder", "me"), ("term", "7"))
THEIRS = (("holder", 'n/{}["\\ü'), ("term", "8"))


@law
async def nothing_is_written_behind_a_fence_that_is_not_ours(world: World, poke: Poke) -> None:
    """Another term's, an older backup's, or none at all: whole transactions fail until it is raised again."""
    await poke.put_fence(None)
    async with mirror(world.northbound) as seen:
        northbound, sw = world.northbound, await switch(world, poke)
        assert await northbound.fence() is None
        await northbound.raise_fence(None, OURS)
        assert await northbound.fence() == OURS
        inside, taken = poke.name("inside"), poke.name("outside")
        await commit(world, seen, put(inside, sw))
        kept = seen.ports[inside]
        for number, found in enumerate((THEIRS, (("term", "6"),), (), None)):
            await poke.put_fence(found)
            answers = await asyncio.gather(
                northbound.commit((PutSwitch(poke.name("late")), put(taken, sw))),
                northbound.commit((DropPort(kept),)),
                northbound.commit((put(inside, sw),)),
                return_exceptions=True,
            )
            assert [type(answer) for answer in answers] == [Fenced] * 3
            assert await northbound.fence() == found
            await poke.relabel_port(inside, kept_ids := {**dict(kept.external_ids), "seen": str(number)})
            await seen.shows(await northbound.raise_fence(found, OURS))
            assert dict(seen.ports[inside].external_ids) == kept_ids, "what came before the fence is shown with it"
            await commit(world, seen, PutSwitch(poke.name("after")))
            kept = seen.ports[inside]
            assert taken not in seen.ports


@law
async def a_fence_is_raised_only_over_the_one_that_was_seen(world: World, poke: Poke) -> None:
    await poke.put_fence(THEIRS)
    async with mirror(world.northbound):
        for wrong in (None, (("term", "6"),), ()):
            with pytest.raises(Conflict):
                await world.northbound.raise_fence(wrong, OURS)
        assert await world.northbound.fence() == THEIRS
        await world.northbound.raise_fence(THEIRS, OURS)
        await world.northbound.raise_fence(OURS, OURS)
        await poke.put_fence(None)
        with pytest.raises(Conflict):
            await world.northbound.raise_fence(OURS, OURS)


@law
async def a_refusal_of_one_caller_inside_the_fence_is_its_own(world: World, poke: Poke) -> None:
    await poke.put_fence(None)
    async with mirror(world.northbound) as seen:
        sw, taken, astray = await switch(world, poke), poke.name("taken"), poke.name("astray")
        home = await switch(world, poke, "home")
        await world.northbound.raise_fence(None, OURS)
        await commit(world, seen, put(taken, sw), put(astray, sw))
        await poke.relabel_port(astray, {"ls": home})
        await seen.until(lambda m: m.ports[astray].switch == home)
        answers = await asyncio.gather(
            world.northbound.commit((put(taken, sw),)),
            world.northbound.commit((PutPort(port(astray, home), seen.ports[astray]),)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Conflict, int]


@law
async def foreign_rows_are_shown_and_never_touched(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, foreign, ours = await switch(world, poke), poke.name("foreign"), poke.name("ours")
        await commit(world, seen, PutPort(PortRow(foreign, ("dynamic",), (("ls", sw), ("vendor", "somebody")))))
        before = seen.ports[foreign]
        assert not before.ours
        await commit(world, seen, put(ours, sw))
        await commit(world, seen, DropPort(seen.ports[ours]))
        assert seen.ports[foreign] == before


@law
async def whole_rows_after_a_reconnect_show_what_went_in_the_gap(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, kept, lost = await switch(world, poke), poke.name("kept"), poke.name("lost")
        await commit(world, seen, put(kept, sw), put(lost, sw))
        epoch, before = world.northbound.epoch, seen.ports[kept]
        async with poke.northbound_gap():
            await poke.drop_port(lost)
        await seen.until(lambda m: m.epoch > epoch)
        assert lost not in seen.ports
        assert seen.ports[kept] == before
        await commit(world, seen, put(lost, sw))
        assert lost in seen.ports


@law
async def in_a_gap_a_commit_fails_soon_and_surely_did_not_happen(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, name = await switch(world, poke), poke.name("never")
        epoch = world.northbound.epoch
        async with poke.northbound_gap():
            await asyncio.sleep(1)  # until the cut is noticed
            with pytest.raises(Unavailable) as absent:
                await within(world.northbound.commit((put(name, sw),)))
            assert not absent.value.unknown
            follows = [world.northbound.connected]
        await seen.until(lambda m: m.epoch > epoch)
        follows.append(world.northbound.connected)
        assert follows == [False, True]
        assert name not in seen.ports


@law
async def a_cut_leaves_every_commit_with_an_answer_and_the_next_epoch_tells_the_truth(world: World, poke: Poke) -> None:
    async with mirror(world.northbound) as seen:
        sw, stem = await switch(world, poke), poke.name("doubt")
        names = [f"{stem}-{n}" for n in range(300)]
        tasks = [asyncio.ensure_future(world.northbound.commit((put(name, sw, name),))) for name in names]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        async with poke.northbound_gap():
            answers = await within(asyncio.gather(*tasks, return_exceptions=True))
            epoch = world.northbound.epoch
        await seen.until(lambda m: m.epoch > epoch)
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, int):
                assert name in seen.ports
            else:
                assert isinstance(answer, Unavailable), answer
                assert answer.unknown or name not in seen.ports


@pytest.mark.parametrize("it", law, ids=lambda law: law.__name__)
def test_northbound(obeys: Callable[[Law], None], it: Law) -> None:
    obeys(it)
