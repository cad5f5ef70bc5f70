import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controller.core.objects import Ip, Kind, Pod
from controller.ports import (
    Change,
    Conflict,
    Denied,
    Gone,
    NotFound,
    PortError,
    Rejected,
    Unavailable,
)
from controller.wire.kube import KubeWire, connect
from tests.wire.server import Asked, Behaviour, Server, answer, chunk, head, status, stream

SEEN: list[tuple[str, str, str]] = []


async def silence(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(silence) as running:
        yield running


@pytest.fixture
async def kube(server: Server, tmp_path: Path) -> AsyncIterator[KubeWire]:
    SEEN.clear()
    wire = await connect(
        server.kubeconfig(tmp_path),
        timeout=0.5,
        watch_seconds=1.0,
        margin=0.3,
        observe=lambda verb, kind, code, _seconds: SEEN.append((verb, kind, code)),
    )
    yield wire
    await wire.close()


def ip(name: str, version: int = 5, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"u-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata, "spec": spec}


def page(*items: Any, version: str = "9", more: str = "") -> dict[str, Any]:
    return {"kind": "IPList", "metadata": {"resourceVersion": version, "continue": more}, "items": list(items)}


def event(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def failure(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m"}


async def watched(kube: KubeWire, kind: Kind = Kind.IP) -> tuple[list[Change], PortError | None]:
    changes: list[Change] = []
    try:
        async for batch in kube.watch(kind, 5):
            changes += batch
    except PortError as error:
        return changes, error
    return changes, None


# ---- answers


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (status(400, "BadRequest"), Rejected),
        (status(401, "Unauthorized"), Denied),
        (status(403, "Forbidden"), Denied),
        (status(404, "NotFound", name="x"), NotFound),
        (status(409, "AlreadyExists"), Conflict),
        (status(409, "Conflict"), Conflict),
        (status(410, "Expired"), Gone),
        (status(422, "Invalid", causes=[{"field": "metadata.uid"}]), Conflict),
        (status(422, "Invalid", causes=[{"field": "spec.subnet"}]), Rejected),
        (answer(413, b"too large"), Rejected),
        (answer(415, b"what?"), Rejected),
    ],
)
async def test_an_answer_becomes_its_error(server: Server, kube: KubeWire, behaviour: Behaviour, error: type) -> None:
    server.behaviour = behaviour
    with pytest.raises(error) as raised:
        await kube.patch(Kind.IP, "", "x", {"spec": {}})
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("behaviour", "unknown", "retry_after"),
    [
        (answer(429, b"", "Retry-After: 7"), False, 7.0),
        (answer(429, failure(429, "TooManyRequests") | {"details": {"retryAfterSeconds": 3}}), False, 3.0),
        (status(503, "ServiceUnavailable"), True, None),
        (answer(503, b"", "Retry-After: 2"), True, 2.0),
        (answer(429, b"", "Retry-After: 86400"), False, 60.0),
        (answer(429, b"", "Retry-After: inf"), False, 60.0),
        (answer(429, b"", "Retry-After: nan"), False, None),
        (answer(429, b"", "Retry-After: -1"), False, None),
        (status(504, "Timeout"), True, None),
        (status(500, "InternalError"), True, None),
        (answer(502, b"<html><body>Bad Gateway</body></html>"), True, None),
        (answer(404, b"404 page not found\n"), False, None),
        (answer(404, b"<html>nothing here</html>"), False, None),
        (status(404, "NotFound"), False, None),
        (answer(302, b"", "Location: http://127.0.0.1:1/"), False, None),
        (answer(200, b"<html>welcome</html>"), True, None),
        (answer(201, {"kind": "Status", "status": "Success"}), True, None),
        (reset, True, None),
        (silence, True, None),
    ],
)
async def test_a_write_knows_whether_it_may_have_happened(
    server: Server, kube: KubeWire, behaviour: Behaviour, *, unknown: bool, retry_after: float | None
) -> None:
    server.behaviour = behaviour
    for write in (kube.create(Kind.IP, "", "x", {}), kube.patch(Kind.POD, "n", "x", {})):
        with pytest.raises(Unavailable) as raised:
            await asyncio.wait_for(write, 5)
        assert (raised.value.unknown, raised.value.retry_after) == (unknown, retry_after)


async def test_a_server_that_is_overloaded_is_left_alone_with_that_kind(server: Server, kube: KubeWire) -> None:
    """By all who want something of the kind, and as long as it says; other kinds go on, and the Lease always does."""
    server.behaviour = answer(429, b"", "Retry-After: 1")
    with pytest.raises(Unavailable):
        await kube.patch(Kind.IP, "", "x", {})
    refused = time.monotonic()
    server.behaviour = answer(200, page())
    others = (kube.patch(Kind.IP, "", "y", {}), kube.delete(Kind.IP, "", "z", "u"), kube.list(Kind.IP))
    for ask in (*others, anext(kube.watch(Kind.IP, 5))):
        with pytest.raises(Unavailable) as raised:
            await ask
        assert not raised.value.unknown
        assert 0 < (raised.value.retry_after or 0) <= 1
    assert len(server.asked) == 1
    await kube.list(Kind.POD)
    while True:
        try:
            await kube.list(Kind.IP)
        except Unavailable as early:
            await asyncio.sleep(early.retry_after or 0)
        else:
            break
    assert time.monotonic() - refused > 0.99
    server.behaviour = answer(429, b"", "Retry-After: 60")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await kube.read(Kind.LEASE, "n", "l")
    assert len(server.asked) == 5


@pytest.mark.parametrize("behaviour", [answer(502, b"<html>"), reset, silence, answer(503, b"")])
async def test_a_read_that_fails_has_written_nothing(server: Server, kube: KubeWire, behaviour: Behaviour) -> None:
    server.behaviour = behaviour
    for read in (kube.list(Kind.IP), kube.read(Kind.IP, "", "x")):
        with pytest.raises(Unavailable) as raised:
            await asyncio.wait_for(read, 5)
        assert not raised.value.unknown


async def test_a_refused_connection_has_written_nothing(tmp_path: Path) -> None:
    async with Server(silence) as server:
        kubeconfig = server.kubeconfig(tmp_path)
    wire = await connect(kubeconfig)
    with pytest.raises(Unavailable) as raised:
        await wire.create(Kind.IP, "", "x", {})
    assert not raised.value.unknown
    await wire.close()


async def test_no_request_outlives_its_limit(server: Server, kube: KubeWire) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await kube.patch(Kind.IP, "", "x", {})
    assert time.monotonic() - started < 2
    assert server.asked[-1].query["timeout"] == "1s"


async def test_an_absence_must_be_proven(server: Server, kube: KubeWire) -> None:
    server.behaviour = status(404, "NotFound", name="x", kind="ips")
    assert await kube.read(Kind.IP, "", "x") is None
    assert await kube.delete(Kind.IP, "", "x", "u") == 0
    server.behaviour = answer(404, b"404 page not found\n")
    with pytest.raises(Unavailable):
        await kube.read(Kind.IP, "", "x")
    with pytest.raises(Unavailable):
        await kube.delete(Kind.IP, "", "x", "u")


async def test_every_exchange_is_observed(server: Server, kube: KubeWire) -> None:
    server.behaviour = answer(200, page())
    await kube.list(Kind.IP)
    server.behaviour = status(409, "Conflict")
    with pytest.raises(Conflict):
        await kube.patch(Kind.POD, "n", "x", {})
    server.behaviour = reset
    with pytest.raises(Unavailable):
        await kube.create(Kind.POD, "n", "x", {})
    await watched(kube)
    server.behaviour = stream()
    await watched(kube)
    assert SEEN == [
        ("list", "IP", "200"),
        ("patch", "Pod", "409"),
        ("create", "Pod", "error"),
        ("watch", "IP", "error"),
        ("watch", "IP", "200"),
    ]


# ---- requests


async def test_what_is_sent(server: Server, kube: KubeWire) -> None:
    server.behaviour = answer(200, ip("a/b"))
    await kube.create(Kind.POD, "n", "p", {"metadata": {"labels": {"a": "b"}}, "spec": {"x": (1, 2)}})
    await kube.patch(Kind.IP, "", "p.n", {"status": {"big": 2**100}}, "status")
    await kube.delete(Kind.LEASE, "n", "l", "the-uid")
    await kube.read(Kind.SUBNET, "", "a b/c")
    await kube.report({"metadata": {"namespace": "n"}})
    create, patch, delete, read, report = server.asked
    assert (create.method, create.path) == ("POST", "/api/v1/namespaces/n/pods")
    assert json.loads(create.body) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"a": "b"}, "name": "p", "namespace": "n"},
        "spec": {"x": [1, 2]},
    }
    assert (patch.method, patch.path) == ("PATCH", "/apis/kubeovn.io/v1/ips/p.n/status")
    assert patch.headers["content-type"] == "application/merge-patch+json"
    assert patch.query["fieldManager"] == "keepip"
    assert patch.query["fieldValidation"] == "Ignore"
    assert patch.body == b'{"status":{"big":%d}}' % 2**100
    assert (delete.method, delete.path) == ("DELETE", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l")
    assert json.loads(delete.body)["preconditions"] == {"uid": "the-uid"}
    assert (read.method, read.path, read.query) == ("GET", "/apis/kubeovn.io/v1/subnets/a%20b%2Fc", {})
    assert report.path == "/api/v1/namespaces/n/events"
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret"}


async def test_a_list_is_consistent_and_paged(server: Server, kube: KubeWire) -> None:
    server.behaviour = answer(200, page(ip("a"), more="more"))
    first = await kube.list(Kind.IP)
    assert (first.token, first.version, [o.metadata.name for o in first.objects]) == ("more", 9, ["a"])
    server.behaviour = answer(200, page(ip("b")))
    assert (await kube.list(Kind.IP, first.token)).token == ""
    assert [asked.query for asked in server.asked] == [{"limit": "500"}, {"limit": "500", "continue": "more"}]


async def test_a_renewed_token_is_taken_without_a_restart(server: Server, kube: KubeWire, tmp_path: Path) -> None:
    good = answer(200, page())
    bad = status(401, "Unauthorized")

    async def check(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (good if asked.headers["authorization"] == "Bearer fresh" else bad)(asked, writer)

    server.behaviour = check
    with pytest.raises(Denied):
        await kube.list(Kind.IP)
    server.kubeconfig(tmp_path, "fresh")
    pages = await asyncio.gather(*(kube.list(Kind.IP) for _ in range(5)))
    assert len(pages) == 5


async def test_a_service_accounts_token_and_address_are_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    with pytest.raises(Denied, match="token file"):
        await connect(None)
    with pytest.raises(Denied, match="Invalid kube-config"):
        await connect(tmp_path / "absent")


# ---- bodies of lists


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"<html>",
        b'{"metadata":{}}',
        b'{"items":[]}',
        json.dumps(page(ip("a"))).encode()[:-9],
    ],
)
async def test_what_is_no_list_is_not_an_empty_world(server: Server, kube: KubeWire, body: bytes) -> None:
    server.behaviour = answer(200, body)
    with pytest.raises(Unavailable) as raised:
        await kube.list(Kind.IP)
    assert not raised.value.unknown


