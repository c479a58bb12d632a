"""A torch file of one tensor (``torch.save``), read and written without torch, which would believe what the file says.

Both layouts: a zip of ``data.pkl`` and ``data/0``, and, before torch 1.6, pickles one behind the other with the numbers
at the end. The pickle of a tensor is a dozen operations, which are done here on names, numbers and tuples alone; any
other is refused. What is read must be backed by bytes: sizes, strides and lengths are checked before anything is made.
"""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from math import prod
from typing import Any, NamedTuple

import numpy as np

from featx.formats.values.npz import FAULTS, opened
from featx.rounding import from_bfloat16
from featx.schema import Array

_MAGIC = 0x1950A86A20F9469CFC6C  # of the layout before 1.6
_ROOT = "archive"
_LONGEST = 1 << 16  # bytes of the pickle of a tensor; it has 200
_STEPS = 500  # operations of it
_REBUILD, _HOOKS = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_DTYPES = {
    "torch FloatStorage": "<f4", "torch HalfStorage": "<f2", "torch DoubleStorage": "<f8",
    "torch BFloat16Storage": "<u2",
}  # fmt: skip
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "INT", "LONG", "NEWTRUE",
    "NEWFALSE", "NONE",
}  # fmt: skip
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(NamedTuple):
    text: str


class _Storage(NamedTuple):
    """Numbers that lie elsewhere, so many of them."""

    kind: str
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of numbers: offset, size and stride count them."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Mark:
    """Where a tuple begins on the stack."""


def load_tensor(data: bytes) -> Array:
    """The tensor in a file, float32 or float16 (bfloat16 and float64 become float32). Raises ValueError."""
    try:
        if data[:2] == b"PK":
            return _from_zip(data)
        return _from_pickles(io.BytesIO(data))
    except FAULTS as error:
        raise ValueError(f"the torch file is damaged: {error!s:.200}") from None


def dump_tensor(array: Array) -> bytes:
    """The file of a float32 array, as torch 1.6 and later write it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {
            "data.pkl": _pickled(array.shape),
            "byteorder": b"little",
            "data/0": np.ascontiguousarray(array, "<f4").tobytes(),
            "version": b"3\n",
        }.items():
            archive.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}"), content)
    return out.getvalue()


def _from_zip(data: bytes) -> Array:
    with opened(io.BytesIO(data)) as archive:
        pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if pickled is None:
            raise ValueError("the zip file has no data.pkl, so it is none of torch")
        root = pickled.removesuffix("data.pkl")
        tensor = _tensor(io.BytesIO(_member(archive, pickled, None)))
        order = f"{root}byteorder"
        if order in archive.namelist() and _member(archive, order, None) != b"little":
            raise ValueError("its numbers are not little-endian")
        length = tensor.storage.length * _dtype(tensor.storage).itemsize
        return _view(tensor, _member(archive, f"{root}data/{tensor.storage.key}", length))


def _member(archive: zipfile.ZipFile, name: str, length: int | None) -> bytes:
    """The bytes of a member. length: of it, which was told elsewhere; None for a short one."""
    told = archive.getinfo(name)
    if told.compress_type != zipfile.ZIP_STORED or told.file_size != told.compress_size:
        raise ValueError(f"{name} is compressed, which torch does not do")
    if length is None and told.file_size > _LONGEST:
        raise ValueError(f"{name} has {told.file_size:,} bytes, which a tensor does not need")
    if length is not None and told.file_size != length:
        raise ValueError(f"{name} has {told.file_size:,} bytes, its tensor needs {length:,}")
    return archive.read(told)


def _from_pickles(file: io.BytesIO) -> Array:
    if _number(file) != _MAGIC:
        raise ValueError("it begins neither as a zip file nor as torch files did before 1.6")
    for _ in range(2):  # version of the protocol, sizes of C's types
        _skip(file)
    tensor = _tensor(file)
    _skip(file)  # the keys of the storages: one
    count = int.from_bytes(file.read(8), "little")
    if count != tensor.storage.length:
        raise ValueError(f"it has {count:,} numbers, its tensor {tensor.storage.length:,}")
    return _view(tensor, file.read())


def _operations(file: io.BytesIO) -> Any:
    steps = enumerate(pickletools.genops(file))
    while True:
        with warnings.catch_warnings():  # pickletools warns of odd escapes in the texts of the oldest protocol
            warnings.simplefilter("ignore", DeprecationWarning)
            step = next(steps, None)
        if step is None:
            return
        number, (code, given, place) = step
        if number > _STEPS:
            raise ValueError(f"a pickle of more than {_STEPS} operations is not of one tensor")
        yield code.name, given, place


def _skip(file: io.BytesIO) -> None:
    for _ in _operations(file):
        pass


def _number(file: io.BytesIO) -> Any:
    found = None
    try:
        for name, given, _ in _operations(file):
            found = given if name == "LONG1" else found
    except ValueError:
        return None
    return found


def _tensor(file: io.BytesIO) -> _Tensor:
    """The tensor that a pickle describes."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for name, given, place in _operations(file):
            _step(stack, memo, name, given, place)
        [made] = stack
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from None
    if not isinstance(made, _Tensor):
        raise ValueError("it holds no tensor, or more than one")
    return made


