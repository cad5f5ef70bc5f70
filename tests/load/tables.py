"""The figures, beside the floor, Kube-OVN's own (peer-measurements.md) and the aims (issue 3)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

# peer-measurements.md: kube-ovn-controller v1.17 (commit 1533681d7), etcd 3.6.7, kube-apiserver 1.36.3, 2 cores;
# its floor, and Kube-OVN with 3 workers (its default) and with 20. Another day, another load of the same machine.
PEERS: Final = {
    "1000 reservations": ("wall 2.8 s", "wall 9.9-12 / 13.9 s"),
    "5000 reservations": ("wall 11.6-15.9 s, p99 0.6-1.4 s", "wall 54-56 / 65 s, p99 48-50 / 57 s"),
    "1000 reservations, full": ("", ""),
    "5000 reservations, full": ("as on an empty one", "wall 85 / 91 s (5,000 pods present)"),
    "600 reservations at 50/s": ("p50 8, p99 18 ms", "p50 66 / 20, p99 904 / 282 ms"),
    "1200 reservations at 100/s": ("p50 9, p99 30 ms", "p50 8800 / 4200, p99 9400 / 6500 ms"),
    "5000 reservations deleted": ("", "wall 60-62 / 66 s"),
    "1000 pods": ("wall 3.4 s", "wall 28-31 / 17 s"),
    "5000 pods": ("wall 19-22 s, p99 4-7.5 s", "wall 311 / 171 s, p99 299 / 159 s"),
    "1000 pods, full": ("300 in about 1 s", "300 in 28.5 s"),
    "5000 pods deleted": ("", "wall 174 s"),
    "per reservation": ("1 write, 0.5 ms CPU", "2 writes, 2.4 / 2.8 ms CPU"),
    "per pod": (
        "2 writes, 0.9 ms CPU, 0.2 transactions",
        "4.6 writes + 1 read + 1 Event, 62 / 37 ms CPU, 4 transactions",
    ),
    "RSS": ("", "237-256 / 267-292 MB at 5,000 + 5,000"),
    "start": ("", "7.5 s to a reservation, 8.0 s to a pod"),
}
AIM_WALL: Final = 1.3
AIM_P99: Final = {50.0: 0.050, 100.0: 0.100}
AIM_CPU: Final = {"reservations": 0.001, "pods": 0.002}
AIM_WRITES: Final = {"reservations": 1, "pods": 2}
AIM_RSS: Final = 160.0
AIM_START: Final = 3.0


@dataclass(frozen=True)
class Case:
    """One load."""

    kind: str
    count: int
    rate: float | None = None
    full: bool = False

    def __str__(self) -> str:
        pace = f" at {self.rate:g}/s" if self.rate else ""
        return f"{self.count} {self.kind}{pace}{', full' if self.full else ''}"


@dataclass
class Phase:
    """Creation or deletion, until complete and until at rest."""

    wall: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    cpu_complete: float = 0.0  # CPU seconds until the last object was complete
    cpu: float = 0.0  # until nothing more was written: status included
    stall: float | None = None
    before_status: int = 0
    writes: int = 0
    subnet_writes: int = 0
    events: int = 0
    reads: int = 0
    transactions: int = 0
    errors: int = 0
    seconds: float = 0.0  # between the two looks at the counters
    strangers: float = 0.0  # cores that were busy with something else, on average


@dataclass
class Figures:
    case: Case
    subject: str
    up: Phase = field(default_factory=Phase)
    down: Phase = field(default_factory=Phase)
    rss: float = 0.0


@dataclass(frozen=True)
class Start:
    """Seconds since the process was started."""

    present: int  # pods, and their ports
    ips: int
    ready: float
    reservation: float
    pod: float
    cpu: float
    rss: float


def line(one: Figures) -> str:
    """A case in one line, as it ends."""
    up, down, n = one.up, one.down, one.case.count
    return (
        f"{one.case!s:<34} {one.subject:<10} {_span(up.wall):>7}  p50 {_span(up.p50):>7}  p99 {_span(up.p99):>7}  "
        f"{up.cpu / n * 1e3:5.2f} ms CPU each  {one.rss:4.0f} MB  "
        f"deleted in {_span(down.wall):>7}  others: {up.strangers:.1f} cores"
    )


def start_line(one: Start) -> str:
    return (
        f"start with {one.present} pods and {one.ips} IPs: ready {one.ready:.2f} s, first reservation "
        f"{one.reservation:.2f} s, first pod {one.pod:.2f} s, {one.cpu:.2f} s CPU, {one.rss:.0f} MB"
    )


def show(figures: list[Figures], starts: list[Start], rest: list[str]) -> None:
    """Print everything."""
    pairs = _pairs(figures)
    _speed(pairs)
    _deletion(pairs)
    _cost(pairs)
    if starts:
        print("\nCold start")
        for one in starts:
            print("  " + start_line(one))
        print(f"  Kube-OVN: {PEERS['start'][1]}")
    for text in rest:
        print(f"\nAt rest {text}; no writes")
    print("\nAims of issue 3")
    for name, met, text in aims(pairs, starts):
        print(f"  {'met   ' if met else 'MISSED'}  {name:<52} {text}")


Pair = tuple[Figures, Figures]


def _pairs(figures: list[Figures]) -> list[Pair]:
    """Floor and controller of the same case."""
    floors = [one for one in figures if one.subject == "floor"]
    return list(zip(floors, [one for one in figures if one.subject != "floor"], strict=False))


def _speed(pairs: list[Pair]) -> None:
    rows = [["created", "floor wall", "p50", "p99", "keepip wall", "p50", "p99", "wall ratio", "even", "others"]]
    rows[0].append("Kube-OVN w=3 / w=20")
    for floor, ours in pairs:
        a, b = floor.up, ours.up
        times = [_span(value) for value in (a.wall, a.p50, a.p99, b.wall, b.p50, b.p99)]
        ratio = f"{b.wall / a.wall:.2f}" if floor.case.rate is None else f"p99 {b.p99 / a.p99:.1f}"
        others = f"{a.strangers:.1f}/{b.strangers:.1f}"
        even = f"{_left(b) / _left(a):.2f}" if floor.case.rate is None and _left(a) > 0 else ""
        rows.append([str(floor.case), *times, ratio, even, others, PEERS.get(str(floor.case), ("", ""))[1]])
    _table("From the create being sent to the object being complete, as a watcher sees it", rows)
    print("  others: cores that were busy with other things while the floor and while keepip was measured")
    print("  even: the ratio of wall times cores that were left, for a machine that others use too")


def _left(phase: Phase) -> float:
    """Core-seconds that the bench and its servers could have."""
    return phase.wall * ((os.cpu_count() or 1) - phase.strangers)


def _deletion(pairs: list[Pair]) -> None:
    rows = [["deleted", "floor wall", "p99", "keepip wall", "p99", "wall ratio", "Kube-OVN w=3 / w=20"]]
    for floor, ours in pairs:
        if floor.case.rate is None:
            a, b = floor.down, ours.down
            times = [_span(value) for value in (a.wall, a.p99, b.wall, b.p99)]
            peer = PEERS.get(f"{floor.case.count} {floor.case.kind} deleted", ("", ""))[1]
            rows.append([str(floor.case), *times, f"{b.wall / a.wall:.2f}", "" if floor.case.full else peer])
    _table("From the delete being sent to the IP object being gone", rows)


def _cost(pairs: list[Pair]) -> None:
    head = [
        "per object",
        "writes",
        "+status",
        "events",
        "reads",
        "NB txns",
        "CPU ms",
        "+status",
        "floor CPU",
        "deleted",
    ]
    rows = [[*head, "refused", "stall", "RSS", "floor RSS"]]
    for floor, ours in pairs:
        n, b = ours.case.count, ours.up
        each = [f"{value / n:.3f}" for value in (b.before_status, b.writes, b.events, b.reads, b.transactions)]
        cpu = [f"{value / n * 1e3:.2f}" for value in (b.cpu_complete, b.cpu, floor.up.cpu, ours.down.cpu)]
        stall = max((p.stall for p in (ours.up, ours.down) if p.stall is not None), default=None)
        rest = [str(b.errors + ours.down.errors), "-" if stall is None else _span(stall)]
        rows.append([str(ours.case), *each, *cpu, *rest, f"{ours.rss:.0f} MB", f"{floor.rss:.0f} MB"])
    _table("What it costs (CPU until complete, and until at rest with the status written)", rows)
    for name in ("per reservation", "per pod", "RSS"):
        print(f"  Kube-OVN {name}: {PEERS[name][1]}" + (f"; floor then: {PEERS[name][0]}" if PEERS[name][0] else ""))


def aims(pairs: list[Pair], starts: list[Start]) -> Iterable[tuple[str, bool, str]]:
    """What the issue asks for, whether it is so, and the figures."""
    for floor, ours in pairs:
        case, up = ours.case, ours.up
        if case.rate is None:
            ratio = up.wall / floor.up.wall
            even = f" ({_left(up) / _left(floor.up):.2f} even)" if _left(floor.up) > 0 else ""
            yield f"{case}: wall <= {AIM_WALL} x floor", ratio <= AIM_WALL, f"{ratio:.2f}{even}"
            writes = up.before_status / case.count
            wanted = AIM_WRITES[case.kind]
            yield f"{case}: {wanted} write(s) before status", round(writes, 2) <= wanted, f"{writes:.3f}"
            cpu, aim = up.cpu / case.count, AIM_CPU[case.kind]
            yield f"{case}: CPU <= {aim * 1e3:g} ms each", cpu <= aim, f"{cpu * 1e3:.2f} ms"
        elif case.rate in AIM_P99:
            aim = AIM_P99[case.rate]
            text = f"{_span(up.p99)} (floor {_span(floor.up.p99)})"
            yield f"{case}: p99 <= {aim * 1e3:g} ms", up.p99 <= aim, text
    full = [ours.rss for _, ours in pairs if ours.case.full]
    if full or starts:
        rss = max([*full, *(one.rss for one in starts)])
        yield f"RSS <= {AIM_RSS:g} MB, full, at its highest", rss <= AIM_RSS, f"{rss:.0f} MB"
    if starts:
        for name in ("ready", "reservation", "pod"):
            middle = sorted(getattr(one, name) for one in starts)[len(starts) // 2]
            yield f"start: {name} <= {AIM_START:g} s", middle <= AIM_START, f"{middle:.2f} s (median)"


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"


def _table(title: str, rows: list[list[str]]) -> None:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())