async def test_an_unreadable_version_is_no_list(server: Server, kube: KubeWire) -> None:
    server.behaviour = answer(200, page(version="abc"))
    with pytest.raises(Unavailable):
        await kube.list(Kind.IP)


async def test_a_malformed_item_has_a_fault_and_a_nameless_one_is_counted(server: Server, kube: KubeWire) -> None:
    items: list[Any] = [ip("good", subnet="s"), ip("bad", subnet={"a": 1}), {"kind": "IP"}, None, 7, ip("late")]
    server.behaviour = answer(200, page(*items))
    objects = (await kube.list(Kind.IP)).objects
    assert [(o.metadata.name, bool(o.fault)) for o in objects] == [("good", False), ("bad", True), ("late", False)]
    assert kube.skipped == {Kind.IP: 3}


async def test_no_items_is_an_empty_list(server: Server, kube: KubeWire) -> None:
    server.behaviour = answer(200, page() | {"items": None})
    assert (await kube.list(Kind.IP)).objects == ()


# ---- watches


async def test_events_arrive_however_they_are_cut(server: Server, kube: KubeWire) -> None:
    lines = b"".join(event("MODIFIED", ip(f"ip-{n}", n, subnet="ü" * n)) for n in range(200))
    rng = Random(1)
    cuts = sorted(rng.sample(range(len(lines)), 60))
    pieces = [lines[a:b] for a, b in itertools.pairwise([0, *cuts, len(lines)])]
    server.behaviour = stream(*pieces)
    changes, error = await watched(kube)
    assert error is None
    assert [change.version for change in changes] == list(range(200))
    assert all(isinstance(c.object, Ip) and c.object.spec.subnet == "ü" * c.version for c in changes)


