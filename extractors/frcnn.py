"""The bottom-up-attention Faster R-CNN as an extractor: 36 (or 10 to 100, or given) boxes with 2048-d features."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from featx.device import usable_device
from featx.errors import PictureRefused, UsageError
from featx.extractor import Extractor, Picture, read_options
from featx.record import Record
from featx.schema import BoxKind, Schema, region_schema
from featx.store.rule import superset_fields
from featx_extractors.copies import pinned
from featx_extractors.detector import Detector, Regions
from featx_extractors.deviation import deviation
from featx_extractors.given import GivenBoxes, load_given
from featx_extractors.launching import Launch
from featx_extractors.precision import FLOAT32
from featx_extractors.preprocess import Frame, frame_for, to_input
from featx_extractors.profiles import Profile, get_profile
from featx_extractors.records import record_of
from featx_extractors.stream import StreamDetector
from featx_extractors.weights import load_weights


@dataclass(frozen=True)
class FRCNNConfig:
    """What a person chooses.

    weights: any location ``load_weights`` knows, or ``seeded`` / ``seeded-tiny`` for an untrained network. profile: a
    name or a mapping; None is the one the weights were published with. boxes: ``36``, ``10..100``, None: the profile's;
    score_threshold alike. superset: keep what any choice of up to so many boxes needs, made when the store is read.
    precision: ``float32``, ``tf32``, ``bf16`` or ``fp16``, see ``precision``. launch: of a GPU's kernels, see
    ``launching``.
    """

    weights: str | None = None
    profile: str | Mapping[str, Any] | None = None
    boxes: str | int | None = None
    score_threshold: str | float | None = None
    superset: str | int | None = None
    dtype: str = "float16"
    device: str = "cpu"
    precision: str = "float32"
    launch: Launch = "eager"
    given_boxes: str | None = None
    boxes_only: bool = False
    expect_sha256: str | None = None

    def resolved_profile(self, published: str) -> Profile:
        """The profile with boxes, score threshold and superset applied; ``published`` is that of the weights."""
        profile = get_profile(published if self.profile is None else self.profile)
        if self.boxes is not None:
            profile = profile.with_boxes(self.boxes)
        if self.score_threshold is not None:
            profile = profile.with_score_threshold(self.score_threshold)
        if self.superset is not None:
            profile = profile.with_superset(self.superset)
        if profile.superset and self.given_boxes:
            raise UsageError(
                "a superset of given boxes is asked for: all of them are kept, so there is nothing to choose later",
                "leave --superset or --given-boxes out",
            )
        return profile


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture ready for the network: input ``[3, H, W]`` float32, its frame, and given boxes ``[n, 4]`` or None."""

    key: str
    pixels: torch.Tensor
    frame: Frame
    given: torch.Tensor | None = None


