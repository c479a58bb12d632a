"""Checkpoints in several files: an index, ``NAME.index.json``, says which file holds which tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

from featx.checkpoint.config import read_config
from featx.errors import WeightsError

INDEX = ".index.json"


def is_index(path: Path) -> bool:
    """Whether a file is the index of others, by its name."""
    return path.name.endswith(INDEX)


def read_index(path: Path) -> Mapping[str, str]:
    """Tensor -> the name of its file, which lies beside the index. Raises WeightsError for another index."""
    files = read_config(path).get("weight_map")
    if not isinstance(files, Mapping) or not files or not all(map(_is_name, files.values())):
        raise WeightsError(f"{path} has no weight_map from tensors to files beside it", "get a complete copy")
    return files


def shards_of(path: Path) -> list[Path]:
    """The files that an index names, each once. Raises WeightsError when one is not there."""
    files = [path.with_name(name) for name in dict.fromkeys(read_index(path).values())]
    if absent := [file.name for file in files if not file.is_file()]:
        raise WeightsError(
            f"{len(absent)} of the {len(files)} files of {path} are not beside it: {', '.join(absent[:3])}",
            "get a complete copy",
        )
    return files


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and PurePath(value).name == value
