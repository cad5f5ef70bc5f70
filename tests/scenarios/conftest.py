"""One cluster and one controller for all stories; each story has subnets and namespaces of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.fixtures import cluster
from tests.scenarios.crowd import THREADS
from tests.scenarios.stage import Api, Keeper, Stage

__all__ = ["cluster"]


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[Api]:
    """A client that is cluster-admin."""
    client = Api(cluster)
    yield client
    client.close()


@pytest.fixture(scope="session")
def keeper(cluster: Cluster) -> Iterator[Keeper]:
    """The controller, started on the shipped manifests with the shipped role."""
    process = Keeper(cluster)
    process.start()
    yield process
    assert process.stop() == 0, process.tail()
    bad = [line for line in process.log() if line["msg"] == "bug"]
    assert not bad, bad


@pytest.fixture
def stage(cluster: Cluster, api: Api, keeper: Keeper) -> Iterator[Stage]:
    """What a story plays on; at its end everything it made must go away by itself, and nothing may have failed."""
    if not keeper.runs:
        keeper.start()
    made = Stage(cluster, api, keeper)
    yield made
    if not keeper.runs:
        keeper.start()
    made.strike()
    seen = keeper.metrics()
    assert seen.bugs == 0, keeper.tail(30)
    assert seen.denied == 0, keeper.tail(30)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """The users' threads."""
    with ThreadPoolExecutor(THREADS) as made:
        yield made
