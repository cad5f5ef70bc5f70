"""The image does the work of the process with the rights of nobody (`make image`)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.children import free_port
from tests.cluster.cluster import ACCOUNT, NAMESPACE, ROOT, Cluster
from tests.cluster.fixtures import cluster
from tests.image.image import Image
from tests.scenarios.stage import SHORT_LEASE, Api, Keeper, Stage

__all__ = ["cluster"]
pytestmark = pytest.mark.timeout(1500)
MIB = 1 << 20


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The Dockerfile, built."""
    with Image() as made:
        yield made


class Contained(Keeper):
    """The controller out of the image, with what a kubelet would give it."""

    def __init__(self, cluster: Cluster, image: Image, folder: Path) -> None:
        super().__init__(cluster)
        self._image, self._folder = image, folder

    def start(self, *flags: str, wait: bool = True, checkout: Path = ROOT) -> None:  # noqa: ARG002 - the image has its own
        """See Keeper.start."""
        account = self._folder / "kubernetes.io" / "serviceaccount"
        account.mkdir(parents=True)
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        (account / "token").write_text(self._cluster.request("POST", path, asked)["status"]["token"])
        (account / "ca.crt").write_bytes(self._cluster.ca.read_bytes())
        (account / "namespace").write_text(NAMESPACE)
        for one in (self._folder, account.parent, account):
            one.chmod(0o755)
        host, _, server = self._cluster.server.removeprefix("https://").partition(":")
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        environment = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": server,
            "KEEPIP_NB": self._cluster.nb_tcp,
            "KEEPIP_HTTP_PORT": str(port),
            "POD_NAME": "keepip-0",
        }
        self._cluster.spawn("controller", self._image.command(self._folder, environment, *SHORT_LEASE, *flags))
        if wait:
            self.ready(60)

    def process(self) -> int:
        """The controller itself: what `unshare` started."""
        (found,) = _children(self._cluster.processes["controller"].pid)
        return found


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_image_works_as_nobody_on_a_read_only_root_without_capabilities(
    image: Image, cluster: Cluster, tmp_path: Path
) -> None:
    """It becomes ready, grants a reservation and ends as it should; it has no right that the manifests take away."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for one in (tmp_path, *tmp_path.parents[:2]):
        one.chmod(0o755)
    keeper, api = Contained(cluster, image, folder), Api(cluster)
    keeper.start()
    stage = Stage(cluster, api, keeper)
    stage.reserved(f"{stage.tag}-a", stage.net())

    inside = Path(f"/proc/{keeper.process()}")
    says = dict(line.split(":\t", 1) for line in (inside / "status").read_text().splitlines())
    assert says["Uid"].split() == says["Gid"].split() == ["65534"] * 4
    assert says["Groups"].strip() == ""
    assert {int(says[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert says["NoNewPrivs"] == "1"
    mounts = [line.split() for line in (inside / "mountinfo").read_text().splitlines()]
    (root,) = [one for one in mounts if one[4] == "/"]
    assert "ro" in root[5].split(",")
    assert (inside / "exe").readlink().name.startswith("python3")

    stage.strike()
    assert keeper.metrics().denied == 0
    os.kill(keeper.process(), signal.SIGTERM)
    assert cluster.processes["controller"].wait(20) == 0, keeper.tail()
    api.close()


def test_the_image_holds_what_runs_and_nothing_that_builds(image: Image) -> None:
    config = image.config
    assert config["User"] == "65534:65534"
    assert config["Entrypoint"] == ["keepip"]
    names = {
        path.name for folder in ("bin", "sbin", "usr/bin", "usr/local/bin") for path in (image.root / folder).iterdir()
    }
    names |= {path.name for path in (image.root / "opt/keepip/bin").iterdir()}
    assert not names & {"cc", "gcc", "g++", "make", "pip", "pip3", "git", "curl"}
    assert "keepip" in names
    assert not list((image.root / "opt/keepip").rglob("site-packages/pip"))
    assert not list((image.root / "source").glob("*"))
    used = int(subprocess.run(("du", "-sxB1", image.root), capture_output=True, check=True).stdout.split()[0])
    print(f"the image has {used / MIB:.0f} MiB")
    assert used < 300 * MIB
