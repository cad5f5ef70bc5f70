"""The least HTTP client for the API server: a generator must not be slower than what it measures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import msgspec
import yarl

from controller.wire.access import Access

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

MERGE: Final = "application/merge-patch+json"
IPS: Final = "/apis/kubeovn.io/v1/ips"
SUBNETS: Final = "/apis/kubeovn.io/v1/subnets"
NAMESPACES: Final = "/api/v1/namespaces"
_PATIENCE_S: Final = 5.0


class Refused(Exception):
    """The server said no, or nothing: then `status` is 0."""

    def __init__(self, text: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


class Meta(msgspec.Struct, rename="camel"):
    """Of any object, as far as anybody here looks."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None
    annotations: dict[str, str] | None = None


class Spec(msgspec.Struct, rename="camel"):
    """Of an IP."""

    namespace: str | None = None
    ip_address: str | None = None


class Seen(msgspec.Struct):
    """An IP or a Pod."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: Spec = msgspec.field(default_factory=Spec)


class News(msgspec.Struct):
    """An event of a watch."""

    type: str
    object: Seen


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str
    token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[Seen]


_NEWS = msgspec.json.Decoder(News)
_LIST = msgspec.json.Decoder(_List)


class Api:
    """One session with the server of a kubeconfig; `async with` opens and closes it."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self._access = Access(kubeconfig, connections=0)  # as many as there are requests
        self.throttled = 0

    async def __aenter__(self) -> Self:
        await self._access.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._access.close()

    async def send(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", limit: float = 60.0
    ) -> bytes:
        """One request; a 429 is obeyed and asked again, every other refusal raises Refused."""
        data = None if body is None else msgspec.json.encode(body)
        while True:
            try:
                return await self._once(method, path, data, content_type, limit)
            except Refused as refused:
                if refused.status != 429 or refused.retry_after is None:
                    raise
                self.throttled += 1
                await asyncio.sleep(min(_PATIENCE_S, refused.retry_after))

    async def _once(self, method: str, path: str, data: bytes | None, content_type: str, limit: float) -> bytes:
        headers = await self._headers() | {"Content-Type": content_type}
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=5)
        try:
            async with self._access.session.request(
                method, self._url(path), data=data, headers=headers, timeout=timeout, **self._access.options
            ) as answer:
                found = await answer.read()
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise Refused(f"{method} {path}: {type(error).__name__} {error}") from error
        if answer.status >= 300:
            text = f"{method} {path}: {answer.status} {found[:300].decode(errors='replace')}"
            after = answer.headers.get("Retry-After", "")
            raise Refused(text, answer.status, float(after) if after.isdigit() else None)
        return found

    async def everything(self, path: str, selector: str = "") -> tuple[list[Seen], str]:
        """Everything there with those labels, and the version to watch from."""
        found: list[Seen] = []
        token = ""
        while True:
            query = f"limit=500&continue={token}" + (f"&labelSelector={selector}" if selector else "")
            page = _LIST.decode(await self.send("GET", f"{path}?{query}"))
            found += page.items
            token = page.metadata.token
            if not token:
                return found, page.metadata.resource_version

    async def watch(self, path: str, version: str) -> AsyncIterator[list[News]]:
        """What happens, in pieces as they arrive; resumed when the server ends it, as it does for slow readers."""
        while True:
            query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds=7200&resourceVersion={version}"
            try:
                async for news in self._watched(f"{path}?{query}"):
                    if any(one.type == "ERROR" for one in news):
                        raise Refused(f"watch {path}: the server has forgotten {version}", 410)
                    version = news[-1].object.metadata.resource_version
                    yield [one for one in news if one.type != "BOOKMARK"]
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.5)

    async def _watched(self, path: str) -> AsyncIterator[list[News]]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._access.session.get(
            self._url(path), headers=await self._headers(), timeout=timeout, **self._access.options
        ) as answer:
            if answer.status != 200:
                raise Refused(f"watch {path}: {answer.status}", answer.status)
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield [_NEWS.decode(line) for line in lines if line]

    async def _headers(self) -> dict[str, str]:
        return {**await self._access.headers(), "Accept-Encoding": "identity", "User-Agent": "keepip-load"}

    def _url(self, path: str) -> yarl.URL:
        return yarl.URL(self._access.host + path, encoded=True)
