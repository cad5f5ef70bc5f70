"""`keepip load` as a person runs it: on a real cluster, to its end, interrupted, and killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.load import chart, report, results
from controller.load.chart import Chart, Frame, Line
from controller.load.cli import cli
from controller.load.objects import LABEL
from controller.load.results import Change
from tests.cluster.binaries import Missing, browser
from tests.cluster.cluster import NODES, ROOT, Cluster
from tests.load.browser import photograph, show
from tests.load.subjects import ControllerProcess
from tests.scenarios.stage import eventually

RESERVATIONS, PODS, CHURN, SECONDS = 100, 50, 20, 10
PLOTS = [
    "Throughput",
    "Latency, asked to seen",
    "Work queue",
    "Memory of the controller",
    "CPU of the controller",
    "Northbound",
    "Writes to the API server",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """With controllers, for somebody must end namespaces."""
    with Cluster.start(kwok_nodes=1) as running:
        yield running


@pytest.fixture(scope="module")
def controller(cluster: Cluster) -> Iterator[ControllerProcess]:
    process = ControllerProcess(cluster)
    cluster.spawn(process.name, process.command())
    yield process
    process.check()


def start(cluster: Cluster, controller: ControllerProcess, *arguments: str) -> subprocess.Popen[str]:
    where = ("--kubeconfig", str(cluster.kubeconfig), "--node", NODES[0])
    metrics = ("--metrics", f"http://127.0.0.1:{controller.port}/metrics")
    command = (sys.executable, "-m", "controller", "load", *where, *metrics, *arguments)
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left(cluster: Cluster) -> list[str]:
    """Whatever a run may have made, by its label and by its traces in the records."""
    found = []
    for path in ("/api/v1/pods", "/api/v1/namespaces", "/apis/kubeovn.io/v1/subnets"):
        answer = cluster.request("GET", f"{path}?labelSelector={LABEL}")
        found += [f"{path}/{one['metadata']['name']}" for one in answer["items"]]
    found += [one["metadata"]["name"] for one in cluster.request("GET", "/apis/kubeovn.io/v1/ips")["items"]]
    return found + cluster.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port").split()


def made(cluster: Cluster, count: int) -> bool:
    return len(cluster.request("GET", f"/apis/kubeovn.io/v1/ips?labelSelector={LABEL}")["items"]) >= count


@pytest.fixture(scope="module")
def run(cluster: Cluster, controller: ControllerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run to its end; its file."""
    out = tmp_path_factory.mktemp("load") / "small"
    many = ("--reservations", str(RESERVATIONS), "--pods", str(PODS))
    churn = ("--churn", str(CHURN), "--seconds", str(SECONDS))
    with start(cluster, controller, *many, *churn, "--title", "small", "--out", str(out)) as tool:
        said, _ = tool.communicate(timeout=200)
    assert tool.returncode == 0, said
    assert f"page: {out}.html" in said
    assert "reservations created" in said
    assert left(cluster) == []
    return out.with_name("small.json")


def test_a_run_has_the_numbers_that_were_asked_for(run: Path) -> None:
    found = results.load(run)
    churn = f"churn at {CHURN}/s"
    phases = {one.name: one for one in found.phases}

    assert list(phases) == [
        "reservations created",
        "pods created",
        f"{churn}: created",
        f"{churn}: deleted",
        "reservations deleted",
        "pods deleted",
    ]
    assert phases["reservations created"].count == RESERVATIONS
    assert phases["pods created"].count == PODS
    created, deleted = phases[f"{churn}: created"].count, phases[f"{churn}: deleted"].count
    assert created + deleted == CHURN * SECONDS
    assert phases[f"{churn}: created"].wall >= SECONDS - 1
    over = RESERVATIONS + PODS + created - deleted
    assert phases["reservations deleted"].count + phases["pods deleted"].count == over
    for one in found.phases:
        assert one.failed == 0
        assert 0 < one.p50 <= one.p90 <= one.p99 <= one.longest <= one.wall
    assert found.facts["there before the deletion"].startswith(f"{over} IPs")
    assert found.facts["requests refused"] == "0"


def test_a_run_tells_throughput_latency_and_the_controllers_own_numbers_over_time(run: Path) -> None:
    found = results.load(run)
    total = sum(one.count for one in found.phases)

    assert sum(rate for one in found.bins for rate in one.rates.values()) == pytest.approx(total)
    assert {name for one in found.bins for name in one.rates} == {"reservations", "pods", "deletions"}
    assert len(found.readings) >= SECONDS / 2
    assert all(one.rss and one.depth for one in found.readings)
    assert sum(one.writes or 0 for one in found.readings) > 0
    assert sum(one.transactions or 0 for one in found.readings) > 0
    assert sum(one.cpu or 0 for one in found.readings) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_takes_away_what_it_made(
    cluster: Cluster, controller: ControllerProcess, tmp_path: Path, number: signal.Signals
) -> None:
    many = ("--reservations", "3000", "--pods", "0", "--rate", "60")
    with start(cluster, controller, *many, "--out", str(tmp_path / "never")) as tool:
        eventually("it is at work", lambda: made(cluster, 60), seconds=60)
        tool.send_signal(number)
        said, _ = tool.communicate(timeout=120)

    assert tool.returncode == 128 + number, said
    assert "cleaning up" in said
    assert left(cluster) == []


