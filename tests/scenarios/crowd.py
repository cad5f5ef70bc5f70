"""Users who come and go in great number while something breaks, and what must be true of them afterwards."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tests.scenarios.stage import (
    Answered,
    Conflict,
    Object,
    Stage,
    condition,
    eventually,
    notes,
    pod,
    ports,
    reservation,
)

THREADS = 6


class Crowd:
    """Users who create and delete reservations and pods, and never give up when nobody answers."""

    def __init__(self, stage: Stage, net: str, space: str, size: int) -> None:
        self.stage, self.api, self.net, self.space, self.size = stage, stage.api, net, space, size
        self.done = 0
        self.granted: dict[str, tuple[str, str]] = {}  # uid of a reservation -> what it was seen to hold

    # Of each ten: reservations 0-9, pods 0-9, of which 0-3 use theirs; 3, 5, 8 are deleted again, 6 loses its IP only.
    def script(self, i: int) -> Iterator[Callable[[], object]]:
        """Yield what happens to number `i`, in order."""
        name, last = f"{'res' if i % 10 < 4 else 'pod'}{i}", i % 10
        held = name if last < 4 else f"idle{i}"
        asked = {"v4IpAddress": self.stage.inside_of("10.130.0.0/19", 5000 + i)} if last % 2 else {}
        yield lambda: self.api.create("ip", reservation(held, self.net, self.space, **asked))
        body = pod(name, self.space, subnet=self.net)
        body["spec"]["nodeName"] = f"kube-ovn-worker{'2' if i % 2 else ''}"
        yield lambda: self.api.create("pod", body)
        if last in {3, 5, 8}:
            yield lambda: self.api.delete("pod", name, self.space)
        if last in {3, 6}:
            yield lambda: self.api.delete("ip", f"{held}.{self.space}")

    @staticmethod
    def survives(i: int) -> tuple[bool, bool]:
        """Whether reservation and pod of that number are there in the end."""
        return i % 10 not in {3, 6}, i % 10 not in {3, 5, 8}

    def play(self, numbers: range) -> None:
        """One user's part: interleaved over a few objects, so that creation and deletion mix."""
        scripts = [self.script(i) for i in numbers]
        for _ in range(4):
            for script in scripts:
                step = next(script, None)
                if step is not None:
                    self.insist(step)
                    self.done += 1

    def insist(self, step: Callable[[], object]) -> None:
        """Do it, again if nobody answers; what is there already was done by the try before."""
        deadline = time.monotonic() + 60
        while True:
            try:
                step()
            except Conflict:
                return
            except (OSError, Answered) as refusal:
                if isinstance(refusal, Answered) and refusal.code not in {429, 500, 503, 504}:
                    raise
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def start(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Set all users going: each has slices of twenty."""
        slices = [range(at, min(at + 20, self.size)) for at in range(0, self.size, 20)]
        return [pool.submit(self.play, one) for one in slices]

    # -- what is to be seen ------------------------------------------------------------------------

    def mine(self) -> dict[str, Object]:
        """The IPs of this crowd by name."""
        return {ip["metadata"]["name"]: ip for ip in self.api.all("ip") if ip["spec"].get("subnet") == self.net}

    def remember(self) -> None:
        """Note what reservations hold now: no crash may change it."""
        for ip in self.mine().values():
            held = ip.get("status", {}).get("recorded")
            if held and held.get("reserved") == "true":
                now = (held["v4IpAddress"], held["macAddress"])
                assert self.granted.setdefault(ip["metadata"]["uid"], now) == now, ip["metadata"]["name"]

    def settled(self) -> bool:
        """Assert that all that shall be there is there and served, all else is gone, and all records agree."""
        ips, rows = self.mine(), ports(self.stage.cluster)
        pods = {one["metadata"]["name"]: one for one in self.api.all("pod", self.space)}
        kept = {f"{'res' if i % 10 < 4 else 'idle'}{i}.{self.space}" for i in range(self.size) if self.survives(i)[0]}
        alive = {f"{'res' if i % 10 < 4 else 'pod'}{i}" for i in range(self.size) if self.survives(i)[1]}
        own = {f"{name}.{self.space}" for name in alive}
        assert pods.keys() == alive, _differ(pods.keys(), alive)
        late = [name for name, one in pods.items() if one["status"]["phase"] != "Running"]
        assert not late, f"{len(late)} pods do not run: {late[:5]}"
        assert ips.keys() == kept | own, _differ(ips.keys(), kept | own)
        mine = {name for name in rows if name.endswith(f".{self.space}")}
        assert mine == own, _differ(mine, own)
        for name in kept:
            assert condition(ips[name], "Ready")["reason"] == "Reserved", ips[name]
        for name, one in pods.items():
            has, port = notes(one), f"{name}.{self.space}"
            ip = ips[port]["spec"]
            assert (has["ip_address"], has["mac_address"]) == (ip["ipAddress"], ip["macAddress"]), port
            assert rows[port]["addresses"] == f"{has['mac_address']} {has['ip_address']}", port
            assert rows[port]["external_ids"]["pod-uid"] == one["metadata"]["uid"], port
        return True

    def unique(self) -> None:
        """Assert that no address or MAC has two owners, in any record."""
        ips = [ip["spec"] for ip in self.mine().values()]
        for field in ("v4IpAddress", "macAddress"):
            twice = [v for v, n in Counter(s[field] for s in ips if s.get(field)).items() if n > 1]
            assert not twice, f"{field} given twice: {twice}"
        lines = [str(r["addresses"]) for n, r in ports(self.stage.cluster).items() if n.endswith(f".{self.space}")]
        for part in (0, 1):
            twice = [v for v, n in Counter(line.split()[part] for line in lines).items() if n > 1]
            assert not twice, f"in OVN twice: {twice}"

    def clear(self, pool: ThreadPoolExecutor) -> None:
        """Delete all that is left, IPs and pods at once."""
        jobs: list[Callable[[], Any]] = []
        pods = [one["metadata"]["name"] for one in self.api.all("pod", self.space)]
        jobs += [functools.partial(self.api.delete, "pod", name, self.space) for name in pods]
        jobs += [functools.partial(self.api.delete, "ip", name) for name in self.mine()]
        for done in [pool.submit(self.insist, job) for job in jobs]:
            done.result()

    def empty(self) -> bool:
        """Assert that nothing is left."""
        assert not (pods := self.api.all("pod", self.space)), f"{len(pods)} pods"
        assert not (ips := self.mine()), f"{len(ips)} IPs: {list(ips)[:5]}"
        rows = [name for name in ports(self.stage.cluster) if name.endswith(f".{self.space}")]
        assert not rows, f"{len(rows)} ports: {rows[:5]}"
        return True


def _differ(found: Any, wanted: Any) -> str:
    more, less = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    return f"too many: {len(more)} {more[:5]}, missing: {len(less)} {less[:5]}"


def reached(crowd: Crowd, work: list[Future[None]], steps: int) -> None:
    """Wait until the users have got so far."""

    def look() -> bool:
        for one in work:
            if one.done():
                one.result()
        return crowd.done >= steps

    eventually(f"{steps} steps are done", look, seconds=60)


def no_trouble(stage: Stage, net: str, users: int) -> None:
    """Assert that the controller, at rest, has counted just these users and finds no fault with them.

    By the next sweep, because the last one may be from before; and what a write without answer was about counts as used
    for as long as such a write may live (--request-limit-s, 10 s).
    """
    seen = stage.keeper.quiet(30)
    assert seen.total("keepip_subnet_duplicate_addresses", subnet=net) == 0

    def audited() -> bool:
        now = stage.keeper.metrics()
        assert now.total("keepip_subnet_leaked", subnet=net) == 0
        assert now.total("keepip_subnet_used_addresses", subnet=net) == users
        return True

    eventually("an audit of no leaks and of all users", audited)
    stage.numbers(net, users, 2**13 - 2 - 1 - users)
