"""/metrics, /livez and /readyz: what a cluster asks of a process (contract §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def serve(
    host: str, port: int, page: Callable[[], Awaitable[str]], unready: Callable[[], list[str]]
) -> tuple[web.AppRunner, int]:
    """Answer until the runner is cleaned up; returns it and the port it listens on. Raises OSError if it is taken."""

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        reasons = unready()
        return web.Response(text="\n".join(reasons or ["ok"]) + "\n", status=503 if reasons else 200)

    async def scrape(_request: web.Request) -> web.Response:
        body = await page()
        return web.Response(body=body.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    return runner, int(runner.addresses[0][1])
