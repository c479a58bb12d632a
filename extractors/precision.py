"""Precisions: how exactly the convolutions are computed. Proposals, boxes and the predictor are float32 in all of them.

float32 is the default and never uses TF32, which rounds the factors to 10 bits and is coarser than the differences
between the profiles. The flags that allow TF32 belong to the whole process; they are changed for the calls of a
detector, and put back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from featx.errors import UsageError

_BACKENDS: Any = torch.backends  # whose newer flags torch gives no types
_FLAGS = threading.RLock()  # of the process: detectors of two precisions must not interleave


@dataclass(frozen=True)
class Precision:
    """name: as a store's provenance has it. dtype: of the convolutions. tf32: whether float32 ones may use TF32."""

    name: str
    dtype: torch.dtype
    tf32: bool = False

    def check(self, device: torch.device) -> None:
        """Raise UsageError where ``device`` does not compute so, or so slowly that nobody can want it."""
        if device.type != "cpu":
            return
        if self.tf32:
            raise UsageError(
                "precision tf32 is asked for on a CPU, which has no TF32",
                "choose float32, or give --device cuda",
            )
        if self.dtype == torch.float16:
            raise UsageError(
                "precision float16 is asked for on a CPU, where its convolutions are several times slower than float32",
                "choose bfloat16 or float32, or give --device cuda",
            )

    def flags(self, device: torch.device) -> AbstractContextManager[None]:
        """Allow TF32 to convolutions on ``device``, or forbid it, and forbid it to matrix products, for a while."""
        return nullcontext() if device.type == "cpu" else _flags(self.tf32)


PRECISIONS = {
    each.name: each
    for each in (
        Precision("float32", torch.float32),
        Precision("tf32", torch.float32, tf32=True),
        Precision("bfloat16", torch.bfloat16),
        Precision("float16", torch.float16),
    )
}
SPELLINGS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
FLOAT32 = PRECISIONS["float32"]


def precision_of(name: str) -> Precision:
    """The precision of a name or of its short spelling. Raises UsageError for one that does not exist."""
    found = PRECISIONS.get(SPELLINGS.get(name, name)) if isinstance(name, str) else None
    if found is None:
        raise UsageError(f"precision {name!r} is unknown", f"choose {', '.join(PRECISIONS)}")
    return found


@contextmanager
def _flags(tf32: bool) -> Iterator[None]:
    with _FLAGS:
        restore = _switch(tf32)
        try:
            yield
        finally:
            for name, value in restore:
                _write(name, value)


def _switch(tf32: bool) -> list[tuple[str, Any]]:
    """Set the flags that are not so already; returns what they were, in the order in which they are to be put back."""
    before: list[tuple[str, Any]] = []

    def change(name: str, value: Any) -> None:
        before.insert(0, (name, _read(name)))
        _write(name, value)

    try:
        if _read("cudnn") != tf32:
            change("cudnn", tf32)
        if _read("matmul")[:2] != ("highest", False):
            change("matmul", ("highest", False, "ieee"))
    except RuntimeError:  # torch refuses to tell these where somebody has set the newer ones
        pass
    if (_read("cudnn.conv") == "tf32") != tf32:
        change("cudnn.conv", "tf32" if tf32 else "ieee")
    if _read("cuda.matmul") == "tf32":
        change("cuda.matmul", "ieee")
    return before


def _read(name: str) -> Any:
    if name == "matmul":
        word, cpu = torch.get_float32_matmul_precision(), _BACKENDS.mkldnn.matmul.fp32_precision
        return word, torch.backends.cuda.matmul.allow_tf32, cpu
    if name == "cudnn":
        return torch.backends.cudnn.allow_tf32
    return _newer(name).fp32_precision


def _write(name: str, value: Any) -> None:
    if name == "matmul":
        torch.backends.cuda.matmul.allow_tf32 = value[1]
        torch.set_float32_matmul_precision(value[0])  # which reaches the CPU's flag as well
        _BACKENDS.mkldnn.matmul.fp32_precision = value[2]
    elif name == "cudnn":
        torch.backends.cudnn.allow_tf32 = value
    else:
        _newer(name).fp32_precision = value


def _newer(name: str) -> Any:
    return _BACKENDS.cudnn.conv if name == "cudnn.conv" else _BACKENDS.cuda.matmul
