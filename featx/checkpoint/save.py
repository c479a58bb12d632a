"""Writing of tensors and JSON, as transformers' from_pretrained reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

SaveDtype = Literal["float32", "float16"]


def as_saved(tensors: Mapping[str, torch.Tensor], dtype: SaveDtype) -> dict[str, torch.Tensor]:
    """On the CPU, floats as ``dtype``, other numbers as they are."""
    kind = getattr(torch, dtype)
    return {n: t.detach().cpu().to(kind if t.is_floating_point() else t.dtype).contiguous() for n, t in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], dtype: SaveDtype = "float32") -> None:
    """A ``.safetensors`` file of :func:`as_saved`."""
    from safetensors.torch import save_file

    kept = as_saved(tensors, dtype)
    path.touch()
    mode = path.stat().st_mode  # safetensors makes files that only their owner can read
    save_file(kept, path, {"format": "pt"})
    path.chmod(mode)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A mapping, one entry a line."""
    text = json.dumps(dict(content), indent=1, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")
