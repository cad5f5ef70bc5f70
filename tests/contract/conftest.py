"""`obeys`: run a law in each world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.fixtures import cluster  # noqa: F401
from tests.contract import real, sim
from tests.contract.worlds import Law


@pytest.fixture(params=["sim", "real"])
def obeys(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Law], None]:
    """Run a law in one world; the real one is started when the first law wants it."""
    if request.param == "sim":
        return sim.run
    servers = request.getfixturevalue("cluster")
    return lambda law: real.run(law, servers, tmp_path)