def _step(stack: list[Any], memo: dict[int, Any], name: str, given: Any, place: int) -> None:
    if name in ("PROTO", "FRAME", "STOP"):
        return
    if name in _VALUES:
        stack.append({"NEWTRUE": True, "NEWFALSE": False, "NONE": None}.get(name, given))
    elif name == "MARK":
        stack.append(_Mark)
    elif name == "TUPLE":
        begin = len(stack) - 1 - stack[::-1].index(_Mark)
        stack[begin:] = [tuple(stack[begin + 1 :])]
    elif name in _TUPLES:
        begin = len(stack) - _TUPLES[name]
        stack[begin:] = [tuple(stack[begin:])]
    elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if given is None else given] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[given])
    elif name == "GLOBAL":
        stack.append(_Name(given))
    elif name == "STACK_GLOBAL":
        stack[-2:] = [_named(stack[-2], stack[-1])]
    elif name == "BINPERSID":
        stack.append(_storage(stack.pop()))
    elif name == "REDUCE":
        stack[-2:] = [_reduced(stack[-2], stack[-1])]
    else:
        raise ValueError(f"its pickle has {name} at byte {place}, which no tensor needs")


def _named(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a name in its pickle is no text")
    return _Name(f"{module} {name}")


def _storage(told: Any) -> _Storage:
    kind, of, key, _, count, *view = told  # a part of other numbers before 1.6, else None or not there
    if kind != "storage" or not isinstance(of, _Name) or not isinstance(key, str) or view not in ([], [None]):
        raise ValueError("it says of its numbers what is not said of a tensor's")
    if not _whole([count]):
        raise ValueError("its numbers are not counted")
    if of.text not in _DTYPES:
        raise ValueError(f"its numbers are {of.text[:80]!r}, expected one of {', '.join(_DTYPES)}")
    return _Storage(of.text, key, count)


def _reduced(name: Any, given: Any) -> Any:
    """What a call makes, without a call. Values are not shown: a few operations nest tuples beyond any length."""
    text = name.text if isinstance(name, _Name) else type(name).__name__
    if text == _HOOKS and given == ():
        return None
    if text != _REBUILD:
        raise ValueError(f"its pickle asks for {text[:80]!r}, which no tensor needs")
    storage, offset, size, stride = given[:4]
    if not isinstance(storage, _Storage) or len(size) != len(stride) or not _whole([offset, *size, *stride]):
        raise ValueError("its tensor has no sensible size")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _whole(numbers: list[Any]) -> bool:
    return len(numbers) < 20 and all(type(n) is int and 0 <= n < 1 << 40 for n in numbers)


def _dtype(storage: _Storage) -> np.dtype[Any]:
    return np.dtype(_DTYPES[storage.kind])


def _view(tensor: _Tensor, raw: bytes) -> Array:
    """The numbers of a tensor, in a memory of their own."""
    dtype, (storage, offset, size, stride) = _dtype(tensor.storage), tensor
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if len(raw) != storage.length * dtype.itemsize or prod(size) > storage.length or last >= storage.length:
        raise ValueError(f"its tensor {list(size)} does not lie within its {len(raw):,} bytes")
    flat = np.frombuffer(raw, dtype)[offset:]
    array: Array = np.lib.stride_tricks.as_strided(flat, size, [dtype.itemsize * step for step in stride])
    if dtype == np.dtype("<u2"):
        return from_bfloat16(np.ascontiguousarray(array))
    return np.array(array, "<f2" if dtype.itemsize == 2 else "<f4")


def _pickled(shape: tuple[int, ...]) -> bytes:
    """The pickle of a float32 tensor that lies in order, protocol 2."""
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    storage = (
        b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + _int(prod(shape)) + b"tQ"
    )
    sizes, steps = (b"(" + b"".join(map(_int, numbers)) + b"t" for numbers in (shape, strides))
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _int(0) + sizes + steps + b"\x89" + hooks + b"tR."
    )


def _text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def _int(number: int) -> bytes:
    return b"J" + number.to_bytes(4, "little", signed=True)
