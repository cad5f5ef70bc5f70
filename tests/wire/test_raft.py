import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from controller.core.effects import DropPort, PutPort, PutSwitch
from controller.core.rows import PortRow
from controller.ports import PortError, Unavailable
from controller.wire.northbound import NorthboundWire
from tests.cluster import binaries
from tests.cluster.children import Children, free_port
from tests.contract.worlds import Mirror, mirror, within

DATABASE = "OVN_Northbound"


class Raft:
    """Three ovsdb-servers that are one database."""

    def __init__(self, folder: Path) -> None:
        self._programs = binaries.ovn()
        self._folder = folder
        self._children = Children(folder)
        self._raft = [f"tcp:127.0.0.1:{free_port()}" for _ in range(3)]
        self.ports = [free_port() for _ in range(3)]
        self._tool("create-cluster", self._file(0), str(self._programs.schema), self._raft[0])
        for n in (1, 2):
            self._tool("join-cluster", self._file(n), DATABASE, self._raft[n], self._raft[0])
        for n, port in enumerate(self.ports):
            command = (
                self._programs.server, "--no-chdir", f"--unixctl={folder}/nb{n}.ctl", f"--remote=ptcp:{port}:127.0.0.1",
                "-vconsole:info", self._file(n),
            )  # fmt: skip
            self._children.spawn(f"nb{n}", command, self._programs.environment)
        self._children.wait_until(lambda: all(map(self._joined, range(3))), what="three members", names=("nb0",))

    @property
    def remote(self) -> str:
        return ",".join(f"tcp:127.0.0.1:{port}" for port in self.ports)

    def leader(self) -> int:
        return next(n for n in range(3) if self._alive(n) and "Role: leader" in self._status(n))

    def kill(self, number: int) -> None:
        self._children.kill(f"nb{number}")

    def restart(self, number: int) -> None:
        self._children.restart(f"nb{number}")

    def stop(self) -> None:
        self._children.stop()

    def _alive(self, number: int) -> bool:
        return self._children.processes[f"nb{number}"].poll() is None

    def _joined(self, number: int) -> bool:
        return "Status: cluster member" in self._status(number)

    def _file(self, number: int) -> str:
        return str(self._folder / f"nb{number}.db")

    def _status(self, number: int) -> str:
        control = f"{self._folder}/nb{number}.ctl"
        done = subprocess.run(
            ["ovs-appctl", "-t", control, "cluster/status", DATABASE],
            capture_output=True, text=True, check=False, timeout=10,
            env={**os.environ, **self._programs.environment},
        )  # fmt: skip
        return done.stdout

    def _tool(self, *args: str) -> None:
        subprocess.run([str(self._programs.tool), *args], check=True, capture_output=True, timeout=20)


@pytest.fixture
def raft() -> Iterator[Raft]:
    with tempfile.TemporaryDirectory(prefix="keepip-raft-") as folder:
        made = Raft(Path(folder))
        yield made
        made.stop()


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
            epoch, leader = wire.epoch, raft.leader()
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
