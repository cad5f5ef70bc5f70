"""Drive a watch machine into a replica: list, watch, resume, list again (machines/watch.py says when)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from controller.core.objects import OPTIONAL
from controller.machines import watch
from controller.ports import Gone, NotFound, PortError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from controller.core.objects import Kind
    from controller.ports import Change, Clock, Kube, Rows, World

    News: TypeAlias = watch.Swap[Any] | watch.Apply[Change] | watch.Absent
    Tell: TypeAlias = Callable[[News], None]

    Begin: TypeAlias = watch.Step[Any, Change]

_TRIES: Final = 2  # brief watches of which one should bring a bookmark: a busy server sends it too late once


async def catch_up(kube: Kube, clock: Clock, kind: Kind, since: int, tell: Tell, caught: Callable[[], None]) -> Begin:
    """Tell what came after `since`; call `caught` when all is told that was written before this call.

    Answers where to go on from: a list, if the server did not tell that it has told all. What is quiet has no event
    to tell it; a bookmark does, and the server sends one before it ends a brief watch.
    """
    state: watch.State[Any] = watch.Empty()
    try:
        wanted = await kube.latest(kind)
        for _ in range(_TRIES):
            if since >= wanted:
                break
            async for batch in kube.watch(kind, since, brief=True):
                tell(watch.Apply(batch))
                since = max(since, batch[-1].version)
                if since >= wanted:
                    state = watch.Watching(since)
                    caught()
    except PortError as error:
        return watch.step(state, _fault(kind, error), clock.jitter())
    if since < wanted:
        return watch.start()
    caught()
    return watch.resume(since)


async def reflect(kube: Kube, clock: Clock, kind: Kind, tell: Tell, begin: Begin) -> None:
    """Keep telling what the server holds of that kind, until cancelled."""
    step = begin
    while True:
        if step.tell is not None:
            tell(step.tell)
        match step.next:
            case watch.AskPage(token):
                step = watch.step(step.state, await _page(kube, kind, token), clock.jitter())
            case watch.AskWatch(version):
                step = await _stream(kube, clock, kind, version, step, tell)
            case watch.Wait(seconds):
                await clock.sleep(seconds)
                step = watch.step(step.state, watch.Rested(), clock.jitter())
            case None:
                msg = "read on without a stream"
                raise AssertionError(msg)


def _fault(kind: Kind, error: PortError) -> watch.Expired | watch.Failed | watch.Unserved:
    if isinstance(error, Gone):
        return watch.Expired()
    if isinstance(error, NotFound) and kind in OPTIONAL:
        return watch.Unserved()
    return watch.Failed(error.retry_after if isinstance(error, Unavailable) else None)


async def _page(kube: Kube, kind: Kind, token: str) -> watch.Input[Any, Change]:
    try:
        page = await kube.list(kind, token)
    except PortError as error:
        return _fault(kind, error)
    return watch.PageArrived(page.objects, page.version, page.token)


async def _stream(
    kube: Kube,
    clock: Clock,
    kind: Kind,
    version: int,
    step: watch.Step[Any, Change],
    tell: Tell,
) -> watch.Step[Any, Change]:
    """Read one stream to its end; the step that ends it says how to go on."""
    try:
        async for batch in kube.watch(kind, version):
            step = watch.step(step.state, watch.Batch(batch))
            assert isinstance(step.tell, watch.Apply)  # noqa: S101 - a batch is always told
            tell(step.tell)
    except PortError as error:
        return watch.step(step.state, _fault(kind, error), clock.jitter())
    return watch.step(step.state, watch.Ended(), clock.jitter())


async def mirror(world: World, parts: Callable[[Rows], Iterable[Rows]], tell: Callable[[Rows], None]) -> None:
    """Keep telling what Northbound holds, until cancelled; of what is much, `parts` first, with pauses for others."""
    async for rows in world.northbound.rows():
        for part in parts(rows):
            tell(part)
            await world.clock.sleep(0.0)
        tell(rows)
