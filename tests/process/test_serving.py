"""/metrics, /livez, /readyz and the logs: what a cluster sees of the process (contract §9)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import aiohttp
import orjson
import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from controller.core.catalogue import Reason, say
from controller.core.objects import Kind
from controller.machines import watch
from controller.process import http, logs, metrics
from controller.reconcilers import keys
from controller.reconcilers.controller import Controller
from tests.core.worlds import GRANTED, OURS, granted_ip, make_subnet
from tests.sim.loop import run
from tests.sim.world import SimWorld


def controller_with(ips: int) -> Controller:
    """A controller that has seen a subnet and that many reservations, without a loop of its own."""

    async def make() -> Controller:
        found = Controller(SimWorld(1).world)
        net = make_subnet(cidr="10.0.0.0/8", gateway="10.0.0.1")
        found._see_objects(Kind.SUBNET, watch.Swap((net,), 1))
        made = tuple(
            granted_ip(f"10.1.{n >> 8}.{n & 255}", f"0a:00:00:00:{n >> 8:02x}:{n & 255:02x}", name=f"p{n}.default",
                       pod_name=f"p{n}", labels=GRANTED, finalizers=OURS)
            for n in range(ips)
        )  # fmt: skip
        found._see_objects(Kind.IP, watch.Swap(made, 2))
        return found

    return run(make())


def page(controller: Controller) -> dict[str, float]:
    """Every sample of one scrape by name and labels."""
    registry = CollectorRegistry()
    registry.register(metrics.State(controller))
    found = text_string_to_metric_families(metrics.page(registry).decode())
    return {
        s.name + "".join(f" {k}={v}" for k, v in sorted(s.labels.items())): s.value for f in found for s in f.samples
    }


def test_a_scrape_tells_what_the_picture_knows() -> None:
    """Per subnet, also under Kube-OVN's names, so that dashboards work."""
    controller = controller_with(3)
    controller.worker.refusals[keys.reservation("x")] = say(Reason.SUBNET_EXHAUSTED, "queued", subnet="net")
    controller.sweeper.audit.leaked["net"] = 2
    found = page(controller)

    assert found["keepip_subnet_used_addresses family=IPv4 subnet=net"] == 3
    assert found["keepip_subnet_reserved subnet=net"] == 3
    assert found["keepip_subnet_duplicate_addresses subnet=net"] == 0
    assert found["keepip_subnet_leaked subnet=net"] == 2
    assert found["keepip_subnet_waiting subnet=net"] == 0
    assert found["keepip_refused reason=SubnetExhausted"] == 1
    assert found["keepip_replica_objects kind=IP"] == 3
    assert found["subnet_used_ip_count protocol=IPv4 subnet_cidr=10.0.0.0/8 subnet_name=net"] == 3
    total = sum(
        found[f"keepip_subnet_{part}_addresses family=IPv4 subnet=net"] for part in ("used", "available", "excluded")
    )
    assert total == 2**24 - 2
    assert found["workqueue_depth name=low"] >= 3


def test_every_series_is_there_from_the_start() -> None:
    """A rate over a series that appears with its first event misses that event."""
    found = {
        s.name + str(sorted(s.labels.items()))
        for f in controller_with(0).telemetry.registry.collect()
        for s in f.samples
    }
    for kind in keys.KINDS:
        assert f"controller_runtime_reconcile_total[('controller', '{kind}'), ('result', 'error')]" in found
        assert f"controller_runtime_reconcile_panics_total[('controller', '{kind}')]" in found
    for reason in Reason:
        assert f"keepip_refusals_total[('reason', '{reason}')]" in found


def test_a_scrape_costs_the_same_with_ten_and_with_ten_thousand_ips() -> None:
    """Nothing of it walks over addresses."""
    times = []
    for ips in (10, 10_000):
        state = metrics.State(controller_with(ips))
        samples = []
        for _ in range(20):
            began = time.perf_counter()
            list(state.collect())
            samples.append(time.perf_counter() - began)
        times.append(min(samples))

    assert times[1] < 5 * times[0] + 0.001


def test_requests_and_transactions_are_counted() -> None:
    """As the adapters report them; a watch has no duration of interest."""
    registry, wires = CollectorRegistry(), metrics.Wires()
    wires.register(registry)
    wires.request("get", "IP", "200", 0.01)
    wires.request("watch", "IP", "200", 300.0)
    wires.transaction(0.02, 5, "success")
    text = metrics.page(registry).decode()

    assert 'rest_client_requests_total{code="200",kind="IP",method="watch"} 1.0' in text
    assert 'rest_client_request_duration_seconds_count{verb="get"} 1.0' in text
    assert 'verb="watch"' not in text
    assert "keepip_northbound_effects_total 5.0" in text


async def test_the_three_endpoints_answer() -> None:
    """Alive, ready or why not, and the metrics as Prometheus reads them."""
    troubles: list[str] = []
    runner, port = await http.serve("127.0.0.1", 0, CollectorRegistry(), lambda: troubles)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for path, status, text in (("/livez", 200, "ok\n"), ("/readyz", 200, "ok\n"), ("/metrics", 200, "")):
                async with session.get(path) as answer:
                    assert (answer.status, await answer.text()) == (status, text)
            troubles += ["IP not read yet", "northbound not connected"]
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.text()) == (503, "IP not read yet\nnorthbound not connected\n")
    finally:
        await runner.cleanup()


async def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    """The process must not run on without its probes."""
    runner, port = await http.serve("127.0.0.1", 0, CollectorRegistry(), list)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await http.serve("127.0.0.1", port, CollectorRegistry(), list)
    finally:
        await runner.cleanup()


@pytest.fixture
def fresh_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_logs_are_json_one_line_each(fresh_logs: None, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """With time, level, message and whatever belongs to it; below the level nothing is made at all."""
    logs.configure("info")
    log = structlog.get_logger()
    log.debug("unseen")
    log.info("reconciled", key="reservation/web.default", text="two\nlines")
    try:
        int("broken")
    except ValueError:
        log.exception("bug")
    lines = [orjson.loads(line) for line in capfdbinary.readouterr().out.splitlines()]

    assert [line["msg"] for line in lines] == ["reconciled", "bug"]
    assert (lines[0]["level"], lines[0]["key"]) == ("info", "reservation/web.default")
    assert lines[0]["timestamp"].endswith("Z")
    assert "ValueError: invalid literal" in lines[1]["exception"]
