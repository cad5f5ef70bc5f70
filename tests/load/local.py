"""`make load`: `keepip load` on a cluster of its own on this machine, with the controller on it.

Only etcd, the API server and ovsdb-server run beside it, so the namespace is made here: nobody would end one.

    python -m tests.load.local [what keepip load takes]
"""

import signal
import sys

from controller.load.cli import cli, parser
from tests.cluster.binaries import Missing
from tests.cluster.cluster import NODES, Cluster, StartFailed
from tests.load.subjects import ControllerProcess

NAMESPACE = "load"


def arguments(cluster: Cluster, controller: ControllerProcess) -> list[str]:
    """Where this cluster is, as keepip load wants to hear it."""
    metrics = f"http://127.0.0.1:{controller.port}/metrics"
    where = ["--kubeconfig", str(cluster.kubeconfig), "--metrics", metrics]
    return [*where, "--namespace", NAMESPACE, "--node", NODES[0]]


def make_namespace(cluster: Cluster) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    cluster.request("POST", "/api/v1/namespaces", body)


def main() -> int:
    parser().parse_args(sys.argv[1:])  # what is wrong is said before anything is started
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the cluster too
    try:
        with Cluster.start(controllers=False, kwok_nodes=0) as cluster:
            make_namespace(cluster)
            controller = ControllerProcess(cluster)
            cluster.spawn(controller.name, controller.command())
            return cli([*arguments(cluster, controller), *sys.argv[1:]])
    except (StartFailed, Missing) as reason:
        print(reason, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
