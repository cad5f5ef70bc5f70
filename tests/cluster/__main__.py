"""`python -m tests.cluster up|down|status`: a cluster for a person's own kubectl.

It lives in a folder (`.cluster/` of this checkout) and belongs to a supervisor process, which holds a lock on a file
there for as long as it runs: so nobody is mistaken for it, and its end is seen at once.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tests.cluster.binaries import Missing
from tests.cluster.children import StartFailed, free_port
from tests.cluster.cluster import MANIFESTS, ROOT, Cluster, controller_command

DEFAULT = ROOT / ".cluster"


def up(folder: Path) -> int:
    """Start a cluster in the folder, unless one runs there; says how to use it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _runs(folder):
        (folder / "ready.json").unlink(missing_ok=True)
        with (folder / "supervisor.log").open("wb") as log:
            supervisor = subprocess.Popen(
                (sys.executable, "-m", "tests.cluster", "supervise", "--folder", str(folder)),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        print("starting a cluster", flush=True)
        try:
            while not (folder / "ready.json").is_file():
                if supervisor.poll() is not None:
                    print((folder / "supervisor.log").read_text(errors="replace"), file=sys.stderr)
                    return 1
                time.sleep(0.05)
        except KeyboardInterrupt:
            supervisor.terminate()
            supervisor.wait()
            return 130
    status(folder)
    return 0


def down(folder: Path) -> int:
    """End the cluster of the folder, wholly, and remove the folder."""
    lock = _lock_file(folder)
    if lock is None:
        print("no cluster here")
        return 0
    with lock:
        if not _take(lock):
            supervisor = int((folder / "supervisor.pid").read_text())
            os.kill(supervisor, signal.SIGTERM)
            deadline = time.monotonic() + 15
            while not _take(lock):
                if time.monotonic() > deadline:
                    # Its children die with it.
                    os.kill(supervisor, signal.SIGKILL)
                time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)
    print("the cluster is gone")
    return 0


def status(folder: Path) -> int:
    """Say what runs, and how to use it."""
    if not _runs(folder) or not (folder / "ready.json").is_file():
        print("no cluster here: make up")
        return 3
    facts = json.loads((folder / "ready.json").read_text())
    for name, pid in facts["processes"].items():
        print(f"  {name:<24} {'runs' if _alive(pid) else 'ENDED'}  pid {pid}  log {folder / name}.log")
    if "controller" not in facts["processes"]:
        print("  the controller is not started: this checkout has none")
    print("use it:")
    print(f"  export KUBECONFIG={folder / 'kubeconfig'}")
    print(f"  export OVN_NB_DB={facts['nb']}        # ovn-nbctl show")
    if facts["metrics"]:
        print(f"  curl {facts['metrics']}/metrics")
    print(f"  kubectl apply -f {MANIFESTS / 'samples'}")
    print("end it: make down")
    return 0


def supervise(folder: Path) -> int:
    """Hold a cluster until SIGTERM or SIGINT; what `up` leaves running."""
    stop = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    with (folder / "lock").open("a") as lock:
        if not _take(lock):
            print("another supervisor holds this folder", file=sys.stderr)
            return 1
        (folder / "supervisor.pid").write_text(str(os.getpid()))
        for number in stop:
            signal.signal(number, _interrupt)
        try:
            with Cluster.start(folder=folder) as cluster:
                metrics = _start_controller(cluster)
                facts = {
                    "processes": {name: child.pid for name, child in cluster.processes.items()},
                    "nb": cluster.nb,
                    "metrics": metrics,
                }
                fresh = folder / "ready.json.new"
                fresh.write_text(json.dumps(facts))
                fresh.rename(folder / "ready.json")
                while True:
                    signal.pause()
        except KeyboardInterrupt:
            return 0
        except (StartFailed, Missing) as reason:
            print(reason, file=sys.stderr)
            return 1
        finally:
            (folder / "ready.json").unlink(missing_ok=True)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _start_controller(cluster: Cluster) -> str | None:
    if importlib.util.find_spec("controller.__main__") is None:
        return None
    port = free_port()
    cluster.spawn("controller", controller_command(cluster, "--http-host", "127.0.0.1", "--http-port", str(port)))
    return f"http://127.0.0.1:{port}"


def _lock_file(folder: Path) -> IO[str] | None:
    try:
        return (folder / "lock").open("r+")
    except FileNotFoundError:
        return None


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(folder: Path) -> bool:
    lock = _lock_file(folder)
    if lock is None:
        return False
    with lock:
        return not _take(lock)


def _alive(pid: int) -> bool:
    try:
        # A child that ended stays a zombie of the supervisor's: signal 0 would still reach it.
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main() -> int:
    """Read the command line and do it."""
    commands: dict[str, Callable[[Path], int]] = {"up": up, "down": down, "status": status, "supervise": supervise}
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("command", choices=tuple(commands))
    parser.add_argument("--folder", type=Path, default=DEFAULT, help="where the cluster lives (default: .cluster)")
    asked = parser.parse_args()
    return commands[asked.command](asked.folder.resolve())


if __name__ == "__main__":
    sys.exit(main())
