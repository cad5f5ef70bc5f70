"""What a run has found, and the file that keeps it."""

from __future__ import annotations

import math
import os
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from controller.load.scrape import Reading
from controller.load.traffic import part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_BINS: Final = 300
COLUMNS: Final = ("phase", "changes", "failed", "wall", "a second", "p50", "p90", "p99", "longest")


@dataclass(slots=True)
class Change:
    """Something that was asked for; `done` when a watch showed it."""

    series: str  # reservations, pods, deletions
    sent: float
    done: float | None = None


class Phase(msgspec.Struct):
    """A part of a run; times in seconds."""

    name: str
    begin: float
    wall: float
    count: int
    failed: int
    p50: float
    p90: float
    p99: float
    longest: float

    @property
    def rate(self) -> float:
        """Changes that came true a second."""
        return self.count / self.wall if self.wall else 0.0


class Bin(msgspec.Struct):
    """What came true in some seconds."""

    at: float
    rates: dict[str, float]  # a second, by series
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class Result(msgspec.Struct):
    """One run."""

    title: str
    when: str
    machine: str
    settings: dict[str, str]
    phases: list[Phase] = msgspec.field(default_factory=list)
    bins: list[Bin] = msgspec.field(default_factory=list)
    readings: list[Reading] = msgspec.field(default_factory=list)
    facts: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def span(self) -> float:
        """Seconds from the first to the last thing that is known."""
        ends = [one.begin + one.wall for one in self.phases] + [one.at for one in self.readings]
        return max(ends, default=1.0)

    def save(self, path: Path) -> None:
        """Write it to a file."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def load(path: Path) -> Result:
    """Read it from a file; raises ValueError with the reason if it is none of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def phase(name: str, begin: float, changes: Sequence[Change], start: float) -> Phase:
    """The figures of these changes; `begin` is when the phase began and `start` when the run did."""
    done = [one.done for one in changes if one.done is not None]
    waits = sorted(one.done - one.sent for one in changes if one.done is not None)
    wall = max(done, default=begin) - begin
    p50, p90, p99 = (part(waits, share) for share in (0.5, 0.9, 0.99))
    longest = waits[-1] if waits else 0.0
    return Phase(name, begin - start, wall, len(done), len(changes) - len(done), p50, p90, p99, longest)


def bins(changes: Iterable[Change], start: float) -> list[Bin]:
    """Throughput and latency by second, or by so many seconds that a long run has still few enough."""
    finished = [(one.done - start, one.done - one.sent, one.series) for one in changes if one.done is not None]
    if not finished:
        return []
    width = max(1, math.ceil(max(at for at, _, _ in finished) / _BINS))
    slots: dict[int, list[tuple[float, str]]] = {}
    for at, wait, series in finished:
        slots.setdefault(int(at / width), []).append((wait, series))
    names = sorted({series for _, _, series in finished})
    found = []
    for slot in range(max(slots) + 1):
        here = slots.get(slot, [])
        rates = {name: sum(1 for _, series in here if series == name) / width for name in names}
        waits = sorted(wait for wait, _ in here)
        shares = [part(waits, share) if waits else None for share in (0.5, 0.9, 0.99)]
        found.append(Bin((slot + 0.5) * width, rates, *shares))
    return found


def span(seconds: float) -> str:
    """Seconds, in the unit that reads well."""
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"


def cells(one: Phase) -> list[str]:
    """A row of the table."""
    times = (one.p50, one.p90, one.p99, one.longest)
    return [
        one.name,
        f"{one.count:,}",
        f"{one.failed:,}",
        span(one.wall),
        f"{one.rate:,.0f}",
        *(span(value) for value in times),
    ]


def machine() -> str:
    """Where the tool ran: cores and load, no names."""
    cores, busy = os.cpu_count() or 1, os.getloadavg()[0]
    return f"{cores} cores, load average {busy:.1f} at the start, Python {platform.python_version()}"


def now() -> str:
    """The time of day, for a title."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
