"""How much a value from a pickle is to whoever walks through it, shows it or makes an array of it.

A pickle may put one thing into many places by a few bytes each: thirty lists, each of the one before twice, are 200
bytes and a billion values. So what comes out is held to the length of what it came from, counted by each place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from featx.formats.values.remake import refused

_DEEPEST = 64  # containers in containers; arrays have no more axes either
_TIMES, _LEAST = 16, 1 << 20  # of the length of a pickle, and what every one may have
_TEXTS = (str, bytes, bytearray)
_CONTAINERS = (list, tuple, dict, set, frozenset)


def check_extent(value: Any, length: int) -> None:
    """Raise PickleRefused when ``value``, from a pickle of ``length`` bytes, is deep beyond use or far longer."""
    count, _ = _extent(value, {}, 0)
    if count > _TIMES * length + _LEAST:
        raise refused(f"its {length:,} bytes make {count:,} values, as the same ones are in it again and again")


def _extent(value: Any, known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """Number of values, and levels of containers; of every container found out once."""
    if isinstance(value, _TEXTS):
        return 1 + len(value), 0
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return 1 + value.size, 0
    if not isinstance(value, (*_CONTAINERS, np.ndarray)):
        return 1, 0
    if depth > _DEEPEST:
        raise refused(f"it has containers in containers, more than {_DEEPEST} deep")
    if id(value) not in known:
        known[id(value)] = _of_members(_members(value), known, depth)
    return known[id(value)]


def _of_members(members: Iterable[Any], known: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    count, levels = 1, 0
    for member in members:
        inner, below = _extent(member, known, depth + 1)
        count, levels = count + inner, max(levels, below)
    if levels >= _DEEPEST:
        raise refused(f"it has containers in containers, more than {_DEEPEST} deep")
    return count, levels + 1


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (one for pair in value.items() for one in pair)
    return value.flat if isinstance(value, np.ndarray) else value
