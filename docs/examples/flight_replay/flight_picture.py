"""A picture of a flight as SVG: the estimate over the autopilot's, with the gaps marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flight_daemons import Comparison, Gap

WIDTH = 1000
LEFT, RIGHT = 60, 980
TOP, PANEL_HEIGHT, PANEL_SPACING = 70, 190, 40
TICKS = 7
LEAST_MOVE = 0.5
STYLE = """
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #333333; }
  .tick { font-size: 11px; fill: #777777; }
  .grid { stroke: #e4e4e4; }
  .ekf, .estimate, .difference { fill: none; stroke-linejoin: round; }
  .ekf { stroke: #b0b5bb; stroke-width: 4; }
  .estimate { stroke: #1a66d9; stroke-width: 1.5; }
  .difference { stroke: #0f8a5f; }
  .gap { stroke: #d9480f; stroke-dasharray: 3 3; }
  .gap-length { font-size: 11px; fill: #d9480f; text-anchor: middle; }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a diagram: its class in the style sheet, and its value in radians."""

    style: str
    value: Callable[[Comparison], float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram over time; its curves share a scale in degrees."""

    title: str
    curves: tuple[Curve, ...]


PANELS = (
    Panel(
        "roll (°)",
        (Curve("ekf", lambda c: c.ekf.roll), Curve("estimate", lambda c: c.estimate.roll)),
    ),
    Panel(
        "pitch (°)",
        (Curve("ekf", lambda c: c.ekf.pitch), Curve("estimate", lambda c: c.estimate.pitch)),
    ),
    Panel("roll, difference (°)", (Curve("difference", lambda c: c.estimate.roll - c.ekf.roll),)),
    Panel(
        "pitch, difference (°)", (Curve("difference", lambda c: c.estimate.pitch - c.ekf.pitch),)
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

    def ticks(self) -> list[float]:
        """About ``TICKS`` round values (1, 2 or 5 times a power of ten apart) along the scale."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [n * step for n in range(first, last + 1)]


def picture(comparisons: Sequence[Comparison], gaps: Sequence[Gap], *, duration: float) -> str:
    """Draw a flight of ``duration`` seconds; returns the text of an SVG file."""
    height = TOP + len(PANELS) * (PANEL_HEIGHT + PANEL_SPACING)
    across = Scale(0.0, duration, LEFT, RIGHT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        f"<style>{STYLE}</style>",
        *_legend(len(gaps)),
    ]
    for number, panel in enumerate(PANELS):
        top = TOP + number * (PANEL_HEIGHT + PANEL_SPACING)
        parts += _panel(panel, comparisons, across, top)
        parts += [_vertical("gap", across(gap.began), top) for gap in gaps]
    parts += [
        f'<text class="gap-length" x="{across(gap.began):.1f}" y="{TOP - 8}">'
        f"{gap.length * 1e3:.0f} ms</text>"
        for gap in gaps
    ]
    parts.append("</svg>\n")
    return "\n".join(parts)


def _legend(gaps: int) -> Iterator[str]:
    entries = (
        ("ekf", "autopilot's EKF"),
        ("estimate", "estimate from the IMU alone"),
        ("difference", "estimate − EKF"),
        ("gap", f"{gaps} gaps in the IMU stream"),
    )
    for number, (style, label) in enumerate(entries):
        x = LEFT + number * 240
        yield f'<path class="{style}" d="M{x} 25h30"/><text x="{x + 38}" y="29">{label}</text>'


def _panel(
    panel: Panel, comparisons: Sequence[Comparison], across: Scale, top: float
) -> Iterator[str]:
    bottom = top + PANEL_HEIGHT
    values = [
        [math.degrees(curve.value(comparison)) for comparison in comparisons]
        for curve in panel.curves
    ]
    low, high = min(map(min, values)), max(map(max, values))
    slack = 0.05 * (high - low) or 1.0
    upward = Scale(low - slack, high + slack, bottom, top)
    yield f'<text x="{RIGHT}" y="{top - 8}" text-anchor="end">{panel.title}</text>'
    for tick in upward.ticks():
        y = upward(tick)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
        yield _label(LEFT - 8, y + 4, "end", f"{tick:g}")
    for tick in across.ticks():
        x = across(tick)
        yield _vertical("grid", x, top)
        yield _label(x, bottom + 15, "middle", f"{tick:g} s")
    for curve, column in zip(panel.curves, values, strict=True):
        points = (
            (across(comparison.ekf.time), upward(value))
            for comparison, value in zip(comparisons, column, strict=True)
        )
        yield f'<polyline class="{curve.style}" points="{_polyline(points)}"/>'


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _vertical(style: str, x: float, top: float) -> str:
    return f'<path class="{style}" d="M{x:.1f} {top}v{PANEL_HEIGHT}"/>'


def _polyline(points: Iterator[tuple[float, float]]) -> str:
    """The points as SVG writes them, without those that hardly move the pen."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if not kept or math.dist(point, kept[-1]) >= LEAST_MOVE:
            kept.append(point)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in kept)
