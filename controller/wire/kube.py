"""ports.Kube: the API server over kubernetes_asyncio's configuration, with our own list, watch and writes.

Costs (2 cores, tech.md 4): its Watch takes 1 966 us for a Pod event, this 20; its session 0.9 ms for a write, this
0.25.

Which version to wait for when an object is gone (measured on 1.36). A pod's DELETE answers the pod with the version of
its deletion. Any other object without finalizers is gone at once, and the answer is a Status without a version; and a
patch that removes the last finalizer answers the version *before* the deletion. In both cases the answer here is the
least version that the deletion can have: one more than all that was seen of the kind before the request. A later one
(from a list) would be exact no more often, and a watch that has nothing else to tell would reach it only with its next
bookmark, a minute later. An earlier event can satisfy it too soon; what is then tried again is guarded by the uid.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from controller.core.objects import Kind
from controller.ports import NotFound, PortError, Unavailable
from controller.wire.access import Access
from controller.wire.answers import Nowhere, offers, refusal, silence
from controller.wire.clock import RealClock
from controller.wire.stream import Lines, Reader, Written, written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from controller.core.effects import Body
    from controller.core.objects import Object
    from controller.ports import Change, Clock, Page

PAGE: Final = 500
_CONNECT: Final = 5.0
_TICK: Final = 1e-6  # who comes back as early as this has only been rounded
# A watch that has nothing to tell says so every 60 to 62 s (measured on 1.36; of a server that has just been started,
# the first time after up to 121 s). A watch that was given up too early costs one request: it goes on where it was.
QUIET_S: Final = 90.0
# Measured on 1.36: bookmarks come from two seconds before a watch ends, when a timer of 1 to 1.25 s fires: 0.6 to 2.2 s
# after the start of one of 3 s, in none of 2 s. They come from the server's cache, which is brought to etcd's version
# by a consistent list that is answered from it, and not by one that older servers answer from etcd: so without `limit`.
_BRIEF: Final = 3
_BRIEF_MARGIN: Final = 2.0
_FEW: Final = {"fieldSelector": "metadata.name=keepip"}  # hardly any object has that name


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a kind lives."""

    api: str
    plural: str
    namespaced: bool

    @property
    def root(self) -> str:
        return f"/api/{self.api}" if self.api == "v1" else f"/apis/{self.api}"

    def path(self, namespace: str, name: str = "") -> str:
        scope = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{self.root}{scope}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


_PLACES: Final = {
    Kind.IP: _Place("kubeovn.io/v1", "ips", namespaced=False),
    Kind.SUBNET: _Place("kubeovn.io/v1", "subnets", namespaced=False),
    Kind.POD: _Place("v1", "pods", namespaced=True),
    Kind.NAMESPACE: _Place("v1", "namespaces", namespaced=False),
    Kind.NODE: _Place("v1", "nodes", namespaced=False),
    Kind.STATEFUL_SET: _Place("apps/v1", "statefulsets", namespaced=True),
    Kind.POOL: _Place("kubeovn.io/v1", "ippools", namespaced=False),
    Kind.NAD: _Place("k8s.cni.cncf.io/v1", "network-attachment-definitions", namespaced=True),
    Kind.VM: _Place("kubevirt.io/v1", "virtualmachines", namespaced=True),
    Kind.VMI: _Place("kubevirt.io/v1", "virtualmachineinstances", namespaced=True),
    Kind.MIGRATION: _Place("kubevirt.io/v1", "virtualmachineinstancemigrations", namespaced=True),
    Kind.VIP: _Place("kubeovn.io/v1", "vips", namespaced=False),
    Kind.IPTABLES_EIP: _Place("kubeovn.io/v1", "iptables-eips", namespaced=False),
    Kind.OVN_EIP: _Place("kubeovn.io/v1", "ovn-eips", namespaced=False),
    Kind.LEASE: _Place("coordination.k8s.io/v1", "leases", namespaced=True),
}
_EVENTS: Final = _Place("v1", "events", namespaced=True)
_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"
# The server would compress large lists, for more CPU on both sides than the bytes are worth in a cluster.
_COMMON: Final = {"Accept": _JSON, "Accept-Encoding": "identity", "User-Agent": "keepip"}


