"""What the names in a pickle stand for, numpy arrays, bytes and sets, made here without calling any of them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from featx.errors import UsageError

Charge = Callable[[int], None]  # notes bytes that are copied, and raises when they are too many

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_BUILTINS = ("__builtin__", "builtins")
_KINDS = "biufSU"  # of arrays: numbers and text; O where the pickle itself lists the members
_SCALARS = (str, bytes, int, float, type(None), np.generic)


class PickleRefused(UsageError):
    """A pickle that is damaged, or asks for more than arrays and plain containers (exit code 2)."""


class Name:
    """A name of the table, on the stack as itself; only REDUCE knows what it means."""

    def __init__(self, name: str) -> None:
        self.name = name


class Empty:
    """What ``_reconstruct`` returns: an array that its BUILD will make."""

    made: Any = None


class Dtype:
    """A dtype before and after its BUILD, which gives the byte order."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in _KINDS + "O" or self.dtype.fields or self.dtype.subdtype:
            raise refused(f"it holds an array of dtype {code!r}")


TABLE = {
    **{(module, name): f"numpy.{name}" for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    **{(module, "_frombuffer"): "numpy._frombuffer" for module in _NUMERIC},
    ("numpy", "ndarray"): "numpy.ndarray",
    ("numpy", "dtype"): "numpy.dtype",
    ("_codecs", "encode"): "encode",
    **{(module, name): name for module in _BUILTINS for name in ("set", "frozenset", "bytearray", "bytes", "list")},
}


def refused(why: str) -> PickleRefused:
    return PickleRefused(
        f"this pickle is not read: {why}", "only numbers, text, plain containers and numpy arrays are made from pickles"
    )


def plain(value: Any) -> Any:
    """What a placeholder stands for once it is complete."""
    if isinstance(value, Empty):
        if value.made is None:
            raise refused("an array is used before it has its values")
        return value.made
    if isinstance(value, Name | Dtype):
        raise refused("it holds a name where a value belongs")
    return value


def hashable(value: Any) -> Any:
    if not isinstance(value := plain(value), _SCALARS):
        raise refused(f"a key or member of a set is a {type(value).__name__}, not a number or text")
    return value


def _bytes(charge: Charge, value: Any) -> bytes | memoryview | bytearray:
    """Raw data, which a pickle of Python 2 holds as text."""
    if isinstance(value, str):
        charge(len(value))
        return value.encode("latin-1")
    if isinstance(value, bytes | bytearray):
        return value
    raise refused(f"a {type(value).__name__} stands where bytes belong")


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > 8 or not all(type(n) is int and 0 <= n < 1 << 40 for n in value):
        raise refused("an array has no sensible shape")
    return value


def _array(charge: Charge, raw: Any, dtype: Any, shape: Any, order: str) -> Any:
    shape = _shape(shape)
    if not isinstance(dtype, Dtype):
        raise refused("an array has no dtype")
    if dtype.dtype.kind == "O":
        return _objects(charge, raw, shape, order)
    data = _bytes(charge, raw)
    if len(data) != prod(shape) * dtype.dtype.itemsize or not dtype.dtype.itemsize:
        raise refused(f"an array of shape {shape} and dtype {dtype.dtype} has {len(data)} bytes")
    array = np.frombuffer(data, dtype.dtype)
    array.flags.writeable = False
    return array.reshape(shape, order="F" if order == "F" else "C")


def _objects(charge: Charge, members: Any, shape: tuple[int, ...], order: str) -> Any:
    if not isinstance(members, list) or len(members) != prod(shape):
        raise refused("an array of objects does not list its members")
    charge(8 * len(members))
    array = np.empty(len(members), object)
    for place, member in enumerate(members):
        array[place] = member
    return array.reshape(shape, order="F" if order == "F" else "C")


def make(charge: Charge, name: str, given: tuple[Any, ...]) -> Any:
    if name == "numpy._reconstruct" and isinstance(given[0], Name) and given[0].name == "numpy.ndarray":
        return Empty()
    if name == "numpy.dtype" and isinstance(given[0], str) and len(given[0]) < 32:
        return Dtype(given[0])
    if name == "numpy.scalar" and len(given) == 2 and isinstance(given[0], Dtype) and given[0].dtype.kind != "O":
        return _array(charge, given[1], given[0], (), "C")[()]
    if name == "numpy._frombuffer" and len(given) == 4:
        return _array(charge, *given)
    if name == "encode" and len(given) == 2 and given[1] in ("latin1", "latin-1"):
        return bytes(_bytes(charge, given[0]))
    if name in ("set", "frozenset") and len(given) < 2:
        members = [hashable(member) for member in _members(charge, given)]
        return set(members) if name == "set" else frozenset(members)
    if name == "list" and len(given) < 2:
        return list(_members(charge, given))
    if name in ("bytes", "bytearray") and (not given or isinstance(given[0], bytes | bytearray)):
        raw = given[0] if given else b""
        charge(len(raw))
        return bytes(raw) if name == "bytes" else bytearray(raw)
    raise refused(f"{name} is called with arguments that make no plain data")


def _members(charge: Charge, given: tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
    members = given[0] if given else []
    if not isinstance(members, list | tuple):
        raise refused("a container is made of what is no list")
    charge(8 * len(members))
    return members


def build(charge: Charge, built: Any, state: Any) -> None:
    """Give ``built`` its state: the values of an array, the byte order of a dtype."""
    if isinstance(built, Empty) and isinstance(state, tuple) and len(state) == 5:
        _, shape, dtype, fortran, raw = state
        built.made = _array(charge, raw, dtype, shape, "F" if fortran else "C")
    elif isinstance(built, Dtype) and isinstance(state, tuple) and state[2:5] == (None, None, None):
        if state[1] in ("<", ">"):
            built.dtype = built.dtype.newbyteorder(state[1])
    else:
        raise refused("it gives a state to what is no plain array")
