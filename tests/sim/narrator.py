"""Tells what happens in a universe, for a person who has a seed and wants to know why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from controller.core.objects import Kind

if TYPE_CHECKING:
    from tests.sim.apiserver import Request
    from tests.sim.northbound import Transaction
    from tests.sim.store import Commit
    from tests.sim.world import SimWorld


def narrate(universe: SimWorld, text: str) -> None:
    """Print every request and commit whose line contains the text."""

    def tell(line: str) -> None:
        if text in line:
            print(f"{universe.now():9.3f} {line}")

    def sent(request: Request) -> None:
        if request.kind != Kind.LEASE or "Lease" in text:
            tell(f"{request.by} asks {request.verb} {request.kind} {request.name} {request.body}")

    def committed(commit: Commit) -> None:
        if commit.kind is Kind.LEASE and "Lease" not in text:
            return
        change = "gone" if commit.new is None else _difference(commit.old, commit.new)
        tell(f"      {commit.by} wrote {commit.kind} {commit.name} v{commit.version}: {change}")

    def transacted(change: Transaction) -> None:
        for name, (old, new) in (*change.ports.items(), *change.switches.items(), *change.sets.items()):
            tell(f"      {change.by} wrote row {name}: {old} -> {new}")

    universe.traffic.witness.insert(0, sent)
    universe.store.witness.insert(0, committed)
    universe.database.witness.insert(0, transacted)
    tell(f"{universe.options}{text}")


def _difference(old: Any, new: Any) -> Any:
    """What of the new document is not in the old one."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    keys = [k for k in (*new, *(k for k in old if k not in new)) if old.get(k) != new.get(k)]
    return {k: _difference(old.get(k), new.get(k)) for k in keys if k not in ("resourceVersion", "managedFields")}
