"""The controller's own numbers, from its /metrics: by address, or through the API server's pod proxy."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from controller.load.client import Api, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SAMPLE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_SELECTOR: Final = "app.kubernetes.io%2Fname%3Dkeepip"
_LEADS: Final = "leader_election_master_status"
_RSS: Final = "process_resident_memory_bytes"
_CPU: Final = "process_cpu_seconds_total"
_DEPTH: Final = "workqueue_depth"
_REQUESTS: Final = "rest_client_requests_total"
_TRANSACTIONS: Final = "keepip_northbound_transactions_total"
_ROWS: Final = "keepip_northbound_effects_total"
_WANTED: Final = (_LEADS, _RSS, _CPU, _DEPTH, _REQUESTS, _TRANSACTIONS, _ROWS)
_WRITES: Final = frozenset({"create", "patch", "delete", "report"})

Samples = dict[str, list[tuple[dict[str, str], float]]]


class Reading(msgspec.Struct):
    """One look at the leader; the counters are rates a second since the look before."""

    at: float
    depth: dict[str, float]
    rss: float | None = None  # MB
    cpu: float | None = None  # cores
    transactions: float | None = None
    rows: float | None = None
    writes: float | None = None


def samples(page: str, names: Iterable[str]) -> Samples:
    """The samples of these names; a page of thousands of lines is no burden."""
    found: Samples = {name: [] for name in names}
    for line in page.splitlines():
        if line.partition("{")[0].partition(" ")[0] in found and (match := _SAMPLE.match(line)):
            found[match[1]].append((dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


class Scraper:
    """Looks at every replica and keeps what the leader says."""

    def __init__(self, api: Api, addresses: Sequence[str] = ()) -> None:
        """Without addresses the pods are asked that the shipped Deployment makes."""
        self._api, self._addresses = api, addresses
        self._session: aiohttp.ClientSession | None = None
        self._before: tuple[float, Mapping[str, float]] | None = None
        self.readings: list[Reading] = []

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def look(self, begin: float) -> None:
        """One reading, if a leader answers; its time counts from `begin`."""
        for page in await self._pages():
            found = samples(page, _WANTED)
            if any(value == 1 for _, value in found[_LEADS]):
                self.readings.append(self._reading(found, time.perf_counter() - begin))
                return

    def _reading(self, found: Samples, at: float) -> Reading:
        totals = {name: sum(v for _, v in found[name]) for name in (_CPU, _TRANSACTIONS, _ROWS) if found[name]}
        totals[_REQUESTS] = sum(value for labels, value in found[_REQUESTS] if labels.get("method") in _WRITES)
        before, self._before = self._before, (at, totals)

        def rate(name: str) -> float | None:
            if before is None or name not in totals or name not in before[1] or totals[name] < before[1][name]:
                return None  # the first look, or another leader
            return (totals[name] - before[1][name]) / max(at - before[0], 1e-3)

        depth: Counter[str] = Counter()
        for labels, value in found[_DEPTH]:
            depth[labels.get("name", "")] += int(value)
        rss = sum(v for _, v in found[_RSS]) / 2**20 if found[_RSS] else None
        return Reading(at, dict(depth), rss, rate(_CPU), rate(_TRANSACTIONS), rate(_ROWS), rate(_REQUESTS))

    async def _pages(self) -> list[str]:
        try:
            return await (self._from_addresses() if self._addresses else self._from_pods())
        except (aiohttp.ClientError, OSError, Refused):
            return []  # it is being restarted, or we may not look: the plots have a gap

    async def _from_addresses(self) -> list[str]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        pages = []
        for address in self._addresses:
            async with self._session.get(address) as answer:
                pages.append(await answer.text())
        return pages

    async def _from_pods(self) -> list[str]:
        pods, _ = await self._api.everything("/api/v1/pods", _SELECTOR)
        where = [f"/api/v1/namespaces/{one.metadata.namespace}/pods/{one.metadata.name}:8080" for one in pods]
        return [(await self._api.send("GET", f"{path}/proxy/metrics", limit=10)).decode() for path in where]
