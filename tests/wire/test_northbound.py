import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import orjson
import pytest

from controller.core.effects import DropPort, DropSwitch, NbEffect, PutPort, PutSwitch
from controller.core.rows import PortRow
from controller.ports import Conflict, Rejected, Unavailable
from controller.wire.northbound import NorthboundWire
from tests.cluster import binaries
from tests.cluster.northbound import Northbound
from tests.contract.worlds import Mirror, mirror, within


@pytest.fixture
def server() -> Iterator[Northbound]:
    with Northbound() as running:
        yield running


@contextlib.asynccontextmanager
async def connected(
    remote: str, limit: float = 1.0, probe: float = 1.0
) -> AsyncIterator[tuple[NorthboundWire, Mirror]]:
    wire = NorthboundWire(remote, timeout=limit, probe=probe)
    await wire.start()
    try:
        async with mirror(wire) as seen:
            yield wire, seen
    finally:
        await wire.close()


def port(name: str, switch: str = "sw", address: str = "a") -> PortRow:
    return PortRow(name, (address,), (("ls", switch), ("vendor", "kube-ovn")))


def put(name: str, switch: str = "sw") -> PutPort:
    return PutPort(port(name, switch))


def halt(server: Northbound) -> None:
    server._children.kill("northbound", signal.SIGSTOP)


def go_on(server: Northbound) -> None:
    server._children.kill("northbound", signal.SIGCONT)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_a_commit_that_gets_no_answer_is_unknown_until_the_next_epoch_tells(
    server: Northbound, kind: str
) -> None:
    remote = server.remote if kind == "unix" else server.tcp
    async with connected(remote) as (wire, seen):
        await wire.commit((PutSwitch("sw"),))
        epoch = wire.epoch
        halt(server)
        started = time.monotonic()
        with pytest.raises(Unavailable) as silent:
            await within(wire.commit((put("a"),)))
        assert time.monotonic() - started < 2
        assert silent.value.unknown
        assert wire.epoch == epoch
        go_on(server)
        await seen.until(lambda m: m.epoch > epoch)
        told = "a" in seen.ports
        await seen.shows(await wire.commit((put("b"),)))
        assert ("a" in seen.ports) == told, "what was on its way came after the rows that should have shown it"


async def test_what_is_still_on_its_way_is_fenced_off_by_the_next_connection(server: Northbound) -> None:
    """What an old connection brings after a new one has taken the fence is refused, surely and with its reason."""
    async with connected(server.remote) as (wire, seen):
        await seen.shows(await wire.commit((PutSwitch("sw"),)))
        engine = wire._engine._idl
        assert engine is not None
        reader, writer = await asyncio.open_unix_connection(server.remote.removeprefix("unix:"))
        writer.write(orjson.dumps({"method": "steal", "params": [engine._fence], "id": 1}))
        assert orjson.loads(await reader.read(4096))["id"] == 1
        with pytest.raises(Unavailable) as fenced:
            await wire.commit((put("late"),))
        assert not fenced.value.unknown
        writer.close()
        await writer.wait_closed()
        assert not server.nbctl("lsp-list", "sw")


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_a_silent_server_is_noticed_without_a_commit(server: Northbound, kind: str) -> None:
    async with connected(server.remote if kind == "unix" else server.tcp) as (wire, seen):
        epoch = wire.epoch
        halt(server)
        while wire.connected:  # noqa: ASYNC110 - the wire has no event for readiness, its user asks
            await asyncio.sleep(0.05)
        silent = wire.silence
        with pytest.raises(Unavailable) as absent:
            await wire.commit((PutSwitch("sw"),))
        assert not absent.value.unknown
        go_on(server)
        await seen.until(lambda m: m.epoch > epoch)
        assert 0 <= wire.silence < silent


async def test_a_server_that_is_absent_at_the_start_is_waited_for(server: Northbound) -> None:
    server.kill()
    wire = NorthboundWire(server.remote)
    await wire.start()
    with pytest.raises(Unavailable) as absent:
        await wire.commit((PutSwitch("sw"),))
    assert not absent.value.unknown
    assert not wire.connected
    rows = asyncio.ensure_future(anext(wire.rows()))
    await asyncio.sleep(0.2)
    assert not rows.done()
    server.restart()
    assert (await within(rows)).whole
    await wire.close()


