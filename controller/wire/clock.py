"""Time and chance of the real world."""

from __future__ import annotations

import asyncio
import random
import time

_CHANCE = random.SystemRandom()


class RealClock:
    """ports.Clock on the operating system: monotonic time never jumps, chance cannot be foretold."""

    def now(self) -> float:
        """Monotonic seconds; the event loop's own clock is the same one."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""
        return time.time()

    def jitter(self) -> float:
        """A factor between 0.8 and 1.2."""
        return _CHANCE.uniform(0.8, 1.2)

    def dice(self) -> int:
        """46 random bits."""
        return _CHANCE.getrandbits(46)

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        await asyncio.sleep(seconds)
