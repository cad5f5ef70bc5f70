"""Does the simulation bite? Break one rule at a time and count the universes until somebody notices.

    python -m tests.sim.mutants [--limit N] [--jobs 2] [--only TEXT] [--record]

To add a mutant: one line in MUTANTS, a name that is a sentence, and a patch as a context manager. A universe that the
healthy controller does not survive proves nothing and is skipped. `bites.json` says which seed noticed a mutant last
time: it is tried first, and is only a hint, for any change of the stories makes it another universe.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import sys
import time
from concurrent.futures import as_completed
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unittest import mock

from controller.core import ipam, naming, occupants
from controller.core.decisions import (
    conditions,
    migration,
    networks,
    nic,
    pod,
    realise,
    release,
    reservation,
    retention,
)
from controller.core.decisions.networks import Networks
from controller.core.effects import ConfirmGone, Delete, DropPort
from controller.machines.barrier import Barrier
from controller.machines.pools import Pools
from controller.machines.replica import Replica
from controller.machines.shelf import Shelf
from controller.machines.waiting import Waiting
from controller.ports import Conflict
from controller.reconcilers import workloads
from controller.reconcilers.fence import Guard
from controller.reconcilers.leader import Leader
from controller.reconcilers.mirrors import Mirrors
from controller.reconcilers.picture import Picture
from controller.reconcilers.worker import Worker
from tests.sim import store
from tests.sim.crew import crew
from tests.sim.northbound import Database
from tests.sim.run import attempt
from tests.sim.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BITES: Final = Path(__file__).with_name("bites.json")

Patch: TypeAlias = "Callable[[], AbstractContextManager[Any]]"


def swap(owner: Any, name: str, new: Any) -> Patch:
    """Put something else in the place of an attribute that is there."""
    getattr(owner, name)
    return lambda: mock.patch.object(owner, name, new)


def around(owner: Any, name: str, wrapped: Callable[..., Any]) -> Patch:
    """Put a function in the place of another one, which it gets as its first argument."""
    return swap(owner, name, functools.partial(wrapped, getattr(owner, name)))


@contextmanager
def _both(*patches: Patch) -> Iterator[None]:
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch())
        yield


def both(*patches: Patch) -> Patch:
    """Several patches as one mutant."""
    return lambda: _both(*patches)


# -- the world --------------------------------------------------------------------------------------------


def _create_or_patch(true: Any) -> Any:
    def create(self: Store, kind: Any, namespace: str, name: str, body: Any, by: str) -> int:
        try:
            return int(true(self, kind, namespace, name, body, by))
        except Conflict:
            return self.patch(kind, namespace, name, body, by)

    return create


def _put_anyway(true: Any) -> Any:
    def put(self: Database, draft: Any, row: Any, was: Any) -> None:
        present = draft.ports.get(row.name)
        true(self, draft, row, present if present is not None else was and draft.port(was.uuid))

    return put


# -- the controller ---------------------------------------------------------------------------------------


def _keep_vanished(true: Any) -> Any:
    def replace(self: Replica[Any], objects: Any, version: int) -> Any:
        fresh = {(o.metadata.namespace, o.metadata.name): o for o in objects}
        return true(
            self, {**{(o.metadata.namespace, o.metadata.name): o for o in self.values()}, **fresh}.values(), version
        )

    return replace


def _retry_never(self: Worker, key: Any, error: Any) -> None:
    del self, key, error


def _without_requeue(true: Any) -> Any:
    def succeed(self: Worker, key: Any, decision: Any, now: float) -> None:
        true(self, key, _replace(decision, requeue_after=None), now)

    return succeed


def _replace(decision: Any, **changes: Any) -> Any:
    from dataclasses import replace  # noqa: PLC0415 - as the other names here are the controller's

    return replace(decision, **changes)


def _without(true: Any, kind: type) -> Any:
    return lambda *args: [effect for effect in true(*args) if not isinstance(effect, kind)]


def _last_first(true: Any) -> Any:
    return lambda effect: -1 if isinstance(effect, Delete) else true(effect)


def _reversed_retire(true: Any) -> Any:
    def retire(*args: Any) -> Any:
        decision = true(*args)
        return _replace(decision, effects=tuple(reversed(decision.effects)))

    return retire


def _never_deposed(self: Leader, work: Any) -> Any:
    async def hold() -> None:
        while not work.done():
            await self._turn()

    return hold()


async def _without_mending(self: Guard) -> None:
    await asyncio.sleep(1e9)


def _ports_by_name(true: Any) -> Any:
    def decide(request: Any, bidder: Any, held: Any, grant: Any) -> Any:
        decision = true(request, bidder, held, grant)
        if held.row is None:
            return decision
        kept = tuple(e for e in decision.effects if type(e).__name__ != "PutPort")
        return _replace(decision, effects=kept)

    return decide


def _only_plain(true: Any) -> Any:
    return lambda held, ip: true(held, ip) and ip.spec.pod_type == ""


def _from_zero(true: Any) -> Any:
    def judge(tenure: Any, owner: Any, listed: Any) -> Any:
        state = owner.state and _replace(owner.state, start=0)
        return true(tenure, _replace(owner, state=state), listed)

    return judge


def _served(true: Any) -> Any:
    return lambda picture, owner: _replace(true(picture, owner), served=True)


def _sets_only(true: Any) -> Any:
    return lambda picture, value: iter(()) if isinstance(value, str) else true(picture, value)


def _only_more(true: Any) -> Any:
    return lambda present, managed: true(present, {**dict(present), **managed} if managed is not None else None)


def _from_any_stock(true: Any) -> Any:
    def next_free(self: Shelf, now: float, cooldown: float, pool: str = "", skip: Any = ()) -> int | None:
        stocks = [pool] if pool else list(self._stocks)
        found = [value for name in stocks if (value := true(self, now, cooldown, name, skip)) is not None]
        return min(found, default=None)

    return next_free


def _divide_for_all(true: Any) -> Any:
    def divide(self: Pools, plan: Any) -> Any:
        """Every pool has all that it names; the shelf takes one of them."""
        divided = true(self, plan)
        for name in self.of_subnet(plan.name):
            self._known[name].overlap = None
        return divided

    return divide


def _all_or_nothing(true: Any) -> Any:
    def together(parts: Any) -> Any:
        decision = true(parts)
        return _replace(decision, effects=()) if decision.refusal is not None else decision

    return together


_truth: Final[dict[str, Any]] = {
    "together": pod.together,
    "create": Store.create,
    "put": Database._put_port,
    "replace": Replica.replace,
    "succeed": Worker._succeed,
    "ends": release._ends,
    "by_set": retention._by_set,
    "machine_of": workloads._machine_of,
    "retained": workloads.retained,
    "merged": migration.merged,
    "rank": pod._rank,
    "release": release.release,
    "retire": reservation._retire,
    "realise": realise.realise,
    "next_free": Shelf.next_free,
    "divide": Pools.divide,
}

MUTANTS: Final[dict[str, Patch]] = {
    # the world's guards, without which the controller's own are worth nothing
    "create is an upsert": swap(Store, "create", _create_or_patch(_truth["create"])),
    "patches ignore resourceVersion and uid": swap(store, "expect", lambda _old, _body: None),
    "a port is put whatever is there": swap(Database, "_put_port", _put_anyway(_truth["put"])),
    # machines
    "a key does not read its own writes": both(
        swap(Barrier, "behind", lambda *_: False), swap(Barrier, "doubts", lambda *_: ())
    ),
    "a relist keeps what has vanished": swap(Replica, "replace", _keep_vanished(_truth["replace"])),
    "nobody who waits is woken": swap(Waiting, "fire", lambda *_args, **_more: []),
    "a failure is not tried again": swap(Worker, "_fail", _retry_never),
    "requeue_after is dropped": swap(Worker, "_succeed", _without_requeue(_truth["succeed"])),
    # the shell
    "a promise is not put into the ledger": swap(Picture, "promise", lambda *_: None),
    "a new leader works before it has read anew": swap(Mirrors, "catch_up", lambda *_: None),
    "a deposed leader goes on": both(swap(Leader, "hold", _never_deposed), swap(Leader, "leads", lambda _: True)),
    "Northbound has no fence": swap(Database, "_guard", lambda *_: None),
    "a fence that somebody changed stays as it is": swap(Guard, "mend", _without_mending),
    "a grant is learnt from the watch alone": swap(Picture, "remember", lambda *_: None),
    # the rules
    "the conflict check is off": swap(ipam, "_in_conflict", lambda *_: None),
    "no cool-down": swap(ipam, "_cooling", lambda *_: 0.0),
    "a Vip's address is nobody's": swap(occupants, "of_neighbour", lambda _one: ()),
    "a subnet's own address is nobody's": swap(occupants, "of_subnet", lambda _one: ()),
    "the gateway may be named": swap(ipam, "_role", lambda *_: None),
    "retention is forgotten": swap(retention, "standing", lambda *_: retention.Cause.POD_GONE),
    "nothing of a StatefulSet or VM is ever freed": swap(release, "_ends", _only_plain(_truth["ends"])),
    "an owner's uid does not count": swap(retention, "_another", lambda *_: False),
    "a subnet that moved away does not count": swap(retention, "_moved", lambda *_: False),
    "ordinals.start does not count": swap(retention, "_by_set", _from_zero(_truth["by_set"])),
    "a kind that is not served is taken for gone": swap(workloads, "_machine_of", _served(_truth["machine_of"])),
    "nobody is told when a workload changes": swap(workloads, "concerned", lambda *_: iter(())),
    "a namespace's new subnets concern nobody": swap(workloads, "retained", _sets_only(_truth["retained"])),
    "options of a migration are left over": swap(migration, "merged", _only_more(_truth["merged"])),
    "keep-vm-ip does not count": swap(Picture, "_settled", lambda _self, one: one),
    "an IP is deleted before its port": swap(pod, "_rank", _last_first(_truth["rank"])),
    "the finalizer goes before the port": swap(reservation, "_retire", _reversed_retire(_truth["retire"])),
    "the IP goes without its port": swap(pod, "release", _without(_truth["release"], DropPort)),
    "the IP of a pod stays": swap(pod, "release", _without(_truth["release"], Delete)),
    "absence from a replica is proof": swap(pod, "release", _without(_truth["release"], ConfirmGone)),
    "a port is not compared with what it should be": swap(nic, "realise", _ports_by_name(_truth["realise"])),
    "a NIC that left the list stays": swap(Networks, "may_have", lambda *_: True),
    "a definition takes its NICs with it": both(
        swap(networks, "_as_it_runs", lambda *_: None), swap(Networks, "may_have", lambda *_: False)
    ),
    "a NIC that is refused stops the others": swap(pod, "together", _all_or_nothing(_truth["together"])),
    "status is written whether it differs or not": swap(conditions, "_says", lambda *_: False),
    "a label that vanished ends a reservation": swap(
        reservation, "_is_reserved", lambda _view, ip: ip.metadata.labels.get(naming.RESERVED) == "true"
    ),
    "a pool's addresses leave by the default pool": swap(Shelf, "next_free", _from_any_stock(_truth["next_free"])),
    "a pool that names another one's addresses serves": swap(Pools, "divide", _divide_for_all(_truth["divide"])),
    "edits are not undone": swap(reservation, "_drift", lambda *_: ({}, ())),
}


# Survivors of 300 universes and more, each the second of two guards: `--only` hunts them, too.
EXPLAINED: Final[dict[str, tuple[str, Patch]]] = {
    "silence is taken for a refusal": (
        "the write's own guard (name, version, content) stops who decides too early; what it promised stays promised",
        both(swap(Barrier, "unknown", lambda *_: None), swap(Barrier, "unknown_rows", lambda *_: None)),
    ),
    "silent writes have no ghosts": (
        "what lands after its owner has gone meets the address's cool-down, which lasts longer in these subnets",
        swap(Worker, "_haunt", lambda *_: None),
    ),
}

# What seldom happens happens more often where it is the only thing that tells: the healthy controller has it, too.
HARSH: Final[dict[str, dict[str, Any]]] = {
    "Northbound has no fence": {"crashes": True, "standby": True, "weather": (("orphaned", 1.0),)},
}


@dataclass(frozen=True, slots=True)
class Bite:
    """How a mutant was noticed: the seed that did, what it said, and how many it took."""

    name: str
    seed: int | None
    why: str
    tried: int


def hunt(name: str, limit: int, hint: int | None = None) -> Bite:
    """Run universes with the mutant until one notices; only those that a healthy controller survives count."""
    patch = MUTANTS[name] if name in MUTANTS else EXPLAINED[name][1]
    seeds = itertools.chain([] if hint is None else [hint], range(limit))
    for tried, seed in enumerate(seeds, 1):
        with patch():
            _, outcome, why = attempt(seed, HARSH.get(name))
        if outcome is None and attempt(seed, HARSH.get(name))[1] is not None:
            return Bite(name, seed, why, tried)
    return Bite(name, None, "", limit)


def known() -> dict[str, int]:
    """Which seed noticed which mutant when it was last recorded."""
    found: dict[str, int] = json.loads(BITES.read_text())
    return found


def main() -> int:
    """Hunt them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=1200, help="universes to try before a mutant counts as survivor")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--record", action="store_true", help="write the seeds that noticed into bites.json")
    asked = parser.parse_args()
    names = [name for name in (*MUTANTS, *(EXPLAINED if asked.only else ())) if asked.only in name]
    seeds, started = {name: seed for name, seed in known().items() if name in MUTANTS}, time.perf_counter()
    survivors = 0
    with crew(asked.jobs) as jobs:
        running = {jobs.submit(hunt, name, asked.limit, seeds.get(name)) for name in names}
        for done in as_completed(running):
            bite = done.result()
            survivors += bite.seed is None
            seeds |= {bite.name: bite.seed} if bite.seed is not None else {}
            if asked.record:
                BITES.write_text(json.dumps(seeds, indent=1, sort_keys=True) + "\n")
            verdict = f"caught by seed {bite.seed}" if bite.seed is not None else "SURVIVED"
            print(f"{bite.name:48} {verdict:20} after {bite.tried:3}  {bite.why[:150]!r}", flush=True)
    for name, (why, _) in EXPLAINED.items() if not asked.only else ():
        print(f"{name:48} not hunted: {why}")
    print(f"{len(names)} mutants, {survivors} survived, {time.perf_counter() - started:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
