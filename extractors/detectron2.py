"""detectron2's own Faster (or Mask) R-CNN as an extractor: its code, configuration and weights, our records.

Any GeneralizedRCNN with the C4 head. The feature of a region is what detectron2 itself classifies: the mean over res5
of the pooled *proposal*; the box is the detection regressed from it. detectron2 is looked for when an extractor is
built, not when this module is imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featx.errors import MissingDependency, PictureRefused, WeightsError
from featx.extractor import Extractor, Picture, read_options
from featx.record import Record
from featx.registry import INSTALL_HINTS
from featx.schema import region_schema
from featx_extractors.detector import ROI_CHUNK
from featx_extractors.detectron2_model import ZOO, Detectron2Config, limits, load_into, read_config
from featx_extractors.records import record_of


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture ready for the network.

    pixels: uint8 ``[3, H, W]``, resized, channels in the configured order; original: (height, width) before resizing.
    """

    pixels: torch.Tensor
    original: tuple[int, int]


class Detectron2(Extractor):
    """The extractor. Raises MissingDependency when it is built and detectron2 cannot be imported."""

    name = "detectron2"

    def __init__(self, config: Detectron2Config | None = None, **changes: Any) -> None:
        self.check_available()
        from detectron2.data.transforms import ResizeShortestEdge
        from detectron2.modeling import build_model

        self.config = config or Detectron2Config(**changes)
        self.cfg = read_config(self.config)
        self.cfg_sha256 = hashlib.sha256(self.cfg.dump().encode()).hexdigest()
        self.cfg.MODEL.DEVICE = self.config.device
        self.model: Any = build_model(self.cfg).eval()
        self.weights = load_into(self.model, self.config.weights, self.config.expect_sha256)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        side = self.cfg.INPUT.MIN_SIZE_TEST
        self.resize: Any = ResizeShortestEdge((side, side), self.cfg.INPUT.MAX_SIZE_TEST)
        self.limits = limits(self.cfg, self.config.boxes)
        self.schema = region_schema(
            self.model.roi_heads.box_predictor.cls_score.in_features, self.config.dtype,
            boxes="regressed", rows=self.limits.rows, attributes=False, other="proposal_boxes",
        )  # fmt: skip

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Detectron2:
        return cls(read_options(Detectron2Config, options))

    @staticmethod
    def check_available() -> None:
        """Raise MissingDependency, with the line that mends it, unless detectron2 can be imported."""
        try:
            import detectron2.data
            import detectron2.modeling  # noqa: F401
        except Exception as error:  # absent, without one of its own dependencies, or built for another torch
            missing = (getattr(error, "name", None) or "detectron2").partition(".")[0]
            hint = INSTALL_HINTS.get(missing, f"pip install {missing}")
            raise MissingDependency(f"the package detectron2 cannot be imported: {error}", hint) from None

    @property
    def labels(self) -> Mapping[str, Sequence[str] | None]:
        """Class names of the data set that the configuration tests on, where detectron2 knows them."""
        from detectron2.data import MetadataCatalog

        known = [name for name in self.cfg.DATASETS.TEST if name in MetadataCatalog.list()]
        names = getattr(MetadataCatalog.get(known[0]), "thing_classes", ()) if known else ()
        return {"objects": list(names) if len(names) == self.cfg.MODEL.ROI_HEADS.NUM_CLASSES else None}

    def provenance(self) -> dict[str, Any]:
        import detectron2

        config = {"source": Path(self.config.d2_config.removeprefix(ZOO)).name, "sha256": self.cfg_sha256}
        version = detectron2.__version__
        return {"extractor": self.name, "detectron2": version, "config": config, "weights": self.weights}

    def notes(self) -> list[str]:
        least, score = self.limits.least, self.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST
        padded = " and is then padded" if self.limits.rows else ""
        note = f"only scores above {score:g} count: a picture may have fewer than {least} boxes{padded}"
        return [note] if least > 1 else []

    def prepare(self, picture: Picture) -> Prepared:
        pixels = picture.pixels if self.cfg.INPUT.FORMAT == "RGB" else picture.pixels[:, :, ::-1]
        try:
            resized = self.resize.get_transform(pixels).apply_image(pixels)
        except ValueError as error:  # Pillow makes no picture without pixels
            raise PictureRefused("too-thin", f"(height, width) {picture.size} resized: {error}", "crop it") from None
        return Prepared(torch.from_numpy(resized.transpose(2, 0, 1).copy()), picture.size)

    def group(self, prepared: Prepared) -> Hashable:
        """Only inputs of exactly the same size share a batch, so none is padded to the size of another."""
        return prepared.pixels.shape

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Prepared]) -> list[Record]:
        images = self.model.preprocess_image([{"image": p.pixels} for p in batch])
        maps = self.model.backbone(images.tensor)
        proposals, _ = self.model.proposal_generator(images, maps, None)
        singles = maps[self.model.roi_heads.in_features[0]].split(1)
        return [self._record(*each) for each in zip(singles, proposals, (p.original for p in batch), strict=True)]

    def _record(self, res4: torch.Tensor, proposals: Any, original: tuple[int, int]) -> Record:
        """Res5ROIHeads.forward and GeneralizedRCNN._postprocess for one picture, with the features kept."""
        from detectron2.modeling.postprocessing import detector_postprocess

        predictor, boxes = self.model.roi_heads.box_predictor, proposals.proposal_boxes
        features = self._features(res4, boxes)
        predictions = predictor(features)
        if not all(bool(values.isfinite().all()) for values in predictions):
            # fast_rcnn_inference drops such rows and numbers the rest anew: features would go to other boxes.
            raise WeightsError("the network returns NaN or infinity", "check the weights and their configuration")
        (found,), (found.rows,) = predictor.inference(predictions, [proposals])
        found = detector_postprocess(found, *original)
        scale = torch.tensor([a / b for a, b in zip(original, proposals.image_size, strict=True)]).flip(0).repeat(2)
        arrays = {
            "features": features[found.rows],
            "boxes": found.pred_boxes.tensor,
            "object_ids": found.pred_classes,
            "object_confs": found.scores,
            "proposal_boxes": boxes.tensor[found.rows] * scale.to(features),
        }
        on_cpu = {name: values.cpu() for name, values in arrays.items()}
        return record_of(on_cpu, self.schema, original, len(found))

    def _features(self, res4: torch.Tensor, boxes: Any) -> torch.Tensor:
        """``[R, D]``: Res5ROIHeads' own transform, a few regions at a time, so that memory does not grow with them."""
        transform = self.model.roi_heads._shared_roi_transform
        starts = range(0, max(len(boxes), 1), ROI_CHUNK)
        return torch.cat([transform([res4], [boxes[at : at + ROI_CHUNK]]).mean((2, 3)) for at in starts])
