"""/metrics, /livez, /readyz and the logs: what a cluster sees of the process (contract §9)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

import aiohttp
import orjson
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from controller.core.catalogue import Reason, say
from controller.core.objects import Kind
from controller.machines import watch
from controller.process import http, logs, metrics
from controller.process.exposition import SLICE, labelled
from controller.process.subnets import FAMILIES
from controller.reconcilers import keys
from controller.reconcilers.controller import Controller
from controller.wire.clock import RealClock
from controller.wire.northbound import NorthboundWire
from tests.core.worlds import GRANTED, OURS, granted_ip, make_subnet
from tests.readme_tables import page_of
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
    """Every sample of one scrape by name and labels, as a client of Prometheus' format reads it."""
    found = text_string_to_metric_families(run(page_of(controller).text()))
    return {
        s.name + "".join(f" {k}={v}" for k, v in sorted(s.labels.items())): s.value for f in found for s in f.samples
    }


def test_a_scrape_tells_what_the_picture_knows() -> None:
    """Per subnet, also under Kube-OVN's names, so that dashboards work."""
    controller = controller_with(3)
    full, taken = (
        say(Reason.SUBNET_EXHAUSTED, "queued", subnet="net"),
        say(Reason.SUBNET_NOT_FOUND, "absent", subnet="x"),
    )
    controller.worker.refusals |= {keys.reservation("p0.default"): full, keys.reservation("p1.default"): taken}
    controller.worker.refusals[keys.pod("default", "x")] = full
    controller.sweeper.audit.leaked["net"] = 2
    found = page(controller)

    assert found["keepip_subnet_used_addresses family=IPv4 subnet=net"] == 3
    assert found["keepip_subnet_reservations state=granted subnet=net"] == 3
    assert found["keepip_subnet_reservations state=waiting subnet=net"] == 1
    assert found["keepip_subnet_reservations state=refused subnet=net"] == 1
    assert found["keepip_subnet_duplicate_addresses subnet=net"] == 0
    assert found["keepip_subnet_leaked subnet=net"] == 2
    assert found["keepip_subnet_waiting subnet=net"] == 0
    assert found["keepip_refused kind=IP reason=SubnetExhausted"] == 1
    assert found["keepip_refused kind=Pod reason=SubnetExhausted"] == 1
    assert found["keepip_refused kind=IP reason=AddressConflict"] == 0
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
        shown = page_of(controller_with(ips))
        samples = []
        for _ in range(20):
            began = time.perf_counter()
            run(shown.text())
            samples.append(time.perf_counter() - began)
        times.append(min(samples))

    assert times[1] < 5 * times[0] + 0.001


def crowd(subnets: int) -> Controller:
    """A controller that has seen so many dual-stack subnets."""

    async def make() -> Controller:
        found = Controller(SimWorld(1).world)
        made = tuple(
            make_subnet(
                cidr=f"10.{n >> 8}.{n & 255}.0/24,fd00:{n:x}::/112",
                gateway=f"10.{n >> 8}.{n & 255}.1,fd00:{n:x}::1",
                name=f"n{n}",
                protocol="Dual",
            )
            for n in range(subnets)
        )
        found._see_objects(Kind.SUBNET, watch.Swap(made, 1))
        return found

    return run(make())


def test_a_scrape_of_a_thousand_subnets_lets_others_run_in_between(capsys: pytest.CaptureFixture[str]) -> None:
    """Never more than a slice of them at once; the longest turn is printed (aim: 20 ms)."""
    shown = page_of(crowd(1_000))

    async def scrape() -> tuple[str, list[float]]:
        turns = [time.perf_counter()]

        async def others() -> None:
            while True:
                turns.append(time.perf_counter())
                await asyncio.sleep(0)

        busy = asyncio.create_task(others())
        text = await shown.text()
        turns.append(time.perf_counter())
        busy.cancel()
        return text, [after - before for before, after in pairwise(turns)]

    text, turns = min((run(scrape()) for _ in range(5)), key=lambda one: max(one[1]))
    assert text.count("\nkeepip_subnet_used_addresses{") == 2_000
    families = text.count("# HELP ") - len(FAMILIES)
    assert len(turns) >= families + 1_000 // SLICE
    longest, lines = max(turns), text.count("\n")
    with capsys.disabled():
        print(f"\n1,000 subnets: {lines} lines in {sum(turns) * 1e3:.0f} ms, the longest turn {longest * 1e3:.1f} ms")
    assert longest < 0.2


def test_a_sweep_of_many_ips_lets_others_run_in_between() -> None:
    """The audit of 10,000 takes a fifth of a second: a Lease is to be renewed meanwhile."""
    controller = controller_with(10_000)
    controller.sweeper._clock = RealClock()
    turns = 0

    async def sweep() -> None:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        busy = asyncio.create_task(others())
        await controller.sweeper.pass_once()
        busy.cancel()

    asyncio.run(sweep())
    assert turns > 1
    assert page(controller)["keepip_subnet_reservations_unused subnet=net"] == 10_000


def test_no_label_is_an_object_but_a_subnet() -> None:
    """What grows with pods or addresses would end as a database in Prometheus' memory."""
    few, many = (
        {line.partition(" ")[0] for line in run(page_of(controller_with(ips)).text()).splitlines()} for ips in (1, 500)
    )

    assert few == many


def test_what_people_write_cannot_break_the_page() -> None:
    """A CIDR is shown as it stands in the Subnet, whatever it is."""
    odd = 'a"b\\c\nd'

    assert labelled(subnet_cidr=odd) == r'subnet_cidr="a\"b\\c\nd"'
    (family,) = text_string_to_metric_families(f"x{{{labelled(subnet_cidr=odd)}}} 1\n")
    assert family.samples[0].labels == {"subnet_cidr": odd}


def test_requests_and_transactions_are_counted() -> None:
    """As the adapters report them; a watch has no duration of interest."""
    wires = metrics.Wires()
    wires.request("get", "IP", "200", 0.01)
    wires.request("watch", "IP", "200", 300.0)
    wires.transaction(0.02, 5, "success")
    text = run(metrics.Page(controller_with(0), wires, NorthboundWire("unix:/nowhere")).text())

    assert 'rest_client_requests_total{code="200",method="watch",kind="IP"} 1.0' in text
    assert 'rest_client_request_duration_seconds_count{verb="get"} 1.0' in text
    assert 'verb="watch"' not in text
    assert "keepip_northbound_effects_total 5.0" in text
    assert "_created" not in text


def test_the_api_server_is_up_while_it_serves() -> None:
    """A refusal is an answer; an error of the server and silence are none."""
    wires = metrics.Wires()
    for code, up in (("200", 1), ("409", 1), ("503", 0), ("429", 1), ("error", 0), ("404", 1)):
        wires.request("get", "IP", code, 0.01)
        assert next(iter(wires.serving.collect())).samples[0].value == up


async def nothing() -> str:
    """A page without a metric."""
    return ""


async def test_the_three_endpoints_answer() -> None:
    """Alive, ready or why not, and the metrics as Prometheus reads them."""
    troubles: list[str] = []
    runner, port = await http.serve("127.0.0.1", 0, nothing, lambda: troubles)
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
    runner, port = await http.serve("127.0.0.1", 0, nothing, list)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await http.serve("127.0.0.1", port, nothing, list)
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
