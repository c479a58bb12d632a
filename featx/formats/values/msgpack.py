"""MessagePack with numpy arrays as the package msgpack_numpy writes them, without either package.

An array is a map ``{b"nd": true, b"type": "<f2", b"kind": b"", b"shape": [n, d], b"data": bytes}``. Only plain values
are known: nothing in a message can name code, and no length is believed that the message does not have.
Formats: github.com/msgpack/msgpack/blob/master/spec.md, github.com/lebedov/msgpack-numpy.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from featx.schema import Array

_DEEPEST = 16
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
    0xD3: ">q",
}  # fmt: skip
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}
_LENGTHS = {
    0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"), 0xD9: ("str", ">B"), 0xDA: ("str", ">H"),
    0xDB: ("str", ">I"), 0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip
_DTYPES = {
    f"{order}{kind}"
    for order in "<|"
    for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
}


def unpack(message: bytes) -> Any:
    """The value of a message, its arrays as numpy arrays. Raises ValueError for what is not exactly one message."""
    value, end = _value(memoryview(message), 0, 0)
    if end != len(message):
        raise ValueError(f"{len(message) - end} bytes follow the message")
    return value


def pack(value: Any) -> bytes:
    """The message of a value: None, bool, int, str, bytes, list, mapping or numpy array."""
    out: list[bytes] = []
    _pack(value, out)
    return b"".join(out)


def _value(data: memoryview, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data) or depth > _DEEPEST:
        raise ValueError(f"the message ends at byte {at}, or is nested deeper than {_DEEPEST}")
    code, at = data[at], at + 1
    if code < 0x80 or code >= 0xE0:
        return (code if code < 0x80 else code - 0x100), at
    if code in _PLAIN:
        return _PLAIN[code], at
    if code in _NUMBERS:
        return _number(data, at, _NUMBERS[code])
    if code < 0xC0:
        kind, length = ("map", code & 15) if code < 0x90 else ("list", code & 15) if code < 0xA0 else ("str", code & 31)
    elif code in _LENGTHS:
        kind, form = _LENGTHS[code]
        length, at = _number(data, at, form)
    else:
        raise ValueError(f"byte {at - 1} is {code:#x}, which is no plain value")
    if length > len(data) - at:  # every entry of a list or map takes a byte or more
        raise ValueError(f"{length} at byte {at} reach beyond the {len(data)} bytes of the message")
    if kind in ("str", "bin"):
        piece = bytes(data[at : at + length])
        return (piece.decode() if kind == "str" else piece), at + length
    return _container(data, at, depth, kind, length)


def _container(data: memoryview, at: int, depth: int, kind: str, length: int) -> tuple[Any, int]:
    values = []
    for _ in range(length * 2 if kind == "map" else length):
        value, at = _value(data, at, depth + 1)
        values.append(value)
    if kind == "list":
        return values, at
    if not all(isinstance(key, str | bytes | int) for key in values[::2]):
        raise ValueError(f"a map that ends at byte {at} has a key that is neither text nor a number")
    made = dict(zip(values[::2], values[1::2], strict=True))
    return (_array(made) if b"nd" in made else made), at


def _number(data: memoryview, at: int, form: str) -> tuple[Any, int]:
    end = at + struct.calcsize(form)
    if end > len(data):
        raise ValueError(f"the message ends within the number at byte {at}")
    return struct.unpack_from(form, data, at)[0], end


def _array(made: Mapping[Any, Any]) -> Array:
    """The array, or the number (an array without shape), of a map of msgpack_numpy."""
    dtype, shape, data = made.get(b"type"), made.get(b"shape", []), made.get(b"data")
    dtype = dtype.decode(errors="replace") if isinstance(dtype, bytes) else dtype
    whole = isinstance(shape, list) and all(type(extent) is int and extent >= 0 for extent in shape)
    if not isinstance(dtype, str) or dtype not in _DTYPES or not isinstance(data, bytes) or not whole:
        raise ValueError(f"an array has type {dtype!r} and shape {shape!r}; expected numbers")
    if prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise ValueError(f"an array {dtype}{shape} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _pack(value: Any, out: list[bytes]) -> None:
    if value is None or isinstance(value, bool):
        out.append({None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value])
    elif isinstance(value, int):
        out.append(_packed_int(value))
    elif isinstance(value, str):
        text = value.encode()
        out += [_head(len(text), 0xA0, 31, (0xD9, 0xDA, 0xDB)), text]
    elif isinstance(value, bytes):
        out += [_head(len(value), None, 0, (0xC4, 0xC5, 0xC6)), value]
    elif isinstance(value, list):
        out.append(_head(len(value), 0x90, 15, (0, 0xDC, 0xDD)))
        for one in value:
            _pack(one, out)
    elif isinstance(value, Mapping):
        out.append(_head(len(value), 0x80, 15, (0, 0xDE, 0xDF)))
        for pair in value.items():
            for one in pair:
                _pack(one, out)
    else:
        array = np.ascontiguousarray(value)
        shape = list(np.shape(value))
        _pack({b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": shape, b"data": array.tobytes()}, out)


def _head(length: int, fixed: int | None, most: int, codes: tuple[int, int, int]) -> bytes:
    """The beginning of something of a length: one byte where it fits, else a code and the length."""
    if fixed is not None and length <= most:
        return bytes([fixed | length])
    for code, form, limit in zip(codes, "BHI", (1 << 8, 1 << 16, 1 << 32), strict=True):
        if code and length < limit:
            return struct.pack(f">B{form}", code, length)
    raise ValueError(f"{length} do not fit a message")


def _packed_int(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b" if value < 0 else ">B", value)
    bits = next(n for n in (8, 16, 32, 64) if -(1 << n - 1) <= value < (1 << n))
    code = {8: 0xCC, 16: 0xCD, 32: 0xCE, 64: 0xCF}[bits] + (4 if value < 0 else 0)
    form = {8: "B", 16: "H", 32: "I", 64: "Q"}[bits]
    return struct.pack(f">B{form.lower() if value < 0 else form}", code, value)
