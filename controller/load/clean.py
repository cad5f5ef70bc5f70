"""Everything with our label goes, and nothing else: pods, reservations, then the namespaces and subnets of runs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from controller.load.client import IPS, NAMESPACES, SUBNETS, Refused
from controller.load.objects import AT_ONCE, LABEL
from controller.load.traffic import at_once
from controller.load.watching import STUCK_S, Wrong

if TYPE_CHECKING:
    from controller.load.client import Api, Seen
    from controller.load.screen import Show

_EVERY_POD: Final = "/api/v1/pods"
_FLIGHT: Final = 64
_PAUSE_S: Final = 0.5


async def clean(api: Api, show: Show, run: str = "") -> int:
    """Delete what this run has made, or every run; returns how many, when all of it is gone; raises Wrong if it stays.

    Subnets go last: one that is gone proves that no IP and no port of it is left.
    """
    selector = LABEL.replace("/", "%2F") + (f"%3D{run}" if run else "")
    count = 0
    for paths in ((_EVERY_POD, IPS), (NAMESPACES,), (SUBNETS,)):
        count += await _until_gone(api, show, paths, selector)
    return count


async def _until_gone(api: Api, show: Show, paths: tuple[str, ...], selector: str) -> int:
    found = await _look(api, paths, selector)
    if not found:
        return 0
    whole, least, changed = len(found), len(found), time.monotonic()
    with show.bar("cleaning up", whole) as advance:
        while found:
            # Deletions are few once all of them have been asked for: only finalizers are waited for then.
            asked = [(path, one) for path, one in found if one.metadata.deletion_timestamp is None]
            await at_once(asked, lambda item: _delete(api, *item), _FLIGHT)
            await asyncio.sleep(_PAUSE_S)
            found = await _look(api, paths, selector)
            advance(max(0, whole - len(found)))
            if len(found) < least:
                least, changed = len(found), time.monotonic()
            elif time.monotonic() > changed + STUCK_S:
                some = ", ".join(f"{path.rpartition('/')[2]}/{one.metadata.name}" for path, one in found[:5])
                raise Wrong(f"{len(found)} objects do not go, among them {some}: does the controller run?")
    return whole


async def _look(api: Api, paths: tuple[str, ...], selector: str) -> list[tuple[str, Seen]]:
    return [(path, one) for path in paths for one in (await api.everything(path, selector))[0]]


async def _delete(api: Api, path: str, one: Seen) -> None:
    meta = one.metadata
    where = f"/api/v1/namespaces/{meta.namespace}/pods" if path == _EVERY_POD else path
    try:
        await api.send("DELETE", f"{where}/{meta.name}", AT_ONCE if path == _EVERY_POD else None)
    except Refused as refused:
        if refused.status != 404:
            raise
