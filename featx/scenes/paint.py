"""Colours, patterns, light and shadow: from a figure to the pixels of its patch."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from featx.scenes.figure import FINE, Figure, coarse
from featx.scenes.world import Thing

Colour = tuple[float, float, float]
Patch = NDArray[np.float32]

# RGB of the body, and of the stripes and dots on it.
BODY: dict[str, tuple[Colour, Colour]] = {
    "red": ((214, 48, 49), (255, 226, 214)),
    "orange": ((243, 134, 36), (255, 240, 214)),
    "yellow": ((250, 211, 60), (112, 82, 48)),
    "green": ((70, 160, 73), (222, 245, 200)),
    "blue": ((52, 110, 205), (210, 232, 255)),
    "purple": ((138, 74, 170), (240, 216, 250)),
    "black": ((58, 57, 64), (205, 205, 210)),
    "white": ((246, 244, 238), (118, 126, 146)),
}
# Paints that are the same whatever the colour of the thing.
FIXED: dict[str, Colour] = {
    "ink": (44, 36, 40), "white": (252, 251, 247), "glass": (188, 224, 240), "wood": (136, 92, 58),
    "leaf": (96, 156, 74), "gold": (247, 196, 64), "beak": (244, 150, 42), "blush": (244, 150, 150),
    "page": (250, 244, 226), "metal": (176, 180, 188), "tyre": (52, 50, 56), "lamp": (255, 240, 170),
    "ribbon": (120, 44, 60), "coffee": (96, 60, 40), "brick": (168, 96, 78), "stone": (150, 146, 140),
}  # fmt: skip
_SHINE = 0.45  # how much white the highlights add


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light of a scene comes from: unit vector (x, y) towards it, y down."""

    x: float
    y: float


def paint(thing: Thing, light: Light, rng: np.random.Generator) -> tuple[Patch, Patch]:
    """Pixels of a thing's patch: RGB 0 to 255 float32 [h, w, 3], and coverage 0 to 1 float32 [h, w, 1]."""
    figure = Figure(thing)
    base, accent = (_varied(colour, rng) for colour in BODY[thing.colour])
    paints: dict[str, Colour] = {
        **FIXED,
        "tone": _mixed(base, (20, 12, 30), 0.26),
        "pale": _mixed(base, (255, 252, 244), 0.45),
    }
    edge = _mixed(base, (30, 20, 34), 0.66)
    cloth = _cloth(thing, figure, base, accent, rng)
    mask = figure.fine_mask()
    canvas = np.empty((*mask.shape, 3), np.uint8)
    canvas[:] = edge
    scratch = np.empty_like(mask)
    for curve, part in figure.parts:
        if part.paint in ("body", "shine"):
            scratch[:] = 0
            figure.fill(scratch, curve, 255)
            above = (
                cloth
                if part.paint == "body"
                else cv2.addWeighted(canvas, 1 - _SHINE, np.full_like(canvas, 255), _SHINE, 0)
            )
            cv2.copyTo(above, scratch, canvas)
        else:
            figure.fill(canvas, curve, paints[part.paint])
        figure.line(canvas, curve, part, edge)
    cover: Patch = coarse(mask).astype(np.float32)[..., None] / np.float32(255)
    return _lit(coarse(canvas).astype(np.float32), cover, light), cover


def _cloth(thing: Thing, figure: Figure, base: Colour, accent: Colour, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Body colour with its pattern for the whole patch, uint8 [h * FINE, w * FINE, 3]."""
    high, wide = figure.height * FINE, figure.width * FINE
    cloth = np.empty((high, wide, 3), np.uint8)
    cloth[:] = np.round(base)
    pitch = float(np.clip(0.17 * thing.extent, 8.0, 14.0)) * FINE * rng.uniform(0.92, 1.08)
    angle = np.deg2rad(thing.turn + rng.choice([-35.0, 0.0, 35.0, 90.0]))
    phase = rng.uniform(0, 1, 2)
    y, x = np.mgrid[0:high, 0:wide].astype(np.float32)
    u = (x * np.cos(angle) + y * np.sin(angle)) / pitch + phase[0]
    if thing.pattern == "striped":
        cloth[np.mod(u, 1) < 0.42] = np.round(accent)
    elif thing.pattern == "dotted":
        v = (y * np.cos(angle) - x * np.sin(angle)) / pitch + phase[1]
        row = np.floor(v * 1.08)
        across, down = np.mod(u + 0.5 * np.mod(row, 2), 1) - 0.5, (np.mod(v * 1.08, 1) - 0.5) / 1.08
        cloth[across**2 + down**2 < 0.29**2] = np.round(accent)
    return cloth


def _lit(pixels: Patch, cover: Patch, light: Light) -> Patch:
    """Brighter towards the light, with a soft dark rim away from it."""
    high, wide = cover.shape[:2]
    span = float(max(high, wide))
    y, x = np.mgrid[0:high, 0:wide].astype(np.float32)
    facing = ((x - wide / 2) * light.x + (y - high / 2) * light.y) / (span / 2)
    inside = cv2.GaussianBlur(cover, (0, 0), span * 0.07)
    shift = np.array([[1, 0, light.x * span * 0.05], [0, 1, light.y * span * 0.05]], np.float32)
    rim = np.clip(1 - cv2.warpAffine(inside, shift, (wide, high)), 0, 1)
    shade = 1 + 0.13 * facing - 0.30 * np.square(rim)
    return np.asarray(np.clip(pixels * shade[..., None], 0, 255), np.float32)


def _varied(colour: Colour, rng: np.random.Generator) -> Colour:
    """The colour as another pot of paint has it: a little lighter or darker, warmer or colder."""
    tint = rng.uniform(0.94, 1.06) * rng.uniform(0.97, 1.03, 3)
    red, green, blue = np.clip(np.asarray(colour) * tint, 0, 255)
    return float(red), float(green), float(blue)


def _mixed(a: Colour, b: Colour, share: float) -> Colour:
    """``share`` of b in a."""
    red, green, blue = ((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
    return red, green, blue
