"""Generators for whatever is drawn on the way to a model."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """A generator that depends on its arguments and nothing else; every purpose and place has its own stream."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *place)))