class FRCNN(Extractor):
    """The extractor. Loading the weights is the only slow part of construction."""

    name = "frcnn"

    def __init__(self, config: FRCNNConfig | None = None, **changes: Any) -> None:
        self.config = config or FRCNNConfig(**changes)
        if self.config.weights is None:
            raise UsageError(
                "no weights were given",
                "give --weights FILE (`featx weights inspect` reads them); --weights seeded runs an untrained network",
            )
        self.config.resolved_profile("caffe-36")  # a mistake in it should not wait for the weights
        self.weights = load_weights(self.config.weights, expect_sha256=self.config.expect_sha256)
        self.profile = self.config.resolved_profile(self.weights.header.profile)
        self.given: GivenBoxes | None = load_given(self.config.given_boxes) if self.config.given_boxes else None
        self.detector = self._detector(self.config.precision, self.config.launch)
        self.schema = self._schema()
        self._measured: dict[str, Any] | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> FRCNN:
        return cls(read_options(FRCNNConfig, options))

    def _detector(self, precision: str, launch: Launch) -> Detector:
        device = self.config.device
        if usable_device(device).type == "cuda":
            return StreamDetector(self.weights, self.profile, device=device, precision=precision, launch=launch)
        if launch != "eager":
            raise UsageError(f"launch {launch!r} is asked for on {device}", "it is for --device cuda: leave it out")
        return Detector(self.weights, self.profile, device=device, precision=precision)

    def _schema(self) -> Schema:
        kind: BoxKind = "given" if self.given else self.profile.boxes
        dim = 0 if self.config.boxes_only else self.detector.network.dim
        schema = region_schema(
            dim,
            self.config.dtype,
            boxes=kind,
            pooled="given" if self.given else "proposal",
            rows=None if self.given else self.profile.rows,
            attributes=self.detector.network.predictor.has_attributes,
            other="regressed_boxes" if kind != "regressed" else "proposal_boxes",
        )
        more = superset_fields(self.profile.select) if self.profile.superset else ()
        return replace(schema, fields=(*schema.fields, *more))

    @property
    def labels(self) -> Mapping[str, Sequence[str] | None]:
        return {"objects": self.weights.header.objects, "attributes": self.weights.header.attributes}

    def provenance(self) -> dict[str, Any]:
        header = self.weights.header
        return {
            "extractor": self.name,
            "profile": {"hash": self.profile.fingerprint, **self.profile.switches()},
            "weights": {
                "sha256": header.sha256,
                "source": header.source,
                "trained": header.trained,
                "anchors": header.anchors,
                "delta_weights": list(self.detector.delta_weights),
            },
            "precision": self.detector.precision.name,
            "given_boxes": None if self.given is None else self.given.fingerprint,
        }

    def notes(self) -> list[str]:
        notes = []
        if not self.weights.header.trained:
            notes.append("these weights are seeded, not trained: boxes and names mean nothing (give --weights)")
        elif self.weights.header.legacy_plus_one != self.profile.plus_one:
            notes.append(
                f"the weights have {self.weights.header.anchors} anchors but the profile {self.profile.name!r} is of "
                f"the other family; their own profile is {self.weights.header.profile!r}"
            )
        return notes

    def prepare(self, picture: Picture) -> Prepared:
        frame = frame_for(*picture.size, self.profile)
        given = None
        if self.given is not None:
            if picture.key not in self.given:
                raise PictureRefused(
                    "no-given-boxes", f"{self.config.given_boxes} has no boxes for {picture.key!r}", "add them there"
                )
            given = torch.from_numpy(self.given[picture.key])
        pixels = to_input(picture.pixels, frame, self.profile)
        return Prepared(picture.key, pinned(pixels, self.detector.device), frame, given)

    def group(self, prepared: Prepared) -> Hashable:
        """Only inputs of exactly the same size share a batch, so nothing is ever padded."""
        return prepared.frame.size

    def __call__(self, batch: Sequence[Prepared]) -> list[Record]:
        return self.begin(batch)()

    def begin(self, batch: Sequence[Prepared]) -> Callable[[], list[Record]]:
        frames = [p.frame for p in batch]
        given = None if self.given is None else [p.given for p in batch if p.given is not None]
        if isinstance(self.detector, StreamDetector):
            waiting = self.detector.begin([p.pixels for p in batch], frames, given)
            return lambda: self._records(waiting.result(), frames)
        inputs = torch.stack([p.pixels for p in batch])
        found = self.detector.detect(inputs, frames) if given is None else self.detector.describe(inputs, frames, given)
        records = self._records(found, frames)
        return lambda: records

    def _records(self, found: Sequence[Regions], frames: Sequence[Frame]) -> list[Record]:
        return [self._record(regions, frame) for regions, frame in zip(found, frames, strict=True)]

    def measured(self, first: Callable[[], Prepared]) -> dict[str, Any]:
        """How far the precision is from float32 on a picture; nothing for float32. Measured once in a process."""
        if self.detector.precision == FLOAT32:
            return {}
        if self._measured is None:
            exact, picture = self._detector("float32", "eager"), first()
            found = deviation(self.detector, exact, picture.pixels, picture.frame, picture.given)
            where = self.detector.device
            name = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
            self._measured = {"precision": self.detector.precision.name, "device": name, **found}
        return {"deviation": self._measured}

    def _record(self, regions: Regions, frame: Frame) -> Record:
        arrays = {
            "features": regions.features[:, :0] if self.config.boxes_only else regions.features,
            "boxes": regions.regressed if self.schema.boxes == "regressed" else regions.proposals,
            "object_ids": regions.object_ids,
            "object_confs": regions.object_confs,
            "attribute_ids": regions.attribute_ids,
            "attribute_confs": regions.attribute_confs,
            "regressed_boxes": regions.regressed,
            "proposal_boxes": regions.proposals,
            **regions.marks,
        }
        return record_of(arrays, self.schema, frame.original, len(regions.proposals))