async def test_event_types_mean_what_they_say(server: Server, kube: KubeWire) -> None:
    bookmark = {
        "kind": "IP",
        "apiVersion": "kubeovn.io/v1",
        "metadata": {"resourceVersion": "8", "creationTimestamp": None},
    }
    server.behaviour = stream(
        event("ADDED", ip("a", 6))
        + event("DELETED", ip("a", 7))
        + event("BOOKMARK", bookmark)
        + b"\n"
        + event("ADDED", ip("broken", 9, subnet=[]))
        + event("ADDED", {"metadata": {"resourceVersion": "10"}})
        + event("SURPRISE", ip("x", 11))
    )
    changes, error = await watched(kube)
    assert error is None
    told = [
        (c.version, c.object and c.object.metadata.name, c.deleted, bool(c.object and c.object.fault)) for c in changes
    ]
    assert told == [
        (6, "a", False, False),
        (7, "a", True, False),
        (8, None, False, False),
        (9, "broken", False, True),
        (10, None, False, False),
        (11, None, False, False),
    ]
    asked = server.asked[-1].query
    assert asked["resourceVersion"] == "5"
    assert asked["allowWatchBookmarks"] == "true"


async def test_an_event_of_eight_megabytes_is_one_event(server: Server, kube: KubeWire) -> None:
    server.behaviour = stream(event("ADDED", ip("big", 6, subnet="x" * 8_000_000)))
    changes, error = await watched(kube)
    assert error is None
    assert [c.version for c in changes] == [6]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (stream(event("ADDED", ip("a", 6)), event("ERROR", failure(410, "Expired"))), Gone),
        (stream(event("ADDED", ip("a", 6)), event("ERROR", failure(500, "InternalError"))), Unavailable),
        (stream(event("ADDED", ip("a", 6)), event("ERROR", failure(429, "TooManyRequests"))), Unavailable),
        (stream(event("ADDED", ip("a", 6)), event("ADDED", ip("b", 7))[:-9]), Unavailable),
        (stream(event("ADDED", ip("a", 6)), b"<html>Bad Gateway</html>\n"), Unavailable),
        (stream(event("ADDED", ip("a", 6)), b'{"type":"ADDED"}\n'), Unavailable),
        (stream(event("ADDED", ip("a", 6)), b"\xff\xfe\n"), Unavailable),
        (stream(event("ADDED", ip("a", 6)), end="cut"), Unavailable),
        (stream(event("ADDED", ip("a", 6)), end="reset"), Unavailable),
        (stream(event("ADDED", ip("a", 6)), end="silence"), Unavailable),
    ],
)
async def test_a_broken_watch_tells_what_it_has_and_then_its_error(
    server: Server, kube: KubeWire, behaviour: Behaviour, error: type
) -> None:
    server.behaviour = behaviour
    changes, raised = await asyncio.wait_for(watched(kube), 5)
    assert type(raised) is error
    assert [c.version for c in changes] == [6]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (status(410, "Expired"), Gone),
        (status(403, "Forbidden"), Denied),
        (status(401, "Unauthorized"), Denied),
        (answer(429, b"", "Retry-After: 4"), Unavailable),
        (answer(502, b"<html>"), Unavailable),
        (answer(404, b"404 page not found"), Unavailable),
        (reset, Unavailable),
        (silence, Unavailable),
    ],
)
async def test_a_watch_that_cannot_start_says_why(
    server: Server, kube: KubeWire, behaviour: Behaviour, error: type
) -> None:
    server.behaviour = behaviour
    changes, raised = await asyncio.wait_for(watched(kube), 5)
    assert type(raised) is error
    assert changes == []
    if behaviour is not reset and isinstance(raised, Unavailable):
        assert not raised.unknown


