"""Whatever lies between the controller and the API server, at rest the world is that of the undisturbed run."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest

from tests.cluster.cluster import ACCOUNT, NAMESPACE, Cluster
from tests.scenarios.proxy import (
    Answers,
    Asked,
    Delays,
    Drops,
    Expires,
    Fault,
    Loses,
    Proxy,
    Swallows,
    Tears,
)
from tests.scenarios.stage import (
    OVN,
    Answered,
    Api,
    Conflict,
    Keeper,
    Object,
    condition,
    eventually,
    network,
    pod,
    ports,
    reservation,
    without,
)

OLD, NEW = range(10), range(10, 30)
ENDED: Final = (0, 1, 2, 3, 13, 15)  # pods that are deleted: those of a reservation were seen, and that shows
UNRESERVED: Final = (2, 3, 5, 11, 13)  # reservations that are deleted, none in use by then
SOME_S: Final = 2.5  # how long a fault lasts at least
WISH_S: Final = 2
# Who has lost the Lease and got it again reads everything anew, and at once.
LONG_LEASE: Final = ("--lease-duration-s=40", "--renew-deadline-s=30")
ALL: Final = bool(os.environ.get("KEEPIP_FAULTS"))  # `make faults`; `make test` has one of each sort
TRIES: Final = 30  # of one request within SOME_S: with backoff it is half of them, without it would be hundreds
PATIENCE_S: Final = 30.0
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[\d.]*Z")


class Work:
    """What people do in each story, always the same: all addresses and MACs are named, so that worlds can be compared.

    Of 30 reservations and 30 pods a third is there before and partly deleted in the story; the rest comes in it, some
    of them in a subnet that comes, too, and some use their reservation.
    """

    def __init__(self, cluster: Cluster, api: Api) -> None:
        self.cluster, self.api = cluster, api

    def before(self) -> None:
        """Make what is there when the story begins."""
        self._net("one", 1)
        for i in OLD:
            self._reserve(i, "one")
            self._pod(i, "one")
        eventually("all is there", self._served)

    def play(self) -> None:
        """Make the rest, and delete some."""
        self._net("two", 2)
        for i in NEW:
            self._reserve(i, "two" if i % 4 == 0 else "one")
        for i in ENDED[:4]:
            self.insist(partial(self.api.delete, "pod", self._user(i)))
        for i in NEW:
            self._pod(i, "two" if i % 4 == 0 else "one")
        for i in UNRESERVED:
            self.insist(partial(self.api.delete, "ip", f"held{i}.default"))
        for i in ENDED[4:]:
            self.insist(partial(self.api.delete, "pod", self._user(i)))

    def touch(self) -> None:
        """Change something in all of it and change it back: everybody is looked at again, and nothing is to be done."""
        for kind in ("ip", "pod", "subnet"):
            for one in self.api.all(kind):
                for text in ("yes", None):
                    change = {"metadata": {"annotations": {"touched": text}}}
                    self.insist(partial(self.api.patch, kind, one["metadata"]["name"], change))

    def clear(self) -> None:
        """Delete all of it, and wait until nothing is left."""
        for kind in ("pod", "ip", "subnet"):
            for one in self.api.all(kind):
                self.api.delete(kind, one["metadata"]["name"])

        def gone() -> bool:
            left = [one["metadata"]["name"] for kind in ("pod", "ip", "subnet") for one in self.api.all(kind)]
            assert not left + list(ports(self.cluster)), left
            return True

        eventually("nothing is left", gone, seconds=PATIENCE_S, pause=0.1)

    def world(self) -> Object:
        """All there is, without what is another one in each run: times, versions and uids."""
        found: Object = {
            kind: {one["metadata"]["name"]: _plain(one) for one in self.api.all(kind)}
            for kind in ("ip", "pod", "subnet")
        }
        return found | {"port": {name: _plain(row) for name, row in ports(self.cluster).items()}}

    def unique(self) -> None:
        """Assert that nothing was given twice in Northbound."""
        said = [str(row["addresses"]).split() for row in ports(self.cluster).values()]
        for part in (0, 1):
            twice = [one for one, n in Counter(words[part] for words in said).items() if n > 1]
            assert not twice, twice

    def done(self) -> bool:
        """Assert that the story has come to its end: who is to be there is served, all others are gone."""
        self._served()
        alive = {f"{self._user(i)}.default" for i in (*OLD, *NEW) if i not in ENDED}
        assert {f"{one['metadata']['name']}.default" for one in self.api.all("pod")} == alive
        held = {f"held{i}.default" for i in (*OLD, *NEW) if i not in UNRESERVED}
        assert {one["metadata"]["name"] for one in self.api.all("ip")} == held | alive
        assert ports(self.cluster).keys() == alive
        return True

    def insist(self, step: Callable[[], object]) -> None:
        """Do it, again if nobody answers; what is there already was done by the try before."""

        def tried() -> bool:
            try:
                step()
            except Conflict:
                return True
            except (OSError, Answered) as why:
                raise AssertionError(str(why)) from None
            return True

        eventually("it is done", tried, seconds=PATIENCE_S, pause=0.2)

    def _served(self) -> bool:
        for one in self.api.all("ip"):
            if one["metadata"]["name"].startswith("held"):
                assert condition(one, "Ready")["status"] == "True", one
        late = [one["metadata"]["name"] for one in self.api.all("pod") if one["status"]["phase"] != "Running"]
        assert not late, late
        return True

    def _net(self, name: str, number: int) -> None:
        self.insist(lambda: self.api.create("subnet", network(name, f"10.77.{number}.0/24")))

    def _reserve(self, i: int, net: str) -> None:
        body = reservation(f"held{i}", net, v4IpAddress=_address(net, 10 + i), macAddress=f"0a:00:00:00:01:{i:02x}")
        self.insist(lambda: self.api.create("ip", body))

    def _pod(self, i: int, net: str) -> None:
        body = pod(self._user(i), subnet=net)
        if i % 2:
            mine = {OVN + "ip_address": _address(net, 50 + i), OVN + "mac_address": f"0a:00:00:00:02:{i:02x}"}
            body["metadata"]["annotations"] |= mine
        body["spec"]["nodeName"] = "kube-ovn-worker"
        self.insist(lambda: self.api.create("pod", body))

    @staticmethod
    def _user(i: int) -> str:
        """Every other pod uses the reservation of its number."""
        return f"held{i}" if i % 2 == 0 else f"own{i}"


def _address(net: str, number: int) -> str:
    return f"10.77.{1 if net == 'one' else 2}.{number}"


def _plain(one: Object) -> Any:
    """Without times, uids and the number of steps that it took; what was observed is the latest generation or not."""
    text = json.dumps(one, sort_keys=True)
    last = one.get("metadata", {}).get("generation")
    text = re.sub(r'("observedGeneration": )(\d+)', lambda m: f"{m[1]}{'true' if int(m[2]) == last else 'false'}", text)
    plain: Object = json.loads(_TIME.sub("TIME", _UID.sub("UID", text)))
    return without(plain, "metadata.managedFields", "metadata.resourceVersion", "metadata.generation")


def _leaves(told: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(told, dict):
        for key, value in told.items():
            yield from _leaves(value, f"{path}/{key}")
    else:
        yield path, json.dumps(told)


def differ(found: Object, wanted: Object) -> list[str]:
    """Where the two worlds differ, in words."""
    here, there = dict(_leaves(found)), dict(_leaves(wanted))
    paths = sorted(here.keys() | there.keys())
    return [f"{p}: {here.get(p)}, undisturbed: {there.get(p)}" for p in paths if here.get(p) != there.get(p)]


def token(api: Api, secret: str) -> str:
    """A token of the controller's that ends with this Secret."""
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": NAMESPACE}}
    made = api.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body)["metadata"]
    bound = {"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": made["uid"]}
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}}
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"
    return str(api.ask("POST", path, asked)["status"]["token"])


