"""The only way tensors get into a network: all of them, and one for every parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from featx.errors import WeightsError

_SHOWN = 5


def fill(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], where: str, tied: Mapping[str, str] | None = None
) -> None:
    """Give every parameter of ``model`` its tensor, and every tensor its parameter.

    A model on the meta device gets real parameters. tied: parameter -> the one it is the same as; it may be absent in
    ``tensors``, and must be equal where it is there. Raises WeightsError that names what is missing, left over or of
    another shape.
    """
    tensors, tied = dict(tensors), tied or {}
    for copy, original in tied.items():
        found = tensors.pop(copy, None)
        if found is not None and (original not in tensors or not torch.equal(found, tensors[original])):
            raise WeightsError(
                f"{where}: {copy} differs from {original}, to which it is tied", "give an unaltered snapshot"
            )
    wanted = {name: parameter for name, parameter in model.state_dict().items() if name not in tied}
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
