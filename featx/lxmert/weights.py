"""Tensors of a weights file, under the names of transformers, and the only way they get into a network: all of them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featx.errors import WeightsError
from featx.lxmert.names import rename

Tensors = Mapping[str, torch.Tensor]

TIED = "cls.predictions.decoder.weight"
WORDS = "lxmert.embeddings.word_embeddings.weight"
_BUFFERS = ("lxmert.embeddings.position_ids",)  # saved by some versions of transformers; a count, not a weight
_SHOWN = 5


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` or torch file (``weights_only``), as float32 where they are floats.

    Raises WeightsError for a file that cannot be read, holds more than tensors, or holds other things.
    """
    data = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    tensors = rename(data, str(path))
    return {n: t.float() if t.is_floating_point() else t for n, t in tensors.items() if n not in _BUFFERS}


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


def fill(model: nn.Module, tensors: Tensors, where: str) -> None:
    """Give every parameter of ``model`` its tensor, and every tensor its parameter.

    A model on the meta device gets real parameters. The decoder of the masked words is the word embedding: it may be
    absent, and must be equal where it is there. Raises WeightsError that names what is missing, left over or of
    another shape.
    """
    tensors = dict(tensors)
    wanted = {name: parameter for name, parameter in model.state_dict().items() if name != TIED}
    decoder = tensors.pop(TIED, None)
    if decoder is not None and (WORDS not in tensors or not torch.equal(decoder, tensors[WORDS])):
        raise WeightsError(
            f"{where}: {TIED} differs from the word embeddings, to which it is tied", "give an unaltered snapshot"
        )
    faults = [
        *_told("lacks", set(wanted) - set(tensors)),
        *_told("has, and the network has not,", set(tensors) - set(wanted)),
        *_told("has in another shape", {n for n in set(wanted) & set(tensors) if wanted[n].shape != tensors[n].shape}),
    ]
    if faults:
        raise WeightsError(f"{where} {'; it '.join(faults)}", "these are weights of another network, or incomplete")
    model.load_state_dict(tensors, strict=False, assign=True)
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()


def _told(what: str, names: Iterable[str]) -> list[str]:
    some = sorted(names)
    if not some:
        return []
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return [f"{what} {', '.join(some[:_SHOWN])}{more}"]