class Ground:
    """The cluster, the proxy in front of it, and the controller behind that."""

    def __init__(self, cluster: Cluster, proxy: Proxy, api: Api, keeper: Keeper) -> None:
        self.cluster, self.proxy, self.api, self.keeper = cluster, proxy, api, keeper
        self.work = Work(cluster, api)
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self.proxy.asked.clear()
        self.counted = self.keeper.metrics()
        self.child = self.cluster.processes[self.keeper.name]

    def more(self, name: str, **labels: str) -> float:
        """How much a counter has grown since."""
        return self.keeper.metrics().total(name, **labels) - self.counted.total(name, **labels)

    def told(self, *codes: int) -> list[Asked]:
        """The requests that were answered so (0: not at all)."""
        return [one for one in tuple(self.proxy.asked) if one.code in codes]

    def rests(self, wanted: Object) -> None:
        """Wait until the world is that of the undisturbed run, and see it stay so."""

        def look() -> bool:
            self.work.unique()
            assert not (told := differ(self.work.world(), wanted)), f"{len(told)} differ: {told[:5]}"
            return True

        eventually("the world of the undisturbed run", look, seconds=PATIENCE_S, pause=0.2)
        self.keeper.ready(PATIENCE_S)
        seen = self.keeper.quiet(PATIENCE_S)
        assert look()
        assert seen.bugs == self.counted.bugs
        assert all(seen.total("keepip_subnet_duplicate_addresses", subnet=net) == 0 for net in ("one", "two"))

    def restart(self, server: str) -> None:
        """Start it again, and wait until the API server serves its objects: that comes last."""
        self.cluster.restart(server)

        def look() -> bool:
            try:
                return [self.api.all(kind) for kind in ("ip", "subnet", "pod")] != []
            except (OSError, Answered) as why:
                raise AssertionError(str(why)) from None

        eventually("the API server serves its objects", look, seconds=PATIENCE_S)

    def unready(self) -> None:
        """Wait until the controller says that the API server does not serve it."""
        eventually("readiness says it", lambda: "API server" in str(self.keeper.page("/readyz")), pause=0.05)

    def counted_all(self, *codes: int) -> None:
        """Wait until each of these answers is counted; of those that never came a second try may be aiohttp's own."""
        for code in codes:
            label = str(code or "error")

            def look(code: int = code, label: str = label) -> bool:
                seen, told = self.more("rest_client_requests_total", code=label), len(self.told(code))
                assert 0 < seen <= told <= (seen if code else 2 * seen), (label, seen, told)
                return True

            eventually(f"each {label} is counted", look)

    def calm(self) -> None:
        """Assert that no request was asked so often that it has no backoff."""
        often = Counter(one.what for one in tuple(self.proxy.asked)).most_common(3)
        assert often[0][1] <= TRIES, often


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A cluster of its own, whose servers are killed, too."""
    with Cluster.start(controllers=False, kwok_nodes=2) as cluster, Proxy(cluster) as proxy:
        api = Api(cluster)
        proxy.present(token(api, "first"))
        keeper = Keeper(cluster)
        keeper.start(f"--kubeconfig={proxy.kubeconfig}")
        yield Ground(cluster, proxy, api, keeper)
        assert keeper.stop() == 0, keeper.tail()
        bad = [line for line in keeper.log() if line["msg"] == "bug"]
        assert not bad, bad
        api.close()


@pytest.fixture(scope="module")
def undisturbed(ground: Ground) -> Object:
    """The world at rest when nothing goes wrong."""
    ground.work.before()
    ground.begin()
    ground.work.play()
    eventually("the story is over", ground.work.done, seconds=PATIENCE_S)
    ground.keeper.quiet()
    assert not ground.told(0, 429, 500)
    ground.work.unique()
    world = ground.work.world()
    ground.work.clear()
    return world


@pytest.fixture
def story(ground: Ground, undisturbed: Object) -> Iterator[Ground]:
    """The ground, with what is there before; at the end it is that of the undisturbed run, and is cleared."""
    ground.work.before()
    ground.begin()
    yield ground
    try:
        ground.rests(undisturbed)
        assert ground.child.poll() is None, "the controller has ended"
    finally:
        ground.work.clear()


more = pytest.mark.skipif(not ALL, reason="make faults")


def last(began: float, seconds: float = SOME_S) -> None:
    """Let the fault go on until it has lasted that long."""
    time.sleep(max(0.0, began + seconds - time.monotonic()))


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        pytest.param(Answers(500, 502, 503, 504), (500, 502, 503, 504), id="5xx"),
        pytest.param(Answers(500, 0, 503), (500, 503), id="some-5xx", marks=more),
        pytest.param(Drops(), (0,), id="reset-before", marks=more),
        pytest.param(Loses(), (0,), id="reset-after"),
    ],
)
def test_a_server_that_does_not_answer_well(story: Ground, fault: Fault, codes: tuple[int, ...]) -> None:
    """Readiness says so, the metrics count it, and nobody is asked more often than backoff allows."""
    began = time.monotonic()
    with story.proxy.under(fault):
        story.work.play()
        story.unready()
        last(began)
    story.calm()
    story.counted_all(*codes)


def test_a_server_that_wants_to_be_left_alone(story: Ground) -> None:
    """Nobody asks again before the time that the server has named, whatever happens meanwhile."""
    story.keeper.again(f"--kubeconfig={story.proxy.kubeconfig}", *LONG_LEASE)
    story.begin()
    began = time.monotonic()
    with story.proxy.under(Answers(429, retry_after=WISH_S)):
        story.work.play()
        story.unready()
        story.work.touch()
        story.proxy.cut()
        last(began, 2 * WISH_S + 1)
    story.calm()
    asked: dict[str, list[Asked]] = {}
    for one in tuple(story.proxy.asked):
        asked.setdefault(one.what, []).append(one)
    again = [(first, then) for tries in asked.values() for first, then in pairwise(tries) if first.code == 429]
    early = [(first.what, then.at - first.told_at) for first, then in again if then.at - first.told_at < WISH_S]
    assert again
    assert not early, early
    story.counted_all(429)


@pytest.mark.parametrize(
    "fault", [pytest.param(Fault(), id="old-lines"), pytest.param(Swallows(), id="all-lines", marks=more)]
)
def test_connections_that_are_half_open(story: Ground, fault: Fault) -> None:
    """A dead watch goes on where it was, on another connection, without reading everything again."""
    story.keeper.again(f"--kubeconfig={story.proxy.kubeconfig}", "--watch-silence-s=4", *LONG_LEASE)
    story.begin()
    began = time.monotonic()
    with story.proxy.under(fault):
        story.proxy.freeze()
        story.work.play()
        last(began)
    story.calm()

    def look() -> bool:
        again = {one.path for one in story.told(200) if one.watch}
        assert {story.api.path("ip"), story.api.path("subnet"), "/api/v1/pods"} <= again, again
        return True

    eventually("the dead watches are opened again", look, seconds=PATIENCE_S)
    assert story.more("keepip_relists_total") == 0


@more
def test_watches_that_are_slow(story: Ground) -> None:
    """What is shown late is waited for, and not done again."""
    began = time.monotonic()
    with story.proxy.under(Delays(1.0)):
        story.work.play()
        last(began)
    story.calm()
    assert story.more("keepip_relists_total") == 0


def test_watches_that_are_cut_in_the_middle_of_a_line(story: Ground) -> None:
    """They go on where they were: nothing is read again, nothing is missed."""
    began = time.monotonic()
    with story.proxy.under(Tears()):
        story.work.play()
        last(began)
    assert story.more("keepip_relists_total") == 0


@more
def test_versions_that_are_too_old(story: Ground) -> None:
    """Everything is read again, but not in a tight loop."""
    began = time.monotonic()
    with story.proxy.under(Expires()):
        story.proxy.cut()
        story.work.play()
        last(began)
    story.calm()
    assert story.more("keepip_relists_total") > 0
    story.counted_all(410)


def test_a_compaction_while_nothing_was_heard(story: Ground) -> None:
    """The server itself says that the version is too old."""
    with story.proxy.under(Drops()):
        story.proxy.cut()
        story.work.play()
        story.cluster.compact()
        story.restart("kube-apiserver")
    eventually("a watch has expired", lambda: story.told(410))


@pytest.mark.parametrize("server", [pytest.param("kube-apiserver", marks=more), "etcd"])
def test_a_server_that_is_killed(story: Ground, server: str) -> None:
    """In the middle of the work, and is there again a while later."""
    with ThreadPoolExecutor(1) as users:
        work = users.submit(story.work.play)
        eventually("a part is done", lambda: len(story.api.all("ip")) > len(OLD) + len(NEW) // 2)
        story.cluster.kill(server)
        story.unready()
        story.restart(server)
        work.result()
    story.calm()


def test_a_token_that_is_worth_nothing_any_more(story: Ground) -> None:
    """What is refused is asked again with the token that is there by then, without a restart."""
    story.api.ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}/secrets/first")
    eventually("it is refused", lambda: story.told(401), seconds=PATIENCE_S)  # the server remembers it for 10 s
    story.proxy.cut()
    story.work.play()
    story.unready()
    story.calm()
    story.proxy.present(token(story.api, "second"))
    eventually("it is counted", lambda: story.more("rest_client_requests_total", code="401") == len(story.told(401)))
