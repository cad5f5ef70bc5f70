"""Requests at a time: so many under way, or so many a second whatever the answers do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

FLIGHT: Final = 32


async def at_once(
    items: Iterable[Any], send: Callable[[Any], Coroutine[Any, Any, object]], flight: int = FLIGHT
) -> None:
    """With so many under way."""
    rest = iter(items)

    async def work() -> None:
        for one in rest:
            await send(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(flight):
            group.create_task(work())


async def paced(items: Iterable[Any], send: Callable[[Any], Coroutine[Any, Any, object]], rate: float) -> None:
    """So many a second: what is slow to be answered does not slow down what comes after it."""
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(items):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            group.create_task(send(one))


async def play(
    items: Iterable[Any], send: Callable[[Any], Coroutine[Any, Any, object]], rate: float | None, flight: int = FLIGHT
) -> None:
    """At that rate if there is one."""
    await (at_once(items, send, flight) if rate is None else paced(items, send, rate))


def part(ordered: list[float], share: float) -> float:
    """The percentile of sorted values; 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
