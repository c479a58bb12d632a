"""Drawings of what people make: balloon, boat, book, car, cup, hat, house, star (of paper), umbrella."""

from __future__ import annotations

import numpy as np

from featx.scenes.curves import Part, band, block, oval, polygon, smooth, turned
from featx.scenes.living import both


def balloon() -> list[Part]:
    """A drop on a string."""
    bulb = smooth(
        (0, -0.5), (0.19, -0.44), (0.29, -0.25), (0.25, -0.02), (0.11, 0.13),
        (0, 0.18), (-0.11, 0.13), (-0.25, -0.02), (-0.29, -0.25), (-0.19, -0.44),
    )  # fmt: skip
    string = smooth((0, 0.22), (0.04, 0.29), (-0.03, 0.37), (0.03, 0.44), (0, 0.5), closed=False)
    return [
        Part(band(string, 0.035), "ink", 0),
        Part(polygon((0, 0.15), (0.07, 0.25), (-0.07, 0.25)), "tone"),
        Part(bulb),
        Part(turned(oval(-0.13, -0.28, 0.05, 0.11), 20, -0.13, -0.28), "shine", 0),
    ]


def boat() -> list[Part]:
    """Two sails, one hull."""
    hull = smooth(
        (-0.46, 0.18), (-0.2, 0.21), (0.2, 0.21), (0.48, 0.16), (0.42, 0.33), (0.28, 0.43), (-0.26, 0.43), (-0.40, 0.34)
    )
    return [
        Part(polygon((0.0, -0.5), (0.17, -0.445), (0.0, -0.39)), "tone", 0.8),
        Part(block(-0.022, -0.5, 0.022, 0.22, 0.01), "wood"),
        Part(smooth((0.05, -0.36), (0.20, -0.18), (0.36, 0.11), (0.20, 0.13), (0.05, 0.12), (0.05, -0.1))),
        Part(smooth((-0.05, -0.30), (-0.14, -0.12), (-0.30, 0.11), (-0.16, 0.13), (-0.05, 0.12)), "pale"),
        Part(hull),
        Part(band([(-0.44, 0.225), (-0.2, 0.25), (0.2, 0.25), (0.455, 0.21)], 0.035), "white", 0),
    ]


def book() -> list[Part]:
    """Closed, with its pages to the right and below."""
    cover = polygon((-0.34, -0.42), (0.26, -0.42), (0.26, 0.34), (-0.34, 0.34))
    pages = polygon((-0.30, 0.34), (0.26, 0.34), (0.26, -0.36), (0.34, -0.28), (0.34, 0.43), (-0.24, 0.43))
    back = polygon((-0.34, 0.34), (-0.26, 0.47), (0.38, 0.47), (0.38, -0.30), (0.26, -0.42), (0.24, 0.3))
    sheets = [[(0.26 + d, -0.33 + d), (0.26 + d, 0.35 + d), (-0.3 + d, 0.35 + d)] for d in (0.03, 0.055)]
    return [
        Part(back, "tone"),
        Part(pages, "page", 0.7),
        *[Part(band(sheet, 0.008), "metal", 0) for sheet in sheets],
        Part(cover),
        Part(polygon((-0.34, -0.42), (-0.24, -0.42), (-0.24, 0.34), (-0.34, 0.34)), "tone", 0.7),
        Part(block(-0.15, -0.28, 0.18, -0.08, 0.03), "page", 0.7),
        Part(band([(-0.10, -0.21), (0.13, -0.21)], 0.025), "ink", 0),
        Part(band([(-0.06, -0.15), (0.09, -0.15)], 0.025), "metal", 0),
        Part(polygon((0.10, 0.34), (0.18, 0.34), (0.18, 0.52), (0.14, 0.47), (0.10, 0.52)), "ribbon", 0.7),
    ]


def car() -> list[Part]:
    """Driving to the left."""
    shell = smooth(
        (-0.48, 0.14), (-0.485, 0.03), (-0.40, -0.05), (-0.24, -0.08), (-0.12, -0.22), (0.02, -0.27), (0.18, -0.25),
        (0.30, -0.10), (0.44, -0.06), (0.485, 0.04), (0.48, 0.14), (0.40, 0.18), (-0.40, 0.18),
    )  # fmt: skip
    front = polygon((-0.17, -0.07), (-0.085, -0.185), (0.02, -0.215), (0.02, -0.07))
    rear = polygon((0.065, -0.07), (0.065, -0.215), (0.16, -0.20), (0.245, -0.07))
    rings = ((0.125, "tyre", 1.0), (0.065, "metal", 0.6), (0.022, "ink", 0.0))
    return [
        Part(shell),
        Part(front, "glass", 0.9),
        Part(rear, "glass", 0.9),
        Part(band([(0.04, -0.05), (0.04, 0.14)], 0.014), "tone", 0),
        Part(band([(0.075, 0.0), (0.135, 0.0)], 0.025), "metal", 0.4),
        Part(oval(-0.445, 0.035, 0.033, 0.042), "lamp", 0.7),
        Part(oval(0.46, 0.035, 0.022, 0.04), "ribbon", 0.6),
        Part(block(-0.49, 0.105, -0.40, 0.155, 0.02), "metal", 0.7),
        Part(block(0.41, 0.105, 0.49, 0.155, 0.02), "metal", 0.7),
        *[Part(oval(x, 0.17, radius), paint, line) for x in (-0.27, 0.27) for radius, paint, line in rings],
    ]


