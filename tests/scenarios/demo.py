"""`make demo`: the user document, played on a real cluster, each command as a user would type it, and asserted.

Exit code 0: everything was as the document says; 1: something differed, and the last lines say what. Ends without
leftovers, also on Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import yaml

from tests.cluster import binaries
from tests.cluster.cluster import ROOT, Cluster, Refused, StartFailed
from tests.scenarios.stage import FINALIZER, RESERVED, Api, Keeper, Object, eventually, machine, says

WIDTH = 100


class Differs(Exception):
    """What is shown is not what was promised."""


class Narrator:
    """Plain text; colour where a person looks."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._scene = 0

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def scene(self, title: str, text: str) -> None:
        """A new chapter."""
        self._scene += 1
        print("\n" + self._paint("1;36", f"{self._scene}. {title}"))
        self.say(text)

    def say(self, text: str) -> None:
        """What is going on."""
        print(textwrap.fill(" ".join(text.split()), WIDTH, initial_indent="   ", subsequent_indent="   "), flush=True)

    def command(self, line: str) -> None:
        """What the user types."""
        print(self._paint("1", f"   $ {line}"), flush=True)

    def output(self, text: str) -> None:
        """What it answers."""
        lines = text.rstrip("\n").splitlines() or [self._paint("2", "(nothing)")]
        print("\n".join(f"     {line}" for line in lines), flush=True)

    def proved(self, text: str) -> None:
        """What was checked and found to be so."""
        print(self._paint("32", f"   ok: {text}"), flush=True)

    def failed(self, text: str) -> None:
        """What was not so."""
        print(self._paint("1;31", f"\nDIFFERS: {text}"), file=sys.stderr, flush=True)


