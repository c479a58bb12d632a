"""npz, a zip file of npy files: the arrays that are asked for, and no byte more than they need.

What the directory says of a member, what its npy header asks for and what comes out of the stream must agree before
anything of that size is made, so an archive that swells to gigabytes costs nothing.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import BinaryIO

from featx.formats.values.npy import FRONT, check, dump, front_of, parse
from featx.schema import Array

_SUFFIX = ".npy"
_TAIL = 22 + 65535  # bytes in which the end of a zip file lies, with the longest comment
_LEVEL = 1  # of deflate: features come out 4 % longer than by numpy's level 6, in less than half the time
_DIRECTORY = 1 << 20  # bytes; that of ten arrays has 600
FAULTS = (  # of zipfile
    zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, NotImplementedError, RuntimeError, OverflowError,
    MemoryError,
)  # fmt: skip


def names(file: BinaryIO) -> set[str]:
    """Names of the arrays in an archive. Raises ValueError for what is none."""
    try:
        with opened(file) as archive:
            return {name.removesuffix(_SUFFIX) for name in archive.namelist()}
    except FAULTS as error:
        raise _damaged(error) from None


def arrays(file: BinaryIO, wanted: Iterable[str], pickled: Collection[str] = ()) -> dict[str, Array]:
    """Those of the arrays ``wanted`` that are there. pickled: those of them that may be a pickle.

    Raises ValueError for an archive that is damaged, UsageError for a pickle that is refused.
    """
    try:
        with opened(file) as archive:
            there = set(archive.namelist())
            return {
                name: _member(archive, name, allow_pickle=name in pickled) for name in wanted if name + _SUFFIX in there
            }
    except FAULTS as error:
        raise _damaged(error) from None


def pack(values: Mapping[str, Array | bytes]) -> bytes:
    """A compressed archive of arrays, or of npy files as they are; equal for equal values."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, value in values.items():
            content = value if isinstance(value, bytes) else dump(value)
            archive.writestr(zipfile.ZipInfo(name + _SUFFIX), content, zipfile.ZIP_DEFLATED, _LEVEL)
    return out.getvalue()


def opened(file: BinaryIO) -> zipfile.ZipFile:
    """The archive, if its directory is of a size that a few arrays need. Raises ValueError, or what zipfile does."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    tail = file.read(_TAIL)
    end = tail[-22:] if tail[-22:-18] == b"PK\5\6" else tail[max(tail.rfind(b"PK\5\6"), 0) :]
    if int.from_bytes(end[12:16], "little") > _DIRECTORY:
        raise ValueError(f"the directory of this zip file is longer than {_DIRECTORY:,} bytes")
    return zipfile.ZipFile(file)


def _member(archive: zipfile.ZipFile, name: str, *, allow_pickle: bool) -> Array:
    told = archive.getinfo(name + _SUFFIX)
    if told.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by method {told.compress_type}, expected 0 or 8 (deflate)")
    with archive.open(told) as stream:
        head = stream.read(FRONT)
        check(front_of(head), told.file_size, name, allow_pickle=allow_pickle)
        data = head + stream.read(told.file_size - len(head)) if told.file_size > len(head) else head
        if stream.read(1):
            raise ValueError(f"{name} is longer than the {told.file_size:,} bytes that the archive tells")
    return parse(data, name, allow_pickle=allow_pickle)


def _damaged(error: Exception) -> ValueError:
    said = str(error) or type(error).__name__
    return ValueError(f"the zip file is damaged: {said:.200}")
