"""A cluster of two workers for all tests of the folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from gramstyle.cluster.client import Cluster
from gramstyle.cluster.opening import open_cluster
from workers import certificates, until


@pytest.fixture(scope="package")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Workers keep the model here, not in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv("GRAMSTYLE_MODEL", raising=False)
        yield folder


@pytest.fixture(scope="package")
def cluster(own_cache: Path) -> Iterator[Cluster]:
    with open_cluster(workers=2, threads=1, patience=300) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def both_workers(request: pytest.FixtureRequest) -> None:
    """Wait until the workers that a test before has killed are there again."""
    if "cluster" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("cluster")
        until(lambda: cluster.worker_count() == 2)


@pytest.fixture
def trusted_address(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """The cluster's address; its certificates are in Dask's configuration."""
    dask: Any = pytest.importorskip("dask")
    with dask.config.set(certificates(cluster._client.security, tmp_path)):
        yield cluster._client.scheduler.address
