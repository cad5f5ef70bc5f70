"""TLS as people run it, and remotes given by name: what changes is taken, what is wrong is said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.core.effects import PutPort, PutSwitch
from controller.core.rows import PortRow
from controller.wire.dial import Tls
from controller.wire.northbound import NorthboundWire
from tests.cluster import binaries
from tests.cluster.children import Children, free_port
from tests.cluster.northbound import Northbound
from tests.cluster.raft import Raft
from tests.cluster.tls import Authority, Mount
from tests.contract.worlds import Mirror, mirror, within


class Told(list[tuple[str, str]]):
    """What was said about the remotes."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def __call__(self, remote: str, text: str) -> None:
        self.append((remote, text))
        self._news.set()

    async def until(self, words: str) -> str:
        while not (found := [text for _, text in self if words in text]):
            self._news.clear()
            await within(self._news.wait())
        return found[-1]


class Server:
    """An ovsdb-server that speaks TLS and takes clients that `trusted` has signed."""

    def __init__(self, folder: Path, files: Path) -> None:
        self._programs, self._folder = binaries.ovn(), folder
        self._children = Children(folder)
        self._port = free_port()
        self.remote = f"ssl:127.0.0.1:{self._port}"
        with Northbound(Children(folder)) as plain:  # it makes the database
            plain._children.stop()
        self.start(files)

    def start(self, files: Path) -> None:
        """Serve with these files, anew if it ran."""
        self._children.stop()
        command = (
            self._programs.server, "--no-chdir",
            f"--unixctl={self._folder}/tls.ctl", f"--remote=pssl:{self._port}:127.0.0.1",
            f"--private-key={files}/key", f"--certificate={files}/cert", f"--ca-cert={files}/cacert", "-vconsole:info",
            self._folder / "nb.db",
        )  # fmt: skip
        self._children.spawn("tls", command, self._programs.environment)
        self._children.wait_until(self._listens, what="a listening server", names=("tls",))

    def stop(self) -> None:
        self._children.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="keepip-tls-") as made:
        yield Path(made)


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder, "authority")


@pytest.fixture
def server(folder: Path, authority: Authority) -> Iterator[Server]:
    made = Server(folder, authority.issue())
    yield made
    made.stop()


def tls_of(files: Path | Mount) -> Tls:
    if isinstance(files, Mount):
        return Tls(files.key, files.certificate, files.authority)
    return Tls(files / "key", files / "cert", files / "cacert")


@contextlib.asynccontextmanager
async def wired(remote: str, **more: Any) -> AsyncIterator[tuple[NorthboundWire, Told]]:
    told = Told()
    wire = NorthboundWire(remote, tell=told, **more)
    await wire.start()
    try:
        yield wire, told
    finally:
        await wire.close()


@contextlib.asynccontextmanager
async def followed(remote: str, **more: Any) -> AsyncIterator[tuple[NorthboundWire, Mirror, Told]]:
    async with wired(remote, **more) as (wire, told), mirror(wire) as seen:
        yield wire, seen, told


async def test_tls_works_and_hides_no_bytes(server: Server, authority: Authority) -> None:
    tls = tls_of(authority.issue())
    async with followed(server.remote, tls=tls, timeout=20) as (wire, seen, told):
        await wire.commit((PutSwitch("sw"),))
        rows = [PortRow(f"p{n}", ("x" * 2000,), (("ls", "sw"), ("vendor", "kube-ovn"))) for n in range(1000)]
        answers = await asyncio.gather(*(wire.commit((PutPort(row),)) for row in rows))
        await seen.shows(max(answers))
        assert len(seen.ports) == 1000
        assert told == [(server.remote, "")]
        assert not wire.troubles
    async with followed(server.remote, tls=tls) as (_, seen, _):
        assert len(seen.ports) == 1000, "two megabytes that no selector announces piece by piece"


async def test_a_server_of_another_authority_is_not_believed(folder: Path, server: Server) -> None:
    """And it is said why, once, however often it is tried."""
    stranger = Authority(folder, "stranger")
    async with wired(server.remote, tls=tls_of(stranger.issue())) as (wire, told):
        said = await told.until("the certificate cannot be verified")
        assert f"{server.remote} {said}" in wire.troubles
        assert not wire.connected
        engine = wire._engine._idl
        assert engine is not None
        tries = engine.session.reconnect.n_attempted_connections
        while engine.session.reconnect.n_attempted_connections < tries + 3:  # noqa: ASYNC110 - ovs has no event for it
            await asyncio.sleep(0.05)
        assert told == [(server.remote, said)]


