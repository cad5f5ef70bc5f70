import asyncio
from dataclasses import asdict, replace

import pytest

from controller.load.scrape import samples
from tests.load import tables
from tests.load.bench import Plan, Results, bench, plan
from tests.load.churn import churn, line
from tests.load.nb import _end
from tests.load.tables import Case, Figures, Phase

COUNT = 100


@pytest.fixture(scope="module")
def results() -> Results:
    cases = [Case("reservations", COUNT), Case("pods", COUNT), Case("reservations", COUNT, None, full=True)]
    found = Results()
    asyncio.run(bench(Plan(cases, full=50, reserved=50, starts=1), found))
    return found


def _of(results: Results, kind: str, subject: str, *, full: bool = False) -> Figures:
    wanted = (kind, subject, full)
    return next(f for f in results.figures if (f.case.kind, f.subject, f.case.full) == wanted)


@pytest.mark.parametrize("full", [False, True])
def test_a_reservation_costs_one_write_before_its_status_and_one_for_it(results: Results, *, full: bool) -> None:
    up = _of(results, "reservations", "controller", full=full).up
    assert (up.before_status, up.writes, up.reads, up.errors) == (COUNT, 2 * COUNT, 0, 0)
    assert up.transactions == 0


def test_a_pod_costs_two_writes_and_at_most_one_event(results: Results) -> None:
    up = _of(results, "pods", "controller").up
    assert (up.writes, up.reads, up.errors) == (2 * COUNT, 0, 0)
    assert up.events <= COUNT + 64  # those of the pods that warmed it up may come late


def test_a_subnets_numbers_are_written_at_most_once_a_second(results: Results) -> None:
    for figures in results.figures:
        for phase in (figures.up, figures.down):
            assert phase.subnet_writes <= phase.seconds + 1


def test_many_pods_share_a_northbound_transaction(results: Results) -> None:
    for subject in ("floor", "controller"):
        assert 0 < _of(results, "pods", subject).up.transactions < COUNT


def test_a_reservation_is_deleted_with_one_write_and_a_pod_with_two(results: Results) -> None:
    assert _of(results, "reservations", "controller").down.writes == COUNT
    assert _of(results, "pods", "controller").down.writes == 2 * COUNT


def test_every_phase_is_measured_for_the_floor_and_for_the_controller(results: Results) -> None:
    assert [f.subject for f in results.figures] == ["floor", "controller"] * 3
    for figures in results.figures:
        for phase in (figures.up, figures.down):
            assert 0 < phase.p50 <= phase.p99 <= phase.wall
            assert phase.cpu >= 0
        assert figures.rss > 0


def test_a_start_is_timed_to_readiness_and_to_the_first_new_addresses(results: Results) -> None:
    (start,) = results.starts
    assert 0 < start.ready < max(start.reservation, start.pod)


def test_the_tables_show_every_case_beside_the_aims(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(results.figures, results.starts, results.rest)
    shown = capsys.readouterr().out
    for text in ("100 reservations", "100 pods", "100 reservations, full", "wall <= 1.3 x floor", "no writes"):
        assert text in shown
    assert asdict(results)["figures"][0]["case"]["kind"] == "reservations"


def test_the_plan_has_both_sizes_and_both_rates_on_an_empty_and_on_a_full_cluster() -> None:
    whole = plan()
    for kind in ("reservations", "pods"):
        mine = {(c.count, c.rate, c.full) for c in whole.cases if c.kind == kind}
        shapes = {(1000, None), (5000, None), (600, 50), (1200, 100)}
        assert mine == {(*shape, full) for shape in shapes for full in (False, True)}
    assert {c.kind for c in plan(only="pods").cases} == {"pods"}
    assert not plan(only="start").cases
    assert plan(large=50_000) == Plan([], full=50_000, starts=3)


def test_churn_is_played_to_the_floor_and_to_the_controller_and_leaves_nothing() -> None:
    """It raises Wrong itself when a change fails or something is left over."""
    floor, ours = asyncio.run(churn(20, 40.0, {"floor": 2.0, "controller": 2.0}))
    assert (floor.subject, ours.subject) == ("floor", "controller")
    for one in (floor, ours):
        assert (one.created.count, one.deleted.count) == (40, 40)
        assert 0 < one.created.p50 <= one.created.p99
        assert 0 < one.deleted.p50 <= one.deleted.p99
        assert one.cores > 0
    assert line(replace(ours, rss=[*[50.0] * 10, *[60.0] * 80, *[70.0] * 10])).endswith(
        "50, 60, 70 MB at the begin, halfway and at the end"
    )


def test_an_aim_that_is_missed_says_so() -> None:
    case = Case("reservations", 100, 50)
    floor, ours = Figures(case, "floor", Phase(p99=0.01)), Figures(case, "controller", Phase(p99=0.06))
    ((_, met, text),) = tables.aims([(floor, ours)], [])
    assert not met
    assert "60 ms" in text


def test_a_json_message_is_cut_from_the_stream_when_it_is_whole() -> None:
    assert _end(b'{"a":{"b":1}}{"c') == 13
    assert _end(b'{"a":{"b":1}') == 0
    assert _end(b"") == 0


def test_counters_are_read_from_the_metrics_page() -> None:
    page = '# HELP x\nkeepip_writes_total{effect="PatchIP"} 3.0\nkeepip_writes_created{effect="PatchIP"} 1.7e9\n'
    assert samples(page, ["keepip_writes_total"])["keepip_writes_total"] == [({"effect": "PatchIP"}, 3.0)]
