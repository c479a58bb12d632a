"""The differences of two stores on one page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featx.care import chart
from featx.care.chart import Area, card
from featx.care.difference import Diff
from featx.care.spread import Spread
from featx.draw import letters
from featx.draw.letters import Colour, Pixels

_WIDTH, _GAP, _TOP = 1920, 24, 190
_ROWS = (330, 330)
_LINE = 34
_BINS = 70
_LEAST = 1e-7  # distance from 1 that is drawn as the smallest


def diff_page(found: Diff) -> Pixels:
    """uint8 RGB, 1920 pixels wide."""
    why = 90 + 2 * _LINE * max(1, min(len(found.hints), 8))
    worst = 100 + 36 * max(1, len(found.worst))
    canvas = chart.page(_WIDTH, _TOP + why + sum(_ROWS) + worst + _GAP * 4)
    _head(canvas, found)
    y = _TOP
    _reasons(found, Area(canvas, _GAP, y, _WIDTH - _GAP, y + why))
    y += why + _GAP
    for height, draw in zip(_ROWS, (_near, _far), strict=True):
        width = (_WIDTH - 4 * _GAP) // 3
        lefts = [_GAP + n * (width + _GAP) for n in range(3)]
        draw(found, [Area(canvas, left, y, left + width, y + height) for left in lefts])
        y += height + _GAP
    _worst(found, Area(canvas, _GAP, y, _WIDTH - _GAP, y + worst))
    return canvas


def _head(canvas: Pixels, found: Diff) -> None:
    names = [Path(store).resolve().name for store in (found.a, found.b)]
    x = 2 * _GAP
    for sign, name, colour in zip("AB", names, (chart.BLUE, chart.ROSE), strict=True):
        letters.write(canvas, sign, (x, 72), chart.TITLE, colour, bold=True)
        x += letters.measure(sign, chart.TITLE, bold=True) + 16
        shown = letters.shortened(name, chart.TITLE, _WIDTH // 2 - 160, bold=True)
        letters.write(canvas, shown, (x, 72), chart.TITLE, chart.WHITE, bold=True)
        x += letters.measure(shown, chart.TITLE, bold=True) + 60
    said = [
        f"{found.compared:,} of {found.common:,} common pictures compared", f"{found.equal:,} equal",
        f"{found.differing:,} differ", f"{found.only_a:,} only in A", f"{found.only_b:,} only in B",
    ]  # fmt: skip
    letters.write(canvas, "   |   ".join(said), (2 * _GAP, 118), chart.TEXT, chart.GREY)
    agree = [f"{name} agree for {100 * equal / total:.1f} %" for name, (equal, total) in found.agree.items() if total]
    regions = "regions: {:,} in A, {:,} in B, {:,} in both".format(*found.regions)
    letters.write(canvas, "   |   ".join([regions, *agree]), (2 * _GAP, 154), chart.TEXT, chart.GREY)


def _reasons(found: Diff, area: Area) -> None:
    """The steps in which they differ, the most frequent first, with a bar for their share of the pictures."""
    room = card(area, "Which step differs", "share of the pictures")
    if not found.hints:
        same = "none: every picture that was compared is the same in both"
        _said(found, room, same if found.equal == found.compared else "none that is known")
        return
    for place, hint in enumerate(found.hints[:8]):
        top = room.y0 + place * 2 * _LINE
        share = hint.pictures / max(found.compared, 1)
        end = room.x0 + max(4, round(200 * share))
        room.fill(chart.RULE, room.x0, top + 5, room.x0 + 200, top + 25)
        room.fill(chart.GLOW, room.x0, top + 5, end, top + 25)
        said = f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"
        base = letters.base(top, top + round(chart.TEXT * 1.5), chart.TEXT)
        letters.write(room.canvas, said, (room.x0 + 214, base), chart.TEXT, chart.GLOW)
        chart.paragraph(Area(room.canvas, room.x0 + 300, top, room.x1, top + 2 * _LINE + 4), [hint.text])


def _said(found: Diff, area: Area, text: str) -> None:
    """A sentence about the pictures that were compared, if any were."""
    if found.compared:
        chart.paragraph(area, [text], chart.GREEN if found.same else chart.WHITE)
    else:
        chart.nothing(area, "nothing to compare")


def _near(found: Diff, areas: list[Area]) -> None:
    """How alike regions are: distances from 1, on a logarithmic axis."""
    for area, title, spread, colour, same in (
        (areas[0], "Overlap of boxes", found.overlap, chart.BLUE, "the boxes of all {:,} regions are the same"),
        (
            areas[1],
            "Cosine of features",
            found.cosine,
            chart.GREEN,
            "the features of all {:,} regions have one direction",
        ),
    ):
        exact = spread.histogram(np.array([-1, _LEAST]))[0] / max(spread.count, 1)
        room = card(area, title, f"1 - value; {100 * exact:.1f} % are 1" if spread.count else "1 - value")
        _logarithmic(room, spread, colour, same)
    room = card(areas[2], "Ids that agree", "of regions in both")
    rows = [(name.removesuffix("_ids"), 100 * equal / total) for name, (equal, total) in found.agree.items() if total]
    if rows:
        edges = Area(room.canvas, room.x0, room.y0, room.x1, room.y1)
        chart.bars(edges, rows, chart.BLUE, unit=" %")
    else:
        chart.nothing(room, "they have no ids in common" if found.regions[2] else "nothing to compare")


def _far(found: Diff, areas: list[Area]) -> None:
    """How far numbers are apart."""
    for area, title, about, spread, colour, same in (
        (areas[0], "Largest difference of a feature", "of each region", found.apart, chart.GREEN,
         "the features of all {:,} regions are the same"),
        (areas[1], "Relative difference of features", "of each picture", found.relative, chart.GREEN,
         "the features of all {:,} pictures are the same"),
        (areas[2], "Largest shift of a box", "of each picture, pixels", found.shift, chart.BLUE,
         "the boxes of all {:,} pictures are the same"),
    ):  # fmt: skip
        _logarithmic(card(area, title, about), spread, colour, same)


def _logarithmic(area: Area, spread: Spread, colour: Colour, same: str) -> None:
    """What is above 0 on a logarithmic axis; ``same`` says that nothing is."""
    least = max(_LEAST, spread.quantile(min(1.0, spread.zeros / max(spread.count, 1) + 1e-6)))
    if not spread.count:
        chart.nothing(area, "nothing to compare")
        return
    if spread.most <= _LEAST:
        rounding = f", up to {spread.most:.1g}" if spread.most else ""
        chart.paragraph(area, [same.format(spread.count) + rounding], chart.GREEN)
        return
    low, high = 10 ** np.floor(np.log10(min(least, spread.most) * 0.9)), 10 ** np.ceil(np.log10(spread.most * 1.001))
    edges = np.geomspace(max(low, _LEAST), high, _BINS + 1)
    marks = [("median", spread.quantile(0.5))] if spread.quantile(0.5) > edges[0] else []
    marks += [("most", spread.most)]
    chart.histogram(area, edges, spread.histogram(edges), colour, log_x=True, marks=marks)


def _worst(found: Diff, area: Area) -> None:
    room = card(area, "Most different pictures", "0: the same, 1: no region in common")
    if not found.worst:
        _said(found, room, f"all {found.compared:,} pictures that were compared are the same in both")
    for place, (key, value, why) in enumerate(found.worst):
        base = letters.base(room.y0 + 36 * place, room.y0 + 36 * (place + 1), chart.TEXT)
        letters.write(room.canvas, f"{value:.3f}", (room.x0, base), chart.TEXT, chart.GLOW)
        name = letters.shortened(key, chart.TEXT, 400)
        letters.write(room.canvas, name, (room.x0 + 90, base), chart.TEXT, chart.WHITE)
        said = letters.shortened("; ".join(why), chart.TEXT, room.width - 540)
        letters.write(room.canvas, said, (room.x0 + 530, base), chart.TEXT, chart.GREY)
