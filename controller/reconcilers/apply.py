"""Effect -> port call, and what each answer means for the barrier.

The queue is the only retrier: every PortError goes up to the worker (house.md).
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from controller.core import occupants
from controller.core.effects import (
    ConfirmGone,
    Create,
    Delete,
    DropAddressSet,
    DropPort,
    DropSwitch,
    Patch,
    Promise,
    PutAddressSet,
    PutPort,
    PutSwitch,
    Remember,
    Withdraw,
)
from controller.core.neighbours import Vip
from controller.core.objects import Pod
from controller.ports import Conflict, Fenced, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from controller.core.effects import Effect, KubeEffect, NbEffect
    from controller.machines.barrier import Barrier
    from controller.ports import World
    from controller.reconcilers.keys import Key
    from controller.reconcilers.telemetry import Telemetry

    InTerm: TypeAlias = Callable[[], Awaitable[None]]

_IN_NORTHBOUND: Final = (PutPort, DropPort, PutSwitch, DropSwitch, PutAddressSet, DropAddressSet)


def steps(effects: tuple[Effect, ...]) -> Iterator[tuple[NbEffect, ...] | KubeEffect | ConfirmGone | Remember]:
    """The effects in order but for those of the deciding moment; neighbours in Northbound are one transaction."""
    outward = [e for e in effects if not isinstance(e, (Promise, Withdraw))]
    for in_northbound, run in groupby(outward, lambda e: isinstance(e, _IN_NORTHBOUND)):
        if in_northbound:
            yield tuple(run)  # type: ignore[arg-type]
        else:
            yield from run  # type: ignore[misc]


class Applier:
    """Carries effects out and tells the barrier what was written, or that nobody knows."""

    def __init__(
        self, world: World, barrier: Barrier[Key], telemetry: Telemetry, in_term: InTerm | None = None
    ) -> None:
        """`in_term` returns while we may write, which is asked right before each step."""
        self._world, self._barrier, self._telemetry, self._in_term = world, barrier, telemetry, in_term

    async def apply(self, key: Key, step: tuple[NbEffect, ...] | KubeEffect | ConfirmGone) -> None:
        """Do one step; raises the PortError it met."""
        if self._in_term is not None:
            await self._in_term()
        match step:
            case tuple():
                await self._commit(key, step)
            case ConfirmGone():
                await self._confirm_gone(step)
            case Create() | Patch() | Delete():
                await self._write(key, step)
            case _:
                assert_never(step)

    async def _commit(self, key: Key, effects: tuple[NbEffect, ...]) -> None:
        northbound, settled = self._world.northbound, False
        try:
            seq = await northbound.commit(effects)
            settled = True
            self._barrier.wrote_rows(key, seq)
        except Unavailable as silence:
            settled = not silence.unknown
            raise
        except (Conflict, Fenced):
            settled = True
            raise
        finally:
            if not settled:  # silence, or we were cancelled while it was under way
                self._barrier.unknown_rows(key, northbound.epoch)
        for effect in effects:
            self._telemetry.wrote(type(effect).__name__)

    async def _write(self, key: Key, effect: KubeEffect) -> None:
        kind, known = effect.kind, False
        try:
            version = await self._send(effect)
            known = True
            self._barrier.wrote(key, kind, version)
        except Unavailable as silence:
            known = not silence.unknown
            raise
        except Exception:
            known = True  # a refusal: nothing was written
            raise
        finally:
            if not known:
                self._barrier.unknown(key, kind, effect.namespace, effect.name)
        self._telemetry.wrote(f"{type(effect).__name__}{kind}{_of(effect)}")
        if isinstance(effect, Delete) and effect.why:
            self._telemetry.released(effect.why)

    async def _send(self, effect: KubeEffect) -> int:
        kube = self._world.kube
        match effect:
            case Create(kind, namespace, name, body):
                return await kube.create(kind, namespace, name, body)
            case Patch(kind, namespace, name, body, subresource):
                return await kube.patch(kind, namespace, name, body, subresource)
            case Delete(kind, namespace, name, uid, seen):
                return await kube.delete(kind, namespace, name, uid, seen)
            case _:
                assert_never(effect)

    async def _confirm_gone(self, whom: ConfirmGone) -> None:
        found = await self._world.kube.read(whom.kind, whom.namespace, whom.name)
        if found is not None and (
            whom.uid not in {"", found.metadata.uid} or whom.generation == found.metadata.generation
        ):
            return
        if isinstance(found, Vip) and whom.row is not None and not occupants.tenant(whom.row, found, None):
            return
        there = found is not None and (not isinstance(found, Pod) or (found.alive and not found.spec.host_network))
        if there:
            msg = f"{whom.kind} {whom.namespace}/{whom.name} is there: its replica is late"
            raise Conflict(msg)


def _of(effect: KubeEffect) -> str:
    return "Status" if isinstance(effect, Patch) and effect.subresource else ""
