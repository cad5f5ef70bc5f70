"""A real control plane on this machine: etcd, API server, controllers, scheduler, fake nodes, OVN Northbound."""

import base64
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import binaries
from tests.cluster.children import Children, StartFailed, free_port
from tests.cluster.northbound import Northbound

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MANIFESTS = ROOT / "manifests"
NAMESPACE = "keepip-system"
ACCOUNT = "keepip"
NODES = ("kube-ovn-worker", "kube-ovn-worker2", "kube-ovn-control-plane")
_PREFIX = "keepip-cluster-"

# What tests have a use for; the others cost memory and time on two cores. No node lifecycle: fake nodes never fail.
_CONTROLLERS = (
    "namespace-controller",
    "serviceaccount-controller",
    "garbage-collector-controller",
    "replicaset-controller",
    "deployment-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "pod-garbage-collector-controller",
)
# TaintNodesByCondition wants the node lifecycle controller to take its taints away again; the others guard storage and
# ingress, of which there is none.
_NO_ADMISSION = (
    "TaintNodesByCondition",
    "StorageObjectInUseProtection",
    "DefaultStorageClass",
    "PersistentVolumeClaimResize",
    "DefaultIngressClass",
    "RuntimeClass",
)
# Each request of the controller's once, when it is known how it ends; a watch when it begins.
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": [f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"]}, {"level": "None"}],
}


class Refused(RuntimeError):
    """A command was answered with an error; the message is what it wrote to stderr."""


