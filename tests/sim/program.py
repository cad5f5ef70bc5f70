"""The controller as the simulation starts it: its settings, its logs, and its bugs as violations."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import structlog

from controller.machines import watch
from controller.reconcilers.controller import Controller
from controller.reconcilers.settings import Tuning
from tests.sim.checkers import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from controller.ports import World
    from tests.sim.world import SimWorld

RESYNC: Final = 600.0  # longer than the calm: most of what is missed is then missed for good
_universes: list[SimWorld] = []


def controller(world: World, identity: str, universe: SimWorld) -> Controller:
    """One life of the controller; whatever it logs as an error breaks the universe."""
    _universes[:] = [universe]
    keep, small = universe.options.keep_vm_ip, universe.options.small
    tuning = Tuning(identity=identity, workers=16, resync_s=RESYNC, sweep_s=20.0, keep_vm_ip=keep)
    return Controller(world, tuning, rows_at_once=3, small=small)


def _verdict(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """A bug that the controller caught and logged is a bug."""
    if _universes:
        text = structlog.processors.ExceptionRenderer()(None, "", dict(event))

        def broken() -> None:
            raise Violation(f"the controller caught a bug of its own: {text}")

        with contextlib.suppress(Violation):
            _universes[0].judge(broken)
    raise structlog.DropEvent


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, only errors are looked at, nothing is printed, and absent CRDs are asked for once a minute.

    Asking every ten seconds makes up most of what a universe does, and tells nothing.
    """
    before, often = structlog.get_config(), watch.UNSERVED_S
    watch.UNSERVED_S = 60.0  # type: ignore[misc]
    structlog.configure(
        processors=[_verdict],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        _universes.clear()
        watch.UNSERVED_S = often  # type: ignore[misc]
        structlog.configure(**before)
