"""The floor: a process that sees what is created and does the least that any controller must, with no thought.

A reservation: one PATCH. A pod: one Northbound insert (many in one transaction), one IP created, one PATCH of the
pod. A deletion: the port, the IP, its finalizer. 32 requests in flight. It decides nothing, compares nothing, tells
nobody: what is slower than this is the controller's own doing.
"""

import argparse
import asyncio
import gc
import json
import signal
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from controller.core.objects import FINALIZER
from controller.load.client import IPS, MERGE, Api, News, Seen
from controller.load.objects import Json
from tests.load import bodies
from tests.load.nb import Raw

FLIGHT = 32
_FIRST = 128 * 256  # addresses of its own, away from those that were there before


class Floor:
    def __init__(self, api: Api, northbound: Raw) -> None:
        self._api, self._northbound = api, northbound
        self._numbers = count()
        self._flight = asyncio.Semaphore(FLIGHT)
        self._rows: dict[str, str] = {}
        self._known: set[str] = set()
        self.writes = 0

    async def run(self, ready: Path) -> None:
        pods, pods_version = await self._api.everything(bodies.PLACE.pods)
        ips, ips_version = await self._api.everything(IPS)
        self._known = {one.metadata.name for one in (*pods, *ips)}
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._follow(IPS, ips_version))
            group.create_task(self._follow(bodies.PLACE.pods, pods_version))
            group.create_task(self._count(ready))

    async def _follow(self, path: str, version: str) -> None:
        see = self._see_pod if path == bodies.PLACE.pods else self._see_ip
        async for news in self._api.watch(path, version):
            for one in news:
                see(one)

    def _see_ip(self, news: News) -> None:
        one = news.object
        meta = one.metadata
        if news.type == "DELETED" or meta.name in self._known:
            return
        if meta.deletion_timestamp and meta.finalizers:
            self._start(self._finish(one))
        elif news.type == "ADDED" and not meta.finalizers:
            self._start(self._grant(one))

    def _see_pod(self, news: News) -> None:
        if news.object.metadata.name in self._known:
            return
        if news.type == "ADDED":
            self._start(self._serve(news.object))
        elif news.type == "DELETED":
            self._start(self._release(news.object))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._group.create_task(work)

    async def _write(self, method: str, path: str, body: Json, content_type: str = MERGE) -> None:
        async with self._flight:
            self.writes += 1
            await self._api.send(method, path, body, content_type)

    async def _grant(self, ip: Seen) -> None:
        body = bodies.grant(ip.metadata.resource_version, self._number())
        await self._write("PATCH", f"{IPS}/{ip.metadata.name}", body)

    async def _finish(self, ip: Seen) -> None:
        body = {"metadata": {"finalizers": [f for f in ip.metadata.finalizers or () if f != FINALIZER]}}
        await self._write("PATCH", f"{IPS}/{ip.metadata.name}", body)

    async def _serve(self, pod: Seen) -> None:
        name, uid, number = pod.metadata.name, pod.metadata.uid, self._number()
        self._rows[name] = await self._northbound.insert(bodies.row(name, uid, number))
        await self._write("POST", IPS, bodies.pod_ip(name, number), "application/json")
        body = {"metadata": {"uid": uid, "annotations": bodies.notes(number)}}
        await self._write("PATCH", f"{bodies.PLACE.pods}/{name}", body)

    async def _release(self, pod: Seen) -> None:
        name = pod.metadata.name
        await self._northbound.drop(self._rows.pop(name))
        await self._write("DELETE", f"{IPS}/{bodies.PLACE.ip(name)}", {}, "application/json")

    def _number(self) -> int:
        return _FIRST + next(self._numbers) % 30_000

    async def _count(self, ready: Path) -> None:
        while True:
            fresh = ready.with_suffix(".new")
            fresh.write_text(json.dumps({"writes": self.writes, "transactions": self._northbound.transactions}))
            fresh.rename(ready)
            await asyncio.sleep(0.25)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--nb", required=True)
    parser.add_argument("--ready", type=Path, required=True)
    asked = parser.parse_args()
    northbound = Raw(asked.nb, bodies.SUBNET)
    async with Api(asked.kubeconfig) as api:
        await northbound.open()
        work = asyncio.create_task(Floor(api, northbound).run(asked.ready))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            northbound.close()


if __name__ == "__main__":
    asyncio.run(main())