class Cluster:
    """A running cluster; made by `Cluster.start`, ended by `stop` or by leaving its `with` block.

    Everything listens on free ports of 127.0.0.1 and lives in one folder, so any number of clusters run side by side.
    The processes end with the one that started them, also when that is killed. Nothing survives `stop`: etcd does not
    even sync to disk.
    """

    folder: Path
    kubeconfig: Path
    server: str
    ca: Path
    admin_token: str
    nb: str
    nb_tcp: str

    def __init__(self, folder: Path, *, owns_folder: bool) -> None:
        """Lay out files and ports; starts nothing (use `Cluster.start`)."""
        self.folder = folder
        self._owns_folder = owns_folder
        self._programs = binaries.control_plane()
        self._children = Children(folder)
        self._etcd = f"http://127.0.0.1:{free_port()}"
        self._port = free_port()
        self.server = f"https://127.0.0.1:{self._port}"
        self.ca = folder / "certificates" / "apiserver.crt"
        self.admin_token = secrets.token_urlsafe(24)
        self.kubeconfig = folder / "kubeconfig"
        self._tls: ssl.SSLContext | None = None
        self._northbound: Northbound | None = None
        self._audits = False

    @classmethod
    def start(
        cls,
        *,
        controllers: bool = True,
        kwok_nodes: int = 3,
        manifests: bool = True,
        audit: bool = False,
        folder: Path | None = None,
    ) -> Self:
        """Start a cluster and return when it is usable (about 5 s).

        controllers: kube-controller-manager and kube-scheduler too; without them, pods need a nodeName from the start
        and nobody makes service accounts. manifests: CRDs, roles and policy are applied. audit: the API server writes
        down what the controller asks it for, see `audited`. folder: where to live; a new temporary folder, removed at
        the end, if not given.
        """
        if folder is None:
            _sweep_leftovers()
            made = cls(Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")), owns_folder=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            made = cls(folder.resolve(), owns_folder=False)
        try:
            made._audits = audit
            made._start(controllers=controllers, kwok_nodes=kwok_nodes, manifests=manifests)
        except BaseException:
            made.stop()
            raise
        return made

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The children by name: northbound, etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok."""
        return self._children.processes

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002 - the name subprocess gives it
        """What kubectl says to these arguments, as cluster-admin; raises Refused with its complaint."""
        return self._kubectl(self.kubeconfig, args, input)

    def nbctl(self, *args: str) -> str:
        """What ovn-nbctl says to these arguments; raises RuntimeError with its complaint."""
        return self.northbound.nbctl(*args)

    @property
    def northbound(self) -> Northbound:
        """The Northbound server."""
        if self._northbound is None:
            raise RuntimeError("the cluster is not started")
        return self._northbound

    def controller_kubeconfig(self, account: str = ACCOUNT) -> Path:
        """Write a kubeconfig with a fresh token of the controller's service account, whose role is the shipped one."""
        made = self.request(
            "POST",
            f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}},
        )
        path = self.folder / ("controller.kubeconfig" if account == ACCOUNT else f"{account}.kubeconfig")
        return self._write_kubeconfig(path, account, made["status"]["token"])

    def request(self, method: str, path: str, body: object = None) -> Any:
        """One plain request as cluster-admin, JSON in and out; raises Refused when the answer is an error."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.ca))
        asked = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.admin_token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, context=self._tls, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from None

    def audited(self) -> list[Any]:
        """What the controller's account has asked the API server for so far, in the words of its audit log."""
        whole, _, _ = (self.folder / "audit.log").read_text().rpartition("\n")  # the last line may be half written
        return [json.loads(line) for line in whole.splitlines()]

    def spawn(self, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a further program as a part of the cluster: logged in the folder, ended with it."""
        return self._children.spawn(name, command)

    def log(self, name: str) -> Path:
        """The file that holds what a process wrote."""
        return self._children.log(name)

    def kill(self, name: str, sig: int = signal.SIGKILL) -> None:
        """Send a signal to a process by name; after SIGKILL it is gone when this returns."""
        self._children.kill(name, sig)

    def restart(self, name: str) -> None:
        """End a process if it runs and start it again, on the same ports and data; returns when it answers."""
        self._children.restart(name)
        if name == "etcd":
            self._wait_for_etcd()
        elif name == "kube-apiserver":
            self._wait_for_apiserver()
        elif name == "northbound":
            self.northbound.await_answer()

    def compact(self) -> None:
        """Have etcd forget every version but the latest."""
        head = self._ask_etcd("maintenance/status", {})["header"]["revision"]
        self._ask_etcd("kv/compaction", {"revision": head, "physical": True})

    def _ask_etcd(self, path: str, body: object) -> Any:
        with urllib.request.urlopen(f"{self._etcd}/v3/{path}", json.dumps(body).encode(), timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """End every process and, if the folder was made for this cluster, remove it. Safe to call twice."""
        self._children.stop()
        if self._northbound is not None:
            self._northbound.stop()
        if self._owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, *, controllers: bool, kwok_nodes: int, manifests: bool) -> None:
        self._spawn_etcd()
        self._northbound = Northbound(self._children)
        self.nb, self.nb_tcp = self._northbound.remote, self._northbound.tcp
        self._wait_for_etcd()
        self._spawn_apiserver(service_accounts=controllers)
        # The server writes its certificate before it listens, and nobody can use a kubeconfig before that.
        self._children.wait_until(self.ca.is_file, what="a serving certificate", names=("kube-apiserver",))
        self._write_kubeconfig(self.kubeconfig, "admin", self.admin_token)
        self._wait_for_apiserver()
        if controllers:
            self._spawn_controllers()
        for number in range(kwok_nodes):
            self.request("POST", "/api/v1/nodes", _node(number))
        if kwok_nodes:
            self._spawn_kwok()
        if manifests:
            self._apply_manifests()
        if controllers:
            self._children.wait_until(
                self._default_account_exists,
                what="service account default/default",
                names=("kube-apiserver", "kube-controller-manager"),
            )
        self._children.check()

    def _spawn_etcd(self) -> None:
        self._children.spawn(
            "etcd",
            (
                self._programs["etcd"],
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={self._etcd}",
                f"--advertise-client-urls={self._etcd}",
                # A single member, but it insists on a peer port.
                f"--listen-peer-urls=http://127.0.0.1:{free_port()}",
                # Nothing here must survive a power cut; a crash of a process loses nothing either way.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ),
        )

    def _spawn_apiserver(self, *, service_accounts: bool) -> None:
        key = self.folder / "service-accounts.key"
        key.write_text(_signing_key())
        key.chmod(0o600)
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f'{self.admin_token},admin,admin,"system:masters"\n')
        tokens.chmod(0o600)
        audit: list[str] = []
        if self._audits:
            policy = self.folder / "audit.yaml"
            policy.write_text(json.dumps(_AUDIT))
            audit = [f"--audit-policy-file={policy}", f"--audit-log-path={self.folder / 'audit.log'}"]
        off = _NO_ADMISSION if service_accounts else (*_NO_ADMISSION, "ServiceAccount")
        self._children.spawn(
            "kube-apiserver",
            (
                self._programs["kube-apiserver"],
                f"--etcd-servers={self._etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._port}",
                f"--cert-dir={self.ca.parent}",
                "--service-account-issuer=https://localhost",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                f"--token-auth-file={tokens}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--disable-admission-plugins={','.join(off)}",
                "--endpoint-reconciler-type=none",
                "--profiling=false",
                # Load tests measure the controller, not the server's fairness between clients.
                "--max-requests-inflight=4000",
                "--max-mutating-requests-inflight=2000",
                *audit,
            ),
        )

    def _spawn_controllers(self) -> None:
        fast = ("--kube-api-qps=1000", "--kube-api-burst=2000", "--leader-elect=false", "--secure-port=0")
        self._children.spawn(
            "kube-controller-manager",
            (
                self._programs["kube-controller-manager"],
                f"--kubeconfig={self.kubeconfig}",
                f"--controllers={','.join(_CONTROLLERS)}",
                f"--service-account-private-key-file={self.folder / 'service-accounts.key'}",
                "--concurrent-namespace-syncs=20",
                *fast,
            ),
        )
        configuration = self.folder / "scheduler.yaml"
        configuration.write_text(
            json.dumps(
                {
                    "apiVersion": "kubescheduler.config.k8s.io/v1",
                    "kind": "KubeSchedulerConfiguration",
                    "clientConnection": {"kubeconfig": str(self.kubeconfig), "qps": 1000, "burst": 2000},
                    "leaderElection": {"leaderElect": False},
                }
            )
        )
        self._children.spawn(
            "kube-scheduler", (self._programs["kube-scheduler"], f"--config={configuration}", "--secure-port=0")
        )

    def _spawn_kwok(self) -> None:
        # A home of its own: kwok reads a configuration of the user's kwokctl otherwise.
        self._children.spawn(
            "kwok",
            (
                self._programs["kwok"],
                f"--kubeconfig={self.kubeconfig}",
                f"--config={HERE / 'kwok.yaml'}",
                "--manage-all-nodes=true",
            ),
            {"HOME": str(self.folder), "KWOK_WORKDIR": str(self.folder / "kwok")},
        )

    def serve(self, project: str) -> None:
        """Install another project's CRDs, `multus`, `kubevirt` or `eips`, and wait until they are served."""
        text = (HERE / "crds" / f"{project}.yaml").read_text()
        self.kubectl("apply", "--server-side", "-f", "-", input=text)
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", "-", input=text)

    def _apply_manifests(self) -> None:
        documents = self._kubectl(None, ("kustomize", str(MANIFESTS / "crd")), None)
        for part in ("rbac", "policy"):
            documents += "---\n" + self._kubectl(None, ("kustomize", str(MANIFESTS / part)), None)
        self.kubectl("apply", "--server-side", "-f", "-", input=documents)
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        # The policy takes a moment to come into force, and the very first object of a new kind takes the server two
        # seconds: neither should surprise a test.
        self._children.wait_until(self._policy_is_in_force, what="the admission policy", names=("kube-apiserver",))

    def _policy_is_in_force(self) -> bool:
        misnamed = {
            "apiVersion": "kubeovn.io/v1",
            "kind": "IP",
            "metadata": {"name": "misnamed"},
            "spec": {"podName": "pod", "namespace": "default"},
        }
        try:
            self.request("POST", "/apis/kubeovn.io/v1/ips?dryRun=All", misnamed)
        except Refused as refusal:
            return "ValidatingAdmissionPolicy" in str(refusal)
        return False

    def _wait_for_etcd(self) -> None:
        def healthy() -> bool:
            with (
                suppress(OSError, http.client.HTTPException),
                urllib.request.urlopen(f"{self._etcd}/health", timeout=5),
            ):
                return True
            return False

        self._children.wait_until(healthy, what="an answer of etcd", names=("etcd",))

    def _wait_for_apiserver(self) -> None:
        def ready() -> bool:
            with suppress(OSError, http.client.HTTPException, Refused, json.JSONDecodeError):
                # A list proves more than /readyz: storage, authentication and authorization work.
                self.request("GET", "/api/v1/namespaces/default")
                return True
            return False

        self._children.wait_until(ready, what="an answer of the API server", names=("etcd", "kube-apiserver"))

    def _default_account_exists(self) -> bool:
        try:
            self.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except Refused:
            return False
        return True

    def _kubectl(self, kubeconfig: Path | None, args: Sequence[str], text: str | None) -> str:
        # Its discovery cache goes with the cluster: another cluster may have the same port tomorrow.
        where = (f"--cache-dir={self.folder / 'kubectl'}", *((f"--kubeconfig={kubeconfig}",) if kubeconfig else ()))
        done = subprocess.run(
            (str(self._programs["kubectl"]), *args, *where)
            if "--" not in args
            else (str(self._programs["kubectl"]), *where, *args),
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def _write_kubeconfig(self, path: Path, user: str, token: str) -> Path:
        authority = base64.b64encode(self.ca.read_bytes()).decode()
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {"name": "test", "cluster": {"server": self.server, "certificate-authority-data": authority}}
                    ],
                    "users": [{"name": user, "user": {"token": token}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                    "current-context": "test",
                },
                indent=1,
            )
        )
        path.chmod(0o600)
        return path


