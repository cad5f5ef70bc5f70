"""Start, work, stop: the process from settings to exit code.

Exit codes: 0 after SIGTERM or SIGINT, 2 for wrong settings or no way to the API server, 1 for a bug.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys

import structlog

from controller.ports import PortError, World
from controller.process import dryrun, http, logs, metrics, settings
from controller.reconcilers.controller import Controller
from controller.wire.clock import RealClock
from controller.wire.kube import connect
from controller.wire.northbound import NorthboundWire

log = structlog.get_logger()
_GC = (50_000, 20, 50)  # replicas are long-lived: rarely looked through, they cost little


def cli() -> None:
    """The console script `keepip`."""
    if sys.argv[1:2] == ["sweep"]:
        raise SystemExit(dryrun.cli(sys.argv[2:]))
    if sys.argv[1:2] == ["load"]:
        raise SystemExit(_load(sys.argv[2:]))
    try:
        told = settings.load(sys.argv[1:], os.environ)
    except settings.Invalid as wrong:
        print(wrong, file=sys.stderr)  # noqa: T201 - logs are not set up yet
        raise SystemExit(2) from None
    logs.configure(told.log_level)
    gc.set_threshold(*_GC)
    try:
        raise SystemExit(asyncio.run(main(told)))
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def _load(arguments: list[str]) -> int:
    """The subcommand `load`: a tool with a library of its own, which the controller's image has not."""
    try:
        from controller.load.cli import cli as load  # noqa: PLC0415 - see above
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"{missing}: keepip load comes with the extra of that name, keepip[load]\n")
        return 2
    return load(arguments)


async def main(told: settings.Settings) -> int:
    """Run until a signal, and give back what we hold; returns the exit code."""
    wires = metrics.Wires()
    try:
        limit, quiet = told.tuning.request_limit_s, told.tuning.watch_silence_s
        kube = await connect(told.kubeconfig, timeout=limit, observe=wires.request, quiet=quiet)
    except PortError as why:
        log.error("no way to the API server", error=str(why))  # noqa: TRY400 - no bug, so no trace
        return 2
    manages = not told.tuning.observes
    northbound = NorthboundWire(
        ",".join(told.nb), tls=told.tls, writes=manages, observe=wires.transaction, tell=logs.northbound
    )
    await northbound.start()
    controller = Controller(World(kube, northbound, RealClock()), told.tuning)
    page = metrics.Page(controller, wires, northbound, told.tuning.mode)

    def unready() -> list[str]:
        return readiness(controller, northbound)

    runner, port = await http.serve(told.http_host, told.http_port, page.text, unready)
    log.info("started", port=port, identity=told.tuning.identity, mode=told.tuning.mode)
    feeling = asyncio.create_task(wires.feel(), name="feel")
    try:
        await _until_signal(controller, told.tuning.drain_s)
    finally:
        feeling.cancel()
        await runner.cleanup()
        await northbound.close()
        await kube.close()
    log.info("stopped")
    return 0


def readiness(controller: Controller, northbound: NorthboundWire) -> list[str]:
    """Why the process cannot do its work now; empty when it can."""
    troubles = f": {northbound.troubles}" if northbound.troubles else ""
    reasons = [] if northbound.connected else [f"northbound not connected{troubles}"]
    return controller.troubles() + reasons


async def _until_signal(controller: Controller, drain_s: float) -> None:
    """First signal: finish what is under way. Second signal, or the time is up: drop it."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(controller.run(), name="controller")
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    first = asyncio.create_task(signals.get())
    await asyncio.wait({work, first}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        log.info("stopping")
        controller.stop()
        second = asyncio.create_task(signals.get())
        await asyncio.wait({work, second}, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        second.cancel()
    first.cancel()
    work.cancel()
    try:
        await work
    except asyncio.CancelledError:
        log.warning("stopped with work under way")