async def test_a_client_of_another_authority_is_told_so(folder: Path, server: Server, authority: Authority) -> None:
    """The server refuses our certificate, while we believe its own."""
    stranger = Authority(folder, "stranger")
    async with wired(server.remote, tls=tls_of(stranger.issue(authority))) as (wire, told):
        assert "unknown ca" in await told.until("does not agree on TLS")
        assert not wire.connected


async def test_missing_files_are_named_and_waited_for(folder: Path, server: Server, authority: Authority) -> None:
    files = authority.issue()
    (files / "cert").rename(folder / "cert")
    async with wired(server.remote, tls=tls_of(files)) as (wire, told):
        assert "No such file" in await told.until("cannot be spoken to with these certificates")
        (folder / "cert").rename(files / "cert")
        async with mirror(wire):
            assert wire.connected


async def test_renewed_certificates_are_taken_before_anybody_insists_on_them(
    folder: Path, server: Server, authority: Authority
) -> None:
    """The mount is swapped: the connection is made anew with what is there now, once all of it fits together."""
    newer = Authority(folder, "newer")
    server.start(authority.issue(authority, newer))
    mount = Mount(folder / "mount", authority.issue())
    async with followed(server.remote, tls=tls_of(mount), recheck=0.1) as (wire, seen, _):
        epoch = wire.epoch
        fresh, half = newer.issue(authority, newer), newer.issue(authority, newer)
        (half / "key").write_bytes((fresh / "key").read_bytes())  # not the key of its certificate
        mount.swap(half)
        for _ in range(10):
            await seen.shows(await wire.commit((PutSwitch(f"sw{len(seen.switches)}"),)))
            await asyncio.sleep(0.05)
        assert wire.epoch == epoch, "a connection that works was given up for files that cannot be used"
        mount.swap(fresh)
        await seen.until(lambda m: m.epoch == epoch + 1)
        server.start(
            newer.issue()
        )  # from here on only the new authority is trusted, and only its certificates are shown
        await seen.until(lambda m: m.epoch > epoch + 1)
        await seen.shows(await wire.commit((PutSwitch("with new ones"),)))


async def test_a_handshake_that_nobody_answers_costs_no_time(authority: Authority) -> None:
    """Ovs waits for such a socket to be writable, which it is, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        remote = f"ssl:127.0.0.1:{mute.getsockname()[1]}"
        async with wired(remote, tls=tls_of(authority.issue())) as (_, told):
            cpu = time.process_time()
            assert await told.until("does not answer")
            assert time.process_time() - cpu < 0.5


# ---- names


async def test_a_name_is_as_good_as_an_address() -> None:
    """The system's own resolver is asked."""
    with Northbound() as server:
        remote = server.tcp.replace("127.0.0.1", "localhost")
        async with followed(remote) as (wire, seen, _):
            await seen.shows(await wire.commit((PutSwitch("sw"),)))
            assert "sw" in seen.switches


async def test_a_name_that_is_not_known_yet_is_said_and_asked_for_again() -> None:
    known: list[str] = []

    async def resolver(name: str) -> list[str]:
        assert name == "nb.example"
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known

    with Northbound() as server:
        remote = server.tcp.replace("127.0.0.1", "nb.example")
        async with wired(remote, resolver=resolver) as (wire, told):
            assert await told.until("cannot be resolved") == "cannot be resolved: Name or service not known"
            assert f"{remote} cannot be resolved" in wire.troubles
            known.append("127.0.0.1")
            async with mirror(wire):
                assert not wire.troubles


async def test_each_address_of_a_name_is_a_member(folder: Path) -> None:
    """The name of a headless Service: whoever leads is found among its addresses, those that came later too."""
    raft = Raft(folder)
    known = raft.hosts[:]

    async def resolver(_name: str) -> list[str]:
        return known

    try:
        async with followed(f"tcp:nb.example:{raft.port}", resolver=resolver) as (wire, seen, told):
            await seen.shows(await wire.commit((PutSwitch("sw"),)))
            leader = raft.leader()
            assert leader is not None
            assert told[-1] == (raft.members[leader], "")
            epoch = wire.epoch
            known.remove(raft.hosts[leader])
            raft.kill(leader)
            await seen.until(lambda m: m.epoch > epoch)
            followed_now, words = told[-1]
            assert not words
            assert followed_now in {raft.members[n] for n in raft.others(leader)}
    finally:
        raft.stop()
