"""What lies behind the things: eight kinds of muted, textured ground. RGB 0 to 255, float32 [height, width, 3]."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Painter = Callable[[int, int, np.random.Generator], Picture]


def backdrop(width: int, height: int, rng: np.random.Generator) -> Picture:
    """One of the kinds, slightly mottled like everything that is not a screen."""
    paint = PAINTERS[rng.integers(len(PAINTERS))]
    picture = paint(width, height, rng)
    picture *= 1 + 0.05 * cloud(width, height, 70, rng)[..., None]
    return np.clip(picture, 0, 255).astype(np.float32)


def cloud(width: int, height: int, grain: float, rng: np.random.Generator, stretch: float = 1.0) -> Picture:
    """Smooth noise from -1 to 1, float32 [height, width]; ``grain`` pixels from one swell to the next."""
    small = rng.uniform(-1, 1, (int(height / grain) + 3, int(width / (grain * stretch)) + 3)).astype(np.float32)
    big = cv2.resize(small, (width + 8, height + 8), interpolation=cv2.INTER_CUBIC)
    return np.clip(big[4:-4, 4:-4], -1, 1)


def flat(width: int, height: int, colour: tuple[float, float, float], rng: np.random.Generator) -> Picture:
    """One colour, a little off."""
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = np.asarray(colour) * rng.uniform(0.95, 1.04) * rng.uniform(0.98, 1.02, 3)
    return picture


def slope(height: int, top: tuple[float, float, float], bottom: tuple[float, float, float]) -> Picture:
    """From one colour to another, float32 [height, 1, 3]."""
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.asarray(top, np.float32) * (1 - t) + np.asarray(bottom, np.float32) * t


def paper(width: int, height: int, rng: np.random.Generator) -> Picture:
    """Water-colour paper with stains."""
    tones = ((236, 226, 206), (222, 228, 226), (232, 218, 214), (218, 224, 206))
    picture = flat(width, height, tones[rng.integers(len(tones))], rng)
    stain = tones[rng.integers(len(tones))]
    wash = np.clip(cloud(width, height, 90, rng), 0, 1)[..., None] * 0.6
    picture = picture * (1 - wash) + np.asarray(stain, np.float32) * 0.93 * wash
    return picture * (1 + 0.035 * cloud(width, height, 2.2, rng)[..., None])


def meadow(width: int, height: int, rng: np.random.Generator) -> Picture:
    """Grass seen from above, blade by blade."""
    picture = flat(width, height, (180, 200, 142), rng) * (1 + 0.08 * cloud(width, height, 40, rng)[..., None])
    canvas = np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8))
    for _ in range(width * height // 260):
        x, y = rng.integers(0, width), rng.integers(0, height)
        bend, long = rng.integers(-3, 4), rng.integers(4, 9)
        shade = rng.uniform(0.82, 1.12)
        colour = (168 * shade, 194 * shade, 126 * shade)
        cv2.line(canvas, (int(x), int(y)), (int(x + bend), int(y - long)), colour, 1, cv2.LINE_AA)
    return canvas.astype(np.float32)


def sand(width: int, height: int, rng: np.random.Generator) -> Picture:
    """A beach with ripples."""
    picture = flat(width, height, (224, 206, 170), rng)
    y = np.arange(height, dtype=np.float32)[:, None]
    ripple = np.sin(y / rng.uniform(4, 7) + 5 * cloud(width, height, 60, rng, 1.5))
    picture *= 1 + 0.035 * ripple[..., None]
    return picture * (1 + 0.06 * rng.standard_normal((height, width, 1), np.float32))


def hills(width: int, height: int, rng: np.random.Generator) -> Picture:
    """A sky with soft clouds above two rows of hills."""
    skies = (((168, 200, 220), (226, 234, 232)), ((206, 196, 214), (240, 224, 212)), ((188, 208, 206), (236, 234, 216)))
    picture = np.repeat(slope(height, *skies[rng.integers(len(skies))]), width, 1)
    puffs = np.clip(cloud(width, height, 34, rng, 2.0) * 1.4 - 0.25, 0, 1)[..., None] * 0.55
    picture = picture * (1 - puffs) + 250 * puffs
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    for level, colour in ((rng.uniform(0.5, 0.62), (188, 208, 162)), (rng.uniform(0.7, 0.82), (164, 192, 136))):
        edge = height * (level + 0.05 * np.sin(x / rng.uniform(35, 70) + rng.uniform(0, 6)))
        ground = np.clip(y - edge[None], 0, 1)[..., None]
        tint = np.asarray(colour, np.float32) * (1 + 0.05 * cloud(width, height, 5, rng, 3.0)[..., None])
        picture = picture * (1 - ground) + tint * ground
    return np.asarray(picture, np.float32)


def tiles(width: int, height: int, rng: np.random.Generator) -> Picture:
    """A floor of two tones with joints."""
    pairs = (((214, 208, 198), (196, 190, 182)), ((204, 214, 216), (184, 198, 202)), ((222, 208, 196), (206, 188, 176)))
    light, dark = pairs[rng.integers(len(pairs))]
    side = int(rng.integers(34, 60))
    y, x = np.mgrid[0:height, 0:width] + rng.integers(0, side, 2)[:, None, None]
    checks = ((x // side + y // side) % 2)[..., None]
    picture = np.where(checks, np.asarray(light, np.float32), np.asarray(dark, np.float32)).astype(np.float32)
    picture[(x % side < 2) | (y % side < 2)] *= 0.88
    return picture * (1 + 0.03 * cloud(width, height, 4, rng)[..., None])


def planks(width: int, height: int, rng: np.random.Generator) -> Picture:
    """Wooden boards with grain."""
    picture = flat(width, height, ((206, 180, 148), (190, 172, 152), (214, 198, 176))[rng.integers(3)], rng)
    board = int(rng.integers(36, 58))
    for top in range(-int(rng.integers(0, board)), height, board):
        rows = slice(max(top, 0), min(top + board, height))
        tall = rows.stop - rows.start
        if tall <= 0:
            continue
        grain = cloud(width, tall, 3, rng, 14.0) * 0.055 + cloud(width, tall, 9, rng, 9.0) * 0.04
        picture[rows] *= rng.uniform(0.94, 1.05) * (1 + grain[..., None])
        picture[rows.start : rows.start + 2] *= 0.8
    return picture


def wall(width: int, height: int, rng: np.random.Generator) -> Picture:
    """Wallpaper with faint stripes above a wooden floor."""
    tones = ((214, 222, 214), (226, 214, 204), (206, 214, 226), (224, 220, 202))
    picture = flat(width, height, tones[rng.integers(len(tones))], rng)
    pitch = rng.uniform(16, 30)
    x = np.arange(width, dtype=np.float32)
    picture *= (1 + 0.025 * np.sign(np.sin(2 * np.pi * x / pitch)))[None, :, None]
    floor = int(height * rng.uniform(0.66, 0.8))
    picture[floor:] = planks(width, height, rng)[floor:] * 0.95
    picture[floor - 6 : floor] = 238
    picture[floor : floor + 2] *= 0.82
    return picture * (1 + 0.02 * cloud(width, height, 2.5, rng)[..., None])


def linen(width: int, height: int, rng: np.random.Generator) -> Picture:
    """Woven cloth."""
    tones = ((222, 214, 202), (200, 214, 220), (226, 206, 202), (208, 218, 196))
    picture = flat(width, height, tones[rng.integers(len(tones))], rng)
    weave = 0.5 * cloud(width, height, 1.4, rng, 8.0) + 0.5 * cloud(height, width, 1.4, rng, 8.0).T
    return np.asarray(picture * (1 + 0.13 * weave[..., None]), np.float32)


PAINTERS: tuple[Painter, ...] = (paper, meadow, sand, hills, tiles, planks, wall, linen)
