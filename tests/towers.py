"""Tiny towers made and saved by transformers: what our reading of them is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

BLOCKS = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION = {**BLOCKS, "image_size": 32, "patch_size": 8}
MERGES = ["t h", "th e</w>", "a t</w>", "c at</w>", "h at</w>", "th at</w>"]


def tokenizer() -> Any:
    """Bytes, and a few merges."""
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in MERGES)]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[(*merge.split(),) for merge in MERGES])


def draw(model: Any, seed: int = 0) -> Any:
    """Weights that show a forgotten parameter: no bias is zero, no norm is one."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            width = parameter[0].numel() if parameter.dim() > 1 else 1
            value = torch.randn(parameter.shape, generator=random)
            is_scale = parameter.dim() == 1 and "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.2 * value if is_scale else value * (1.2 / width**0.5 if width > 1 else 0.3))
    return model.eval()


def save_clip(folder: Path, seed: int = 0) -> Any:
    """A whole CLIP with its tokenizer, saved; the model."""
    words = tokenizer()
    text = {**BLOCKS, "vocab_size": len(words), "max_position_embeddings": 20, "bos_token_id": len(words) - 2}
    text |= {"eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    model = draw(transformers.CLIPModel(config), seed)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model