def test_what_a_killed_run_has_left_goes_with_clean(
    cluster: Cluster, controller: ControllerProcess, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    many = ("--reservations", "50", "--pods", "3000", "--rate", "60")
    with start(cluster, controller, *many, "--out", str(tmp_path / "never")) as tool:
        pods = f"/api/v1/pods?labelSelector={LABEL}"
        eventually("it is at work", lambda: len(cluster.request("GET", pods)["items"]) > 30, seconds=60)
        tool.kill()
        tool.communicate(timeout=60)
    before = left(cluster)
    assert sum("/pods/" in name for name in before) > 30

    assert cli(["--clean", "--kubeconfig", str(cluster.kubeconfig)]) == 0
    assert left(cluster) == []
    assert int(capsys.readouterr().out.split(" objects deleted")[0].split()[-1]) > 30 + 50


@pytest.fixture(scope="module")
def compared(run: Path) -> Path:
    """The page of two runs."""
    out = run.with_name("pair")
    assert cli(["--compare", str(run), str(run), "--out", str(out)]) == 0
    return out.with_name("pair.html")


@pytest.fixture(scope="module")
def _chromium() -> None:
    try:
        browser()
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("_chromium")
@pytest.mark.parametrize("which", ["one", "two"])
def test_a_browser_shows_every_plot_with_marks_and_reports_no_error(
    run: Path, compared: Path, tmp_path: Path, which: str
) -> None:
    page, times = (run.with_name("small.html"), 1) if which == "one" else (compared, 2)
    shown = show(page)

    assert shown.console == []
    assert [one["title"].removeprefix("small: ") for one in shown.figures] == [n for n in PLOTS for _ in range(times)]
    for figure in shown.figures:
        assert figure["marks"], figure["title"]
        for mark in figure["marks"]:
            assert mark["points"] >= SECONDS / 2
            assert mark["length"] > 100
            assert mark["width"] > 100
            assert mark["thick"] > 1
            assert mark["stroke"] not in {"none", "rgba(0, 0, 0, 0)"}
        assert min(figure["letters"]) > 0
    picture = tmp_path / "page.png"
    assert photograph(page, picture) == []
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 30_000, "an empty page makes a small picture"


@pytest.mark.usefixtures("_chromium")
def test_an_error_in_a_page_would_be_seen(run: Path) -> None:
    shown = show(run.with_name("small.html"), script="<script>console.error('broken'); nothing.here</script>")

    assert any("broken" in line for line in shown.console)
    assert any("nothing is not defined" in line for line in shown.console)


def test_the_page_needs_nothing_from_anywhere(run: Path, compared: Path) -> None:
    for page in (run.with_name("small.html"), compared):
        text = page.read_text()
        assert not [word for word in ("http:", "https:", "src=", "url(", "@import", "<script") if word in text]


def test_two_runs_are_told_side_by_side_with_their_ratios(compared: Path) -> None:
    text = compared.read_text()
    assert text.count("second / first") == 6
    assert text.count("1.00 x") >= 6 * 5


def test_bins_and_phases_count_every_change_once() -> None:
    changes = [Change("pods", 10 + n / 10, 10 + n / 10 + 0.2) for n in range(100)] + [Change("pods", 12.0)]
    found = results.bins(changes, 10.0)
    phase = results.phase("pods created", 10.0, changes, 10.0)

    assert sum(one.rates["pods"] for one in found) == pytest.approx(100)
    assert (phase.count, phase.failed) == (100, 1)
    assert phase.p50 == pytest.approx(0.2)
    assert phase.wall == pytest.approx(10.1)


def test_a_long_run_has_few_bins() -> None:
    changes = [Change("pods", at, at + 1.0) for at in range(7200)]
    found = results.bins(changes, 0.0)
    assert len(found) <= 301
    width = found[1].at - found[0].at
    assert sum(one.rates["pods"] for one in found) * width == pytest.approx(7200)


def test_a_gap_is_not_drawn_over_and_a_lone_point_is_a_dot() -> None:
    line = Line("x", ((0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 4.0)))
    drawn = chart.svg(Chart("T", "u", (line,)), Frame(4.0))
    path = drawn.partition(' d="')[2].partition('"')[0]
    assert (path.count("M"), path.count("L")) == (2, 1)


def test_a_run_without_metrics_says_which_plots_are_missing() -> None:
    told = results.Result("t", "now", "here", {})
    told.bins = results.bins([Change("pods", 0.0, 1.0)], 0.0)
    page = report.page([told])
    assert page.count("<figure>") == 2
    assert "Not known, no /metrics of the controller was read: Work queue, Memory" in page


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--reservations", "0", "--pods", "0"], "--churn needs"),
        (["--namespace", "No_Name"], "is no name"),
        (["--kubeconfig", "nowhere"], "no usable Kubernetes configuration"),
        (["--compare", "nowhere.json", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_begin_says_why(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(arguments) == 2
    assert reason in capsys.readouterr().err
