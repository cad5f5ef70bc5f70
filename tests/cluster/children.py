"""Child processes that never outlive whoever started them."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Below the range the kernel takes ports of outgoing connections from (32768 and up): a port that is free now is not
# taken by a chance connection before its server listens, or while the server is being restarted.
_PORTS = range(20000, 32000)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StartFailed(RuntimeError):
    """A program ended, or did not become ready in time; the message holds the end of what it wrote."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    # Each process its own order: two clusters that start at once do not try the same ports.
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StartFailed("100 random ports of 127.0.0.1 are all taken")


@dataclass(frozen=True, slots=True)
class _Recipe:
    command: tuple[str, ...]
    environment: Mapping[str, str]


class Children:
    """Named processes, each in a group of its own, with what they write in `<folder>/<name>.log`.

    They die with this process, also when it is killed with -9. `spawn` must be called by a thread that lives as long as
    the children shall: the kernel ties them to the thread, not to the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._recipes: dict[str, _Recipe] = {}

    def spawn(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program; its log is appended to."""
        self._recipes[name] = _Recipe(tuple(map(str, command)), dict(environment or {}))
        return self._start(name)

    def kill(self, name: str, sig: int = signal.SIGKILL) -> None:
        """Send a signal to a child and, if the signal ends it, wait until it is gone."""
        child = self.processes[name]
        if child.poll() is not None:
            return
        child.send_signal(sig)
        if sig == signal.SIGKILL:
            child.wait()

    def restart(self, name: str) -> subprocess.Popen[bytes]:
        """End a child if it still runs, politely at first, and start it again with the same command."""
        child = self.processes[name]
        if child.poll() is None:
            # A stopped process would not hear of it.
            child.send_signal(signal.SIGCONT)
            child.terminate()
            try:
                child.wait(1)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return self._start(name)

    def stop(self) -> None:
        """End all of them now; their data is not meant to be kept."""
        for child in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                # The whole group: a program may have children of its own.
                os.killpg(child.pid, signal.SIGKILL)
        for child in self.processes.values():
            child.wait()

    def wait_until(self, ready: Callable[[], bool], *, what: str, names: Sequence[str], seconds: float = 60) -> None:
        """Poll `ready`; raises StartFailed as soon as one of the named children has ended, or time is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            for name in names:
                if (code := self.processes[name].poll()) is not None:
                    raise StartFailed(f"{name} ended with {code} before {what}:\n{self.tail(name)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"no {what} within {seconds:.0f} s:\n" + "\n".join(map(self.tail, names)))
            time.sleep(0.03)

    def check(self) -> None:
        """Raise StartFailed if any of them has ended."""
        for name, child in self.processes.items():
            if (code := child.poll()) is not None:
                raise StartFailed(f"{name} ended with {code}:\n{self.tail(name)}")

    def log(self, name: str) -> Path:
        """The file that holds what the child of that name wrote."""
        return self.folder / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines that a child wrote."""
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        recipe = self._recipes[name]
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                recipe.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | recipe.environment,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - one system call, nothing that could wait for a lock
            )
        self.processes[name] = child
        return child


def _die_with(parent: int) -> Callable[[], None]:
    def arrange() -> None:
        if _LIBC is None:
            return
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # The parent was gone before the kernel knew about the arrangement.
            os._exit(1)

    return arrange
