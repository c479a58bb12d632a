"""Tensors of LXMERT's weights under the names of transformers, and which of them are one."""

from __future__ import annotations

from pathlib import Path

import torch

from featx.checkpoint.tensors import read_tensors
from featx.lxmert.names import rename

WORDS = "lxmert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
TIED = {DECODER: WORDS}  # the decoder of the masked words is the word embedding
_BUFFERS = ("lxmert.embeddings.position_ids",)  # saved by some versions of transformers; a count, not a weight


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, see :func:`featx.checkpoint.tensors.read_tensors`. Raises WeightsError."""
    tensors = rename(read_tensors(path), str(path))
    return {name: t for name, t in tensors.items() if name not in _BUFFERS}
