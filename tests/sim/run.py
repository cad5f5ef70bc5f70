"""One seed, one universe: chaos, then calm, then silence.

python -m tests.sim.run --seeds 50 [--first N] [--jobs 2]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from controller.core.objects import Kind
from controller.reconcilers.controller import Controller
from tests.sim import loop, program, stage
from tests.sim.agents import Agents
from tests.sim.checkers import Checkers, Violation
from tests.sim.crew import crew
from tests.sim.narrator import narrate
from tests.sim.pending import Judge
from tests.sim.stewards import Stewards
from tests.sim.traffic import Watchman
from tests.sim.users import Users
from tests.sim.world import Options, SimWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from controller.reconcilers.audit import Audit


KUBEVIRT: Final = (Kind.VM, Kind.VMI, Kind.MIGRATION)
CHAOS: Final = 320.0
CALM: Final = 300.0
DRAIN: Final = 1.3 * program.RESYNC  # what only a resync tells is told by then
SILENCE: Final = 1800.0


class Program(Protocol):
    """What is simulated: one life of a controller."""

    async def run(self) -> None:
        """Run until stopped or cancelled."""
        ...

    def stop(self) -> None:
        """Ask it to end by itself."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a universe."""

    seed: int
    digest: str
    writes: int
    lives: int
    virtual: float
    steps: int


class Life:
    """A controller that runs: its task, and the process that its servers know it as."""

    def __init__(self, universe: SimWorld, checkers: Checkers, main: Callable[..., Program]) -> None:
        self._universe = universe
        self.name = f"controller-{len(universe.processes)}"
        world, self.process = universe.connect(self.name)
        checkers.born[self.name] = universe.now()
        self._program = main(world, self.name, universe)
        self.task = asyncio.create_task(self._program.run())

    @property
    def audit(self) -> Audit | None:
        """What its last pass counted."""
        return self._program.sweeper.audit if isinstance(self._program, Controller) else None

    def check(self) -> None:
        """A controller never ends by itself."""
        if self.task.done():
            self.task.result()
            raise Violation(f"{self.name} ended by itself")

    async def crash(self) -> None:
        """Kill it at this very await: what was sent is sent, nothing more will be."""
        self.process.dead = True
        await self._end()

    async def crash_asking(self) -> None:
        """Kill it when it has just asked Northbound for something, or in 30 seconds."""
        self.process.asking.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                await self.process.asking.wait()
        await self.crash()

    async def leave(self, rng: Random) -> None:
        """Ask it to go, as a rolling update does, and kill it if it has not gone in 30 seconds."""
        self._program.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.choice((1, 30, 30))):
                await asyncio.shield(self.task)
        await self.crash()

    async def _end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class Universe:
    """One run of one seed."""

    def __init__(self, seed: int, main: Callable[..., Program], options: Options) -> None:
        self.world = SimWorld(seed, options)
        self._main, self._rng = main, self.world.users_rng
        self.checkers = Checkers(self.world)
        self.watchman = Watchman(self.world)
        self.judge = Judge(self.world, self.checkers.book, self.watchman)
        early = tuple(self._rng.sample(sorted(stage.SUBNETS), self._rng.randint(2, 5)))
        stage.set_up(self.world.store, early)
        self._agents = Agents(self.world)
        self._users = Users(self.world)
        self._stewards = asyncio.create_task(Stewards(self.world).live())
        if self.world.options.kubevirt == "always":
            self.world.store.serve(*KUBEVIRT)
        self._lives: list[Life] = []
        self.born = 0

    def _be_born(self) -> None:
        self.born += 1
        self._lives.append(Life(self.world, self.checkers, self._main))

    async def run(self) -> Outcome:
        """Chaos, calm, silence; ends at the first violation."""
        story = asyncio.create_task(self._story())
        await asyncio.wait({story, self.world.failed}, return_when=asyncio.FIRST_COMPLETED)
        if self.world.failed.done():
            self.world.failed.result()
        story.result()
        running: loop.SimLoop = asyncio.get_running_loop()  # type: ignore[assignment]
        return Outcome(
            self.world.seed, self.world.digest(), self.world.writes, self.born, self.world.now(),
            loop.STEPS - running.steps_left,
        )  # fmt: skip

    async def _story(self) -> None:
        for _ in range(2 if self.world.options.standby else 1):
            self._be_born()
        await self._chaos()
        self.world.calm()
        self._users.settle()
        await self._converge()
        await asyncio.sleep(DRAIN)
        self._must_be_done("after the calm")
        await self._silence()
        self._nothing_of_nobody()
        if self.watchman.nuisance:
            raise Violation(self.watchman.nuisance)
        for life in self._lives:
            await life.crash()
        self._stewards.cancel()

    async def _serve_late(self) -> None:
        await asyncio.sleep(CHAOS * self._rng.random())
        self.world.store.serve(*KUBEVIRT)

    async def _chaos(self) -> None:
        busy = [asyncio.create_task(self._users.live()), asyncio.create_task(self.world.weather())]
        late = asyncio.create_task(self._serve_late()) if self.world.options.kubevirt == "late" else None
        try:
            while self.world.now() < CHAOS:
                await asyncio.sleep(self._rng.expovariate(1 / 30))
                self._check(busy)
                if self.world.options.crashes:
                    await self._replace_a_life()
        finally:
            for task in (*busy, *filter(None, [late])):
                task.cancel()

    def _check(self, busy: list[asyncio.Task[None]]) -> None:
        for life in self._lives:
            life.check()
        for task in busy:
            if task.done():
                task.result()

    async def _replace_a_life(self) -> None:
        life = self._lives.pop(self._rng.randrange(len(self._lives)))
        dice = self._rng.random()
        if dice < 0.3:
            await life.leave(self._rng)
        elif dice < 0.6:
            await life.crash_asking()
        else:
            await life.crash()
        await asyncio.sleep(self._rng.choice((0, self._rng.uniform(0, 25))))
        self._be_born()

    async def _converge(self) -> None:
        deadline, why = self.world.now() + CALM, self.judge.pending()
        while why is not None:
            self._check([])
            if self.world.now() > deadline:
                raise Violation(f"did not converge: {why}")
            await asyncio.sleep(2)
            why = self.judge.pending()

    def _nothing_of_nobody(self) -> None:
        """At rest the audit counts nothing (contract §7)."""
        for life in self._lives:
            audit = life.audit
            if audit is not None and not audit.clean:
                raise Violation(f"{life.name} counts at rest: {audit}")

    def _must_be_done(self, when: str) -> None:
        why = self.judge.pending()
        if why is not None:
            raise Violation(f"{when}: {why}")

    async def _silence(self) -> None:
        writes, asked, read = self.world.writes, self.watchman.writes, self.watchman.reads
        await asyncio.sleep(SILENCE)
        self._check([])
        if self.watchman.writes != asked or self.world.writes != writes:
            raise Violation(f"{self.watchman.writes - asked} writes were sent at the fixed point: {self.watchman.last}")
        if self.watchman.reads != read:
            raise Violation(f"{self.watchman.reads - read} reads at the fixed point")
        self._must_be_done("after the silence")


