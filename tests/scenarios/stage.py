"""What a story is told with: a fast client of the API, the controller as a process, and waiting with a deadline."""

from __future__ import annotations

import contextlib
import copy
import http.client
import ipaddress
import json
import re
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.children import free_port
from tests.cluster.cluster import ROOT, Cluster, controller_command

T = TypeVar("T")
Object = dict[str, Any]

FINALIZER = "kubeovn.io/kube-ovn-controller"
RESERVED = "ovn.kubernetes.io/ip_reserved"
OVN = "ovn.kubernetes.io/"
KUBEOVN = "/apis/kubeovn.io/v1"
_GROUPS = {
    "ip": f"{KUBEOVN}/ips",
    "subnet": f"{KUBEOVN}/subnets",
    "ippool": f"{KUBEOVN}/ippools",
    "vip": f"{KUBEOVN}/vips",
    "iptables-eip": f"{KUBEOVN}/iptables-eips",
    "ovn-eip": f"{KUBEOVN}/ovn-eips",
    "namespace": "/api/v1/namespaces",
    "node": "/api/v1/nodes",
    "statefulset": "/apis/apps/v1/namespaces/{}/statefulsets",
    "deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "pod": "/api/v1/namespaces/{}/pods",
    "nad": "/apis/k8s.cni.cncf.io/v1/namespaces/{}/network-attachment-definitions",
    "event": "/api/v1/namespaces/{}/events",
    "vm": "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines",
    "vmi": "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances",
    "migration": "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstancemigrations",
}
SHORT_LEASE = (
    "--lease-duration-s=4",
    "--renew-deadline-s=3",
    "--retry-period-s=0.5",
    "--request-limit-s=3",
    "--sweep-s=2",
)
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_READS = frozenset({"get", "list", "watch", "discover"})


class Answered(Exception):
    """The API server refused; `code` says how."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code


class Waited(AssertionError):
    """Something did not become so in time; the message holds what it was last."""


class Conflict(Answered):
    """The API server refused because of what is there already (409)."""


def eventually(what: str, look: Callable[[], T | None], *, seconds: float = 15.0, pause: float = 0.03) -> T:
    """Poll until `look` gives something other than None or False; AssertionErrors of it count as "not yet".

    Raises Waited with the last thing seen.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
            last: object = found
        except AssertionError as not_yet:
            found, last = None, not_yet
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise Waited(f"not within {seconds:g} s: {what}; last: {last}")
        time.sleep(pause)


