"""Certificates of an authority of our own, made by the `openssl` program, laid out as Kubernetes mounts a Secret."""

from __future__ import annotations

import subprocess
from itertools import count
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Who signs; its own certificate is `certificate`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._numbers = count(1)
        self.certificate, self._key = self._folder / "ca.crt", self._folder / "ca.key"
        _openssl(
            "req", "-x509", *_KEY, "-subj", f"/CN={name}", "-days", "2", "-keyout", self._key, "-out", self.certificate
        )

    def issue(self, *trusted: Authority) -> Path:
        """A folder with a new `key`, its `cert`, and in `cacert` who is trusted: this authority, if nobody is named."""
        made = self._folder / str(next(self._numbers))
        made.mkdir()
        asked = made / "csr"
        _openssl("req", *_KEY, "-subj", f"/CN={made.name}", "-keyout", made / "key", "-out", asked)
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", "2")
        _openssl("x509", "-req", "-in", asked, *signed, "-out", made / "cert")
        (made / "cacert").write_text("".join(one.certificate.read_text() for one in trusted or (self,)))
        return made


class Mount:
    """A folder whose files are links through `..data`, which is swapped in one step."""

    def __init__(self, folder: Path, content: Path) -> None:
        self._data = folder / "..data"
        folder.mkdir()
        self.swap(content)
        self.key, self.certificate, self.authority = (folder / name for name in ("key", "cert", "cacert"))
        for path in (self.key, self.certificate, self.authority):
            path.symlink_to(Path("..data") / path.name)

    def swap(self, content: Path) -> None:
        """Show these files from now on."""
        fresh = self._data.with_name("..data_tmp")
        fresh.symlink_to(content)
        fresh.replace(self._data)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
