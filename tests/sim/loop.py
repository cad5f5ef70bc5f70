"""An asyncio loop without a kernel: time is a number, waiting is an addition, one run is like every other."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

STEPS: Final = 5_000_000
STEPS_AT_ONE_INSTANT: Final = 20_000


class Deadlock(AssertionError):
    """Every task waits and no timer is pending: nothing can ever happen again."""


class Livelock(AssertionError):
    """Work without end: the universe has used up its steps, or time has stopped passing."""


class _NoSelector:
    """Stands where the kernel's selector stands; to wait is to let time pass."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """No file is ever ready; the time asked for has passed."""
        if timeout is None:
            raise Deadlock(f"all tasks wait and no timer is pending at t={self._loop.now:.3f}")
        if timeout > 0:
            self._loop.now += timeout
            self._loop.since_time_passed = 0
        return []

    def close(self) -> None:
        """Nothing to close."""


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set is its number: a TaskGroup cancels in that order, not in that of memory."""

    def __new__(cls, *_args: Any, loop: SimLoop, **_more: Any) -> Self:
        """Number it before anything can put it into a set."""
        task = super().__new__(cls)
        task.number = loop.number()
        return task

    number: int

    def __hash__(self) -> int:
        """The number."""
        return self.number


class SimFuture(asyncio.Future[Any]):
    """A future with a number, as SimTask."""

    def __init__(self, *, loop: SimLoop) -> None:
        self.number = loop.number()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        """The number."""
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """First come, first served like the real loop; only the world's latencies choose the interleaving."""

    def __init__(self, steps: int = STEPS) -> None:
        super().__init__()
        self.now = 0.0
        self.since_time_passed = 0
        self.steps_left = steps
        self.troubles: list[dict[str, Any]] = []
        self._numbers = itertools.count()
        self.set_task_factory(SimLoop._numbered)
        self._clock_resolution = 1e-9
        self._selector = _NoSelector(self)

    def time(self) -> float:
        """The virtual seconds since the universe began."""
        return self.now

    def number(self) -> int:
        """The next number for a task or a future."""
        return next(self._numbers)

    @staticmethod
    def _numbered(loop: Any, work: Any, **more: Any) -> SimTask:
        return SimTask(work, loop=loop, **more)

    def create_future(self) -> asyncio.Future[Any]:
        """A numbered future."""
        return SimFuture(loop=self)

    def note_trouble(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody awaits ends the run; a violation has told the world already."""
        if not isinstance(context.get("exception"), AssertionError):
            self.troubles.append(context)

    def _run_once(self) -> None:
        self.steps_left -= 1
        self.since_time_passed += 1
        if self.steps_left < 0:
            raise Livelock(f"out of steps at t={self.now:.3f}")
        if self.since_time_passed > STEPS_AT_ONE_INSTANT:
            raise Livelock(f"time stands still at t={self.now:.3f}: somebody retries without waiting")
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: list[Any]) -> None:
        """No file was ready."""

    def _write_to_self(self) -> None:
        """No other thread ever wakes this loop."""


def run(main: Coroutine[Any, Any, T], steps: int = STEPS) -> T:
    """Run to the end on a loop of its own and leave no task behind."""
    loop = SimLoop(steps)
    loop.set_exception_handler(loop.note_trouble)
    collecting = gc.isenabled()
    gc.disable()  # a collection may finish generators at a moment that no seed chooses
    try:
        result = loop.run_until_complete(main)
        if loop.troubles:
            raise AssertionError(f"nobody looked at what a task raised: {loop.troubles[0]}")
        return result
    finally:
        _put_away(loop)
        if collecting:
            gc.enable()


def _put_away(loop: SimLoop) -> None:
    loop.steps_left = max(loop.steps_left, 10_000)
    loop.since_time_passed = 0
    loop.set_exception_handler(lambda _loop, _context: None)
    for _ in range(3):
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(Exception, asyncio.CancelledError):
                loop.run_until_complete(asyncio.wait(tasks, timeout=60))
    with contextlib.suppress(Exception):
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