@dataclass(frozen=True, slots=True)
class _Limits:
    """Seconds."""

    request: float
    watch: float
    margin: float
    quiet: float


@dataclass(frozen=True, slots=True)
class _Request:
    """One exchange, and how it is called in metrics."""

    verb: str
    kind: str
    method: str
    url: URL
    data: bytes | None = None

    @property
    def writes(self) -> bool:
        return self.method != "GET"

    @property
    def content_type(self) -> str:
        return _MERGE if self.method == "PATCH" else _JSON


async def connect(
    kubeconfig: Path | None = None,
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - a limit of every request, not of this call
    clock: Clock | None = None,
    observe: Callable[[str, str, str, float], None] | None = None,
    connections: int = 64,
    watch_seconds: float = 450.0,
    margin: float = 15.0,
    quiet: float = QUIET_S,
) -> KubeWire:
    """Open the API server of this kubeconfig; None: the cluster we run in, else $KUBECONFIG or ~/.kube/config.

    No request lasts longer than `timeout`, so none outlives a lease whose margin is wider. `observe` hears of each
    one: verb, kind, code, seconds. A watch lasts `watch_seconds`, more or less; one that says nothing for `quiet`, not
    even that nothing is new, is given up as dead, and any is `margin` after its end.
    Raises Denied if there is no configuration that can be used.
    """
    access = Access(kubeconfig, connections)
    await access.open()
    limits = _Limits(timeout, watch_seconds, margin, quiet)
    return KubeWire(access, limits, clock or RealClock(), observe or (lambda *_: None))


