"""A vision tower: pixels in, the tensors that were asked for out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from featx.device import usable_device
from featx.errors import UsageError, WeightsError
from featx_extractors.precision import precision_of
from featx_extractors.towers.choice import Choice, choice
from featx_extractors.towers.family import Family
from featx_extractors.towers.resizing import Resizing


@dataclass(frozen=True)
class Origin:
    """Where a tower comes from. sha256: ``featx.checkpoint.tower.tower_hash``; projection: that of its projection."""

    source: str
    sha256: str
    trained: bool = True
    projection: str | None = None
    notes: tuple[str, ...] = ()

    def check(self, expected: str | None) -> None:
        """Raise WeightsError unless the tower has the ``expected`` hash, if one is given."""
        if expected is not None and self.sha256 != expected.lower():
            raise WeightsError(
                f"the tower of {self.source} has the hash {self.sha256}, expected {expected}",
                "get the weights that were meant, or leave out the expected hash",
            )


@dataclass(frozen=True, eq=False)
class Tower:
    """network: a vision model of transformers, in eval mode; projection: ``[P, D]`` float32 or None."""

    family: Family
    network: torch.nn.Module
    projection: torch.Tensor | None
    stated: Resizing
    origin: Origin
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Any:
        """transformers' configuration of the network."""
        return self.network.config

    @property
    def dim(self) -> int:
        """D, the width of a row."""
        return int(self.config.hidden_size)

    @property
    def native(self) -> int:
        """Side of the input it was trained with, pixels."""
        return int(self.config.image_size)

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        return int(self.config.patch_size)

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return int(self.config.num_hidden_layers)

    @property
    def pools(self) -> bool:
        """Whether there is a pooled vector: of a tower without class token only if it has a head."""
        return self.family.cls or hasattr(self.network, "head")

    def choice(self, name: str) -> Choice:
        """The tensor of that name. Raises UsageError."""
        found = choice(name, self.blocks, self.projection is not None)
        if not found.grid and not self.pools:
            raise UsageError(
                f"the tensor {name!r} is asked for, and the tower has no head that pools", "ask for a grid"
            )
        return found

    def width(self, wanted: Choice) -> int:
        """Length of the vectors of a tensor."""
        if wanted.name == "projected" and self.projection is not None:
            return int(self.projection.shape[0])
        return self.dim

    def on(self, device: str, precision: str) -> Tower:
        """The same tower on a device, its weights in float32 or bfloat16. Raises UsageError."""
        wanted = precision_of(precision)
        if wanted.name not in ("float32", "bfloat16"):
            raise UsageError(f"a tower has no precision {precision!r}", "choose float32 or bfloat16")
        place, dtype = usable_device(device), wanted.dtype
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        moved = None if self.projection is None else self.projection.to(place)
        network = self.network.to(place, dtype)
        return Tower(self.family, network, moved, self.stated, self.origin, self.settings)

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor, wanted: Sequence[Choice]) -> dict[str, torch.Tensor]:
        """float32 tensors by name of inputs ``[B, 3, h, w]`` (float32): grids ``[B, N, D]``, vectors ``[B, D or P]``.

        Position embeddings are interpolated bicubically where the input is of another size than the tower's own, as
        ``interpolate_pos_encoding`` of transformers does. No block behind the last one needed is run.
        """
        network: Any = self.network
        place = next(network.parameters()).device
        state = network.embeddings(pixels.to(place), interpolate_pos_encoding=True)
        if hasattr(network, "pre_layrnorm"):  # the published spelling
            state = network.pre_layrnorm(state)
        depths = {one.blocks for one in wanted}
        kept = {0: state} if 0 in depths else {}
        for depth, block in enumerate(network.encoder.layers[: max(depths)], 1):
            state = block(state, None)
            if depth in depths:
                kept[depth] = state
        return {one.name: self._of(one, kept[one.blocks]).float() for one in wanted}

    def _of(self, wanted: Choice, state: torch.Tensor) -> torch.Tensor:
        network: Any = self.network
        if wanted.name == "post_layernorm":
            return torch.as_tensor(network.post_layernorm(state))
        if wanted.grid:
            return state
        pooled: torch.Tensor = (
            network.post_layernorm(state[:, 0]) if self.family.cls else network.head(network.post_layernorm(state))
        )
        if wanted.name == "projected" and self.projection is not None:
            pooled = pooled.float() @ self.projection.T
        return pooled