def cup() -> list[Part]:
    """A mug full of coffee, its handle to the right."""
    handle = band(oval(0.24, 0.06, 0.19, 0.18, -85, 85), 0.085)
    wall = np.concatenate([[(-0.36, -0.30)], oval(-0.02, 0.34, 0.29, 0.13, 180, 0), [(0.32, -0.30)]])
    return [
        Part(handle, "tone"),
        Part(wall),
        Part(oval(-0.02, -0.30, 0.34, 0.115), "white"),
        Part(oval(-0.02, -0.275, 0.28, 0.08), "coffee", 0.5),
        Part(smooth((-0.27, -0.10), (-0.24, -0.12), (-0.20, 0.22), (-0.23, 0.26), (-0.255, 0.15)), "shine", 0),
    ]


def hat() -> list[Part]:
    """A felt hat with a ribbon."""
    crown = smooth(
        (-0.27, 0.16), (-0.27, -0.05), (-0.22, -0.25), (-0.10, -0.29), (0, -0.25),
        (0.10, -0.29), (0.22, -0.25), (0.27, -0.05), (0.27, 0.16), (0, 0.20),
    )  # fmt: skip
    ribbon = np.concatenate([oval(0, 0.02, 0.272, 0.05, 180, 0), oval(0, 0.14, 0.275, 0.055, 0, 180)])
    return [
        Part(oval(0, 0.17, 0.5, 0.135)),
        Part(oval(0, 0.155, 0.33, 0.075), "tone", 0),
        Part(crown),
        Part(ribbon, "ribbon", 0.8),
        Part(
            smooth((0.14, 0.10), (0.17, -0.06), (0.30, -0.24), (0.33, -0.20), (0.29, -0.03), (0.20, 0.09)), "white", 0.7
        ),
        Part(band([(0.165, 0.08), (0.30, -0.18)], 0.014), "metal", 0),
    ]


def house() -> list[Part]:
    """One door, two windows, smoke-less chimney."""
    windows = [
        Part(curve, paint, line)
        for x in (-0.19, 0.19)
        for curve, paint, line in (
            (block(x - 0.085, -0.03, x + 0.085, 0.15, 0.01), "glass", 1),
            (band([(x, -0.03), (x, 0.15)], 0.018), "white", 0),
            (band([(x - 0.085, 0.06), (x + 0.085, 0.06)], 0.018), "white", 0),
        )
    ]
    return [
        Part(block(0.17, -0.42, 0.29, -0.12, 0.01), "brick"),
        Part(block(0.15, -0.45, 0.31, -0.39, 0.01), "brick"),
        Part(polygon((-0.37, -0.12), (0.37, -0.12), (0.37, 0.46), (-0.37, 0.46))),
        Part(polygon((0, -0.47), (0.49, -0.11), (0.44, -0.06), (-0.44, -0.06), (-0.49, -0.11)), "tone"),
        Part(oval(0, -0.22, 0.065), "glass", 0.9),
        *windows,
        Part(np.concatenate([oval(0, 0.24, 0.085, 0.085, 180, 360), [(0.085, 0.46), (-0.085, 0.46)]]), "wood"),
        Part(oval(0.045, 0.34, 0.018), "gold", 0.4),
        Part(block(-0.40, 0.445, 0.40, 0.485, 0.01), "stone", 0.8),
    ]


def star() -> list[Part]:
    """Five soft points and a face."""
    rim = []
    for k in range(5):
        tip, dent = np.deg2rad(-90 + 72 * k), np.deg2rad(-54 + 72 * k)
        rim += [(0.5 * np.cos(tip + d), 0.5 * np.sin(tip + d)) for d in (-0.085, 0.085)]
        rim += [(0.27 * np.cos(dent), 0.27 * np.sin(dent))]
    return [
        Part(smooth(*rim)),
        *both(oval(0.095, -0.02, 0.036, 0.052), "ink", 0.3),
        *both(oval(0.085, -0.04, 0.013), "white", 0),
        *both(oval(0.165, 0.075, 0.04, 0.026), "blush", 0),
        Part(band(smooth((-0.06, 0.085), (0, 0.125), (0.06, 0.085), closed=False), 0.024), "ink", 0),
    ]


def umbrella() -> list[Part]:
    """Open, its crook below."""
    hem = [oval(x, 0.02, 0.1625, 0.075, 0, -180)[::3] for x in (0.325, 0.0, -0.325)]
    canopy = np.concatenate([oval(0, 0.02, 0.4875, 0.44, 180, 360), *hem])
    ribs = [smooth((0, -0.42), (0.6 * x, -0.27), (x, -0.05), closed=False) for x in (-0.1625, 0.1625)]
    crook = smooth((0, -0.05), (0, 0.36), (0.02, 0.44), (0.08, 0.475), (0.14, 0.44), (0.15, 0.37), closed=False)
    return [
        Part(band([(0, -0.5), (0, -0.38)], 0.035), "wood", 0.7),
        Part(band(crook, 0.045), "wood"),
        Part(canopy),
        *[Part(band(rib, 0.016), "tone", 0) for rib in ribs],
    ]