class KubeWire:
    """The API server."""

    def __init__(
        self,
        access: Access,
        limits: _Limits,
        clock: Clock,
        observe: Callable[[str, str, str, float], None],
    ) -> None:
        self._access = access
        self._limits = limits
        self._limit = aiohttp.ClientTimeout(total=limits.request, sock_connect=min(_CONNECT, limits.request))
        self._server_limit = {"timeout": f"{max(1, int(limits.request) - 1)}s"}
        self._write_query = urlencode({"fieldManager": "keepip", "fieldValidation": "Ignore", **self._server_limit})
        self._clock = clock
        self._observe = observe
        self._readers = {kind: Reader(kind) for kind in Kind}
        self._seen = dict.fromkeys(Kind, 0)
        self._left_alone: dict[str, float] = {}  # until when, by kind

    async def close(self) -> None:
        """Close every connection; what is under way ends as Unavailable."""
        await self._access.close()

    @property
    def skipped(self) -> dict[Kind, int]:
        """How many objects had no name and were left out, by kind."""
        return {kind: reader.skipped for kind, reader in self._readers.items() if reader.skipped}

    # ---- ports.Kube

    async def list(self, kind: Kind, token: str = "") -> Page:
        """See ports.Kube.list."""
        query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
        try:
            body = await self._get("list", kind, _PLACES[kind].path(""), query)
        except Nowhere as error:
            raise await self._served(kind, error) from error
        page = self._readers[kind].page(body)
        self._saw(kind, page.version)
        return page

    async def latest(self, kind: Kind) -> int:
        """See ports.Kube.latest: a consistent list's version is one, whatever is in it."""
        try:
            body = await self._get("latest", kind, _PLACES[kind].path(""), _FEW)
        except Nowhere as error:
            raise await self._served(kind, error) from error
        return self._readers[kind].page(body).version

    async def watch(self, kind: Kind, version: int, *, brief: bool = False) -> AsyncIterator[tuple[Change, ...]]:
        """See ports.Kube.watch."""
        seconds = _BRIEF if brief else max(1, int(self._limits.watch * self._clock.jitter()))
        margin = _BRIEF_MARGIN if brief else self._limits.margin
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            "resourceVersion": str(version),
        }
        lines = Lines()
        try:
            async for chunk in self._chunks(kind, query, seconds + margin):
                changes, error = self._readers[kind].changes(lines.feed(chunk))
                if changes:
                    self._saw(kind, changes[-1].version)
                    yield changes
                if error is not None:
                    raise error
        except Nowhere as error:
            raise await self._served(kind, error) from error
        if lines.rest:
            raise Unavailable("the watch ended in the middle of a line", unknown=False)

    async def read(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """See ports.Kube.read."""
        try:
            body = await self._get("read", kind, _PLACES[kind].path(namespace, name))
        except NotFound:
            return None
        return self._readers[kind].object(body)

    async def create(self, kind: Kind, namespace: str, name: str, body: Body) -> int:
        """See ports.Kube.create. apiVersion, kind, name and namespace need not be in the body."""
        place = _PLACES[kind]
        named = {"name": name} | ({"namespace": namespace} if place.namespaced else {})
        whole = {"apiVersion": place.api, "kind": str(kind), **body, "metadata": {**body.get("metadata", {}), **named}}
        return self._answered(kind, await self._write("create", kind, "POST", place.path(namespace), whole)).version

    async def patch(self, kind: Kind, namespace: str, name: str, body: Body, subresource: str = "") -> int:
        """See ports.Kube.patch."""
        path = _PLACES[kind].path(namespace, name) + (f"/{subresource}" if subresource else "")
        floor = self._seen[kind]
        meta = self._answered(kind, await self._write("patch", kind, "PATCH", path, body))
        return max(meta.version, floor) + 1 if meta.gone else meta.version

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, seen: str = "") -> int:
        """See ports.Kube.delete, and above for what is answered."""
        guards = {"uid": uid} | ({"resourceVersion": seen} if seen else {})
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": guards}
        path = _PLACES[kind].path(namespace, name)
        floor = self._seen[kind]
        try:
            answer = await self._ask(
                _Request("delete", kind, "DELETE", self._url(path, urlencode(self._server_limit)), encode(options))
            )
        except NotFound:
            return 0
        return floor + 1 if written(answer) is None else self._answered(kind, answer).version

    async def report(self, body: Body) -> None:
        """See ports.Kube.report."""
        namespace = body.get("metadata", {}).get("namespace", "") or "default"
        await self._write("report", "Event", "POST", _EVENTS.path(namespace), body)

    async def _served(self, kind: Kind, error: Nowhere) -> PortError:
        """NotFound if discovery says that the kind is not served: a proxy's 404 alone would not tell."""
        place = _PLACES[kind]
        group = place.api.partition("/")[0]
        try:
            known = group == place.api or offers(await self._get("discover", kind, "/apis"), group)
            if not known or not offers(await self._get("discover", kind, place.root), place.plural):
                return NotFound(f"{place.plural}.{place.api} is not served")
        except Nowhere:
            pass  # not even discovery is where it should be
        return Unavailable(str(error), unknown=False)

    def _saw(self, kind: Kind, version: int) -> None:
        self._seen[kind] = max(version, self._seen[kind])

    def _answered(self, kind: Kind, answer: bytes) -> Written:
        """What an answer says of the object: it was written, whatever else may be unreadable."""
        meta = written(answer)
        if meta is None:
            raise Unavailable("an answer without resourceVersion", unknown=True)
        self._saw(kind, meta.version)
        return meta

    # ---- an overloaded server

    def _hold(self, kind: str) -> None:
        """Send nothing while the server wants to be left alone with this kind: a thousand keys are no thousand tries.

        By kind, because one whose storage is broken is answered 429 for ever. A Lease obeys only its own refusals.
        """
        left = self._left_alone.get(kind, 0.0) - self._clock.now()
        if left > _TICK and kind != Kind.LEASE:
            raise Unavailable(
                f"the server wants no request for {kind} for {left:.1f} s", unknown=False, retry_after=left
            )

    def _refusal(self, kind: str, code: int, headers: Mapping[str, str], body: bytes, *, write: bool) -> PortError:
        """What the answer means, and for how long it silences us."""
        error = refusal(code, headers, body, write=write)
        if code == 429 and isinstance(error, Unavailable) and error.retry_after:
            until = self._clock.now() + error.retry_after
            self._left_alone[kind] = max(until, self._left_alone.get(kind, 0.0))
        return error

    # ---- HTTP

    async def _get(self, verb: str, kind: str, path: str, query: Mapping[str, str] | None = None) -> bytes:
        return await self._ask(_Request(verb, kind, "GET", self._url(path, urlencode(query or {}))))

    async def _write(self, verb: str, kind: str, method: str, path: str, body: Body) -> bytes:
        return await self._ask(_Request(verb, kind, method, self._url(path, self._write_query), encode(body)))

    async def _ask(self, request: _Request) -> bytes:
        """Ask, and answer the body of a success. Raises every PortError.

        401 comes before anything is done, so asking again with a renewed token is safe.
        """
        self._hold(request.kind)
        credentials = await self._access.headers()
        code, headers, body = await self._exchange(request, credentials)
        if code == 401 and await self._access.renew(credentials):
            code, headers, body = await self._exchange(request, await self._access.headers())
        if 200 <= code < 300:
            return body
        raise self._refusal(request.kind, code, headers, body, write=request.writes)

    async def _exchange(self, request: _Request, credentials: dict[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        headers = {**_COMMON, **credentials} | ({"Content-Type": request.content_type} if request.data else {})
        started, code = self._clock.now(), "error"
        try:
            async with self._access.session.request(
                request.method,
                request.url,
                data=request.data,
                headers=headers,
                timeout=self._limit,
                allow_redirects=False,
                **self._access.options,
            ) as answer:
                body = await answer.read()
                code = str(answer.status)
                return answer.status, answer.headers, body
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as error:
            raise silence(error, write=request.writes) from error
        finally:
            self._observe(request.verb, request.kind, code, self._clock.now() - started)

    async def _chunks(self, kind: Kind, query: Mapping[str, str], limit: float) -> AsyncIterator[bytes]:
        """The bytes of a watch as they arrive. Raises every PortError."""
        url = self._url(_PLACES[kind].path(""), urlencode(query))
        self._hold(kind)
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=_CONNECT, sock_read=self._limits.quiet)
        credentials = await self._access.headers()
        started, answered = self._clock.now(), False
        try:
            async with self._access.session.get(
                url, headers={**_COMMON, **credentials}, timeout=timeout, allow_redirects=False, **self._access.options
            ) as answer:
                answered = True
                self._observe("watch", kind, str(answer.status), self._clock.now() - started)
                if answer.status != 200:
                    if answer.status == 401:
                        await self._access.renew(credentials)  # for the next try
                    raise self._refusal(kind, answer.status, answer.headers, await answer.read(), write=False)
                _keep_alive(answer)
                async for chunk in answer.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError) as error:
            if not answered:
                self._observe("watch", kind, "error", self._clock.now() - started)
            raise silence(error, write=False) from error

    def _url(self, path: str, query: str) -> URL:
        return URL(self._access.host + path + (f"?{query}" if query else ""), encoded=True)


def encode(body: Body) -> bytes:
    """Write a body as JSON, with whole numbers of any size: an IPv6 subnet has more addresses than 64 bits count."""
    try:
        return msgspec.json.encode(body, enc_hook=_plain)
    except OverflowError:
        return json.dumps(body, default=_plain, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def _keep_alive(answer: aiohttp.ClientResponse) -> None:
    """Let the kernel find out within a minute that the other end of a quiet watch is gone."""
    transport: Any = answer.connection.transport if answer.connection else None
    connection = transport.get_extra_info("socket") if transport else None
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
