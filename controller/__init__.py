"""keepip: IP addresses that stay where people put them, on Kubernetes clusters whose network is OVN.

The architecture, on one page
=============================
A line arrives on a watch socket; `wire` turns it into a value and hands it to the watch machine, which says which
event it is; the replica applies it and says what changed; `Picture.fold` brings the ledger (who holds which address)
up to date and `routes` maps the change to work keys, of the old and the new owner both; the queue marks them dirty.
A worker takes a key that no other worker holds, asks the barrier whether the replicas show everything that this key
has written, builds a View synchronously, calls `decide(view, now)`, puts promises into the ledger before the first
`await`, and carries out the effects in order, each guarded by its own precondition. The effects come back as ordinary
events, find nothing to do, and the Decision is empty.

Floors: a room imports only from the floors below it (import-linter keeps it so).

    process/                      5   composition root: settings, logs, metrics, HTTP
    load/                         4   a tool beside the controller: what a user's load costs and brings about
    wire/ | reconcilers/          3   adapters (sockets) | the async shell (decides nothing)
    ports.py                      2   what the shell needs from the world; the error taxonomy
    machines/                     1   state machines without I/O: replica, queue, ledger, barrier, lease
    core/                         0   values and rules: objects, addresses, ipam, decisions

Records and truth: an address is named by the IP object, by the Logical_Switch_Port in OVN Northbound and by the pod's
annotations. Memory is a fold over these three and of what this process has promised and not yet seen recorded
(contract §2); nothing is persisted elsewhere.
"""

__version__ = "0.1.0"
