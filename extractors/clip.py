"""Vision towers of the CLIP family as an extractor: a grid of tokens, or one vector a picture."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from featx import settings
from featx.errors import UsageError
from featx.extractor import Extractor, Picture
from featx.record import Record
from featx.schema import Array, Field, Schema
from featx.settings import Count
from featx.store.rule import fingerprint
from featx_extractors.precision import precision_of
from featx_extractors.records import record_of
from featx_extractors.towers.choice import Choice
from featx_extractors.towers.geometry import Frame, turned
from featx_extractors.towers.loading import load_tower
from featx_extractors.towers.pixels import to_input
from featx_extractors.towers.resizing import Resample, Resizing, chosen
from featx_extractors.towers.texts import TextTower, load_texts
from featx_extractors.towers.tower import Tower

Dtype = Literal["float16", "float32", "bfloat16", "int8"]
QUARTERS = 4
_SELECTED = ("tensor", "cls", "also", "rotations")  # of a profile; the others are switches of ``Resizing``


@dataclass(frozen=True)
class CLIPOptions:
    """What a person chooses.

    weights: folder, file or hub id of a checkpoint with a vision tower, or ``seeded-clip-tiny``. tensor: the features,
    see ``towers.choice``. cls: whether a grid begins with the class token (None: if the tower has one). also: further
    tensors, each a field of its name. resize: ``checkpoint``, ``squash`` or ``aspect``; size, area, resample: see
    ``towers.resizing``. rotations: features ``[4, D]`` of the picture turned by 0, 90, 180 and 270 degrees.
    profile: all of these at once, as they stand in the provenance of a store (``profile``).
    """

    weights: str | None = None
    tensor: str = "last_hidden_state"
    cls: bool | None = None
    also: Sequence[str] = ()
    resize: Literal["checkpoint", "squash", "aspect"] = "checkpoint"
    size: Count | None = None
    area: Count | None = None
    resample: Resample = "pil"
    rotations: bool = False
    profile: Mapping[str, Any] | None = None
    dtype: Dtype = "float16"
    device: str = "cpu"
    precision: str = "float32"
    expect_sha256: str | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture ready for the tower: inputs ``[1 or 4, 3, h, w]`` float32, and where they lie in the original."""

    key: str
    inputs: torch.Tensor
    frames: tuple[Frame, ...]


