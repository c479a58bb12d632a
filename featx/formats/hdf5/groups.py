"""A foreign HDF5 file without the HDF5 library: all that can still be located in one that is damaged."""

from __future__ import annotations

from functools import cached_property, lru_cache

from featx.formats.hdf5.arrays import SavedArray
from featx.formats.hdf5.links import Link, links
from featx.formats.hdf5.objects import LAYOUT, Header, read_header, root_header
from featx.formats.hdf5.raw import Bytes, Damage
from featx.schema import Array


class Saved:
    """Groups and arrays of an open file. Raises Damage when the root group is lost."""

    def __init__(self, handle: int) -> None:
        self._bytes = Bytes(handle)
        self._root = _Group(self._bytes, root_header(self._bytes))
        self._group = lru_cache(4)(self._find)

    def members(self, path: str) -> list[Link]:
        """What a group holds, by its names, and behind that what is lost of it."""
        return self._group(path).links

    def inner(self, path: str, name: str, mark: str) -> int | None:
        """The address of a group in a group; None when it is no group, is elsewhere, or has a ``mark`` in it."""
        group = self._group(path)
        header = group.header_of(name) if name in group else None
        if header is None or _is_array(header) or mark in self._group(f"{path}/{name}"):
            return None
        return header.offset

    def array(self, path: str, name: str) -> SavedArray:
        """The array ``name`` of a group. Raises Damage, Unhandled."""
        return self._group(path).array(name)

    def rows(self, array: SavedArray, first: int, last: int | None) -> Array:
        """Rows of an array, or all of it. Raises Damage, which says where they would lie."""
        return array.rows(first, last)

    def _find(self, path: str) -> _Group:
        parts = [part for part in path.split("/") if part]
        found = self._root
        for part in parts:
            found = _Group(self._bytes, found.header_of(part), f"{found.name}{part}/")
        return found


class _Group:
    """A group by its header. name: its path from the root, with a slash at its end."""

    def __init__(self, file: Bytes, header: Header, name: str = "/") -> None:
        if _is_array(header):
            raise Damage(header.offset, header.lost or f"{name} is no group: its header is at byte {header.offset}")
        self.name, self._file, self._header = name, file, header
        self._arrays: dict[str, SavedArray] = {}

    @cached_property
    def links(self) -> list[Link]:
        """What is in it, and what of that is lost. Raises Unhandled."""
        return links(self._file, self._header)

    def __contains__(self, name: str) -> bool:
        return self._addresses.get(name) is not None

    def header_of(self, name: str) -> Header:
        """The header of what has a name. Raises Damage."""
        address = self._addresses.get(name)
        if address is None:
            lost = next((f": {link.problem}" for link in self.links if link.problem), "")
            raise Damage(self._header.offset, f"it has no {name} of its own{lost}")
        return read_header(self._file, address, f"the header of {self.name}{name}"[:300])

    def array(self, name: str) -> SavedArray:
        """The array that has a name. Raises Damage, Unhandled."""
        if name not in self._arrays:
            header = self.header_of(name)
            if not _is_array(header):
                raise Damage(header.offset, header.lost or f"{name} is no array: its header is at byte {header.offset}")
            self._arrays[name] = SavedArray(self._file, header, f"{self.name}{name}")
        return self._arrays[name]

    @cached_property
    def _addresses(self) -> dict[str, int | None]:
        return {link.name: link.address for link in reversed(self.links) if not link.problem}


def _is_array(header: Header) -> bool:
    return any(kind == LAYOUT for kind, _, _ in header.messages)
