"""Which examples a run is made of, in a few bytes: a run goes on with the same ones only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import xxhash


def contents(examples: Sequence[Any]) -> str:
    """xxh3_128 of all examples in their order: of the fields of a dataclass, of anything else as ``repr`` shows it."""
    state, values_of = xxhash.xxh3_128(), {kind: _values(kind) for kind in set(map(type, examples))}
    for example in examples:
        values = values_of[type(example)](example)
        state.update(repr([_told(v) if isinstance(v, np.ndarray) else v for v in values]).encode())
    return state.hexdigest()


def _values(kind: type[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of an example of this kind."""
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    if len(names) == 1:
        return lambda example: (getattr(example, names[0]),)
    return attrgetter(*names) if names else lambda example: (example,)


def _told(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """An array, whose repr is slow, rounded and abridged."""
    return array.dtype.str, array.shape, array.tobytes()
