"""Checkpoint: what a file of a foreign layout holds, under the normal form's names, before it is put in order."""

from __future__ import annotations

import ast
import contextlib
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.anchors import Generator

Layout = Literal["huggingface", "airsplay", "detectron2", "milvlg", "caffe"]
Weights4 = tuple[float, float, float, float]

UNIT: Weights4 = (1.0, 1.0, 1.0, 1.0)
NORMALISED: Weights4 = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True)
class Checkpoint:
    """arrays: by name, any float dtype, heads still in the file's own order of rows.

    delta_weights, anchors: what the layout fixes without saying so in the file; None where it does not.
    config: the facts of a ``config.yaml`` beside the file.
    """

    layout: Layout
    arrays: dict[str, Array]
    delta_weights: Weights4 | None = None
    anchors: Generator | None = None
    config: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def weights4(values: Any, where: str) -> Weights4:
    """Four positive numbers: what the box deltas dx, dy, dw, dh are divided by. Raises WeightsError."""
    four = numbers(values, where)
    if len(four) != 4 or min(four) <= 0:
        raise WeightsError(f"{where} is {values!r}, expected four positive numbers", "usual are 10,10,5,5 and 1,1,1,1")
    return four[0], four[1], four[2], four[3]


def numbers(values: Any, where: str) -> list[float]:
    """A list of finite numbers; one level of nesting (a list per feature map) is undone. Raises WeightsError.

    ``(10.0, 10.0, 5.0, 5.0)`` is text to YAML, but detectron2's configurations write tuples that way.
    """
    if isinstance(values, str):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            values = ast.literal_eval(values)
    if isinstance(values, list | tuple) and len(values) == 1 and isinstance(values[0], list | tuple):
        values = values[0]
    if not isinstance(values, list | tuple) or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise WeightsError(f"{where} is {values!r}, expected a list of numbers", "correct the file")
    return [float(v) for v in values]