async def test_a_silent_watch_ends_a_margin_after_its_own_limit(server: Server, kube: KubeWire) -> None:
    server.behaviour = stream(event("ADDED", ip("a", 6)), end="silence")
    started = time.monotonic()
    _, raised = await asyncio.wait_for(watched(kube), 5)
    assert isinstance(raised, Unavailable)
    limit = int(server.asked[-1].query["timeoutSeconds"])
    assert limit + 0.2 < time.monotonic() - started < limit + 2


async def test_a_watch_that_does_not_even_say_that_nothing_is_new_is_dead(server: Server, tmp_path: Path) -> None:
    """Bookmarks keep one alive for as long as it shall last; without them it ends long before that."""
    bookmark = event("BOOKMARK", {"kind": "IP", "metadata": {"resourceVersion": "8"}})

    async def behave(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "Transfer-Encoding: chunked"))
        for _ in range(4):
            await asyncio.sleep(0.4)
            writer.write(chunk(bookmark))
        await asyncio.Event().wait()

    server.behaviour = behave
    wire = await connect(server.kubeconfig(tmp_path), quiet=1.0)
    started = time.monotonic()
    changes, raised = await asyncio.wait_for(watched(wire), 20)
    assert [change.version for change in changes] == [8] * 4
    assert isinstance(raised, Unavailable)
    assert time.monotonic() - started > 2.5
    await wire.close()


