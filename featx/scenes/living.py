"""Drawings of what grows and breathes: apple, butterfly, cat, duck, fish, flower, tree."""

from __future__ import annotations

from featx.scenes.curves import Curve, Part, band, lobes, mirrored, oval, polygon, smooth, turned


def both(curve: Curve, paint: str = "body", line: float = 1.0) -> list[Part]:
    """A part and its mirror image."""
    return [Part(curve, paint, line), Part(mirrored(curve), paint, line)]


def eye(x: float, y: float, size: float) -> list[Part]:
    """White, pupil and the spark that makes it alive."""
    return [
        Part(oval(x, y, size, size * 1.15), "white", 0.6),
        Part(oval(x + size * 0.1, y + size * 0.1, size * 0.62, size * 0.75), "ink", 0),
        Part(oval(x - size * 0.15, y - size * 0.25, size * 0.25), "white", 0),
    ]


def apple() -> list[Part]:
    """Two shoulders, a dent, a stem with its leaf."""
    fruit = smooth(
        (0, -0.22), (0.16, -0.30), (0.36, -0.24), (0.45, -0.02), (0.37, 0.27), (0.20, 0.44), (0.07, 0.46),
        (0, 0.43), (-0.07, 0.46), (-0.20, 0.44), (-0.37, 0.27), (-0.45, -0.02), (-0.36, -0.24), (-0.16, -0.30),
    )  # fmt: skip
    leaf = smooth((0.03, -0.30), (0.08, -0.44), (0.24, -0.52), (0.36, -0.48), (0.30, -0.36), (0.16, -0.29))
    return [
        Part(fruit),
        Part(oval(0, -0.21, 0.13, 0.045), "tone", 0),
        Part(band(smooth((0, -0.20), (-0.01, -0.34), (-0.06, -0.47), closed=False), 0.05, 0.07), "wood"),
        Part(leaf, "leaf"),
        Part(turned(oval(-0.24, -0.06, 0.06, 0.13), 18, -0.24, -0.06), "shine", 0),
    ]


def butterfly() -> list[Part]:
    """Four wings seen from above."""
    upper = smooth(
        (0.03, -0.02), (0.10, -0.22), (0.30, -0.40), (0.48, -0.38), (0.49, -0.20), (0.36, -0.01), (0.16, 0.06)
    )
    lower = smooth((0.03, 0.03), (0.18, 0.05), (0.36, 0.10), (0.40, 0.25), (0.28, 0.38), (0.14, 0.30), (0.06, 0.15))
    feeler = band(smooth((0.01, -0.20), (0.05, -0.33), (0.13, -0.40), closed=False), 0.03)
    return [
        *both(feeler, "ink", 0.4),
        *both(oval(0.135, -0.405, 0.03), "ink", 0.4),
        *both(lower, "body"),
        *both(upper, "body"),
        *both(smooth((0.08, -0.04), (0.14, -0.17), (0.25, -0.25), (0.24, -0.12), (0.16, -0.03)), "tone", 0),
        Part(oval(0, 0.04, 0.05, 0.24), "ink", 0.4),
        Part(oval(0, -0.19, 0.06), "ink", 0.4),
    ]


def cat() -> list[Part]:
    """Sitting, looking at you, tail to one side."""
    tail = smooth((0.14, 0.40), (0.34, 0.42), (0.42, 0.26), (0.36, 0.08), (0.42, -0.02), closed=False)
    trunk = smooth(
        (0, -0.06), (0.15, 0.02), (0.23, 0.22), (0.26, 0.42), (0.16, 0.49),
        (-0.16, 0.49), (-0.26, 0.42), (-0.23, 0.22), (-0.15, 0.02),
    )  # fmt: skip
    head = smooth(
        (0, -0.38), (0.17, -0.36), (0.29, -0.20), (0.24, -0.03), (0.09, 0.04),
        (-0.09, 0.04), (-0.24, -0.03), (-0.29, -0.20), (-0.17, -0.36),
    )  # fmt: skip
    whisker = band([(0.12, -0.10), (0.31, -0.13)], 0.014)
    mouth = smooth((-0.05, -0.035), (-0.02, -0.02), (0, -0.05), (0.02, -0.02), (0.05, -0.035), closed=False)
    return [
        Part(band(tail, 0.10, 0.085)),
        Part(trunk),
        *both(oval(0.085, 0.455, 0.075, 0.05), "pale", 0.8),
        *both(polygon((0.05, -0.36), (0.27, -0.52), (0.29, -0.22))),
        *both(polygon((0.13, -0.35), (0.235, -0.44), (0.245, -0.27)), "blush", 0),
        Part(head),
        *both(whisker, "white", 0),
        *both(turned(whisker, 14, 0.1, -0.1), "white", 0),
        Part(oval(0, -0.06, 0.095, 0.07), "pale", 0),
        *eye(-0.125, -0.19, 0.062),
        *eye(0.125, -0.19, 0.062),
        Part(polygon((-0.035, -0.105), (0.035, -0.105), (0, -0.065)), "blush", 0.5),
        Part(band(mouth, 0.016), "ink", 0),
    ]


