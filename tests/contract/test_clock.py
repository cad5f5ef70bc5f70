"""The laws of ports.Clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from controller.ports import World
from tests.contract.worlds import Law, Laws, Poke

law = Laws()


@law
async def sleep_takes_as_long_as_it_says(world: World, poke: Poke) -> None:
    before = world.clock.now()
    await world.clock.sleep(0.05)
    assert world.clock.now() - before >= 0.0499
    await world.clock.sleep(0)


@law
async def now_never_goes_back_and_is_the_loops_time(world: World, poke: Poke) -> None:
    times = [world.clock.now() for _ in range(100)]
    assert times == sorted(times)
    assert world.clock.now() == pytest.approx(asyncio.get_running_loop().time(), abs=1.0)


@law
async def wall_is_after_this_was_written(world: World, poke: Poke) -> None:
    assert world.clock.wall() > 1_750_000_000


@law
async def jitter_and_dice_keep_their_ranges_and_vary(world: World, poke: Poke) -> None:
    jitters = [world.clock.jitter() for _ in range(200)]
    assert all(0.8 <= j <= 1.2 for j in jitters)
    assert len(set(jitters)) > 100
    dice = [world.clock.dice() for _ in range(200)]
    assert all(0 <= d < 2**46 for d in dice)
    assert len(set(dice)) == len(dice)


@pytest.mark.parametrize("it", law, ids=lambda law: law.__name__)
def test_clock(obeys: Callable[[Law], None], it: Law) -> None:
    obeys(it)
