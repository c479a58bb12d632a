"""``flax_model.msgpack``: nested maps of arrays as flax.serialization writes them, under the names and axes of torch.

A map of maps; an array is the extension type 1, whose payload is again msgpack: shape, name of the dtype, bytes in C
order, little-endian. Arrays of more than 2^30 bytes are maps of flat pieces. (google/flax, ``serialization.py``.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from featx.errors import MissingDependency, WeightsError

_ARRAY = 1  # extension types of flax: array, 2 complex number, 3 numpy number
_CHUNKED = "__msgpack_chunked_array__"
_DTYPES = {
    "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64,
    "int64": torch.int64, "int32": torch.int32, "int16": torch.int16, "int8": torch.int8, "uint8": torch.uint8,
    "bool": torch.bool,
}  # fmt: skip
# last part of a name, dimensions -> torch's last part; a kernel is [in, out], of a convolution [height, width, in, out]
_LAST = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1)}


def read_flax(path: Path) -> dict[str, torch.Tensor]:
    """All arrays of the file as tensors under torch's names, kernels with torch's axes. Raises WeightsError."""
    try:
        import msgpack
    except ImportError:
        raise MissingDependency(
            f"{path} is a flax checkpoint, which is read by the package msgpack", "pip install 'featx[models]'"
        ) from None
    try:
        tree = msgpack.unpackb(path.read_bytes(), raw=False, strict_map_key=False, ext_hook=_extension)
        return dict(_flat(tree))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.message}", error.hint) from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, msgpack.UnpackException) as error:
        raise WeightsError(
            f"{path} cannot be read as a flax checkpoint: {error}", "get a complete copy of flax_model.msgpack"
        ) from None


def _extension(kind: int, payload: bytes) -> torch.Tensor:
    import msgpack

    if kind != _ARRAY:
        raise WeightsError(f"it holds a value of the extension type {kind}", "expected arrays only (type 1)")
    shape, dtype, data = msgpack.unpackb(payload, raw=True)
    name = dtype.decode() if isinstance(dtype, bytes) else str(dtype)
    if name not in _DTYPES:
        raise WeightsError(f"an array has the dtype {name!r}", f"known are {', '.join(_DTYPES)}")
    flat = torch.frombuffer(bytearray(data), dtype=_DTYPES[name]) if data else torch.empty(0, dtype=_DTYPES[name])
    return flat.reshape(tuple(shape))


def _flat(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield _torch_form(prefix, tree)
    elif isinstance(tree, Mapping) and tree.get(_CHUNKED):
        yield _torch_form(prefix, _joined(tree))
    elif isinstance(tree, Mapping) and (tree or prefix):
        for name, below in tree.items():
            yield from _flat(below, (*prefix, str(name)))
    else:
        where = "/".join(prefix) or "the file"
        raise WeightsError(f"{where} holds {type(tree).__name__}", "expected nested maps of arrays")


def _joined(chunked: Mapping[str, Any]) -> torch.Tensor:
    pieces, extents = chunked["chunks"], chunked["shape"]
    shape = [int(extents[str(i)]) for i in range(len(extents))]
    flat = torch.cat([pieces[str(i)].reshape(-1) for i in range(len(pieces))])
    if len(flat) != math.prod(shape):
        raise WeightsError(f"an array in pieces has {len(flat)} values for the shape {shape}", "get a complete copy")
    return flat.reshape(shape)


def _torch_form(parts: tuple[str, ...], array: torch.Tensor) -> tuple[str, torch.Tensor]:
    last = parts[-1]
    if last == "kernel" and array.dim() in _AXES:
        array = array.permute(_AXES[array.dim()]).contiguous()
    return ".".join((*parts[:-1], _LAST.get(last, last))), array
