"""What conftest.py files import: `from tests.cluster.fixtures import cluster`."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.northbound import Northbound


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One cluster for the whole session; tests keep apart by namespaces and subnets of their own."""
    with Cluster.start() as running:
        yield running


@pytest.fixture(scope="session")
def northbound() -> Iterator[Northbound]:
    """One Northbound database for the whole session; tests keep apart by switches of their own."""
    with Northbound() as running:
        yield running
