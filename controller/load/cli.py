"""`keepip load`: what was asked for, and the exit code.

0: all of it came true and is gone again. 1: something did not, or stays. 2: it could not begin. 130 and 143: stopped
by SIGINT or SIGTERM and cleaned up; a second signal leaves at once, and says how to clean up later.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.load import report, results
from controller.load.clean import clean
from controller.load.client import Api, Refused
from controller.load.objects import NAME, Place
from controller.load.run import Plan, Run
from controller.load.scrape import Scraper
from controller.load.screen import Show
from controller.load.watching import Wrong
from controller.ports import PortError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_D: Final = Plan()
_CIDR: Final = "100.96.0.0/14"
_GC: Final = (100_000, 20, 50)
_CLEAN: Final = "what is left goes with: keepip load --clean"


def parser() -> argparse.ArgumentParser:
    """Every flag."""
    made = argparse.ArgumentParser(prog="keepip load", description="Load on a cluster that keepip manages")
    many = made.add_argument_group("how much")
    many.add_argument("--reservations", type=_count, default=_D.reservations, metavar="N", help="default %(default)s")
    many.add_argument("--pods", type=_count, default=_D.pods, metavar="M", help="default %(default)s")
    many.add_argument("--rate", type=_number, default=_D.rate, metavar="R", help="creations a second; 0: all at once")
    many.add_argument("--flight", type=_count, default=_D.flight, help="requests at once when there is no rate")
    many.add_argument("--churn", type=_number, default=_D.churn, metavar="C", help="changes a second, default 50")
    many.add_argument("--seconds", type=_number, default=_D.seconds, metavar="S", help="of churn, default 60")
    where = made.add_argument_group("where")
    where.add_argument("--kubeconfig", type=Path, help="default: in-cluster, else $KUBECONFIG or ~/.kube/config")
    where.add_argument("--metrics", action="append", default=[], metavar="URL", help="/metrics of each replica")
    where.add_argument("--cidr", type=_cidr, default=_CIDR, help="of the run's own subnet, default %(default)s")
    where.add_argument("--subnet", default="", help="use this one instead")
    where.add_argument("--namespace", default="", help="use this one instead of one of the run's own")
    where.add_argument("--node", default="", help="of the pods; without one they stay pending, and wait 2 s for it")
    what = made.add_argument_group("what becomes of it")
    what.add_argument("--out", type=Path, default=Path("keepip-load"), metavar="NAME", help="NAME.html and NAME.json")
    what.add_argument("--title", default="keepip load", help="of the page")
    what.add_argument("--keep", action="store_true", help="leave the objects there")
    what.add_argument("--clean", action="store_true", help="only delete what runs have left, all of them")
    what.add_argument("--compare", type=Path, nargs=2, metavar="JSON", help="only put two runs side by side")
    return made


def cli(arguments: Sequence[str]) -> int:
    """The subcommand; returns the exit code."""
    asked = parser().parse_args(arguments)
    show = Show()
    try:
        if asked.compare:
            return _compare(asked, show)
        gc.set_threshold(*_GC)
        return asyncio.run(_clean(asked, show) if asked.clean else _load(asked, show))
    except (ValueError, PortError) as why:
        return _complain(str(why), 2)
    except (Wrong, Refused) as why:
        return _complain(str(why), 1)
    except ExceptionGroup as group:
        return _complain("; ".join(str(one) for one in group.exceptions), 1)


def _compare(asked: argparse.Namespace, show: Show) -> int:
    pair = [results.load(path) for path in asked.compare]
    show.table(pair)
    page = asked.out.with_name(f"{asked.out.name}.html")
    page.write_text(report.page(pair))
    show.say(f"page: {page}")
    return 0


async def _clean(asked: argparse.Namespace, show: Show) -> int:
    async with Api(asked.kubeconfig) as api:
        show.say(f"{await clean(api, show)} objects deleted")
    return 0


async def _load(asked: argparse.Namespace, show: Show) -> int:
    plan, place = _plan(asked), _place(asked)
    keys = ("reservations", "pods", "rate", "flight", "churn", "seconds")
    settings = {key: f"{getattr(plan, key):,g}" for key in keys}
    result = results.Result(asked.title, results.now(), results.machine(), settings)
    async with Api(asked.kubeconfig) as api:
        scraper = Scraper(api, asked.metrics)
        run = Run(api, place, plan, scraper, show, result)
        try:
            code = await _until_signal(run.play, lambda: _leave(api, show, run, place, plan), show)
        finally:
            await scraper.close()
    if code in {130, 143}:
        return code
    result.save(asked.out.with_name(f"{asked.out.name}.json"))
    page = asked.out.with_name(f"{asked.out.name}.html")
    page.write_text(report.page([result]))
    show.table([result])
    show.say(f"page: {page}")
    return 1 if any(one.failed for one in result.phases) else code


async def _leave(api: Api, show: Show, run: Run, place: Place, plan: Plan) -> None:
    await run.settle()
    if plan.keep:
        show.say(f"everything is kept; {_CLEAN}")
    else:
        await clean(api, show, place.run)


async def _until_signal(
    work: Callable[[], Coroutine[object, object, None]],
    leave: Callable[[], Coroutine[object, object, None]],
    show: Show,
) -> int:
    """Do the work and leave, also if it fails or a signal ends it; a second signal ends the leaving, too."""
    got: list[int] = []
    now = [asyncio.create_task(work())]

    def stop(number: int) -> None:
        got.append(number)
        now[0].cancel()
        show.say("cleaning up; once more to leave at once" if len(got) == 1 else _CLEAN)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await asyncio.wait(now)
        first, now[0] = now[0], asyncio.create_task(leave())
        await asyncio.wait(now)
        for task in (first, now[0]):
            with suppress(asyncio.CancelledError):
                task.result()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return 128 + got[0] if got else 0


def _plan(asked: argparse.Namespace) -> Plan:
    if asked.churn and asked.seconds and not asked.reservations + asked.pods:
        raise ValueError("--churn needs --reservations or --pods")
    return Plan(
        asked.reservations,
        asked.pods,
        asked.rate,
        max(1, asked.flight),
        asked.churn,
        asked.seconds,
        asked.cidr,
        own_namespace=not asked.namespace,
        own_subnet=not asked.subnet,
        keep=asked.keep,
    )


def _place(asked: argparse.Namespace) -> Place:
    """A run has a name, so that two of them at once do not take each other's objects away."""
    for name in (asked.namespace, asked.subnet):
        if name and not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a namespace or subnet")
    run = secrets.token_hex(3)
    return Place(asked.namespace or f"load-{run}", asked.subnet or f"load-{run}", run, asked.node)


def _count(text: str) -> int:
    if (value := int(text)) < 0:
        raise ValueError(text)
    return value


def _number(text: str) -> float:
    if not 0 <= (value := float(text)) < float("inf"):
        raise ValueError(text)
    return value


def _cidr(text: str) -> str:
    for one in text.split(","):
        ipaddress.ip_network(one)
    return text


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code