class Api:
    """A client whose connections stay open, for any number of threads: cheap enough for thousands of requests."""

    def __init__(self, cluster: Cluster) -> None:
        self._host, _, port = cluster.server.removeprefix("https://").rpartition(":")
        self._port = int(port)
        self._token = cluster.admin_token
        self._tls = ssl.create_default_context(cafile=str(cluster.ca))
        self._idle: list[http.client.HTTPSConnection] = []

    def ask(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """One request; raises Answered for a refusal and OSError if nobody answers."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
        text = None if body is None else json.dumps(body)
        while True:
            line, used = self._line()
            try:
                line.request(method, path, text, headers)
                answer = line.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as gone:
                line.close()
                if used:  # it was closed while it lay idle
                    continue
                raise OSError(str(gone)) from None
            self._idle.append(line)
            break
        if answer.status >= 300:
            refusal = Conflict if answer.status == 409 else Answered
            raise refusal(answer.status, data.decode(errors="replace"))
        return json.loads(data)

    def _line(self) -> tuple[http.client.HTTPSConnection, bool]:
        """A connection for one request, and whether it is an old one."""
        with contextlib.suppress(IndexError):
            return self._idle.pop(), True
        return http.client.HTTPSConnection(self._host, self._port, timeout=30, context=self._tls), False

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    # -- objects -----------------------------------------------------------------------------------

    @staticmethod
    def path(kind: str, name: str = "", namespace: str = "default") -> str:
        """Where objects of that kind live."""
        base = _GROUPS[kind].format(namespace)
        return f"{base}/{name}" if name else base

    def find(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """The object, None if it is not there."""
        try:
            found: Object = self.ask("GET", self.path(kind, name, namespace))
        except Answered as refusal:
            if refusal.code == 404:
                return None
            raise
        return found

    def get(self, kind: str, name: str, namespace: str = "default") -> Object:
        """The object; an AssertionError if it is not there, so that `eventually` waits for it."""
        found = self.find(kind, name, namespace)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def all(self, kind: str, namespace: str = "default") -> list[Object]:
        """Every object of that kind (for namespaced kinds: in that namespace)."""
        items: list[Object] = self.ask("GET", self.path(kind, namespace=namespace))["items"]
        return items

    def create(self, kind: str, body: Object) -> Object:
        """Create it; returns it as the server has it."""
        made: Object = self.ask("POST", self.path(kind, namespace=body["metadata"].get("namespace", "default")), body)
        return made

    def patch(self, kind: str, name: str, body: Object, namespace: str = "default", sub: str = "") -> Object:
        """Merge patch it."""
        where = self.path(kind, name, namespace) + (f"/{sub}" if sub else "")
        done: Object = self.ask("PATCH", where, body, "application/merge-patch+json")
        return done

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        """Ask for its deletion; no error if it is gone already."""
        try:
            self.ask("DELETE", self.path(kind, name, namespace), {"propagationPolicy": "Background"})
        except Answered as refusal:
            if refusal.code != 404:
                raise

    def gone(self, kind: str, name: str, namespace: str = "default", seconds: float = 30.0) -> None:
        """Wait until it is gone."""
        eventually(f"{kind} {name} is gone", lambda: self.find(kind, name, namespace) is None, seconds=seconds)

    def events(self, kind: str, name: str, namespace: str = "default") -> list[tuple[str, str]]:
        """Reason and text of every Event about that object."""
        query = f"?fieldSelector=involvedObject.kind%3D{kind}%2CinvolvedObject.name%3D{name}"
        items = self.ask("GET", self.path("event", namespace=namespace) + query)["items"]
        return [(one["reason"], one["message"]) for one in items]

    def told(self, kind: str, name: str, reason: str, namespace: str = "default", seconds: float = 15.0) -> str:
        """Wait for an Event of that reason about the object; the text of one."""

        def look() -> str | None:
            found = self.events(kind, name, namespace)
            texts = [text for why, text in found if why == reason]
            assert texts, f"Events so far: {found}"
            return texts[-1]

        return eventually(f"Event {reason} on {kind} {name}", look, seconds=seconds)


# -- what objects say ----------------------------------------------------------------------------------


def condition(one: Object, kind: str) -> Object:
    """Its condition of that type; an AssertionError if there is none."""
    found = [c for c in one.get("status", {}).get("conditions", []) if c["type"] == kind]
    assert found, f"{one['metadata']['name']} has no condition {kind}: {one.get('status')}"
    shown: Object = found[0]
    return shown


def says(one: Object, kind: str, status: str, reason: str) -> Object:
    """Its condition of that type, which must say just that."""
    shown = condition(one, kind)
    assert (shown["status"], shown["reason"]) == (status, reason), f"{one['metadata']['name']}: {shown}"
    return shown


def notes(one: Object) -> dict[str, str]:
    """Its annotations of the default network, without their prefix."""
    found = one["metadata"].get("annotations") or {}
    return {key.removeprefix(OVN): value for key, value in found.items() if key.startswith(OVN)}


def reservation(name: str, subnet: str, namespace: str = "default", /, **spec: Any) -> Object:
    """An IP as a user writes it: only what they say is in it."""
    said = {"subnet": subnet, "podType": "", "namespace": namespace, "podName": name} | spec
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": f"{name}.{namespace}"},
        "spec": {key: value for key, value in said.items() if value is not ...},
    }


def pod(name: str, namespace: str = "default", *, subnet: str = "", owner: Object | None = None, **more: str) -> Object:
    """A pod as small as it gets; keywords are annotations of the default network."""
    annotations = {OVN + key: value for key, value in more.items()}
    if subnet:
        annotations[OVN + "logical_switch"] = subnet
    made: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "none"}], "terminationGracePeriodSeconds": 0},
    }
    if owner is not None:
        made["metadata"]["ownerReferences"] = [owner]
    return made


def machine(vm: str) -> Object:
    """The owner reference of a KubeVirt VM's pod."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "name": vm,
        "uid": "00000000-0000-0000-0000-00000000aaaa",
        "controller": True,
    }


