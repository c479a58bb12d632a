"""A CLIP that was trained before, for pictures of another size.

A picture of more pixels has more patches of the same size: the finer grid costs less to learn from a coarse one than
from nothing (Touvron et al., FixRes, 2019; Dosovitskiy et al., ViT, 2021, section 3.2).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from featx.checkpoint.blank import blank
from featx.checkpoint.fill import fill
from featx.checkpoint.place import locate
from featx.errors import WeightsError
from featx.text.library import transformers
from featx_extractors.tower_training.letters import Letters
from featx_extractors.tower_training.options import check_size
from featx_extractors.towers.loading import count_positions, read_checkpoint

_POSITIONS = "vision_model.embeddings.position_embedding.weight"


def continued_clip(folder: str, size: int) -> tuple[Any, Letters]:
    """A transformers CLIPModel, float32, that sees pictures of ``size``, and its vocabulary.

    Raises WeightsError for a folder that this task did not leave behind, UsageError for a size its patches do not fill.
    """
    place = locate(folder)
    config, tensors = read_checkpoint(place, folder)
    if config.get("model_type") != "clip" or _POSITIONS not in tensors:
        raise WeightsError(f"{folder} is no CLIP of both towers", "give what a run of clip-tower left behind")
    patch = int(config["vision_config"]["patch_size"])
    check_size(size, patch)
    config["vision_config"]["image_size"] = size
    library = transformers()
    with blank(folder):
        model = library.CLIPModel(library.CLIPConfig(**config))
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    tensors[_POSITIONS] = spread(tensors[_POSITIONS], size // patch)
    fill(model, tensors, folder)
    count_positions(model)
    return model, Letters.read(Path(place.folder), model.config.text_config.max_position_embeddings)


def spread(table: torch.Tensor, side: int) -> torch.Tensor:
    """Positions ``[1 + n * n, D]`` of a class token and a grid, bicubically for one of ``side * side`` cells."""
    first, grid = table[:1], table[1:]
    before = round(len(grid) ** 0.5)
    cells = grid.T.reshape(1, -1, before, before)
    finer = torch.nn.functional.interpolate(cells, (side, side), mode="bicubic", align_corners=False)
    return torch.cat([first, finer.flatten(2)[0].T])
