"""A folder of references that remembers which of its arrays were read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


def as_numpy(values: Any) -> np.ndarray[Any, Any]:
    """Tensors and anything array-like as numpy."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


class Arrays(Mapping[str, np.ndarray[Any, Any]]):
    """The arrays of one file; ``unread`` lists the names nobody asked for."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._arrays = dict(arrays)
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        self._read.add(name)
        return self._arrays[name]

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    @property
    def unread(self) -> list[str]:
        return sorted(set(self._arrays) - self._read)


class Entries:
    """A JSON object, or a list of objects; ``unread`` lists the values nobody asked for. Other lists are values."""

    def __init__(self, content: Any) -> None:
        items = content.items() if isinstance(content, dict) else enumerate(content)
        self._items = {key: Entries(value) if _nested(value) else value for key, value in items}
        self._read: set[Any] = set()

    def __getitem__(self, key: Any) -> Any:
        self._read.add(key)
        return self._items[key]

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self._items else default

    def plain(self) -> Any:
        """Everything below as it was parsed (lists of objects by their positions)."""
        return {key: value.plain() if isinstance(value, Entries) else value for key in self for value in [self[key]]}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def rows(self) -> list[Any]:
        return [self[key] for key in self]

    @property
    def unread(self) -> list[str]:
        missed = []
        for key, value in self._items.items():
            if isinstance(value, Entries):
                missed += [f"{key}.{name}" for name in value.unread]
            elif key not in self._read:
                missed.append(str(key))
        return missed


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(entry, dict) for entry in value))


class Folder:
    """One subfolder: its npz and safetensors files, opened once and watched.

    JSON files are watched in the same way once one of them was opened by :meth:`entries`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: dict[str, Arrays | Entries] = {}

    @property
    def name(self) -> str:
        return self.path.name

    def arrays(self, name: str) -> Arrays:
        """The arrays of ``name`` (an .npz or a .safetensors file)."""
        found = self._open.get(name)
        if not isinstance(found, Arrays):
            if name.endswith(".safetensors"):
                from safetensors.numpy import load_file

                found = Arrays(load_file(self.path / name))
            else:
                with np.load(self.path / name, allow_pickle=False) as data:
                    found = Arrays({k: data[k] for k in data.files})
            self._open[name] = found
        return found

    def entries(self, name: str) -> Entries:
        """The entries of ``name`` (a .json file)."""
        found = self._open.get(name)
        if not isinstance(found, Entries):
            found = self._open[name] = Entries(json.loads((self.path / name).read_text(encoding="utf-8")))
        return found

    def files(self, pattern: str) -> list[str]:
        """Files at any depth, by their path in the folder."""
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob(pattern))

    def unread(self) -> list[str]:
        """``file: name`` for every array and entry that was not read, and every file that was not opened."""
        missed = []
        watched = self.files("*.npz") + self.files("*.safetensors")
        if any(isinstance(file, Entries) for file in self._open.values()):
            watched += self.files("*.json")
        for name in watched:
            if name not in self._open:
                missed.append(f"{self.name}/{name}: not opened")
            else:
                missed += [f"{self.name}/{name}: {part}" for part in self._open[name].unread]
        return missed
