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
