"""An OVN Northbound database of three members, which can be killed, stopped, cut off, and given an older backup."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.children import Children, free_port

DATABASE = "OVN_Northbound"
MEMBERS = range(3)


class Raft:
    """Three ovsdb-servers that are one database; ready when the constructor returns (about 0.2 s).

    All listen on the same port, each on a loopback address of its own: as the pods behind one name do.
    """

    def __init__(self, folder: Path, children: Children | None = None) -> None:
        self._programs = binaries.ovn()
        self._folder = folder
        self._children = children or Children(folder)
        self.port = free_port()
        self.hosts = [f"127.0.0.{n + 2}" for n in MEMBERS]
        self.members = [f"tcp:{host}:{self.port}" for host in self.hosts]
        self._raft = [f"tcp:{host}:{free_port()}" for host in self.hosts]
        self._make("create-cluster", str(self._programs.schema))
        for n in MEMBERS:
            self._spawn(n)
        self.await_members()

    @property
    def remote(self) -> str:
        """All members, as a client is told."""
        return ",".join(self.members)

    def leader(self) -> int | None:
        """Who says that it leads; None while nobody does."""
        return next((n for n in MEMBERS if self.leads(n)), None)

    def leads(self, number: int) -> bool:
        """True if the member says that it leads."""
        return self._says(number, "Role: leader")

    def others(self, number: int) -> list[int]:
        """All members but that one."""
        return [n for n in MEMBERS if n != number]

    def kill(self, number: int) -> None:
        """End a member as a crash does."""
        self._children.kill(_name(number))

    def halt(self, number: int) -> None:
        """Stop a member: it keeps its connections and says nothing."""
        self._children.kill(_name(number), signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        """Let a stopped member go on where it was."""
        self._children.kill(_name(number), signal.SIGCONT)

    def restart(self, number: int) -> None:
        """Start a member again, on the same addresses and data."""
        self._children.restart(_name(number))

    def cut_off(self, number: int) -> None:
        """Let a member hear and say nothing to the others; clients still reach it."""
        self._ask(number, "cluster/failure-test", "stop-raft-rpc")

    def join(self, number: int) -> None:
        """End that."""
        self._ask(number, "cluster/failure-test", "clear")

    def await_members(self) -> None:
        """Return when all three are members and one of them leads."""
        names = tuple(map(_name, MEMBERS))

        def whole() -> bool:
            return all(self._says(n, "Status: cluster member") for n in MEMBERS) and self.leader() is not None

        self._children.wait_until(whole, what="three members and a leader", names=names)

    def backup(self) -> Path:
        """What `ovsdb-client backup` writes: the database without its history."""
        made = self._folder / "backup.db"
        with made.open("wb") as output:
            subprocess.run(
                [str(self._programs.client), "backup", self.remote, DATABASE],
                check=True, timeout=60, stdout=output, stderr=subprocess.PIPE, env=dict(self._programs.environment),
            )  # fmt: skip
        return made

    def copy(self) -> Path:
        """Copies of the members' files, as a disk's snapshot would be."""
        made = self._folder / "copies"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        for n in MEMBERS:
            shutil.copy(self._file(n), made)
        return made

    def restore(self, backup: Path) -> None:
        """End all members and start them from a backup (a new cluster) or from copies (the old one, as it was)."""
        for n in MEMBERS:
            self.kill(n)
        if backup.is_dir():
            for n in MEMBERS:
                shutil.copy(backup / self._file(n).name, self._file(n))
        else:
            for n in MEMBERS:
                self._file(n).unlink()
            self._make("create-cluster", str(backup))
        for n in MEMBERS:
            self.restart(n)
        self.await_members()

    def nbctl(self, *args: str) -> str:
        """What `ovn-nbctl` says to these arguments, asked of the leader; raises RuntimeError with its complaint."""
        done = subprocess.run(
            [str(self._programs.nbctl), f"--db={self.remote}", "--timeout=20", *args],
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **self._programs.environment},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    def stop(self) -> None:
        """End all members."""
        self._children.stop()

    def _make(self, verb: str, source: str) -> None:
        self._tool(verb, str(self._file(0)), source, self._raft[0])
        for n in (1, 2):
            self._tool("join-cluster", str(self._file(n)), DATABASE, self._raft[n], self._raft[0])

    def _spawn(self, n: int) -> None:
        remote = f"--remote=ptcp:{self.port}:{self.hosts[n]}"
        command = (self._programs.server, "--no-chdir", f"--unixctl={self._control(n)}", remote, self._file(n))
        self._children.spawn(_name(n), (*command, "-vconsole:info"), self._programs.environment)

    def _says(self, number: int, line: str) -> bool:
        return line in self._ask(number, "cluster/status", DATABASE)

    def _ask(self, number: int, *command: str) -> str:
        """What the member's control socket answers; nothing if it does not."""
        question = {"id": 0, "method": command[0], "params": command[1:]}
        answer = b""
        with socket.socket(socket.AF_UNIX) as line, contextlib.suppress(OSError):
            line.settimeout(0.5)
            line.connect(self._control(number))
            line.sendall(json.dumps(question).encode())
            while more := line.recv(65536):
                answer += more
                with contextlib.suppress(json.JSONDecodeError):
                    return str(json.loads(answer)["result"])
        return ""

    def _control(self, number: int) -> str:
        return f"{self._folder}/{_name(number)}.ctl"

    def _file(self, number: int) -> Path:
        return self._folder / f"{_name(number)}.db"

    def _tool(self, *args: str) -> None:
        subprocess.run(
            [str(self._programs.tool), *args],
            check=True, capture_output=True, timeout=20, env=dict(self._programs.environment),
        )  # fmt: skip


def _name(number: int) -> str:
    return f"nb{number}"