async def test_a_killed_server_comes_back_with_whole_rows(server: Northbound) -> None:
    async with connected(server.remote) as (wire, seen):
        await wire.commit((PutSwitch("sw"), put("a"), put("b")))
        for _ in range(2):
            epoch = wire.epoch
            server.kill()
            server.restart()
            await seen.until(lambda m, epoch=epoch: m.epoch > epoch)  # type: ignore[misc]
            assert {"a", "b"} <= seen.ports.keys()
        await seen.shows(await wire.commit((DropPort(seen.ports["a"]),)))
        assert "a" not in seen.ports


async def test_what_waits_behind_a_full_line_surely_did_not_happen(server: Northbound) -> None:
    async with connected(server.remote) as (wire, seen):
        await wire.commit((PutSwitch("sw"),))
        epoch = wire.epoch
        halt(server)
        answers = await within(
            asyncio.gather(*(wire.commit((put(f"p{n}"),)) for n in range(500)), return_exceptions=True)
        )
        assert all(isinstance(answer, Unavailable) for answer in answers)
        certain = {
            f"p{n}" for n, answer in enumerate(answers) if isinstance(answer, Unavailable) and not answer.unknown
        }
        assert len(certain) == 300, "two groups of 100 were on their way"
        go_on(server)
        await seen.until(lambda m: m.epoch > epoch)
        assert not certain & seen.ports.keys()


