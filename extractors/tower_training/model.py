"""The network that is trained: a CLIP, and a layer that reads what its cells say."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Taught(nn.Module):
    """clip: a CLIPModel. cells: from a row of the grid to ``outputs`` numbers; it is left behind after training."""

    def __init__(self, clip: Any, outputs: int) -> None:
        super().__init__()
        self.clip = clip
        self.cells = nn.Linear(clip.config.vision_config.hidden_size, outputs)

    def see(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the cells say ``[B, N, outputs]``, and the pictures in the shared space ``[B, P]``."""
        seen = self.clip.vision_model(pixel_values=pixels)
        return self.cells(seen.last_hidden_state[:, 1:]), self.clip.visual_projection(seen.pooler_output)

    def read(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Texts in the shared space ``[B, P]``."""
        found = self.clip.text_model(input_ids=ids, attention_mask=mask)
        projected: torch.Tensor = self.clip.text_projection(found.pooler_output)
        return projected

    def contrast(self, pictures: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Scalar: cross entropy of which text of the batch is about which picture, both ways (Radford et al., 2021)."""
        alike = functional.normalize(texts, dim=1) @ functional.normalize(pictures, dim=1).T
        logits = alike.float() * self.clip.logit_scale.exp()
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
