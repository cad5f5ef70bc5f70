"""The least HTTP client for the API server, used by the load generator and by the floor alike."""

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
import yarl

MERGE = "application/merge-patch+json"
IPS = "/apis/kubeovn.io/v1/ips"


class Refused(Exception):
    """The server said no."""


class Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    finalizers: list[str] | None = None
    annotations: dict[str, str] | None = None


class IpSpec(msgspec.Struct, rename="camel"):
    v4_ip_address: str | None = None


class Seen(msgspec.Struct):
    """An IP or a Pod, as far as anybody here looks."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    spec: IpSpec = msgspec.field(default_factory=IpSpec)


class News(msgspec.Struct):
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
encode = msgspec.json.encode


class Api:
    """One session with the server; `async with` closes it."""

    def __init__(self, server: str, ca: str, token: str) -> None:
        context = ssl.create_default_context(cadata=ca)
        self._server = server
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
            headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
            read_bufsize=2**20,
        )

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        """With the server and the token of a kubeconfig as tests.cluster writes it."""
        import base64  # noqa: PLC0415 - only here

        told = json.loads(kubeconfig.read_text())
        cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
        return cls(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]).decode(), user["token"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        """One request; raises Refused."""
        data = None if body is None else encode(body)
        url = yarl.URL(self._server + path, encoded=True)
        async with self._session.request(method, url, data=data, headers={"Content-Type": content_type}) as answer:
            found = await answer.read()
            if answer.status >= 300:
                raise Refused(f"{method} {path}: {answer.status} {found[:300].decode(errors='replace')}")
            return found

    async def everything(self, path: str) -> tuple[list[Seen], str]:
        """Everything there, and the version to watch from."""
        found: list[Seen] = []
        token = ""
        while True:
            page = _LIST.decode(await self.send("GET", f"{path}?limit=500&continue={token}"))
            found += page.items
            token = page.metadata.token
            if not token:
                return found, page.metadata.resource_version

    async def watch(self, path: str, version: str) -> AsyncIterator[list[News]]:
        """What happens, in pieces as they arrive; resumed when the server ends it, as it does for slow readers."""
        while True:
            url = yarl.URL(f"{self._server}{path}?watch=1&timeoutSeconds=7200&resourceVersion={version}", encoded=True)
            async with self._session.get(url) as answer:
                if answer.status != 200:
                    raise Refused(f"watch {path}: {answer.status}")
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    if lines:
                        news = [_NEWS.decode(line) for line in lines if line]
                        if any(one.type == "ERROR" for one in news):
                            raise Refused(f"watch {path}: {lines[-1].decode(errors='replace')}")
                        yield news
                        version = news[-1].object.metadata.resource_version
