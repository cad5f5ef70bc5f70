"""`make churn`: changes at a steady rate on a full cluster, made by the load tool, first to the floor, then to keepip.

The same servers, the same objects beside, the same changes: what the floor (floor.py) cannot do, nobody can here.

    python -m tests.load.churn [--present N] [--rate N] [--seconds N] [--floor-seconds N]

It fails only when something is wrong: a change that never comes true, an address given twice, something left over.
"""

import argparse
import asyncio
import gc
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from controller.load import results
from controller.load.client import Api, Refused
from controller.load.run import Plan as Changes
from controller.load.run import Run
from controller.load.scrape import Scraper
from controller.load.screen import Show
from controller.load.watching import Wrong
from tests.cluster.cluster import Cluster
from tests.load import bench, bodies
from tests.load.subjects import ControllerProcess, FloorProcess, Subject

AIM_P99 = 1.0
_MOVING = 500  # at most so many reservations and pods are there to be deleted when the churn begins
_LOOK_S = 1.0


@dataclass
class Outcome:
    """One subject's; times in seconds, memory in MB."""

    subject: str
    created: results.Phase
    deleted: results.Phase
    cores: float
    rss: list[float]

    @property
    def memory(self) -> tuple[float, float, float]:
        """At the begin, in the middle and at the end, the median of a tenth of all looks each."""
        tenth, middle = max(1, len(self.rss) // 10), len(self.rss) // 2
        parts = (self.rss[:tenth], self.rss[middle : middle + tenth], self.rss[-tenth:])
        first, half, last = (statistics.median(one) for one in parts)
        return first, half, last


class _Deaf(Scraper):
    """The floor tells nothing."""

    async def look(self, begin: float) -> None:
        """Nothing."""


class Churn(bench.Bench):
    """So many changes a second for so long, for each subject."""

    def __init__(self, cluster: Cluster, present: int, rate: float, seconds: dict[str, float]) -> None:
        asked = bench.Plan([], full=present, reserved=present)
        super().__init__(cluster, asked, bench.Results(), None)
        self._rate, self._seconds = rate, seconds
        self.outcomes: list[Outcome] = []

    async def run(self) -> None:
        """Everything; raises Wrong."""
        async with Api(self._cluster.kubeconfig) as api:
            self._api = api
            await self._prepare()
            async with self._watching():
                await self._fill()
                for subject in (FloorProcess(self._cluster), ControllerProcess(self._cluster)):
                    async with self._running(subject):
                        self.outcomes.append(await self._changes(subject))
                        await self._watcher.quiet()
                    await self._nothing_left()

    async def _changes(self, subject: Subject) -> Outcome:
        seconds = self._seconds[subject.name]
        moving = min(_MOVING, self._plan.full)
        changes = Changes(moving, moving, churn=self._rate, seconds=seconds, own_namespace=False, own_subnet=False)
        result = results.Result(subject.name, results.now(), results.machine(), {})
        page = [f"http://127.0.0.1:{subject.port}/metrics"] if isinstance(subject, ControllerProcess) else []
        scraper = Scraper(self._api, page) if page else _Deaf(self._api)
        self._say(f"{subject.name}: {self._rate:g} changes a second for {seconds:g} s")
        try:
            async with _sampling(subject) as rss:
                begin, cpu = time.perf_counter(), subject.cpu()
                await Run(self._api, bodies.PLACE, changes, scraper, Show(), result).play()
                cores = (subject.cpu() - cpu) / (time.perf_counter() - begin)
        finally:
            await scraper.close()
        created, deleted = (one for one in result.phases if one.name.startswith("churn"))
        if failed := sum(one.failed for one in result.phases):
            raise Wrong(f"{failed} changes failed: {result.facts['requests refused']}")
        return Outcome(subject.name, created, deleted, cores, rss)


@asynccontextmanager
async def _sampling(subject: Subject) -> AsyncIterator[list[float]]:
    found = [subject.rss()]

    async def look() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            found.append(subject.rss())

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()


def line(one: Outcome) -> str:
    """In one line."""
    parts = [
        f"{what} {phase.rate:.1f}/s p50 {phase.p50 * 1e3:.0f} p99 {phase.p99 * 1e3:.0f} ms"
        for what, phase in (("created", one.created), ("deleted", one.deleted))
    ]
    first, half, last = one.memory
    memory = f"{first:.0f}, {half:.0f}, {last:.0f} MB at the begin, halfway and at the end"
    return f"{one.subject:<10}  {'  '.join(parts)}  {one.cores:.2f} cores  {memory}"


async def churn(present: int, rate: float, seconds: dict[str, float]) -> list[Outcome]:
    """On a cluster of its own."""
    with Cluster.start(controllers=False, kwok_nodes=0) as cluster:
        run = Churn(cluster, present, rate, seconds)
        await run.run()
        return run.outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.churn", description=__doc__.splitlines()[0])
    parser.add_argument("--present", type=int, default=5000, metavar="N", help="so many reservations and so many pods")
    parser.add_argument("--rate", type=float, default=100.0, metavar="N", help="changes a second")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="N", help="for keepip")
    parser.add_argument("--floor-seconds", type=float, default=60.0, metavar="N", help="for the floor")
    asked = parser.parse_args()
    gc.set_threshold(100_000, 20, 50)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too
    seconds = {FloorProcess.name: asked.floor_seconds, ControllerProcess.name: asked.seconds}
    try:
        floor, ours = asyncio.run(churn(asked.present, asked.rate, seconds))
    except (Wrong, Refused, ExceptionGroup) as wrong:
        bench.complain(wrong)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{asked.rate:g} changes a second, {asked.present} reservations and {asked.present} pods beside them")
    for one in (floor, ours):
        print("  " + line(one))
    p99 = max(ours.created.p99, ours.deleted.p99)
    print(f"  {'met   ' if p99 <= AIM_P99 else 'MISSED'}  p99 <= {AIM_P99:g} s: {p99:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