class Demo:
    """The play; every method is a scene."""

    def __init__(self, cluster: Cluster, narrator: Narrator) -> None:
        self.cluster, self.narrator = cluster, narrator
        self.api = Api(cluster)
        self.keeper = Keeper(cluster)
        programs = binaries.control_plane()
        self._environment = os.environ | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "OVN_NB_DB": cluster.nb,
            "PATH": ":".join(
                {str(programs["kubectl"].parent): 0, str(binaries.ovn().nbctl.parent): 0, os.environ["PATH"]: 0}
            ),
            "HOME": str(cluster.folder),  # kubectl's caches go with the cluster
            **binaries.ovn().environment,
        }
        self.mac = ""

    # -- tools -------------------------------------------------------------------------------------

    def run(self, line: str, text: str = "", *, refused: bool = False) -> str:
        """Type the line into a shell and show what it answers."""
        self.narrator.command(line)
        if text:
            self.narrator.output(text)
        done = subprocess.run(  # noqa: S602 - a line as a user types it
            line,
            shell=True,
            cwd=ROOT,
            env=self._environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        answer = done.stdout + done.stderr
        self.narrator.output(answer)
        if (done.returncode != 0) != refused:
            raise Differs(f"`{line}` ended with {done.returncode}: {answer.strip()}")
        return answer

    def same(self, what: str, found: Any, wanted: Any) -> None:
        """Assert one thing, in a sentence."""
        if found != wanted:
            raise Differs(f"{what} should be {wanted!r} and is {found!r}")

    def holds(self, what: str, found: object) -> None:
        """Assert that something is so."""
        if not found:
            raise Differs(f"this should be so and is not: {what}")

    # -- scenes ------------------------------------------------------------------------------------

    def install(self) -> None:
        """Manifests and the controller."""
        self.narrator.scene(
            "Install",
            "Definitions of IP, Subnet and IPPool (Kube-OVN's own, plus a status), the controller's role, and a policy "
            "that refuses edits of what is promised.",
        )
        for part in ("crd", "rbac", "policy"):
            self.run(f"kubectl apply --server-side -k manifests/{part}")
        self.run("kubectl wait --for=condition=Established crd --all --timeout=30s")
        eventually("the admission policy is in force", self.cluster._policy_is_in_force, seconds=30)
        self.run("kubectl apply -f manifests/samples/ovn-default.yaml")
        self.narrator.say("The controller runs with the token of its own service account, which may do just that.")
        self.start()
        self.run("kubectl wait --for=condition=Ready subnet/ovn-default --timeout=20s")
        self.narrator.proved("the controller leads and is ready; the subnet has its logical switch")

    def start(self) -> None:
        """Run the controller as a user without a cluster of nodes would."""
        self.narrator.command('python -m controller --kubeconfig controller.kubeconfig --nb "$OVN_NB_DB" &')
        self.keeper.start()

    def reserve(self) -> None:
        """Both samples of the document."""
        self.narrator.scene(
            "Reserve an address for a VM that does not exist yet (1.1: any address)",
            "The document's first sample, as written. Nothing is known of the VM but its name.",
        )
        self.run("cat manifests/samples/01-dynamic.yaml")
        self.run("kubectl apply -f manifests/samples/01-dynamic.yaml")
        self.run("kubectl wait --for=condition=Ready ip/vm-dynamic-01.default --timeout=20s")
        told = yaml.safe_load(self.run("kubectl get ip vm-dynamic-01.default -o yaml"))
        self.granted(told, "vm-dynamic-01", "VirtualMachine", "10.16.0.2")
        self.narrator.proved("one write: generation 2, the labels, the finalizer, the address 10.16.0.2 and a MAC")
        self.narrator.scene(
            "Reserve a certain address for a pod (1.2)",
            "The document's second sample, as written, with its empty v6IpAddress.",
        )
        self.run("cat manifests/samples/02-static.yaml")
        self.run("kubectl apply -f manifests/samples/02-static.yaml")
        self.run("kubectl wait --for=condition=Ready ip/pod-static-01.default --timeout=20s")
        told = yaml.safe_load(self.run("kubectl get ip pod-static-01.default -o yaml"))
        self.granted(told, "pod-static-01", "", "10.16.0.3")
        self.mac = told["spec"]["macAddress"]
        self.run("kubectl get ip -o wide")
        self.numbers(used=2)
        self.run("kubectl get subnet ovn-default")
        self.narrator.proved("two addresses are in use, and 65533 less two can be had")
        self.narrator.say("A reservation only takes a place: no port is made in OVN until a workload comes.")
        told_nb = self.run("ovn-nbctl show ovn-default")
        self.holds("there is no port in OVN", "port" not in told_nb)
        self.run("ovn-nbctl show ovn-default | grep vm-dynamic-01.default", refused=True)
        self.narrator.proved("OVN shows the switch and no port")

    def granted(self, told: Object, name: str, kind: str, address: str) -> None:
        """Assert every field of a reservation."""
        meta, spec = told["metadata"], told["spec"]
        self.same("generation", meta["generation"], 2)
        self.same("finalizers", meta["finalizers"], [FINALIZER])
        self.same(
            "labels",
            meta["labels"],
            {
                RESERVED: "true",
                "ovn.kubernetes.io/node-name": "",
                "ovn.kubernetes.io/subnet": "ovn-default",
                "ovn-default": "",
            },
        )
        mac = spec.pop("macAddress")
        self.holds(f"{mac} is a locally administered unicast MAC", int(mac[:2], 16) & 3 == 2)
        wanted = {
            "attachIps": [],
            "attachMacs": [],
            "attachSubnets": [],
            "containerID": "",
            "ipAddress": address,
            "namespace": "default",
            "nodeName": "",
            "podName": name,
            "podType": kind,
            "subnet": "ovn-default",
            "v4IpAddress": address,
            "v6IpAddress": "",
        }
        self.same("spec", spec, wanted)
        spec["macAddress"] = mac

    def numbers(self, used: int) -> None:
        """Wait for the subnet's numbers: they are written once a second at most."""

        def right() -> bool:
            status = self.api.get("subnet", "ovn-default").get("status", {})
            numbers = {key: status.get(key) for key in ("v4usingIPs", "v4availableIPs", "v6usingIPs", "v6availableIPs")}
            wanted = {"v4usingIPs": used, "v4availableIPs": 65533 - used, "v6usingIPs": 0, "v6availableIPs": 0}
            assert numbers == wanted, f"{numbers}, wanted {wanted}"
            return True

        eventually("the subnet's numbers are right", right, seconds=10)

    def use(self) -> None:
        """A pod and a VM's pod take their addresses."""
        self.narrator.scene(
            "Use them",
            "A pod named as the reservation says, and a VM's pod (KubeVirt names it differently each time; its owner "
            "says which VM it belongs to).",
        )
        self.run("kubectl run pod-static-01 --image=nginx")
        self.run("kubectl apply -f -", self.launcher())
        self.run("kubectl wait --for=condition=Ready pod --all --timeout=20s")
        table = self.run("kubectl get pod -o wide")
        self.row(table, "pod-static-01", "10.16.0.3")
        self.row(table, "virt-launcher-vm-dynamic-01-x7k2p", "10.16.0.2")
        self.narrator.proved("both run with the addresses that were reserved for them")
        told = self.run("ovn-nbctl show ovn-default")
        self.holds("both ports are in OVN", f"{self.mac} 10.16.0.3" in told and "vm-dynamic-01.default" in told)
        self.in_use("default/pod-static-01")
        self.run("kubectl get ip")

    def launcher(self) -> str:
        """The pod that KubeVirt makes for the VM."""
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "virt-launcher-vm-dynamic-01-x7k2p", "ownerReferences": [machine("vm-dynamic-01")]},
            "spec": {"containers": [{"name": "compute", "image": "virt-launcher"}]},
        }
        return yaml.safe_dump(body, sort_keys=False)

    def row(self, table: str, name: str, address: str) -> None:
        """Assert a line of `kubectl get pod -o wide`."""
        lines = [line.split() for line in table.splitlines() if line.startswith(name + " ")]
        self.holds(f"kubectl shows the pod {name}", len(lines) == 1)
        self.same(f"state of {name}", (lines[0][2], lines[0][5]), ("Running", address))

    def in_use(self, user: str) -> None:
        """Wait until the reservation's status says who uses it."""

        def right() -> bool:
            ip = self.api.get("ip", "pod-static-01.default")
            says(ip, "InUse", "True" if user else "False", "InUse" if user else "NotInUse")
            assert ip["status"]["usedBy"] == user
            return True

        eventually(f"the reservation says that it is used by {user or 'nobody'}", right)

    def keep(self) -> None:
        """The pod goes, the address stays, the pod comes back."""
        self.narrator.scene("Delete the pod: the address stays", "The IP object, the address and the MAC are kept.")
        self.run("kubectl delete pod pod-static-01 --now")
        self.in_use("")
        self.run("kubectl get ip pod-static-01.default -o wide")
        told = eventually(
            "the port is gone from OVN",
            lambda: "pod-static-01" not in (shown := self.cluster.nbctl("show", "ovn-default")) and (shown or " "),
        )
        self.narrator.command("ovn-nbctl show ovn-default")
        self.narrator.output(str(told))
        self.narrator.proved("the reservation is there, its port is not")
        self.narrator.say("And nobody else can have it, not even by asking for it:")
        self.run(
            "kubectl run thief --image=nginx --annotations=ovn.kubernetes.io/ip_address=10.16.0.3",
        )
        said = self.api.told("Pod", "thief", "AddressConflict")
        self.run("kubectl get events --field-selector involvedObject.name=thief,reason=AddressConflict")
        self.holds("the Event names the owner", "pod-static-01.default" in said)
        self.run("kubectl delete pod thief --now")
        self.narrator.say("The pod comes back:")
        self.run("kubectl run pod-static-01 --image=nginx")
        self.run("kubectl wait --for=condition=Ready pod/pod-static-01 --timeout=20s")
        self.row(self.run("kubectl get pod -o wide"), "pod-static-01", "10.16.0.3")
        mac = self.api.get("pod", "pod-static-01")["metadata"]["annotations"]["ovn.kubernetes.io/mac_address"]
        self.same("the pod's MAC", mac, self.mac)
        self.narrator.proved(f"the same address again, and the same MAC {mac}")

    def crash(self) -> None:
        """Kill -9, and what happens meanwhile is not lost."""
        self.narrator.scene(
            "Kill the controller",
            "kill -9, as a crash does. Meanwhile a user deletes a pod and creates it again: it waits.",
        )
        before = self.api.get("ip", "pod-static-01.default")
        self.narrator.command(f"kill -9 {self.cluster.processes['controller'].pid}")
        self.keeper.kill()
        self.run("kubectl delete pod pod-static-01 --now")
        self.run("kubectl run pod-static-01 --image=nginx")
        self.run("kubectl get pod -o wide")
        self.same("phase", self.api.get("pod", "pod-static-01")["status"]["phase"], "Pending")
        self.narrator.say("Nothing was lost: all that is known stands in the IP objects, in OVN and on the pods.")
        self.start()
        self.run("kubectl wait --for=condition=Ready pod/pod-static-01 --timeout=20s")
        table = self.run("kubectl get pod -o wide")
        self.row(table, "pod-static-01", "10.16.0.3")
        self.row(table, "virt-launcher-vm-dynamic-01-x7k2p", "10.16.0.2")
        after = self.api.get("ip", "pod-static-01.default")
        self.same("uid of the reservation", after["metadata"]["uid"], before["metadata"]["uid"])
        self.same("MAC of the reservation", after["spec"]["macAddress"], self.mac)
        self.narrator.proved("the waiting pod has its own address; nobody else's has changed")

    def refuse(self) -> None:
        """Who may not use a reservation is told so, and an edit is refused."""
        self.narrator.scene(
            "A pod that may not use a reservation",
            "vm-dynamic-01 is reserved for a VM. A plain pod of that name gets no address, and is told why and what to "
            "do; the reservation says it too.",
        )
        self.run("kubectl delete pod virt-launcher-vm-dynamic-01-x7k2p --now")
        self.run("kubectl run vm-dynamic-01 --image=nginx")
        said = self.api.told("Pod", "vm-dynamic-01", "ReservationMismatch")
        self.holds("the Event names the attribute", "podType" in said)
        self.run("kubectl get events --field-selector involvedObject.name=vm-dynamic-01,reason=ReservationMismatch")

        def shown() -> bool:
            says(self.api.get("ip", "vm-dynamic-01.default"), "InUse", "False", "ReservationMismatch")
            return True

        eventually("the reservation says why it is not used", shown)
        query = '{.status.conditions[?(@.type=="InUse")].message}{"\\n"}'
        self.run(f"kubectl get ip vm-dynamic-01.default -o jsonpath={shlex.quote(query)}")
        self.run("kubectl get pod vm-dynamic-01 -o wide")
        self.same("phase", self.api.get("pod", "vm-dynamic-01")["status"]["phase"], "Pending")
        self.narrator.proved("no address, and a reason on both sides")
        self.run("kubectl delete pod vm-dynamic-01 --now")
        self.narrator.say("What was promised cannot be edited away:")
        patch = json.dumps({"spec": {"v4IpAddress": "10.16.0.99"}})
        said = self.run(f"kubectl patch ip pod-static-01.default --type=merge -p {shlex.quote(patch)}", refused=True)
        self.holds("the refusal says what to do instead", "cannot be changed" in said)
        self.narrator.proved("the edit is refused, with what to do instead")

    def delete(self) -> None:
        """The IP objects go, and all is free again."""
        self.narrator.scene(
            "Delete the reservations (2)",
            "Only deleting the IP gives the address back. One that a live pod uses stays until that pod is gone.",
        )
        self.run("kubectl delete ip vm-dynamic-01.default --timeout=20s")
        self.run("kubectl delete ip pod-static-01.default --wait=false")

        def waits() -> bool:
            shown = says(self.api.get("ip", "pod-static-01.default"), "InUse", "True", "InUse")
            assert "still uses" in shown["message"], shown
            return True

        eventually("the IP says what its deletion waits for", waits)
        query = '{.status.conditions[?(@.type=="InUse")].message}{"\\n"}'
        self.run(f"kubectl get ip pod-static-01.default -o jsonpath={shlex.quote(query)}")
        self.run("kubectl delete pod pod-static-01 --now")
        self.run("kubectl wait --for=delete ip/pod-static-01.default --timeout=20s")
        self.holds("no IP is left", "No resources" in self.run("kubectl get ip"))
        self.holds("no port is left", "port" not in self.run("ovn-nbctl show ovn-default"))
        self.numbers(used=0)
        self.run("kubectl get subnet ovn-default")
        self.run("kubectl delete subnet ovn-default --timeout=20s")
        self.same("what OVN shows", self.run("ovn-nbctl show"), "")
        self.same("exit code of the controller", self.keeper.stop(), 0)
        self.narrator.proved("everything is clean, and the controller left with exit code 0")

    def play(self) -> None:
        """All scenes in order."""
        for scene in (self.install, self.reserve, self.use, self.keep, self.crash, self.refuse, self.delete):
            scene()


