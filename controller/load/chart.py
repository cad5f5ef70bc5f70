"""Line charts as inline SVG: a title that says what and in which unit, few grid lines, and every value on hover."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_WIDTH: Final = 640
_HEIGHT: Final = 220
_LEFT: Final = 54
_RIGHT: Final = 10
_TOP: Final = 20
_BOTTOM: Final = 24
_LETTER: Final = 6.4
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


@dataclass(frozen=True, slots=True)
class Line:
    """One series; a point without a value is a gap."""

    name: str
    points: tuple[tuple[float, float | None], ...]

    @property
    def highest(self) -> float:
        """The largest value."""
        return max((value for _, value in self.points if value is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of some lines over the seconds of a run."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    log: bool = False

    @property
    def empty(self) -> bool:
        """True if there is nothing to draw."""
        return not any(value is not None for line in self.lines for _, value in line.points)

    @property
    def highest(self) -> float:
        """Of all lines."""
        return max((line.highest for line in self.lines), default=0.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the charts of a page share: the seconds, and the parts of the run as (begin, end, name)."""

    span: float
    parts: tuple[tuple[float, float, str], ...] = ()


class _Scale:
    """From values to pixels."""

    def __init__(self, chart: Chart, frame: Frame, top: float) -> None:
        self._log, self._span = chart.log, max(frame.span, 1e-9)
        if chart.log:
            least = min((v for line in chart.lines for _, v in line.points if v), default=1.0)
            low, high = math.floor(math.log10(least)), math.ceil(math.log10(max(top, least)))
            high = max(high, low + 1)
            self.ticks = [10.0**power for power in range(low, high + 1)]
        else:
            step = _nice(top / 4 if top else 0.25)
            self.ticks = [step * number for number in range(math.ceil(round(top / step, 9)) + 1)] if top else [0, step]
        self._low, self._high = self._place(self.ticks[0]), self._place(self.ticks[-1])

    def x(self, at: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, at / self._span)

    def y(self, value: float) -> float:
        share = (self._place(value) - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * max(0.0, share)

    def _place(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self._log else value


def svg(chart: Chart, frame: Frame, top: float | None = None) -> str:
    """The picture; `top` is a value that must be on the axis, for charts that are compared."""
    scale = _Scale(chart, frame, max(chart.highest, top or 0.0))
    inside = [*_parts(frame, scale), *_grid(frame, scale)]
    for number, line in enumerate(chart.lines):
        if path := _path(line, scale):
            inside.append(f'<path class="line c{number}" d="{path}"/>')
    inside += _hover(chart, scale)
    label = escape(f"{chart.title}, {chart.unit}", quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(inside)}</svg>'


def number(value: float) -> str:
    """As short as it can be read: 1,250, 12.5, 0.04."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def clock(at: float) -> str:
    """Seconds, or minutes and seconds."""
    whole = round(at)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"


def _nice(least: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten that is not less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * 0.999999)


def _parts(frame: Frame, scale: _Scale) -> Iterator[str]:
    for at, (begin, end, name) in enumerate(frame.parts):
        left, right = scale.x(begin), scale.x(end)
        yield (
            f'<rect class="part p{at % 2}" x="{left:.1f}" y="{_TOP}" '
            f'width="{max(0.0, right - left):.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"/>'
        )
        if len(name) * _LETTER < right - left:
            yield f'<text class="part" x="{left + 3:.1f}" y="{_TOP - 6}">{escape(name)}</text>'


def _grid(frame: Frame, scale: _Scale) -> Iterator[str]:
    for tick in scale.ticks:
        y = scale.y(tick)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="y" x="{_LEFT - 6}" y="{y + 3.5:.1f}">{number(tick)}</text>'
    step = next((one for one in _STEPS if frame.span / one <= 8), math.ceil(frame.span / 8))
    for at in range(0, int(frame.span) + 1, step):
        yield f'<text class="x" x="{scale.x(at):.1f}" y="{_HEIGHT - 8}">{clock(at)}</text>'


def _path(line: Line, scale: _Scale) -> str:
    """A stroke for each stretch without a gap; a point alone becomes a dot by its round cap."""
    text, draws = [], False
    for at, value in line.points:
        if value is not None:
            text.append(f"{'L' if draws else 'M'}{scale.x(at):.1f} {scale.y(value):.1f}")
            if not draws:
                text.append("h0.1")
        draws = value is not None
    return "".join(text)


def _hover(chart: Chart, scale: _Scale) -> Iterator[str]:
    """A strip for each moment, which tells all values there."""
    moments = sorted({at for line in chart.lines for at, _ in line.points})
    values = [dict(line.points) for line in chart.lines]
    for at, until in pairwise([*moments, 2 * moments[-1] - moments[-2]] if len(moments) > 1 else [*moments, 1e9]):
        told = [
            f"{line.name} {number(found)}"
            for line, of in zip(chart.lines, values, strict=True)
            if (found := of.get(at)) is not None
        ]
        if told:
            left = scale.x(at)
            text = escape(f"{clock(at)}: {', '.join(told)} {chart.unit}")
            yield (
                f'<rect class="hover" x="{left:.1f}" y="{_TOP}" width="{max(1.0, scale.x(until) - left):.1f}" '
                f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>{text}</title></rect>'
            )


def lines(names: Iterable[str], points: Sequence[tuple[float, dict[str, float | None]]]) -> tuple[Line, ...]:
    """A line for each name, from what is known at each moment."""
    return tuple(Line(name, tuple((at, values.get(name)) for at, values in points)) for name in names)
