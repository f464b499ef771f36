"""A picture of a flight as SVG: the estimate over the autopilot's, with the gaps marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flight_daemons import Comparison
from flight_run import ESTIMATOR, Flight

WIDTH = 1200
LEFT, MIDDLE, RIGHT = 80, 700, 1180
TOP, PANEL_HEIGHT, PANEL_SPACING, BOTTOM = 90, 190, 36, 20
COLUMN_SPACING = 70
DETAIL = 6.0
TICKS = 7
LEAST_MOVE = 0.5
LETTER = 7.0
STYLE = """
  svg { font: 13px sans-serif; }
  text { fill: #333333; }
  .paper { fill: #ffffff; }
  .tick { font-size: 11px; fill: #777777; }
  .title { font-weight: bold; }
  .frame { fill: none; stroke: #999999; }
  .grid { stroke: #e4e4e4; }
  .ekf, .estimate, .roll-error, .pitch-error { fill: none; stroke-linejoin: round; }
  .ekf { stroke: #b0b5bb; stroke-width: 4; }
  .estimate { stroke: #1a66d9; stroke-width: 1.5; }
  .roll-error { stroke: #0f8a5f; }
  .pitch-error { stroke: #8b3fc4; }
  .gap { stroke: #d9480f; stroke-dasharray: 4 3; }
  .gap-length { font-size: 11px; fill: #d9480f; }
  .restart { stroke: #222222; stroke-dasharray: 1 3; stroke-width: 2; }
"""
LEGEND = (
    ("ekf", "autopilot's EKF"),
    ("estimate", "estimate from the IMU alone"),
    ("roll-error", "roll error"),
    ("pitch-error", "pitch error"),
    ("gap", "gap in IMU samples (ms)"),
    ("restart", "estimator restarting"),
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a diagram: its class in the style sheet, and its value in radians."""

    style: str
    value: Callable[[Comparison], float]


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity over time; its curves share a scale in degrees."""

    label: str
    curves: tuple[Curve, ...]

    def scale(self, comparisons: Sequence[Comparison], top: float) -> Scale:
        """The scale that has room for every value, in a panel that begins at the pixel ``top``."""
        values = [math.degrees(curve.value(c)) for curve in self.curves for c in comparisons]
        low, high = min(values), max(values)
        slack = 0.05 * (high - low) or 1.0
        return Scale(low - slack, high + slack, top + PANEL_HEIGHT, top)


ROWS = (
    Row(
        "roll (°)",
        (Curve("ekf", lambda c: c.ekf.roll), Curve("estimate", lambda c: c.estimate.roll)),
    ),
    Row(
        "pitch (°)",
        (Curve("ekf", lambda c: c.ekf.pitch), Curve("estimate", lambda c: c.estimate.pitch)),
    ),
    Row(
        "estimate − EKF (°)",
        (
            Curve("roll-error", lambda c: c.estimate.roll - c.ekf.roll),
            Curve("pitch-error", lambda c: c.estimate.pitch - c.ekf.pitch),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps the values from ``low`` to ``high`` to the pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """About ``TICKS`` round values (1, 2 or 5 times a power of ten apart) along the scale."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [n * step for n in range(first, last + 1)]


def picture(flight: Flight) -> str:
    """Draw a flight; returns the text of an SVG file."""
    height = _top(len(ROWS)) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Attitude from the inertial sensors, against the autopilot's</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
        *_legend(),
    ]
    for title, across in _columns(flight):
        parts += _column(title, across, flight)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _columns(flight: Flight) -> list[tuple[str, Scale]]:
    """The whole replay, and where it is long, the part around its greatest roll beside it."""
    if flight.duration <= 2 * DETAIL:
        return [("the whole replay", Scale(0.0, flight.duration, LEFT, RIGHT))]
    level = flight.comparisons[0].ekf.roll
    greatest = max(flight.comparisons, key=lambda comparison: abs(comparison.ekf.roll - level))
    begin = min(max(0.0, greatest.ekf.time - DETAIL / 2), flight.duration - DETAIL)
    return [
        ("the whole replay", Scale(0.0, flight.duration, LEFT, MIDDLE)),
        (
            f"{DETAIL:g} s around the greatest roll",
            Scale(begin, begin + DETAIL, MIDDLE + COLUMN_SPACING, RIGHT),
        ),
    ]


def _legend() -> Iterator[str]:
    x: float = LEFT
    for style, label in LEGEND:
        yield f'<path class="{style}" d="M{x:g} 25h30"/>'
        yield _text(x + 38, 29, label)
        x += 62 + LETTER * len(label)


def _column(title: str, across: Scale, flight: Flight) -> Iterator[str]:
    gaps = [gap for gap in flight.gaps if gap.began in across]
    restarts = [
        finding.time
        for finding in flight.findings
        if (finding.daemon, finding.state) == (ESTIMATOR, "restarting") and finding.time in across
    ]
    yield _text(across.start, TOP - 28, title, style="title")
    for gap in gaps:
        length = f"{gap.length * 1e3:.0f}"
        yield _text(across(gap.began), TOP - 8, length, style="gap-length", anchor="middle")
    for number, row in enumerate(ROWS):
        top = _top(number)
        yield from _panel(row, across, row.scale(flight.comparisons, top), flight.comparisons)
        for gap in gaps:
            yield _vertical("gap", across(gap.began), top)
        for time in restarts:
            yield _vertical("restart", across(time), top)
    middle = (across.start + across.end) / 2
    yield _text(middle, _top(len(ROWS)), "time since the log began (s)", anchor="middle")


def _top(number: int) -> float:
    """The pixel at which the panels of a row begin."""
    return TOP + number * (PANEL_HEIGHT + PANEL_SPACING)


def _panel(
    row: Row, across: Scale, upward: Scale, comparisons: Sequence[Comparison]
) -> Iterator[str]:
    left, right, top, bottom = across.start, across.end, upward.end, upward.start
    for tick in upward.ticks():
        y = upward(tick)
        yield f'<path class="grid" d="M{left:g} {y:.1f}H{right:g}"/>'
        yield _text(left - 8, y + 4, _number(tick), style="tick", anchor="end")
    for tick in across.ticks():
        x = across(tick)
        yield _vertical("grid", x, top)
        yield _text(x, bottom + 15, _number(tick), style="tick", anchor="middle")
    yield (
        f'<rect class="frame" x="{left:g}" y="{top:g}" width="{right - left:g}" '
        f'height="{PANEL_HEIGHT}"/>'
    )
    yield (
        f'<text transform="translate({left - 44:g} {(top + bottom) / 2:g}) rotate(-90)" '
        f'text-anchor="middle">{row.label}</text>'
    )
    for curve in row.curves:
        points = (
            (across(comparison.ekf.time), upward(math.degrees(curve.value(comparison))))
            for comparison in comparisons
            if comparison.ekf.time in across
        )
        yield f'<polyline class="{curve.style}" points="{_polyline(points)}"/>'


def _text(x: float, y: float, text: str, *, style: str = "label", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _vertical(style: str, x: float, top: float) -> str:
    return f'<path class="{style}" d="M{x:.1f} {top:g}v{PANEL_HEIGHT}"/>'


def _polyline(points: Iterator[tuple[float, float]]) -> str:
    """The points as SVG writes them, without those that hardly move the pen."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or math.dist(point, kept[-1]) >= LEAST_MOVE:
            kept.append(point)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in kept)