class CLIP(Extractor):
    """The extractor. Loading the weights is the only slow part of construction."""

    name = "clip"

    def __init__(self, options: CLIPOptions | None = None, **changes: Any) -> None:
        self.options = options or CLIPOptions(**changes)
        if self.options.weights is None:
            raise UsageError(
                "no weights were given",
                "give --weights FOLDER of a CLIP; --weights seeded-clip-tiny runs an untrained network",
            )
        tower = load_tower(self.options.weights)
        tower.origin.check(self.options.expect_sha256)
        self.how = self._how(tower)
        self.tower: Tower = tower.on(self.options.device, self.options.precision)
        self.main, *self.others = self._choices()
        self.cls = self._cls()
        self.schema = self._schema()
        self._text_tower: TextTower | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> CLIP:
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(stated := given.get("profile"), Mapping):
            given = {**{name: stated[name] for name in _SELECTED if name in stated}, **given}
        return cls(settings.read(CLIPOptions, "", given))

    def _how(self, tower: Tower) -> Resizing:
        """The preprocessing asked for. Raises UsageError."""
        asked = self.options
        if asked.profile is not None:
            if (asked.resize, asked.size, asked.area, asked.resample) != ("checkpoint", None, None, "pil"):
                raise UsageError("a profile is given, and resize, size, area or resample", "give one of the two")
            how = Resizing.of(asked.profile)
        else:
            how = chosen(tower.stated, tower.native, asked.resize, asked.size, asked.area, asked.resample)
        how.check(tower.patch, asked.size is not None, asked.area is not None)
        if asked.rotations and (how.fixed is None or how.fixed[0] != how.fixed[1]):
            raise UsageError("rotations need inputs that are squares", "use resize: checkpoint or squash")
        return how

    def _choices(self) -> list[Choice]:
        names = [self.options.tensor, *self.options.also]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"the tensor {twice.pop()!r} is asked for twice", "name every tensor once")
        wanted = [self.tower.choice(name) for name in names]
        if not wanted[0].grid and (grid := next((one.name for one in wanted if one.grid), None)):
            raise UsageError(
                f"also asks for the grid {grid!r}, and the features are one vector", f"exchange tensor and also: {grid}"
            )
        if self.options.rotations and wanted[0].grid:
            raise UsageError(
                f"rotations of the grid {wanted[0].name!r} are asked for", "they are for tensor: projected, or pooled"
            )
        return wanted

    def _cls(self) -> bool:
        if self.options.cls and not (self.tower.family.cls and self.main.grid):
            raise UsageError(
                f"cls is asked for, and {self.options.tensor} of {self.options.weights} has no class token",
                "leave cls out; pooled is the vector of the whole picture",
            )
        return self.main.grid and self.tower.family.cls and self.options.cls is not False

    def _schema(self) -> Schema:
        features = Field("features", self.options.dtype, (self.tower.width(self.main),))
        fields = [features, Field("boxes", "float32", (4,))]
        coarse = "float32" if self.options.dtype == "int8" else self.options.dtype  # int8 is for rows of regions
        for one in self.others:
            rows = one.grid or self.options.rotations
            kind = self.options.dtype if rows else coarse
            fields.append(Field(one.name, kind, (self.tower.width(one),), "region" if rows else "picture"))
        return Schema(tuple(fields), "grid", "grid", self._rows())

    def _rows(self) -> int | None:
        """N, if it is the same for every picture."""
        if not self.main.grid:
            return QUARTERS if self.options.rotations else 1
        if self.how.fixed is None:
            return None
        height, width = self.how.fixed
        return (height // self.tower.patch) * (width // self.tower.patch) + self.cls

    def switches(self) -> dict[str, Any]:
        """All that decides the features besides the weights: equal switches, equal features."""
        own = (self.tower.native, self.tower.native)
        return {
            "name": f"{self.name} {self.main.tensor}",
            "tensor": self.main.tensor,
            "cls": self.cls,
            "also": [one.name for one in self.others],
            **self.how.switches(),
            "positions": "table" if self.how.fixed == own else "bicubic",
            "rotations": self.options.rotations,
        }

    def provenance(self) -> dict[str, Any]:
        origin, switches = self.tower.origin, self.switches()
        return {
            "extractor": self.name,
            "profile": {"hash": fingerprint(switches), **switches},
            "weights": {
                "sha256": origin.sha256,
                "source": origin.source,
                "trained": origin.trained,
                "family": self.tower.family.name,
                "projection_sha256": origin.projection,
            },
            "precision": precision_of(self.options.precision).name,
        }

    def notes(self) -> list[str]:
        if not self.tower.origin.trained:
            return ["these weights are seeded, not trained: the features mean nothing (give --weights)"]
        return list(self.tower.origin.notes)

    def prepare(self, picture: Picture) -> Prepared:
        turns = range(QUARTERS if self.options.rotations else 1)
        pictures = [np.ascontiguousarray(np.rot90(picture.pixels, turn)) for turn in turns]
        frames = tuple(self.how.frame(pixels.shape[0], pixels.shape[1], self.tower.patch) for pixels in pictures)
        inputs = [to_input(pixels, frame, self.how) for pixels, frame in zip(pictures, frames, strict=True)]
        return Prepared(picture.key, torch.stack(inputs), frames)

    def group(self, prepared: Prepared) -> Hashable:
        """Only inputs of exactly the same size share a batch, so nothing is ever padded."""
        return tuple(prepared.inputs.shape)

    def __call__(self, batch: Sequence[Prepared]) -> list[Record]:
        found = self.tower(torch.cat([one.inputs for one in batch]), [self.main, *self.others])
        each = len(batch[0].inputs)
        parts = {name: tensor.cpu().split(each) for name, tensor in found.items()}
        return [self._record({name: of[i] for name, of in parts.items()}, one) for i, one in enumerate(batch)]

    def texts(self, texts: Sequence[str]) -> Array:
        """Projected embeddings ``[B, P]`` float32 of texts by the text tower of the same checkpoint, loaded when first
        asked for. Raises WeightsError when there is none."""
        return self._texts().embed(texts).numpy()

    def is_cut(self, text: str) -> bool:
        return self._texts().is_cut(text)

    def _texts(self) -> TextTower:
        if self._text_tower is None:
            self._text_tower = load_texts(str(self.options.weights), self.options.device)
        return self._text_tower

    def _record(self, found: Mapping[str, torch.Tensor], prepared: Prepared) -> Record:
        size = prepared.frames[0].original
        arrays: dict[str, torch.Tensor | None] = {one.name: self._rows_of(one, found[one.name]) for one in self.others}
        arrays["features"] = features = self._rows_of(self.main, found[self.main.name])
        boxes = prepared.frames[0].boxes(self.cls) if self.main.grid else _views(prepared.frames, size)
        arrays["boxes"] = torch.from_numpy(boxes)
        return record_of(arrays, self.schema, size, len(features))

    def _rows_of(self, one: Choice, values: torch.Tensor) -> torch.Tensor:
        """``[N, D]`` of a grid, ``[1 or 4, D]`` of vectors that are rows, ``[D]`` of one that is the picture's."""
        if one.grid:
            return values[0, 1:] if self.tower.family.cls and not self.cls else values[0]
        return values[0] if one is not self.main and not self.options.rotations else values


def _views(frames: Sequence[Frame], size: tuple[int, int]) -> Any:
    return np.concatenate([turned(frame.view(), turn, size) for turn, frame in enumerate(frames)])
