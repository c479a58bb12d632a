"""Closed curves in a unit frame: the vocabulary in which the things are drawn.

Frame: x to the right, y down, the thing about one unit tall or wide around the origin. Every function returns the
corners of a closed polygon, float64 [K, 2], fine enough to look smooth at a few hundred pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Curve: TypeAlias = NDArray[np.float64]
Points: TypeAlias = Sequence[tuple[float, float]] | Curve


@dataclass(frozen=True)
class Part:
    """One filled curve of a thing.

    paint: ``body`` (colour and pattern), ``tone`` (its darker colour), ``pale`` (its lighter one), or the name of a
    fixed paint (``featx.scenes.paint.FIXED``). line: width of the dark line around it, 1 is the usual one, 0 is none.
    """

    curve: Curve
    paint: str = "body"
    line: float = 1.0


Drawing: TypeAlias = Callable[[], list[Part]]


def polygon(*points: tuple[float, float]) -> Curve:
    """Straight sides."""
    return np.asarray(points, np.float64)


def oval(x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360) -> Curve:
    """An ellipse around (x, y), or the segment of it between two angles in degrees (0 is right, 90 is down)."""
    t = np.deg2rad(np.linspace(start, stop, 40))
    return np.stack([x + rx * np.cos(t), y + (rx if ry is None else ry) * np.sin(t)], 1)


def smooth(*points: tuple[float, float], closed: bool = True) -> Curve:
    """A centripetal-free Catmull-Rom curve through the points; open ones keep their ends."""
    p = np.asarray(points, np.float64)
    if not closed:
        p = np.concatenate([p[:1], p, p[-1:]])
        before, a, b, after = p[:-3], p[1:-2], p[2:-1], p[3:]
    else:
        before, a, b, after = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, 9)[:-1, None, None]
    curve = 0.5 * (
        2 * a + (b - before) * t + (2 * before - 5 * a + 4 * b - after) * t**2 + (3 * (a - b) + after - before) * t**3
    )
    path = curve.transpose(1, 0, 2).reshape(-1, 2)
    return path if closed else np.concatenate([path, p[-1:]])


def block(x0: float, y0: float, x1: float, y1: float, corner: float = 0.03) -> Curve:
    """A rectangle with rounded corners."""
    corners = ((x1, y1, 0), (x0, y1, 90), (x0, y0, 180), (x1, y0, 270))
    inner = [(x - corner if x == x1 else x + corner, y - corner if y == y1 else y + corner, a) for x, y, a in corners]
    return np.concatenate([oval(x, y, corner, corner, a, a + 90)[::6] for x, y, a in inner])


def band(path: Points, width: float, end: float | None = None) -> Curve:
    """A ribbon along an open path; its width changes evenly from ``width`` to ``end``."""
    p = np.asarray(path, np.float64)
    along = np.gradient(p, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    half = np.linspace(width, width if end is None else end, len(p))[:, None] / 2
    return np.concatenate([p + across * half, (p - across * half)[::-1]])


def lobes(x: float, y: float, radius: float, count: int, depth: float, turn: float = 0) -> Curve:
    """A cloud: a circle whose edge swells ``count`` times by the share ``depth``."""
    t = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    r = radius * (1 + depth * (np.abs(np.sin(count * (t + np.deg2rad(turn)) / 2)) - 0.5))
    return np.stack([x + r * np.cos(t), y + r * np.sin(t)], 1)


def turned(curve: Curve, degrees: float, x: float = 0, y: float = 0) -> Curve:
    """The curve turned clockwise around (x, y)."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    moved = curve - (x, y)
    return np.stack([c * moved[:, 0] - s * moved[:, 1] + x, s * moved[:, 0] + c * moved[:, 1] + y], 1)


def mirrored(curve: Curve) -> Curve:
    """Left and right exchanged."""
    return curve * (-1.0, 1.0)
