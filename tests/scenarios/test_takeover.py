"""A standby that takes over a big cluster reads no list of it, and decides on nothing that its watches do not show."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from tests.scenarios.crowd import THREADS
from tests.scenarios.proxy import Proxy, Withholds
from tests.scenarios.stage import RESERVED, Api, Keeper, eventually, notes, reservation
from tests.scenarios.test_ha import MORE_S, Pair, Say, pair, say

BIG: Final = 1050  # IPs: more than what is listed at a take-over all the same
GRANTS: Final = 5

__all__ = ["pair", "say"]


@pytest.fixture(scope="module")
def many(api: Api) -> Iterator[None]:
    """As many IPs that nobody has anything to do with."""
    label = "keepip.test/many"

    def make(number: int) -> None:
        one = reservation(f"many-{number}", "nowhere")
        one["metadata"]["labels"] = {RESERVED: "false", label: ""}
        api.create("ip", one)

    try:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(make, range(BIG)))
        yield
    finally:
        api.ask("DELETE", f"{api.path('ip')}?labelSelector={label.replace('/', '%2F')}")


class Heir:
    """A standby that has read everything, and what it reads from then on."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        keeper.warm()
        eventually("it has them all", lambda: self.known() >= BIG, seconds=MORE_S)
        self._before = self._read()

    def known(self) -> float:
        """How many IPs it knows of."""
        return self.keeper.metrics().total("keepip_replica_objects", kind="IP")

    def _read(self) -> tuple[float, float, float]:
        seen = self.keeper.metrics()
        lists = seen.total("rest_client_requests_total", method="list", kind="IP")
        return lists, seen.total("keepip_relists_total", kind="IP"), seen.total("keepip_northbound_connections_total")

    def read_nothing_anew(self) -> None:
        """Assert that it has read no IPs but those of its watches, and Northbound on the connection that it had."""
        assert self._read() == self._before
        assert self.keeper.metrics().total("rest_client_requests_total", method="latest", kind="IP") > 0


@pytest.mark.usefixtures("many")
def test_a_standby_takes_over_without_reading_anew(pair: Pair, say: Say) -> None:
    leaving, coming = pair.leader()
    heir = Heir(coming)
    began = time.monotonic()
    pair.send(leaving, signal.SIGTERM)
    leads, serves = pair.takes_over(coming, began)
    assert leaving.stop() == 0, leaving.tail()
    heir.read_nothing_anew()
    say(f"{BIG} IPs: the other one leads after {leads:.2f} s, its first address after {serves:.2f} s")


@pytest.mark.usefixtures("many")
def test_a_standby_whose_watch_is_late_catches_up_before_it_gives_an_address(pair: Pair, say: Say) -> None:
    """It hears of a pod in time, and of what its predecessor granted late: that is not given to the pod."""
    stage = pair.stage
    with Proxy(stage.cluster) as proxy:
        assert pair.second.stop() == 0, pair.second.tail()
        pair.first.ready()
        pair.second.start(f"--kubeconfig={proxy.kubeconfig}", wait=False)
        heir = Heir(pair.second)
        known = heir.known()
        with proxy.under(Withholds(stage.api.path("ip"))):
            granted = [stage.reserved(f"{stage.tag}-late{n}", pair.net) for n in range(GRANTS)]
            assert heir.known() == known, "its watch is not late"
            pair.send(pair.first, signal.SIGKILL)
            user = stage.pod(f"{stage.tag}-user", subnet=pair.net)["metadata"]["name"]
            leads, serves = pair.takes_over(pair.second, time.monotonic())
            given = notes(stage.runs(user))["ip_address"]
            assert given not in {one["spec"]["v4IpAddress"] for one in granted}
            heir.read_nothing_anew()
        say(f"a late standby leads after {leads:.2f} s, its first address after {serves:.2f} s")
        pair.part()
