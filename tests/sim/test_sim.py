"""Universes, determinism, and the mutants' hunt; how many by KEEPIP_SEEDS and KEEPIP_MUTANT_SEEDS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS, hunt
from tests.sim.run import attempt

SEEDS = int(os.environ.get("KEEPIP_SEEDS", "50"))
MUTANT_SEEDS = int(os.environ.get("KEEPIP_MUTANT_SEEDS", "120"))
CHUNK = 5
ROOT = Path(__file__).parents[2]


def _works(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.timeout(60)
def test_no_worker_outlives_who_began_it() -> None:
    """A hunt of hours that was killed went on without its head."""
    program = "from tests.sim.run import attempts\nfor _ in attempts(range(10_000), 2): print('one', flush=True)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as head:
        assert head.stdout is not None
        head.stdout.readline()
        workers = [int(pid) for pid in Path(f"/proc/{head.pid}/task/{head.pid}/children").read_text().split()]
        head.kill()
        head.stdout.read()  # ends when nobody holds the other end any more: not before the workers are gone
    assert len(workers) == 2
    assert not any(_works(pid) for pid in workers)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_universe_keeps_the_promises(first: int) -> None:
    failures = {seed: why for seed in range(first, min(first + CHUNK, SEEDS)) if (why := attempt(seed)[2])}

    assert failures == {}


def test_one_seed_is_one_universe_whatever_the_hash_seed() -> None:
    def told(hash_seed: str, seeds: str) -> str:
        program = f"from tests.sim.run import attempt; print(sorted(map(attempt, {seeds}), key=str))"
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert told("1", "(1, 2, 7)") == told("2", "(7, 2, 1)")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str) -> None:
    bite = hunt(name, MUTANT_SEEDS)

    assert bite.seed is not None, f"{name} survived {bite.tried} universes"
