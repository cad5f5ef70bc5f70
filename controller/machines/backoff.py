"""How long to wait after a failure, and how often something may be done at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from controller.core.objects import Seconds

_ENOUGH: Final = 64  # doublings after which any base has reached any cap; keeps the power a small number
_EARLY: Final = 1e-6  # a token may be taken this early, so that waiting wait(now) is never a rounding error too short


@dataclass(frozen=True, slots=True)
class Backoff:
    """Each failure in a row doubles the delay, from `base` up to `cap` seconds; who fails counts the failures."""

    base: Seconds = 0.05
    cap: Seconds = 30.0

    def delay(self, failures: int, jitter: float) -> Seconds:
        """Seconds to wait after `failures` earlier failures in a row (0: the first one), times `jitter`."""
        return min(self.cap, self.base * 2.0 ** min(failures, _ENOUGH)) * jitter


class TokenBucket:
    """Never more than `burst` takes at once, and never more than `rate` per second in the long run.

    Kept as one number, the time from which a take is allowed (GCRA): nothing has to be refilled.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._depth = (burst - 1) * self._interval
        self._free_from = float("-inf")

    def take(self, now: Seconds) -> bool:
        """Take one token, or say False and take nothing."""
        if self.wait(now) > 0.0:
            return False
        self._free_from = max(self._free_from, now - self._depth) + self._interval
        return True

    def wait(self, now: Seconds) -> Seconds:
        """Seconds until a take succeeds; 0.0 if it does now."""
        short = self._free_from - now
        return short if short > _EARLY else 0.0