async def test_a_quiet_watch_that_the_server_ends_is_no_error(server: Server, kube: KubeWire) -> None:
    server.behaviour = stream()
    assert await watched(kube) == ([], None)


async def test_a_watch_that_is_left_early_lets_its_connection_go(server: Server, kube: KubeWire) -> None:
    server.behaviour = stream(event("ADDED", ip("a", 6)), end="silence")
    watch = kube.watch(Kind.IP, 5)
    assert (await anext(watch))[0].version == 6
    await watch.aclose()  # type: ignore[attr-defined]
    server.behaviour = answer(200, page())
    await kube.list(Kind.IP)


# ---- figures, printed and not asserted


@pytest.mark.slow
async def test_figures_of_the_api_server(server: Server, kube: KubeWire) -> None:
    """Print what an event, a listed object and a write cost this process (the server shares it, and is subtracted)."""
    fields = {"managedFields": [{"manager": f"m{n}", "fieldsV1": {f"f:{k}": {} for k in range(20)}} for n in range(4)]}
    pod = ip("pod", 6) | {
        "kind": "Pod",
        "spec": {"nodeName": "n", "containers": [{"name": "c", "env": ["x" * 40] * 50}]},
    }
    pod["metadata"] |= fields | {"annotations": {f"ovn.kubernetes.io/{n}": "v" * 20 for n in range(15)}}
    line = event("MODIFIED", pod)
    count = 5_000

    async def flood(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "Transfer-Encoding: chunked"))
        piece = b"".join(f"{len(line):x}\r\n".encode() + line + b"\r\n" for _ in range(100))
        for _ in range(count // 100):
            writer.write(piece)
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    server.behaviour = flood
    wire = kube
    cpu = time.process_time()
    seen = 0
    async for batch in wire.watch(Kind.POD, 5):
        seen += sum(isinstance(c.object, Pod) for c in batch)
    print(f"\nwatch: {len(line)} B an event, {(time.process_time() - cpu) / count * 1e6:.1f} us each with its server")
    assert seen == count
    server.behaviour = answer(201, ip("x"))
    body = {"spec": dict.fromkeys("abcdefgh", "text"), "metadata": {"labels": {"a": "b"}}}
    cpu = time.process_time()
    for _ in range(100):
        await asyncio.gather(*(wire.create(Kind.IP, "", "x", body) for _ in range(20)))
    print(f"write: {(time.process_time() - cpu) / 2000 * 1e6:.0f} us each with its server, {os.cpu_count()} cores")


@pytest.mark.parametrize(
    ("groups", "resources", "error"),
    [
        (["apps"], [], NotFound),
        (["kubevirt.io"], ["virtualmachineinstances"], NotFound),
        (["kubevirt.io"], ["virtualmachines"], Unavailable),
        (None, [], Unavailable),
    ],
)
async def test_only_discovery_tells_that_a_kind_is_not_served(
    server: Server, kube: KubeWire, groups: list[str] | None, resources: list[str], error: type
) -> None:
    """A proxy's 404 is no word on what the cluster has (contract §2, Rule 2)."""
    lists = {
        "/apis": {"kind": "APIGroupList", "groups": [{"name": g} for g in groups or ()]},
        "/apis/kubevirt.io/v1": {"kind": "APIResourceList", "resources": [{"name": r} for r in resources]},
    }

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        found = lists.get(asked.path) if groups is not None else {"kind": "Proxy"} if asked.path == "/apis" else None
        await (answer(200, found) if found else answer(404, b"404 page not found\n"))(asked, writer)

    server.behaviour = behave
    with pytest.raises(PortError) as raised:
        await kube.list(Kind.VM)
    assert isinstance(raised.value, error)
    _, ended = await watched(kube, Kind.VM)
    assert isinstance(ended, NotFound) == (error is NotFound)