def simulate(
    seed: int,
    main: Callable[..., Program] = program.controller,
    options: Options | None = None,
    trace: str | None = None,
) -> Outcome:
    """Run the universe of that seed; raises AssertionError with a sentence if a promise was broken."""

    async def whole() -> Outcome:
        universe = Universe(seed, main, options or Options.chosen(seed))
        if trace is not None:
            narrate(universe.world, trace)
        return await universe.run()

    with program.quiet():
        try:
            return loop.run(whole())
        except BaseExceptionGroup as group:
            raise _innermost(group) from group


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group.subgroup(AssertionError) or group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def attempt(seed: int, otherwise: dict[str, Any] | None = None) -> tuple[int, Outcome | None, str]:
    """Simulate, and catch what it says: for workers in other processes. `otherwise`: options that are not as chosen."""
    try:
        return seed, simulate(seed, options=replace(Options.chosen(seed), **(otherwise or {}))), ""
    except Exception as error:  # noqa: BLE001 - whatever ends a universe is its verdict
        return seed, None, f"{type(error).__name__}: {error}"


def attempts(seeds: range, jobs: int) -> Iterator[tuple[int, Outcome | None, str]]:
    """Simulate many, on several cores, in order."""
    if jobs == 1:
        yield from map(attempt, seeds)
        return
    with crew(jobs) as pool:
        yield from pool.map(attempt, seeds, chunksize=1)


def _trace(seed: int, text: str) -> int:
    """Tell the story of one universe, as far as the text concerns it."""
    try:
        print(simulate(seed, trace=text))
    except Exception as error:  # noqa: BLE001 - whatever ends a universe is its verdict
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--trace", metavar="TEXT", help="print every request and commit whose text has this; one seed")
    parser.add_argument("--width", type=int, default=400, help="characters of a sentence that are shown")
    asked = parser.parse_args()
    if asked.trace is not None:
        return _trace(asked.first, asked.trace)
    started, failed, writes, virtual = time.perf_counter(), 0, 0, 0.0
    for seed, outcome, why in attempts(range(asked.first, asked.first + asked.seeds), asked.jobs):
        if outcome is None:
            failed += 1
            print(f"seed {seed}: {why[: asked.width]}", flush=True)
        else:
            writes, virtual = writes + outcome.writes, virtual + outcome.virtual
        done = seed - asked.first + 1
        if done % 25 == 0:
            print(f"... {done} universes, {failed} failed, {time.perf_counter() - started:.0f} s", flush=True)
    took = time.perf_counter() - started
    hours = virtual / 3600
    print(f"{asked.seeds} universes, {failed} failed, {took:.1f} s, {hours:.0f} virtual hours, {writes} writes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