def main() -> int:
    """Play it; 0 if all was as promised, 1 if something differed, 130 on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    narrator = Narrator()
    began = time.monotonic()
    narrator.say(
        "keepip keeps promises about IP addresses. This plays its user document on a real control plane: etcd, "
        "kube-apiserver, controllers, scheduler, OVN Northbound; only the nodes are fake (kwok)."
    )
    try:
        with Cluster.start(manifests=False) as cluster:
            narrator.say(f"The cluster is up after {time.monotonic() - began:.1f} s, in {cluster.folder}.")
            demo = Demo(cluster, narrator)
            try:
                demo.play()
            except (Differs, AssertionError, Refused) as why:
                narrator.failed(str(why))
                narrator.output("the end of the controller's log:\n" + _tail(demo.keeper))
                return 1
            finally:
                demo.api.close()
    except KeyboardInterrupt:
        narrator.say("Interrupted; nothing is left running.")
        return 130
    except (StartFailed, binaries.Missing) as why:
        narrator.failed(str(why))
        return 1
    narrator.proved(f"all of it, in {time.monotonic() - began:.0f} s; nothing is left running")
    return 0


def _tail(keeper: Keeper) -> str:
    try:
        return keeper.tail()
    except OSError:
        return "(it was not started)"


if __name__ == "__main__":
    sys.exit(main())