def stateful(name: str) -> Object:
    """The owner reference of a StatefulSet's pod."""
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": name,
        "uid": "00000000-0000-0000-0000-00000000bbbb",
        "controller": True,
    }


def network(name: str, cidr: str, *, cooldown: str = "0", **spec: Any) -> Object:
    """A Subnet with no cool-down, so that a freed address can be had again at once."""
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "Subnet",
        "metadata": {"name": name, "annotations": {"keepip.io/cooldown": cooldown}},
        "spec": {"cidrBlock": cidr} | spec,
    }


# -- the controller ------------------------------------------------------------------------------------


class Metrics:
    """One look at /metrics."""

    def __init__(self, text: str) -> None:
        self._samples = [(m[1], dict(_LABEL.findall(m[2] or "")), float(m[3])) for m in _SAMPLE.finditer(text)]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels."""
        wanted = labels.items()
        return sum(value for n, have, value in self._samples if n == name and wanted <= have.items())

    def each(self, name: str) -> Iterable[tuple[dict[str, str], float]]:
        """Every sample of that name."""
        return ((have, value) for n, have, value in self._samples if n == name)

    @property
    def writes(self) -> dict[str, float]:
        """Requests that write, by `verb kind`, the Lease's left out: it is renewed for as long as we lead."""
        found: dict[str, float] = {}
        for have, value in self.each("rest_client_requests_total"):
            if have["method"] not in _READS and have["kind"] != "Lease":
                key = f"{have['method']} {have['kind']}"
                found[key] = found.get(key, 0.0) + value
        return found

    @property
    def transactions(self) -> float:
        """Northbound transactions."""
        return self.total("keepip_northbound_transactions_total")

    @property
    def denied(self) -> float:
        """Requests that the role does not allow."""
        return self.total("rest_client_requests_total", code="403")

    @property
    def bugs(self) -> float:
        """Runs that met a bug."""
        return self.total("controller_runtime_reconcile_panics_total")