async def test_a_caller_that_gives_up_harms_nobody(server: Northbound) -> None:
    async with connected(server.remote) as (wire, seen):
        await wire.commit((PutSwitch("sw"),))
        tasks = [asyncio.ensure_future(wire.commit((put(f"p{n}"),))) for n in range(300)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [a for n, a in enumerate(answers) if n % 3]
        assert all(isinstance(answer, int) for answer in kept)
        await seen.shows(max(a for a in kept if isinstance(a, int)))
        assert {f"p{n}" for n in range(300) if n % 3} <= seen.ports.keys()


async def test_closing_ends_everything(server: Northbound) -> None:
    wire = NorthboundWire(server.remote)
    await wire.start()
    rows = wire.rows()
    assert (await within(anext(rows))).whole
    waiting = asyncio.ensure_future(wire.commit((PutSwitch("sw"),)))
    await asyncio.sleep(0)
    await wire.close()
    with pytest.raises(Unavailable):
        await within(waiting)
    assert not [row async for row in rows]


async def test_a_second_reader_begins_with_whole_rows(server: Northbound) -> None:
    wire = NorthboundWire(server.remote)
    await wire.start()
    async with mirror(wire) as first:
        await first.shows(await wire.commit((PutSwitch("sw"),)))
    async with mirror(wire) as second:
        await second.until(lambda m: m.epoch > first.epoch)
        assert "sw" in second.switches
    await wire.close()


async def test_rows_not_taken_are_merged_under_the_seq_that_was_promised(server: Northbound) -> None:
    wire = NorthboundWire(server.remote)
    await wire.start()
    rows = wire.rows()
    first = await within(anext(rows))
    seqs = [await wire.commit((PutSwitch("sw"), put(f"p{n}"))) for n in range(5)]
    assert set(seqs) == {first.seq + 1}
    merged = await within(anext(rows))
    assert merged.seq == first.seq + 1
    assert merged.ports.keys() == {f"p{n}" for n in range(5)}
    assert await wire.commit((PutSwitch("sw"),)) == merged.seq, "nothing to do: what was told shows it"
    await wire.close()


async def test_other_columns_of_a_row_are_left_alone(server: Northbound) -> None:
    async with connected(server.remote) as (wire, seen):
        await seen.shows(await wire.commit((PutSwitch("sw"), put("a"))))
        server.nbctl("set", "Logical_Switch_Port", "a", "options:requested-chassis=c1", "tag=7")
        await seen.until(lambda m: m.ports["a"].options == (("requested-chassis", "c1"),))
        was = seen.ports["a"]
        await seen.shows(await wire.commit((PutPort(was._replace(addresses=("x",)), was),)))
        assert seen.ports["a"].addresses == ("x",)
        assert "requested-chassis=c1" in server.nbctl("get", "Logical_Switch_Port", "a", "options")
        assert server.nbctl("get", "Logical_Switch_Port", "a", "tag").strip() == "7"


async def test_of_switches_with_one_name_kube_ovns_stands_for_it_and_another_takes_over(server: Northbound) -> None:
    async with connected(server.remote) as (wire, seen):
        for _ in range(2):
            server.nbctl("--", "--id=@s", "create", "Logical_Switch", "name=twin")
        server.nbctl("create", "Logical_Switch", "name=twin", "external_ids:vendor=kube-ovn")
        await seen.until(lambda m: "twin" in m.switches and m.switches["twin"].external_ids != ())
        ours = seen.switches["twin"]
        await seen.shows(await wire.commit((put("a", "twin"),)))
        assert "a" in server.nbctl("lsp-list", ours.uuid)
        was = seen.ports["a"]
        await seen.shows(await wire.commit((PutPort(was._replace(addresses=("x",)), was),)))
        assert seen.ports["a"].uuid == was.uuid
        await seen.shows(await wire.commit((DropPort(seen.ports["a"]), DropSwitch("twin", ours.uuid))))
        await seen.until(lambda m: m.switches["twin"].uuid != ours.uuid)
        left = {seen.switches["twin"].uuid}
        await wire.commit((DropSwitch("twin", *left),))
        await seen.until(lambda m: m.switches["twin"].uuid not in left)
        await wire.commit((DropSwitch("twin", seen.switches["twin"].uuid),))
        await seen.until(lambda m: "twin" not in m.switches)


async def test_a_switch_made_by_another_client_meanwhile_is_not_made_twice(server: Northbound) -> None:
    async with connected(server.remote) as (wire, seen):
        halt(server)
        asked = asyncio.ensure_future(wire.commit((PutSwitch("sw"),)))
        await asyncio.sleep(0.05)  # it is on its way
        go_on(server)
        await asyncio.gather(asked, return_exceptions=True)
        other = NorthboundWire(server.remote)
        await other.start()
        async with mirror(other):
            answers = await asyncio.gather(
                *(client.commit((PutSwitch("new"),)) for client in (wire, other)), return_exceptions=True
            )
            assert all(isinstance(a, int | Conflict) for a in answers)
            await seen.until(lambda m: "new" in m.switches)
            assert server.nbctl("--bare", "--columns=name", "find", "Logical_Switch", "name=new").split() == ["new"]
        await other.close()


@pytest.mark.parametrize("text", ["a\x00b", "half of a pair: \ud800"])
async def test_what_can_never_be_stored_is_rejected_and_harms_no_other(server: Northbound, text: str) -> None:
    async with connected(server.remote) as (wire, seen):
        await wire.commit((PutSwitch("sw"),))
        bad: list[NbEffect] = [
            PutPort(PortRow("bad", external_ids=(("k", text), ("ls", "sw")))),
            PutPort(PortRow(text, external_ids=(("ls", "sw"),))),
            PutPort(PortRow("bad", (text,), external_ids=(("ls", "sw"),))),
            PutSwitch(text),
        ]
        answers = await asyncio.gather(
            *(wire.commit((effect,)) for effect in (*bad, put("good"))), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [Rejected] * 4 + [int]
        assert wire.reconnects == 1
        await seen.until(lambda m: m.ports.keys() == {"good"})


async def test_each_transaction_is_observed_and_counted(server: Northbound) -> None:
    told: list[tuple[int, str]] = []
    wire = NorthboundWire(server.remote, observe=lambda _seconds, effects, outcome: told.append((effects, outcome)))
    await wire.start()
    async with mirror(wire):
        await wire.commit((PutSwitch("sw"), put("a")))
        with pytest.raises(Conflict):
            await wire.commit((put("a"),))
    assert told == [(2, "ok"), (1, "conflict")]
    counters = wire.counters
    assert (counters.transactions, counters.effects, counters.refused, wire.reconnects) == (2, 2, 1, 1)
    await wire.close()


async def test_a_copy_kept_by_changes_equals_a_fresh_one(server: Northbound) -> None:
    """Sets and maps travel as differences: after 600 random changes, some behind our back, a new client looks."""
    rng = Random(7)
    words = ["", "a", "b", "a b", "ü", '"{', "00:00:00:00:00:01 10.0.0.1", "unknown"]

    def some(name: str) -> PortRow:
        sets = [tuple(sorted(rng.sample(words, rng.randrange(4)))) for _ in range(2)]
        ids = {key: rng.choice(words) for key in rng.sample(["vendor", "pod", "x", "y"], rng.randrange(4))}
        options = tuple(
            sorted((key, rng.choice(words)) for key in rng.sample(["requested-chassis", "z"], rng.randrange(3)))
        )
        return PortRow(
            name, sets[0], tuple(sorted((ids | {"ls": f"s{rng.randrange(3)}"}).items())), sets[1], options=options
        )

    async with connected(server.remote, 10) as (wire, seen):
        await wire.commit(tuple(PutSwitch(f"s{n}") for n in range(3)))
        for turn in range(600):
            name = f"p{rng.randrange(12)}"
            was = seen.ports.get(name)
            effect = DropPort(was) if was and rng.random() < 0.3 else PutPort(some(name), was)
            await seen.shows(await wire.commit((effect,)))
            if turn % 40 == 0 and name in seen.ports:
                server.nbctl("set", "Logical_Switch_Port", name, "external_ids:x=behind", "addresses=[behind,b]")
                await seen.until(lambda m, name=name: "behind" in m.ports[name].addresses)  # type: ignore[misc]
        async with connected(server.remote) as (_, fresh):
            assert fresh.ports == seen.ports
            assert fresh.switches == seen.switches
            assert len(seen.ports) > 3


def _specs(callers: int) -> list[tuple[str, str, str]]:
    macs = "00:00:00:00:00:01"
    return [(f"c{callers}-{n}", f"s{n % 20}", f"{macs} 10.0.{n // 250}.{n % 250}") for n in range(6667)]


async def test_a_transaction_of_thousands_of_rows_holds_nobody_up(server: Northbound, tmp_path: Path) -> None:
    """`ovsdb-client restore` is one: it is read in pieces, and shown as one."""
    client = str(binaries.ovn().client)
    async with connected(server.remote, limit=30, probe=30) as (wire, seen):
        await wire.commit((PutSwitch("sw"),))
        rows = [port(f"p{n}", address="x" * 100) for n in range(5000)]
        await seen.shows(max(await asyncio.gather(*(wire.commit((PutPort(row),)) for row in rows))))
        backup = tmp_path / "backup.db"
        with backup.open("wb") as output:
            backing = await asyncio.create_subprocess_exec(
                client, "backup", server.remote, "OVN_Northbound", stdout=output
            )
            assert await backing.wait() == 0
        await asyncio.to_thread(server.nbctl, "ls-del", "sw")
        await seen.until(lambda m: not m.ports)
        sizes, seen_ports = set(), seen.ports
        longest, turns = 0.0, 0

        async def feel() -> None:
            nonlocal longest, turns
            while len(seen_ports) < len(rows):
                began = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - began)
                sizes.add(len(seen_ports))
                turns += bool(wire._dump)

        feeling = asyncio.ensure_future(feel())
        with backup.open("rb") as input_:
            restoring = await asyncio.create_subprocess_exec(
                client, "restore", server.remote, "OVN_Northbound", stdin=input_
            )
            answer = await wire.commit((PutSwitch("after"),))
            assert await within(restoring.wait()) == 0
        await within(feeling)
        print(f"\n5,000 rows in one transaction: {longest * 1000:.0f} ms of CPU at once")
        assert sizes == {0, len(rows)}, "half of a transaction was shown"
        await seen.shows(answer)
        assert turns >= 2, "nobody else had a turn"


@pytest.mark.slow
async def test_figures_of_northbound(server: Northbound) -> None:
    """Print what 20k ports cost: to write, and to load, with the longest time that nothing else could run."""
    async with connected(server.remote, limit=30) as (wire, seen):
        for n in range(20):
            await wire.commit((PutSwitch(f"s{n}"),))
        for callers in (1, 32, 1000):
            todo = [port(*spec) for spec in _specs(callers)]

            async def caller(todo: list[PortRow] = todo) -> None:
                while todo:
                    await wire.commit((PutPort(todo.pop()),))

            size, started, cpu, before = len(todo), time.monotonic(), time.process_time(), wire.counters.transactions
            await asyncio.gather(*(caller() for _ in range(callers)))
            seconds, cpu = time.monotonic() - started, time.process_time() - cpu
            groups = wire.counters.transactions - before
            print(f"\n{callers} callers: {size / seconds:.0f} ports/s, {cpu / size * 1e6:.0f} us each, {groups} txns")
        assert len(seen.ports) >= 20_000
    longest = 0.0

    async def feel() -> None:
        nonlocal longest
        while True:
            started = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - started - 0.001)

    feeling = asyncio.ensure_future(feel())
    started, cpu = time.monotonic(), time.process_time()
    async with connected(server.remote, limit=30) as (_, seen):
        print(f"load of {len(seen.ports)} ports: {time.monotonic() - started:.2f} s", end=", ")
        print(f"{time.process_time() - cpu:.2f} s of CPU, longest stall {longest * 1000:.0f} ms")
    feeling.cancel()
    assert gc.isenabled()
