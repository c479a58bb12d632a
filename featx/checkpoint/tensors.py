"""Tensors of a weights file by name, whatever wrote it; nothing in a file is ever executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from featx.checkpoint.flax import read_flax
from featx.checkpoint.shards import is_index, read_index, shards_of
from featx.errors import WeightsError


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors``, flax (``.msgpack``) or torch file (``weights_only``), or of an index's files.

    Under the names of the file, those of flax as torch would call them; as float32 where they are floats. Raises
    WeightsError for a file that cannot be read, holds more than tensors, or holds other things.
    """
    if is_index(path):
        return _joined(path)
    read = {".safetensors": _safetensors, ".msgpack": read_flax}.get(path.suffix, _torch)
    return {n: t.float() if t.is_floating_point() else t for n, t in read(path).items()}


def _joined(index: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in shards_of(index):
        part = read_tensors(file)
        if twice := found.keys() & part.keys():
            raise WeightsError(f"{min(twice)} is in {file} and in another file of {index}", "get an unaltered copy")
        found.update(part)
    if absent := read_index(index).keys() - found.keys():
        raise WeightsError(f"{index} names {min(absent)}, which is in none of its files", "get a complete copy")
    return found


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", "get a complete copy") from None


def _torch(path: Path) -> dict[str, torch.Tensor]:
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} is refused: it holds more than tensors, or is damaged; nothing of it was executed",
            "get the weights from a source you trust, best as safetensors",
        ) from None
    except Exception as error:  # RuntimeError, EOFError, KeyError ...: whatever the archive reader trips over
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{path} cannot be read: {reason}", "get a complete copy") from None
    return _state_dict(data, path)


def _state_dict(data: Any, path: Path) -> dict[str, torch.Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if isinstance(data, Mapping) and data and all(isinstance(v, torch.Tensor) for v in data.values()):
        return {str(name): value for name, value in data.items()}
    raise WeightsError(
        f"{path} holds {type(data).__name__}, expected a mapping from names to tensors", "save the model's state_dict()"
    )
