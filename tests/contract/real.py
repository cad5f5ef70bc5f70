"""The real world: etcd, kube-apiserver and ovsdb-server, each behind a relay that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from controller.core.effects import Body
from controller.core.objects import Kind
from controller.ports import Fence, World
from controller.wire.clock import RealClock
from controller.wire.kube import KubeWire, connect
from controller.wire.northbound import NorthboundWire
from tests.cluster.cluster import Cluster
from tests.contract.relay import Relay
from tests.contract.worlds import PATIENCE, Law

_NUMBERS = count(1)


class RealPoke:
    """Somebody else: a client with a way of its own to the servers."""

    def __init__(self, cluster: Cluster, kube: KubeWire, api: Relay, database: Relay) -> None:
        self._cluster, self._kube = cluster, kube
        self._api, self._database = api, database

    def name(self, stem: str) -> str:
        return f"{stem}-{next(_NUMBERS)}"

    @contextlib.asynccontextmanager
    async def kube_gap(self) -> AsyncIterator[None]:
        async with self._api.cut():
            yield

    @contextlib.asynccontextmanager
    async def northbound_gap(self) -> AsyncIterator[None]:
        async with self._database.cut():
            yield

    async def create(self, kind: Kind, namespace: str, name: str, body: Body) -> None:
        await self._kube.create(kind, namespace, name, body)

    async def serve_nads(self) -> None:
        await asyncio.to_thread(self._cluster.serve, "multus")

    async def drop_port(self, name: str) -> None:
        await asyncio.to_thread(self._cluster.nbctl, "lsp-del", name)

    async def relabel_port(self, name: str, external_ids: Mapping[str, str]) -> None:
        pairs = [f'external_ids:{key}="{value}"' for key, value in external_ids.items()]
        table = "Logical_Switch_Port"
        await asyncio.to_thread(
            self._cluster.nbctl,
            "clear",
            table,
            name,
            "external_ids",
            *(("--", "set", table, name, *pairs) if pairs else ()),
        )

    async def put_fence(self, fence: Fence | None) -> None:
        table, ids = "HA_Chassis_Group", [f"external_ids:{key}={json.dumps(value)}" for key, value in fence or ()]
        gone = ("--if-exists", "destroy", table, "keepip")
        made = ("--", "create", table, "name=keepip", *ids) if fence is not None else ()
        await asyncio.to_thread(self._cluster.nbctl, *gone, *made)

    async def forgotten(self) -> int:
        return 1


async def _live(law: Law, cluster: Cluster, folder: Path) -> None:
    where = urlsplit(cluster.server)
    async with Relay((str(where.hostname), int(where.port or 443))) as api, Relay(cluster.nb_tcp) as database:
        config = json.loads(cluster.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{api.port}"
        kubeconfig = folder / "relayed.kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        kube, other = await connect(kubeconfig), await connect(cluster.kubeconfig)
        northbound = NorthboundWire(f"tcp:127.0.0.1:{database.port}")
        await northbound.start()
        try:
            async with asyncio.timeout(3 * PATIENCE):
                await law(World(kube, northbound, RealClock()), RealPoke(cluster, other, api, database))
        finally:
            await northbound.close()
            await kube.close()
            await other.close()


def run(law: Law, cluster: Cluster, folder: Path) -> None:
    """Run the law on the real servers."""
    asyncio.run(_live(law, cluster, folder))
