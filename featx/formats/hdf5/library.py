"""A foreign HDF5 file through h5py. Links to other files, and data in other files, are not followed."""

from __future__ import annotations

from typing import Any

import numpy as np

from featx.formats.hdf5.links import Link
from featx.schema import Array

FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


class Refused(ValueError):
    """What is sound, but is not read."""


class Library:
    """Groups and arrays of a file that h5py opened. Methods raise one of ``FAULTS`` for what cannot be read."""

    def __init__(self, file: Any) -> None:
        self._file, self._last = file, ("", None)

    def members(self, path: str) -> list[Link]:
        """The names in a group; h5py has bytes for those that are no UTF-8."""
        names = (
            name.decode(errors="backslashreplace") if isinstance(name, bytes) else name for name in self._group(path)
        )
        return [Link(name, None) for name in names]

    def inner(self, path: str, name: str, mark: str) -> int | None:
        """The address of a group in a group; None when it is no group, is elsewhere, or has a ``mark`` in it."""
        import h5py

        group = self._group(path)
        found = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
        if not isinstance(found, h5py.Group) or mark in found:
            return None
        return int(h5py.h5o.get_info(found.id).addr)

    def array(self, path: str, name: str) -> Any:
        """The dataset ``name`` of a group. Raises Refused for one that is elsewhere or is no plain numbers."""
        import h5py

        group = self._group(path)
        link = group.get(name, getlink=True)
        if link is None:
            raise ValueError(f"it has no {name}")
        if not isinstance(link, h5py.HardLink):
            raise Refused(f"it has no {name} of its own")
        found = group[name]
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or found.dtype.kind not in "fiuSO":
            raise Refused(f"{name} is no array of numbers in this file")
        return found

    def rows(self, array: Any, first: int, last: int | None) -> Array:
        """Rows of a dataset, or all of it."""
        return np.asarray(array[()] if last is None else array[first:last])

    def _group(self, path: str) -> Any:
        """A group; the last one stays open, as its arrays are asked for one by one."""
        import h5py

        if self._last[0] != path:
            found = self._file[path]
            if not isinstance(found, h5py.Group):
                raise Refused(f"{path} is no group")
            self._last = path, found
        return self._last[1]
