"""The image of the Dockerfile, made without a container engine: buildah reads it and runs its steps in a chroot.

The base image is not pulled: debootstrap makes it of the distribution's packages, as its makers do.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import binaries
from tests.cluster.binaries import Missing, say
from tests.cluster.cluster import ROOT

HERE = Path(__file__).resolve().parent
TOOLS = ("buildah", "debootstrap")
KEYRING = "debian-archive-keyring"
MIRROR = "http://deb.debian.org/debian"
_SETTINGS = re.compile(
    r"^(?:global|install|:env:)\.(index-url|extra-index-url|trusted-host|proxy)='(.*)'$", re.MULTILINE
)


class Image:
    """A built image and its root file system, in a folder that goes at the end of the `with` block."""

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise Missing("building an image without a container engine needs root")
        if any(shutil.which(name) is None for name in TOOLS):
            say(f"installing {' '.join(TOOLS)}")
            binaries._run(("apt-get", "update", "-qq"))
            binaries._run(("apt-get", "install", "-y", "-qq", "--no-install-recommends", *TOOLS, KEYRING))
        self._folder = Path(tempfile.mkdtemp(prefix="keepip-image-"))
        try:
            base = _base()
            for name in re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
                self._name_base(base, name)
            say("building the Dockerfile")
            self._buildah("build", "--pull-never", "--layers=false", *self._host(), "--tag=keepip", str(ROOT))
            box = self._buildah("from", "--pull-never", "keepip")
            self.root = Path(self._buildah("mount", box))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @functools.cached_property
    def config(self) -> Any:
        """What it says of how to run it."""
        return json.loads(self._buildah("inspect", "--type=image", "keepip"))["OCIv1"]["config"]

    def command(self, account: Path, environment: dict[str, str], *flags: str) -> list[str]:
        """The command line that runs its entry point; `account` holds kubernetes.io/serviceaccount."""
        told = [*self.config["Env"], *(f"{key}={value}" for key, value in environment.items())]
        alone = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
        inside = ("env", "-i", *told, *self.config["Entrypoint"], *flags)
        return ["env", f"KEEPIP_ACCOUNT={account}", *alone, "sh", str(HERE / "box.sh"), str(self.root), *inside]

    def _name_base(self, base: Path, name: str) -> None:
        box = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", box, str(base), "/")
        self._buildah("commit", "--quiet", "--rm", box, name)

    def _host(self) -> Sequence[str]:
        """How this machine reaches a package index, for pip inside: its configuration and its authorities."""
        told = subprocess.run(("python3", "-m", "pip", "config", "list"), capture_output=True, text=True, check=False)
        lines = ["[global]", *(f"{key} = {value}" for key, value in _SETTINGS.findall(told.stdout))]
        host = self._folder / "host"
        host.mkdir()
        authorities = Path("/etc/ssl/certs/ca-certificates.crt")
        if authorities.is_file():
            shutil.copy(authorities, host / "ca.crt")
            lines.append("cert = /run/host/ca.crt")
        (host / "pip.conf").write_text("\n".join(lines))
        return (f"--volume={host / 'pip.conf'}:/etc/pip.conf:ro", f"--volume={host}:/run/host:ro")

    def _buildah(self, *args: str) -> str:
        at = (f"--root={self._folder / 'store'}", f"--runroot={self._folder / 'run'}")
        # Plain folders and no name spaces of its own: what works also inside of a container.
        environment = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(
            ("buildah", *at, *args),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Missing(f"buildah {args[0]}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout.strip()

    def _end(self) -> None:
        if (self._folder / "store").is_dir():
            self._buildah("rm", "--all")
        shutil.rmtree(self._folder, ignore_errors=True)


def _base() -> Path:
    """The base image's root file system as an archive, made once into the user's cache."""
    (suite,) = set(re.findall(r"^FROM \S+/debian:(\w+)-\S*slim", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    kept = binaries.cache() / "image" / f"{suite}.tar"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=kept.parent) as scratch,
            binaries._progress(f"debootstrap {suite}", time.monotonic()),
        ):
            root, made = Path(scratch) / "root", Path(scratch) / "made.tar"
            binaries._run(("debootstrap", "--variant=minbase", suite, str(root), MIRROR))
            shutil.rmtree(root / "var/cache/apt")
            binaries._run(("tar", "--numeric-owner", "--exclude=./dev/*", "-C", str(root), "-cf", str(made), "."))
            made.rename(kept)
    return kept
