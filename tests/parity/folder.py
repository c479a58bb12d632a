"""A folder of references that remembers which of its arrays were read."""

from __future__ import annotations

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


class Folder:
    """One subfolder: its npz and safetensors files, opened once and watched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: dict[str, Arrays] = {}

    @property
    def name(self) -> str:
        return self.path.name

    def arrays(self, name: str) -> Arrays:
        """The arrays of ``name`` (an .npz or a .safetensors file)."""
        if name not in self._open:
            if name.endswith(".safetensors"):
                from safetensors.numpy import load_file

                self._open[name] = Arrays(load_file(self.path / name))
            else:
                with np.load(self.path / name, allow_pickle=False) as data:
                    self._open[name] = Arrays({k: data[k] for k in data.files})
        return self._open[name]

    def files(self, pattern: str) -> list[str]:
        return sorted(p.name for p in self.path.glob(pattern))

    def unread(self) -> list[str]:
        """``file:array`` for every array that was not read, and every file that was not opened."""
        missed = []
        for name in self.files("*.npz") + self.files("*.safetensors"):
            if name not in self._open:
                missed.append(f"{self.name}/{name}: not opened")
            else:
                missed += [f"{self.name}/{name}: {array}" for array in self._open[name].unread]
        return missed
