"""An OVN Northbound database of its own, in a folder that goes away with it."""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import binaries
from tests.cluster.children import Children, free_port

# A unix socket's path has room for 107 bytes.
_LONGEST = 90


class Northbound:
    """One ovsdb-server with the Northbound schema, listening on a unix socket and on TCP.

    Ready when the constructor returns (about 50 ms). `restart` keeps data and addresses. `children`: whose child the
    server shall be; without, the server ends with `stop`.
    """

    def __init__(self, children: Children | None = None) -> None:
        self._programs = binaries.ovn()
        self._owns_folder = children is None
        folder = Path(tempfile.mkdtemp(prefix="keepip-nb-")) if children is None else children.folder
        self.folder = folder
        self._children = children or Children(folder)
        self._sockets = (
            folder if len(str(folder)) <= _LONGEST else Path(tempfile.mkdtemp(prefix="keepip-nb-", dir="/tmp"))
        )
        self._socket = self._sockets / "nb.sock"
        self._port = free_port()
        self.remote = f"unix:{self._socket}"
        self.tcp = f"tcp:127.0.0.1:{self._port}"
        self._database = folder / "nb.db"
        if not self._database.exists():
            self._run(self._programs.tool, "create", self._database, self._programs.schema)
        command = (
            self._programs.server,
            "--no-chdir",
            f"--unixctl={self._sockets / 'nb.ctl'}",
            f"--remote=punix:{self._socket}",
            f"--remote=ptcp:{self._port}:127.0.0.1",
            "-vconsole:info",
            self._database,
        )
        self._children.spawn("northbound", command, self._programs.environment)
        self.await_answer()

    def nbctl(self, *args: str) -> str:
        """What `ovn-nbctl` says to these arguments; raises RuntimeError with its complaint."""
        return self._run(self._programs.nbctl, f"--db={self.remote}", "--timeout=20", *args)

    def kill(self) -> None:
        """End the server as a crash does."""
        self._children.kill("northbound")

    def restart(self) -> None:
        """End the server if it runs and start it again, on the same addresses and data."""
        self._children.restart("northbound")
        self.await_answer()

    def stop(self) -> None:
        """End the server; the folder goes too, if it was made here."""
        if self._owns_folder:
            self._children.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._sockets != self.folder:
            shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def await_answer(self) -> None:
        """Return when the server takes connections."""
        self._children.wait_until(self._answers, what="an answer of ovsdb-server", names=("northbound",), seconds=20)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._socket))
            except OSError:
                return False
        return True

    def _run(self, *command: str | Path) -> str:
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **self._programs.environment},
        )
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.strip()}")
        return done.stdout
