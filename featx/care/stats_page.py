"""The statistics of a store on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featx.care import chart
from featx.care.chart import Area, card
from featx.care.spread import Spread
from featx.care.statistics import Statistics
from featx.draw import letters
from featx.draw.letters import Pixels
from featx.schema import Array

_WIDTH, _GAP, _TOP = 1920, 24, 150
_ROWS = (330, 420, 560, 330)  # heights of the rows of cards
_BINS = 80


def stats_page(found: Statistics) -> Pixels:
    """uint8 RGB, 1920 pixels wide."""
    notes = found.notes()
    foot = 60 + 34 * len(notes) if notes else 0
    canvas = chart.page(_WIDTH, _TOP + sum(_ROWS) + _GAP * len(_ROWS) + foot)
    _head(canvas, found)
    y = _TOP
    for height, draw in zip(_ROWS, (_features, _boxes, _classes, _pictures), strict=True):
        draw(found, _columns(canvas, y, height))
        y += height + _GAP
    if notes:
        chart.paragraph(Area(canvas, 2 * _GAP, y, _WIDTH - 2 * _GAP, len(canvas)), notes, chart.GLOW)
    return canvas


def _columns(canvas: Pixels, y: int, height: int) -> list[Area]:
    """Three cards side by side."""
    width = (_WIDTH - 4 * _GAP) // 3
    lefts = (_GAP + n * (width + _GAP) for n in range(3))
    return [Area(canvas, left, y, left + width, y + height) for left in lefts]


def _head(canvas: Pixels, found: Statistics) -> None:
    name = letters.shortened(Path(found.store).resolve().name, chart.TITLE, _WIDTH // 2, bold=True)
    letters.write(canvas, name, (2 * _GAP, 72), chart.TITLE, chart.WHITE, bold=True)
    read = f"a sample of {found.records:,} of " if found.sampled else ""
    schema = found.about.get("schema", {})
    first: dict[str, Any] = next(iter(schema.get("fields", ())), {})
    said = [
        f"{read}{found.total:,} pictures", f"{found.regions:,} regions",
        f"{first.get('dtype', '')} x {'x'.join(map(str, first.get('shape', ())))}", f"{schema.get('boxes', '')} boxes",
        str(found.about.get("backend", "")),
    ]  # fmt: skip
    letters.write(canvas, "   |   ".join(filter(None, said)), (2 * _GAP, 118), chart.TEXT, chart.GREY)


def _features(found: Statistics, areas: list[Area]) -> None:
    values, dimensions = found.values, found.dimensions
    area = card(areas[0], "Feature values", f"{100 * found.zero_share:.1f} % are 0; heights are logarithmic")
    edges = _edges(values)
    marks = [("mean", values.mean), ("99 %", values.quantile(0.99))]
    chart.histogram(area, edges, values.histogram(edges), log_y=True, marks=marks)
    area = card(areas[1], "Norms", "length of each region's feature")
    _spread(area, found.norms, chart.GREEN)
    known = len(dimensions.total)
    area = card(
        areas[2], "Mean of each dimension", f"in order; {len(dimensions.dead)} of {known} dead" if known else ""
    )
    if known:
        chart.profile(area, dimensions.mean)
    else:
        chart.nothing(area)


def _boxes(found: Statistics, areas: list[Area]) -> None:
    area = card(areas[0], "Where boxes lie", "share of boxes that cover each spot")
    if found.places.boxes:
        chart.heat(area, found.places.grid())
    else:
        chart.nothing(area)
    area = card(areas[1], "Size of boxes", "share of the picture, %")
    top, bottom = _halves(area)
    edges = np.linspace(0, 1, _BINS + 1)
    marks = [("median", 100 * found.area.quantile(0.5))]
    chart.histogram(top, 100 * edges, found.area.histogram(_open(edges)), chart.ROSE, marks=marks)
    _shape(bottom, found.aspect)
    area = card(areas[2], "Sides of boxes", "pixels: width above, height below")
    for half, spread in zip(_halves(area), (found.widths, found.heights), strict=True):
        _spread(half, spread, chart.BLUE)


def _shape(area: Area, aspect: Spread) -> None:
    """Width over height on a logarithmic axis."""
    if not aspect.count:
        return
    low, high = max(aspect.quantile(0.001), 0.02), min(aspect.quantile(0.999), 50.0)
    edges = np.geomspace(min(low, 0.5), max(high, 2.0), _BINS + 1)
    chart.histogram(
        area, edges, aspect.histogram(edges), chart.GREEN, log_x=True, marks=[("width / height", aspect.quantile(0.5))]
    )


def _classes(found: Statistics, areas: list[Area]) -> None:
    for area, name, title, colour in (
        (areas[0], "object_ids", "Objects", chart.BLUE), (areas[1], "attribute_ids", "Attributes", chart.GREEN),
    ):  # fmt: skip
        kind = found.classes.get(name)
        about = f"classes that occur: {len(kind.counts):,}" if kind else ""
        room = card(area, title, about)
        if kind:
            chart.bars(room, kind.top(40), colour)
        else:
            chart.nothing(room, "this store has none")
    room = card(areas[2], "Confidences", "objects above, attributes below" if len(found.confs) > 1 else "")
    if not found.confs:
        chart.nothing(room, "this store has none")
    edges = np.linspace(0, 1, 51)
    for half, (name, spread) in zip(_halves(room), found.confs.items(), strict=False):
        colour = chart.BLUE if name.startswith("object") else chart.GREEN
        chart.histogram(half, edges, spread.histogram(_open(edges)), colour, marks=[("mean", spread.mean)])


def _pictures(found: Statistics, areas: list[Area]) -> None:
    area = card(areas[0], "Regions of a picture", f"{found.regions / max(found.records, 1):.1f} on average")
    rows = sorted(found.counts.items())
    if len(rows) <= 6:
        chart.bars(area, [(f"{n} region{'' if n == 1 else 's'}", seen) for n, seen in rows], chart.ROSE)
    else:
        low, high = rows[0][0], rows[-1][0]
        edges = np.linspace(low, high + 1, min(high + 1 - low, _BINS) + 1)
        numbers = np.histogram([n for n, _ in rows], edges, weights=[seen for _, seen in rows])[0]
        chart.histogram(area, edges, numbers, chart.ROSE)
    area = card(areas[1], "Sizes of pictures", f"different ones: {len(found.sizes):,}; width x height")
    chart.bars(area, [(f"{w} x {h}", seen) for (h, w), seen in found.sizes.most_common(12)], chart.BLUE)
    area = card(areas[2], "In numbers")
    chart.facts(area, _numbers(found))


def _numbers(found: Statistics) -> list[tuple[str, str]]:
    values = found.values
    return [
        ("features", f"{chart.short(values.least)} to {chart.short(values.most)}" if values.count else "none"),
        ("mean, median", f"{values.mean:.4g}, {values.quantile(0.5):.4g}"),
        ("norm, 5 to 95 %", f"{found.norms.quantile(0.05):.4g} to {found.norms.quantile(0.95):.4g}"),
        ("box area, median", f"{100 * found.area.quantile(0.5):.3g} % of the picture"),
        ("boxes without area", f"{found.flat:,}"),
        ("boxes beyond the picture", f"{found.outside:,}"),
    ]


def _spread(area: Area, spread: Spread, colour: letters.Colour) -> None:
    """A histogram from the smallest value to where all but a few are."""
    edges = _edges(spread)
    marks = [("median", spread.quantile(0.5))]
    chart.histogram(area, edges, spread.histogram(edges), colour, marks=marks)


def _edges(spread: Spread) -> Array:
    """Edges that hold all but one in two thousand at either end."""
    low, high = spread.quantile(0.0005), spread.quantile(0.9995)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high * (1 + 1e-6), _BINS + 1)


def _open(edges: Array) -> Array:
    """The same edges with the last bin open: what is as large as the last edge, or larger, belongs to it."""
    return np.append(edges[:-1], np.inf)


def _halves(area: Area) -> tuple[Area, Area]:
    middle = area.height // 2
    return area.within(bottom=middle + 10), area.within(top=middle + 10)
