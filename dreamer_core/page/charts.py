"""Charts as SVG, drawn here: colours come from the page's style, so that they follow its theme.

A chart is WIDTH x HEIGHT units, about as many pixels as it is shown at on a laptop and on a phone,
so that its letters can be read on both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dreamer_core.page.markup import Html, tag
from dreamer_core.report.read import Point
from dreamer_core.words import number

WIDTH, HEIGHT = 360.0, 220.0
NUM_COLORS = 8
"""Of the palette; more curves take them again, dashed."""
_TOP, _RIGHT, _BOTTOM = 14.0, 12.0, 36.0
_LETTER = 6.4  # units that a digit of a label is wide
_LINE = 11.0  # units that a label is high
_LOG_FROM = 20  # times the smallest value that the largest has to be for a logarithmic axis
_FAR = 3  # times the height of the data that a reference may stretch an axis to
_PADDING = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line, its band or its dots."""

    points: Sequence[Point]
    label: str
    color: int = 0
    """Index; see NUM_COLORS."""
    band: Sequence[tuple[float, float, float]] = ()
    """x, lower and upper bound."""
    look: Literal["line", "dots", "dotted"] = "line"


@dataclass(frozen=True, slots=True)
class Reference:
    """A level to compare with; one that is far away is named at the edge."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        shown = math.log10(value) if self.is_log else value
        return self.start + (shown - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        if not self.is_log:
            return ticks(self.low, self.high, 5)
        span = self.high - self.low
        factors = (1, 2, 5) if span < 1.5 else (1, 3) if span < 3 else (1,)
        step = max(1, math.ceil(span / 5))
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        found = [f * 10.0**p for p in powers if p % step == 0 for f in factors]
        return [each for each in found if self.low <= math.log10(each) <= self.high]


def line_chart(
    curves: Sequence[Curve],
    *,
    name: str,
    x_title: str,
    y_title: str,
    references: Sequence[Reference] = (),
    may_be_log: bool = False,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    empty: str = "nothing was reported yet",
) -> Html:
    """Returns curves over one pair of axes.

    Args:
        curves: those without points are left out, with their bands.
        name: what the chart shows, for those who cannot see it.
        x_title: of the axis, with its unit.
        y_title: of the axis, with its unit; written above it.
        references: levels.
        may_be_log: whether values above 0 that span much get a logarithmic axis.
        y_range: that the axis has at least.
        x_range: of the axis; by default from 0 to the last point.
        empty: is said where there is no point.
    """
    drawn = [curve for curve in curves if curve.points]
    if not drawn:
        return framed(name, (tag("text", empty, x=WIDTH / 2, y=HEIGHT / 2, class_="mid"),))
    marked = [y for curve in drawn for _, y in curve.points]
    is_log = may_be_log and min(marked) > 0 and max(marked) > _LOG_FROM * min(marked)
    least = min(marked) / 2 if is_log else -math.inf  # a band may reach to 0
    ys = [each for each in _values(drawn) if each >= least]
    near, far = _near(references, ys)
    y = _y_axis([*ys, *(each.value for each in near), *(y_range or ())], is_log=is_log)
    labels = [number(each) for each in y.ticks]
    left = 12 + _LETTER * max(map(len, labels), default=1)
    xs = [x for curve in drawn for x, *_ in (*curve.points, *curve.band)]
    low, high = x_range or (min(0.0, *xs), max(xs))
    x = _Axis(low, high if high > low else low + 1, left, WIDTH - _RIGHT)
    parts = [
        *_grid(x, y, labels, x_title, f"{y_title}, logarithmic" if is_log else y_title),
        *(_level(each, x, y) for each in near),
        *(part for curve in drawn for part in _band(curve, x, y)),
        *(part for curve in drawn for part in _marks(curve, x, y)),
        *_labels(near, far, x, y),
    ]
    return framed(f"{name}. {_ends(drawn)}", parts)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Returns round numbers from low to high, about as many as asked for."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) if i else 0.0 for i in range(first, last + 1)]


def framed(name: str, parts: Sequence[Html], height: float = HEIGHT) -> Html:
    """Returns the parts as one picture; `name` says what it shows to those who cannot see it."""
    box = f"0 0 {WIDTH:g} {height:g}"
    return tag("svg", tag("title", name), *parts, viewBox=box, role="img", class_="chart")


def _values(curves: Sequence[Curve]) -> Iterator[float]:
    for curve in curves:
        yield from (y for _, y in curve.points)
        for _, low, high in curve.band:
            yield from (low, high)


def _y_axis(values: Sequence[float], *, is_log: bool) -> _Axis:
    shown = [math.log10(each) for each in values if each > 0] if is_log else values
    low, high = min(shown), max(shown)
    space = _PADDING * (high - low) or max(abs(high) * 0.1, 1e-9)
    return _Axis(low - space, high + space, HEIGHT - _BOTTOM, _TOP + 8, is_log)


def _near(
    references: Sequence[Reference], ys: Sequence[float]
) -> tuple[list[Reference], list[Reference]]:
    """Returns those that leave the data enough of the height, and the others."""
    near: list[Reference] = []
    low, high = min(ys), max(ys)
    room = _FAR * max(high - low, 1e-3 * max(abs(low), abs(high), 1.0))
    for each in sorted(references, key=lambda r: max(low - r.value, r.value - high)):
        wanted = max(high, each.value) - min(low, each.value)
        if wanted <= room:
            near.append(each)
    return near, [each for each in references if each not in near]


def _grid(x: _Axis, y: _Axis, labels: Sequence[str], x_title: str, y_title: str) -> Iterator[Html]:
    for value, label in zip(y.ticks, labels, strict=True):
        at = _round(y(value))
        yield tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="grid")
        yield tag("text", label, x=x.start - 5, y=at + 3.8, class_="end")
    for value in x.ticks:
        at = _round(x(value))
        yield tag("line", x1=at, x2=at, y1=y.start, y2=y.start + 4, class_="grid")
        anchor = "end" if at > WIDTH - 24 else "mid"
        place = WIDTH - 2 if anchor == "end" else at
        yield tag("text", number(value), x=place, y=y.start + 16, class_=anchor)
    yield tag("text", x_title, x=(x.start + x.end) / 2, y=HEIGHT - 4, class_="mid title")
    yield tag("text", y_title, x=2, y=10, class_="title")


def _band(curve: Curve, x: _Axis, y: _Axis) -> Iterator[Html]:
    if len(curve.band) < 2:
        return
    upper = [_place(x, y, at, high) for at, _, high in curve.band]
    lower = [_place(x, y, at, low) for at, low, _ in reversed(curve.band)]
    yield tag("path", d=f"M{'L'.join([*upper, *lower])}Z", class_=f"band {_color(curve)}")


def _marks(curve: Curve, x: _Axis, y: _Axis) -> Iterator[Html]:
    kind = f"{curve.look} {_color(curve)}" + (" again" if curve.color >= NUM_COLORS else "")
    if curve.look == "dots" or len(curve.points) == 1:
        for px, py in curve.points:
            label = tag("title", f"{curve.label}: {number(py)} at {number(px)}")
            cx, cy = _round(x(px)), _round(_on(y, py))
            yield tag("circle", label, cx=cx, cy=cy, r=2.6, class_=f"dots {_color(curve)}")
    elif curve.points:
        places = " ".join(_place(x, y, *point) for point in curve.points)
        yield tag("polyline", tag("title", curve.label), points=places, class_=kind)


def _level(each: Reference, x: _Axis, y: _Axis) -> Html:
    at = _round(y(each.value))
    return tag("line", x1=x.start, x2=x.end, y1=at, y2=at, class_="reference")


def _labels(
    near: Sequence[Reference], far: Sequence[Reference], x: _Axis, y: _Axis
) -> Iterator[Html]:
    """Yields the names of levels, from top to bottom, none on another."""
    above = [each for each in far if y(each.value) < y.end]
    below = [each for each in far if each not in above]
    last = -math.inf
    if above:
        last = y.end + 2
        yield _label(f"↑ {_named(above)}", x, last)
    for each in sorted(near, key=lambda reference: -reference.value):
        at = _round(y(each.value))
        last = at - 3 if at - 3 - last > _LINE else max(at + 10, last + _LINE)
        yield _label(_named([each]), x, last)
    if below:
        yield _label(f"↓ {_named(below)}", x, y.start - 4)


def _label(words: str, x: _Axis, y: float) -> Html:
    return tag("text", words, x=x.end, y=y, class_="end note")


def _named(levels: Sequence[Reference]) -> str:
    return ", ".join(f"{each.label} {number(each.value)}" for each in levels)


def _ends(curves: Sequence[Curve]) -> str:
    """Says where the curves end."""
    named = [each for each in curves if each.points and each.look in ("line", "dots")][:NUM_COLORS]
    ends = [f"{each.label} ends at {number(each.points[-1][1])}" for each in named]
    return "; ".join(ends)


def _place(x: _Axis, y: _Axis, at: float, value: float) -> str:
    return f"{_round(x(at)):g},{_round(_on(y, value)):g}"


def _on(y: _Axis, value: float) -> float:
    """Returns the place of a value; what a logarithmic axis leaves out is at its lower end."""
    if y.is_log and (value <= 0 or math.log10(value) < y.low):
        return y.start
    return y(value)


def _round(value: float) -> float:
    return round(value, 1)


def _color(curve: Curve) -> str:
    return f"c{curve.color % NUM_COLORS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A row of an interval chart."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    color: int | None = None
    """None: not ours, to compare with."""


def interval_chart(spans: Sequence[Span], *, name: str, x_title: str) -> Html:
    """Returns a row for each value, with its interval as a bar, as Agarwal et al. (2021) draw them.

    Args:
        spans: rows from top to bottom; at least one.
        name: what the chart shows, for those who cannot see it.
        x_title: of the axis, with its unit.
    """
    step = 24.0
    bottom = 12 + step * len(spans)
    left = 14 + 6.6 * min(20, max(len(each.label) for each in spans))
    edges = [e for s in spans for e in (s.value, s.low, s.high) if e is not None]
    low, high = min(0.0, *edges), max(edges)
    space = _PADDING * (high - low) or 0.1
    x = _Axis(low - space * (low < 0), high + space, left, WIDTH - _RIGHT)
    parts: list[Html] = []
    for value in x.ticks:
        at = _round(x(value))
        parts.append(tag("line", x1=at, x2=at, y1=6, y2=bottom, class_="grid"))
        anchor = "end" if at > WIDTH - 24 else "mid"
        place = WIDTH - 2 if anchor == "end" else at
        parts.append(tag("text", number(value), x=place, y=bottom + 14, class_=anchor))
    for row, each in enumerate(spans):
        parts += _span(each, 6 + step * (row + 0.5), x)
    middle = (x.start + x.end) / 2
    parts.append(tag("text", x_title, x=middle, y=bottom + 30, class_="mid title"))
    told = "; ".join(f"{each.label} {_told(each)}" for each in spans)
    return framed(f"{name}. {told}", parts, bottom + 36)


def _span(each: Span, y: float, x: _Axis) -> Iterator[Html]:
    label = each.label if len(each.label) <= 20 else f"{each.label[:19]}…"
    color = "other" if each.color is None else f"c{each.color % NUM_COLORS}"
    yield tag("text", label, x=x.start - 8, y=y + 3.8, class_="end")
    title = tag("title", f"{each.label}: {_told(each)}")
    if each.low is not None and each.high is not None:
        width = max(1.5, x(each.high) - x(each.low))
        place = {"x": _round(x(each.low)), "y": y - 6, "width": _round(width), "height": 12}
        yield tag("rect", title, **place, rx=2, class_=f"span {color}")
    at = _round(x(each.value))
    yield tag("line", title, x1=at, x2=at, y1=y - 8, y2=y + 8, class_=f"value {color}")


def _told(each: Span) -> str:
    if each.low is None or each.high is None:
        return f"{each.value:.3f}"
    return f"{each.value:.3f}, 95% interval {each.low:.3f} to {each.high:.3f}"
