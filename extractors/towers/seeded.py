"""An untrained tiny CLIP, the same on every machine: for tests and for trying the pipeline."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

import numpy as np
import torch

from featx.text.library import transformers
from featx_extractors.towers.family import CLIP

_NAME = re.compile(r"seeded-clip-tiny(?::(\d{1,18}))?")
_BLOCKS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_LETTERS, _LENGTH = 512, 32  # words are cut into bytes, each of which may end a word
CONFIG: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 16,
    "vision_config": {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, **_BLOCKS},
    "text_config": {
        "model_type": "clip_text_model", "vocab_size": _LETTERS + 2, "max_position_embeddings": _LENGTH,
        "bos_token_id": _LETTERS, "eos_token_id": _LETTERS + 1, "pad_token_id": _LETTERS + 1, **_BLOCKS,
    },
}  # fmt: skip


def seeded_location(location: str) -> int | None:
    """The seed of ``seeded-clip-tiny`` or ``seeded-clip-tiny:SEED``; None for other text."""
    match = _NAME.fullmatch(location)
    return int(match[1] or 0) if match else None


def seeded_tensors(seed: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """``config.json`` and tensors of a whole CLIP: inputs of 32 pixels, patches of 8, width 32, two blocks."""
    library = transformers()
    with torch.device("meta"):
        shapes = getattr(library, CLIP.whole)(library.CLIPConfig(**CONFIG)).state_dict()
    return CONFIG, {name: values(name, tuple(tensor.shape), seed) for name, tensor in shapes.items()}


def values(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Uniform values from the raw output of Philox, as of the seeded detector: matrices with gain 1.3, norms near 1."""
    key = int.from_bytes(hashlib.sha256(f"featx {seed} {name}".encode()).digest()[:16], "little")
    count = math.prod(shape)
    raw = np.random.Philox(key=key).random_raw((count + 1) // 2).astype("<u8", copy=False)
    drawn = raw.view("<i4")[:count].astype(np.float32).reshape(shape) / np.float32(2**31)
    if "embedding" in name and "patch" not in name:
        return torch.from_numpy(np.asarray(drawn * np.float32(0.8)))
    if len(shape) > 1:
        return torch.from_numpy(np.asarray(drawn * np.float32(1.3 * math.sqrt(3 / math.prod(shape[1:])))))
    near = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    return torch.from_numpy(np.asarray(drawn * np.float32(0.1) + np.float32(near)))


def byte_tokenizer() -> Any:
    """CLIP's tokenizer without merges: every byte of a text is a token, and another one where it ends a word."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers().CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=_LENGTH
    )
