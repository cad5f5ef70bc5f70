"""`make bench`: the controller beside the floor, on one real cluster, in one run.

The floor is a bare process that does the least that any controller must do (floor.py). Both are given the same load
by the same generator, one after the other, case by case: the machine's mood then touches both. Only etcd, the API
server and ovsdb-server run beside them: no scheduler, no kubelets. Pods are created with their node, so no scheduler
is waited for, and stay Pending, so nobody else writes to them.

    python -m tests.load.bench [--quick] [--only reservations|pods|start] [--json FILE] [--profile FOLDER]
    python -m tests.load.bench --large 50000    (make coldstart: only cold starts, so many IPs and ports are there)

It fails only when something is wrong: an object that never completes, an address given twice, a write at rest.
Seconds are printed beside the aims, never asserted.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from controller.load.client import Api, Refused
from controller.load.objects import Request, creations, deletions
from controller.load.watching import Watcher, Wrong
from tests.cluster.cluster import Cluster
from tests.load import bodies, tables
from tests.load.generator import fill, play
from tests.load.nb import Raw
from tests.load.subjects import ControllerProcess, FloorProcess, Stalls, Subject
from tests.load.tables import Case, Figures, Start

_WARM = 64
_REST_S = 3.0
_IDLE_S = 900.0


@dataclass
class Plan:
    """What is measured."""

    cases: list[Case]
    full: int = 0  # pods that are there in the cases called full
    reserved: int = 0  # and reservations
    starts: int = 0


@dataclass
class Results:
    figures: list[Figures] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)


def plan(*, quick: bool = False, only: str = "", large: int = 0) -> Plan:
    """The cases of issue 3, or only cold starts with so many IPs and as many ports."""
    if large:
        return Plan([], full=large, starts=3)
    kinds = [kind for kind in ("reservations", "pods") if only in {"", kind}]
    cases = []
    for full in (False, True):
        for kind in kinds:
            cases += [Case(kind, 1000, None, full)]
            if not quick:
                cases += [Case(kind, 5000, None, full)]
            cases += [Case(kind, rate * (5 if quick else 12), rate, full) for rate in (50, 100)]
    if quick:
        cases = [case for case in cases if not case.full]
    if only == "start":
        cases = []
    size = 1000 if quick else 5000
    return Plan(cases, full=size, reserved=size, starts=0 if only in {"reservations", "pods"} else 3)


class Bench:
    """A plan being carried out on a cluster."""

    def __init__(self, cluster: Cluster, asked: Plan, results: Results, profiles: Path | None) -> None:
        self._cluster, self._plan, self._profiles = cluster, asked, profiles
        self._begin = time.monotonic()
        self._serial = 0
        self._filled = False
        self.results = results

    async def run(self) -> None:
        """Everything; raises Wrong."""
        async with Api(self._cluster.kubeconfig) as api:
            self._api = api
            await self._prepare()
            async with self._watching():
                for case in self._plan.cases:
                    if case.full:
                        await self._fill()
                    for subject in (FloorProcess(self._cluster), self._controller(str(case))):
                        await self._measure(case, subject)
                if self._plan.starts:
                    await self._fill()
                    for _ in range(self._plan.starts):
                        await self._start()

    def _say(self, text: str) -> None:
        print(f"  {time.monotonic() - self._begin:6.1f} s  {text}", flush=True)

    def _controller(self, case: str) -> ControllerProcess:
        profile = self._profiles / f"{case.replace(' ', '-').replace('/', '-')}.txt" if self._profiles else None
        return ControllerProcess(self._cluster, profile)

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        self._watcher = Watcher(self._api, bodies.PLACE)
        await self._watcher.start()
        try:
            yield
        finally:
            await self._watcher.stop()

    @asynccontextmanager
    async def _running(self, subject: Subject) -> AsyncIterator[None]:
        await subject.start()
        try:
            yield
        except BaseException as error:
            if isinstance(error, Wrong):
                error.add_note(subject.tail())
            with suppress(Wrong):
                await subject.stop()
            raise
        await subject.stop()

    async def _prepare(self) -> None:
        """A subnet with its switch, made by the controller itself."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": bodies.NAMESPACE}}
        await self._api.send("POST", "/api/v1/namespaces", namespace)
        await self._api.send("POST", "/apis/kubeovn.io/v1/subnets", bodies.subnet())
        async with self._running(ControllerProcess(self._cluster)):
            deadline = time.monotonic() + 30
            while bodies.SUBNET not in self._cluster.nbctl("ls-list"):
                if time.monotonic() > deadline:
                    raise Wrong("the controller makes no logical switch")
                await asyncio.sleep(0.1)
        self._say("the cluster is there")

    async def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True
        pods, reserved, begin = self._plan.full, self._plan.reserved, time.monotonic()
        raw = Raw(self._cluster.nb, bodies.SUBNET)
        await raw.open()
        await fill(self._api, raw, reserved, pods)
        raw.close()
        self._say(f"{reserved} reservations and {pods} pods loaded in {time.monotonic() - begin:.1f} s")
        begin = time.monotonic()
        subject = ControllerProcess(self._cluster)
        async with self._running(subject):
            ready = time.monotonic() - begin
            await self._idle(subject)
            await self._watcher.quiet(2.0, limit=600)
            took = time.monotonic() - begin - 2.0
            self._say(f"the controller has taken them over: ready after {ready:.1f} s, at rest after {took:.1f} s")
            await self._rest(subject, f"with {reserved} + {pods}")
        self._watcher.check()

    async def _idle(self, subject: ControllerProcess) -> None:
        """Until it has nothing to do: while it reads and decides on many it writes nothing for seconds."""
        deadline = time.monotonic() + _IDLE_S
        while busy := await subject.busy():
            if time.monotonic() > deadline:
                raise Wrong(f"{busy} keys are still to be looked at after {_IDLE_S:.0f} s")
            await asyncio.sleep(0.5)

    async def _rest(self, subject: ControllerProcess, when: str) -> None:
        """At rest nothing is written (contract §2, Rule 4)."""
        await asyncio.sleep(1.2)  # a Subnet's numbers come a second late
        before = await subject.counts()
        await asyncio.sleep(_REST_S)
        did = (await subject.counts()).since(before)
        self.results.rest.append(f"{when}: {did.cpu / _REST_S * 100:.1f} % CPU, {subject.rss():.0f} MB")
        if did.writes or did.subnet_writes or did.transactions:
            raise Wrong(f"writes at rest, {when}: {did}")

    async def _measure(self, case: Case, subject: Subject) -> None:
        async with self._running(subject):
            names = self._names("warm", _WARM)
            await self._play(creations(bodies.PLACE, case.kind, names), gone=False)
            await self._play(deletions(bodies.PLACE, case.kind, names), gone=True)
            await self._watcher.quiet()
            names = self._names("it", case.count)
            figures = Figures(case, subject.name)
            figures.up = await self._phase(case, subject, creations(bodies.PLACE, case.kind, names), figures)
            self._watcher.check()
            figures.down = await self._phase(
                case, subject, deletions(bodies.PLACE, case.kind, names), figures, gone=True
            )
        await self._nothing_left()
        self.results.figures.append(figures)
        self._say(tables.line(figures))

    async def _phase(
        self, case: Case, subject: Subject, requests: list[Request], figures: Figures, *, gone: bool = False
    ) -> tables.Phase:
        looked = time.perf_counter()
        before, stalls = await subject.counts(), None
        probe: asyncio.Task[None] | None = None
        if isinstance(subject, ControllerProcess) and case.rate is None:
            stalls = Stalls(subject)
            probe = asyncio.create_task(stalls.watch())
        if isinstance(subject, ControllerProcess) and not gone:
            subject.forget()
        gc.collect()
        begin, strangers = time.perf_counter(), subject.strangers()
        times = await self._play(requests, gone=gone, rate=None if gone else case.rate)
        busy = subject.cpu() - before.cpu
        others = (subject.strangers() - strangers) / (time.perf_counter() - begin)
        if probe is not None:
            probe.cancel()
        await self._watcher.quiet()
        counts = (await subject.counts()).since(before)
        subject.check()
        figures.rss = max(figures.rss, subject.rss())
        return tables.Phase(
            wall=times.wall,
            p50=times.p50,
            p99=times.p99,
            cpu_complete=busy,
            stall=stalls.longest if stalls else None,
            seconds=time.perf_counter() - looked,
            strangers=max(0.0, others),
            **asdict(counts),
        )

    async def _play(self, requests: list[Request], *, gone: bool, rate: float | None = None) -> Any:
        names = [one.seen_as for one in requests]
        goal = self._watcher.expect_gone(names) if gone else self._watcher.expect(names)
        return await play(self._api, requests, goal, rate)

    def _names(self, word: str, count: int) -> list[str]:
        """Never the same twice."""
        first = self._serial
        self._serial += count
        return [f"{word}-{number:06}" for number in range(first, first + count)]

    async def _nothing_left(self) -> None:
        """The ports of the measured pods are gone, those from before are there."""
        raw = Raw(self._cluster.nb, bodies.SUBNET)
        await raw.open()
        ports = await raw.select("Logical_Switch_Port", [], ["name"])
        raw.close()
        pods, reserved = (self._plan.full, self._plan.reserved) if self._filled else (0, 0)
        if (len(ports), len(self._watcher.ips), len(self._watcher.pods)) != (pods, reserved + pods, pods):
            raise Wrong(f"left over: {len(ports)} ports, {len(self._watcher.ips)} IPs, {len(self._watcher.pods)} pods")

    async def _start(self) -> None:
        """A cold start, with something new waiting."""
        names = self._names("start", 2)
        subject = self._controller("start")
        goal = self._watcher.expect([bodies.PLACE.ip(names[0]), names[1]])
        requests = [*creations(bodies.PLACE, "reservations", names[:1]), *creations(bodies.PLACE, "pods", names[1:])]
        begin = time.perf_counter()
        async with self._running(subject):
            load = asyncio.create_task(play(self._api, requests, goal))
            ready = time.perf_counter() - begin
            await load
            first = {kind: goal.done[one.seen_as] - begin for kind, one in zip(("ip", "pod"), requests, strict=True)}
            await self._watcher.quiet()
            present = self._plan.full
            one = Start(
                present, self._plan.reserved + present, ready, first["ip"], first["pod"], subject.cpu(), subject.rss()
            )
            self.results.starts.append(one)
            self._say(tables.start_line(one))
            await self._play(deletions(bodies.PLACE, "reservations", names[:1]), gone=True)
            await self._play(deletions(bodies.PLACE, "pods", names[1:]), gone=True)
        await self._nothing_left()