class Keeper:
    """The controller as its own process with its own least-privilege token; dies with the cluster."""

    def __init__(self, cluster: Cluster, name: str = "controller") -> None:
        self._cluster, self.name = cluster, name
        self._flags: tuple[str, ...] = ()
        self._url = ""

    @property
    def runs(self) -> bool:
        """True while the process lives."""
        child = self._cluster.processes.get(self.name)
        return child is not None and child.poll() is None

    @property
    def address(self) -> str:
        """Host and port of its pages; another port with each start."""
        return self._url.removeprefix("http://")

    def start(self, *flags: str, wait: bool = True, checkout: Path = ROOT) -> None:
        """Start it with these flags and, unless told otherwise, wait until it leads and is ready."""
        assert not self.runs, "the controller runs already"
        self._flags = flags
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        where = ("--http-host=127.0.0.1", f"--http-port={port}")
        command = controller_command(self._cluster, *where, *SHORT_LEASE, *flags)
        self._cluster.spawn(self.name, ["env", "-C", str(checkout), *command])
        if wait:
            self.ready()

    @property
    def leads(self) -> bool:
        """True if it says that it leads."""
        return self.metrics().total("leader_election_master_status") == 1

    def ready(self, seconds: float = 30.0) -> None:
        """Wait until it leads and says that it can work."""

        def look() -> bool:
            assert self.runs, f"the controller has ended:\n{self.tail()}"
            return self.page("/readyz") == "ok\n" and self.leads

        eventually("the controller is ready", look, seconds=seconds)

    def warm(self, seconds: float = 30.0) -> None:
        """Wait until it has read everything, leader or not."""
        eventually(f"{self.name} is warm", lambda: self.page("/readyz") == "ok\n", seconds=seconds)

    def kill(self) -> None:
        """End it as a crash does."""
        self._cluster.kill(self.name, signal.SIGKILL)

    def stop(self, seconds: float = 15.0) -> int:
        """End it as Kubernetes does; its exit code."""
        child = self._cluster.processes[self.name]
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        return child.wait(seconds)

    def again(self, *flags: str, wait: bool = True) -> None:
        """Stop it and start it with other flags."""
        assert self.stop() == 0, self.tail()
        self.start(*flags, wait=wait)

    def page(self, path: str) -> str | None:
        """What it says there, None if it does not answer."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=10) as answer:
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.read().decode()
        except OSError:
            return None

    def metrics(self) -> Metrics:
        """One look at /metrics; an AssertionError if it does not answer."""
        text = self.page("/metrics")
        assert text is not None, "the controller does not answer"
        return Metrics(text)

    def quiet(self, seconds: float = 15.0) -> Metrics:
        """Wait until nothing is queued, under way or booked for soon; the numbers of then."""

        def look() -> Metrics | None:
            seen = self.metrics()
            busy = {n: seen.total(n) for n in ("workqueue_depth", "workqueue_processing", "keepip_events_waiting")}
            assert not any(busy.values()), busy
            return seen

        def twice() -> Metrics | None:
            before = look()
            time.sleep(1.2)  # a Subnet's numbers are written once a second
            after = look()
            assert before is not None
            assert after is not None
            assert (before.writes, before.transactions) == (after.writes, after.transactions), "still writing"
            return after

        return eventually("the controller is at rest", twice, seconds=seconds)

    def reads(self, *kinds: str) -> None:
        """Wait until it has read these kinds, whose CRDs came after it had started: it asks every ten seconds."""

        def look() -> bool:
            seen = self.metrics()
            return all(seen.total("keepip_relists_total", kind=kind) > 0 for kind in kinds)

        eventually(f"{', '.join(kinds)}: read", look, seconds=30)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self._cluster.log(self.name).read_text(errors="replace").splitlines()[-lines:])

    def log(self) -> list[Object]:
        """Its log of this session, line by line."""
        lines = self._cluster.log(self.name).read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


# -- a story's own ground -------------------------------------------------------------------------------


class Stage:
    """Names, subnets and namespaces of one story, and what it makes there."""

    _count = 0

    def __init__(self, cluster: Cluster, api: Api, keeper: Keeper) -> None:
        self.cluster, self.api, self.keeper = cluster, api, keeper
        Stage._count += 1
        self.tag = f"s{Stage._count}"
        self._nets = 0
        self._made: dict[tuple[str, str, str], None] = {}

    # -- making ------------------------------------------------------------------------------------

    def add(self, kind: str, body: Object) -> Object:
        """Create it and remember it for the end."""
        made = self.api.create(kind, body)
        meta = made["metadata"]
        self._made[kind, meta.get("namespace", ""), meta["name"]] = None
        return made

    def cidr(self, prefix: int = 24) -> str:
        """An IPv4 range that nobody else has."""
        self._nets += 1
        return f"10.{40 + Stage._count % 200}.{self._nets}.0/{prefix}"

    def cidr6(self, prefix: int = 112) -> str:
        """An IPv6 range that nobody else has."""
        self._nets += 1
        return f"fd00:{40 + Stage._count}:{self._nets}::/{prefix}"

    def net(self, cidr: str = "", *, name: str = "", cooldown: str = "0", **spec: Any) -> str:
        """A new Subnet, ready; its name."""
        cidr = cidr or self.cidr()
        name = name or f"{self.tag}-net{sum(kind == 'subnet' for kind, _, _ in self._made)}"
        self.add("subnet", network(name, cidr, cooldown=cooldown, **spec))
        self.until("subnet", name, "Ready", "True", "ResetLogicalSwitchAclSuccess")
        return name

    def pool(self, subnet: str, *ips: str, name: str = "", **spec: Any) -> str:
        """An IPPool that is in use; its name."""
        name = name or f"{self.tag}-pool{sum(kind == 'ippool' for kind, _, _ in self._made)}"
        wanted = {"subnet": subnet, "ips": list(ips)} | spec
        body = {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": wanted}
        self.add("ippool", body)
        self.until("ippool", name, "Ready", "True", "UpdateIPAMSucceeded")
        return name

    def namespace(self, name: str = "", **annotations: str) -> str:
        """A new namespace; its name."""
        name = name or f"{self.tag}-space{len(self._made)}"
        meta = {"name": name, "annotations": {OVN + key: value for key, value in annotations.items()}}
        self.add("namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        eventually(
            f"account of {name}",
            lambda: self.api.ask("GET", f"/api/v1/namespaces/{name}/serviceaccounts")["items"] or None,
        )
        return name

    def reserve(self, name: str, subnet: str, namespace: str = "default", /, **spec: Any) -> Object:
        """Create a reservation; the object as it was created. `field=...` leaves a field out."""
        return self.add("ip", reservation(name, subnet, namespace, **spec))

    def reserved(self, name: str, subnet: str, namespace: str = "default", /, **spec: Any) -> Object:
        """Create a reservation and wait until it is granted."""
        made = self.reserve(name, subnet, namespace, **spec)
        return self.until("ip", made["metadata"]["name"], "Ready", "True", "Reserved")

    def pod(self, name: str, namespace: str = "default", **more: Any) -> Object:
        """Create a pod."""
        return self.add("pod", pod(name, namespace, **more))

    def running(self, name: str, namespace: str = "default", **more: Any) -> Object:
        """Create a pod and wait until it runs."""
        self.pod(name, namespace, **more)
        return self.runs(name, namespace)

    def apply(self, body: Object) -> None:
        """Apply it as `kubectl apply` does on the client's side: a merge of what the manifest says."""
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(body))

    def inside(self, subnet: str, number: int) -> str:
        """The address of that number in an IPv4 subnet's range."""
        return self.inside_of(self.api.get("subnet", subnet)["spec"]["cidrBlock"], number)

    @staticmethod
    def inside_of(cidr: str, number: int) -> str:
        """The address of that number in a range."""
        return str(ipaddress.ip_address(cidr.split("/", maxsplit=1)[0]) + number)

    def runs_with(self, name: str, namespace: str = "default") -> tuple[str, str]:
        """Address and MAC that a new pod of that name runs with: said by pod, annotations and port alike."""
        one = self.running(name, namespace)
        has = notes(one)
        assert ",".join(ip["ip"] for ip in one["status"]["podIPs"]) == has["ip_address"]
        row = ports(self.cluster)[f"{name}.{namespace}"]
        assert row["addresses"] == " ".join((has["mac_address"], *has["ip_address"].split(",")))
        return has["ip_address"], has["mac_address"]

    # -- waiting -----------------------------------------------------------------------------------

    def until(self, kind: str, name: str, type_: str, status: str, reason: str, seconds: float = 15.0) -> Object:
        """Wait until the object's condition says just that; the object."""

        def look() -> Object:
            one = self.api.get(kind, name)
            says(one, type_, status, reason)
            return one

        return eventually(f"{kind} {name}: {type_} {status} {reason}", look, seconds=seconds)

    def refused(self, name: str, reason: str, *parts: str, seconds: float = 15.0) -> Object:
        """Wait until the IP is refused for that reason, with these words in the message; it holds nothing."""
        ip = self.until("ip", name, "Ready", "False", reason, seconds)
        text = condition(ip, "Ready")["message"]
        for part in parts:
            assert part in text, text
        assert ip["metadata"].get("finalizers") is None, ip
        assert ip["metadata"]["generation"] == 1, ip
        return ip

    def runs(self, name: str, namespace: str = "default", seconds: float = 15.0) -> Object:
        """Wait until the pod runs; the pod."""

        def look() -> Object:
            one = self.api.get("pod", name, namespace)
            assert one["status"]["phase"] == "Running", (
                one["status"],
                notes(one),
                self.api.events("Pod", name, namespace),
            )
            return one

        return eventually(f"pod {name} runs", look, seconds=seconds)

    def waits(self, name: str, reason: str, *parts: str, namespace: str = "default", seconds: float = 15.0) -> str:
        """Wait until the pod is told why it has no address, with these words; it really has none. The text."""
        text = self.api.told("Pod", name, reason, namespace, seconds)
        for part in parts:
            assert part in text, text
        one = self.api.get("pod", name, namespace)
        assert "ip_address" not in notes(one) or "allocated" not in notes(one), one["metadata"]
        assert f"{name}.{namespace}" not in ports(self.cluster)
        return text

    def drop(self, name: str, namespace: str = "default") -> None:
        """Delete a pod and wait until it is gone."""
        self.api.delete("pod", name, namespace)
        self.api.gone("pod", name, namespace)

    def forget(self, kind: str, name: str, seconds: float = 30.0) -> None:
        """Delete a cluster-wide object and wait until it is gone."""
        self.api.delete(kind, name)
        self.api.gone(kind, name, seconds=seconds)

    def no_port(self, name: str, seconds: float = 15.0) -> None:
        """Wait until there is no such port in OVN."""
        eventually(f"no port {name}", lambda: name not in ports(self.cluster), seconds=seconds, pause=0.1)

    def numbers(self, subnet: str, using: int, available: int, family: int = 4, seconds: float = 6.0) -> Object:
        """Wait until the Subnet's status has these numbers; its status."""

        def look() -> Object:
            status: Object = self.api.get("subnet", subnet).get("status", {})
            found = (status.get(f"v{family}usingIPs"), status.get(f"v{family}availableIPs"))
            assert found == (using, available), status
            return status

        return eventually(f"numbers of {subnet}", look, seconds=seconds)

    # -- the end -----------------------------------------------------------------------------------

    def strike(self) -> None:
        """Delete everything at once, in whatever order, and see it go without anybody's help.

        Namespaces come last: Kubernetes takes five seconds for one that is not empty.
        """
        left = [one for one in reversed(self._made) if one[0] != "namespace"]
        for kind, namespace, name in left:
            self.api.delete(kind, name, namespace)
        for kind, namespace, name in left:
            self.api.gone(kind, name, namespace)
        for kind, _, name in self._made:
            if kind == "namespace":
                self.api.delete(kind, name)
        names = {f"{name}.{namespace}" for kind, namespace, name in left if kind == "pod"}
        mine = names | {name for kind, _, name in left if kind == "ip"}

        def look() -> bool:
            assert not (rest := mine & ports(self.cluster).keys()), f"ports are left: {rest}"
            assert not (ips := mine & {one["metadata"]["name"] for one in self.api.all("ip")}), f"IPs are left: {ips}"
            return True

        if mine:
            eventually("nothing is left", look, pause=0.1)


