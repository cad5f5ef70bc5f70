import asyncio
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from controller.core.effects import DropPort, PutPort, PutSwitch
from controller.core.rows import PortRow
from controller.ports import PortError, Unavailable
from controller.wire.northbound import NorthboundWire
from tests.cluster.raft import Raft
from tests.contract.worlds import Mirror, mirror, within


@pytest.fixture
def raft() -> Iterator[Raft]:
    with tempfile.TemporaryDirectory(prefix="keepip-raft-") as folder:
        made = Raft(Path(folder))
        yield made
        made.stop()


def leader_of(raft: Raft) -> int:
    found = raft.leader()
    assert found is not None
    return found


async def new_leader(raft: Raft, *, than: int) -> float:
    """Wait until another one leads; when that was. Who was left out of the election may say the same for a while."""
    while not any(map(raft.leads, raft.others(than))):  # noqa: ASYNC110 - servers have no event for it
        await asyncio.sleep(0.02)
    return time.monotonic()


def put(name: str) -> PutPort:
    return PutPort(PortRow(name, external_ids=(("ls", "sw"), ("vendor", "kube-ovn"))))


async def insist(wire: NorthboundWire, seen: Mirror, name: str) -> None:
    """Commit as the queue would: again and again, looking before each try whether it is there."""
    while name not in seen.ports:
        try:
            await seen.shows(await wire.commit((put(name),)))
        except Unavailable as silent:
            epoch = wire.epoch
            await asyncio.sleep(0.1)
            if silent.unknown:
                await seen.until(lambda m, epoch=epoch: m.epoch > epoch)  # type: ignore[misc]


async def test_an_answer_from_a_raft_comes_after_its_rows_too(raft: Raft) -> None:
    wire = NorthboundWire(raft.remote)
    await wire.start()
    async with mirror(wire) as seen:
        await wire.commit((PutSwitch("sw"),))
        for n in range(50):
            seq = await wire.commit((put(f"p{n}"),))
            assert f"p{n}" in wire._tables.port_names
            await seen.shows(seq)
            assert f"p{n}" in seen.ports
        seqs = [await wire.commit((DropPort(seen.ports[f"p{n}"]),)) for n in range(50)]
        assert all(a <= b for a, b in pairwise(seqs))
        await seen.shows(seqs[-1])
        assert not seen.ports
    await wire.close()


@pytest.mark.slow
async def test_work_goes_on_when_the_leader_dies_and_nothing_answered_is_lost(raft: Raft) -> None:
    wire = NorthboundWire(raft.remote, timeout=3, probe=2)
    await wire.start()
    async with mirror(wire) as seen:
        await seen.shows(await wire.commit((PutSwitch("sw"),)))
        for round_ in range(2):
            tasks = [asyncio.ensure_future(wire.commit((put(f"{round_}-{n}"),))) for n in range(200)]
            await asyncio.sleep(0)
            epoch, leader = wire.epoch, leader_of(raft)
            raft.kill(leader)
            answers = await within(asyncio.gather(*tasks, return_exceptions=True))
            assert all(isinstance(a, int | PortError) for a in answers)
            await within(insist(wire, seen, f"after-{round_}"))
            assert seen.epoch > epoch
            for n, answer in enumerate(answers):
                if isinstance(answer, int):
                    assert f"{round_}-{n}" in seen.ports
                elif isinstance(answer, Unavailable) and not answer.unknown:
                    assert f"{round_}-{n}" not in seen.ports
            raft.restart(leader)
    await wire.close()


@pytest.mark.parametrize("fault", ["kill", "halt", "cut_off"])
async def test_a_new_leader_is_found_soon(raft: Raft, fault: str) -> None:
    """Killed, stopped with its connections open, or left in a minority: the client leaves it for the next leader."""
    wire = NorthboundWire(raft.remote, timeout=3)
    await wire.start()
    async with mirror(wire) as seen:
        await seen.shows(await wire.commit((PutSwitch("sw"),)))
        epoch, leader = wire.epoch, leader_of(raft)
        getattr(raft, fault)(leader)
        began = await within(new_leader(raft, than=leader))
        await seen.until(lambda m: m.epoch > epoch)
        print(f"\n{fault}: followed {time.monotonic() - began:.2f} s after there was a new leader")
        assert time.monotonic() - began < 15
        await within(insist(wire, seen, "after"))
        {"kill": raft.restart, "halt": raft.go_on, "cut_off": raft.join}[fault](leader)
        await within(asyncio.to_thread(raft.await_members))
        await within(insist(wire, seen, "at last"))
        assert "at last" in raft.nbctl("lsp-list", "sw")
    await wire.close()


@pytest.mark.parametrize("way", ["backup", "copy"])
async def test_an_older_database_is_followed_too(raft: Raft, way: str) -> None:
    """Its count of changes is lower than what was seen: that of a new cluster at once, that of the old one soon."""
    wire = NorthboundWire(raft.remote, timeout=3)
    await wire.start()
    async with mirror(wire) as seen:
        await seen.shows(await wire.commit((PutSwitch("sw"), put("kept"), put("back"))))
        older = await asyncio.to_thread(getattr(raft, way))
        await seen.shows(await wire.commit((DropPort(seen.ports["back"]),)))
        for n in range(60):
            await seen.shows(await wire.commit((put(f"p{n}"),)))
        epoch = wire.epoch
        await asyncio.to_thread(raft.restore, older)
        began = time.monotonic()
        await seen.until(lambda m: m.epoch > epoch and "back" in m.ports)
        print(f"\n{way}: followed {time.monotonic() - began:.2f} s after it was restored")
        assert set(seen.ports) == {"kept", "back"}
        await within(insist(wire, seen, "after"))
        assert "after" in raft.nbctl("lsp-list", "sw")
    await wire.close()