def complain(wrong: Exception) -> None:
    """Say what is wrong, on stderr."""
    for one in wrong.exceptions if isinstance(wrong, ExceptionGroup) else (wrong,):
        print("WRONG:", one, *getattr(one, "__notes__", ()), sep="\n", file=sys.stderr)


async def bench(asked: Plan, results: Results, profiles: Path | None = None) -> None:
    """Carry a plan out on a cluster of its own; the results fill up as it goes."""
    with Cluster.start(controllers=False, kwok_nodes=0) as cluster:
        await Bench(cluster, asked, results, profiles).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 only, empty cluster only")
    parser.add_argument("--only", choices=("reservations", "pods", "start"), default="")
    parser.add_argument("--large", type=int, default=0, metavar="N", help="only cold starts, with N IPs and N ports")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--profile", type=Path, help="sample the controller's CPU time, a file per case in this folder")
    asked = parser.parse_args()
    if asked.profile:
        asked.profile.mkdir(parents=True, exist_ok=True)
    gc.set_threshold(100_000, 20, 50)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too
    results, code = Results(), 0
    profiles = asked.profile.resolve() if asked.profile else None
    try:
        asyncio.run(bench(plan(quick=asked.quick, only=asked.only, large=asked.large), results, profiles))
    except (Wrong, Refused, ExceptionGroup) as wrong:
        complain(wrong)
        code = 1
    except KeyboardInterrupt:
        code = 130
    if asked.json:
        results.machine = {"cores": os.cpu_count(), "load": os.getloadavg(), "python": sys.version.split()[0]}
        asked.json.write_text(json.dumps(asdict(results), indent=1))
    tables.show(results.figures, results.starts, results.rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
