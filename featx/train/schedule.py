"""The rate of a step, as a fraction of the peak: a pure function of (step, steps), so it has no state to keep."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def schedule(kind: str, steps: int, warmup: float, floor: float = 0.0) -> Schedule:
    """The factor of the rate at a step, counted from 0, of a run of ``steps`` steps.

    warmup: below 1 a fraction of all steps, else steps; ``w`` below. It is not rounded, as in the published BertAdam.
    The factor rises linearly from 0, ``step / w``, and behind the warm-up falls from 1 to ``floor``: it is ``floor +
    (1 - floor) f(p)`` with ``p = (step - w) / (steps - w)``, of which f is linear ``1 - p``, cosine ``(1 + cos(pi p))
    / 2``, constant 1. Behind the last step it stays what it was. The first step of a warm-up has rate 0, as in the
    published recipes (BertAdam, and ``get_linear_schedule_with_warmup`` of transformers).
    """
    begin = warmup * steps if warmup < 1 else float(warmup)
    shape = _SHAPES[kind]

    def factor(step: int) -> float:
        if step < begin:
            return step / begin
        part = min(1.0, (step - begin) / (steps - begin)) if steps > begin else 1.0
        return floor + (1 - floor) * shape(part) if floor else shape(part)

    return factor


_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda part: 1 - part,
    "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2,
    "constant": lambda part: 1.0,
}