def duck() -> list[Part]:
    """A rubber duck, swimming to the right."""
    body = smooth(
        (-0.48, 0.02), (-0.38, 0.07), (-0.20, 0.03), (0.0, 0.05), (0.12, 0.06), (0.30, 0.08),
        (0.40, 0.24), (0.30, 0.41), (0.04, 0.46), (-0.24, 0.43), (-0.42, 0.28),
    )  # fmt: skip
    beak = smooth(
        (0.27, -0.20), (0.40, -0.25), (0.52, -0.19), (0.46, -0.13), (0.51, -0.09), (0.40, -0.06), (0.27, -0.08)
    )
    return [
        Part(beak, "beak"),
        Part(body),
        Part(oval(0.15, -0.15, 0.22, 0.215)),
        Part(smooth((-0.03, 0.02), (0.10, 0.0), (0.28, 0.02), (0.30, 0.14), (0.14, 0.18), (-0.02, 0.12)), "body", 0),
        Part(smooth((-0.30, 0.16), (-0.12, 0.10), (0.12, 0.16), (0.14, 0.27), (-0.02, 0.33), (-0.20, 0.30)), "tone"),
        Part(band([(0.42, -0.155), (0.31, -0.15)], 0.014), "ink", 0),
        *eye(0.20, -0.20, 0.052),
        Part(oval(0.06, -0.07, 0.05, 0.035), "blush", 0),
    ]  # fmt: skip


def fish() -> list[Part]:
    """Swimming to the left."""
    body = smooth(
        (-0.48, 0.02), (-0.36, -0.17), (-0.12, -0.26), (0.12, -0.18), (0.28, -0.03),
        (0.28, 0.05), (0.12, 0.19), (-0.12, 0.26), (-0.36, 0.19),
    )  # fmt: skip
    tail = smooth(
        (0.22, 0.01),
        (0.34, -0.15),
        (0.48, -0.27),
        (0.50, -0.20),
        (0.42, 0.01),
        (0.50, 0.22),
        (0.48, 0.29),
        (0.34, 0.17),
    )
    fin = smooth((-0.22, -0.20), (-0.10, -0.36), (0.12, -0.36), (0.10, -0.27), (0.14, -0.15))
    return [
        Part(tail, "tone"),
        Part(fin, "tone"),
        Part(smooth((-0.10, 0.22), (0.04, 0.19), (0.10, 0.32), (0.04, 0.36)), "tone"),
        Part(body),
        Part(band(smooth((-0.21, -0.18), (-0.155, 0.0), (-0.20, 0.18), closed=False), 0.022), "tone", 0),
        Part(smooth((-0.06, 0.02), (0.10, -0.03), (0.13, 0.05), (0.04, 0.12)), "pale", 0.7),
        *eye(-0.315, -0.06, 0.058),
        Part(band(smooth((-0.445, 0.07), (-0.40, 0.105), (-0.34, 0.09), closed=False), 0.018), "ink", 0),
        Part(oval(-0.28, 0.075, 0.038, 0.026), "blush", 0),
    ]


def flower() -> list[Part]:
    """Six petals on a stem with two leaves."""
    leaf = smooth((0.02, 0.42), (0.08, 0.29), (0.27, 0.23), (0.30, 0.31), (0.18, 0.42))
    petals = [turned(oval(0, -0.375, 0.14, 0.155), turn, 0, -0.16) for turn in range(0, 360, 60)]
    return [
        Part(band(smooth((0, -0.1), (0.02, 0.2), (0, 0.5), closed=False), 0.05, 0.06), "leaf"),
        *both(leaf, "leaf"),
        *[Part(petal) for petal in petals],
        Part(oval(0, -0.16, 0.12), "gold"),
        Part(oval(-0.03, -0.19, 0.045), "shine", 0),
    ]


def tree() -> list[Part]:
    """A round crown on a trunk."""
    trunk = smooth((-0.09, 0.5), (-0.06, 0.38), (-0.06, 0.1), (0.06, 0.1), (0.06, 0.38), (0.09, 0.5), (0, 0.485))
    branch = band(smooth((0, 0.24), (0.10, 0.14), (0.16, 0.02), closed=False), 0.05, 0.03)
    return [
        Part(trunk, "wood"),
        Part(branch, "wood"),
        Part(lobes(0, -0.16, 0.36, 8, 0.22, 10)),
        Part(band(smooth((-0.20, -0.10), (-0.13, -0.04), (-0.05, -0.08), closed=False), 0.02), "tone", 0),
        Part(band(smooth((0.05, -0.25), (0.12, -0.19), (0.20, -0.23), closed=False), 0.02), "tone", 0),
        Part(band(smooth((0.06, 0.02), (0.13, 0.07), (0.20, 0.03), closed=False), 0.02), "tone", 0),
        Part(oval(-0.15, -0.30, 0.09, 0.06), "shine", 0),
    ]
