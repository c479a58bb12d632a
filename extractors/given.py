"""Boxes that a person gives, ``key -> [n, 4]`` pixels of the original: from a store, a JSON object or an npz file."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import UsageError
from featx.schema import Array
from featx.store import open_store


class GivenBoxes:
    """Boxes by key, ``[n, 4]`` float32 x0 y0 x1 y1; ``fingerprint`` names the source in a manifest."""

    def __init__(self, boxes: Mapping[str, Any], fingerprint: str) -> None:
        self._boxes = boxes
        self.fingerprint = fingerprint

    def __contains__(self, key: str) -> bool:
        return key in self._boxes

    def __getitem__(self, key: str) -> Array:
        return _corners(key, self._boxes[key])


def _corners(key: str, values: Any) -> Array:
    """``[n, 4]`` float32. Raises UsageError for anything that is not corners of boxes."""
    try:
        boxes = np.array(values, np.float32).reshape(-1, 4)
    except (ValueError, TypeError):
        boxes = np.full((1, 4), np.nan, np.float32)  # no numbers in fours: the same message
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise UsageError(
            f"the given boxes of {key!r} are not finite x0 y0 x1 y1 with x1 >= x0 and y1 >= y0",
            "boxes are corners in pixels of the upright original, not x y width height",
        )
    return boxes


class _StoreBoxes(Mapping[str, Any]):
    """The boxes that a store's features were pooled from."""

    def __init__(self, path: str) -> None:
        self._store = open_store(path)
        schema = self._store.schema
        self._field = "boxes" if schema.boxes == schema.pooled else f"{schema.pooled}_boxes"

    @property
    def digest(self) -> str:
        """Content digest of the finished store."""
        totals = self._store.manifest.totals
        assert totals is not None  # open_store refuses an unfinished one
        return totals.digest

    def __getitem__(self, key: str) -> Array:
        record = self._store[key]
        return record.array(self._field)[: record.count]

    def __iter__(self) -> Any:
        return iter(self._store.keys())

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, key: object) -> bool:
        return key in self._store


def load_given(location: str) -> GivenBoxes:
    """Given boxes from a store folder, a ``.json`` object ``{key: [[x0, y0, x1, y1], ...]}`` or a ``.npz``.

    Raises UsageError for any other file.
    """
    path = Path(location)
    if path.is_dir():
        boxes = _StoreBoxes(location)
        return GivenBoxes(boxes, f"store:{boxes.digest}")
    if not path.is_file():
        raise UsageError(f"there are no given boxes at {location}", "give a store, a .json or a .npz file")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    listed = _read_npz(path) if path.suffix == ".npz" else _read_json(path)
    # All of them now: a mistake found halfway would leave a store that refuses the corrected file.
    return GivenBoxes({key: _corners(key, values) for key, values in listed.items()}, f"sha256:{digest}")


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} is not an .npz of boxes: {error}", "save it with numpy.savez(path, key=boxes)"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise UsageError(f"{path} is not a JSON object of boxes", 'write {"key": [[x0, y0, x1, y1], ...], ...}')
    return data
