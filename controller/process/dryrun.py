"""`keepip sweep --dry-run`: a table of what a sweep would free and why, and what it would not and why.

It reads everything once with a kubeconfig and Northbound's address, and writes nothing. Exit codes: 0, also when there
is something to free; 2 for wrong settings or servers that cannot be read.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from controller.core.decisions.sweep import Limits
from controller.core.naming import SWEEP
from controller.ports import PortError, World
from controller.process import settings
from controller.reconcilers.survey import report, survey
from controller.wire.clock import RealClock
from controller.wire.kube import connect
from controller.wire.northbound import NorthboundWire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from controller.reconcilers.survey import Report

DRY_RUN = "--dry-run"
_HEAD = ("SUBNET", "PORT", "ADDRESSES", "SWEEP", "WHY")


def cli(arguments: Sequence[str]) -> int:
    """The subcommand `sweep`; returns the exit code."""
    if DRY_RUN not in arguments:
        return _complain(f"keepip sweeps by itself; to see what it would do say: keepip sweep {DRY_RUN}")
    try:
        told = settings.load([one for one in arguments if one != DRY_RUN], os.environ)
        found = asyncio.run(_look(told))
    except settings.Invalid as wrong:
        return _complain(str(wrong))
    except (PortError, TimeoutError) as why:
        return _complain(f"cannot be read: {why}")
    sys.stdout.write("".join(f"{line}\n" for line in page(found)))
    return 0


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 2


async def _look(told: settings.Settings) -> Report:
    limit = told.tuning.request_limit_s
    kube = await connect(told.kubeconfig, timeout=limit)
    northbound, clock = NorthboundWire(",".join(told.nb), tls=told.tls, writes=False), RealClock()
    try:
        await northbound.start()
        async with asyncio.timeout(6 * limit):
            picture = await survey(World(kube, northbound, clock))
    finally:
        await northbound.close()
        await kube.close()
    return report(picture, clock, Limits(told.tuning.sweep_share))


def page(found: Report) -> Iterator[str]:
    """The report as lines of text, what would be freed first."""
    freed = [line for line in found.lines if line.frees]
    kept = [line for line in found.lines if not line.frees]
    rows = [(one.subnet, one.port, one.addresses, "free" if one.frees else "keep", one.why) for one in [*freed, *kept]]
    widths = [max(len(row[column]) for row in [_HEAD, *rows]) for column in range(len(_HEAD) - 1)]
    for row in (_HEAD, *rows):
        yield "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]])
    yield ""
    yield f"{len(freed)} to free once they were seen twice, {len(kept)} to keep"
    for stop in found.stopped:
        where = f"subnet {stop.subnet}" if stop.subnet else "no subnet"
        yield (
            f"{where}: {stop.much} of {stop.users} users, more than the {stop.limit} that a sweep frees at once: "
            f"it frees none of them until the Subnet is annotated {SWEEP}=allow"
        )
