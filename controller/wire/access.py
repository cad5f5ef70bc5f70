"""Where the API server is and who we are: kubernetes_asyncio's configuration, credentials and TLS.

Its HTTP session is replaced: made with trust_env=True, it goes through two threads for every request, four times
the cost (tech.md 4).
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from controller.ports import Denied, Unavailable
from controller.wire import lean

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

config, ApiClient, Configuration = lean.load()
_READ_BUFFER: Final = 2**20


class Access:
    """A session with the server, and the headers that say who asks."""

    def __init__(self, kubeconfig: Path | None, connections: int) -> None:
        self._kubeconfig = kubeconfig
        self._configuration: Any = type.__call__(Configuration)  # a plain one: the class keeps a default elsewhere
        self._configuration.connection_pool_maxsize = connections
        self._in_cluster = kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ
        self._renewal: asyncio.Task[None] | None = None
        self.session: aiohttp.ClientSession
        self.host = ""
        self.options: dict[str, Any] = {}

    async def open(self) -> None:
        """Load the configuration and make the session. Raises Denied if there is none that can be used."""
        try:
            await self._load()
            shipped = ApiClient(self._configuration).rest_client.pool_manager
        except (config.ConfigException, OSError, ValueError) as error:
            raise Denied(f"no usable Kubernetes configuration: {error}") from error
        self.session = aiohttp.ClientSession(
            connector=shipped.connector, connector_owner=True, trust_env=False, read_bufsize=_READ_BUFFER
        )
        shipped.detach()
        self.host = self._configuration.host.rstrip("/")
        if self._configuration.proxy:
            self.options["proxy"] = self._configuration.proxy
        if self._configuration.tls_server_name:
            self.options["server_hostname"] = self._configuration.tls_server_name

    async def close(self) -> None:
        """Close every connection."""
        if self._renewal is not None:
            self._renewal.cancel()
        await self.session.close()

    async def headers(self) -> dict[str, str]:
        """Say who we are, now: a service account's token is read again each minute."""
        try:
            token = await self._configuration.get_api_key_with_prefix("BearerToken")
        except (config.ConfigException, OSError) as error:
            raise Unavailable(f"the token cannot be read: {error}", unknown=False) from error
        return {"Authorization": token.strip()} if token else {}

    async def renew(self, refused: dict[str, str]) -> bool:
        """Load the credentials again, once for all who ask meanwhile; True if they are others than the refused ones."""
        if not self._in_cluster and await self.headers() == refused:
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self._reload())
            await asyncio.shield(self._renewal)
        return await self.headers() != refused

    async def _reload(self) -> None:
        try:
            await self._load()
        except (config.ConfigException, OSError, ValueError):
            log.debug("kubeconfig: could not be loaded again", exc_info=True)

    async def _load(self) -> None:
        if self._in_cluster:
            config.load_incluster_config(client_configuration=self._configuration)
        else:
            await config.load_kube_config(
                config_file=str(self._kubeconfig) if self._kubeconfig else None,
                client_configuration=self._configuration,
                persist_config=False,
            )
