"""Who is measured: the floor and the controller, as processes; what they cost is read from outside."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from controller.load.scrape import samples
from controller.load.watching import Wrong
from tests.cluster.children import free_port
from tests.cluster.cluster import Cluster, controller_command

_TICK = os.sysconf("SC_CLK_TCK")
_BUSY = ("workqueue_depth", "workqueue_processing", "keepip_writes_unseen")
_COUNTERS = ("rest_client_requests_total", "keepip_writes_total", "keepip_northbound_transactions_total")


@dataclass(frozen=True)
class Counts:
    """What a subject has done since its start."""

    cpu: float = 0.0
    before_status: int = 0  # writes that make the object complete
    writes: int = 0  # of IPs and pods, status included, refused ones too
    subnet_writes: int = 0
    events: int = 0
    reads: int = 0
    transactions: int = 0
    errors: int = 0

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(**{k: v - getattr(earlier, k) for k, v in vars(self).items()})


class Subject(ABC):
    """A process under load."""

    name = ""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @property
    def pid(self) -> int:
        return self._cluster.processes[self.name].pid

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    async def ready(self) -> bool: ...

    @abstractmethod
    async def counts(self) -> Counts: ...

    async def start(self) -> None:
        """Start it; returns when it works."""
        self._cluster.spawn(self.name, self.command())
        deadline = time.monotonic() + 120
        while not await self.ready():
            self.check()
            if time.monotonic() > deadline:
                raise Wrong(f"the {self.name} does not become ready:\n{self.tail()}")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """SIGTERM: it gives its lease back; raises Wrong if it does not end well."""
        child = self._cluster.processes[self.name]
        child.send_signal(signal.SIGTERM)
        try:
            code: int | None = await asyncio.to_thread(child.wait, 20)
        except subprocess.TimeoutExpired:
            code = None
            child.kill()
            child.wait()
        del self._cluster.processes[self.name]
        if code != 0:
            raise Wrong(f"the {self.name} ended with {code} after SIGTERM:\n{self.tail()}")

    def check(self) -> None:
        code = self._cluster.processes[self.name].poll()
        if code is not None:
            raise Wrong(f"the {self.name} ended with {code}:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self._cluster.log(self.name).read_text(errors="replace").splitlines()[-15:])

    def cpu(self) -> float:
        """Seconds of both kinds."""
        return _cpu(self.pid)

    def strangers(self) -> float:
        """CPU seconds that this machine has spent on everything but this bench, a stolen core included."""
        busy = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        ours = sum(_cpu(child.pid) for child in self._cluster.processes.values())
        return (sum(busy) - busy[3] - busy[4]) / _TICK - ours - _cpu(os.getpid())

    def rss(self) -> float:
        """MB now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024


class FloorProcess(Subject):
    name = "floor"

    def command(self) -> list[str]:
        self._state = self._cluster.folder / "floor.json"
        self._state.unlink(missing_ok=True)
        kubeconfig = self._cluster.controller_kubeconfig()
        options = ["--kubeconfig", str(kubeconfig), "--nb", self._cluster.nb, "--ready", str(self._state)]
        return [sys.executable, "-m", "tests.load.floor", *options]

    async def ready(self) -> bool:
        if not self._state.is_file():
            return False
        await asyncio.sleep(0.2)  # its watches are open by then
        return True

    async def counts(self) -> Counts:
        await asyncio.sleep(0.3)  # it says so four times a second
        told = json.loads(self._state.read_text())
        writes = told["writes"]
        return Counts(cpu=self.cpu(), before_status=writes, writes=writes, transactions=told["transactions"])


class ControllerProcess(Subject):
    name = "controller"

    def __init__(self, cluster: Cluster, profile: Path | None = None) -> None:
        """Sample its CPU time into that file, if one is given."""
        super().__init__(cluster)
        self._profile = profile
        self.port = 0

    def command(self) -> list[str]:
        self.port = free_port()
        options = ("--http-host", "127.0.0.1", "--http-port", str(self.port))
        command = controller_command(self._cluster, *options)
        if self._profile is None:
            return command
        at = command.index("controller")
        return [*command[:at], "tests.load.profiled", str(self._profile), *command[at + 1 :]]

    def forget(self) -> None:
        """Leave what was sampled until now out of the profile."""
        if self._profile is not None:
            os.kill(self.pid, signal.SIGUSR2)

    async def ready(self) -> bool:
        """Ready and leading."""
        status, _ = await self.get("readyz")
        if status != 200:
            return False
        _, page = await self.get("metrics")
        return 'leader_election_master_status{name="keepip"} 1.0' in page

    async def get(self, path: str) -> tuple[int, str]:
        """Ask it; 0 while it does not listen."""
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.port}/{path}")

    async def busy(self) -> int:
        """How many keys wait, are under way, or wait for what they wrote."""
        _, page = await self.get("metrics")
        return int(sum(value for found in samples(page, _BUSY).values() for _, value in found))

    async def counts(self) -> Counts:
        cpu = self.cpu()
        _, page = await self.get("metrics")
        found = samples(page, _COUNTERS)
        requests: Counter[tuple[str, str]] = Counter()
        errors = 0
        for labels, value in found["rest_client_requests_total"]:
            requests[labels["method"], labels["kind"]] += int(value)
            failed = not labels["code"].startswith("2") and labels["kind"] != "Lease"  # Kube-OVN has none here
            errors += int(value) if failed else 0
        writes = {kind: sum(requests[verb, kind] for verb in ("create", "patch", "delete")) for kind in ("IP", "Pod")}
        objects = sum(writes.values())
        status = sum(int(v) for labels, v in found["keepip_writes_total"] if labels["effect"] == "PatchIPStatus")
        return Counts(
            cpu=cpu,
            before_status=objects - status,
            writes=objects,
            subnet_writes=sum(requests[verb, "Subnet"] for verb in ("create", "patch", "delete")),
            events=requests["report", "Event"],
            reads=sum(n for (verb, kind), n in requests.items() if verb == "read" and kind != "Lease"),
            transactions=sum(int(v) for _, v in found["keepip_northbound_transactions_total"]),
            errors=errors,
        )


class Stalls:
    """The longest time that /livez took to answer while this ran, asked five times a second."""

    def __init__(self, subject: ControllerProcess) -> None:
        self._subject = subject
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            self.longest = max(self.longest, await asyncio.to_thread(_time, self._subject.port))
            await asyncio.sleep(0.2)


def _time(port: int) -> float:
    begin = time.perf_counter()
    status, _ = _get(f"http://127.0.0.1:{port}/livez")
    return time.perf_counter() - begin if status == 200 else 0.0


def _cpu(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / _TICK


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""
    except OSError:
        return 0, ""