# -- Northbound ----------------------------------------------------------------------------------------


def ports(cluster: Cluster) -> dict[str, Object]:
    """Every Logical_Switch_Port by name, its columns as Python values."""
    columns = "name,addresses,port_security,external_ids,type,options"
    told = json.loads(cluster.nbctl("--format=json", f"--columns={columns}", "list", "Logical_Switch_Port"))
    rows = [dict(zip(told["headings"], map(_value, row), strict=True)) for row in told["data"]]
    return {row["name"]: row for row in rows}


def switch_of(cluster: Cluster, port: str) -> str:
    """The logical switch that really has the port."""
    return cluster.nbctl("lsp-get-ls", port).split("(")[-1].rstrip(")\n")


def sets(cluster: Cluster) -> dict[str, Object]:
    """Every Address_Set by name, its columns as Python values."""
    told = json.loads(cluster.nbctl("--format=json", "--columns=name,addresses,external_ids", "list", "Address_Set"))
    rows = [dict(zip(told["headings"], map(_value, row), strict=True)) for row in told["data"]]
    return {row["name"]: row for row in rows}


def _value(told: Any) -> Any:
    """OVSDB's notation of sets and maps as lists and dicts."""
    if isinstance(told, list) and len(told) == 2 and told[0] == "set":
        return [_value(one) for one in told[1]]
    if isinstance(told, list) and len(told) == 2 and told[0] == "map":
        return {key: _value(value) for key, value in told[1]}
    return told


def listed(told: Any) -> list[Any]:
    """A set's members: OVSDB writes a set of one as its member."""
    return told if isinstance(told, list) else [told]


def without(one: Object, *paths: str) -> Object:
    """A copy without these dotted paths: what changes from run to run."""
    made = copy.deepcopy(one)
    for path in paths:
        *parents, leaf = path.split(".")
        inner = made
        for name in parents:
            inner = inner.get(name, {})
        inner.pop(leaf, None)
    return made
