"""A new CLIP, whose heads may begin by looking at the neighbours of a cell.

A transformer has to find out that near cells belong together, which takes a small data set longer than all the rest.
Position embeddings of sines and cosines, and query and key weights that turn them by one cell, make each head of a
fresh network look one cell up, down, left, right, or at the cell itself, as a convolution does (d'Ascoli et al.,
ConViT, 2021, there with an attention of its own). All of these are the ordinary weights of a CLIP and are trained like
them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from featx.text.library import transformers
from featx_extractors.tower_training.options import ModelOptions

STEPS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))  # cells: right, down
_PART = 32  # numbers of a row that say where it is
_SHARP, _DULL = 1.6, 0.3  # weights of positions and of everything else in queries and keys


def new_clip(options: ModelOptions, words: int, ends: tuple[int, int]) -> Any:
    """A transformers CLIPModel with fresh weights. words: of the vocabulary; ends: ids of both ends of a text."""
    library = transformers()
    config = library.CLIPConfig(
        vision_config={
            "hidden_size": options.width, "intermediate_size": 4 * options.width, "num_hidden_layers": options.layers,
            "num_attention_heads": options.heads, "image_size": options.size, "patch_size": options.patch,
            "projection_dim": options.projection,
        },
        text_config={
            "hidden_size": options.text_width, "intermediate_size": 4 * options.text_width, "vocab_size": words,
            "num_hidden_layers": options.text_layers, "num_attention_heads": options.text_heads,
            "max_position_embeddings": options.length, "projection_dim": options.projection,
            "bos_token_id": ends[0], "eos_token_id": ends[1], "pad_token_id": ends[1],
        },
        projection_dim=options.projection,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = library.CLIPModel(config)
        scaled(model)
        if options.look_around:
            look_around(model.vision_model, options.size // options.patch)
    return model


@torch.no_grad()
def scaled(model: nn.Module) -> None:
    """Matrices of deviation 1 / sqrt(inputs), which a small network needs to see anything at all."""
    for name, parameter in model.named_parameters():
        if "position_embedding" in name or "token_embedding" in name or name.endswith("class_embedding"):
            parameter.normal_(0.0, 0.5)
        elif parameter.ndim >= 2:
            parameter.normal_(0.0, 1 / math.sqrt(parameter[0].numel()))


@torch.no_grad()
def look_around(tower: Any, side: int) -> None:
    """Make the heads of a vision tower over ``side`` times ``side`` cells look one step in one direction each."""
    waves = [math.pi * (k + 1) / side for k in range(_PART // 4)]
    table = tower.embeddings.position_embedding.weight
    table.zero_()
    part = min(_PART, table.shape[1])
    table[1:, :part] = places(waves, side)[:, :part]
    for block in tower.encoder.layers:
        attention = block.self_attn
        query, key, width = attention.q_proj.weight, attention.k_proj.weight, attention.head_dim
        rows = min(width, part)
        for weight in (query, key):
            weight.mul_(_DULL)
            weight[:, :part].zero_()
        for head in range(attention.num_heads):
            here = slice(head * width, head * width + rows)
            query[here, :part] = _SHARP * turn(waves, STEPS[head % len(STEPS)])[:rows, :part]
            key[here, :part] = _SHARP * torch.eye(_PART)[:rows, :part]
            query[here, part:] *= _DULL
            key[here, part:] *= _DULL


def places(waves: list[float], side: int) -> torch.Tensor:
    """``[side * side, 4 * waves]``: sine and cosine of x, then of y, for every wave, row by row."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    columns = [wave(step * axis) for step in waves for axis in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.stack([column.flatten() for column in columns], dim=1)


def turn(waves: list[float], step: tuple[int, int]) -> torch.Tensor:
    """The matrix that turns :func:`places` of a cell into those of the cell one ``step`` (right, down) away."""
    found = torch.zeros(4 * len(waves), 4 * len(waves))
    for i, wave in enumerate(waves):
        for axis, way in enumerate(step):
            at, sine, cosine = 4 * i + 2 * axis, math.sin(wave * way), math.cos(wave * way)
            found[at : at + 2, at : at + 2] = torch.tensor([[cosine, sine], [-sine, cosine]])
    return found
