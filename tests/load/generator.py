"""Creates and deletes, at once or at a rate, and what becomes of it: all times are the generator's own."""

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from controller.load.client import IPS, Api, Seen
from controller.load.objects import Request
from controller.load.traffic import at_once, part
from controller.load.traffic import play as send_all
from controller.load.watching import Goal
from tests.load import bodies


@dataclass(frozen=True)
class Times:
    """Seconds."""

    wall: float
    p50: float
    p99: float


async def play(api: Api, requests: list[Request], goal: Goal, rate: float | None = None) -> Times:
    """Send them all, 32 at once or so many a second, and wait for what they bring about."""
    sent: dict[str, float] = {}

    async def send(one: Request) -> None:
        sent[one.seen_as] = time.perf_counter()
        await api.send(one.method, one.path, one.body)

    begin = time.perf_counter()
    await send_all(requests, send, rate)
    await goal.wait()
    waits = sorted(goal.done[name] - at for name, at in sent.items())
    return Times(max(goal.done.values()) - begin, part(waits, 0.5), part(waits, 0.99))


async def fill(api: Api, northbound: Any, reservations: int, pods: int) -> None:
    """A cluster that has been at work: so many reservations, and pods with their ports and IPs, written directly."""

    async def reserve(number: int) -> None:
        await api.send("POST", IPS, bodies.granted(f"held-{number:05}", bodies.RESERVED + number))

    async def place(number: int) -> None:
        name, at = f"base-{number:05}", bodies.RUNNING + number
        whole = bodies.pod(name)
        whole["metadata"]["annotations"] = bodies.notes(at)
        made = await api.send("POST", bodies.PLACE.pods, whole)
        uid = msgspec.json.decode(made, type=Seen).metadata.uid
        await api.send("POST", IPS, bodies.pod_ip(name, at))
        await northbound.insert(bodies.row(name, uid, at))

    await at_once(range(reservations), reserve, flight=64)
    await at_once(range(pods), place, flight=64)
