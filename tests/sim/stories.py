"""What stories about the world are told with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from controller.core.rows import PortRow
from tests.sim import loop
from tests.sim.world import Options, SimWorld

WE: Final = "controller"


def in_a_world(story: Callable[[SimWorld], Awaitable[None]], options: Options | None = None) -> None:
    """Tell the story in a universe where nothing fails."""

    async def tell() -> None:
        await story(SimWorld(1, options))

    loop.run(tell())


def row(name: str, address: str, mac: str = "02:00:00:00:02:01", vendor: str = "kube-ovn") -> PortRow:
    """A port in the subnet `tiny`."""
    pod = name.partition(".")[0]
    ids = (("ls", "tiny"), ("pod", f"default/{pod}"), ("vendor", vendor))
    return PortRow(name, (f"{mac} {address}",), ids)
