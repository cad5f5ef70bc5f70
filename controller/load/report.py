"""The page of a run, or of two side by side: one file that needs nothing from anywhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from controller.load.chart import Chart, Frame, Line, lines, number, svg
from controller.load.results import COLUMNS, cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from controller.load.results import Phase, Result
    from controller.load.scrape import Reading

_LANES: Final = ("urgent", "normal", "low")
_STYLE: Final = """
:root{--page:#fcfcfb;--card:#fff;--ink:#1b1b1a;--soft:#63625e;--rule:#e5e4e0;--band:#f4f3f0;--bad:#c22f2f;
--c0:#2a78d6;--c1:#c9541c;--c2:#12876a;--c3:#8a5bd1}
@media(prefers-color-scheme:dark){:root{--page:#161615;--card:#1e1e1d;--ink:#f0efec;--soft:#a3a19b;--rule:#353432;
--band:#262624;--bad:#f08a8a;--c0:#5f9fe8;--c1:#f08a52;--c2:#3fbf96;--c3:#b592ee}}
*{box-sizing:border-box}
body{margin:0 auto;padding:28px 24px 48px;max-width:1400px;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,"DejaVu Sans",sans-serif}
h1{font-size:26px;margin:0}h2{font-size:17px;margin:32px 0 10px}
p{margin:4px 0 0;color:var(--soft)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 12px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left;padding-left:0}
tr.of td{color:var(--soft);border-bottom-style:dotted}td.bad{color:var(--bad);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:14px 0 0}dt{color:var(--soft)}dd{margin:0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(520px,1fr));gap:16px}
figure{margin:0;padding:14px 16px 8px;background:var(--card);border:1px solid var(--rule);border-radius:8px}
figcaption{display:flex;flex-wrap:wrap;gap:2px 14px;align-items:baseline;margin-bottom:4px}
figcaption b{font-weight:600}figcaption i{font-style:normal;color:var(--soft)}
.key::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle;background:var(--k)}
figcaption .key:first-of-type{margin-left:auto}
svg{display:block;width:100%;height:auto}
svg text{font-size:12px;fill:var(--soft)}text.y{text-anchor:end}text.x{text-anchor:middle}
.grid{stroke:var(--rule);stroke-width:1}rect.p0{fill:var(--band)}rect.p1{fill:none}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}
.hover{fill:transparent}.hover:hover{fill:var(--ink);fill-opacity:.07}
"""


def page(runs: Sequence[Result]) -> str:
    """The page of one run; of two, each plot of the first beside the same plot of the second, to the same scale."""
    title = " and ".join(one.title for one in runs)
    body = [f"<h1>{escape(title)}</h1>"]
    body += [f"<p>{escape(_subtitle(one, many=len(runs) > 1))}</p>" for one in runs]
    body += ["<h2>Phases</h2>", _table(runs), *_facts(runs), "<h2>Over time</h2>", _plots(runs)]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><link rel=icon href='data:,'><style>{_STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def charts(run: Result) -> tuple[Chart, ...]:
    """All plots of a run; one of which nothing is known is empty."""
    series = sorted({name for one in run.bins for name in one.rates})
    moments = [(one.at, {**one.rates}) for one in run.bins]
    waits = [
        (one.at, {name: value * 1e3 if value is not None else None for name, value in shares})
        for one in run.bins
        for shares in [(("p50", one.p50), ("p90", one.p90), ("p99", one.p99))]
    ]
    depths = [(one.at, {lane: one.depth.get(lane) for lane in _LANES}) for one in run.readings]
    return (
        Chart("Throughput", "changes/s", lines(series, [(at, dict(values)) for at, values in moments])),
        Chart("Latency, asked to seen", "ms, log scale", lines(("p50", "p90", "p99"), waits), log=True),
        Chart("Work queue", "keys that wait", lines(_LANES, depths)),
        Chart("Memory of the controller", "MB", _read(run.readings, "RSS", "rss")),
        Chart("CPU of the controller", "cores", _read(run.readings, "CPU", "cpu")),
        Chart(
            "Northbound",
            "a second",
            (*_read(run.readings, "transactions", "transactions"), *_read(run.readings, "rows", "rows")),
        ),
        Chart("Writes to the API server", "a second", _read(run.readings, "writes, events included", "writes")),
    )


def _read(readings: Sequence[Reading], name: str, field: str) -> tuple[Line, ...]:
    return (Line(name, tuple((one.at, getattr(one, field)) for one in readings)),)


def _subtitle(run: Result, *, many: bool) -> str:
    told = run.settings
    rate = f"created at {told['rate']}/s" if told.get("rate", "0") != "0" else f"{told.get('flight')} requests at once"
    what = (
        f"{told.get('reservations')} reservations and {told.get('pods')} pods, {rate}; "
        f"churn of {told.get('churn')} changes/s for {told.get('seconds')} s"
    )
    return f"{run.title + ': ' if many else ''}{what}. {run.when}; {run.machine}."


def _table(runs: Sequence[Result]) -> str:
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = [row for names in [_names(runs)] for name in names for row in _rows(runs, name)]
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _names(runs: Sequence[Result]) -> list[str]:
    """Of all phases, each once, in the order of the runs."""
    return list(dict.fromkeys(one.name for run in runs for one in run.phases))


def _rows(runs: Sequence[Result], name: str) -> Iterator[str]:
    found = [(run, one) for run in runs for one in run.phases if one.name == name]
    for run, one in found:
        label = name if len(runs) == 1 else f"{name}, {run.title}"
        yield (
            "<tr>"
            + _cell(label)
            + "".join(_cell(text, bad=at == 1 and one.failed > 0) for at, text in enumerate(cells(one)[1:]))
            + "</tr>"
        )
    if len(found) == 2:
        yield _ratios(found[0][1], found[1][1])


def _ratios(first: Phase, second: Phase) -> str:
    """The second run as a multiple of the first."""
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("wall", "rate", "p50", "p90", "p99", "longest")]
    texts = ["second / first", "", "", *(f"{b / a:.2f} x" if a else "" for a, b in pairs)]
    return f'<tr class="of">{"".join(map(_cell, texts))}</tr>'


def _cell(text: str, *, bad: bool = False) -> str:
    return f"<td{' class=bad' if bad else ''}>{escape(text)}</td>"


def _facts(runs: Sequence[Result]) -> Iterator[str]:
    names = dict.fromkeys(name for run in runs for name in run.facts)
    rows = ((name, " | ".join(run.facts.get(name, "-") for run in runs)) for name in names)
    yield "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows) + "</dl>"


def _plots(runs: Sequence[Result]) -> str:
    pictures = []
    for same in zip(*(charts(run) for run in runs), strict=True):
        if all(one.empty for one in same):
            continue
        top = max(one.highest for one in same)
        pictures += [_figure(one, run, runs, top) for one, run in zip(same, runs, strict=True)]
    missing = [one.title for one in charts(runs[0]) if one.empty]
    note = f"<p>Not known, no /metrics of the controller was read: {', '.join(missing)}.</p>" if missing else ""
    return f'<div class="plots">{"".join(pictures)}</div>{note}'


def _figure(chart: Chart, run: Result, runs: Sequence[Result], top: float) -> str:
    keys = "".join(
        f'<span class="key" style="--k:var(--c{at})">{escape(line.name)}</span>' for at, line in enumerate(chart.lines)
    )
    whose = f"{run.title}: " if len(runs) > 1 else ""
    about = f"{chart.unit}, at most {number(chart.highest)}"
    caption = f"<b>{escape(whose + chart.title)}</b><i>{escape(about)}</i>{keys if len(chart.lines) > 1 else ''}"
    frame = Frame(max(one.span for one in runs), tuple(_parts(run)))
    drawn = "<p>not known</p>" if chart.empty else svg(chart, frame, top)
    return f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>"


def _parts(run: Result) -> Iterator[tuple[float, float, str]]:
    """Phases as stretches of time: what churn creates and deletes is one."""
    ends: dict[tuple[float, str], float] = {}
    for one in run.phases:
        key = (one.begin, one.name.partition(":")[0])
        ends[key] = max(ends.get(key, 0.0), one.begin + one.wall)
    for (begin, name), end in ends.items():
        yield begin, end, name
