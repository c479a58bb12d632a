"""Charts on a dark page: histograms, bars, a heat map, a table of facts; drawn with OpenCV, without a display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from featx.decode import opencv
from featx.draw import letters
from featx.draw.letters import Colour, Pixels

GROUND: Colour = (24, 26, 31)
CARD: Colour = (33, 36, 43)
RULE: Colour = (58, 62, 70)
WHITE: Colour = (244, 245, 247)
GREY: Colour = (154, 160, 170)
GLOW: Colour = (255, 196, 61)
BLUE: Colour = (92, 160, 255)
GREEN: Colour = (104, 205, 146)
ROSE: Colour = (255, 122, 133)

SMALL, TEXT, LARGE, TITLE = 17, 20, 24, 42  # sizes of letters, pixels
_PAD = 26


@dataclass(frozen=True)
class Area:
    """A rectangle of a canvas to draw in, pixels."""

    canvas: Pixels
    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels."""
        return self.y1 - self.y0

    def within(self, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> Area:
        """The area without margins."""
        return Area(self.canvas, self.x0 + left, self.y0 + top, self.x1 - right, self.y1 - bottom)

    def fill(self, colour: Colour, x0: float, y0: float, x1: float, y1: float) -> None:
        """A filled rectangle, at least one pixel wide and high."""
        cv2 = opencv()
        a, b = (round(x0), round(y0)), (max(round(x0), round(x1) - 1), max(round(y0), round(y1) - 1))
        cv2.rectangle(self.canvas, a, b, colour, cv2.FILLED)


def page(width: int, height: int) -> Pixels:
    """An empty page, uint8 RGB."""
    canvas = np.full((height, width, 3), GROUND, np.uint8)
    canvas[:8] = GLOW
    return canvas


def card(area: Area, title: str, about: str = "") -> Area:
    """A card with a title and a line about it; returns the area left for its chart."""
    area.fill(CARD, area.x0, area.y0, area.x1, area.y1)
    y = letters.base(area.y0 + 12, area.y0 + 12 + LARGE + 12, LARGE)
    letters.write(area.canvas, title, (area.x0 + _PAD, y), LARGE, WHITE, bold=True)
    room = area.width - 2 * _PAD - letters.measure(title, LARGE, bold=True) - 24
    if about and room > 40:
        shown = letters.shortened(about, SMALL, room)
        at = area.x1 - _PAD - letters.measure(shown, SMALL)
        letters.write(area.canvas, shown, (at, y), SMALL, GREY)
    return area.within(_PAD, 12 + LARGE + 28, _PAD, 18)


def histogram(
    area: Area, edges: Sequence[float] | Pixels, counts: Pixels, colour: Colour = BLUE, *, log_x: bool = False,
    log_y: bool = False, marks: Sequence[tuple[str, float]] = (), unit: str = "",
) -> None:  # fmt: skip
    """Bars between edges, with an axis of round numbers below; ``marks`` are values with a name, as dashed lines.

    log_x: the axis is logarithmic (and so are the edges). log_y: heights are. Where all counts are 0 it says so.
    """
    if not np.any(counts):
        nothing(area)
        return
    plot = area.within(bottom=SMALL + 12, top=SMALL + 6 if marks else 0)
    place = _scale(float(edges[0]), float(edges[-1]), plot.x0, plot.x1, log_x)
    heights = np.log1p(counts) if log_y else counts.astype(np.float64)
    heights = heights / max(float(heights.max(initial=0)), 1e-12)
    for low, high, share in zip(edges[:-1], edges[1:], heights, strict=True):
        if share > 0:
            left, right = place(float(low)), place(float(high))
            gap = 1 if right - left > 4 else 0
            plot.fill(colour, left, plot.y1 - max(2.0, share * plot.height), right - gap, plot.y1)
    _axis(plot, float(edges[0]), float(edges[-1]), place, log_x, unit)
    _marks(plot, marks, place)


def bars(area: Area, rows: Sequence[tuple[str, float]], colour: Colour = BLUE, *, unit: str = "") -> None:
    """A horizontal bar with name and number for each row, as many as there is room for."""
    step = TEXT + 12
    shown = rows[: max(1, area.height // step)]
    if not shown:
        nothing(area)
        return
    numbers = [
        f"{value:,.0f}{unit}" if value >= 10 or value == round(value) else f"{value:.3g}{unit}" for _, value in shown
    ]
    names = [letters.shortened(name or "(no name)", TEXT, round(area.width * 0.36)) for name, _ in shown]
    indent = max(letters.measure(name, TEXT) for name in names) + 16
    room = area.width - indent - max(letters.measure(number, SMALL) for number in numbers) - 14
    most = max(value for _, value in shown) or 1
    for place, (name, number, (_, value)) in enumerate(zip(names, numbers, shown, strict=True)):
        top = area.y0 + place * step
        base = letters.base(top, top + step, TEXT)
        letters.write(area.canvas, name, (area.x0 + indent - 16 - letters.measure(name, TEXT), base), TEXT, WHITE)
        end = area.x0 + indent + max(2.0, room * value / most)
        area.fill(colour, area.x0 + indent, top + 7, end, top + step - 7)
        letters.write(area.canvas, number, (round(end) + 10, base), SMALL, GREY)


def heat(area: Area, grid: Pixels) -> None:
    """A grid as colours, dark to bright, as large as fits, smooth; with a scale beside it."""
    cv2 = opencv()
    side = min(area.height, area.width - 110)
    x0 = area.x0 + (area.width - 110 - side) // 2
    most = max(float(grid.max(initial=0)), 1e-12)
    levels = np.clip(grid / most * 255, 0, 255).astype(np.uint8)
    smooth = cv2.resize(levels, (side, side), interpolation=cv2.INTER_CUBIC)
    area.canvas[area.y0 : area.y0 + side, x0 : x0 + side] = _coloured(smooth)
    bar = np.repeat(np.linspace(255, 0, side).astype(np.uint8)[:, None], 18, axis=1)
    left = x0 + side + 22
    area.canvas[area.y0 : area.y0 + side, left : left + 18] = _coloured(bar)
    for share, y in ((1.0, area.y0 + SMALL), (0.5, area.y0 + side // 2 + SMALL // 2), (0.0, area.y0 + side)):
        letters.write(area.canvas, f"{100 * share * most:.0f} %", (left + 28, y - 2), SMALL, GREY)


def profile(area: Area, values: Pixels, colour: Colour = GREEN, *, unit: str = "") -> None:
    """Values in descending order as a filled curve from left to right, with the largest and the smallest named."""
    plot = area.within(bottom=SMALL + 12, top=SMALL + 6)
    order = np.sort(values)[::-1]
    low, high = min(0.0, float(order[-1])), max(float(order[0]), 1e-12)
    if not len(order):
        return
    columns = np.linspace(0, len(order) - 1, plot.width).round().astype(int)
    for x, value in enumerate(order[columns]):
        zero = plot.y1 - plot.height * (0 - low) / (high - low)
        top = plot.y1 - plot.height * (float(value) - low) / (high - low)
        plot.fill(colour, plot.x0 + x, min(top, zero), plot.x0 + x + 1, max(top, zero))
    _axis(plot, 0, len(order), _scale(0, len(order), plot.x0, plot.x1, False), False, unit)
    text = f"{order[0]:.3g} to {order[-1]:.3g}"
    letters.write(plot.canvas, text, (plot.x1 - letters.measure(text, SMALL), plot.y0 - 8), SMALL, GREY)


def nothing(area: Area, text: str = "nothing") -> None:
    """A word where there is nothing to draw."""
    paragraph(area, [text], GREY)


def facts(area: Area, rows: Sequence[tuple[str, str]]) -> None:
    """Names on the left, values on the right."""
    step = min(TEXT + 16, area.height // max(1, len(rows)))
    for place, (name, value) in enumerate(rows):
        top = area.y0 + place * step
        base = letters.base(top, top + step, TEXT)
        letters.write(area.canvas, name, (area.x0, base), TEXT, GREY)
        shown = letters.shortened(value, TEXT, area.width - letters.measure(name, TEXT) - 20)
        letters.write(area.canvas, shown, (area.x1 - letters.measure(shown, TEXT), base), TEXT, WHITE)
        area.fill(RULE, area.x0, top + step - 1, area.x1, top + step)


def paragraph(area: Area, lines: Sequence[str], colour: Colour = WHITE, size: int = TEXT) -> int:
    """Text in lines as wide as the area; returns where the next line would stand. What has no room is left out."""
    y = area.y0
    for line in lines:
        for piece in letters.wrap(line, size, area.width):
            if y + size * 1.5 > area.y1:
                return y
            letters.write(area.canvas, piece, (area.x0, letters.base(y, round(y + size * 1.5), size)), size, colour)
            y += round(size * 1.5)
        y += size // 3
    return y


def round_steps(low: float, high: float, most: int) -> list[float]:
    """At most about ``most`` round numbers between two, 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= raw)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis: 0.001, 40, 1.2k, 3M."""
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{sign}"
    return f"{value:.3g}"


def _axis(plot: Area, low: float, high: float, place: Any, log: bool, unit: str) -> None:
    plot.fill(RULE, plot.x0, plot.y1, plot.x1, plot.y1 + 1)
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        ticks = [10.0**n for n in range(first, last + 1)] or [low, high]
        if len(ticks) < 3:
            ticks = [m * 10.0**n for n in range(first - 1, last + 1) for m in (1, 2, 5) if low <= m * 10.0**n <= high]
    else:
        ticks = round_steps(low, high, max(2, plot.width // 90))
    for tick in ticks:
        text = f"{short(tick)}{unit}"
        x = round(place(tick))
        plot.fill(GREY, x, plot.y1, x + 1, plot.y1 + 5)
        left = min(max(plot.x0, x - letters.measure(text, SMALL) // 2), plot.x1 - letters.measure(text, SMALL))
        letters.write(plot.canvas, text, (left, plot.y1 + SMALL + 8), SMALL, GREY)


def _marks(plot: Area, marks: Sequence[tuple[str, float]], place: Any) -> None:
    free = plot.x0
    for name, value in sorted(marks, key=lambda mark: mark[1]):
        x = round(min(max(place(value), plot.x0), plot.x1 - 1))
        for y in range(plot.y0, plot.y1, 10):
            plot.fill(GLOW, x, y, x + 2, min(y + 5, plot.y1))
        text = f"{name} {short(value)}"
        width = letters.measure(text, SMALL)
        left = max(free, min(x - width // 2, plot.x1 - width))
        if left + width <= plot.x1:
            letters.write(plot.canvas, text, (left, plot.y0 - 8), SMALL, GLOW)
            free = left + width + 14


def _scale(low: float, high: float, left: int, right: int, log: bool) -> Any:
    """From a value to a place on the axis."""
    if log:
        low, high = math.log10(low), math.log10(high)
    span = (high - low) or 1.0
    return lambda value: left + (right - left) * ((math.log10(value) if log else value) - low) / span


def _coloured(levels: Pixels) -> Pixels:
    cv2 = opencv()
    return cast(Pixels, cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB))
