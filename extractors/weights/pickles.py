"""Pickles that hold arrays, read without executing what they ask for.

A pickle is a program. :func:`load_pickle` runs it with a vocabulary of a few harmless words, and even numpy's own
reconstruction is replaced by checked stand-ins, because numpy trusts the flags of a pickled dtype. Torch files go
through ``torch.load(weights_only=True)``, and tensors that claim more elements than the file holds are refused.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.weights.container import INCOMPLETE

_NUMBERS = frozenset(f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)) - {"f1"} | {"b1"}
_INERT = "nothing of it was executed"
_TRUST = "get the weights from a source you trust, best as safetensors"


class Refused(Exception):
    """The pickle asks for something weights never need."""


class PickledArray:
    """An array as :func:`load_pickle` returns it."""

    array: Array | None = None


def load_pickle(path: Path) -> Any:
    """The object of a pickle made of numbers, strings, containers and numpy arrays (Python 2 pickles as latin-1).

    Raises WeightsError when it asks for anything else, before that is looked up, or when it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except Refused as error:
        raise WeightsError(f"{path} is refused: its pickle asks for {error}; {_INERT}", _TRUST) from None
    except Exception as error:  # a damaged pickle can raise nearly anything from the interpreter of its opcodes
        raise WeightsError(f"{path} is not a readable pickle: {error}", INCOMPLETE) from None


class _Unpickler(pickle.Unpickler):
    """Looks names up in a table made anew for every load, so that no pickle can alter it for the next."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")
        self._allowed = _vocabulary()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None


def _vocabulary() -> dict[tuple[str, str], Callable[..., Any]]:
    class Dtype:
        """Stands in for numpy.dtype: a kind and size of number, and a byte order."""

        def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
            if code not in _NUMBERS:
                raise Refused(f"an array of dtype {code!r}")
            self.numpy = np.dtype(code)

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            self.numpy = self.numpy.newbyteorder(state[1])

    class Ndarray(PickledArray):
        """Stands in for numpy.ndarray: its state is checked before an array is made from it."""

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            _version, shape, dtype, fortran, data = state
            self.array = array(data, dtype, shape, "F" if fortran else "C")

    def array(data: Any, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
        if not isinstance(dtype, Dtype) or not isinstance(data, bytes | bytearray | str):
            raise Refused("an array without a dtype or without bytes")
        raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
        if any(n < 0 for n in shape) or math.prod(shape) * dtype.numpy.itemsize != len(raw):
            raise ValueError(f"an array of shape {list(shape)} has {len(raw)} bytes")
        return np.frombuffer(raw, dtype.numpy).reshape(shape, order="F" if order == "F" else "C")

    def reconstruct(kind: Any, _shape: Any, _code: Any) -> Ndarray:
        if kind is not Ndarray:
            raise Refused("an array of another class")
        return Ndarray()

    def scalar(dtype: Dtype, data: Any) -> Any:
        return array(data, dtype, (1,), "C")[0]

    def encode(text: str, _encoding: str) -> bytes:  # how protocols 0 to 2 write bytes
        return text.encode("latin1")

    return {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy.core.numeric", "_frombuffer"): array,
        ("numpy", "ndarray"): Ndarray,
        ("numpy", "dtype"): Dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): encode,
    }


def load_torch(path: Path) -> dict[str, Array]:
    """Name -> array of a torch checkpoint: a state dict, or one under ``model`` or ``state_dict``.

    Raises WeightsError for a pickle that holds more than tensors and plain containers, and for a damaged file.
    """
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"its pickle asks for {asked[1]}" if asked else "it holds more than tensors, or is damaged"
        raise WeightsError(f"{path} is refused: {reason}; {_INERT}", _TRUST) from None
    except Exception as error:  # RuntimeError, EOFError, KeyError ...: whatever the archive reader trips over
        reason = str(error).split("\n")[0][:200]
        raise WeightsError(f"{path} is damaged: {reason}", INCOMPLETE) from None
    return {name: _array(path, name, value) for name, value in state_dict(data, path).items()}


def state_dict(data: Any, path: Path) -> Mapping[str, Any]:
    """The mapping from names to tensors inside a checkpoint."""
    for key in ("model", "state_dict"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping) or not data or not all(isinstance(name, str) for name in data):
        raise WeightsError(
            f"{path} holds no state dict: found {type(data).__name__}, expected a mapping from names to tensors",
            "save the model's state_dict()",
        )
    return data


def _array(path: Path, name: str, value: Any) -> Array:
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    if not plain or value.is_quantized or value.is_complex():
        kind = type(value).__name__
        raise WeightsError(f"{path}: {name} is a {kind}, expected a plain tensor", "save the model's state_dict()")
    held = value.untyped_storage().nbytes()
    if value.numel() * value.element_size() > held:
        raise WeightsError(f"{path}: {name} has the shape {list(value.shape)} but only {held} bytes", _TRUST)
    array: Array = (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    return array