def controller_command(cluster: Cluster, *extra: str) -> list[str]:
    """The command line that runs the controller from this checkout with its own least-privilege token."""
    kubeconfig = cluster.controller_kubeconfig()
    return [sys.executable, "-m", "controller", "--kubeconfig", str(kubeconfig), "--nb", cluster.nb, *extra]


def _node(number: int) -> object:
    name = NODES[number] if number < len(NODES) else f"kube-ovn-worker{number}"
    room = {"cpu": "10k", "memory": "10Ti", "pods": "100k"}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {
            "addresses": [
                # Outside of the subnets that tests use, as a node's network is.
                {"type": "InternalIP", "address": f"172.18.{(number + 2) // 250}.{(number + 2) % 250}"},
                {"type": "Hostname", "address": name},
            ],
            "allocatable": room,
            "capacity": room,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "a fake kubelet",
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
            ],
            "phase": "Running",
        },
    }


def _signing_key() -> str:
    """Make a P-256 private key in PEM, without a library: the public half may be left out, Go computes it."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    secret = (1 + secrets.randbelow(order - 1)).to_bytes(32, "big")
    der = bytes.fromhex("30310201010420") + secret + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END EC PRIVATE KEY-----\n"


def _sweep_leftovers() -> None:
    """Remove the folders of clusters whose process was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if not owner.isdigit():
            continue
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:
            continue


__all__ = ["Cluster", "Refused", "StartFailed", "controller_command"]
