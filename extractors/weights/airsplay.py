"""Pickled checkpoints: airsplay's ``faster_rcnn_from_caffe*.pkl`` and detectron2's model zoo.

Both are ``{"model": {name: numpy array}, "__author__": text}`` in detectron2's names, background last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import WeightsError
from featx.schema import Array
from featx_extractors.weights.checkpoint import Checkpoint
from featx_extractors.weights.pickles import PickledArray, load_pickle, state_dict


def read(path: Path) -> Checkpoint:
    """The checkpoint of a pickle. Raises WeightsError when it holds anything but arrays in plain containers."""
    data = load_pickle(path)
    author = data.get("__author__") if isinstance(data, dict) else None
    arrays = {name: _array(path, name, value) for name, value in state_dict(data, path).items()}
    zoo = isinstance(author, str) and "detectron2" in author.lower()
    notes = (f"the pickle names its author: {author[:80]}",) if isinstance(author, str) else ()
    return Checkpoint("detectron2" if zoo else "airsplay", arrays, notes=notes)


def _array(path: Path, name: str, value: Any) -> Array:
    found = value.array if isinstance(value, PickledArray) else value
    if not isinstance(found, np.ndarray | np.generic):
        raise WeightsError(
            f"{path}: {name} is a {type(found).__name__}, expected an array",
            "expected {'model': {name: array}}, the layout of airsplay's and detectron2's files",
        )
    return np.asarray(found)
